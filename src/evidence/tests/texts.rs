//! The file: one text for each bundle.

use super::*;

/// Another way to write a file, with a digest that fits.
#[track_caller]
fn rewritten(file: &str, from: &str, to: &str) {
    assert!(file.contains(from), "{from:?} is not in {file}");
    let changed = reseal(file.replacen(from, to, 1).as_bytes());
    let judgement = check(&changed, &[]);
    assert!(judgement.starts_with("tampered"), "{from:?} as {to:?}: {judgement}");
}

#[test]
fn what_is_read_is_written_the_same() {
    for bundle in all() {
        let file = bundle.encode();
        assert_eq!(Bundle::decode(file.as_bytes()).as_ref(), Ok(&bundle));
        assert!(file.ends_with("\"}\n") && file.lines().count() == 1);
        assert_eq!(reseal(file.as_bytes()), file.as_bytes(), "the digest is that of the rest");
    }
    let later = Bundle { made_at: "2026-11-21T10:00:00.75Z".parse().unwrap(), ..divergence() };
    assert_eq!(later.encode(), divergence().encode(), "times are whole seconds");
}

/// The example of docs/PROTOCOL.md: files that were handed out stay readable.
#[test]
fn the_recorded_file_is_still_what_is_written() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/evidence-fork.json");
    let recorded = std::fs::read_to_string(path).unwrap();
    assert_eq!(fork(5, 5).encode(), recorded);
    assert_eq!(word(recorded.as_bytes()), "proven");
}

#[test]
fn members_stand_in_one_order_under_these_names() {
    let file: serde_json::Value = serde_json::from_str(&divergence().encode()).unwrap();
    let names = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(names(&file), "kind made_at spec parties comparison digest");
    assert_eq!(names(&file["parties"][0]), "name vkey source head number entry inclusion_proof");
    let file: serde_json::Value = serde_json::from_str(&fork(5, 9).encode()).unwrap();
    assert_eq!(names(&file), "kind made_at parties tiles digest");
    assert_eq!(names(&file["parties"][0]), "name vkey source head");
    assert_eq!(
        (names(&file["tiles"][0]).as_str(), &file["tiles"][0]["path"]),
        ("path data", &"tile/8/0/000.p/9".into())
    );
}

#[test]
fn there_is_no_second_way_to_write_it() {
    let file = divergence().encode();
    for (from, to) in [
        ("{\"kind\"", "{ \"kind\""),
        ("{\"kind\"", " {\"kind\""),
        (",\"spec\"", "\n,\"spec\""),
        ("\"kind\":\"divergence\",", "\"kind\":\"divergence\",\"kind\":\"divergence\","),
        ("\"kind\":\"divergence\",", "\"kind\":\"divergence\",\"extra\":1,"),
        ("\"kind\":\"divergence\",", ""),
        ("divergence", "diver\\u0067ence"),
        ("divergence", "Divergence"),
        ("10:00:00Z\",\"spec", "10:00:00.0Z\",\"spec"),
        ("10:00:00Z\",\"spec", "10:00:00+00:00\",\"spec"),
        ("10:00:00Z\",\"spec", "25:00:00Z\",\"spec"),
        ("\"name\":\"a.example\"", "\"name\":\"\""),
        ("\"name\":\"a.example\"", "\"name\":\"a\\u001b[2J\""),
        ("\"number\":6", "\"number\":6.0"),
        ("\"number\":6", "\"number\":-6"),
        ("\"number\":6", "\"number\":null"),
        ("\"number\":6,", ""),
        ("\"first_difference\":70", "\"first_difference\":7e1"),
        ("\"first_difference\":70", "\"first_difference\":-70"),
        ("\"first_difference\":70,", ""),
        ("\"first_difference\":70,", "\"first_difference\":70,\"more\":1,"),
        ("{\"class\":\"code\",", "{\"class\":\"code\",\"class\":\"code\","),
        ("{\"class\":\"code\",", "{\"class\":\"other\","),
        (",\"format\":\"elf\"", ",\"format\":null"),
        ("\"comparison\":", "\"tiles\":[],\"comparison\":"),
        ("=\"]}", "\"]}"),
        ("example.com/m@v1.0.0/cmd/x/linux-amd64-go1.27.1/\",\"parties", "example.com/m@v1.0.0/cmd/x\",\"parties"),
    ] {
        rewritten(&file, from, to);
    }
    let whole = format!("\"comparison\":{}", comparison([1, 2]).to_json());
    rewritten(&file, &whole, "\"comparison\":null");
    rewritten(&file, &whole, "\"comparison\":{}");
    let kind_last = file.replacen("\"kind\":\"divergence\",", "", 1).replacen(
        ",\"digest\"",
        ",\"kind\":\"divergence\",\"digest\"",
        1,
    );
    assert!(check(&reseal(kind_last.as_bytes()), &[]).contains("not written as"), "another order");
    let pretty = serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(&file).unwrap()).unwrap();
    assert_eq!(word(pretty.as_bytes()), "tampered");
    let fork = fork(5, 9).encode();
    for (from, to) in [
        ("tile/8/0/000.p/9", "tile/8/0/000.p/09"),
        ("tile/8/0/000.p/9", "tile/8/0/0.p/9"),
        ("tile/8/0/000.p/9", "tile/8/0/000.p/8"),
        ("tile/8/0/000.p/9", "tile/8/1/000.p/9"),
        ("tile/8/0/000.p/9", "../8/0/000.p/9"),
        ("\"}],\"digest\"", "\\n\"}],\"digest\""),
        ("\"}],\"digest\"", "=\"}],\"digest\""),
    ] {
        rewritten(&fork, from, to);
    }
}

