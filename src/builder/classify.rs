//! What the go command's words mean: a finding about the module, or trouble of the moment.
//!
//! One table, matched against real samples of Go 1.17, 1.21 and 1.27 in
//! `tests/data/go-messages.txt`. What no row knows is [`Reading::Temporary`]: a claim is for ever,
//! so it is never made on a guess.
//!
//! Out of scope: time, memory and size limits, which the caller sees for itself ([`super::run`]).

mod table;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use crate::model::{Class, Spec};
use table::{Meaning, NEW_IN_STD, TABLE};

/// What a failed run says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It cannot be built, today or ever.
    Cannot { class: Class, detail: String },
    /// A module or version that does not exist, or not yet.
    NotFound { detail: String },
    /// Nothing about the module: worth another try.
    Temporary { detail: String },
}

/// Files looked at for cgo, and bytes of each: an import stands near the top.
const CGO_FILES: usize = 500;
const CGO_BYTES: u64 = 256 << 10;

/// Reads the output of a go command that failed, or that made no program.
///
/// `path` finds a file of the build's home by the name the go command has for it.
pub fn classify<'a>(spec: &Spec, output: &str, path: impl Fn(&Path) -> Option<std::path::PathBuf> + 'a) -> Reading {
    let lines: Vec<&str> = output.lines().filter(|line| !is_chatter(line)).collect();
    for (needle, meaning) in TABLE {
        if let Some(at) = lines.iter().position(|line| line.contains(needle)) {
            return read(spec, &lines, at, *meaning, &path);
        }
    }
    if let Some(at) = missing_package(&lines) {
        return cannot(Class::NoSuchPackage, detail(&lines, at));
    }
    if let Some(at) = lines.iter().position(|line| is_source_error(line)) {
        return cannot(Class::SourceError, detail(&lines, at));
    }
    // `# package` and what the compiler, assembler or linker has to say of it.
    if let Some(at) = lines.iter().position(|line| line.starts_with("# ")) {
        let package = lines[at].trim_start_matches("# ");
        let words = lines.get(at + 1).map_or("", |line| line.trim());
        return cannot(Class::SourceError, format!("{package}: {words}"));
    }
    Reading::Temporary {
        detail: match lines.last() {
            Some(line) => format!("the go command failed in a way this node does not know: {}", line.trim()),
            None => "the go command failed without a word".to_owned(),
        },
    }
}

/// Why a go command that succeeded left no program: `go get` before Go 1.18 is content with a
/// library. `package` is the package's folder in the module cache.
pub fn no_program(package: &Path) -> Reading {
    let files = go_files(package);
    if files.is_empty() {
        return cannot(Class::NoSuchPackage, "there are no Go files in the package".to_owned());
    }
    let main = files
        .iter()
        .any(|file| any_line(file, |line| line.trim_end() == "package main" || line.starts_with("package main ")));
    if !main {
        return cannot(Class::NotMain, "the package is a library, not a command".to_owned());
    }
    excluded(Some(package), "build constraints exclude all Go files of the package".to_owned())
}

fn read(
    spec: &Spec,
    lines: &[&str],
    at: usize,
    meaning: Meaning,
    path: &impl Fn(&Path) -> Option<std::path::PathBuf>,
) -> Reading {
    let words = detail(lines, at);
    let newer = |own: bool| {
        if own { Class::NeedsNewerGo } else { Class::ImportNeedsNewerGo }
    };
    match meaning {
        Meaning::Is(class) => cannot(class, words),
        Meaning::NotFound => Reading::NotFound { detail: words },
        Meaning::Temporary => Reading::Temporary { detail: words },
        Meaning::Excluded => {
            let folder = lines[at].split("all Go files in ").nth(1).map(|folder| Path::new(folder.trim()));
            excluded(folder.and_then(path).as_deref(), words)
        }
        Meaning::NewerGo => cannot(newer(is_own(spec, lines, at)), words),
        Meaning::GoLine => {
            let version = lines[at].split(": invalid go version '").nth(1).unwrap_or_default();
            let version = version.split('\'').next().unwrap_or_default();
            // `1.23.0` and `1.23rc1` mean something since Go 1.21.
            let newer_form = version.parse::<f32>().is_err()
                && version.chars().all(|c| c.is_ascii_digit() || c == '.' || "rcbeta".contains(c))
                && version.starts_with("1.2");
            if newer_form { cannot(newer(is_own(spec, lines, at)), words) } else { cannot(Class::SourceError, words) }
        }
        Meaning::NotInStd => {
            let end = lines[at].find(" is not in ").unwrap_or(lines[at].len());
            let name = lines[at][..end].rsplit(' ').next().unwrap_or_default();
            if NEW_IN_STD.contains(&name) {
                cannot(newer(is_own(spec, lines, at)), words)
            } else {
                cannot(Class::SourceError, words)
            }
        }
    }
}

