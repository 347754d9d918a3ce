//! Where an executable has what: sections, which bytes are mapped where, symbols.
//!
//! In scope: every format that the Go linker writes. Out of scope: what the bytes mean ([`super::buildinfo`]) and how two
//! executables differ ([`super::compare()`]).
//!
//! Files come from strangers. What a header says is looked at before anything is read or allocated, and a file that is
//! no executable at all is an error in one sentence, never a panic.

mod content;
mod others;

pub use content::Content;

use anyhow::ensure;
use object::read::{Object as _, ObjectSection as _, ObjectSegment as _, ObjectSymbol as _, ReadCache};
use object::{BinaryFormat, SectionFlags, SegmentFlags, SymbolKind, elf, macho, pe, xcoff};

use content::{Pieces, Window};

/// Sections and segments that a file may have. Go's linker makes 40 at most.
const SECTIONS_LIMIT: usize = 256;
/// Symbols that are read. The largest Go programs have some hundred thousand.
const SYMBOLS_LIMIT: usize = 1 << 19;
/// Characters kept of a section's or symbol's name.
const NAME_LIMIT_CHARS: usize = 200;

/// What a section is for, as far as a comparison cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs.
    Code,
    /// Is loaded with the program.
    Data,
    /// Names the build and is made of its inputs.
    BuildId,
    /// Is for debuggers and symbol tables: the program runs the same without it.
    Debug,
    /// Says where the others are.
    Headers,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 5] = [Role::Code, Role::Data, Role::BuildId, Role::Debug, Role::Headers];

    /// Its name in comparisons.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Code => "code",
            Role::Data => "data",
            Role::BuildId => "build-id",
            Role::Debug => "debug",
            Role::Headers => "headers",
        }
    }
}

/// A named part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// As the file has it, fit for a terminal; in Mach-O with its segment's name.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Bytes that it takes in memory, or in the file if it is not loaded.
    pub size: u64,
    /// Where its bytes start in the file.
    pub offset: u64,
    /// How many of them the file has; none for zeros that only exist in memory.
    pub stored: u64,
}

/// Bytes of the file that are seen at an address.
#[derive(Clone, Copy, Debug)]
struct Mapped {
    address: u64,
    offset: u64,
    stored: u64,
}

/// A name for some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// As the file has it, fit for a terminal.
    pub name: String,
    /// Where its bytes start in the file.
    pub offset: u64,
    /// How many bytes belong to it.
    pub size: u64,
}

/// The layout of an executable.
#[derive(Clone, Debug)]
pub struct Image {
    /// `elf`, `pe`, `mach-o`, `xcoff`, `plan9` or `wasm`.
    pub format: &'static str,
    /// In the order of the file's own table.
    pub sections: Vec<Section>,
    /// What is seen at which address.
    mapped: Vec<Mapped>,
    /// Address and size of where Go's linker leaves build information.
    pub(super) data: Option<(u64, u64)>,
}

