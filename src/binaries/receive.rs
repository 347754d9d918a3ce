//! Takes in a compressed binary as it comes from elsewhere: unpacked and hashed on the way, twice, and nothing of it
//! believed.
//!
//! What is kept is what came, so it has to be what this program writes itself: one gzip member and nothing after it.
//! Out of scope: where it comes from, and what it should be.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use bytes::Bytes;
use flate2::{Crc, Decompress, FlushDecompress, Status};
use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempPath};

use super::stage::{GZIP_HEADER, Hashing, Staged};
use crate::model::Sum;
use crate::store::BinaryRow;

/// Bytes unpacked at once, whatever they were packed to.
const CHUNK: usize = 128 << 10;
/// Such chunks that may wait to be hashed and written: bounds memory.
const AHEAD: usize = 4;
/// What follows the packed bytes: their CRC-32 and their length modulo 2^32 (RFC 1952, 2.3.1).
const TRAILER_BYTES: usize = 8;

/// Where unpacked bytes go.
type Chunks = mpsc::SyncSender<Vec<u8>>;

/// What came, in files that are gone when this is dropped.
pub struct Received {
    gz: File,
    path: TempPath,
    plain: File,
    header: Vec<u8>,
    /// Bytes as they came.
    pub gz_size: u64,
    /// Of the bytes as they came.
    pub gz_sha256: [u8; 32],
    /// Bytes that it unpacks to, as far as it was unpacked.
    pub size: u64,
    /// Of these bytes.
    pub sha256: [u8; 32],
    /// Why it is no compressed binary of at most the expected size.
    flaw: Option<String>,
}

/// The most bytes that a binary of this size takes compressed: what cannot be compressed grows by five bytes a block,
/// and blocks of less than 16 KiB nobody writes.
pub fn longest_gz(size: u64) -> u64 {
    size + size / 1024 + 4096
}

/// Takes in the pieces of a gz until there are no more. Unpacked are at most `size` bytes.
///
/// # Errors
/// This machine cannot keep it. What is wrong with the bytes is told by [`Received::check`].
pub fn receive(pieces: impl Iterator<Item = Bytes>, size: u64, staging: &Path) -> io::Result<Received> {
    let (gz, path) = NamedTempFile::new_in(staging)?.into_parts();
    let plain = tempfile::tempfile_in(staging)?;
    let (member, came, unpacked) = thread::scope(|scope| {
        // On a thread of its own, or hashing and unpacking would wait for each other.
        let (to, chunks) = mpsc::sync_channel(AHEAD);
        let plain = &plain;
        let keeper = scope.spawn(move || keep(plain, chunks));
        let mut member = Member::new(size);
        let mut sink = Hashing::new(scope, &gz);
        let fed = feed(pieces, &mut sink, &mut member, to);
        // A keeper that failed is why nobody took the chunks.
        let unpacked = keeper.join().map_err(|_| io::Error::other("the thread that writes panicked"))??;
        fed?;
        Ok::<_, io::Error>((member, sink.finish(), unpacked))
    })?;
    let (header, flaw) = (member.header, member.flaw);
    Ok(Received {
        gz,
        path,
        plain,
        header,
        gz_size: came.0,
        gz_sha256: came.1,
        size: unpacked.0,
        sha256: unpacked.1,
        flaw,
    })
}

impl Received {
    /// Whether it is the binary of this size and sum, and can be kept as it is.
    ///
    /// # Errors
    /// Why not, in a sentence.
    pub fn check(&self, size: u64, sum: &Sum) -> Result<(), String> {
        if let Some(flaw) = &self.flaw {
            return Err(flaw.clone());
        }
        let found = Sum::of_sha256(&self.sha256);
        if (self.size, found) == (size, *sum) {
            return Ok(());
        }
        Err(format!("it is {found} of {} bytes", self.size))
    }

    /// What it unpacks to, as far as it was unpacked.
    pub fn plain(&self) -> &File {
        &self.plain
    }

    /// The file that it is in as it came.
    pub fn gz_path(&self) -> &Path {
        &self.path
    }