/// Whether the line speaks of the module being built, and not of one it imports.
fn is_own(spec: &Spec, lines: &[&str], at: usize) -> bool {
    let module = spec.module.as_str();
    let own_package =
        |name: &str| name.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let exact = format!("{module}@{}", spec.version);
    let line = lines[at];
    if line.contains("note: module requires Go ") {
        let header = lines[..at].iter().rev().find_map(|line| line.strip_prefix("# "));
        return header.is_some_and(|name| own_package(name.trim()));
    }
    if line.contains(" is not in ") {
        let before = lines[..at].last().and_then(|line| line.trim().strip_suffix(" imports"));
        return match before {
            Some(importer) if line.starts_with(char::is_whitespace) => own_package(importer),
            _ => line.contains(&format!("mod/{}@{}/", spec.module.escaped(), spec.version.escaped())),
        };
    }
    if line.contains(" requires go >= ") {
        return line.contains(&format!("{exact} requires go >= "));
    }
    line.contains(&exact)
        && !line.contains(" requires ")
        && !lines[..at].last().is_some_and(|line| line.contains(" requires"))
}

/// The class of a package of which no file is left.
fn excluded(folder: Option<&Path>, detail: String) -> Reading {
    let cgo = folder.is_some_and(|folder| {
        go_files(folder).iter().any(|file| {
            any_line(file, |line| {
                let line = line.trim();
                line == "import \"C\"" || line == "\"C\"" || line.starts_with("import \"C\" ")
            })
        })
    });
    cannot(if cgo { Class::Cgo } else { Class::BuildConstraints }, detail)
}

/// The Go files of a folder that are no tests, at most [`CGO_FILES`].
fn go_files(folder: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = folder.read_dir() else {
        return Vec::new();
    };
    entries
        .take(CGO_FILES)
        .flatten()
        .map(|entry| entry.path())
        .filter(|file| {
            let name = file.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
            name.ends_with(".go") && !name.ends_with("_test.go")
        })
        .collect()
}

fn any_line(file: &Path, wanted: impl Fn(&str) -> bool) -> bool {
    let Ok(file) = File::open(file) else {
        return false;
    };
    BufReader::new(file.take(CGO_BYTES)).lines().map_while(Result::ok).any(|line| wanted(&line))
}

fn cannot(class: Class, detail: String) -> Reading {
    Reading::Cannot { class, detail }
}

/// Lines that are said in success too.
fn is_chatter(line: &str) -> bool {
    const DEPRECATION: &[&str] = &[
        "go get: installing executables with 'go get' in module mode is deprecated.",
        "\tUse 'go install pkg@version' instead.",
        "\tFor more information, see https://golang.org/doc/go-get-install-deprecation",
        "\tor run 'go help get' or 'go help install'.",
    ];
    line.trim().is_empty()
        || line.starts_with("go: downloading ")
        || line.starts_with("go: finding module for package ")
        || DEPRECATION.contains(&line)
}

/// `go: m/dir@v: module m@v found, but does not contain package m/dir`; with a source position in
/// front it speaks of an import.
fn missing_package(lines: &[&str]) -> Option<usize> {
    lines.iter().position(|line| {
        line.starts_with("go") && line.contains(" found") && line.contains(", but does not contain package ")
    })
}

