//! Takes a finished binary in: hashed, compressed, synced, renamed into place.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempPath};

use crate::model::Sum;
use crate::store::BinaryRow;

/// Uncompressed bytes of a gzip member. A file of several members is one gzip file (RFC 1952, 2.2),
/// and members can be compressed side by side.
const MEMBER: usize = 2 << 20;
/// Compressing must not hold up the claim: a low level is several times faster than the default for some percent
/// of size.
const LEVEL: Compression = Compression::new(3);
/// Members that may be in work or waiting to be written: bounds memory.
const AHEAD: usize = 4;

/// A binary that is compressed but not yet in place.
pub(super) struct Staged {
    pub(super) row: BinaryRow,
    file: File,
    path: TempPath,
}

/// Hashes and compresses a file into a temporary one in `staging`.
pub(super) fn stage(source: &Path, staging: &Path) -> io::Result<Staged> {
    let mut source = File::open(source)?;
    let (file, path) = NamedTempFile::new_in(staging)?.into_parts();
    let mut sink = Hashing::new(&file);
    let (size, sha256) = compress(&mut source, &mut sink)?;
    let (gz_size, gz_sha256) = sink.finish();
    // Not to lose the bytes in a power cut after the claim about them is committed.
    file.sync_all()?;
    let row = BinaryRow {
        sum: Sum::of_sha256(&sha256),
        size,
        sha256,
        gz_size,
        gz_sha256,
        present: true,
    };
    Ok(Staged { row, file, path })
}

impl Staged {
    /// Renames it to its final place and syncs the folder.
    pub(super) fn place(self, path: &Path) -> anyhow::Result<BinaryRow> {
        let folder = path.parent().expect("binaries are kept in folders");
        if !folder.exists() {
            fs::create_dir_all(folder)?;
            sync_folder(
                folder
                    .parent()
                    .expect("folders of binaries are below the data directory"),
            )?;
        }
        self.path.persist(path)?;
        drop(self.file);
        sync_folder(folder)?;
        Ok(self.row)
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Compresses member by member on two threads while this one reads, hashes and writes. Returns size
/// and SHA-256 of what was read.
fn compress(source: &mut impl Read, sink: &mut impl Write) -> io::Result<(u64, [u8; 32])> {
    let mut hasher = Sha256::new();
    let mut size = 0;
    thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let (to, jobs) = mpsc::sync_channel::<Vec<u8>>(AHEAD);
                let (done, from) = mpsc::sync_channel::<io::Result<Vec<u8>>>(AHEAD);
                scope.spawn(move || {
                    for plain in jobs {
                        if done.send(member(&plain)).is_err() {
                            break;
                        }
                    }
                });
                (to, from)
            })
            .collect();
        let (mut given, mut taken) = (0usize, 0usize);
        let mut ended = false;
        while !ended || taken < given {
            if !ended && given - taken < AHEAD {
                let mut plain = Vec::with_capacity(MEMBER);
                source
                    .by_ref()
                    .take(MEMBER as u64)
                    .read_to_end(&mut plain)?;
                ended = plain.len() < MEMBER;
                // An empty file is one empty member.
                if !plain.is_empty() || given == 0 {
                    hasher.update(&plain);
                    size += plain.len() as u64;
                    workers[given % 2]
                        .0
                        .send(plain)
                        .map_err(|_| io::Error::other("a compressor ended"))?;
                    given += 1;
                }
            } else {
                let member = workers[taken % 2].1.recv();
                sink.write_all(&member.map_err(|_| io::Error::other("a compressor ended"))??)?;
                taken += 1;
            }
        }
        Ok((size, hasher.finalize().into()))
    })
}

fn member(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 2), LEVEL);
    encoder.write_all(plain)?;
    encoder.finish()
}

/// Counts and hashes what is written through it.
struct Hashing<'f> {
    file: &'f File,
    hasher: Sha256,
    size: u64,
}

impl<'f> Hashing<'f> {
    fn new(file: &'f File) -> Hashing<'f> {
        Hashing {
            file,
            hasher: Sha256::new(),
            size: 0,
        }
    }

    fn finish(self) -> (u64, [u8; 32]) {
        (self.size, self.hasher.finalize().into())
    }
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use flate2::read::MultiGzDecoder;

    use super::*;

    #[test]
    fn what_is_staged_unpacks_to_what_was_given() {
        let folder = tempfile::tempdir().expect("a folder");
        for size in [0, 1, MEMBER - 1, MEMBER, MEMBER + 1, 5 * MEMBER + 7] {
            let plain: Vec<u8> = (0..size)
                .map(|i| u8::try_from(i * i % 251).expect("below 251"))
                .collect();
            let source = folder.path().join("source");
            fs::write(&source, &plain).expect("written");
            let staged = stage(&source, folder.path()).expect("staged");
            assert_eq!(staged.row.size, size as u64);
            assert_eq!(staged.row.sha256, <[u8; 32]>::from(Sha256::digest(&plain)));
            let place = folder.path().join("a/b.gz");
            let row = staged.place(&place).expect("placed");
            let gz = fs::read(&place).expect("there");
            assert_eq!(
                (row.gz_size, row.gz_sha256),
                (gz.len() as u64, Sha256::digest(&gz).into())
            );
            let mut unpacked = Vec::new();
            MultiGzDecoder::new(gz.as_slice())
                .read_to_end(&mut unpacked)
                .expect("gzip");
            assert!(unpacked == plain, "size {size}");
        }
    }
}
