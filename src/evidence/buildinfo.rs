//! What Go's linker writes into a program about its build: the Go version, the modules, the settings.
//!
//! Read as Go's `debug/buildinfo` reads it, with one difference: after the magic bytes at an odd place Go loses count
//! and refuses a good header behind them; here the first one at a multiple of 16 counts, whatever stands before it.
//! Out of scope: where in which format a program has its data ([`super::image`]).

mod text;

#[cfg(test)]
mod tests;

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};

use super::image::{Content, Image};

/// How a header begins.
const MAGIC: &[u8] = b"\xff Go buildinf:";
/// Headers begin at multiples of this.
const ALIGN: u64 = 16;
/// Magic, size of a pointer, flags, and two pointers of at most 8 bytes.
const HEADER_BYTES: usize = 32;
/// In the flags: the strings stand behind the header (Go 1.18 and newer) instead of being pointed to.
const INLINE: u8 = 2;
/// In the flags: pointers are big-endian.
const BIG_ENDIAN: u8 = 1;
/// Bytes searched at once.
const CHUNK: usize = 1 << 20;
/// Bytes that a version may have; a development build has a hundred.
const VERSION_LIMIT_BYTES: u64 = 4 << 10;
/// Bytes that the text about modules may have; a program of 500 modules has 60 KB.
const TEXT_LIMIT_BYTES: u64 = 1 << 20;
/// Bytes before and after the text about modules that mark it.
const MARK_BYTES: usize = 16;

/// What a program says of its build. Whoever made the program can make it say anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildInfo {
    /// Of the toolchain, like `go1.27.1`.
    pub go_version: String,
    /// Import path of the main package; empty if the program was built without modules.
    pub path: String,
    /// The module of the main package.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub main: Option<Module>,
    /// The modules of all other packages, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deps: Vec<Module>,
    /// Settings that influenced the build, in their order; a name may stand there twice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<(String, String)>,
}

/// One module of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// Its path.
    pub path: String,
    /// Its version; `(devel)` for a folder.
    pub version: String,
    /// Its `h1:` hash; empty for a folder.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sum: String,
    /// What it was replaced by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace: Option<Box<Module>>,
}

impl BuildInfo {
    /// Reads it from a program.
    ///
    /// # Errors
    /// There is none, or it is broken; the sentence says which.
    pub fn read(content: &Content<'_>, image: &Image) -> anyhow::Result<BuildInfo> {
        let (version, text) = raw(content, image)?;
        let mut info = text::parse(&text).context("broken Go build information")?;
        info.go_version = String::from_utf8_lossy(&version).into_owned();
        Ok(info)
    }

    /// The value of a setting; of a name that stands there twice the last one.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// The version, and the text about modules without its marks.
fn raw(content: &Content<'_>, image: &Image) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
    let memory = Memory { content, image };
    let (address, size) = image.data.filter(|(_, size)| *size > 0).context("no Go program: it has no data")?;
    let at = memory.search(address, size)?.context("no Go program: it has no build information")?;
    let header = memory.exactly(at, HEADER_BYTES as u64)?;
    let (version, text) = if header[15] & INLINE != 0 {
        let (version, next) = memory.inline(at + HEADER_BYTES as u64, VERSION_LIMIT_BYTES)?;
        (version, memory.inline(next, TEXT_LIMIT_BYTES)?.0)
    } else {
        let pointers = Pointers { size: usize::from(header[14]), big_endian: header[15] & BIG_ENDIAN != 0 };
        ensure!(matches!(pointers.size, 4 | 8), "broken Go build information: pointers of {} bytes", pointers.size);
        let version = memory.pointed(&pointers, pointers.read(&header[16..]), VERSION_LIMIT_BYTES);
        // Programs built without modules have no text: its absence is no error.
        let text = memory.pointed(&pointers, pointers.read(&header[16 + pointers.size..]), TEXT_LIMIT_BYTES);
        (version.unwrap_or_default(), text.unwrap_or_default())
    };
    ensure!(!version.is_empty(), "broken Go build information: it names no version");
    let marked = text.len() > 2 * MARK_BYTES && text[text.len() - MARK_BYTES - 1] == b'\n';
    let text = if marked { text[MARK_BYTES..text.len() - MARK_BYTES].to_vec() } else { Vec::new() };
    Ok((version, text))
}

/// A program as it sees itself.
struct Memory<'a> {
    content: &'a Content<'a>,
    image: &'a Image,
}