    /// The file that it is in as it came.
    pub(super) fn into_gz(self) -> (File, TempPath) {
        (self.gz, self.path)
    }

    /// As it is kept, synced, and what it unpacks to. Only for what passed [`Received::check`].
    pub(super) fn stage(self) -> io::Result<(Staged, File)> {
        let Received { gz, path, plain, header, gz_size, mut gz_sha256, size, sha256, .. } = self;
        if header != GZIP_HEADER {
            // The time and system of whoever packed it say nothing of the binary.
            gz.write_all_at(&GZIP_HEADER, 0)?;
            gz_sha256 = hash(&path)?;
        }
        gz.sync_all()?;
        let row = BinaryRow { sum: Sum::of_sha256(&sha256), size, sha256, gz_size, gz_sha256, present: true };
        Ok((Staged { row, file: gz, path }, plain))
    }
}

fn hash(path: &Path) -> io::Result<[u8; 32]> {
    let (mut file, mut hasher) = (File::open(path)?, Sha256::new());
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hasher.finalize().into()),
            read => hasher.update(&chunk[..read]),
        }
    }
}

/// Writes what was unpacked; how much it was, and its SHA-256.
fn keep(mut file: &File, chunks: mpsc::Receiver<Vec<u8>>) -> io::Result<(u64, [u8; 32])> {
    let (mut hasher, mut size) = (Sha256::new(), 0);
    for chunk in chunks {
        hasher.update(&chunk);
        file.write_all(&chunk)?;
        size += chunk.len() as u64;
    }
    Ok((size, hasher.finalize().into()))
}

fn feed(
    pieces: impl Iterator<Item = Bytes>,
    sink: &mut Hashing<'_>,
    member: &mut Member,
    to: Chunks,
) -> io::Result<()> {
    let ended = |_| io::Error::other("the thread that writes has ended");
    for piece in pieces {
        // What turns out to be no gzip is still kept as it came: it may be evidence.
        sink.write_all(&piece)?;
        member.take(&piece, &to).map_err(ended)?;
    }
    member.end(&to).map_err(ended)
}

/// A gzip member (RFC 1952) without optional parts, as it comes.
struct Member {
    /// The first ten bytes, as far as they are there.
    header: Vec<u8>,
    inflate: Decompress,
    /// Unpacked, and not handed on yet.
    chunk: Vec<u8>,
    /// Whether all packed bytes are there.
    unpacked: bool,
    trailer: Vec<u8>,
    crc: Crc,
    /// Bytes that may still be unpacked.
    room: u64,
    flaw: Option<String>,
}

impl Member {
    fn new(size: u64) -> Member {
        Member {
            header: Vec::with_capacity(GZIP_HEADER.len()),
            inflate: Decompress::new(false),
            chunk: Vec::with_capacity(CHUNK),
            unpacked: false,
            trailer: Vec::with_capacity(TRAILER_BYTES),
            crc: Crc::new(),
            room: size,
            flaw: None,
        }
    }

    /// Goes on with the next bytes. An error means that nobody takes what is unpacked.
    fn take(&mut self, mut bytes: &[u8], to: &Chunks) -> Result<(), mpsc::SendError<Vec<u8>>> {
        fill(&mut self.header, GZIP_HEADER.len(), &mut bytes);
        if self.header.len() == GZIP_HEADER.len() && self.header[..4] != GZIP_HEADER[..4] {
            // Fields after the header are legal, but would be kept and served without being what anybody agreed on.
            self.flawed("it is no gzip of the form that nodes write");
        }
        while self.flaw.is_none() && !self.unpacked && !bytes.is_empty() {
            self.inflate(&mut bytes, to)?;
        }
        if self.flaw.is_none() {
            fill(&mut self.trailer, TRAILER_BYTES, &mut bytes);
            if !bytes.is_empty() {
                self.flawed("there are bytes after the end of the gzip");
            }
        }
        Ok(())
    }

