//! Properties: every value reads back from its own text, and no bytes make a parser panic.

use proptest::prelude::*;

use super::*;

fn module() -> impl Strategy<Value = ModulePath> {
    let element = "[a-zA-Z0-9_][a-zA-Z0-9_.~-]{0,8}[a-zA-Z]";
    let path = ("[a-z0-9]{1,8}\\.[a-z]{2,4}", prop::collection::vec(element, 0..4), prop::option::of(2..40u32));
    path.prop_filter_map("not a module path", |(host, elements, major)| {
        let mut path = host;
        for element in elements {
            path = path + "/" + &element;
        }
        if let Some(major) = major {
            path = format!("{path}/v{major}");
        }
        path.parse().ok()
    })
}

fn version() -> impl Strategy<Value = Version> {
    let number = || prop_oneof![Just("0".to_owned()), "[1-9][0-9]{0,25}"];
    let rest = prop_oneof![
        Just(String::new()),
        Just("+incompatible".to_owned()),
        "-(rc|beta)\\.?[1-9]",
        "-0\\.20[0-9]{12}-[0-9a-f]{12}",
        "(-[a-zA-Z0-9-]{1,5}(\\.[a-zA-Z][a-zA-Z0-9-]{0,5}){0,3})?",
    ];
    (number(), number(), number(), rest)
        .prop_filter_map("not canonical", |(a, b, c, rest)| format!("v{a}.{b}.{c}{rest}").parse().ok())
}

fn dir() -> impl Strategy<Value = Dir> {
    prop::collection::vec("[a-zA-Z0-9_.+-][a-zA-Z0-9_.~+-]{0,8}[a-zA-Z]", 0..4)
        .prop_filter_map("not a directory", |elements| Dir::new(&elements.join("/")).ok())
}

fn target() -> impl Strategy<Value = Target> {
    prop::sample::select(Target::all().collect::<Vec<_>>())
}

fn goversion() -> impl Strategy<Value = GoVersion> {
    let rest = prop_oneof![
        Just(String::new()),
        (0..100u32).prop_map(|n| format!(".{n}")),
        (0..100u32).prop_map(|n| format!("rc{n}")),
        (0..100u32).prop_map(|n| format!("beta{n}")),
    ];
    (0..100u32, rest).prop_map(|(minor, rest)| format!("go1.{minor}{rest}").parse().expect("a Go version"))
}

fn variant() -> impl Strategy<Value = Variant> {
    prop::sample::select(vec![Variant::Plain, Variant::Stripped])
}

fn sum() -> impl Strategy<Value = Sum> {
    any::<[u8; 20]>().prop_map(Sum::from_bytes)
}

fn spec() -> impl Strategy<Value = Spec> {
    (module(), version(), dir(), target(), goversion(), variant()).prop_filter_map(
        "parts that do not fit",
        |(module, version, dir, target, goversion, variant)| {
            // Make the major versions fit instead of throwing nearly all away.
            let major = match module.split_major().1.strip_prefix("/v") {
                Some(major) => major.to_owned(),
                None if version.is_incompatible() => version.major()[1..].to_owned(),
                None => "1".to_owned(),
            };
            let (_, rest) = version.as_str().split_once('.').expect("three numbers");
            let version = format!("v{major}.{rest}").parse().expect("still a version");
            Spec::new(module, version, dir, target, goversion, variant).ok()
        },
    )
}

fn finding() -> impl Strategy<Value = Finding> {
    let built = (1..i64::MAX.unsigned_abs(), sum()).prop_map(|(size, sum)| Finding::Built { size, sum });
    let detail = "[^\\p{Cc}]{0,200}";
    let cannot = (prop::sample::select(Class::ALL.to_vec()), detail)
        .prop_map(|(class, detail)| Finding::CannotBuild { class, detail });
    prop_oneof![built, cannot]
}

fn claim() -> impl Strategy<Value = Claim> {
    let note = || "[^\\p{Cc}]{0,60}";
    (spec(), finding(), 0..4_000_000_000_i64, note(), note(), note()).prop_map(
        |(spec, finding, at, host, toolchain, sandbox)| {
            let at = jiff::Timestamp::from_second(at).expect("a time");
            Claim { spec, finding, at, host, toolchain, sandbox }
        },
    )
}

/// What a value's text gives when it is read again.
fn again<T: std::str::FromStr<Err = ParseError> + std::fmt::Display>(value: &T) -> Result<T, ParseError> {
    value.to_string().parse()
}

