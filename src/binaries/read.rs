//! Reads a kept binary as a stream, whole or in part, compressed as kept or plain.
//!
//! What is read whole is hashed on the way, and its last piece is held back until the hash is
//! right: a disk that changed a bit gives a cut download, never a wrong one. A compressed file that was right minutes
//! ago and was not written to since is not hashed again: that would take longer than sending it.

use std::fs::File;
use std::io::{self, IoSliceMut, Read};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::Arc;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use futures_util::Stream;
use futures_util::stream::try_unfold;
use rustix::io::{Errno, ReadWriteFlags};
use sha2::{Digest, Sha256};
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::error;

use super::Binaries;
use crate::store::BinaryRow;

/// Bytes handed out at once. Each of any number of downloads holds one such piece on its way to the client, or two for a
/// moment, and one more if its bytes have to be unpacked or hashed meanwhile.
const CHUNK: usize = 128 << 10;

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
    source: Source,
    /// Bytes still to be dropped before the first that was asked for.
    skip: u64,
    /// Bytes still to be handed out.
    left: u64,
    /// The piece handed out last, whose memory is used again once the client has it.
    sent: Bytes,
    /// Whether the kernel says what it has in memory. Not every file system lets it.
    asks: bool,
    /// What the whole should hash to, if the whole is read.
    check: Option<(Sha256, [u8; 32])>,
    /// Of the compressed file, if it is that which is checked.
    written: Option<Written>,
    row: BinaryRow,
    binaries: Binaries,
}

/// Which file it is, and when it was last written to: another value means that its bytes may be others.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

impl Written {
    fn of(file: &File) -> io::Result<Written> {
        let file = file.metadata()?;
        Ok(Written { device: file.dev(), inode: file.ino(), changed: (file.ctime(), file.ctime_nsec()) })
    }
}

impl Stored {
    pub(super) fn new(row: BinaryRow, gz: File, binaries: Binaries) -> Stored {
        Stored { row, gz: Arc::new(gz), plain: None, binaries }
    }

    /// The same with what it unpacks to. Both were hashed just now, on their way here.
    pub(super) fn unpacked(mut self, plain: File) -> Stored {
        if let Ok(written) = Written::of(&self.gz) {
            self.binaries.inner.right.insert(self.row.sum, written);
        }
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
        let written = Written::of(&self.gz).ok();
        let known = written.is_some() && written == self.binaries.inner.right.get(&self.row.sum);
        let source = Source::File(At { file: self.gz.clone(), offset: start });
        let mut download = self.download(source, 0, len, (whole && !known).then_some(self.row.gz_sha256));
        download.written = written;
        download.stream()
    }

    /// The binary itself, from `start`, `len` bytes of it, and errors as for [`Stored::gz`].
    pub fn plain(&self, start: u64, len: u64) -> impl Stream<Item = io::Result<Bytes>> + use<> {
        let whole = (start, len) == (0, self.row.size);
        let expected = whole.then_some(self.row.sha256);
        match &self.plain {
            Some(plain) => self.download(Source::File(At { file: plain.clone(), offset: start }), 0, len, None),
            None => {
                let gz = At { file: self.gz.clone(), offset: 0 };
                self.download(Source::Unpacked(Box::new(MultiGzDecoder::new(gz))), start, len, expected)
            }
        }
        .stream()
    }

    fn download(&self, source: Source, skip: u64, left: u64, expected: Option<[u8; 32]>) -> Download {
        let check = expected.map(|hash| (Sha256::new(), hash));
        let (row, binaries) = (self.row.clone(), self.binaries.clone());
        Download { source, skip, left, sent: Bytes::new(), asks: true, check, written: None, row, binaries }
    }
}

/// Where its bytes come from.
enum Source {
    File(At),
    Unpacked(Box<dyn Read + Send>),
}

/// What a stream does while its reader is busy with the piece before.
enum Next {
    /// Nothing: the kernel most likely has the piece in memory, where it needs but copying.
    Due(Box<Download>),
    /// The piece is read, unpacked or hashed.
    Reading(JoinHandle<(Box<Download>, io::Result<Bytes>)>),
    Done,
}

impl Next {
    fn of(download: Box<Download>) -> Next {
        match (&download.source, &download.check) {
            _ if download.left == 0 => Next::Done,
            (Source::File(_), None) if download.asks => Next::Due(download),
            _ => Next::Reading(download.reading()),
        }
    }
}

impl Download {
    /// Its pieces. Those that surely take work are made while the one before is on its way.
    fn stream(self) -> impl Stream<Item = io::Result<Bytes>> + use<> {
        try_unfold(Next::of(Box::new(self)), async |next| {
            let reading = match next {
                Next::Done => return Ok(None),
                Next::Due(mut download) => match download.at_hand() {
                    Some(piece) => return Ok(Some((piece, Next::of(download)))),
                    None => download.reading(),
                },
                Next::Reading(reading) => reading,
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

    fn reading(mut self: Box<Self>) -> JoinHandle<(Box<Download>, io::Result<Bytes>)> {
        spawn_blocking(move || {
            let piece = self.read();
            (self, piece)
        })
    }

    /// What can be had of the next piece without waiting for a disk. Handing each piece to another thread takes longer
    /// than copying it, and asks for one more to be held.
    fn at_hand(&mut self) -> Option<Bytes> {
        let Source::File(At { file, offset }) = &mut self.source else {
            return None;
        };
        let mut piece = std::mem::take(&mut self.sent).try_into_mut().unwrap_or_default();
        piece.resize(usize::try_from(self.left).map_or(CHUNK, |left| left.min(CHUNK)), 0);
        let buf = &mut [IoSliceMut::new(&mut piece)];
        let read = rustix::io::preadv2(file, buf, *offset, ReadWriteFlags::NOWAIT);
        self.sent = piece.freeze();
        self.asks = read != Err(Errno::OPNOTSUPP);
        let len = read.ok().filter(|len| *len > 0)?;
        *offset += len as u64;
        self.left -= len as u64;
        Some(self.sent.slice(..len))
    }

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
            if self.left == 0 {
                if <[u8; 32]>::from(hasher.clone().finalize()) != *expected {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "its bytes have changed on disk"));
                }
                if let Some(written) = self.written {
                    self.binaries.inner.right.insert(self.row.sum, written);
                }
            }
        }
        Ok(piece.into())
    }

