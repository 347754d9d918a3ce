//! `sumpeer get` against a node: the program, or nothing and the reason.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use sumpeer::tlog::SignerKey;
use tempfile::TempDir;

use crate::world::{GO, Module, Modules, Node, Setup, program, shared, words};

/// Somebody who gets programs: state and settings of their own, and a folder to put programs in.
struct User {
    home: TempDir,
}

impl User {
    fn new() -> User {
        let home = tempfile::tempdir().expect("a folder");
        fs::create_dir(home.path().join("bin")).expect("made");
        User { home }
    }

    fn bin(&self) -> PathBuf {
        self.home.path().join("bin")
    }

    fn get(&self, node: &Node, args: &[&str]) -> (Option<i32>, String, String) {
        self.get_with(node, &node.vkey, args)
    }

    fn get_with(&self, node: &Node, key: &str, args: &[&str]) -> (Option<i32>, String, String) {
        let mut command = program();
        command
            .args(["get", "--url", &format!("http://{}", node.address), "--key", key, "--goversion", GO, "-o"])
            .arg(self.bin())
            .args(args)
            .current_dir(self.home.path());
        for (name, folder) in [("HOME", ""), ("XDG_STATE_HOME", "state"), ("XDG_CONFIG_HOME", "config")] {
            command.env(name, self.home.path().join(folder));
        }
        words(&mut command)
    }

    /// Names of the files in the folder for programs.
    fn installed(&self) -> Vec<String> {
        let entries = fs::read_dir(self.bin()).expect("there").flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Files that hold heads.
    fn heads(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.home.path().join("state/sumpeer/heads")).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "json")).collect()
    }
}

#[test]
fn a_program_is_installed_and_runs() {
    let world = shared();
    world.modules.publish(&Module::command("get.example/hello", "v1.2.3"));
    let user = User::new();
    let (code, out, said) = user.get(&world.node, &["get.example/hello@v1.2.3"]);
    assert_eq!(code, Some(0), "{said}");
    let file = user.bin().join("hello");
    assert_eq!(out.trim_end(), file.to_string_lossy());
    assert_eq!(user.installed(), ["hello"], "and nothing else");
    assert_ne!(fs::metadata(&file).expect("there").permissions().mode() & 0o111, 0);
    let output = Command::new(&file).output().expect("it runs");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "get.example/hello v1.2.3\n");

    // A second look sees a log that goes on, and says what it found as JSON.
    let before = fs::read(&user.heads()[0]).expect("a head");
    world.modules.publish(&Module::command("get.example/hello", "v1.2.4"));
    let (code, out, said) = user.get(&world.node, &["--json", "get.example/hello@v1.2.4"]);
    assert_eq!(code, Some(0), "{said}");
    let answer: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let (_, sum, _) = words(program().arg("sum").arg(&file));
    assert_eq!(answer["sum"].as_str(), sum.split(' ').next());
    assert_eq!(answer["size"], fs::metadata(&file).expect("there").len());
    assert_eq!(user.heads().len(), 1);
    assert_ne!(fs::read(&user.heads()[0]).expect("a head"), before);

    // Without a version the newest is meant.
    let (code, out, _) = user.get(&world.node, &["--json", "get.example/hello"]);
    assert!(code == Some(0) && out.contains("get.example/hello@v1.2.4"), "{out}");

    // A sum that one knows from elsewhere.
    let sum = sum.split(' ').next().expect("a sum");
    let (code, ..) = user.get(&world.node, &["--sum", sum, "get.example/hello@v1.2.4"]);
    assert_eq!(code, Some(0));
    fs::remove_file(&file).expect("removed");
    let (code, _, said) = user.get(&world.node, &["--sum", "0AAAAAAAAAAAAAAAAAAAAAAAAAAA", "get.example/hello@v1.2.4"]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("0AAAAAAAAAAAAAAAAAAAAAAAAAAA") && said.contains(sum), "{said}");
    assert!(user.installed().is_empty());
}

