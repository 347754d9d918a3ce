//! A node that cannot start says why in one sentence, changes nothing, and starts once that is mended.

use std::fs;
use std::net::TcpListener;

use sumpeer::tlog::SignerKey;

use crate::world::{Module, Modules, Setup, program, spec, words};

/// Expects that the node refuses to start with exit code 1 and one sentence that holds all of `says`.
fn refuses(setup: &Setup, says: &[&str]) {
    let said = match setup.try_start() {
        Ok(_) => panic!("it started, instead of saying {says:?}"),
        Err(said) => said,
    };
    assert!(said.contains("exit status: 1"), "{said}");
    let sentence = said.lines().find(|line| line.starts_with("sumpeer: ")).unwrap_or_else(|| panic!("no word: {said}"));
    assert!(says.iter().all(|part| sentence.contains(part)), "{says:?} are not in: {sentence}");
    assert!(!said.contains("panicked") && !said.contains("Error {"), "{said}");
}

/// A data directory with one record in it.
fn with_a_record(modules: &Modules) -> (Setup, String) {
    modules.publish(&Module::command("start.example/x", "v1.0.0"));
    let setup = Setup::warm(modules);
    let node = setup.start();
    let answer = node.lookup(&spec("start.example/x@v1.0.0"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(node.terminate().0, Some(0));
    (setup, answer.text())
}

#[test]
fn whatever_kept_it_from_starting_nothing_is_lost() {
    let modules = Modules::start();
    let (setup, answer) = with_a_record(&modules);
    let key = setup.data.join("key");
    let right = fs::read(&key).expect("a key");

    fs::remove_file(&key).expect("removed");
    refuses(&setup, &["is missing", "put it back"]);
    assert!(!key.exists(), "no new key is made over logs of an old one");

    let other = SignerKey::generate("node.example", [8; 32]).expect("a key");
    fs::write(&key, other.to_text().as_bytes()).expect("written");
    refuses(&setup, &["key"]);
    let other = SignerKey::generate("other.example", [7; 32]).expect("a key");
    fs::write(&key, other.to_text().as_bytes()).expect("written");
    refuses(&setup, &["node.example", "other.example"]);
    for garbage in [&b"hello\n"[..], b"", &[0xff; 64], &[b'x'; 5000]] {
        fs::write(&key, garbage).expect("written");
        refuses(&setup, &["the key file"]);
    }
    fs::remove_file(&key).expect("removed");
    fs::create_dir(&key).expect("made");
    refuses(&setup, &["the key file"]);
    fs::remove_dir(&key).expect("removed");
    fs::write(&key, &right).expect("written");

    let database = || rusqlite::Connection::open(setup.data.join("sumpeer.db")).expect("a database");
    let version: u32 = database().query_row("PRAGMA user_version", [], |row| row.get(0)).expect("a version");
    database().pragma_update(None, "user_version", version + 1).expect("written");
    refuses(&setup, &["schema", "newer"]);
    let (code, _, said) = words(program().args(["check", "--config"]).arg(setup.file()));
    assert!(code == Some(1) && said.contains("newer"), "{code:?} {said}");
    database().pragma_update(None, "user_version", version).expect("written");

    let node = setup.start();
    refuses(&setup, &["another node is running", "data"]);
    assert_eq!(node.lookup(&spec("start.example/x@v1.0.0")).text(), answer, "all is as it was");
    assert!(setup.check().status.success());
}

#[test]
fn a_database_that_is_no_database_is_not_written_over() {
    let modules = Modules::start();
    let setup = Setup::warm(&modules);
    let path = setup.data.join("sumpeer.db");
    for end in ["-wal", "-shm"] {
        let _ = fs::remove_file(setup.data.join(format!("sumpeer.db{end}")));
    }
    fs::write(&path, [b'x'; 10_000]).expect("written");
    refuses(&setup, &["database"]);
    assert_eq!(fs::read(&path).expect("there"), [b'x'; 10_000]);
}

#[test]
fn a_log_that_does_not_fit_its_head_is_not_continued() {
    let modules = Modules::start();
    let (setup, _) = with_a_record(&modules);
    let database = rusqlite::Connection::open(setup.data.join("sumpeer.db")).expect("a database");
    let tables: Vec<(String, String)> = database
        .prepare("SELECT name, sql FROM sqlite_master WHERE type = 'table' AND sql LIKE '%BLOB%'")
        .and_then(|mut query| query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
        .expect("a schema");
    let (tile, _) = tables.iter().find(|(name, _)| name.contains("tile")).expect("a table of tiles");
    let column = database
        .prepare(&format!("SELECT name FROM pragma_table_info('{tile}') WHERE type = 'BLOB'"))
        .and_then(|mut query| query.query_row([], |row| row.get::<_, String>(0)))
        .expect("a column");
    database.execute(&format!("UPDATE {tile} SET {column} = zeroblob(length({column}))"), []).expect("written");
    drop(database);
    refuses(&setup, &["log"]);
    let check = setup.check();
    assert_eq!(check.status.code(), Some(3), "{}", String::from_utf8_lossy(&check.stdout));
}

#[test]
fn a_port_that_is_taken_is_named() {
    let modules = Modules::start();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    for (listen, admin, setting) in
        [(address.as_str(), "127.0.0.1:0", "(listen)"), ("127.0.0.1:0", &address, "(admin-listen)")]
    {
        let mut command = program();
        command
            .args(["serve", "--listen", listen, "--admin-listen", admin])
            .env("GOPROXY", modules.url())
            .arg("--data")
            .arg(&data);
        let (code, out, said) = words(&mut command);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{said}");
        assert!(said.starts_with(&format!("sumpeer: cannot listen on {address} {setting}")), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(!data.exists(), "nothing is made before that");
    }
}

#[test]
fn a_data_directory_that_cannot_be_is_named() {
    let modules = Modules::start();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("written");
    let setup = Setup::at(file.join("data"), &modules);
    let config = folder.path().join("config.toml");
    fs::write(&config, &setup.config).expect("written");
    let (code, _, said) = words(
        program().args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--config"]).arg(&config),
    );
    assert!(code == Some(1) && said.contains("cannot make the data directory"), "{code:?} {said}");
}

#[test]
fn a_configuration_with_mistakes_is_refused_with_line_and_caret() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("config.toml");
    let serve = |text: &str| {
        fs::write(&config, text).expect("written");
        words(program().args(["serve", "--config"]).arg(&config))
    };
    for (text, says) in [
        ("max-builds = 2\nmax-biulds = 3\n", &["line 2", "max-biulds", "^"][..]),
        ("data = 3\n", &["line 1", "^"]),
        ("data = \"unclosed\n", &["line 1", "^"]),
        ("lookup-wait = \"soon\"\n", &["line 1", "^"]),
        ("binary-cache = \"1MiB\"\n", &["binary-cache"]),
        ("name = \"a b\"\n", &["name: \"a b\" cannot name a key"]),
        ("sandbox = \"chroot\"\n", &["line 1", "chroot"]),
        ("goproxy = \" \"\n", &["goproxy"]),
    ] {
        let (code, out, said) = serve(text);
        assert!(matches!(code, Some(1 | 2)) && out.is_empty(), "{text}: {code:?} {said}");
        assert!(says.iter().all(|part| said.contains(part)), "{text}: {said}");
    }
    // Two mistakes, told at once.
    let (_, _, said) = serve("binary-cache = \"1MiB\"\nname = \"a b\"\n");
    assert!(said.contains("binary-cache") && said.contains("name"), "{said}");

    let (code, _, said) = words(program().args(["serve", "--config", "/no/such/file.toml"]));
    assert!(code == Some(1) && said.contains("cannot read /no/such/file.toml"), "{code:?} {said}");
    for usage in [&["serve", "--config"][..], &["serve", "--listen", "nowhere"], &["surve"], &[]] {
        assert_eq!(words(program().args(usage)).0, Some(2), "{usage:?}");
    }
}
