//! The texts in which entries travel: answers of `lookup`, data tiles of the checksum database, entry bundles of C2SP.
//!
//! What an entry says is left to [`crate::model`]; its bytes are what counts in the tree.

use super::merkle::MAX_SIZE;
use super::tile::HEIGHT;
use crate::model::canonical_decimal;

/// The longest answer with a tile of entries that is read.
pub const BUNDLE_LIMIT_BYTES: usize = 4 << 20;
/// The longest answer of a lookup that is read.
const LOOKUP_LIMIT_BYTES: usize = 64 << 10;
const ENTRIES_LIMIT: usize = 1 << HEIGHT;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    #[error("malformed lookup answer: {0}")]
    Lookup(&'static str),
    #[error("malformed tile of entries, entry {number}: {reason}")]
    Tile { number: u64, reason: &'static str },
    #[error("an entry of {0} bytes does not fit into an entry bundle")]
    TooLong(usize),
}

/// `<number>\n<text>\n`: what stands for one entry in a data tile, and before the head in the answer of a lookup.
/// The text ends with a newline of its own. As Go's `tlog.FormatRecord`.
pub fn format_entry(number: u64, text: &str) -> String {
    format!("{number}\n{text}\n")
}

/// Splits the answer of a lookup into the entry's number, its text and the signed head, which is not opened here.
/// Decides like Go's `tlog.ParseRecord`, but takes only the number's canonical form.
pub fn parse_lookup(answer: &[u8]) -> Result<(u64, String, &[u8]), EntryError> {
    if answer.len() > LOOKUP_LIMIT_BYTES {
        return Err(EntryError::Lookup("it is longer than 64 KiB"));
    }
    let (line, rest) = split_line(answer).ok_or(EntryError::Lookup("it has no line with a number"))?;
    let number = entry_number(line).ok_or(EntryError::Lookup("its first line is no entry number"))?;
    let (text, head) = split_text(rest).ok_or(EntryError::Lookup("no blank line follows the entry"))?;
    let text = std::str::from_utf8(text).ok().filter(|text| is_text(text));
    let text = text.ok_or(EntryError::Lookup("the entry is no text"))?;
    Ok((number, text.to_owned(), head))
}

/// Reads a data tile whose first entry has the number `first`: each entry a text and a blank line.
/// A line with the entry's number may precede each (gobuild has it, Go's own server has not); it tells by the first entry,
/// and then all must have theirs.
pub fn parse_data_tile(tile: &[u8], first: u64) -> Result<Vec<&[u8]>, EntryError> {
    let malformed = |number, reason| Err(EntryError::Tile { number, reason });
    if tile.len() > BUNDLE_LIMIT_BYTES {
        return malformed(first, "the tile is longer than 4 MiB");
    }
    // A first entry that is nothing but this number would leave an empty line: it is the entry, then.
    let numbered = strip_number(tile, first).is_some_and(|rest| !rest.starts_with(b"\n"));
    let mut entries = Vec::new();
    let mut number = first;
    let mut rest = tile;
    while !rest.is_empty() {
        if entries.len() == ENTRIES_LIMIT {
            return malformed(number, "the tile has more than 256 entries");
        }
        if numbered {
            let Some(after) = strip_number(rest, number) else {
                return malformed(number, "it does not start with its number");
            };
            rest = after;
        }
        let Some((text, after)) = split_text(rest) else {
            return malformed(number, "no blank line follows it");
        };
        if !std::str::from_utf8(text).is_ok_and(is_text) {
            return malformed(number, "it is no text");
        }
        entries.push(text);
        rest = after;
        number = number.saturating_add(1);
    }
    Ok(entries)
}

/// Reads an entry bundle of C2SP tlog-tiles: each entry its length in two bytes, big-endian, and its bytes.
pub fn parse_entry_bundle(bundle: &[u8]) -> Result<Vec<&[u8]>, EntryError> {
    let malformed = |number: usize, reason| Err(EntryError::Tile { number: number as u64, reason });
    if bundle.len() > BUNDLE_LIMIT_BYTES {
        return malformed(0, "the tile is longer than 4 MiB");
    }
    let mut entries = Vec::new();
    let mut rest = bundle;
    while !rest.is_empty() {
        if entries.len() == ENTRIES_LIMIT {
            return malformed(ENTRIES_LIMIT, "the tile has more than 256 entries");
        }
        let Some((length, after)) = rest.split_first_chunk::<2>() else {
            return malformed(entries.len(), "its length is cut off");
        };
        let Some((entry, after)) = after.split_at_checked(usize::from(u16::from_be_bytes(*length))) else {
            return malformed(entries.len(), "it is cut off");
        };
        entries.push(entry);
        rest = after;
    }
    Ok(entries)
}

/// Appends one entry to an entry bundle. Entries of 64 KiB or more have no place there.
pub fn push_bundle_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), EntryError> {
    let length = u16::try_from(entry.len()).map_err(|_| EntryError::TooLong(entry.len()))?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// The line without its newline, and what follows.
fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// A text up to its blank line, with its own newline, and what follows the blank line.
fn split_text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n")?;
    Some((&bytes[..=end], &bytes[end + 2..]))
}

