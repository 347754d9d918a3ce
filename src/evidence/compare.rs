//! How two executables differ, as a value: for people who look at a divergence, and for the file that proves it.
//!
//! In scope: sizes, hashes, Go build information, sections, symbols, and one word for what kind of difference it is.
//! Out of scope: where the files come from, and who said what of them.
//!
//! The rooms, in reading order:
//! - `parts`: which part of one file belongs to which of the other, and how many of their bytes differ
//! - `symbols`, `paths`: which functions and variables differ; names of source files that only one has
//! - `class`: what kind of difference it is, and what to do about it
//! - `check`: comparisons that strangers wrote into a bundle
//! - `table`: the same for people
//!
//! What always holds: a file differs from itself in nothing; exchanging the two files exchanges what is said of them; any
//! two files have an answer, with memory bounded by their headers and time by their sizes.

mod check;
mod class;
mod parts;
mod paths;
mod symbols;
mod table;

#[cfg(test)]
mod tests;

pub use class::Class;
pub use table::Table;

use std::fs::File;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::buildinfo::BuildInfo;
use super::image::{Content, Image};
use super::plain;
use crate::model::Sum;

/// The longest file that is compared.
pub const COMPARED_LIMIT_BYTES: u64 = 512 << 20;
/// Characters of a sentence, a path or a build id.
const TEXT_LIMIT_CHARS: usize = 400;
/// Bytes read at once.
const CHUNK: usize = 256 << 10;

/// How two executables differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// What kind of difference it is.
    pub class: Class,
    /// The two files. Pairs below are in this order.
    pub binaries: [Binary; 2],
    /// Where in the files the first byte differs, or the shorter one ends.
    pub first_difference: u64,
    /// Bytes that differ from those at the same place in the other file.
    pub differing_bytes: u64,
    /// The parts of both files.
    pub sections: Vec<Part>,
    /// Functions and variables, if both files name them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbols: Option<Symbols>,
    /// Names of source files that stand in one of the files only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paths: Option<Paths>,
}

/// What one file is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binary {
    /// In bytes.
    pub size: u64,
    /// Of the whole file, in hexadecimal.
    pub sha256: String,
    /// Its format, or none if it is no executable that Go could have made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// What Go's linker names the build; none if it is empty, as in what nodes build.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_id: Option<String>,
    /// What the program says of its build.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_info: Option<BuildInfo>,
    /// What could not be read of it, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// A part of both files, or of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The section's name; in parentheses what is no section.
    pub name: String,
    /// `code`, `data`, `build-id`, `debug` or `headers`.
    pub role: String,
    /// Where it starts in each file; null where there is no such part.
    pub offsets: [Option<u64>; 2],
    /// Its bytes in each file, or those that it takes in memory if the file has none.
    pub sizes: [Option<u64>; 2],
    /// Bytes that differ from those at the same place of the other's part.
    pub differing_bytes: u64,
    /// The first such place, from the start of the part, or where the shorter part ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_difference: Option<u64>,
}

/// What the symbol tables say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Symbols {
    /// How many each file has.
    pub counts: [u64; 2],
    /// How many only that file has.
    pub only: [u64; 2],
    /// How many both have, with other bytes.
    pub differing: u64,
    /// Some of them: those of one file only or of another size first, each group in the order of the first file.
    pub first: Vec<SymbolPair>,
    /// Whether there was too much to compare all of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

/// One function or variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SymbolPair {
    /// Its name.
    pub name: String,
    /// Its bytes in each file; null where it is missing.
    pub sizes: [Option<u64>; 2],
    /// The first byte that differs, from its start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_difference: Option<u64>,
}

/// Names of source files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paths {
    /// How many only that file has.
    pub only: [u64; 2],
    /// Some of them, in order.
    pub first: [Vec<String>; 2],
}

