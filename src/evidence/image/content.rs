//! A file that is read in pieces, never as a whole: executables are large, and memory is shared with all other work.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use object::read::{ReadCache, ReadCacheOps, ReadRef};

/// The longest piece that a header may ask for: a symbol table of a million entries fits.
const PIECE_LIMIT_BYTES: u64 = 32 << 20;
/// Bytes that reading the headers, tables and names of one file may hold in memory.
const HELD_LIMIT_BYTES: u64 = 128 << 20;
/// Names stand side by side: one read brings many of them.
const BLOCK_BYTES: u64 = 64 << 10;

/// The bytes of a file.
#[derive(Clone, Copy, Debug)]
pub struct Content<'f> {
    file: &'f File,
    len: u64,
}

impl<'f> Content<'f> {
    /// Of a file as long as it is now.
    ///
    /// # Errors
    /// Its length cannot be read.
    pub fn new(file: &'f File) -> io::Result<Content<'f>> {
        Ok(Content { file, len: file.metadata()?.len() })
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Fills a buffer with the bytes from `at` on. Returns how many there were before the end.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read_at(&self, mut buffer: &mut [u8], mut at: u64) -> io::Result<usize> {
        let wanted = buffer.len();
        while !buffer.is_empty() {
            match self.file.read_at(buffer, at) {
                Ok(0) => break,
                Ok(read) => {
                    buffer = &mut buffer[read..];
                    at += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(wanted - buffer.len())
    }

    /// The bytes from `at` on, `len` of them or as many as there are. The caller bounds `len`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn bytes(&self, at: u64, len: usize) -> io::Result<Vec<u8>> {
        let room = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; len.min(room)];
        let read = self.read_at(&mut bytes, at)?;
        bytes.truncate(read);
        Ok(bytes)
    }
}

/// Hands out pieces of a file until they are too many.
pub(super) struct Pieces<'f> {
    content: Content<'f>,
    at: u64,
    left: u64,
}

impl<'f> Pieces<'f> {
    pub(super) fn new(content: &Content<'f>) -> Pieces<'f> {
        Pieces { content: *content, at: 0, left: HELD_LIMIT_BYTES }
    }
}

// The errors of this interface say nothing: its caller says what it was about to read.
impl ReadCacheOps for Pieces<'_> {
    fn len(&mut self) -> Result<u64, ()> {
        Ok(self.content.len)
    }

    fn seek(&mut self, at: u64) -> Result<u64, ()> {
        self.at = at;
        Ok(at)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ()> {
        self.left = self.left.checked_sub(buffer.len() as u64).ok_or(())?;
        let read = self.content.read_at(buffer, self.at).map_err(drop)?;
        self.at += read as u64;
        Ok(read)
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), ()> {
        let read = self.read(buffer)?;
        if read == buffer.len() { Ok(()) } else { Err(()) }
    }
}

/// What the reader of object files sees of a file: pieces of a bounded length, and names by the block.
#[derive(Clone, Copy)]
pub(super) struct Window<'c>(&'c ReadCache<Pieces<'c>>);

impl<'c> Window<'c> {
    pub(super) fn new(cache: &'c ReadCache<Pieces<'c>>) -> Window<'c> {
        Window(cache)
    }
}

impl<'c> ReadRef<'c> for Window<'c> {
    fn len(self) -> Result<u64, ()> {
        self.0.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'c [u8], ()> {
        if size > PIECE_LIMIT_BYTES { Err(()) } else { self.0.read_bytes_at(offset, size) }
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'c [u8], ()> {
        let start = range.start - range.start % BLOCK_BYTES;
        let end = self.0.len()?.min(start.saturating_add(BLOCK_BYTES));
        let block = self.0.read_bytes_at(start, end.checked_sub(start).ok_or(())?)?;
        let from = usize::try_from(range.start - start).map_err(drop)?;
        let limit = usize::try_from(range.end.saturating_sub(start)).map_err(drop)?.min(block.len());
        let rest = block.get(from..limit).ok_or(())?;
        match rest.iter().position(|byte| *byte == delimiter) {
            Some(length) => Ok(&rest[..length]),
            // It goes on in the next block, or is not there at all.
            None => self.0.read_bytes_at_until(range, delimiter),
        }
    }
}