#[test]
fn unused_bits_of_base64_are_refused() {
    let file = divergence().encode();
    // 32 bytes leave two bits unused in the last character before the padding.
    let proof = file.find("\"inclusion_proof\":[\"").unwrap() + "\"inclusion_proof\":[\"".len();
    let last = file[proof..].find('=').unwrap() + proof - 1;
    let mut changed = file.clone().into_bytes();
    changed[last] += 1;
    assert!(check(&reseal(&changed), &[]).contains("base64"), "{}", check(&reseal(&changed), &[]));
}

#[test]
fn the_digest_is_told_apart_from_the_rest() {
    let file = fork(5, 5).encode();
    let judgement = check(file.replacen("\"kind\"", "\"kinds\"", 1).as_bytes(), &[]);
    assert!(judgement.contains("digest"), "{judgement}");
    let at = file.len() - 5;
    let flipped = format!("{}{}{}", &file[..at], if &file[at..=at] == "0" { "1" } else { "0" }, &file[at + 1..]);
    assert!(check(flipped.as_bytes(), &[]).contains("digest"));
    let upper = format!("{}{}", &file[..file.len() - 67], file[file.len() - 67..].to_uppercase());
    assert!(check(upper.as_bytes(), &[]).contains("digest"));
    for other in ["{}", "[]", "null", "{\"digest\":\"\"}\n", "\"é\""] {
        assert!(check(other.as_bytes(), &[]).starts_with("tampered"), "{other}");
    }
    for other in ["", "x", "{", "{}{}", "\u{feff}{}"] {
        assert!(check(other.as_bytes(), &[]).starts_with("unreadable"), "{other}");
    }
}

#[test]
fn what_is_too_much_is_not_read() {
    let long = format!("\"{}\"", "a".repeat(FILE_LIMIT_BYTES));
    assert!(check(long.as_bytes(), &[]).contains("longer"), "too long");
    assert!(check(&long.as_bytes()[..FILE_LIMIT_BYTES], &[]).contains("not JSON"));
    let values = format!("[{}1]", "1,".repeat(300_000));
    assert!(check(values.as_bytes(), &[]).contains("values"));
    let deep = "[".repeat(100_000);
    assert!(check(deep.as_bytes(), &[]).starts_with("unreadable"));
    let whole: serde_json::Value = vec![serde_json::Value::from(1); 300_000].into();
    let error = Bundle::mirror_mismatch(now(), spec(), mirror().parties[0].clone(), whole).unwrap_err();
    assert!(format!("{error:#}").contains("values"), "and never made: {error:#}");
}

#[test]
fn names_have_one_spelling() {
    for kind in Kind::ALL {
        assert_eq!(kind.to_string().parse(), Ok(kind));
    }
    for source in [Source::Claims, Source::Log] {
        assert_eq!(source.to_string().parse(), Ok(source));
    }
    for text in ["", "Fork", "bad_root", "self"] {
        assert!(text.parse::<Kind>().is_err() && text.parse::<Source>().is_err(), "{text}");
    }
}