/// Compares two files; none if they are the same. Takes as long as reading each of them a few times, on the thread
/// that calls.
///
/// # Errors
/// A file cannot be read, or is longer than [`COMPARED_LIMIT_BYTES`]. What a file holds is no error.
pub fn compare(one: &File, other: &File) -> anyhow::Result<Option<Comparison>> {
    let contents = [Content::new(one)?, Content::new(other)?];
    for content in &contents {
        let limit = COMPARED_LIMIT_BYTES;
        anyhow::ensure!(content.len() <= limit, "a file of {} bytes: at most {limit} are compared", content.len());
    }
    let whole = parts::difference(&contents, contents.each_ref().map(|content| 0..content.len()), None)?;
    let Some(first_difference) = whole.first else {
        return Ok(None);
    };
    let images = contents.each_ref().map(Image::read);
    let sections = parts::pair(&contents, &images)?;
    let symbols = symbols::compare(&contents, &images)?;
    let paths = paths::compare(&contents)?;
    let binaries = [binary(&contents[0], &images[0])?, binary(&contents[1], &images[1])?];
    let class = class::decide(&binaries, &whole, &sections, paths.as_ref());
    let paths = paths.map(|found| found.paths);
    Ok(Some(Comparison { class, binaries, first_difference, differing_bytes: whole.bytes, sections, symbols, paths }))
}

fn binary(content: &Content<'_>, image: &anyhow::Result<Image>) -> anyhow::Result<Binary> {
    let mut binary = Binary {
        size: content.len(),
        sha256: HEXLOWER.encode(&hash(content)?),
        format: None,
        build_id: None,
        build_info: None,
        trouble: None,
    };
    match image {
        Ok(image) => {
            binary.format = Some(image.format.to_owned());
            binary.build_id = parts::build_id(content, image)?;
            match BuildInfo::read(content, image) {
                Ok(info) => binary.build_info = Some(check::fit(info)),
                Err(error) => binary.trouble = Some(plain(&format!("{error:#}"), TEXT_LIMIT_CHARS)),
            }
        }
        Err(error) => binary.trouble = Some(plain(&format!("{error:#}"), TEXT_LIMIT_CHARS)),
    }
    Ok(binary)
}

fn hash(content: &Content<'_>) -> anyhow::Result<[u8; 32]> {
    let (mut hasher, mut at) = (Sha256::new(), 0);
    let mut chunk = vec![0; CHUNK];
    loop {
        match content.read_at(&mut chunk, at)? {
            0 => return Ok(hasher.finalize().into()),
            read => {
                hasher.update(&chunk[..read]);
                at += read as u64;
            }
        }
    }
}

impl Comparison {
    /// Reads one that a stranger may have written, as it stands in a bundle.
    ///
    /// # Errors
    /// It is not written as this program writes comparisons; the sentence says where.
    pub fn from_json(value: &serde_json::Value) -> Result<Comparison, String> {
        check::read(value)
    }

    /// As it stands in a bundle.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("texts and numbers always are JSON")
    }

    /// The same with the files exchanged.
    #[must_use]
    pub fn reversed(mut self) -> Comparison {
        self.binaries.reverse();
        for part in &mut self.sections {
            part.offsets.reverse();
            part.sizes.reverse();
        }
        if let Some(symbols) = &mut self.symbols {
            symbols.counts.reverse();
            symbols.only.reverse();
            symbols.first.iter_mut().for_each(|pair| pair.sizes.reverse());
        }
        if let Some(paths) = &mut self.paths {
            paths.only.reverse();
            paths.first.reverse();
        }
        self
    }

    /// The size and sum by which logs name the files.
    pub fn sums(&self) -> [(u64, Sum); 2] {
        self.binaries.each_ref().map(|binary| {
            let sha256 = HEXLOWER.decode(binary.sha256.as_bytes()).ok().and_then(|hash| hash.try_into().ok());
            (binary.size, Sum::of_sha256(&sha256.expect("checked when it was read")))
        })
    }
}
