//! Commands that need no running node.

use std::fs;
use std::path::Path;

use sumpeer::tlog::SignerKey;

use crate::world::{Module, Modules, Setup, program, spec, words};

/// Expects that `sumpeer check` finds something wrong, and says what.
fn finds(setup: &Setup, says: &str) {
    let output = setup.check();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(3), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.lines().any(|line| line.starts_with("WRONG") && line.contains(says)), "{says}: {text}");
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).expect("there");
    bytes[at] ^= 1;
    fs::write(file, bytes).expect("written");
}

#[test]
fn check_finds_what_changed() {
    let modules = Modules::start();
    modules.publish(&Module::command("check.example/x", "v1.0.0"));
    let setup = Setup::warm(&modules);
    let node = setup.start();
    let spec = spec("check.example/x@v1.0.0");
    assert_eq!(node.lookup(&spec).status, 200);
    let claim = node.claim(&spec).expect("a claim");
    let sum = claim["sum"].as_str().expect("a sum").to_owned();
    assert!(setup.check().status.success(), "a running node can be checked");
    assert_eq!(node.terminate().0, Some(0));
    let (code, out, _) = words(program().args(["check", "--json", "--config"]).arg(setup.file()));
    let report: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, report["count"].as_u64()), (Some(0), Some(0)), "{out}");

    let binary = setup.data.join("binaries").join(&sum[1..3]).join(format!("{sum}.gz"));
    let last = fs::read(&binary).expect("there").len() - 1;
    for at in [0, 1000, last] {
        flip(&binary, at);
        finds(&setup, &sum);
        flip(&binary, at);
    }
    let aside = binary.with_extension("aside");
    fs::rename(&binary, &aside).expect("moved");
    finds(&setup, &sum);
    fs::rename(&aside, &binary).expect("moved");

    let modules = setup.data.join("modules");
    let kept = walk(&modules).into_iter().find(|file| fs::metadata(file).is_ok_and(|meta| meta.len() > 100));
    let kept = kept.expect("a module file");
    flip(&kept, 50);
    finds(&setup, "module file");
    flip(&kept, 50);

    // In the database: each table alone, and one bit of the file itself.
    let path = setup.data.join("sumpeer.db");
    let database = rusqlite::Connection::open(&path).expect("a database");
    let emptied = database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, u32>(0));
    assert_eq!(emptied, Ok(0), "all of it is in one file");
    drop(database);
    let whole = fs::read(&path).expect("the database");
    let restore = || {
        for end in ["-wal", "-shm"] {
            let _ = fs::remove_file(setup.data.join(format!("sumpeer.db{end}")));
        }
        fs::write(&path, &whole).expect("written");
    };
    for change in [
        "UPDATE accepted_entry SET text = CAST(replace(CAST(text AS TEXT), 'amd64', 'arm64') AS BLOB)",
        "UPDATE claims_entry SET text = CAST(replace(CAST(text AS TEXT), 'h1:', 'h2:') AS BLOB)",
        "UPDATE tile SET hashes = zeroblob(length(hashes)) WHERE log = 0",
        "UPDATE tile SET hashes = zeroblob(length(hashes)) WHERE log = 1",
        "UPDATE head SET root = zeroblob(32)",
        "DELETE FROM head WHERE log = 0",
        "UPDATE record SET sum = zeroblob(20)",
        "DELETE FROM record",
        "UPDATE word SET size = size + 1",
        "DELETE FROM word",
        "UPDATE binary SET sha256 = zeroblob(32)",
        "DELETE FROM accepted_entry",
    ] {
        let database = rusqlite::Connection::open(&path).expect("a database");
        let changed = database.execute(change, []).unwrap_or_else(|error| panic!("{change}: {error}"));
        drop(database);
        assert!(changed > 0, "{change}");
        finds(&setup, "");
        restore();
    }
    let record = "check.example/x v1.0.0 / ";
    let at = whole.windows(record.len()).position(|window| window == record.as_bytes()).expect("the record's text");
    flip(&path, at);
    finds(&setup, "");
    flip(&path, at);
    assert!(setup.check().status.success());
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => files.extend(walk(&entry.path())),
            _ => files.push(entry.path()),
        }
    }
    files
}

#[test]
fn check_without_a_node_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, out, said) = words(program().args(["check", "--data"]).arg(folder.path()));
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(said.contains("there is no node in"), "{said}");
    assert_eq!(fs::read_dir(folder.path()).expect("there").count(), 0, "a check changes nothing");
}

#[test]
fn sums_of_files_and_of_what_is_piped() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("abc");
    fs::write(&file, "abc").expect("written");
    let (code, out, _) = words(program().arg("sum").arg(&file).arg("/no/such/file"));
    assert_eq!((code, out), (Some(1), format!("0ungWv48Bz-pBQUDeXa4iI7ADYaM  {}\n", file.display())));
    assert_cmd::Command::from_std(program())
        .arg("sum")
        .write_stdin("abc")
        .assert()
        .success()
        .stdout("0ungWv48Bz-pBQUDeXa4iI7ADYaM  -\n");
}

#[test]
fn a_key_from_keygen_is_one_a_node_takes() {
    let modules = Modules::start();
    let setup = Setup::empty(&modules);
    fs::create_dir(&setup.data).expect("made");
    let file = setup.data.join("key");
    let (code, vkey, said) = words(program().args(["keygen", "node.example", "--out"]).arg(&file));
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(setup.start().vkey, vkey.trim_end());
    let before = fs::read(&file).expect("there");
    let (code, ..) = words(program().args(["keygen", "node.example", "--out"]).arg(&file));
    assert_eq!((code, fs::read(&file).expect("there")), (Some(1), before), "never written over");
    let (code, out, _) = words(program().args(["keygen", "sums.example"]));
    let (signer, verifier) = out.trim_end().split_once('\n').expect("two lines");
    let signer: SignerKey = signer.parse().expect("a key");
    assert_eq!((code, signer.verifier().to_string().as_str()), (Some(0), verifier));
    assert_eq!(words(program().args(["keygen", "a b"])).0, Some(1));
}

#[test]
fn the_example_is_a_configuration_that_passes() {
    let (code, example, _) = words(program().args(["config", "example"]));
    assert_eq!(code, Some(0));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("config.toml");
    fs::write(&file, &example).expect("written");
    assert_eq!(words(program().args(["config", "check"]).arg(&file)).0, Some(0));
    fs::write(&file, example.replacen("[limits]", "[limits]\nmax-strems = 3", 1)).expect("written");
    let (code, _, said) = words(program().args(["config", "check"]).arg(&file));
    assert!(code == Some(1) && said.contains("max-strems") && said.contains('^'), "{code:?} {said}");
}

#[test]
fn help_in_all_its_forms() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = words(program().args(["completions", shell]));
        assert!(code == Some(0) && out.contains("keygen"), "{shell}");
    }
    let (code, page, _) = words(program().arg("man"));
    assert!(code == Some(0) && page.starts_with(".ie") || page.contains(".TH"), "{page}");
    for command in ["serve", "get", "check", "sum", "keygen", "config", "evidence", "toolchain", "completions", "man"] {
        let (code, out, _) = words(program().args([command, "--help"]));
        assert!(code == Some(0) && out.contains("Usage: sumpeer"), "{command}: {out}");
        assert!(page.contains(command), "{command} is not in the manual");
    }
    let (code, version, _) = words(program().arg("--version"));
    assert_eq!((code, version), (Some(0), format!("sumpeer {}\n", env!("CARGO_PKG_VERSION"))));
    assert_eq!(words(program().arg("--no-such-option")).0, Some(2));
}
