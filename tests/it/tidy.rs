//! The rules of the house that a program can check.

use std::fs;
use std::path::{Path, PathBuf};

/// Each module may import only those before it.
const LAYERS: &[&str] = &[
    "model", "tlog", "quorum", "tasks", "metrics", "store", "log", "binaries", "evidence", "alert", "goproxy", "sumdb",
    "builder", "peer", "tally", "audit", "web", "config", "node", "cli",
];

/// Lines a file may have; a longer one says why in its first lines, with the words below.
const LONGEST: usize = 500;
const REASON: &str = "Long because";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a folder, but for what git does not track.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the project") {
            let path = entry.expect("readable").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("a plain name");
            match (path.is_dir(), name) {
                (true, "target" | ".git" | "data") if path.parent() != Some(&root().join("tests")) => {}
                (true, _) => folders.push(path),
                // In a worktree `.git` is a file that says where the repository is.
                (false, ".git") => {}
                (false, _) => found.push(path),
            }
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<(PathBuf, String)> {
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("text");
        (path.strip_prefix(root()).expect("below the root").to_owned(), text)
    };
    files(&root().join("src"))
        .into_iter()
        .chain(files(&root().join("tests")))
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(read)
        .collect()
}

fn complain(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn imports_point_one_way() {
    let mut problems = Vec::new();
    for (path, text) in sources() {
        let Ok(inside) = path.strip_prefix("src") else {
            continue;
        };
        let own = inside.iter().next().and_then(|name| name.to_str()).expect("a name").trim_end_matches(".rs");
        let Some(layer) = LAYERS.iter().position(|name| *name == own) else {
            assert!(matches!(own, "lib" | "main"), "{}: no layer is called {own}", path.display());
            continue;
        };
        // What tests import is theirs to choose.
        if inside.iter().any(|name| name == "tests" || name == "tests.rs") {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (name, rest) in code.match_indices("crate::").map(|(at, found)| {
            let rest = &code[at + found.len()..];
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            (&rest[..end], &code[..at])
        }) {
            // Doc links may point anywhere.
            let line = rest.rsplit('\n').next().unwrap_or_default().trim_start();
            let at = LAYERS.iter().position(|layer| *layer == name);
            if !line.starts_with("//") && at.is_some_and(|at| at > layer) {
                problems.push(format!("{}: `{own}` must not import `{name}`", path.display()));
            }
        }
    }
    complain(&problems);
}

#[test]
fn only_the_log_appends() {
    let mut problems = Vec::new();
    for (path, text) in sources() {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let allowed = ["src/log.rs", "src/store/trees.rs", "src/store/tests.rs", "tests/it/tidy.rs"];
        if code.contains("append_entry(") && !allowed.iter().any(|file| path.ends_with(file)) {
            problems.push(format!("{}: only src/log.rs may append entries", path.display()));
        }
    }
    complain(&problems);
}

#[test]
fn files_are_short_and_open_with_what_they_are_for() {
    let mut problems = Vec::new();
    for (path, text) in sources() {
        let shown = path.display();
        if path.file_name().is_some_and(|name| name == "mod.rs") {
            problems.push(format!("{shown}: foo.rs beside foo/, never mod.rs"));
        }
        let lines = text.lines().count();
        if lines > LONGEST && !text.lines().take(12).any(|line| line.contains(REASON)) {
            problems.push(format!("{shown}: {lines} lines and no reason given"));
        }
        let fuzz_target = path.starts_with("tests/fuzz");
        if !text.starts_with("//!") && !fuzz_target {
            problems.push(format!("{shown}: does not say what it is for"));
        }
    }
    complain(&problems);
}

#[test]
fn nothing_names_a_registry_or_a_machine() {
    // Put together here, so that this file does not name them either.
    let hosts: Vec<String> = [
        ("proxy.", "golang.org"),
        ("index.", "golang.org"),
        ("index.", "crates.io"),
        ("static.", "crates.io"),
        ("goproxy.", "io"),
        ("goproxy.", "cn"),
    ]
    .map(|(a, b)| format!("{a}{b}"))
    .into();
    let homes = [concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/wo", "rk/")];
    let mut problems = Vec::new();
    for path in files(root()) {
        let data = path.starts_with(root().join("tests/data")) || path.ends_with("Cargo.lock");
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        let shown = path.strip_prefix(root()).expect("below the root").display();
        for (number, line) in (1..).zip(text.lines()) {
            if hosts.iter().any(|host| line.contains(host.as_str())) {
                problems.push(format!("{shown}:{number}: names the host of a registry"));
            }
            if !data && homes.iter().any(|home| line.contains(home)) {
                problems.push(format!("{shown}:{number}: names a place on somebody's machine"));
            }
        }
    }
    complain(&problems);
}