proptest! {
    #[test]
    fn texts_read_back_as_the_same_values(
        module in module(), version in version(), dir in dir(), target in target(),
        goversion in goversion(), variant in variant(), sum in sum(),
    ) {
        prop_assert_eq!(again(&module), Ok(module));
        prop_assert_eq!(again(&version), Ok(version));
        prop_assert_eq!(again(&dir), Ok(dir));
        prop_assert_eq!(again(&target), Ok(target));
        prop_assert_eq!(again(&goversion), Ok(goversion));
        prop_assert_eq!(again(&variant), Ok(variant));
        prop_assert_eq!(again(&sum), Ok(sum));
    }

    #[test]
    fn specs_and_queries_read_back(spec in spec(), latest in 0..6u8) {
        prop_assert_eq!(again(&spec), Ok(spec.clone()));
        let mut query = SpecQuery::from(spec.clone());
        if latest % 2 == 1 {
            query.version = VersionQuery::Latest;
        }
        match latest / 2 {
            0 => {}
            1 => query.goversion = GoVersionQuery::Latest,
            _ => query.goversion = GoVersionQuery::LatestOf(spec.goversion.minor()),
        }
        prop_assert_eq!(again(&query), Ok(query.clone()));
        prop_assert_eq!(query.resolve(spec.version.clone(), spec.goversion), Ok(spec.clone()));

        let Spec { module, version, dir, .. } = spec;
        let page = PackageQuery::Split { module, version: VersionQuery::Exact(version), dir };
        prop_assert_eq!(again(&page), Ok(page.clone()));
        if let Ok(path) = page.module_and_dir().parse::<PackageQuery>() {
            prop_assert!(path.candidates().contains(&page.candidates()[0]));
        }
    }

    #[test]
    fn records_read_back(spec in spec(), size in 1..i64::MAX.unsigned_abs(), sum in sum()) {
        let record = Record { spec, size, sum };
        let text = record.to_text();
        prop_assert_eq!(Record::parse(text.as_bytes()), Ok(record));
    }

    #[test]
    fn claims_read_back(claim in claim()) {
        let text = claim.to_text();
        prop_assert!(text.len() <= MAX_CLAIM_BYTES);
        prop_assert_eq!(Claim::parse(text.as_bytes()), Ok(claim));
    }

    #[test]
    fn order_and_equality_agree(a in version(), b in version(), x in goversion(), y in goversion()) {
        prop_assert_eq!(a == b, a.cmp(&b).is_eq());
        prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
        prop_assert_eq!(x == y, x.cmp(&y).is_eq());
        prop_assert_eq!(x.cmp(&y), y.cmp(&x).reverse());
    }

    #[test]
    fn no_text_makes_a_parser_panic_or_change_it(text in any_text()) {
        fn same<T: std::str::FromStr<Err = ParseError> + std::fmt::Display>(text: &str) -> bool {
            text.parse::<T>().is_ok_and(|value| value.to_string() != text)
        }
        prop_assert!(!same::<ModulePath>(&text));
        prop_assert!(!same::<Version>(&text));
        prop_assert!(!same::<Dir>(&text));
        prop_assert!(!same::<Target>(&text));
        prop_assert!(!same::<GoVersion>(&text));
        prop_assert!(!same::<Variant>(&text));
        prop_assert!(!same::<Sum>(&text));
        prop_assert!(!same::<Spec>(&text));
        prop_assert!(!same::<SpecQuery>(&text));
        prop_assert!(!same::<PackageQuery>(&text));
        let _ = check_import_path(&text);
    }

    #[test]
    fn no_bytes_make_a_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), text in any_text()) {
        for input in [bytes.as_slice(), text.as_bytes()] {
            let _ = Claim::parse(input);
            if let Ok(record) = Record::parse(input) {
                let (text, input) = (record.to_text(), String::from_utf8_lossy(input));
                prop_assert!(text == input || text.trim_end() == input.trim_end_matches('\n'));
            }
        }
    }
}

/// Any text, more often one that is nearly right.
fn any_text() -> impl Strategy<Value = String> {
    let near = (spec(), any::<prop::sample::Index>(), any::<char>(), 0..3u8).prop_map(|(spec, at, c, how)| {
        let mut text = spec.to_string();
        let at = at.index(text.len());
        match how {
            0 => text.insert(at, c),
            1 => drop(text.remove(at)),
            _ => text.replace_range(at..=at, c.encode_utf8(&mut [0; 4])),
        }
        text
    });
    prop_oneof![any::<String>(), near, "[a-z0-9./@!%-]{0,60}", "\\{(\"[a-z]{1,4}\":[0-9\"\\[\\]{},]{0,9}){0,4}\\}\n"]
}
