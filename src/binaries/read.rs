//! Reads a kept binary as a stream, whole or in part, compressed as kept or plain.
//!
//! What is read whole is hashed on the way, and its last piece is held back until the hash is
//! right: a disk that changed a bit gives a cut download, never a wrong one.

use std::io::{self, SeekFrom, Write};
use std::path::PathBuf;

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use futures_util::Stream;
use futures_util::stream::try_unfold;
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tracing::error;

use super::Binaries;
use crate::store::BinaryRow;

/// Bytes read from disk at once. Small, because what they unpack to is held in memory, for each
/// of any number of downloads.
const CHUNK: usize = 16 << 10;

/// A binary that is on disk.
pub struct Stored {
    row: BinaryRow,
    path: PathBuf,
    binaries: Binaries,
}

/// One download.
struct Download {
    file: File,
    /// Unpacks, if the plain form was asked for.
    decoder: Option<MultiGzDecoder<Vec<u8>>>,
    /// Plain or compressed bytes still to be dropped before the first that was asked for.
    skip: u64,
    /// Bytes still to be handed out.
    left: u64,
    /// What the whole should hash to, if the whole is read.
    check: Option<(Sha256, [u8; 32])>,
    row: BinaryRow,
    binaries: Binaries,
}

impl Stored {
    pub(super) fn new(row: BinaryRow, path: PathBuf, binaries: Binaries) -> Stored {
        Stored { row, path, binaries }
    }

    /// Its sizes and hashes.
    pub fn row(&self) -> &BinaryRow {
        &self.row
    }

    /// The file as it is kept, from `start`, `len` bytes of it.
    ///
    /// # Errors
    /// The file cannot be opened; later, that it cannot be read or is not what was put there.
    pub async fn gz(&self, start: u64, len: u64) -> io::Result<impl Stream<Item = io::Result<Bytes>> + use<>> {
        let mut file = File::open(&self.path).await?;
        file.seek(SeekFrom::Start(start)).await?;
        let whole = (start, len) == (0, self.row.gz_size);
        Ok(self.download(file, None, 0, len, whole.then_some(self.row.gz_sha256)))
    }

    /// The binary itself, from `start`, `len` bytes of it.
    ///
    /// # Errors
    /// As for [`Stored::gz`].
    pub async fn plain(&self, start: u64, len: u64) -> io::Result<impl Stream<Item = io::Result<Bytes>> + use<>> {
        let file = File::open(&self.path).await?;
        let decoder = MultiGzDecoder::new(Vec::new());
        let whole = (start, len) == (0, self.row.size);
        Ok(self.download(file, Some(decoder), start, len, whole.then_some(self.row.sha256)))
    }

    fn download(
        &self,
        file: File,
        decoder: Option<MultiGzDecoder<Vec<u8>>>,
        skip: u64,
        left: u64,
        expected: Option<[u8; 32]>,
    ) -> impl Stream<Item = io::Result<Bytes>> + use<> {
        let download = Download {
            file,
            decoder,
            skip,
            left,
            check: expected.map(|hash| (Sha256::new(), hash)),
            row: self.row.clone(),
            binaries: self.binaries.clone(),
        };
        try_unfold(download, async |mut download| match download.next().await {
            Ok(Some(piece)) => Ok(Some((piece, download))),
            Ok(None) => Ok(None),
            Err(error) => {
                download.distrust(&error).await;
                Err(error)
            }
        })
    }
}

impl Download {
    /// The next piece; none once all that was asked for has been handed out.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        while self.left > 0 {
            let piece = self.read().await?;
            let piece = self.cut(piece);
            if piece.is_empty() {
                continue;
            }
            self.left -= piece.len() as u64;
            if let Some((hasher, expected)) = &mut self.check {
                hasher.update(&piece);
                if self.left == 0 && <[u8; 32]>::from(hasher.clone().finalize()) != *expected {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "its bytes have changed on disk"));
                }
            }
            return Ok(Some(piece));
        }
        Ok(None)
    }

    async fn read(&mut self) -> io::Result<Bytes> {
        let mut chunk = vec![0; CHUNK];
        let read = self.file.read(&mut chunk).await?;
        chunk.truncate(read);
        let Some(decoder) = &mut self.decoder else {
            return if read == 0 { Err(cut()) } else { Ok(chunk.into()) };
        };
        if read == 0 {
            decoder.try_finish()?;
        }
        decoder.write_all(&chunk)?;
        let plain = std::mem::take(decoder.get_mut());
        if read == 0 && plain.is_empty() {
            return Err(cut());
        }
        Ok(plain.into())
    }

    /// The part of a piece that was asked for.
    fn cut(&mut self, mut piece: Bytes) -> Bytes {
        let before = usize::try_from(self.skip).unwrap_or(usize::MAX).min(piece.len());
        self.skip -= before as u64;
        let mut piece = piece.split_off(before);
        piece.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        piece
    }

    /// A file that is not what was put there counts as evicted: it is built again when next asked for.
    async fn distrust(&self, error: &io::Error) {
        error!(sum = %self.row.sum, "a kept binary cannot be read whole and counts as evicted: {error}");
        if let Err(error) = self.binaries.evict(vec![self.row.clone()]).await {
            error!("cannot note that a binary is unusable: {error:#}");
        }
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than it should be")
}