impl Image {
    /// Reads the headers of a file.
    ///
    /// # Errors
    /// It is none of the formats that Go writes, or its headers contradict themselves.
    pub fn read(content: &Content<'_>) -> anyhow::Result<Image> {
        if let Some(image) = others::read(content)? {
            return Ok(image);
        }
        let cache = ReadCache::new(Pieces::new(content));
        let file = parse(&cache)?;
        let format = match file.format() {
            BinaryFormat::Elf => "elf",
            BinaryFormat::Pe => "pe",
            BinaryFormat::MachO => "mach-o",
            _ => "xcoff",
        };
        let mut image = Image { format, sections: Vec::new(), mapped: Vec::new(), data: None };
        let mut named = None;
        let mut by_flags = None;
        for section in file.sections() {
            ensure!(image.sections.len() < SECTIONS_LIMIT, "it has more than {SECTIONS_LIMIT} sections");
            let mut name = plain(section.name_bytes().unwrap_or_default());
            // The start of a file is its header: what claims to be there, as zeroed data in XCOFF, has no bytes.
            let (offset, stored) = section.file_range().filter(|(offset, _)| *offset > 0).unwrap_or_default();
            let (address, size) = (section.address(), section.size());
            if name == ".go.buildinfo" || name == "__go_buildinfo" {
                named.get_or_insert((address, size));
            }
            if let Ok(Some(segment)) = section.segment_name_bytes() {
                name = format!("{},{name}", plain(segment));
            }
            let role = role(&name, section.flags());
            if matches!(format, "pe" | "xcoff") {
                image.mapped.push(Mapped { address, offset, stored });
                if is_go_data(section.flags()) && stored > 0 {
                    by_flags.get_or_insert((address, size));
                }
            }
            image.sections.push(Section { name, role, size, offset, stored });
        }
        if matches!(format, "elf" | "mach-o") {
            for segment in file.segments() {
                ensure!(image.mapped.len() < SECTIONS_LIMIT, "it has more than {SECTIONS_LIMIT} segments");
                let (offset, stored) = segment.file_range();
                image.mapped.push(Mapped { address: segment.address(), offset, stored });
                if is_data_segment(segment.flags()) && (stored > 0 || format == "elf") {
                    by_flags.get_or_insert((segment.address(), segment.size()));
                }
            }
        }
        image.data = named.or(by_flags);
        Ok(image)
    }

    /// Where the byte at an address is in the file, and how many are mapped from there on; none if no byte is.
    pub(super) fn locate(&self, address: u64) -> Option<(u64, u64)> {
        self.mapped.iter().find_map(|mapped| {
            let into = address.checked_sub(mapped.address).filter(|into| *into < mapped.stored)?;
            Some((mapped.offset.checked_add(into)?, mapped.stored - into))
        })
    }

    /// The symbols that name bytes of the file, in the order of those bytes; none if it was stripped.
    ///
    /// # Errors
    /// The symbol table cannot be read, or is too long.
    pub fn symbols(&self, content: &Content<'_>) -> anyhow::Result<Vec<Symbol>> {
        if matches!(self.format, "plan9" | "wasm") {
            return Ok(Vec::new());
        }
        let cache = ReadCache::new(Pieces::new(content));
        let file = parse(&cache)?;
        let mut symbols = Vec::new();
        for (seen, symbol) in file.symbols().enumerate() {
            ensure!(seen < SYMBOLS_LIMIT, "it has more than {SYMBOLS_LIMIT} symbols");
            let named = matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Data | SymbolKind::Unknown);
            if !named || !symbol.is_definition() {
                continue;
            }
            if let (Some((offset, _)), Ok(name)) = (self.locate(symbol.address()), symbol.name_bytes())
                && !name.is_empty()
            {
                symbols.push(Symbol { name: plain(name), offset, size: symbol.size() });
            }
        }
        symbols.sort_by(|one, other| (one.offset, &one.name).cmp(&(other.offset, &other.name)));
        self.fill_sizes(&mut symbols);
        symbols.retain(|symbol| symbol.size > 0);
        Ok(symbols)
    }

    /// Whether it was linked without a symbol table, as by `-ldflags=-s`. What a system's loader asks of libraries stands
    /// in stripped programs as well, and names no bytes of the file.
    ///
    /// # Errors
    /// As for [`Image::symbols`].
    pub fn is_stripped(&self, content: &Content<'_>) -> anyhow::Result<bool> {
        match self.format {
            "plan9" => Ok(!self.sections.iter().any(|section| section.name == "syms" && section.stored > 0)),
            _ => Ok(self.symbols(content)?.is_empty()),
        }
    }

    /// Mach-O and PE say no sizes: a symbol ends where the next one or its section does.
    fn fill_sizes(&self, symbols: &mut [Symbol]) {
        let (mut next, mut current) = (u64::MAX, u64::MAX);
        for symbol in symbols.iter_mut().rev() {
            if symbol.offset < current {
                (next, current) = (current, symbol.offset);
            }
            let within =
                |section: &&Section| section.offset <= symbol.offset && symbol.offset - section.offset < section.stored;
            let end = self.sections.iter().find(within).map(|section| section.offset.saturating_add(section.stored));
            // What is in no section belongs to nothing that is compared.
            let room = end.unwrap_or(symbol.offset) - symbol.offset;
            symbol.size = if symbol.size == 0 { (next - symbol.offset).min(room) } else { symbol.size.min(room) };
        }
    }
}

