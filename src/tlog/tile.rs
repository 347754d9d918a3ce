//! Tiles: which 256 hashes or entries a path names, in the path forms of Go's checksum database and of C2SP tlog-tiles.
//!
//! What is inside a tile of hashes is computed in [`super::proof`]; entries are formatted in [`super::entry`].

use std::fmt::{self, Write as _};

use super::merkle::{Hash, TreeSize, node_hash};
use crate::model::canonical_decimal;

/// Levels of the tree that one tile spans. Other heights are neither served nor asked for.
pub const HEIGHT: u8 = 8;

/// Hashes or entries in a full tile.
pub const TILE_WIDTH: u64 = 1 << HEIGHT;

/// Go gives levels no upper limit; above this one there is no tree of 64 bits that could have an entry.
const MAX_LEVEL: u8 = 63;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TileKind {
    /// Hashes of tree level `8 × this`.
    Hashes(u8),
    /// The entries themselves.
    Entries,
}

/// One tile at one width: hashes or entries `256 × index` to `256 × index + width`, exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    pub kind: TileKind,
    pub index: u64,
    /// 1 to 256; a tile of 256 is full.
    pub width: u16,
}

impl Tile {
    /// Reads `tile/8/<L>/<N>[.p/<W>]`, L being a level or `data`. Only what [`sumdb_path`](Self::sumdb_path) writes.
    pub fn parse_sumdb(path: &str) -> Option<Tile> {
        parse(path.strip_prefix("tile/8/")?, "data")
    }

    /// Reads `tile/<L>/<N>[.p/<W>]`, L being a level or `entries`. Only what [`c2sp_path`](Self::c2sp_path) writes.
    pub fn parse_c2sp(path: &str) -> Option<Tile> {
        parse(path.strip_prefix("tile/")?, "entries")
    }

    /// The path under which the checksum database protocol has it, as Go's `Tile.Path`.
    pub fn sumdb_path(&self) -> String {
        self.path("tile/8/", "data")
    }

    /// The path under which C2SP tlog-tiles has it.
    pub fn c2sp_path(&self) -> String {
        self.path("tile/", "entries")
    }

    fn path(&self, prefix: &str, entries: &str) -> String {
        let mut path = String::with_capacity(48);
        self.write_path(&mut path, prefix, entries).expect("a String takes every write");
        path
    }

    fn write_path(&self, path: &mut String, prefix: &str, entries: &str) -> fmt::Result {
        path.push_str(prefix);
        match self.kind {
            TileKind::Hashes(level) => write!(path, "{level}")?,
            TileKind::Entries => path.push_str(entries),
        }
        // Seven groups of three digits hold 64 bits; all but the last start with x.
        let mut scale = 1000_u64.pow(6);
        while scale > 1 {
            if self.index >= scale {
                write!(path, "/x{:03}", self.index / scale % 1000)?;
            }
            scale /= 1000;
        }
        write!(path, "/{:03}", self.index % 1000)?;
        if u64::from(self.width) < TILE_WIDTH {
            write!(path, ".p/{}", self.width)?;
        }
        Ok(())
    }

    /// How many hashes or entries the tile of this kind and index has in a log of this size; 0 if there is no such tile.
    pub fn widest_at(kind: TileKind, index: u64, size: TreeSize) -> u16 {
        let nodes = match kind {
            TileKind::Hashes(level) => nodes_at(level, size),
            TileKind::Entries => size.get(),
        };
        let before = index.saturating_mul(TILE_WIDTH);
        u16::try_from(nodes.saturating_sub(before).min(TILE_WIDTH)).expect("at most 256")
    }

    /// The tiles of hashes that have to be written or rewritten when a log grows from `old` to `new`, lowest level first.
    /// As Go's `tlog.NewTiles`; nothing if the log does not grow.
    pub fn new_tiles(old: TreeSize, new: TreeSize) -> impl Iterator<Item = Tile> {
        // 2^40 entries are six levels of tiles.
        (0..=5).flat_map(move |level| {
            let (before, after) = (nodes_at(level, old), nodes_at(level, new));
            let indexes = if before < after { before / TILE_WIDTH..after.div_ceil(TILE_WIDTH) } else { 0..0 };
            let kind = TileKind::Hashes(level);
            indexes.map(move |index| Tile { kind, index, width: Tile::widest_at(kind, index, new) })
        })
    }
}

impl fmt::Display for Tile {
    /// Its path in the checksum database protocol.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sumdb_path())
    }
}

/// Reads the hashes of a tile that should have `width` of them.
pub fn parse_hash_tile(bytes: &[u8], width: u16) -> Option<Vec<Hash>> {
    (bytes.len() == usize::from(width) * 32).then(|| parse_hashes(bytes)).flatten()
}

/// Reads hashes that follow each other, however many; None if the last one is cut.
pub fn parse_hashes(bytes: &[u8]) -> Option<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    rest.is_empty().then(|| hashes.iter().map(|hash| Hash(*hash)).collect())
}

/// The hash above a full tile, or above any complete subtree: the number of hashes must be a power of two.
pub fn tile_root(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => Hash::EMPTY_ROOT,
        [one] => *one,
        several => {
            let (left, right) = several.split_at(several.len() / 2);
            node_hash(&tile_root(left), &tile_root(right))
        }
    }
}

/// How many complete hashes a log of this size has at a level of tiles.
fn nodes_at(level: u8, size: TreeSize) -> u64 {
    size.get().checked_shr(u32::from(level) * u32::from(HEIGHT)).unwrap_or(0)
}