    /// A file that is not what was put there counts as evicted: it is had anew when next asked for.
    async fn distrust(self: Box<Self>, error: &io::Error) {
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

impl Read for Source {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Source::File(file) => file.read(buf),
            Source::Unpacked(unpacked) => unpacked.read(buf),
        }
    }
}

impl Read for At {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buf, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt as _;

    use super::*;
    use crate::metrics::Metrics;
    use crate::store::Store;
    use crate::tlog::SignerKey;

    struct Kept {
        data: tempfile::TempDir,
        store: Store,
        binaries: Binaries,
        row: BinaryRow,
        plain: Vec<u8>,
    }

    impl Kept {
        async fn new() -> Kept {
            let data = tempfile::tempdir().expect("a folder");
            let key = SignerKey::generate("node.example", [7; 32]).expect("a key");
            let store = Store::open(data.path(), crate::log::forms(&key), Metrics::new()).expect("a store");
            let binaries = Binaries::open(data.path(), u64::MAX, store.clone(), Metrics::new()).await.expect("folders");
            let program = data.path().join("program");
            let plain: Vec<u8> = (0..400_000u32).flat_map(|n| (n ^ n.rotate_left(13)).to_le_bytes()).collect();
            std::fs::write(&program, &plain).expect("written");
            let row = binaries.keep(&program).await.expect("kept");
            let kept = Kept { data, store, binaries, row, plain };
            kept.restore().await;
            kept
        }

        async fn restore(&self) {
            let row = self.row.clone();
            self.store.write(move |tx| tx.put_binary(&row)).await.expect("noted");
        }

        fn path(&self) -> std::path::PathBuf {
            super::super::path(&self.data.path().join("binaries"), &self.row.sum)
        }

        async fn stored(&self) -> Option<Stored> {
            self.binaries.find(&self.row.sum).await.expect("a store")
        }
    }

    #[tokio::test]
    async fn each_piece_is_right_though_its_memory_is_used_again() {
        let kept = Kept::new().await;
        let right = std::fs::read(kept.path()).expect("there");
        assert!(right.len() > 5 * CHUNK, "it has several pieces: {}", right.len());
        let len = right.len() as u64;
        // The first time it is hashed, the second time it is known to be right.
        for (start, len) in [(0, len), (0, len), (1, len - 1), (CHUNK as u64 + 7, 3 * CHUNK as u64), (len - 9, 9)] {
            let stored = kept.stored().await.expect("present");
            let mut pieces = std::pin::pin!(stored.gz(start, len));
            let mut got = Vec::new();
            while let Some(piece) = pieces.try_next().await.expect("read") {
                got.extend_from_slice(&piece);
            }
            let start = usize::try_from(start).expect("small");
            assert!(got == right[start..start + usize::try_from(len).expect("small")], "{len} bytes from {start}");
        }
        let stored = kept.stored().await.expect("present");
        let plain: Vec<Bytes> = stored.plain(0, kept.row.size).try_collect().await.expect("read");
        assert!(plain.concat() == kept.plain);
    }

    #[tokio::test]
    async fn a_file_that_ends_early_ends_the_download_with_an_error() {
        let kept = Kept::new().await;
        let stored = kept.stored().await.expect("present");
        let mut pieces = std::pin::pin!(stored.gz(1, kept.row.gz_size - 1));
        assert_eq!(pieces.try_next().await.expect("read").expect("a piece").len(), CHUNK);
        File::options().write(true).open(kept.path()).expect("there").set_len(CHUNK as u64 + 1000).expect("cut");
        let mut rest = 0;
        let error = loop {
            match pieces.try_next().await {
                Ok(piece) => rest += piece.expect("no end before what was asked for").len(),
                Err(error) => break error,
            }
        };
        assert!(error.kind() == io::ErrorKind::UnexpectedEof && rest <= 999, "{error}, {rest} bytes more");
        assert!(pieces.try_next().await.expect("over").is_none());
        assert!(kept.stored().await.is_none(), "it counts as evicted");
    }

    #[tokio::test]
    async fn what_changed_on_disk_is_cut_off_even_if_it_was_right_before() {
        let kept = Kept::new().await;
        let path = kept.path();
        let right = std::fs::read(&path).expect("there");
        let read = async || {
            let stored = kept.stored().await.expect("present");
            let gz: io::Result<Vec<Bytes>> = stored.gz(0, kept.row.gz_size).try_collect().await;
            gz.map(|pieces| pieces.concat())
        };
        for at in [0, right.len() / 2, right.len() - 1] {
            // The second time it is known to be right.
            for _ in 0..2 {
                assert!(read().await.expect("right") == right);
            }
            let mut wrong = right.clone();
            wrong[at] ^= 1;
            std::fs::write(&path, &wrong).expect("written");
            let error = read().await.expect_err("wrong");
            assert!(error.to_string().contains("changed on disk"), "{error}");
            assert!(kept.stored().await.is_none(), "it counts as evicted");
            std::fs::write(&path, &right).expect("written");
            kept.restore().await;
        }
    }
}