fn parse<'c>(cache: &'c ReadCache<Pieces<'c>>) -> anyhow::Result<object::File<'c, Window<'c>>> {
    let file = object::File::parse(Window::new(cache)).map_err(|error| anyhow::anyhow!("unknown format: {error}"))?;
    match file.format() {
        BinaryFormat::Elf | BinaryFormat::Pe | BinaryFormat::MachO | BinaryFormat::Xcoff => Ok(file),
        _ => anyhow::bail!("unknown format"),
    }
}

fn role(name: &str, flags: SectionFlags) -> Role {
    if matches!(name, ".note.go.buildid" | ".note.gnu.build-id") {
        return Role::BuildId;
    }
    match flags {
        SectionFlags::Elf { sh_flags, .. } if sh_flags.0 & elf::SHF_EXECINSTR.0 != 0 => Role::Code,
        SectionFlags::Elf { sh_flags, .. } if sh_flags.0 & elf::SHF_ALLOC.0 != 0 => Role::Data,
        SectionFlags::Coff { characteristics } if characteristics.0 & pe::IMAGE_SCN_MEM_EXECUTE.0 != 0 => Role::Code,
        SectionFlags::Coff { .. } if name == ".reloc" => Role::Data,
        SectionFlags::Coff { characteristics } if characteristics.0 & pe::IMAGE_SCN_MEM_DISCARDABLE.0 != 0 => {
            Role::Debug
        }
        SectionFlags::Coff { .. } if name == ".symtab" || name.contains("debug_") => Role::Debug,
        SectionFlags::Coff { .. } => Role::Data,
        SectionFlags::MachO { .. } if name.starts_with("__DWARF,") => Role::Debug,
        SectionFlags::MachO { flags, .. } if flags.0 & macho::S_ATTR_SOME_INSTRUCTIONS.0 != 0 => Role::Code,
        SectionFlags::MachO { .. } => Role::Data,
        SectionFlags::Xcoff { s_flags } if s_flags.typ() == xcoff::STYP_TEXT => Role::Code,
        SectionFlags::Xcoff { s_flags } if s_flags.typ() == xcoff::STYP_DWARF => Role::Debug,
        SectionFlags::Xcoff { .. } => Role::Data,
        _ => Role::Debug,
    }
}

/// Go's rule for a PE file: the first section of initialized data that can be written and whose alignment is any; for
/// XCOFF: the data section.
fn is_go_data(flags: SectionFlags) -> bool {
    match flags {
        SectionFlags::Coff { characteristics } => {
            let wanted = pe::IMAGE_SCN_CNT_INITIALIZED_DATA.0 | pe::IMAGE_SCN_MEM_READ.0 | pe::IMAGE_SCN_MEM_WRITE.0;
            characteristics.0 & !pe::IMAGE_SCN_ALIGN_32BYTES.0 == wanted
        }
        SectionFlags::Xcoff { s_flags } => s_flags.typ() == xcoff::STYP_DATA,
        _ => false,
    }
}

/// Go's rule: what can be written and not run.
fn is_data_segment(flags: SegmentFlags) -> bool {
    match flags {
        SegmentFlags::Elf { p_flags, .. } => p_flags.0 & elf::PF_W.0 != 0 && p_flags.0 & elf::PF_X.0 == 0,
        SegmentFlags::MachO { maxprot, initprot, .. } => maxprot.0 == 3 && initprot.0 == 3,
        _ => false,
    }
}

/// A stranger's name, fit for a terminal and a page.
fn plain(name: &[u8]) -> String {
    super::plain(&String::from_utf8_lossy(&name[..name.len().min(4 * NAME_LIMIT_CHARS)]), NAME_LIMIT_CHARS)
}