/// Reads `<L>/<N>[.p/<W>]`.
fn parse(path: &str, entries: &str) -> Option<Tile> {
    let (level, mut rest) = path.split_once('/')?;
    let kind = if level == entries {
        TileKind::Entries
    } else {
        TileKind::Hashes(u8::try_from(canonical_decimal(level)?).ok().filter(|level| *level <= MAX_LEVEL)?)
    };
    let mut index: u64 = 0;
    let mut first = true;
    while let Some(group) = rest.strip_prefix('x') {
        let (digits, after) = group.split_once('/')?;
        let number = three_digits(digits)?;
        if first && number == 0 {
            return None;
        }
        index = index.checked_mul(1000)?.checked_add(number)?;
        rest = after;
        first = false;
    }
    let (digits, width) = match rest.split_once(".p/") {
        None => (rest, TILE_WIDTH),
        Some((digits, width)) => (digits, canonical_decimal(width).filter(|w| (1..TILE_WIDTH).contains(w))?),
    };
    index = index.checked_mul(1000)?.checked_add(three_digits(digits)?)?;
    // Go's numbers are signed.
    i64::try_from(index).ok()?;
    Some(Tile { kind, index, width: u16::try_from(width).ok()? })
}

fn three_digits(text: &str) -> Option<u64> {
    (text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::super::vectors::{load, rows, text};
    use super::*;

    fn tile(row: &Value) -> Option<Tile> {
        let kind = match row["l"].as_i64()? {
            -1 => TileKind::Entries,
            level => TileKind::Hashes(u8::try_from(level).ok().filter(|level| *level <= 63)?),
        };
        let width = u16::try_from(row["w"].as_u64()?).ok()?;
        let height = row["h"].as_u64().unwrap_or(8);
        (height == 8).then_some(Tile { kind, index: row["n"].as_u64()?, width })
    }

    #[test]
    fn paths_are_gos_and_c2sps() {
        let vectors = load("tlog");
        for row in rows(&vectors, "tile_paths") {
            let tile = tile(row).unwrap();
            assert_eq!(tile.sumdb_path(), text(&row["path"]));
            assert_eq!(tile.c2sp_path(), text(&row["c2sp"]));
            assert_eq!(Tile::parse_sumdb(text(&row["path"])), Some(tile));
            assert_eq!(Tile::parse_c2sp(text(&row["c2sp"])), Some(tile));
        }
        for row in rows(&vectors, "parse_tile_path") {
            assert_eq!(Tile::parse_sumdb(text(&row["path"])), tile(row), "{row}");
        }
        for row in rows(&vectors, "parse_c2sp_tile_path") {
            // The Go library takes its own name for the tiles of entries too.
            let ours = if text(&row["path"]) == "tile/data/000" { None } else { tile(row) };
            assert_eq!(Tile::parse_c2sp(text(&row["path"])), ours, "{row}");
        }
    }

    #[test]
    fn new_tiles_are_gos() {
        for row in rows(&load("tlog"), "new_tiles") {
            let size = |name: &str| TreeSize::new(row[name].as_u64().unwrap()).unwrap();
            let tiles: Vec<_> = Tile::new_tiles(size("old"), size("new")).map(|tile| tile.sumdb_path()).collect();
            let wanted: Vec<_> = rows(row, "tiles").iter().map(text).collect();
            assert_eq!(tiles, wanted);
        }
        let all = Tile::new_tiles(TreeSize::ZERO, TreeSize::new(super::super::MAX_SIZE).unwrap());
        assert_eq!(all.take(3).count(), 3, "and nothing is allocated by a number");
    }

    #[test]
    fn a_tile_of_hashes_has_exactly_its_width() {
        assert_eq!(parse_hash_tile(&[7; 64], 2), Some(vec![Hash([7; 32]); 2]));
        assert_eq!(parse_hash_tile(&[7; 64], 1), None);
        assert_eq!(parse_hash_tile(&[7; 65], 2), None);
        assert_eq!(parse_hash_tile(&[7; 63], 2), None);
        assert_eq!(parse_hashes(&[7; 96]), Some(vec![Hash([7; 32]); 3]));
        assert_eq!(parse_hashes(&[7; 95]), None);
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_written_back_the_same(path in "tile/(8/)?([0-9]{1,3}|data|entries)(/x?[0-9]{3}){1,8}(.p/[0-9]{1,3})?") {
            if let Some(tile) = Tile::parse_sumdb(&path) {
                prop_assert_eq!(tile.sumdb_path(), path.clone());
            }
            if let Some(tile) = Tile::parse_c2sp(&path) {
                prop_assert_eq!(tile.c2sp_path(), path);
            }
        }

        #[test]
        fn nothing_panics(path: String, level: u8, index: u64, size in 0..=super::super::MAX_SIZE) {
            let _ = (Tile::parse_sumdb(&path), Tile::parse_c2sp(&path));
            let size = TreeSize::new(size).unwrap();
            prop_assert!(Tile::widest_at(TileKind::Hashes(level), index, size) <= 256);
            prop_assert!(Tile::widest_at(TileKind::Entries, index, size) <= 256);
        }

        #[test]
        fn paths_agree_with_another_implementation(level in 0_u8..8, index in 0..1_u64 << 40, width in 1_u16..=256) {
            let tile = Tile { kind: TileKind::Hashes(level), index, width };
            // The tree is 64 bits wide there: a tile beyond it makes that crate count wrong.
            prop_assume!(index.checked_shl(8 * (u32::from(level) + 1)).is_some());
            let theirs = tlog_tiles::Tile::new(8, level, index, u32::from(width), false);
            prop_assert_eq!(tile.sumdb_path(), theirs.path());
            let parsed = tlog_tiles::Tile::from_path(&tile.sumdb_path()).unwrap();
            prop_assert_eq!(parsed, theirs);
        }
    }
}
