//! The two formats that Go writes and hardly anybody else reads: Plan 9 programs and WebAssembly modules.

use anyhow::{Context as _, ensure};

use super::{Content, Image, Mapped, Role, SECTIONS_LIMIT, Section, plain};

/// First bytes of a Plan 9 program for 386, amd64 and arm, big-endian (`debug/plan9obj`).
const PLAN9_MAGICS: [u32; 3] = [0x1eb, 0x8a97, 0x647];
/// Set in the magic number of a 64-bit program, whose header has eight bytes more.
const PLAN9_64: u32 = 0x8000;
/// A module of version 1.
const WASM_MAGIC: &[u8] = b"\0asm\x01\0\0\0";
/// Bytes read at the start of a WebAssembly section: its number, its length, and the name of a custom one.
const WASM_HEAD_BYTES: usize = 128;

/// The layout of a file of these formats; none if it is of another.
pub(super) fn read(content: &Content<'_>) -> anyhow::Result<Option<Image>> {
    let head = content.bytes(0, 32)?;
    if head.starts_with(WASM_MAGIC) {
        return wasm(content).map(Some);
    }
    let words: Vec<u32> = head.as_chunks().0.iter().map(|word| u32::from_be_bytes(*word)).collect();
    Ok((words.len() == 8 && PLAN9_MAGICS.contains(&words[0])).then(|| plan9(&words)))
}

/// Parts that follow each other after a header of eight words.
fn plan9(words: &[u32]) -> Image {
    let mut offset = if words[0] & PLAN9_64 == 0 { 32 } else { 40 };
    let parts = [
        ("text", Role::Code, 1),
        ("data", Role::Data, 2),
        ("syms", Role::Debug, 4),
        ("spsz", Role::Debug, 6),
        ("pcsz", Role::Debug, 7),
    ];
    let mut image = Image { format: "plan9", sections: Vec::new(), mapped: Vec::new(), data: None };
    for (name, role, word) in parts {
        let size = u64::from(words[word]);
        if name == "data" {
            image.data = Some((offset, size));
        }
        // As debug/buildinfo has it, addresses are places in the file.
        image.mapped.push(Mapped { address: offset, offset, stored: size });
        image.sections.push(Section { name: name.to_owned(), role, size, offset, stored: size });
        offset += size;
    }
    image
}

/// Sections by number; nothing in it has an address, and Go leaves no build information there that can be found.
fn wasm(content: &Content<'_>) -> anyhow::Result<Image> {
    let names = [
        "custom",
        "type",
        "import",
        "function",
        "table",
        "memory",
        "global",
        "export",
        "start",
        "element",
        "code",
        "data",
        "datacount",
    ];
    let mut image = Image { format: "wasm", sections: Vec::new(), mapped: Vec::new(), data: None };
    let mut at = WASM_MAGIC.len() as u64;
    while at < content.len() {
        ensure!(image.sections.len() < SECTIONS_LIMIT, "it has more than {SECTIONS_LIMIT} sections");
        let head = content.bytes(at, WASM_HEAD_BYTES)?;
        let (number, rest) = head.split_first().context("a section that is cut")?;
        let (size, used) = leb128(rest).context("a section without a length")?;
        let mut name = (*names.get(usize::from(*number)).unwrap_or(&"unknown")).to_owned();
        if *number == 0
            && let Some((length, more)) = leb128(&rest[used..])
        {
            let own = &rest[used + more..];
            let length = usize::try_from(length).unwrap_or(usize::MAX).min(own.len());
            name = format!("custom {}", plain(&own[..length]));
        }
        let role = match (number, name.as_str()) {
            (_, "custom go:buildid") => Role::BuildId,
            (0, _) => Role::Debug,
            (10, _) => Role::Code,
            _ => Role::Data,
        };
        let offset = at + 1 + used as u64;
        let stored = size.min(content.len().saturating_sub(offset));
        image.sections.push(Section { name, role, size, offset, stored });
        at = offset.saturating_add(size);
    }
    Ok(image)
}

/// A number of at most 35 bits, seven of them a byte, and the bytes that it takes.
fn leb128(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}
