//! Unpacks a toolchain's zip, and works out its hash on the way.
//!
//! Out of scope: whether the hash is right. Nothing that comes from here may be run before that is known.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::BufReader;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, ensure};
use zip::read::ZipFileEntry;

use crate::sumdb::dirhash::{ZipLimits, copy_entry, entries, hash1_of_sums};

/// More than this wins nothing: the disk is next.
const MAX_THREADS: usize = 4;

/// Unpacks the files of `zip`, whose names all start with `prefix`, into the new folder `into`. Returns the zip's hash.
///
/// Zips hold `_go.mod` where a toolchain has `go.mod`, and no execute bits: both as in Go's `cmd/go/internal/toolchain`.
pub(super) fn unpack(zip: &Path, into: &Path, prefix: &str) -> anyhow::Result<String> {
    let entries = entries(zip, ZipLimits::TOOLCHAIN)?;
    let bytes = entries.iter().try_fold(0_u64, |sum, entry| sum.checked_add(entry.size()));
    ensure!(
        bytes.is_some_and(|bytes| bytes <= ZipLimits::TOOLCHAIN.bytes),
        "its content is larger than {} bytes",
        ZipLimits::TOOLCHAIN.bytes
    );
    let places = entries.iter().map(|entry| place(entry, prefix)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut seen = HashSet::new();
    for place in &places {
        ensure!(seen.insert(&place.path), "two files are named {}", place.path.display());
    }
    fs::create_dir(into)?;
    let folders: HashSet<&Path> = places.iter().filter_map(|place| place.path.parent()).collect();
    for folder in folders {
        fs::create_dir_all(into.join(folder))?;
    }
    let queue = Mutex::new(entries.into_iter().zip(&places));
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    let work = || {
        let mut zip = BufReader::with_capacity(64 << 10, File::open(zip)?);
        let mut sums = Vec::new();
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((entry, place)) = next else {
                return anyhow::Ok(sums);
            };
            let name = entry.name_raw().to_vec();
            // As large as its directory entry says, or refused; the sum of these was checked above.
            let mut budget = entry.size();
            let mut file = place.create(into)?;
            let sum = copy_entry(entry, &mut zip, &mut budget, &mut file)?;
            sums.push((name, sum));
        }
    };
    let parts = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| Err(anyhow::anyhow!("unpacking panicked"))))
            .collect::<anyhow::Result<Vec<_>>>()
    })?;
    hash1_of_sums(parts.into_iter().flatten().collect())
}

/// Where an entry goes.
struct Place {
    /// Below the toolchain's folder.
    path: PathBuf,
    executable: bool,
}

fn place(entry: &ZipFileEntry<'_>, prefix: &str) -> anyhow::Result<Place> {
    let name = std::str::from_utf8(entry.name_raw()).context("a file name is not UTF-8")?;
    let inner = name.strip_prefix(prefix).with_context(|| format!("the file {name:?} is not below {prefix:?}"))?;
    let clean = inner.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && !inner.contains(|c: char| c == '\\' || c == ':' || c.is_control());
    ensure!(clean, "the file name {name:?} is not allowed in a toolchain");
    ensure!(!entry.is_symlink(), "the file {name:?} is a link");
    let path = match inner.strip_suffix("_go.mod") {
        Some(folder) if folder.is_empty() || folder.ends_with('/') => format!("{folder}go.mod"),
        _ => inner.to_owned(),
    };
    Ok(Place { executable: path.starts_with("bin/") || path.starts_with("pkg/tool/"), path: path.into() })
}

impl Place {
    fn create(&self, into: &Path) -> anyhow::Result<File> {
        let mode = if self.executable { 0o755 } else { 0o644 };
        // `create_new` follows no link and takes no second file of one name.
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(into.join(&self.path))
            .with_context(|| format!("cannot make {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    use zip::write::SimpleFileOptions;

    fn zip_of(files: &[(&str, &str)]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut zip = zip::ZipWriter::new(file.reopen().unwrap());
        for (name, content) in files {
            match content.strip_prefix("-> ") {
                Some(target) => zip.add_symlink(*name, target, SimpleFileOptions::default()).unwrap(),
                None => {
                    zip.start_file(*name, SimpleFileOptions::default()).unwrap();
                    zip.write_all(content.as_bytes()).unwrap();
                }
            }
        }
        zip.finish().unwrap();
        file
    }

    #[test]
    fn files_are_in_place_and_the_hash_is_the_zips() {
        let files = [
            ("p@v/bin/go", "go"),
            ("p@v/pkg/tool/x/compile", "c"),
            ("p@v/src/_go.mod", "module std\n"),
            ("p@v/src/not_go.mod", "x"),
        ];
        let zip = zip_of(&files);
        let dir = tempfile::tempdir().unwrap();
        let into = dir.path().join("go");
        let hash = unpack(zip.path(), &into, "p@v/").unwrap();
        assert_eq!(hash, crate::sumdb::hash_zip(zip.path()).unwrap());
        let mode = |path: &str| fs::metadata(into.join(path)).unwrap().permissions().mode() & 0o111;
        assert_ne!(mode("bin/go"), 0);
        assert_ne!(mode("pkg/tool/x/compile"), 0);
        assert_eq!(mode("src/go.mod"), 0);
        assert_eq!(fs::read_to_string(into.join("src/go.mod")).unwrap(), "module std\n");
        assert!(into.join("src/not_go.mod").exists());
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        for files in [
            vec![("q@v/bin/go", "")],
            vec![("p@v/../x", "")],
            vec![("p@v//x", "")],
            vec![("p@v/", "")],
            vec![("p@v/a\\b", "")],
            vec![("/etc/passwd", "")],
            vec![("p@v/link", "-> /etc/passwd")],
            vec![("p@v/a/_go.mod", "1"), ("p@v/a/go.mod", "2")],
            vec![("p@v/a", "1"), ("p@v/a/b", "2")],
        ] {
            let zip = zip_of(&files);
            let dir = tempfile::tempdir().unwrap();
            assert!(unpack(zip.path(), &dir.path().join("go"), "p@v/").is_err(), "{files:?}");
        }
    }
}
