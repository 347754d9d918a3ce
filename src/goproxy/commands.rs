//! Which folders of a module hold commands, by a look into its zip.
//!
//! Only names things: what really builds, the go command decides. A folder counts if
//! one of its Go files, tests and ignored ones aside, begins with `package main`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use anyhow::Context;
use zip::ZipArchive;

use crate::model::{Dir, ModulePath, Version};

/// Files in a zip that are looked at.
const FILES_LIMIT: usize = 200_000;
/// Bytes of a file's beginning in which its package clause has to be. Licence texts come first.
const HEAD_LIMIT_BYTES: u64 = 64 << 10;
/// Commands that are named.
const COMMANDS_LIMIT: usize = 1000;

/// The folders that hold commands, in the order of their names.
///
/// # Errors
/// The zip cannot be read, or has more files than any module.
pub fn commands(file: &File, size: u64, module: &ModulePath, version: &Version) -> anyhow::Result<Vec<Dir>> {
    let mut zip =
        ZipArchive::new(BufReader::new(At { file, size, offset: 0 })).context("the module's zip cannot be read")?;
    anyhow::ensure!(zip.len() <= FILES_LIMIT, "the module has {} files", zip.len());
    let prefix = format!("{module}@{version}/");
    let mut files: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for number in 0..zip.len() {
        let Some(Ok(name)) = zip.name_for_index(number) else {
            continue;
        };
        let Some(name) = name.strip_prefix(&prefix) else {
            continue;
        };
        let (folder, name) = name.rsplit_once('/').unwrap_or(("", name));
        if is_source(name) && folder.split('/').all(is_folder) {
            files.entry(folder.to_owned()).or_default().push(number);
        }
    }
    let mut found = Vec::new();
    for (folder, numbers) in files {
        let Ok(dir) = Dir::new(&folder) else { continue };
        if found.len() < COMMANDS_LIMIT && is_command(&mut zip, &numbers)? {
            found.push(dir);
        }
    }
    Ok(found)
}

fn is_source(name: &str) -> bool {
    name.ends_with(".go") && !name.ends_with("_test.go") && !name.starts_with(['_', '.'])
}

/// Folders that `./...` leaves out have no commands for others, and neither has what is vendored.
fn is_folder(element: &str) -> bool {
    !element.starts_with(['_', '.']) && !matches!(element, "testdata" | "vendor")
}

/// Decided by the first file that is not ignored.
fn is_command<R: Read + Seek>(zip: &mut ZipArchive<R>, numbers: &[usize]) -> anyhow::Result<bool> {
    for number in numbers {
        let mut head = Vec::new();
        let file = zip.by_index(*number).context("a file of the module's zip cannot be read")?;
        file.take(HEAD_LIMIT_BYTES).read_to_end(&mut head).context("a file of the module's zip is broken")?;
        match package(&String::from_utf8_lossy(&head)) {
            Some("main") => return Ok(true),
            Some(_) => return Ok(false),
            None => {}
        }
    }
    Ok(false)
}

/// The package that a Go file belongs to; none if it is left out of all builds, or is no Go file.
fn package(source: &str) -> Option<&str> {
    let mut rest = source.trim_start_matches('\u{feff}');
    loop {
        rest = rest.trim_start();
        if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.split_once("*/")?.1;
        } else if rest.starts_with("//") {
            let (line, after) = rest.split_once('\n')?;
            if ["//go:build ignore", "// +build ignore"].contains(&line.trim_end()) {
                return None;
            }
            rest = after;
        } else {
            break;
        }
    }
    let rest = rest.strip_prefix("package")?;
    let name = rest.trim_start();
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
    (name.len() < rest.len() && end > 0).then_some(&name[..end])
}

/// Reads a file at a place of its own: other readers of the same open file move theirs.
struct At<'f> {
    file: &'f File,
    size: u64,
    offset: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buf, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

impl Seek for At<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(place) => Some(place),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.offset.checked_add_signed(by),
        };
        self.offset = place.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.offset)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;
    use zip::write::{SimpleFileOptions, ZipWriter};

    use super::*;

    fn of(files: &[(&str, &str)]) -> Vec<String> {
        let mut zip = ZipWriter::new(tempfile::tempfile().unwrap());
        for (name, text) in files {
            zip.start_file(format!("example.com/M@v1.0.0/{name}"), SimpleFileOptions::default()).unwrap();
            zip.write_all(text.as_bytes()).unwrap();
        }
        let file = zip.finish().unwrap();
        let size = file.metadata().unwrap().len();
        let module = "example.com/M".parse().unwrap();
        let found = commands(&file, size, &module, &"v1.0.0".parse().unwrap()).unwrap();
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn finds_commands() {
        let found = of(&[
            ("go.mod", "module example.com/M"),
            ("lib.go", "package m"),
            ("lib_test.go", "package main"),
            ("cmd/a/a.go", "// Copyright\n\n/* A. */\npackage main\n\nfunc main() {}"),
            ("cmd/b/doc.go", "//go:build ignore\n\npackage doc"),
            ("cmd/b/main.go", "\u{feff}package\tmain // the command"),
            ("cmd/c/gen.go", "// +build ignore\n\npackage main"),
            ("cmd/d/main_test.go", "package main"),
            ("cmd/e/package.go", "packagemain"),
            ("cmd/f/f.go", "package mainly"),
            ("internal/g/g.go", "package main"),
            ("testdata/h/h.go", "package main"),
            ("_x/i.go", "package main"),
            ("vendor/v.example/j/j.go", "package main"),
            ("k/_k.go", "package main"),
            ("l/l.txt", "package main"),
        ]);
        assert_eq!(found, ["/cmd/a", "/cmd/b", "/internal/g"]);
        assert_eq!(of(&[("main.go", "package main")]), ["/"]);
        assert!(of(&[]).is_empty());
    }

    #[test]
    fn a_broken_zip_is_an_error() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"PK no zip").unwrap();
        let module = "example.com/m".parse().unwrap();
        assert!(commands(&file, 9, &module, &"v1.0.0".parse().unwrap()).is_err());
    }

    proptest! {
        #[test]
        fn no_source_panics(source in ".{0,60}", comments in "(//|/\\*|\\*/|\n| |package|main){0,12}") {
            package(&source);
            package(&comments);
        }
    }
}