fn strip_number(bytes: &[u8], number: u64) -> Option<&[u8]> {
    let (line, rest) = split_line(bytes)?;
    (entry_number(line)? == number).then_some(rest)
}

fn entry_number(line: &[u8]) -> Option<u64> {
    let number = canonical_decimal(std::str::from_utf8(line).ok()?)?;
    (number < MAX_SIZE).then_some(number)
}

/// Go's `isValidRecordText`; that no blank line is inside, [`split_text`] has seen to.
fn is_text(text: &str) -> bool {
    !text.bytes().any(|byte| byte < b' ' && byte != b'\n')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::vectors::{input, load, rows, text};
    use super::*;

    #[test]
    fn lookups_are_read_as_by_go() {
        let stricter = [
            "negative number",
            "least number",
            "largest number",
            "number with plus",
            "number with leading zeros",
            "number -0",
        ];
        for row in rows(&load("checkpoints"), "parse_record") {
            let input = input(row);
            let parsed = parse_lookup(&input);
            let about = text(&row["about"]);
            if stricter.contains(&about) {
                assert!(parsed.is_err() && row["error"].is_null(), "{about}");
                continue;
            }
            assert_eq!(parsed.is_ok(), row["error"].is_null(), "{about}");
            if let Ok((number, entry, rest)) = parsed {
                assert_eq!((Some(number), entry.as_str()), (row["id"].as_u64(), text(&row["text"])), "{about}");
                let wanted = match row["rest_base64"].as_str() {
                    Some(rest) => data_encoding::BASE64.decode(rest.as_bytes()).unwrap(),
                    None => text(&row["rest"]).into(),
                };
                assert_eq!(rest, wanted, "{about}");
            }
        }
        for row in rows(&load("checkpoints"), "format_record") {
            if let (Some(number), Some(out)) = (row["id"].as_u64(), row["out"].as_str()) {
                assert_eq!(format_entry(number, text(&row["in"])), out);
            }
        }
    }

    #[test]
    fn data_tiles_are_read_with_and_without_numbers() {
        let with = b"256\na b\n\n257\nc\n\n".as_slice();
        assert_eq!(parse_data_tile(with, 256).unwrap(), [b"a b\n".as_slice(), b"c\n"]);
        assert_eq!(parse_data_tile(b"a b\n\nc\n\n", 256).unwrap(), [b"a b\n".as_slice(), b"c\n"]);
        assert_eq!(parse_data_tile(b"", 0).unwrap(), Vec::<&[u8]>::new());
        // An entry that looks like its own number.
        let odd = parse_data_tile(b"7\n\nc\n\n", 7).unwrap();
        assert_eq!(odd, [b"7\n".as_slice(), b"c\n"]);
        for broken in ["256\na\n\n258\nc\n\n", "256\na\n\nc\n\n", "256\na\n", "a\n\nb", "a\tb\n\n", "256\n\n256\n"] {
            assert!(parse_data_tile(broken.as_bytes(), 256).is_err(), "{broken:?}");
        }
        assert!(parse_data_tile(&b"a\n\n".repeat(257), 0).is_err());
        assert!(parse_data_tile(&vec![b'a'; BUNDLE_LIMIT_BYTES + 1], 0).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(entries in prop::collection::vec("[ -~é☺]{1,40}\n", 0..=256), first in 0..1_u64 << 32) {
            let wanted: Vec<&[u8]> = entries.iter().map(|entry| entry.as_bytes()).collect();
            let mut bundle = Vec::new();
            let (mut numbered, mut plain) = (String::new(), String::new());
            for (number, entry) in (first..).zip(&entries) {
                numbered.push_str(&format_entry(number, entry));
                plain.push_str(&format!("{entry}\n"));
                push_bundle_entry(&mut bundle, entry.as_bytes()).unwrap();
            }
            prop_assert_eq!(&parse_data_tile(numbered.as_bytes(), first).unwrap(), &wanted);
            prop_assert_eq!(&parse_data_tile(plain.as_bytes(), first).unwrap(), &wanted);
            prop_assert_eq!(parse_entry_bundle(&bundle).unwrap(), wanted);
        }

        #[test]
        fn nothing_panics(bytes: Vec<u8>, lines in "[0-9a\n]{0,60}", first: u64) {
            for input in [&bytes, lines.as_bytes()] {
                let _ = (parse_lookup(input), parse_data_tile(input, first), parse_entry_bundle(input));
            }
        }
    }
}
