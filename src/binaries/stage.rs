//! Takes a finished binary in: hashed, compressed, synced, renamed into place.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::mpsc;
use std::thread::{self, Scope};

use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempPath};

use crate::model::Sum;
use crate::store::BinaryRow;

/// Uncompressed bytes of a piece. Pieces are compressed side by side, each to whole bytes of one
/// deflate stream; several gzip members would be simpler, but not every client reads more than one.
const PIECE: usize = 2 << 20;
/// Deflate, no flags, no time, no extra flags, an unknown system.
pub(super) const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// Compressing must not hold up the claim: a low level is several times faster than the default for some percent
/// of size.
const LEVEL: Compression = Compression::new(2);
/// Bytes between two syncs while the file is written: the disk works while the processors do.
const SYNC_EVERY: u64 = 2 << 20;
/// Pieces that may be in work or waiting to be written: bounds memory.
const AHEAD: usize = 4;

/// A binary that is compressed but not yet in place.
pub(super) struct Staged {
    pub(super) row: BinaryRow,
    pub(super) file: File,
    pub(super) path: TempPath,
}

/// Hashes and compresses a file into a temporary one in `staging`.
pub(super) fn stage(source: &Path, staging: &Path) -> io::Result<Staged> {
    let mut source = File::open(source)?;
    let (file, path) = NamedTempFile::new_in(staging)?.into_parts();
    let (size, sha256, gz_size, gz_sha256) = thread::scope(|scope| {
        let mut sink = Hashing::new(scope, &file);
        let (size, sha256) = compress(&mut source, &mut sink)?;
        let (gz_size, gz_sha256) = sink.finish();
        Ok::<_, io::Error>((size, sha256, gz_size, gz_sha256))
    })?;
    // Not to lose the bytes in a power cut after the claim about them is committed.
    file.sync_all()?;
    let row = BinaryRow { sum: Sum::of_sha256(&sha256), size, sha256, gz_size, gz_sha256, present: true };
    Ok(Staged { row, file, path })
}

impl Staged {
    /// Renames it to its final place and syncs the folder.
    pub(super) fn place(self, path: &Path) -> anyhow::Result<BinaryRow> {
        let folder = path.parent().expect("binaries are kept in folders");
        if !folder.exists() {
            fs::create_dir_all(folder)?;
            sync_folder(folder.parent().expect("folders of binaries are below the data directory"))?;
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

/// Compresses on two threads while this one reads, hashes and writes. Returns size and SHA-256 of what
/// was read. The output is one gzip member (RFC 1952) without name or time.
fn compress(source: &mut impl Read, sink: &mut impl Write) -> io::Result<(u64, [u8; 32])> {
    let ended = || io::Error::other("a compressor ended");
    let mut hasher = Sha256::new();
    let mut crc = Crc::new();
    let mut size = 0;
    sink.write_all(&GZIP_HEADER)?;
    thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let (to, jobs) = mpsc::sync_channel::<(Vec<u8>, bool)>(AHEAD);
                let (done, from) = mpsc::sync_channel(AHEAD);
                scope.spawn(move || {
                    for (plain, last) in jobs {
                        if done.send(deflate(&plain, last)).is_err() {
                            break;
                        }
                    }
                });
                (to, from)
            })
            .collect();
        let (mut given, mut taken) = (0, 0);
        let mut last = false;
        while !last || taken < given {
            if !last && given - taken < AHEAD {
                let mut plain = Vec::with_capacity(PIECE);
                source.by_ref().take(PIECE as u64).read_to_end(&mut plain)?;
                last = plain.len() < PIECE;
                hasher.update(&plain);
                size += plain.len() as u64;
                workers[given % 2].0.send((plain, last)).map_err(|_| ended())?;
                given += 1;
            } else {
                let (bytes, of_piece) = workers[taken % 2].1.recv().map_err(|_| ended())??;
                sink.write_all(&bytes)?;
                crc.combine(&of_piece);
                taken += 1;
            }
        }
        Ok::<_, io::Error>(())
    })?;
    sink.write_all(&crc.sum().to_le_bytes())?;
    // The size is kept modulo 2^32, as the format has it.
    sink.write_all(&crc.amount().to_le_bytes())?;
    Ok((size, hasher.finalize().into()))
}

/// Deflates a piece. All but the last end at a byte with nothing held back, so that the next can follow.
fn deflate(plain: &[u8], last: bool) -> io::Result<(Vec<u8>, Crc)> {
    let mut crc = Crc::new();
    crc.update(plain);
    let flush = if last { FlushCompress::Finish } else { FlushCompress::Sync };
    let mut compress = Compress::new(LEVEL, false);
    let mut bytes = Vec::with_capacity(plain.len() / 2 + 64);
    loop {
        let read = usize::try_from(compress.total_in()).map_err(io::Error::other)?;
        let room = bytes.capacity();
        let status = compress.compress_vec(&plain[read..], &mut bytes, flush).map_err(io::Error::other)?;
        // A flush is complete once it leaves room in the output.
        if status == Status::StreamEnd || (!last && bytes.len() < room) {
            return Ok((bytes, crc));
        }
        bytes.reserve(PIECE / 4);
    }
}

/// Counts and hashes what is written through it.
pub(super) struct Hashing<'f> {
    file: &'f File,
    /// To the thread that syncs ahead.
    sync: mpsc::SyncSender<()>,
    hasher: Sha256,
    size: u64,
}

impl<'f> Hashing<'f> {
    /// Begins a file, with a thread that syncs ahead for as long as this lives.
    pub(super) fn new<'s>(scope: &'s Scope<'s, '_>, file: &'f File) -> Hashing<'f>
    where
        'f: 's,
    {
        let (sync, wanted) = mpsc::sync_channel(1);
        // Only a head start: what it has not written, or failed to write, the last sync tells of.
        scope.spawn(move || wanted.into_iter().try_for_each(|()| file.sync_data()));
        Hashing { file, sync, hasher: Sha256::new(), size: 0 }
    }

    /// How many bytes it were, and their SHA-256.
    pub(super) fn finish(self) -> (u64, [u8; 32]) {
        (self.size, self.hasher.finalize().into())
    }
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        let before = self.size / SYNC_EVERY;
        self.size += written as u64;
        if self.size / SYNC_EVERY > before {
            // One that waits is enough.
            let _ = self.sync.try_send(());
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn what_is_staged_unpacks_to_what_was_given() {
        let folder = tempfile::tempdir().expect("a folder");
        for size in [0, 1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE + 7] {
            let plain: Vec<u8> = (0..size).map(|i| u8::try_from(i * i % 251).expect("below 251")).collect();
            let source = folder.path().join("source");
            fs::write(&source, &plain).expect("written");
            let staged = stage(&source, folder.path()).expect("staged");
            assert_eq!(staged.row.size, size as u64);
            assert_eq!(staged.row.sha256, <[u8; 32]>::from(Sha256::digest(&plain)));
            let place = folder.path().join("a/b.gz");
            let row = staged.place(&place).expect("placed");
            let gz = fs::read(&place).expect("there");
            assert_eq!((row.gz_size, row.gz_sha256), (gz.len() as u64, Sha256::digest(&gz).into()));
            let mut unpacked = Vec::new();
            GzDecoder::new(gz.as_slice()).read_to_end(&mut unpacked).expect("gzip");
            assert!(unpacked == plain, "size {size}");
        }
    }
}