#[test]
fn what_cannot_be_had_leaves_nothing() {
    let world = shared();
    world.modules.publish(
        &Module::new("lib.example/get", "v1.0.0")
            .file("go.mod", "module lib.example/get\n\ngo 1.21\n")
            .file("lib.go", "package lib\n"),
    );
    let user = User::new();
    for (package, says) in [("lib.example/get@v1.0.0", "not-main"), ("none.example/get@v1.0.0", "none.example/get")] {
        let (code, out, said) = user.get(&world.node, &[package]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{said}");
        assert!(said.contains(says), "{said}");
    }
    assert_eq!(user.get(&world.node, &["no module"]).0, Some(2));
    assert!(user.installed().is_empty());
}

#[test]
fn a_log_under_another_key_is_not_believed() {
    let world = shared();
    world.modules.publish(&Module::command("key.example/x", "v1.0.0"));
    let user = User::new();
    let strangers = [
        SignerKey::generate("node.example", [9; 32]).expect("a key").verifier().to_string(),
        SignerKey::generate("other.example", [7; 32]).expect("a key").verifier().to_string(),
    ];
    for key in &strangers {
        let (code, out, said) = user.get_with(&world.node, key, &["key.example/x@v1.0.0"]);
        assert_eq!((code, out.as_str()), (Some(3), ""), "{said}");
        assert!(said.contains("key") || said.contains("sign"), "{said}");
    }
    assert!(user.installed().is_empty() && user.heads().is_empty());
    assert_eq!(user.get_with(&world.node, "nonsense", &["key.example/x@v1.0.0"]).0, Some(2));
}

#[test]
fn a_log_that_began_anew_is_tampering() {
    // Two nodes with one key: to whoever saw the first, the second is a log that forgot or changed what it said.
    let modules = Modules::start();
    let (first, second) = (Setup::warm(&modules), Setup::warm(&modules));
    let build = |setup: &Setup, modules_of: &[&str]| {
        let node = setup.start();
        for module in modules_of {
            modules.publish(&Module::command(module, "v1.0.0"));
            let answer = node.lookup(&crate::world::spec(&format!("{module}@v1.0.0")));
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        node
    };
    let honest = build(&first, &["fork.example/a", "fork.example/b"]);
    let forked = build(&second, &["fork.example/b", "fork.example/c"]);
    assert_eq!(honest.vkey, forked.vkey);
    let user = User::new();
    assert_eq!(user.get(&honest, &["fork.example/b@v1.0.0"]).0, Some(0));
    fs::remove_file(user.bin().join("b")).expect("removed");
    let head = fs::read(&user.heads()[0]).expect("a head");
    for package in ["fork.example/b@v1.0.0", "fork.example/c@v1.0.0"] {
        let (code, out, said) = user.get(&forked, &[package]);
        assert_eq!((code, out.as_str()), (Some(3), ""), "{said}");
    }
    assert!(user.installed().is_empty());
    assert_eq!(fs::read(&user.heads()[0]).expect("a head"), head, "what was seen stays seen");
    assert_eq!(user.get(&honest, &["fork.example/a@v1.0.0"]).0, Some(0), "and the honest log is believed on");
}

#[test]
fn a_file_that_changed_on_disk_is_never_installed() {
    let modules = Modules::start();
    modules.publish(&Module::command("changed.example/x", "v1.0.0"));
    let setup = Setup::warm(&modules);
    let node = setup.start();
    let user = User::new();
    let (code, out, _) = user.get(&node, &["--json", "changed.example/x@v1.0.0"]);
    assert_eq!(code, Some(0));
    fs::remove_file(user.bin().join("x")).expect("removed");
    let answer: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let sum = answer["sum"].as_str().expect("a sum");
    let kept = setup.data.join("binaries").join(&sum[1..3]).join(format!("{sum}.gz"));
    let mut bytes = fs::read(&kept).expect("the binary");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&kept, bytes).expect("written");
    // The node notices while it sends, and builds the program again.
    let (code, _, said) = user.get(&node, &["changed.example/x@v1.0.0"]);
    if code == Some(0) {
        let (_, installed, _) = words(program().arg("sum").arg(user.bin().join("x")));
        assert!(installed.starts_with(sum), "{installed}");
    } else {
        assert!(matches!(code, Some(1 | 3)), "{code:?} {said}");
        assert!(user.installed().is_empty());
    }
}