/// `mod/m@v/file.go:1:2: words`, also indented below the chain of imports that leads there.
fn is_source_error(line: &str) -> bool {
    let Some((file, rest)) = line.split_once(".go:") else {
        return false;
    };
    let file = file.trim_start();
    file.starts_with("mod/") && !file.contains(' ') && rest.starts_with(|c: char| c.is_ascii_digit())
}

/// The line without the go command's own name in front, and where it says only half, the next.
fn detail(lines: &[&str], at: usize) -> String {
    let strip = |line: &str| {
        let line = line.trim();
        ["go: ", "go get: ", "go get ", "cmd/go: "]
            .iter()
            .find_map(|prefix| line.strip_prefix(prefix))
            .unwrap_or(line)
            .to_owned()
    };
    let mut text = strip(lines[at]);
    // What begins a sentence that goes on below, or ends one that began above.
    if text.ends_with(':') || text.ends_with("is:") || text.contains("declares its path as") {
        for next in lines.iter().skip(at + 1).take(2) {
            text.push(' ');
            text.push_str(next.trim());
        }
    } else if lines[at].starts_with(char::is_whitespace) && at > 0 {
        text = format!("{} {text}", strip(lines[at - 1]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Real output, a section each: `=== spec => expected`, the lines, `---`.
    const SAMPLES: &str = include_str!("../../tests/data/go-messages.txt");

    #[test]
    fn every_sample_is_read_as_it_says() {
        let folders = tempfile::tempdir().unwrap();
        for name in ["cgo", "cgolib"] {
            let folder = folders.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join("main.go"), "package main\n\nimport \"C\"\n").unwrap();
        }
        let find = |path: &Path| {
            let name = path.file_name()?.to_str()?.split('@').next()?;
            Some(folders.path().join(name))
        };
        let mut wrong = String::new();
        let mut count = 0;
        for section in SAMPLES.split("=== ").skip(1) {
            let (head, rest) = section.split_once('\n').unwrap();
            let (spec, expected) = head.split_once(" => ").unwrap();
            let output = rest.split("\n---").next().unwrap();
            let got = match classify(&spec.parse().unwrap(), output, find) {
                Reading::Cannot { class, detail } => {
                    assert!(!detail.is_empty() && !detail.contains('\n'), "{detail}");
                    class.to_string()
                }
                Reading::NotFound { .. } => "not-found".to_owned(),
                Reading::Temporary { .. } => "temporary".to_owned(),
            };
            count += 1;
            if got != expected {
                wrong += &format!("{head}: {got}\n");
            }
        }
        assert_eq!(wrong, "");
        assert!(count > 100, "only {count} samples");
    }

    #[test]
    fn a_crash_is_never_a_claim() {
        let spec: Spec = "example.com/ok@v1.0.0/linux-amd64-go1.27.1/".parse().unwrap();
        for output in [
            "runtime/cgo: pthread_create failed: Operation not permitted\nSIGABRT: abort\n\ngoroutine 1 [running]:\n\
             runtime.main()\n\t/usr/local/go/src/runtime/proc.go:174 +0x7b\n",
            "# example.com/ok\nfatal error: runtime: cannot map pages in arena address space\n",
            "# example.com/ok\n/go/pkg/tool/linux_amd64/compile: signal: killed\n",
            "panic: runtime error\n\ngoroutine 1 [running]:\nmain.main()\n\tmod/x.go:174 +0x7b\n",
        ] {
            let reading = classify(&spec, output, |_| None);
            assert!(matches!(reading, Reading::Temporary { .. }), "{output:?}: {reading:?}");
        }
    }

    #[test]
    fn the_unknown_is_never_a_claim() {
        let spec: Spec = "example.com/ok@v1.0.0/linux-amd64-go1.27.1/".parse().unwrap();
        for output in ["", "go: downloading example.com/ok v1.0.0", "panic: something new", "\u{0}\u{1}"] {
            let reading = classify(&spec, output, |_| None);
            assert!(matches!(reading, Reading::Temporary { .. }), "{output:?}: {reading:?}");
        }
    }
}
