//! `sumpeer evidence verify`, as a user meets it: status, words, keys.

use std::fs;
use std::path::Path;

use sumpeer::evidence::{Bundle, EvidenceTile, Party, PathForm, Source, fork_tiles};
use sumpeer::model::{Record, Spec, Sum};
use sumpeer::tlog::{Hash, Head, SUMDB_ORIGIN, SignerKey, TreeSize, leaf_hash, node_hash, sign_note};

use crate::world::{program, words};

fn key(name: &str) -> SignerKey {
    SignerKey::generate(name, [7; 32]).expect("a key")
}

fn party(key: &SignerKey, size: u64, root: Hash) -> Party {
    let head = Head { origin: SUMDB_ORIGIN.to_owned(), size: TreeSize::new(size).expect("small"), root };
    let note = sign_note(&head.to_text(), &[key]);
    Party::new(key.name(), key.verifier(), Source::Log, note.as_bytes()).expect("signed")
}

fn divergence(one: &SignerKey, other: &SignerKey) -> String {
    let spec: Spec = "example.com/m@v1.0.0/linux-amd64-go1.27.1/".parse().expect("a spec");
    let said = |key: &SignerKey, number: u8| {
        let text = Record { spec: spec.clone(), size: 5, sum: Sum::from_bytes([number; 20]) }.to_text();
        party(key, 1, leaf_hash(text.as_bytes())).with_entry(0, text, Vec::new())
    };
    let made_at = "2026-11-21T10:00:00Z".parse().expect("a time");
    let bundle = Bundle::words(made_at, spec.clone(), [said(one, 1), said(other, 2)], None).expect("they differ");
    bundle.encode()
}

/// A log of two entries, and a head of size 1 that is not how it began.
fn fork(key: &SignerKey) -> String {
    let [one, two, other] = ["1", "2", "3"].map(|text| leaf_hash(text.as_bytes()));
    let sizes = [1, 2].map(|size| TreeSize::new(size).expect("small"));
    let tile = fork_tiles(sizes[0], sizes[1])[0];
    let tile = EvidenceTile::new(tile, PathForm::Sumdb, [one.0, two.0].concat());
    let heads = [party(key, 1, other), party(key, 2, node_hash(&one, &two))];
    let made_at = "2026-11-21T10:00:00Z".parse().expect("a time");
    Bundle::fork(made_at, heads, vec![tile]).expect("a fork").encode()
}

fn rollback(key: &SignerKey) -> String {
    let made_at = "2026-11-21T10:00:00Z".parse().expect("a time");
    let [before, now] = [2, 1].map(|size| party(key, size, leaf_hash(b"x")));
    Bundle::rollback(made_at, before, now).expect("smaller").encode()
}

fn verify(file: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    words(program().args(["evidence", "verify"]).arg(file).args(more))
}

#[test]
fn evidence_is_judged_by_status_words_and_keys() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("evidence.json");
    let (one, other) = (key("a.example"), SignerKey::generate("b.example", [8; 32]).expect("a key"));
    let (one_key, other_key) = (one.verifier().to_string(), other.verifier().to_string());

    let text = divergence(&one, &other);
    fs::write(&file, &text).expect("written");
    let (code, out, said) = verify(&file, &[]);
    assert_eq!((code, said.as_str()), (Some(0), ""), "{out}");
    assert!(
        out.starts_with("proven divergence: of example.com/m@v1.0.0/linux-amd64-go1.27.1/ a.example signed"),
        "{out}"
    );
    assert!(out.contains(&format!("\nkey {one_key}\nkey {other_key}\n")), "{out}");
    assert!(out.ends_with("proven for whoever holds these keys\n"), "{out}");
    assert_eq!(verify(&file, &["--key", &one_key, "--key", &other_key]).0, Some(0));
    let stranger = key("c.example").verifier().to_string();
    let (code, out, _) = verify(&file, &["--key", &one_key, "--key", &stranger]);
    assert!(code == Some(3) && out.starts_with("not proven: ") && out.contains(&stranger), "{code:?} {out}");
    assert_eq!(verify(&file, &["--key", "nonsense"]).0, Some(2));

    let (code, out, _) = verify(&file, &["--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &json["judgement"], &json["kind"]), (Some(0), &"proven".into(), &"divergence".into()));
    assert_eq!(json["keys"], serde_json::json!([one_key, other_key]));

    fs::write(&file, text.replacen("a.example", "b.example", 1)).expect("written");
    let (code, out, _) = verify(&file, &["--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &json["judgement"], json.get("kind")), (Some(3), &"not-proven".into(), None), "{out}");
    assert!(json["sentence"].as_str().is_some_and(|why| why.contains("digest")), "{out}");

    fs::write(&file, &text[1..]).expect("written");
    let (code, out, said) = verify(&file, &[]);
    assert!(code == Some(1) && out.is_empty() && said.contains("not JSON"), "{code:?} {out} {said}");
    let (code, _, said) = verify(&folder.path().join("none"), &[]);
    assert!(code == Some(1) && said.contains("cannot read"), "{code:?} {said}");

    fs::write(&file, rollback(&one)).expect("written");
    let (code, out, _) = verify(&file, &[]);
    assert!(code == Some(4) && out.starts_with("shown rollback: a.example signed"), "{code:?} {out}");
    assert!(out.ends_with("the rest is not\n"), "{out}");
}

#[test]
fn evidence_may_be_piped_and_is_not_read_for_ever() {
    let pipe = |bytes: &[u8]| {
        let mut command = assert_cmd::Command::from_std(program());
        command.args(["evidence", "verify", "-"]).write_stdin(bytes).assert()
    };
    let text = fork(&key("a.example"));
    let output = pipe(text.as_bytes()).code(0).get_output().clone();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(out.starts_with("proven fork: a.example signed a log of size 1"), "{out}");
    // Every byte of a file, through the program itself.
    for at in (0..text.len()).step_by(29) {
        let mut changed = text.clone().into_bytes();
        changed[at] ^= 1;
        let code = pipe(&changed).get_output().status.code();
        let json = serde_json::from_slice::<serde_json::Value>(&changed).is_ok();
        assert!(code == Some(3) || code == Some(1) && !json, "byte {at}: {code:?}");
    }
    let (code, _, said) = verify(Path::new("/dev/zero"), &[]);
    assert!(code == Some(1) && said.contains("longer than"), "{code:?} {said}");
}
