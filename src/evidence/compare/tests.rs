//! What comparisons promise, on made-up programs; real ones are compared in tests/real.

use std::fs::File;
use std::io::Write as _;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::evidence::made;

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// Compares two files and checks what holds for all of them.
fn check(one: &[u8], other: &[u8]) -> Option<Comparison> {
    let files = [file(one), file(other)];
    let found = compare(&files[0], &files[1]).unwrap();
    let back = compare(&files[1], &files[0]).unwrap();
    assert_eq!(found.is_none(), one == other);
    let found = found?;
    let back = back.unwrap();
    assert_eq!(Comparison::from_json(&found.to_json()), Ok(found.clone()), "it can be read again");
    assert_eq!(
        (back.class, back.first_difference, back.differing_bytes),
        (found.class, found.first_difference, found.differing_bytes)
    );
    assert_eq!(back.binaries, found.clone().reversed().binaries);
    // The order of rows is that of the first file.
    let sorted = |comparison: &Comparison| {
        let mut parts: Vec<String> = comparison.sections.iter().map(|part| format!("{part:?}")).collect();
        parts.sort();
        parts
    };
    assert_eq!(sorted(&back), sorted(&found.clone().reversed()));
    assert_eq!(back.paths, found.clone().reversed().paths);
    let first = usize::try_from(found.first_difference).unwrap();
    assert_eq!(one[..first], other[..first]);
    assert_ne!(one.get(first), other.get(first));
    let sums = [one, other].map(|bytes| (bytes.len() as u64, Sum::of_sha256(&Sha256::digest(bytes).into())));
    assert_eq!(found.sums(), sums);
    Some(found)
}

/// Build information of a program with these module and setting lines.
fn info(version: &str, text: &str) -> Vec<u8> {
    let text = format!("0123456789abcdef{text}\n0123456789abcdef");
    let mut blob = [b"\xff Go buildinf:\x08\x02".as_slice(), &[0; 16]].concat();
    for part in [version, &text] {
        blob.extend([u8::try_from(part.len() & 0x7f).unwrap() | 0x80, u8::try_from(part.len() >> 7).unwrap()]);
        blob.extend(part.as_bytes());
    }
    blob.extend([0; 32]);
    blob
}

const TEXT: &str =
    "path\ta.example/m\nmod\ta.example/m\tv1.0.0\th1:x\ndep\tb.example/d\tv1.0.0\th1:y\nbuild\t-trimpath=true";

#[test]
fn classes() {
    let plain = info("go1.27.1", TEXT);
    let untrimmed = info("go1.27.1", &TEXT.replace("-trimpath=true", "-ldflags=-X"));
    let (short, long) = (b"\0fmt/print.go\0m/main.go\0".to_vec(), b"\0/go/src/fmt/print.go\0/x/main.go\0".to_vec());
    let mark = |id: &str| [b"code \xff Go build ID: \"", id.as_bytes(), b"\"\n \xff and more"].concat();
    for format in made::FORMATS {
        let program = |code: &[u8], data: &[u8], more: &[(&str, &[u8])]| {
            let data = [data, &[7; 40]].concat();
            made::program(format, &[&[("code", code), ("data", &data)], more].concat())
        };
        let class = |one: &[u8], other: &[u8]| check(one, other).unwrap().class;
        let (code, other_code) = ([1; 56], [&[1; 30][..], &[2], &[1; 25]].concat());
        let one = program(&code, &plain, &[]);
        assert!(check(&one, &one).is_none());
        assert_eq!(class(&one, &program(&other_code, &plain, &[])), Class::Code, "{format}");
        assert_eq!(class(&one, &program(&code, &[&plain[..], b"x"].concat(), &[])), Class::Data, "{format}");
        let newer = info("go1.27.2", TEXT);
        assert_eq!(class(&one, &program(&other_code, &newer, &[])), Class::BuildInfo, "{format}");
        let changed =
            check(&one, &program(&other_code, &info("go1.27.1", &TEXT.replace("h1:y", "h1:z")), &[])).unwrap();
        assert_eq!(changed.class, Class::BuildInfo);
        assert_eq!(changed.tables(["a", "b"])[1].rows, [["module b.example/d", "v1.0.0 h1:y", "v1.0.0 h1:z"]]);
        assert_eq!(class(&one, &program(&other_code, &untrimmed, &[])), Class::BuildInfo, "{format}");
        let paths = check(
            &program(&code, &[&plain[..], &short].concat(), &[]),
            &program(&other_code, &[&untrimmed[..], &long].concat(), &[]),
        )
        .unwrap();
        assert_eq!(paths.class, Class::Paths, "{format}");
        assert_eq!(paths.paths.unwrap().first, [["fmt/print.go", "m/main.go"], ["/go/src/fmt/print.go", "/x/main.go"]]);
        let more_files = [&long[..], b"/x/evil.go\0"].concat();
        let hidden = check(
            &program(&code, &[&plain[..], &short].concat(), &[]),
            &program(&other_code, &[&plain[..], &more_files].concat(), &[]),
        );
        assert_eq!(hidden.unwrap().class, Class::Code, "a file more is no other folder: {format}");
        if format != "plan9" {
            let debug = program(&code, &plain, &[(".debug_x", b"names")]);
            assert_eq!(class(&one, &debug), Class::Size, "{format}");
        }
        let [marked, other_mark] = ["one", "two"].map(|id| program(&mark(id), &plain, &[]));
        let found = check(&marked, &other_mark).unwrap();
        assert_eq!(found.class, Class::BuildIdOnly, "{format}");
        assert_eq!(found.binaries.map(|binary| binary.build_id.unwrap()), ["one", "two"]);
        assert_eq!(class(&one, &one[..one.len() - 1]), Class::Size, "{format}");
        assert_eq!(class(&one, &[&one[..], b"more"].concat()), Class::Size, "{format}");
    }
    let [one, other] = ["1", "2"].map(|id| {
        let note = [b"\x04\0\0\0\x01\0\0\0\x04\0\0\0Go\0\0".as_slice(), id.as_bytes()].concat();
        made::program("elf", &[("code", &[1; 8]), (".note.go.buildid", &note), ("data", &plain)])
    });
    assert_eq!(check(&one, &other).unwrap().class, Class::BuildIdOnly);
    // No programs at all.
    for (one, other, class) in [("", "x", Class::Size), ("ab", "abc", Class::Size), ("ab", "ac", Class::Data)] {
        let found = check(one.as_bytes(), other.as_bytes()).unwrap();
        assert_eq!(found.class, class);
        assert!(found.binaries.iter().all(|binary| binary.trouble.is_some()));
    }
}