impl Memory<'_> {
    /// The address of the first header in a range.
    fn search(&self, address: u64, size: u64) -> anyhow::Result<Option<u64>> {
        let end = address.checked_add(size).context("a section beyond the end of memory")?;
        let Some(start) = address.checked_next_multiple_of(ALIGN) else {
            return Ok(None);
        };
        // What is in memory only is zero.
        let Some((offset, stored)) = self.image.locate(start) else {
            return Ok(None);
        };
        let stored = stored.min(end.saturating_sub(start));
        let mut done = 0;
        while done < stored {
            let length = usize::try_from(stored - done).unwrap_or(usize::MAX).min(CHUNK);
            let chunk = self.content.bytes(offset.saturating_add(done), length)?;
            let mut blocks = chunk.chunks(usize::try_from(ALIGN).expect("a small number"));
            if let Some(block) = blocks.position(|block| block.starts_with(MAGIC)) {
                let at = done + block as u64 * ALIGN;
                ensure!(stored - at >= HEADER_BYTES as u64, "broken Go build information: it is cut");
                return Ok(Some(start + at));
            }
            if chunk.len() < length {
                break;
            }
            done += length as u64;
        }
        Ok(None)
    }

    /// Up to `length` bytes at an address.
    fn bytes(&self, address: u64, length: u64) -> anyhow::Result<Vec<u8>> {
        let found = self.image.locate(address);
        let (offset, stored) = found.context("broken Go build information: it leads out of the file")?;
        let length = usize::try_from(length.min(stored)).context("more bytes than memory has")?;
        Ok(self.content.bytes(offset, length)?)
    }

    /// As many bytes as that.
    fn exactly(&self, address: u64, length: u64) -> anyhow::Result<Vec<u8>> {
        let bytes = self.bytes(address, length)?;
        ensure!(bytes.len() as u64 == length, "broken Go build information: it is cut");
        Ok(bytes)
    }

    /// A string behind its length, and the address after it.
    fn inline(&self, address: u64, limit: u64) -> anyhow::Result<(Vec<u8>, u64)> {
        let Some((length, used)) = varint(&self.bytes(address, 10)?) else {
            bail!("broken Go build information: a string without a length");
        };
        ensure!(length <= limit, "broken Go build information: a string of {length} bytes");
        let start = address.saturating_add(used);
        Ok((self.exactly(start, length)?, start.saturating_add(length)))
    }

    /// A string whose pointer and length stand at an address.
    fn pointed(&self, pointers: &Pointers, address: u64, limit: u64) -> anyhow::Result<Vec<u8>> {
        let header = self.exactly(address, 2 * pointers.size as u64)?;
        let length = pointers.read(&header[pointers.size..]);
        ensure!(length <= limit, "broken Go build information: a string of {length} bytes");
        self.exactly(pointers.read(&header), length)
    }
}

/// How pointers are written.
struct Pointers {
    /// 4 or 8 bytes.
    size: usize,
    big_endian: bool,
}

impl Pointers {
    /// The one that the bytes begin with.
    fn read(&self, bytes: &[u8]) -> u64 {
        let bytes = &bytes[..self.size];
        let add = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        if self.big_endian { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) }
    }
}

/// A number as Go's `binary.Uvarint` reads it, and how many bytes it takes.
fn varint(bytes: &[u8]) -> Option<(u64, u64)> {
    let mut value = 0_u64;
    for (at, byte) in (0_u32..).zip(bytes.iter().take(10)) {
        let part = u64::from(byte & 0x7f);
        if at == 9 && part > 1 {
            return None;
        }
        value |= part << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, u64::from(at) + 1));
        }
    }
    None
}
