//! Claims: the bytes that are published, and what is no claim.

use super::*;

const BUILT: &str = "{\"spec\":\"filippo.io/age@v1.2.1/cmd/age/linux-amd64-go1.27.1/\",\"size\":6440211,\
    \"sum\":\"0hNa1JziBftc7esvlBfQY5EJjFxM\",\"at\":\"2026-11-21T09:30:00Z\",\"host\":\"linux/amd64\",\
    \"toolchain\":\"h1:x=\",\"sandbox\":\"bwrap\"}\n";
const CANNOT: &str = "{\"spec\":\"filippo.io/age@v1.2.1/cmd/age/linux-amd64-go1.27.1/\",\
    \"cannot_build\":\"cgo\",\"detail\":\"no \\\"C\\\"\",\"at\":\"2026-11-21T09:30:00Z\",\
    \"host\":\"linux/amd64\",\"toolchain\":\"h1:x=\"}\n";

fn parse(text: &str) -> Result<Claim, ParseError> {
    Claim::parse(text.as_bytes())
}

#[test]
fn claims_come_out_as_they_went_in() {
    for text in [BUILT, CANNOT] {
        assert_eq!(parse(text).expect(text).to_text(), text);
    }
    let claim = parse(CANNOT).expect("a claim");
    let detail = "no \"C\"".to_owned();
    assert_eq!(claim.finding, Finding::CannotBuild { class: Class::Cgo, detail });
}

#[test]
fn what_is_not_known_is_passed_over_and_what_is_not_needed_may_be_missing() {
    let more = BUILT.replace("\"host\"", "\"zebra\":[{\"a\":1,\"a\":2}],\"host\"");
    assert_eq!(parse(&more), parse(BUILT));
    let spaced = BUILT.replace(",\"", " , \"");
    assert_eq!(parse(&spaced), parse(BUILT));
    let bare = CANNOT.replace(",\"host\":\"linux/amd64\",\"toolchain\":\"h1:x=\"", "");
    let bare = bare.replace(",\"detail\":\"no \\\"C\\\"\"", "");
    let claim = parse(&bare).expect(&bare);
    assert_eq!((claim.host.as_str(), claim.toolchain.as_str(), claim.sandbox.as_str()), ("", "", ""));
}

#[test]
fn what_is_no_claim_is_refused() {
    let with = |from: &str, to: &str| {
        let text = BUILT.replace(from, to);
        assert_ne!(text, BUILT, "{from} is in the text");
        text
    };
    for bad in [
        String::new(),
        "\n".to_owned(),
        "{}\n".to_owned(),
        "[]\n".to_owned(),
        "null\n".to_owned(),
        with("\n", ""),
        with("\n", "\n\n"),
        with("\n", " {}\n"),
        with("}\n", ",}\n"),
        with(",\"at\"", ",\n\"at\""),
        with(",\"at\"", "\t,\"at\""),
        with("bwrap", "\u{1}"),
        // members twice, spelt differently or unknown
        with("\"size\"", "\"size\":6440211,\"size\""),
        with("\"size\"", "\"s\\u0069ze\":6440211,\"size\""),
        with("\"size\"", "\"spec\":\"filippo.io/age@v1.2.1/cmd/age/linux-amd64-go1.27.1/\",\"size\""),
        with("\"size\"", "\"x\":1,\"x\":1,\"size\""),
        // both, neither, half
        with("\"at\"", "\"cannot_build\":\"cgo\",\"at\""),
        with("\"size\":6440211,", ""),
        with("\"sum\":\"0hNa1JziBftc7esvlBfQY5EJjFxM\",", ""),
        with("\"size\":6440211,\"sum\":\"0hNa1JziBftc7esvlBfQY5EJjFxM\",", ""),
        CANNOT.replace("\"detail\"", "\"sum\":\"0hNa1JziBftc7esvlBfQY5EJjFxM\",\"detail\""),
        CANNOT.replace("\"detail\"", "\"size\":1,\"detail\""),
        CANNOT.replace("\"cgo\"", "\"bad-luck\""),
        CANNOT.replace("\"cgo\"", "\"Cgo\""),
        CANNOT.replace("\"cgo\"", "null"),
        // kinds and values
        with("6440211", "0"),
        with("6440211", "-1"),
        with("6440211", "1.0"),
        with("6440211", "1e3"),
        with("6440211", "\"6440211\""),
        with("6440211", "9223372036854775808"),
        with("0hNa1", "1hNa1"),
        with("\"bwrap\"", "null"),
        with("\"bwrap\"", "7"),
        with("\"spec\"", "\"Spec\""),
        with("go1.27.1/", "latest/"),
        with("@v1.2.1", "@latest"),
        // times
        with("\"at\":\"2026-11-21T09:30:00Z\",", ""),
        with("2026-11-21T09:30:00Z", "2026-11-21T09:30:00"),
        with("2026-11-21T09:30:00Z", "2026-11-21 09:30:00Z"),
        with("2026-11-21T09:30:00Z", "2026-13-21T09:30:00Z"),
        with("2026-11-21T09:30:00Z", "2026-11-21T09:30:00Z[UTC]"),
        with("2026-11-21T09:30:00Z", "2026-11-21T09:30:00.Z"),
        with("2026-11-21T09:30:00Z", "2026-11-21T09:30Z"),
        with("2026-11-21T09:30:00Z", "1700000000"),
        with("bwrap", &"x".repeat(MAX_CLAIM_BYTES)),
    ] {
        let error = parse(&bad).expect_err(&bad).to_string();
        assert!(!error.contains(char::is_control), "{error:?}");
    }
    assert!(Claim::parse(BUILT.replace("bwrap", "b?rap").replace('?', "\u{0}").as_bytes()).is_err());
    let mut broken = BUILT.as_bytes().to_vec();
    broken[BUILT.len() - 5] = 0xff;
    assert!(Claim::parse(&broken).is_err());
}

#[test]
fn times_are_whole_seconds_in_utc() {
    for at in ["2026-11-21T10:30:00+01:00", "2026-11-21T09:30:00.999Z", "2026-11-21T08:30:00-01:00"] {
        let text = BUILT.replace("2026-11-21T09:30:00Z", at);
        assert_eq!(parse(&text).expect(&text).to_text(), BUILT);
    }
}

#[test]
fn a_long_reason_is_cut_to_fit() {
    let mut claim = parse(CANNOT).expect("a claim");
    for unit in ["x", "ä", "\"", "\\", "\n", "\u{1}\u{7f}", "🦀", "a\"🦀\n"] {
        let detail = unit.repeat(5000);
        claim.finding = Finding::CannotBuild { class: Class::SourceError, detail };
        claim.sandbox = unit.repeat(5000);
        let text = claim.to_text();
        assert!(text.len() <= MAX_CLAIM_BYTES && text.len() > MAX_CLAIM_BYTES - 8, "{unit:?}: {}", text.len());
        parse(&text).expect(&text);
    }
}

#[test]
fn classes_are_told_by_name() {
    for class in Class::ALL {
        assert_eq!(class.to_string().parse(), Ok(class));
        assert!(class.explain().ends_with('.'));
    }
    assert!("".parse::<Class>().is_err() && "not_main".parse::<Class>().is_err());
}