#[test]
fn where_they_differ_is_told() {
    let plain = info("go1.27.1", TEXT);
    let mut code = [1; 100];
    let one = made::program("elf", &[("code", &code), ("data", &plain)]);
    code[33] = 2;
    code[77] = 2;
    let other = made::program("elf", &[("code", &code), ("data", &plain)]);
    let found = check(&one, &other).unwrap();
    let text = found.sections.iter().find(|part| part.name == ".text").unwrap();
    assert_eq!((text.first_difference, text.differing_bytes, text.sizes), (Some(33), 2, [Some(100); 2]));
    assert_eq!(found.first_difference, text.offsets[0].unwrap() + 33);
    assert_eq!(found.summary(), format!("code: 2 bytes differ, the first at {}", found.first_difference));
    let tables = found.tables(["ours", "theirs"]);
    let titles: Vec<_> = tables.iter().map(|table| table.title).collect();
    assert_eq!(titles, ["The two files", "Their parts"]);
    assert!(tables[1].rows.contains(&[".text", "code", "100", "100", "2", "33"].map(str::to_owned).to_vec()));
    for class in Class::ALL {
        assert!(json!(class) == class.as_str() && !class.meaning().is_empty() && !class.advice().is_empty());
    }
}

#[test]
fn what_strangers_write_is_taken_as_this_program_writes_it() {
    let plain = info("go1.27.1", TEXT);
    let one = made::program("elf", &[("code", &[1; 9]), ("data", &plain)]);
    let other = made::program("elf", &[("code", &[2; 9]), ("data", &plain)]);
    let good = check(&one, &other).unwrap().to_json();
    let changed = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut value = good.clone();
        change(&mut value);
        Comparison::from_json(&value).is_err()
    };
    assert!(!changed(&|_| ()));
    assert!(changed(&|value| value["class"] = "other".into()));
    assert!(changed(&|value| value["more"] = 1.into()));
    assert!(changed(&|value| value["differing_bytes"] = 1.5.into()));
    assert!(changed(&|value| value["binaries"][0]["sha256"] = "A".repeat(64).into()));
    assert!(changed(&|value| value["binaries"][0]["format"] = "\u{1b}[2J".into()));
    assert!(changed(&|value| value["sections"][0]["name"] = "a".repeat(500).into()));
    assert!(changed(&|value| value["sections"][0]["role"] = "boss".into()));
    assert!(changed(&|value| value["sections"] = vec![value["sections"][0].clone(); 1000].into()));
    let many = vec!["a/b.go"; 11];
    assert!(changed(&|value| value["paths"] = json!({"only": [11, 0], "first": [many, []]})));
    assert!(changed(&|value| value["binaries"][0]["build_info"]["path"] = "a\nb".into()));
    assert!(changed(&|value| {
        let class = value["class"].take();
        value.as_object_mut().unwrap().shift_remove("class");
        value["class"] = class;
    }));
    assert!(Comparison::from_json(&json!([])).is_err() && Comparison::from_json(&json!(null)).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_two_files_have_an_answer(
        formats in prop::array::uniform2(0..made::FORMATS.len()),
        codes in prop::array::uniform2(prop::collection::vec(any::<u8>(), 0..80)),
        garbage in prop::array::uniform2(prop::collection::vec(any::<u8>(), 0..80)),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        check(&garbage[0], &garbage[1]);
        let whole = [0, 1].map(|at| made::program(made::FORMATS[formats[at]], &[("code", &codes[at]), ("data", &info("go1.1", TEXT))]));
        check(&whole[0], &whole[0]);
        check(&whole[0], &whole[1]);
        check(&whole[0], &garbage[0]);
        let mut broken = whole[0].clone();
        for (at, byte) in changes {
            let at = at.index(broken.len());
            broken[at] = byte;
        }
        check(&whole[0], &broken);
        broken.truncate(cut.index(broken.len()));
        check(&whole[1], &broken);
    }
}
