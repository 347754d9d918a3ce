//! `h1:` hashes of file sets and of zip files, as in Go's `golang.org/x/mod/sumdb/dirhash`.
//!
//! An `h1:` hash is the SHA-256 of one line per file, `<hex SHA-256 of the content>  <name>\n`, in byte order of the
//! names. A zip's entries all count, those for directories too (as empty files).
//!
//! Out of scope: what names a module or a toolchain may hold; who unpacks checks that.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use anyhow::{Context as _, ensure};
use data_encoding::{BASE64, HEXLOWER};
use sha2::{Digest as _, Sha256};
use zip::ZipReadOptions;
use zip::read::{Config, ZipFileEntry};
use zip::unstable::read::ZipIterable;

/// What a zip may cost us, whatever it says of itself.
#[derive(Clone, Copy, Debug)]
pub struct ZipLimits {
    /// Entries, directories included.
    pub files: usize,
    /// Bytes of all files together, uncompressed.
    pub bytes: u64,
}

impl ZipLimits {
    /// Of a module: 500 MiB uncompressed as in Go's `module/zip` (`MaxZipFile`), and more files than any has.
    pub const MODULE: ZipLimits = ZipLimits { files: 200_000, bytes: 500 << 20 };
    /// Of a Go toolchain: they have about 15,000 files and 260 MiB, and grow.
    pub const TOOLCHAIN: ZipLimits = ZipLimits { files: 100_000, bytes: 2 << 30 };
}

/// Bytes of an entry's name: what Linux takes for a whole path.
const NAME_LIMIT: usize = 4096;

/// The `h1:` hash of a set of files, each a name and its content. The order does not matter.
///
/// # Errors
/// If a name holds a newline, which could pass for a line of its own.
pub fn hash1<N: AsRef<[u8]>, C: AsRef<[u8]>>(files: impl IntoIterator<Item = (N, C)>) -> anyhow::Result<String> {
    let lines = files.into_iter().map(|(name, content)| (name.as_ref().to_vec(), Sha256::digest(content).into()));
    hash1_of_sums(lines.collect())
}

/// As [`hash1`], of files whose contents' SHA-256 are known.
///
/// # Errors
/// If a name holds a newline.
pub fn hash1_of_sums(mut files: Vec<(Vec<u8>, [u8; 32])>) -> anyhow::Result<String> {
    files.sort();
    let mut hash = Sha256::new();
    for (name, sum) in &files {
        ensure!(
            !name.contains(&b'\n'),
            "a file name with a newline cannot be hashed: {:?}",
            String::from_utf8_lossy(name)
        );
        hash.update(HEXLOWER.encode(sum));
        hash.update(b"  ");
        hash.update(name);
        hash.update(b"\n");
    }
    Ok(format!("h1:{}", BASE64.encode(&hash.finalize())))
}

/// The `h1:` hash of a module's zip file. Blocks: call it where blocking is allowed.
///
/// Of entries with one name the last counts for all of them, as in Go.
///
/// # Errors
/// If the file is no zip, is damaged, is larger than [`ZipLimits::MODULE`], or has a name with a newline.
pub fn hash_zip(path: &Path) -> anyhow::Result<String> {
    let entries = entries(path, ZipLimits::MODULE)?;
    let mut file = open(path)?;
    let mut budget = ZipLimits::MODULE.bytes;
    let mut last = HashMap::new();
    let mut names = Vec::with_capacity(entries.len());
    for entry in entries {
        let name = entry.name_raw().to_vec();
        let sum = copy_entry(entry, &mut file, &mut budget, &mut io::sink())?;
        last.insert(name.clone(), sum);
        names.push(name);
    }
    let sums = names.into_iter().map(|name| {
        let sum = last[&name];
        (name, sum)
    });
    hash1_of_sums(sums.collect())
}

/// The entries of a zip, in its own order.
///
/// # Errors
/// If it is no zip, or has more entries or longer names than are allowed.
pub fn entries(path: &Path, limits: ZipLimits) -> anyhow::Result<Vec<ZipFileEntry<'static>>> {
    let mut zip = ZipIterable::try_new(open(path)?, Config::default()).context("not a zip file")?;
    // Checked before anything of that number is allocated.
    ensure!(
        zip.len() <= limits.files,
        "the zip file has {} entries, more than the {} allowed",
        zip.len(),
        limits.files
    );
    let mut entries = Vec::with_capacity(zip.len());
    for entry in zip.files().context("the zip file's directory cannot be read")? {
        let entry = entry.context("the zip file's directory is damaged")?;
        ensure!(entry.name_raw().len() <= NAME_LIMIT, "the zip file has a name of more than {NAME_LIMIT} bytes");
        entries.push(entry);
    }
    Ok(entries)
}

