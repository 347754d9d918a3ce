//! Answers of Go's own packages and of an upstream server, recorded.

use std::cmp::Ordering;

use data_encoding::BASE64;
use serde_json::Value;

use super::*;
use crate::tlog::{Hash, leaf_hash};

/// A file of recorded answers.
fn load(text: &str) -> Value {
    serde_json::from_str(text).expect("a vector file")
}

fn list<'a>(file: &'a Value, name: &str) -> &'a [Value] {
    let list = file[name].as_array().expect(name);
    assert!(!list.is_empty(), "{name} has cases");
    list
}

fn text<'a>(entry: &'a Value, name: &str) -> &'a str {
    entry[name].as_str().unwrap_or_default()
}

/// The input of a case, if it is UTF-8 at all.
fn input(entry: &Value) -> Option<&str> {
    entry["in"].as_str()
}

#[test]
fn module_and_import_paths_are_what_go_says() {
    let file = load(include_str!("../../../tests/data/paths.json"));
    for entry in list(&file, "paths") {
        let Some(path) = input(entry) else { continue };
        let module = path.parse::<ModulePath>();
        assert_eq!(module.is_ok(), entry["module"].is_null(), "{path:?}: {module:?}");
        let import = check_import_path(path);
        assert_eq!(import.is_ok(), entry["import"].is_null(), "{path:?}: {import:?}");
        if let Ok(module) = module {
            assert_eq!(module.to_string(), path);
            assert_eq!(module.escaped(), text(entry, "escaped"));
            assert_eq!(module.split_major(), (text(entry, "prefix"), text(entry, "path_major")));
        }
    }
}

#[test]
fn versions_are_what_go_says() {
    let file = load(include_str!("../../../tests/data/paths.json"));
    for entry in list(&file, "versions") {
        let Some(version) = input(entry) else {
            continue;
        };
        let canonical = !version.is_empty() && text(entry, "module_canonical") == version;
        let parsed = version.parse::<Version>();
        assert_eq!(parsed.is_ok(), canonical, "{version:?}: {parsed:?}");
        let Ok(parsed) = parsed else { continue };
        assert_eq!(parsed.to_string(), version);
        assert_eq!(parsed.major(), text(entry, "major"), "{version}");
        assert_eq!(parsed.is_prerelease(), !text(entry, "prerelease").is_empty(), "{version}");
        assert_eq!(parsed.is_pseudo(), entry["pseudo"] == true, "{version}");
        assert_eq!(parsed.escaped(), text(entry, "escaped"));
    }
}

#[test]
fn paths_and_versions_are_unescaped_as_by_go() {
    let file = load(include_str!("../../../tests/data/paths.json"));
    for (name, what) in [("unescape_path", "module path"), ("unescape_version", "version")] {
        for entry in list(&file, name) {
            let Some(escaped) = input(entry) else { continue };
            let unescaped = unescape(escaped);
            // A longer error of Go's is about what came out.
            let wrong = text(entry, "error") == format!("invalid escaped {what} {escaped:?}");
            assert_eq!(unescaped.is_none(), wrong, "{escaped:?}");
            if let Some(out) = entry["out"].as_str() {
                assert_eq!(unescaped.as_deref(), Some(out));
                assert_eq!(escape(out), escaped);
            }
        }
    }
}

#[test]
fn versions_fit_modules_as_go_says() {
    let file = load(include_str!("../../../tests/data/paths.json"));
    let mut both = 0;
    for entry in list(&file, "check") {
        let (path, version) = (text(entry, "path"), text(entry, "version"));
        let (Ok(module), Ok(parsed)) = (path.parse::<ModulePath>(), version.parse::<Version>()) else {
            // Go's check takes versions that are not canonical; a spec cannot hold them.
            let refused = !entry["error"].is_null() || version.parse::<Version>().is_err();
            assert!(refused, "{path}@{version}");
            continue;
        };
        let fits = parsed.check_fits(&module);
        assert_eq!(fits.is_ok(), entry["error"].is_null(), "{path}@{version}: {fits:?}");
        both += 1;
    }
    assert!(both > 20, "{both} cases compared");
}

#[test]
fn versions_are_ordered_as_go_says() {
    let file = load(include_str!("../../../tests/data/paths.json"));
    check_order::<Version>(list(&file, "semver_order"));
}

#[test]
fn go_versions_are_ordered_as_go_says() {
    let file = load(include_str!("../../../tests/data/goversion.json"));
    check_order::<GoVersion>(list(&file, "order"));
}

/// Values of a later group are greater, whatever members of a group we take.
fn check_order<T: std::str::FromStr + Ord + std::fmt::Debug>(groups: &[Value]) {
    let mut values = Vec::new();
    for (group, members) in groups.iter().enumerate() {
        let members = members.as_array().expect("a group").iter();
        let members = members.filter_map(|member| member.as_str()?.parse::<T>().ok());
        values.extend(members.map(|value| (group, value)));
    }
    assert!(values.len() > 25, "{} values compared", values.len());
    for (group_a, a) in &values {
        for (group_b, b) in &values {
            if group_a != group_b {
                assert_eq!(a.cmp(b), group_a.cmp(group_b), "{a:?} and {b:?}");
            }
            assert_eq!(a == b, a.cmp(b) == Ordering::Equal, "{a:?} and {b:?}");
        }
    }
}

