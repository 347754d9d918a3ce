//! Pairs of real programs, each built in two ways by the go command: what is said of how they differ.
//!
//! The programs are of modules in folders, so nothing is fetched but what the go command itself lacks.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use sumpeer::evidence::buildinfo::BuildInfo;
use sumpeer::evidence::image::{Content, Image};
use sumpeer::evidence::{Class, Comparison, compare};

/// A program that uses a module beside it.
struct Program {
    folder: tempfile::TempDir,
}

impl Program {
    fn new() -> Program {
        let program = Program { folder: tempfile::tempdir().unwrap() };
        program.write("dep/go.mod", "module example.com/dep\n\ngo 1.21\n");
        program.write("dep/dep.go", "package dep\n\nvar Word = \"hello\"\n");
        let go_mod =
            "module example.com/m\n\ngo 1.21\n\nrequire example.com/dep v1.0.0\n\nreplace example.com/dep => ../dep\n";
        program.write("m/go.mod", go_mod);
        program.main(7, "you");
        program
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A number in an instruction, and a text in the data.
    fn main(&self, number: u32, name: &str) {
        let text = format!(
            "package main\n\nimport (\n\t\"fmt\"\n\n\t\"example.com/dep\"\n)\n\n//go:noinline\nfunc number(n int) int {{ return n*3 + {number} }}\n\nvar name = {name:?}\n\nfunc main() {{ fmt.Println(dep.Word, name, number(len(name))) }}\n"
        );
        self.write("m/main.go", &text);
    }

    fn build(&self, target: &str, args: &[&str]) -> Built {
        let (goos, goarch) = target.split_once('/').unwrap();
        let path = self.folder.path().join(format!("built-{}", fs::read_dir(self.folder.path()).unwrap().count()));
        let output = Command::new("go")
            .arg("build")
            .args(args)
            .arg("-o")
            .arg(&path)
            .arg(".")
            .current_dir(self.folder.path().join("m"))
            .envs([
                ("CGO_ENABLED", "0"),
                ("GOOS", goos),
                ("GOARCH", goarch),
                ("GOFLAGS", "-mod=mod"),
                ("GOWORK", "off"),
            ])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Built { path }
    }
}

struct Built {
    path: PathBuf,
}

impl Built {
    fn file(&self) -> File {
        File::open(&self.path).unwrap()
    }

    fn is_stripped(&self) -> bool {
        let file = self.file();
        let content = Content::new(&file).unwrap();
        Image::read(&content).unwrap().is_stripped(&content).unwrap()
    }

    fn against(&self, other: &Built) -> Comparison {
        let started = Instant::now();
        let found = compare(&self.file(), &other.file()).unwrap().expect("they differ");
        eprintln!("{} in {:?}", found.summary(), started.elapsed());
        let back = compare(&other.file(), &self.file()).unwrap().expect("they differ");
        assert_eq!((back.class, back.differing_bytes), (found.class, found.differing_bytes));
        assert!(compare(&self.file(), &self.file()).unwrap().is_none());
        found
    }
}

const RELEASE: [&str; 2] = ["-trimpath", "-ldflags=-buildid="];

/// One change at a time, on every format that has one.
fn classes(target: &str) {
    let program = Program::new();
    let plain = program.build(target, &RELEASE);
    let names = |comparison: &Comparison| match &comparison.symbols {
        Some(symbols) => symbols.first.iter().map(|pair| pair.name.clone()).collect(),
        None => Vec::new(),
    };
    assert!(compare(&plain.file(), &program.build(target, &RELEASE).file()).unwrap().is_none(), "{target} reproduces");

    let named = program.build(target, &["-trimpath", "-ldflags=-buildid=abcdefghij"]);
    let renamed = program.build(target, &["-trimpath", "-ldflags=-buildid=0123456789"]);
    let found = named.against(&renamed);
    assert_eq!(found.class, Class::BuildIdOnly, "{target} {found:#?}");
    assert_eq!(found.binaries.map(|binary| binary.build_id.unwrap()), ["abcdefghij", "0123456789"]);

    let stripped = program.build(target, &["-trimpath", "-ldflags=-buildid= -s"]);
    assert_eq!([&plain, &stripped].map(Built::is_stripped), [false, true], "{target}");
    let found = plain.against(&stripped);
    assert_eq!(found.class, Class::Size, "{target} {found:#?}");

    let untrimmed = program.build(target, &["-ldflags=-buildid="]);
    let found = plain.against(&untrimmed);
    assert_eq!(found.class, Class::Paths, "{target} {found:#?}");
    let paths = found.paths.unwrap();
    assert!(paths.only[0] == paths.only[1] && paths.first[1].iter().any(|path| Path::new(path).is_absolute()));

    program.main(8, "you");
    let other_code = program.build(target, &RELEASE);
    let found = plain.against(&other_code);
    assert_eq!(found.class, Class::Code, "{target} {found:#?}");
    if !target.starts_with("plan9") {
        let symbols = found.symbols.as_ref().unwrap();
        assert!(
            symbols.counts[0] > 1000 && names(&found).iter().any(|name| name.contains("main.number")),
            "{found:#?}"
        );
    }

    program.main(7, "we!");
    let other_data = program.build(target, &RELEASE);
    let found = plain.against(&other_data);
    // Plan 9 has its texts among the code.
    let expected = if target.starts_with("plan9") { Class::Code } else { Class::Data };
    assert_eq!(found.class, expected, "{target} {found:#?}");

    program.main(7, "you");
    let tagged = program.build(target, &["-trimpath", "-ldflags=-buildid=", "-tags=other"]);
    let found = plain.against(&tagged);
    assert_eq!(found.class, Class::BuildInfo, "{target} {found:#?}");
    let tables = found.tables(["ours", "theirs"]);
    let inputs = tables.iter().find(|table| table.title.contains("say of their builds")).unwrap();
    assert_eq!(inputs.rows, [["-tags", "", "other"]]);
}

#[test]
fn elf_programs() {
    classes("linux/amd64");
}

#[test]
fn windows_programs() {
    classes("windows/amd64");
}

#[test]
fn macos_programs() {
    classes("darwin/arm64");
}

#[test]
fn plan9_programs() {
    classes("plan9/amd64");
}

/// Formats that are read as far as they go.
#[test]
fn other_formats_have_an_answer() {
    let program = Program::new();
    let build = |target, format: &str| {
        let built = program.build(target, &RELEASE);
        let file = built.file();
        let content = Content::new(&file).unwrap();
        let image = Image::read(&content).unwrap();
        assert_eq!(image.format, format);
        let info = BuildInfo::read(&content, &image);
        assert_eq!(info.is_ok(), format != "wasm", "{target}: {info:?}");
        built
    };
    let before = [build("aix/ppc64", "xcoff"), build("wasip1/wasm", "wasm"), build("linux/s390x", "elf")];
    program.main(8, "you");
    for (target, before) in ["aix/ppc64", "wasip1/wasm", "linux/s390x"].into_iter().zip(before) {
        let found = before.against(&program.build(target, &RELEASE));
        assert_eq!(found.class, Class::Code, "{target} {found:#?}");
    }
}
