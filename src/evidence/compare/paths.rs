//! Names of source files in the tables that a Go program has for its stack traces.
//!
//! They stand one after the other, each ended by a zero byte. Anything that looks so counts, wherever it is: where
//! exactly the tables are differs between releases.

use std::collections::{BTreeMap, BTreeSet};

use super::{CHUNK, Content, Paths, TEXT_LIMIT_CHARS, plain};

/// Bytes that a path may have.
const PATH_LIMIT_BYTES: usize = 400;
/// Paths of one file that are looked at, and their bytes: the largest programs have ten thousand.
const PATHS_LIMIT: usize = 100_000;
const PATHS_LIMIT_BYTES: usize = 8 << 20;
/// Paths of each file that are named.
pub(super) const NAMED: usize = 10;

/// Paths that differ.
pub(super) struct Found {
    pub(super) paths: Paths,
    /// Whether it is the same files under other names of their folders.
    pub(super) same_files: bool,
}

/// What paths stand in one of the files only; none if both have the same.
pub(super) fn compare(contents: &[Content<'_>; 2]) -> anyhow::Result<Option<Found>> {
    let [mine, yours] = [paths(&contents[0])?, paths(&contents[1])?];
    let only = [mine.difference(&yours).collect::<Vec<_>>(), yours.difference(&mine).collect::<Vec<_>>()];
    if only.iter().all(Vec::is_empty) {
        return Ok(None);
    }
    let same_files = names(&only[0]) == names(&only[1]);
    let paths = Paths {
        only: only.each_ref().map(|paths| paths.len() as u64),
        first: only.map(|paths| paths.into_iter().take(NAMED).cloned().collect()),
    };
    Ok(Some(Found { paths, same_files }))
}

/// How many paths end in each name of a file.
fn names<'p>(paths: &[&'p String]) -> BTreeMap<&'p str, usize> {
    let mut names = BTreeMap::new();
    for path in paths {
        *names.entry(path.rsplit(['/', '\\']).next().unwrap_or_default()).or_default() += 1;
    }
    names
}

/// All that look like paths of source files.
fn paths(content: &Content<'_>) -> anyhow::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut bytes = 0;
    // What stands between two zero bytes, as long as it may be a path.
    let mut text: Option<Vec<u8>> = None;
    let mut at = 0;
    loop {
        let chunk = content.bytes(at, CHUNK)?;
        if chunk.is_empty() {
            return Ok(found);
        }
        at += chunk.len() as u64;
        for byte in chunk {
            match &mut text {
                _ if byte == 0 => {
                    if let Some(path) = text.take().and_then(path) {
                        bytes += path.len();
                        found.insert(path);
                        if found.len() >= PATHS_LIMIT || bytes >= PATHS_LIMIT_BYTES {
                            return Ok(found);
                        }
                    }
                    text = Some(Vec::new());
                }
                Some(open) if open.len() < PATH_LIMIT_BYTES && !byte.is_ascii_control() => open.push(byte),
                _ => text = None,
            }
        }
    }
}

fn path(text: Vec<u8>) -> Option<String> {
    let source = text.ends_with(b".go") || text.ends_with(b".s");
    let path = String::from_utf8(text).ok().filter(|text| source && text.contains(['/', '\\']))?;
    Some(plain(&path, TEXT_LIMIT_CHARS))
}