/// Copies one entry's content to `to`, takes its size off `budget`, and returns its SHA-256.
///
/// # Errors
/// If the content is damaged, not of the size the directory says, or more than `budget`.
pub fn copy_entry(
    entry: ZipFileEntry<'static>,
    zip: &mut (impl Read + io::Seek),
    budget: &mut u64,
    to: &mut impl Write,
) -> anyhow::Result<[u8; 32]> {
    let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
    let damaged = || format!("the zip file's entry {name:?} is damaged");
    let size = entry.size();
    ensure!(size <= *budget, "the zip file's content is larger than allowed, at entry {name:?}");
    let mut content = entry.with_reader(zip, ZipReadOptions::new()).with_context(damaged)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    let mut done = 0_u64;
    loop {
        let n = content.read(&mut buffer).with_context(damaged)?;
        if n == 0 {
            break;
        }
        done += n as u64;
        // The directory may lie about the size: the budget counts what really comes.
        ensure!(done <= size, "the zip file's entry {name:?} is larger than its directory says");
        hash.update(&buffer[..n]);
        to.write_all(&buffer[..n]).with_context(|| format!("cannot write {name:?}"))?;
    }
    ensure!(done == size, "the zip file's entry {name:?} is shorter than its directory says");
    *budget -= done;
    Ok(hash.finalize().into())
}

fn open(path: &Path) -> anyhow::Result<BufReader<File>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(BufReader::with_capacity(32 << 10, file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn vectors() -> Value {
        serde_json::from_str(include_str!("../../tests/data/dirhash.json")).unwrap()
    }

    fn bytes(value: &Value, key: &str) -> Vec<u8> {
        match value[format!("{key}_base64")].as_str() {
            Some(text) => BASE64.decode(text.as_bytes()).unwrap(),
            None => value[key].as_str().unwrap_or_default().as_bytes().to_vec(),
        }
    }

    fn check(case: &Value, got: anyhow::Result<String>) {
        let about = &case["about"];
        match got {
            Ok(hash) => assert_eq!(Some(hash.as_str()), case["hash"].as_str(), "{about}"),
            Err(error) => assert!(case["error"].is_string(), "{about}: {error:#}"),
        }
    }

    #[test]
    fn file_sets_have_the_hash_go_gives_them() {
        let vectors = vectors();
        let cases = vectors["hash1"].as_array().unwrap();
        assert!(cases.len() > 20);
        for case in cases {
            let files = case["files"].as_array().unwrap();
            check(case, hash1(files.iter().map(|file| (bytes(file, "name"), bytes(file, "content")))));
        }
    }

    #[test]
    fn zip_files_have_the_hash_go_gives_them() {
        let vectors = vectors();
        let cases = vectors["zip"].as_array().unwrap();
        assert!(cases.len() > 5);
        for case in cases {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), BASE64.decode(case["zip"].as_str().unwrap().as_bytes()).unwrap()).unwrap();
            check(case, hash_zip(file.path()));
        }
    }

    fn a_zip() -> Vec<u8> {
        let vectors = vectors();
        BASE64.decode(vectors["zip"][0]["zip"].as_str().unwrap().as_bytes()).unwrap()
    }

    #[test]
    fn a_truncated_zip_is_refused() {
        let whole = a_zip();
        let file = tempfile::NamedTempFile::new().unwrap();
        for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
            std::fs::write(file.path(), &whole[..cut]).unwrap();
            assert!(hash_zip(file.path()).is_err(), "cut at {cut}");
        }
    }

    proptest! {
        /// A damaged zip is refused or has another hash, unless the damage is where no content is; it never panics.
        #[test]
        fn damage_never_panics(at in any::<proptest::sample::Index>(), byte: u8) {
            let mut zip = a_zip();
            let at = at.index(zip.len());
            zip[at] = byte;
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &zip).unwrap();
            let _ = hash_zip(file.path());
        }
    }
}
