//! Which functions and variables differ, by the symbol tables of both files.

use std::cmp::Ordering;

use super::parts::difference;
use super::{Content, Image, SymbolPair, Symbols};
use crate::evidence::image::Symbol;

/// Symbols that are named. The counts tell of the others.
pub(super) const NAMED: usize = 20;

/// Compares what both symbol tables name; none if a file has no table that can be read.
pub(super) fn compare(
    contents: &[Content<'_>; 2],
    images: &[anyhow::Result<Image>; 2],
) -> anyhow::Result<Option<Symbols>> {
    let (Ok(image), Ok(its)) = (&images[0], &images[1]) else {
        return Ok(None);
    };
    // A table that is broken is no table: that the files differ is known without it.
    let (Ok(mine), Ok(yours)) = (image.symbols(&contents[0]), its.symbols(&contents[1])) else {
        return Ok(None);
    };
    if mine.is_empty() || yours.is_empty() {
        return Ok(None);
    }
    let counts = [mine.len() as u64, yours.len() as u64];
    let mut symbols = Symbols { counts, only: [0, 0], differing: 0, first: Vec::new(), cut: false };
    // Symbols may overlap, and a stranger's may all be as long as the file.
    let mut left = 2 * contents[0].len().max(contents[1].len());
    let mut found = Vec::new();
    for pair in joined(mine, yours) {
        let first_difference = match &pair {
            (Some(one), Some(other)) => {
                let longest = one.size.max(other.size);
                if longest > left {
                    symbols.cut = true;
                    continue;
                }
                left -= longest;
                let ranges = [one, other].map(|symbol| symbol.offset..symbol.offset + symbol.size);
                let first = difference(contents, ranges, None)?.first;
                if first.is_none() {
                    continue;
                }
                symbols.differing += 1;
                first
            }
            (one, _) => {
                symbols.only[usize::from(one.is_none())] += 1;
                None
            }
        };
        let sizes = [&pair.0, &pair.1].map(|symbol| symbol.as_ref().map(|symbol| symbol.size));
        let Some(Symbol { name, offset, .. }) = pair.0.or(pair.1) else {
            continue;
        };
        found.push((sizes[0] == sizes[1], offset, SymbolPair { name, sizes, first_difference }));
        if found.len() > 64 * NAMED {
            keep_first(&mut found);
        }
    }
    keep_first(&mut found);
    symbols.first = found.into_iter().map(|(_, _, pair)| pair).collect();
    Ok(Some(symbols))
}

/// Those that are named, of many: of another size first, then in the order of their bytes.
fn keep_first(found: &mut Vec<(bool, u64, SymbolPair)>) {
    found.sort_by(|one, other| (one.0, one.1, &one.2.name).cmp(&(other.0, other.1, &other.2.name)));
    found.truncate(NAMED);
}

/// Symbols of the same name side by side; of several with one name the first with the first.
fn joined(mut mine: Vec<Symbol>, mut yours: Vec<Symbol>) -> Vec<(Option<Symbol>, Option<Symbol>)> {
    for symbols in [&mut mine, &mut yours] {
        symbols.sort_by(|one, other| (&one.name, one.offset).cmp(&(&other.name, other.offset)));
    }
    let (mut mine, mut yours) = (mine.into_iter().peekable(), yours.into_iter().peekable());
    let mut pairs = Vec::new();
    loop {
        let order = match (mine.peek(), yours.peek()) {
            (None, None) => return pairs,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(other)) => one.name.cmp(&other.name),
        };
        let one = if order.is_le() { mine.next() } else { None };
        let other = if order.is_ge() { yours.next() } else { None };
        pairs.push((one, other));
    }
}
