//! Small programs of every format, for tests: as little as their readers accept, with parts of any bytes.

/// Formats that [`program`] makes.
pub(crate) const FORMATS: [&str; 4] = ["elf", "pe", "mach-o", "plan9"];

/// Where parts begin: at multiples of this, in the file and in memory.
const ALIGN: usize = 64;
/// Where the first byte of the file would be in memory.
const BASE: usize = 0x40_0000;

/// A program of these parts. `code` and `data` get the names and flags that the format has for them; others keep their
/// names, and are not loaded if those begin with `.debug`. Plan 9 has `code`, `data` and one more.
pub(crate) fn program(format: &str, parts: &[(&str, &[u8])]) -> Vec<u8> {
    match format {
        "elf" => elf(parts),
        "pe" => pe(parts),
        "mach-o" => macho(parts),
        _ => plan9(parts),
    }
}

/// Bytes in the order in which they are written, little-endian.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Writer {
        self.0.extend_from_slice(bytes);
        self
    }

    fn name(&mut self, name: &str, len: usize) -> &mut Writer {
        let mut bytes = name.as_bytes().to_vec();
        bytes.resize(len, 0);
        self.bytes(&bytes)
    }

    fn u16(&mut self, values: &[usize]) -> &mut Writer {
        values.iter().for_each(|value| self.0.extend_from_slice(&u16::try_from(*value).unwrap().to_le_bytes()));
        self
    }

    fn u32(&mut self, values: &[usize]) -> &mut Writer {
        values.iter().for_each(|value| self.0.extend_from_slice(&u32::try_from(*value).unwrap().to_le_bytes()));
        self
    }

    fn u64(&mut self, values: &[usize]) -> &mut Writer {
        values.iter().for_each(|value| self.0.extend_from_slice(&(*value as u64).to_le_bytes()));
        self
    }

    fn pad(&mut self, to: usize) -> &mut Writer {
        assert!(self.0.len() <= to);
        self.0.resize(to, 0);
        self
    }
}

/// Where each part is in a file whose headers take so many bytes.
fn places(parts: &[(&str, &[u8])], headers: usize) -> Vec<usize> {
    let mut at = headers.next_multiple_of(ALIGN);
    let place = |(_, bytes): &(&str, &[u8])| {
        let place = at;
        at = (at + bytes.len()).next_multiple_of(ALIGN);
        place
    };
    parts.iter().map(place).collect()
}

fn elf(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let named = |name: &str| match name {
        "code" => (".text".to_owned(), 6, 5),
        "data" => (".data".to_owned(), 3, 6),
        name if name.starts_with(".debug") => (name.to_owned(), 0, 4),
        name => (name.to_owned(), 2, 4),
    };
    let named: Vec<_> = parts.iter().map(|(name, _)| named(name)).collect();
    let mut names = Writer::default();
    names.bytes(b"\0.shstrtab\0");
    let starts: Vec<usize> = named
        .iter()
        .map(|(name, ..)| {
            let start = names.0.len();
            names.bytes(name.as_bytes()).bytes(b"\0");
            start
        })
        .collect();
    let count = parts.len();
    let (segments, sections) = (64, 64 + 56 * count);
    let strings = sections + 64 * (count + 2);
    let places = places(parts, strings + names.0.len());

    let mut file = Writer::default();
    file.bytes(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0").u16(&[2, 62]).u32(&[1]);
    file.u64(&[BASE, segments, sections]).u32(&[0]).u16(&[64, 56, count, 64, count + 2, count + 1]);
    for (at, (_, bytes)) in parts.iter().enumerate() {
        let flags = if named[at].1 == 0 { (0, 4) } else { (1, named[at].2) };
        let address = BASE + places[at];
        file.u32(&[flags.0, flags.1]).u64(&[places[at], address, address, bytes.len(), bytes.len(), ALIGN]);
    }
    file.bytes(&[0; 64]);
    for (at, (_, bytes)) in parts.iter().enumerate() {
        let address = if named[at].1 == 0 { 0 } else { BASE + places[at] };
        file.u32(&[starts[at], 1]).u64(&[named[at].1, address, places[at], bytes.len()]).u32(&[0, 0]).u64(&[ALIGN, 0]);
    }
    file.u32(&[1, 3]).u64(&[0, 0, strings, names.0.len()]).u32(&[0, 0]).u64(&[1, 0]);
    file.bytes(&names.0);
    finish(file, parts, &places)
}

fn pe(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let places = places(parts, 64 + 4 + 20 + 240 + 40 * parts.len());
    let mut file = Writer::default();
    file.bytes(b"MZ").pad(60).u32(&[64]).bytes(b"PE\0\0");
    file.u16(&[0x8664, parts.len()]).u32(&[0, 0, 0]).u16(&[240, 0x22]);
    let optional = file.0.len();
    file.u16(&[0x20b, 0]).u32(&[0; 5]).u64(&[BASE]).u32(&[ALIGN, ALIGN]).pad(optional + 108).u32(&[16]);
    file.pad(optional + 240);
    for (at, (name, bytes)) in parts.iter().enumerate() {
        let (name, flags) = match *name {
            "code" => (".text", 0x6000_0020),
            "data" => (".data", 0xc000_0040),
            name => (name, 0x4200_0040),
        };
        file.name(name, 8).u32(&[bytes.len(), places[at], bytes.len(), places[at], 0, 0]).u16(&[0, 0]).u32(&[flags]);
    }
    finish(file, parts, &places)
}

fn macho(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let commands = (72 + 80) * parts.len();
    let places = places(parts, 32 + commands);
    let mut file = Writer::default();
    file.u32(&[0xfeed_facf, 0x0100_0007, 3, 2, parts.len(), commands, 0, 0]);
    for (at, (name, bytes)) in parts.iter().enumerate() {
        let (segment, name, protection, flags) = match *name {
            "code" => ("__TEXT", "__text", 5, 0x8000_0400),
            "data" => ("__DATA", "__data", 3, 0),
            name => ("__DWARF", name, 7, 0),
        };
        let address = BASE + places[at];
        file.u32(&[0x19, 72 + 80]).name(segment, 16).u64(&[address, bytes.len(), places[at], bytes.len()]);
        file.u32(&[protection, protection, 1, 0]);
        file.name(name, 16).name(segment, 16).u64(&[address, bytes.len()]);
        file.u32(&[places[at], 0, 0, 0, flags, 0, 0, 0]);
    }
    finish(file, parts, &places)
}

fn plan9(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let size = |at: usize| parts.get(at).map_or(0, |(_, bytes)| u32::try_from(bytes.len()).unwrap());
    let mut file = Writer::default();
    for word in [0x8a97, size(0), size(1), 0, size(2), 0, 0, 0, 0, 0] {
        file.bytes(&word.to_be_bytes());
    }
    for (_, bytes) in parts.iter().take(3) {
        file.bytes(bytes);
    }
    file.0
}

fn finish(mut file: Writer, parts: &[(&str, &[u8])], places: &[usize]) -> Vec<u8> {
    for ((_, bytes), place) in parts.iter().zip(places) {
        file.pad(*place).bytes(bytes);
    }
    file.0
}
