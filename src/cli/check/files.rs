//! Checks the files of a node against the rows about them.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};

use super::Report;
use crate::binaries;
use crate::goproxy;
use crate::store::{BinaryRow, ReadOnly};

/// Unpacks and hashes every binary that should be there, and looks for files that no row names.
pub(super) fn check_binaries(store: &ReadOnly, data: &Path, report: &mut Report) -> anyhow::Result<()> {
    let folder = data.join("binaries");
    // Files first: a running node puts a file in place before its row, and takes the row away before the file.
    let files = list(&folder)?;
    let rows = store.read(|reader| reader.present_binaries(usize::MAX))?;
    let mut bytes = 0;
    for row in &rows {
        bytes += row.gz_size;
        if let Err(problem) = check_binary(&folder, row) {
            // It may just have been evicted.
            let sum = row.sum;
            if store.read(|reader| reader.binary(&sum))?.is_some_and(|row| row.present) {
                report.problem(format!("the binary {sum} {problem}"));
            }
        }
    }
    let known: HashSet<PathBuf> = rows.iter().map(|row| binaries::path(&folder, &row.sum)).collect();
    let strays = files.difference(&known).filter(|file| file.exists()).count();
    let strays = if strays == 0 { String::new() } else { format!(", {strays} files to be removed at the next start") };
    report.checked.push(format!("binaries: {} present, {bytes} bytes{strays}", rows.len()));
    Ok(())
}

/// Hashes every kept file of the module proxy.
pub(super) fn check_modules(store: &ReadOnly, data: &Path, report: &mut Report) -> anyhow::Result<()> {
    let rows = store.read(|reader| reader.oldest_module_files(usize::MAX))?;
    for row in &rows {
        let path = goproxy::kept_path(data, &row.hash);
        let problem = match File::open(&path).and_then(hash) {
            Ok((size, hash)) if (size, hash) == (row.size, row.hash) => continue,
            Ok(_) => "has changed on disk".to_owned(),
            Err(error) => format!("cannot be read: {error}"),
        };
        let path = row.path.clone();
        if store.read(|reader| reader.module_file(&path))?.is_some() {
            report.problem(format!("the module file {path} {problem}"));
        }
    }
    report.checked.push(format!("module files: {}", rows.len()));
    Ok(())
}

fn check_binary(folder: &Path, row: &BinaryRow) -> Result<(), String> {
    let open = || File::open(binaries::path(folder, &row.sum)).map_err(|error| format!("cannot be opened: {error}"));
    let read = |result: io::Result<_>| result.map_err(|error| format!("cannot be read: {error}"));
    if read(hash(open()?))? != (row.gz_size, row.gz_sha256) {
        return Err("is not the file that was put there".to_owned());
    }
    if read(hash(MultiGzDecoder::new(open()?)))? != (row.size, row.sha256) {
        return Err("does not unpack to what its sum names".to_owned());
    }
    Ok(())
}

fn hash(mut file: impl Read) -> io::Result<(u64, [u8; 32])> {
    let mut hasher = Sha256::new();
    let mut size = 0;
    let mut chunk = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok((size, hasher.finalize().into()));
        }
        hasher.update(&chunk[..read]);
        size += read as u64;
    }
}

fn list(folder: &Path) -> io::Result<HashSet<PathBuf>> {
    let mut files = HashSet::new();
    if folder.is_dir() {
        for shard in fs::read_dir(folder)? {
            for file in fs::read_dir(shard?.path())? {
                files.insert(file?.path());
            }
        }
    }
    Ok(files)
}
