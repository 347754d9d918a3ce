//! Which part of one file belongs to which part of the other, and how many of their bytes differ.

use std::ops::Range;

use super::{CHUNK, Content, Image, Part};
use crate::evidence::image::{Role, Section};

/// Where the linker puts the build id if the format has no note for it: Go looks no further either.
const MARK_WITHIN_BYTES: usize = 32 << 10;
/// What stands before and after a build id in the code (`cmd/internal/buildid`).
const MARKS: (&[u8], &[u8]) = (b"\xff Go build ID: \"", b"\"\n \xff");
/// The name of the part that is such a build id.
const MARK_NAME: &str = "(build id)";
/// Bytes of a note that are looked at, and of a build id that are kept. Go's have 83.
const NOTE_LIMIT_BYTES: usize = 300;
/// Bytes before the text in a note: three numbers and the name `Go`.
const NOTE_HEADER_BYTES: usize = 16;

/// How bytes differ.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Difference {
    /// The first place; where the shorter one ends counts as one.
    pub(super) first: Option<u64>,
    /// Bytes that differ from those at the same place.
    pub(super) bytes: u64,
}

/// Compares ranges of two files, as far as they are in the files. Bytes in `skip`, from the start of both, count as equal.
pub(super) fn difference(
    contents: &[Content<'_>; 2],
    [one, other]: [Range<u64>; 2],
    skip: Option<&Range<u64>>,
) -> anyhow::Result<Difference> {
    let length = |content: &Content<'_>, range: &Range<u64>| range.end.min(content.len()).saturating_sub(range.start);
    let lengths = (length(&contents[0], &one), length(&contents[1], &other));
    let common = lengths.0.min(lengths.1);
    let mut found = Difference::default();
    let mut at = 0;
    while at < common {
        let length = usize::try_from(common - at).unwrap_or(usize::MAX).min(CHUNK);
        let bytes = (contents[0].bytes(one.start + at, length)?, contents[1].bytes(other.start + at, length)?);
        if bytes.0 != bytes.1 {
            let places = (at..).zip(bytes.0.iter().zip(&bytes.1)).filter(|(_, (a, b))| a != b).map(|(place, _)| place);
            for place in places.filter(|place| skip.is_none_or(|skip| !skip.contains(place))) {
                found.bytes += 1;
                found.first.get_or_insert(place);
            }
        }
        at += length as u64;
    }
    if lengths.0 != lengths.1 {
        found.first.get_or_insert(common);
    }
    Ok(found)
}

/// The parts of both files, those of the first one first.
pub(super) fn pair(contents: &[Content<'_>; 2], images: &[anyhow::Result<Image>; 2]) -> anyhow::Result<Vec<Part>> {
    let (Ok(image), Ok(its)) = (&images[0], &images[1]) else {
        let [one, other] = contents.each_ref().map(|content| section("(file)", Role::Data, 0..content.len()));
        return Ok(vec![part(contents, Some(&one), Some(&other), None)?]);
    };
    let (mine, yours) = (sections(&contents[0], image)?, sections(&contents[1], its)?);
    let mut taken = vec![false; yours.len()];
    let mut parts = Vec::new();
    for section in &mine {
        let same = |(at, candidate): &(usize, &Section)| !taken[*at] && candidate.name == section.name;
        let found = yours.iter().enumerate().find(same).map(|(at, _)| at);
        if let Some(at) = found {
            taken[at] = true;
        }
        let partner = found.map(|at| &yours[at]);
        let skip = partner.and_then(|partner| same_mark([(section, &mine), (partner, &yours)]));
        parts.push(part(contents, Some(section), partner, skip.as_ref())?);
    }
    for (section, _) in yours.iter().zip(&taken).filter(|(_, taken)| !**taken) {
        parts.push(part(contents, None, Some(section), None)?);
    }
    Ok(parts)
}

/// Where in a section the build id stands, if it stands at the same place in both: it is a part of its own.
fn same_mark(sections: [(&Section, &[Section]); 2]) -> Option<Range<u64>> {
    let [one, other] = sections.map(|(section, all)| {
        let mark = all.iter().find(|mark| mark.name == MARK_NAME)?;
        let start = mark.offset.checked_sub(section.offset)?;
        (section.name != MARK_NAME && start + mark.stored <= section.stored).then(|| start..start + mark.stored)
    });
    one.filter(|one| Some(one) == other.as_ref())
}

fn part(
    contents: &[Content<'_>; 2],
    one: Option<&Section>,
    other: Option<&Section>,
    skip: Option<&Range<u64>>,
) -> anyhow::Result<Part> {
    let range = |section: &Section| section.offset..section.offset.saturating_add(section.stored);
    let size = |section: &Section| if section.stored == 0 { section.size } else { section.stored };
    let found = match (one, other) {
        (Some(one), Some(other)) => difference(contents, [range(one), range(other)], skip)?,
        _ => Difference::default(),
    };
    let either = one.or(other);
    Ok(Part {
        name: either.map(|section| section.name.clone()).unwrap_or_default(),
        role: either.map_or(Role::Data, |section| section.role).as_str().to_owned(),
        offsets: [one, other].map(|section| section.map(|section| section.offset)),
        sizes: [one, other].map(|section| section.map(size)),
        differing_bytes: found.bytes,
        first_difference: found.first,
    })
}

fn section(name: &str, role: Role, range: Range<u64>) -> Section {
    let stored = range.end - range.start;
    Section { name: name.to_owned(), role, size: stored, offset: range.start, stored }
}

/// The sections of a file, what stands before and after all of them, and the build id if it has no section. No byte is
/// in two sections: what overlaps another one counts as empty, so that comparing takes no longer than the file is.
fn sections(content: &Content<'_>, image: &Image) -> anyhow::Result<Vec<Section>> {
    let mut sections = image.sections.clone();
    let mut order: Vec<usize> = (0..sections.len()).collect();
    order.sort_by_key(|at| (sections[*at].offset, *at));
    let (mut first, mut end) = (content.len(), 0);
    for at in order {
        let section = &mut sections[at];
        section.stored = section.stored.min(content.len().saturating_sub(section.offset));
        if section.offset < end {
            section.stored = 0;
        }
        if section.stored > 0 {
            first = first.min(section.offset);
            end = section.offset + section.stored;
        }
    }
    sections.insert(0, self::section("(headers)", Role::Headers, 0..first));
    if end < content.len() && end > 0 {
        sections.push(self::section("(end of file)", Role::Debug, end..content.len()));
    }
    if let Some(mark) = mark(content)? {
        sections.push(self::section(MARK_NAME, Role::BuildId, mark));
    }
    Ok(sections)
}

/// Where in the file a build id stands in the midst of code.
fn mark(content: &Content<'_>) -> anyhow::Result<Option<Range<u64>>> {
    let head = content.bytes(0, MARK_WITHIN_BYTES)?;
    let find = |bytes: &[u8], wanted: &[u8]| bytes.windows(wanted.len()).position(|window| window == wanted);
    let Some(start) = find(&head, MARKS.0).map(|at| at + MARKS.0.len()) else {
        return Ok(None);
    };
    let rest = &head[start..head.len().min(start + NOTE_LIMIT_BYTES)];
    Ok(find(rest, MARKS.1).map(|length| start as u64..(start + length) as u64))
}

/// What Go's linker names the build, if it is named.
pub(super) fn build_id(content: &Content<'_>, image: &Image) -> anyhow::Result<Option<String>> {
    let note = image.sections.iter().find(|section| section.role == Role::BuildId && section.name.contains("go"));
    let bytes = match (note, mark(content)?) {
        (Some(note), _) => {
            let length = usize::try_from(note.stored).unwrap_or(usize::MAX).min(NOTE_LIMIT_BYTES);
            let bytes = content.bytes(note.offset, length)?;
            // A custom section begins with its name and the length of that.
            let before = if image.format == "wasm" { 1 + "go:buildid".len() } else { NOTE_HEADER_BYTES };
            bytes.get(before..).unwrap_or_default().to_vec()
        }
        (None, Some(range)) => content.bytes(range.start, usize::try_from(range.end - range.start)?)?,
        (None, None) => return Ok(None),
    };
    let text: String = bytes.iter().filter(|byte| byte.is_ascii_graphic()).map(|byte| char::from(*byte)).collect();
    Ok(Some(text).filter(|text| !text.is_empty()))
}