    fn inflate(&mut self, bytes: &mut &[u8], to: &Chunks) -> Result<(), mpsc::SendError<Vec<u8>>> {
        let (taken, given) = (self.inflate.total_in(), self.chunk.len());
        let status = self.inflate.decompress_vec(bytes, &mut self.chunk, FlushDecompress::None);
        let taken = usize::try_from(self.inflate.total_in() - taken).unwrap_or(usize::MAX);
        *bytes = &bytes[taken..];
        let new = &self.chunk[given..];
        match status {
            Err(_) => self.flaw = Some("its packed bytes are damaged".to_owned()),
            Ok(Status::StreamEnd) => self.unpacked = true,
            Ok(_) if taken == 0 && new.is_empty() => self.flaw = Some("its packed bytes lead nowhere".to_owned()),
            Ok(_) => {}
        }
        let Some(room) = self.room.checked_sub(new.len() as u64) else {
            self.chunk.clear();
            self.flaw = Some("it unpacks to more than its size".to_owned());
            return Ok(());
        };
        self.room = room;
        self.crc.update(new);
        if self.chunk.len() == self.chunk.capacity() { self.ship(to) } else { Ok(()) }
    }

    fn ship(&mut self, to: &Chunks) -> Result<(), mpsc::SendError<Vec<u8>>> {
        to.send(std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK)))
    }

    /// There are no more bytes.
    fn end(&mut self, to: &Chunks) -> Result<(), mpsc::SendError<Vec<u8>>> {
        let wanted = [self.crc.sum().to_le_bytes(), self.crc.amount().to_le_bytes()].concat();
        if !self.unpacked || self.trailer.len() < TRAILER_BYTES {
            self.flawed("it ends before the end of the gzip");
        } else if self.trailer != wanted {
            self.flawed("its own checksum is wrong");
        }
        self.ship(to)
    }

    /// The first flaw is the one that counts.
    fn flawed(&mut self, flaw: &str) {
        self.flaw.get_or_insert_with(|| flaw.to_owned());
    }
}