#[test]
fn go_versions_are_a_strict_part_of_what_go_takes() {
    let file = load(include_str!("../../../tests/data/goversion.json"));
    for entry in list(&file, "versions") {
        let name = text(entry, "in");
        let Ok(parsed) = name.parse::<GoVersion>() else {
            continue;
        };
        assert!(entry["valid"] == true, "{name} is valid for Go");
        assert_eq!(parsed.to_string(), name);
        assert_eq!(parsed.lang().replace("go1.0", "go1"), text(entry, "lang"));
    }
    let taken = ["go1.0", "go1.9", "go1.10beta1", "go1.14.1", "go1.20.0", "go1.21rc2", "go1.27.1", "go1.100"];
    for name in taken {
        assert!(name.parse::<GoVersion>().is_ok(), "{name}");
    }
    for name in ["go1", "go2", "go1.21alpha1", "go1.21.0-foo", "go1.21foo1", "go1.21rc", "go1.4294967296"] {
        assert!(name.parse::<GoVersion>().is_err(), "{name}");
    }
}

#[test]
fn releases_are_told_from_names_of_languages() {
    for name in ["go1.20", "go1.20.0", "go1.21.0", "go1.27.1"] {
        assert!(name.parse::<GoVersion>().expect(name).is_release(), "{name}");
    }
    for name in ["go1.21", "go1.27", "go1.20rc1", "go1.21beta1"] {
        assert!(!name.parse::<GoVersion>().expect(name).is_release(), "{name}");
    }
}

#[test]
fn a_range_of_go_versions_takes_in_its_ends() {
    let check = |oldest: &str, newest: &str, inside: &[&str], outside: &[&str]| {
        let range = GoRange { oldest: oldest.parse().ok(), newest: newest.parse().ok() };
        for name in inside {
            assert!(range.contains(&name.parse().expect(name)), "{name} in {range:?}");
        }
        for name in outside {
            assert!(!range.contains(&name.parse().expect(name)), "{name} in {range:?}");
        }
    };
    check("go1.13", "", &["go1.13", "go1.90.1"], &["go1.12.17", "go1.13rc1"]);
    check("", "", &["go1.1", "go1.90.1"], &[]);
    check("go1.21", "go1.26", &["go1.21rc1", "go1.26.8"], &["go1.20.14", "go1.27rc1"]);
    check("go1.21.5", "go1.26.2", &["go1.21.5", "go1.26.2"], &["go1.21.4", "go1.26.3"]);
}

#[test]
fn specs_and_sums_of_real_programs_parse() {
    let sums = load(include_str!("../../../tests/data/sums.json"));
    for entry in sums.as_array().expect("a list") {
        let spec: Spec = text(entry, "spec").parse().expect("a spec");
        assert_eq!(spec.to_string(), text(entry, "spec"));
        assert_eq!(spec.program_name(), text(entry, "file"), "{spec}");
        let sum: Sum = text(entry, "sum").parse().expect("a sum");
        assert_eq!(sum.to_string(), text(entry, "sum"));
    }
}

#[test]
fn records_of_an_upstream_server_come_out_byte_for_byte() {
    let file = load(include_str!("../../../tests/data/gobuild-wire.json"));
    let mut records = 0;
    for response in list(&file, "responses") {
        let path = text(response, "path");
        let Some(key) = path.strip_prefix("/tlog/lookup/").filter(|_| response["status"] == 200) else {
            continue;
        };
        let body = BASE64.decode(text(response, "body_base64").as_bytes()).expect("base64");
        let body = String::from_utf8(body).expect("UTF-8");
        let (_, rest) = body.split_once('\n').expect("a number line");
        let (line, _) = rest.split_once('\n').expect("a record");
        let record = Record::parse(format!("{line}\n").as_bytes()).expect(line);
        assert_eq!(record.to_text(), format!("{line}\n"));
        let query: SpecQuery = key.parse().expect(key);
        assert_eq!(query.exact().expect("a spec"), record.spec);
        records += 1;
    }
    assert!(records > 5, "{records} records compared");
}

#[test]
fn records_of_a_reference_log_have_its_leaf_hashes() {
    let file = load(include_str!("../../../tests/data/tlog.json"));
    for leaf in list(&file, "leaves") {
        let line = text(leaf, "text");
        let record = Record::parse(line.as_bytes()).expect(line);
        assert_eq!(record.to_text(), line);
        assert_eq!(leaf_hash(record.to_text().as_bytes()).to_string(), text(leaf, "hash"));
    }
}

#[test]
fn the_space_at_a_records_end_is_hashed() {
    let line = "github.com/mjl-/gobuild v0.0.8 / linux amd64 go1.14.1 12345678 0N7e6zxGtHCObqNBDA_mXKv7-A9M \n";
    let record = Record::parse(line.as_bytes()).expect(line);
    let hash: Hash = leaf_hash(record.to_text().as_bytes());
    assert_eq!(hash.to_string(), "6aF9vg4g9SAWeTPKc7hf6Vqb0+1lC2l43hnUAHnNmPo=");
    let eight = Record::parse(line.replace(" \n", "\n").as_bytes()).expect("eight fields");
    assert_eq!(eight, record);
}
