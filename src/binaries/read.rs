//! Reads a kept binary as a stream, whole or in part, compressed as kept or plain.
//!
//! What is read whole is hashed on the way, and its last piece is held back until the hash is
//! right: a disk that changed a bit gives a cut download, never a wrong one.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use futures_util::Stream;
use futures_util::stream::try_unfold;
use sha2::{Digest, Sha256};
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::error;

use super::Binaries;
use crate::store::BinaryRow;

/// Bytes handed out at once. Each of any number of downloads holds two such pieces: one on its way to the client, and
/// the one that is read meanwhile.
const CHUNK: usize = 64 << 10;

/// A binary that is on disk. It can be read for as long as this lives, even if it is evicted meanwhile.
#[derive(Clone)]
pub struct Stored {
    row: BinaryRow,
    gz: Arc<File>,
    /// What it unpacks to, if that is at hand.
    plain: Option<Arc<File>>,
    binaries: Binaries,
}

/// One download.
struct Download {
    source: Box<dyn Read + Send>,
    /// Bytes still to be dropped before the first that was asked for.
    skip: u64,
    /// Bytes still to be handed out.
    left: u64,
    /// What the whole should hash to, if the whole is read.
    check: Option<(Sha256, [u8; 32])>,
    row: BinaryRow,
    binaries: Binaries,
}

impl Stored {
    pub(super) fn new(row: BinaryRow, gz: File, binaries: Binaries) -> Stored {
        Stored { row, gz: Arc::new(gz), plain: None, binaries }
    }

    /// The same with what it unpacks to.
    pub(super) fn unpacked(mut self, plain: File) -> Stored {
        self.plain = Some(Arc::new(plain));
        self
    }

    /// Its sizes and hashes.
    pub fn row(&self) -> &BinaryRow {
        &self.row
    }

    /// The file as it is kept, from `start`, `len` bytes of it. An item is an error if it cannot be read or is not what
    /// was put there.
    pub fn gz(&self, start: u64, len: u64) -> impl Stream<Item = io::Result<Bytes>> + use<> {
        let whole = (start, len) == (0, self.row.gz_size);
        let source = At { file: self.gz.clone(), offset: start };
        self.download(Box::new(source), 0, len, whole.then_some(self.row.gz_sha256))
    }

    /// The binary itself, from `start`, `len` bytes of it, and errors as for [`Stored::gz`].
    pub fn plain(&self, start: u64, len: u64) -> impl Stream<Item = io::Result<Bytes>> + use<> {
        let whole = (start, len) == (0, self.row.size);
        let expected = whole.then_some(self.row.sha256);
        match &self.plain {
            Some(plain) => self.download(Box::new(At { file: plain.clone(), offset: start }), 0, len, expected),
            None => {
                let gz = At { file: self.gz.clone(), offset: 0 };
                self.download(Box::new(MultiGzDecoder::new(gz)), start, len, expected)
            }
        }
    }

    fn download(
        &self,
        source: Box<dyn Read + Send>,
        skip: u64,
        left: u64,
        expected: Option<[u8; 32]>,
    ) -> impl Stream<Item = io::Result<Bytes>> + use<> {
        let check = expected.map(|hash| (Sha256::new(), hash));
        let download = Download { source, skip, left, check, row: self.row.clone(), binaries: self.binaries.clone() };
        try_unfold(Next::of(download), async |next| {
            let Next::Reading(reading) = next else {
                return Ok(None);
            };
            let (download, piece) = reading.await.map_err(io::Error::other)?;
            match piece {
                Ok(piece) => Ok(Some((piece, Next::of(download)))),
                Err(error) => {
                    download.distrust(&error).await;
                    Err(error)
                }
            }
        })
    }
}

/// What a stream does while its reader is busy with the piece before.
enum Next {
    Reading(JoinHandle<(Download, io::Result<Bytes>)>),
    Done,
}

impl Next {
    fn of(mut download: Download) -> Next {
        if download.left == 0 {
            return Next::Done;
        }
        Next::Reading(spawn_blocking(move || {
            let piece = download.read();
            (download, piece)
        }))
    }
}

impl Download {
    /// The next piece of what was asked for.
    fn read(&mut self) -> io::Result<Bytes> {
        let skipped = io::copy(&mut self.source.by_ref().take(self.skip), &mut io::sink())?;
        self.skip -= skipped;
        let len = self.left.min(CHUNK as u64);
        let mut piece = Vec::with_capacity(CHUNK);
        if self.skip > 0 || self.source.by_ref().take(len).read_to_end(&mut piece)? as u64 != len {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than it should be"));
        }
        self.left -= len;
        if let Some((hasher, expected)) = &mut self.check {
            hasher.update(&piece);
            if self.left == 0 && <[u8; 32]>::from(hasher.clone().finalize()) != *expected {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "its bytes have changed on disk"));
            }
        }
        Ok(piece.into())
    }

    /// A file that is not what was put there counts as evicted: it is had anew when next asked for.
    async fn distrust(self, error: &io::Error) {
        error!(sum = %self.row.sum, "a kept binary cannot be read whole and counts as evicted: {error}");
        if let Err(error) = self.binaries.evict(vec![self.row.clone()]).await {
            error!("cannot note that a binary is unusable: {error:#}");
        }
    }
}

/// Reads a file at a place of its own: other readers of the same open file move theirs.
struct At {
    file: Arc<File>,
    offset: u64,
}

impl Read for At {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buf, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}