/// Moves bytes until there are so many.
fn fill(part: &mut Vec<u8>, len: usize, bytes: &mut &[u8]) {
    let (taken, rest) = bytes.split_at(bytes.len().min(len - part.len()));
    part.extend_from_slice(taken);
    *bytes = rest;
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use proptest::prelude::*;

    use super::super::stage::stage;
    use super::*;

    /// Bytes that compress somewhat, and their gz as this program makes it.
    fn packed(size: usize) -> (Vec<u8>, Vec<u8>) {
        let folder = tempfile::tempdir().expect("a folder");
        let plain: Vec<u8> = (0..size).map(|i| u8::try_from((i / 3) * (i % 7) % 251).expect("below 251")).collect();
        let source = folder.path().join("source");
        std::fs::write(&source, &plain).expect("written");
        let path = folder.path().join("a/b.gz");
        stage(&source, folder.path()).expect("staged").place(&path).expect("placed");
        (plain, std::fs::read(&path).expect("there"))
    }

    fn take_in(gz: &[u8], piece: usize, size: u64, folder: &Path) -> Received {
        receive(gz.chunks(piece).map(Bytes::copy_from_slice), size, folder).expect("room on the disk")
    }

    fn sum(plain: &[u8]) -> Sum {
        Sum::of_sha256(&Sha256::digest(plain).into())
    }

    #[test]
    fn what_came_right_is_kept_as_it_came() {
        let folder = tempfile::tempdir().expect("a folder");
        for (size, piece) in [(0, 1), (1, 3), (5000, 1), (3 << 20, 16 << 10), (5 << 20, 10 << 20)] {
            let (plain, gz) = packed(size);
            let received = take_in(&gz, piece, size as u64, folder.path());
            received.check(size as u64, &sum(&plain)).expect("the right bytes");
            let (staged, mut file) = received.stage().expect("staged");
            assert_eq!((staged.row.gz_size, staged.row.size), (gz.len() as u64, size as u64));
            assert_eq!(staged.row.gz_sha256, <[u8; 32]>::from(Sha256::digest(&gz)));
            let mut kept = Vec::new();
            io::Seek::rewind(&mut file).expect("a file");
            file.read_to_end(&mut kept).expect("readable");
            assert!(kept == plain);
            let path = folder.path().join("kept/x.gz");
            staged.place(&path).expect("placed");
            assert!(std::fs::read(&path).expect("there") == gz);
        }
    }

    #[test]
    fn who_packed_it_and_when_is_not_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let (plain, gz) = packed(5000);
        let mut other = gz.clone();
        other[4..10].copy_from_slice(&[1, 2, 3, 4, 2, 3]);
        let received = take_in(&other, 100, 5000, folder.path());
        received.check(5000, &sum(&plain)).expect("the right bytes");
        let (staged, _) = received.stage().expect("staged");
        assert_eq!(staged.row.gz_sha256, <[u8; 32]>::from(Sha256::digest(&gz)));
        let path = folder.path().join("kept/x.gz");
        staged.place(&path).expect("placed");
        assert!(std::fs::read(&path).expect("there") == gz);
    }

    #[test]
    fn each_flaw_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let (plain, gz) = packed(50_000);
        let check = |gz: &[u8], wanted: &str| {
            for piece in [1, 7, 1 << 20] {
                let received = take_in(gz, piece, 50_000, folder.path());
                let flaw = received.check(50_000, &sum(&plain)).expect_err(wanted);
                assert!(flaw.contains(wanted), "{flaw}, not {wanted}");
                let kept = std::fs::read(received.gz_path()).expect("there");
                assert!(kept == gz && received.gz_sha256 == <[u8; 32]>::from(Sha256::digest(gz)), "kept as it came");
            }
        };
        check(b"", "ends before");
        check(b"not gzip at all", "no gzip");
        check(&[&gz[..3], &[8], &gz[4..]].concat(), "no gzip");
        check(&gz[..gz.len() - 1], "ends before");
        check(&gz[..gz.len() / 2], "ends before");
        check(&[&gz[..], &[0]].concat(), "after the end");
        check(&[&gz[..], &gz[..]].concat(), "after the end");
        let mut wrong = gz.clone();
        let at = wrong.len() - 6;
        wrong[at] ^= 1;
        check(&wrong, "checksum");
        check(&packed(50_001).1, "more than its size");
        check(&packed(49_999).1, "of 49999 bytes");
        // A thousand times its size, unpacked only as far as allowed.
        check(&packed(0).1, "of 0 bytes");
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        bomb.write_all(&vec![0; 60 << 20]).expect("in memory");
        let bomb = bomb.finish().expect("in memory");
        let bomb = [&GZIP_HEADER[..], &bomb[10..]].concat();
        let received = take_in(&bomb, 1000, 50_000, folder.path());
        assert!(received.check(50_000, &sum(&plain)).is_err() && received.size <= 50_000);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_changed_byte_passes(at: prop::sample::Index, flip in 1..=255u8, piece in 1..4000usize) {
            let folder = tempfile::tempdir().expect("a folder");
            let (plain, mut gz) = packed(20_000);
            let at = at.index(gz.len());
            gz[at] ^= flip;
            let received = take_in(&gz, piece, 20_000, folder.path());
            let passed = received.check(20_000, &sum(&plain)).is_ok();
            // Time, extra flags and system are no part of what was packed, nor are bits after the last packed one.
            prop_assert_eq!(passed, (4..10).contains(&at) || passed && at + TRAILER_BYTES + 1 == gz.len());
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), begin: bool) {
            let folder = tempfile::tempdir().expect("a folder");
            let gz = if begin { [&GZIP_HEADER[..], &bytes].concat() } else { bytes };
            let received = take_in(&gz, 13, 1000, folder.path());
            prop_assert!(received.size <= 1000);
        }

        #[test]
        fn the_longest_gz_is_long_enough(size in 0..70_000usize, seed: u64) {
            let plain: Vec<u8> = (0..size as u64)
                .map(|i| Sha256::digest((i ^ seed).to_le_bytes())[0])
                .collect();
            let folder = tempfile::tempdir().expect("a folder");
            let source = folder.path().join("source");
            std::fs::write(&source, &plain).expect("written");
            let staged = stage(&source, folder.path()).expect("staged");
            prop_assert!(staged.row.gz_size <= longest_gz(size as u64));
        }
    }
}
