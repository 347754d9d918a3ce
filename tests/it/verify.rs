//! `sumpeer verify` against a node: programs on disk that are what its log has, and others.

use std::fs;
use std::path::Path;

use sumpeer::model::Target;
use tempfile::TempDir;

use crate::world::{GO, Module, program, shared, words};

/// Runs a command as somebody with state and settings of their own.
fn run(home: &TempDir, args: &[&str]) -> (Option<i32>, String, String) {
    let node = &shared().node;
    let mut command = program();
    command.arg(args[0]).args(["--url", &format!("http://{}", node.address), "--key", &node.vkey]).args(&args[1..]);
    for (name, folder) in [("HOME", ""), ("XDG_STATE_HOME", "state"), ("XDG_CONFIG_HOME", "config")] {
        command.env(name, home.path().join(folder));
    }
    words(command.current_dir(home.path()))
}

#[test]
fn programs_on_disk_are_what_the_log_has_or_not() {
    let world = shared();
    world.modules.publish(&Module::command("verify.example/hello", "v1.2.3"));
    let home = tempfile::tempdir().expect("a folder");
    let get = |name: &str, more: &[&str]| {
        let args = [&["get", "--goversion", GO, "-o", name, "verify.example/hello@v1.2.3"], more].concat();
        let (code, _, said) = run(&home, &args);
        assert_eq!(code, Some(0), "{said}");
    };
    get("plain", &[]);
    get("stripped", &["--stripped"]);
    let (code, out, said) = run(&home, &["verify", "plain", "stripped"]);
    assert_eq!(code, Some(0), "{out}{said}");
    let host = Target::host();
    let target = format!("{}-{}", host.goos(), host.goarch());
    let lines = [("plain", ""), ("stripped", "-stripped")]
        .map(|(name, variant)| format!("match  {name}  verify.example/hello@v1.2.3/{target}-{GO}{variant}/\n"));
    assert_eq!(out, lines.concat());

    let change = |from: &str, to: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(home.path().join(from)).expect("there");
        change(&mut bytes);
        fs::write(home.path().join(to), bytes).expect("written");
    };
    change("plain", "changed", &|bytes| {
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
    });
    change("plain", "longer", &|bytes| bytes.push(0));
    for name in ["changed", "longer"] {
        let (code, out, _) = run(&home, &["verify", "--json", name]);
        assert_eq!(code, Some(3), "{name}: {out}");
        let line: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!((&line["result"], &line["file"]), (&"differs".into(), &name.into()));
        assert_ne!(line["sum"], line["record"]["sum"]);
    }
    fs::write(home.path().join("text"), "#!/bin/sh\n").expect("written");
    let (code, out, said) = run(&home, &["verify", "text", "none", "plain"]);
    assert_eq!((code, out.lines().count()), (Some(1), 3), "{out}{said}");
    assert!(out.starts_with("unknown  text\nunknown  none\nmatch  plain") && said.contains("unknown format"), "{said}");
    assert_eq!(run(&home, &["verify", "text", "longer"]).0, Some(3), "the worst is told");

    // Another key: nothing that the node says counts.
    let stranger = "a.example+8d24f969+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop";
    let url = format!("http://{}", world.node.address);
    let verify = |args: &[&str]| words(program().arg("verify").args(args).env("HOME", home.path()).current_dir(&home));
    let (code, _, said) = verify(&["--url", &url, "--key", stranger, "plain"]);
    assert!(code == Some(3) || code == Some(2), "{said}");
    assert_eq!(verify(&["--url", &url, "plain"]).0, Some(2));
    assert!(Path::new(&home.path().join("state/sumpeer/heads")).exists());
}
