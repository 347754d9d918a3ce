//! Against what Go's own packages say of the same bytes, and on files that nobody would make.

use std::io::Write as _;

use data_encoding::BASE64;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::evidence::made;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../tests/data/buildinfo.json")).unwrap()
}

/// What is said of a file, in the form of the vectors.
fn said(bytes: &[u8]) -> anyhow::Result<Value> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let content = Content::new(&file).unwrap();
    let image = Image::read(&content)?;
    BuildInfo::read(&content, &image).map(|info| as_vector(&info))
}

fn as_vector(info: &BuildInfo) -> Value {
    let put = |object: &mut Value, name: &str, value: Value| {
        if value != "" && value != serde_json::json!([]) {
            object[name] = value;
        }
    };
    let setting = |(key, value): &(String, String)| {
        let mut object = serde_json::json!({"Key": key});
        put(&mut object, "Value", value.as_str().into());
        object
    };
    let mut object = serde_json::json!({});
    put(&mut object, "GoVersion", info.go_version.as_str().into());
    put(&mut object, "Path", info.path.as_str().into());
    object["Main"] = module(&info.main.clone().unwrap_or_default());
    put(&mut object, "Deps", info.deps.iter().map(module).collect());
    put(&mut object, "Settings", info.settings.iter().map(setting).collect());
    object
}

fn module(module: &Module) -> Value {
    let mut object = serde_json::json!({});
    for (name, value) in [("Path", &module.path), ("Version", &module.version), ("Sum", &module.sum)] {
        if !value.is_empty() {
            object[name] = value.as_str().into();
        }
    }
    if let Some(replace) = &module.replace {
        object["Replace"] = self::module(replace);
    }
    object
}

#[track_caller]
fn check(about: &Value, found: anyhow::Result<Value>, case: &Value) {
    match (found, case["error"].as_str()) {
        (Ok(found), None) => assert_eq!(found, case["info"], "{about}"),
        (Err(_), Some(_)) => {}
        (found, error) => panic!("{about}: {found:?} and not {error:?}"),
    }
}

#[test]
fn small_files_are_read_as_go_reads_them() {
    let vectors = vectors();
    let cases = vectors["tiny"].as_array().unwrap();
    assert_eq!(cases.len(), 54);
    for case in cases {
        let bytes = BASE64.decode(case["file"].as_str().unwrap().as_bytes()).unwrap();
        let about = &case["about"];
        if about.as_str().unwrap().contains("Go loses count") {
            assert_eq!(said(&bytes).unwrap()["GoVersion"], "go1.27.1", "{about}");
        } else {
            check(about, said(&bytes), case);
        }
    }
}

#[test]
fn texts_are_read_as_go_reads_them() {
    for case in vectors()["parse"].as_array().unwrap() {
        let text = match case["in"].as_str() {
            Some(text) => text.as_bytes().to_vec(),
            None => BASE64.decode(case["in_base64"].as_str().unwrap_or_default().as_bytes()).unwrap(),
        };
        check(&case["about"], text::parse(&text).map(|info| as_vector(&info)), case);
    }
}

/// What real programs hold, put into made-up files of every format.
#[test]
fn real_programs_are_read_as_go_reads_them() {
    let vectors = vectors();
    for case in vectors["binaries"].as_array().unwrap() {
        let gzip = BASE64.decode(case["blob_gzip"].as_str().unwrap().as_bytes()).unwrap();
        let mut blob = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&gzip[..]), &mut blob).unwrap();
        assert_eq!(blob.len() as u64, case["blob_length"].as_u64().unwrap());
        for format in made::FORMATS {
            let file = made::program(format, &[("code", &[0x90; 56]), ("data", &blob)]);
            check(&case["about"], said(&file), case);
        }
    }
}

proptest! {
    /// Bytes of a real header with some of them changed, cut, or in a file of any format: an answer, never a panic.
    #[test]
    fn nothing_panics(
        format in 0..made::FORMATS.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        garbage in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = said(&garbage);
        let blob = [MAGIC, &[8, 2], &[0; 16], b"\x08go1.27.1", b"\x00", &[0; 32]].concat();
        let whole = made::program(made::FORMATS[format], &[("code", &[1; 40]), ("data", &blob)]);
        prop_assert!(said(&whole).is_ok());
        let mut file = whole.clone();
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        let _ = said(&file);
        file.truncate(cut.index(file.len()));
        let _ = said(&file);
    }

    #[test]
    fn any_text_has_an_answer(text in prop::collection::vec(any::<u8>(), 0..200), value in "\\PC*") {
        let _ = text::parse(&text);
        let quoted = format!("build\tx={value:?}\n");
        let _ = text::parse(quoted.as_bytes());
    }
}
