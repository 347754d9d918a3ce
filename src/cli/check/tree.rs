//! A log's tree, computed again from its entries, and compared with what is stored.

use anyhow::Context;

use super::Report;
use crate::store::{Reader, TreeId};
use crate::tlog::{CompactRange, Hash, TILE_WIDTH, tile_root};

/// Notes it if a stored tile of this tree, which is called so, is not what its entries give.
pub(super) fn compare_tile(
    reader: &Reader<'_>,
    (tree, name): (TreeId, &str),
    level: u8,
    index: u64,
    hashes: &[Hash],
    report: &mut Report,
) -> anyhow::Result<()> {
    let stored = reader.tile(tree, level, index)?;
    let same = stored.len() == hashes.len() * 32 && hashes.iter().zip(stored.chunks(32)).all(|(a, b)| a.0 == *b);
    report.expect(same, || format!("tile {index} of level {level} of the {name} log is not what its entries give"));
    Ok(())
}

/// A tree computed again from its leaves; tiles are handed out as they fill up, so memory stays flat.
#[derive(Default)]
pub(super) struct Rebuilt {
    pub(super) range: CompactRange,
    levels: Vec<Level>,
    /// Tiles that its entries make; complete after [`Rebuilt::edges`].
    pub(super) tiles: u64,
}

#[derive(Default)]
struct Level {
    full: u64,
    hashes: Vec<Hash>,
}

/// Takes the hashes of a tile, by level and index.
pub(super) type Visit<'v> = dyn FnMut(u8, u64, &[Hash]) -> anyhow::Result<()> + 'v;

impl Rebuilt {
    /// Adds a leaf, and hands out the tiles that it fills.
    pub(super) fn push(&mut self, leaf: Hash, visit: &mut Visit<'_>) -> anyhow::Result<()> {
        self.range.push(leaf);
        let mut hash = leaf;
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Level::default());
            }
            let tile = &mut self.levels[level];
            tile.hashes.push(hash);
            if (tile.hashes.len() as u64) < TILE_WIDTH {
                break;
            }
            self.tiles += 1;
            visit(u8::try_from(level).context("a tree of too many levels")?, tile.full, &tile.hashes)?;
            hash = tile_root(&tile.hashes);
            tile.hashes.clear();
            tile.full += 1;
        }
        Ok(())
    }

    /// Hands out the tiles at the edge that are not full.
    pub(super) fn edges(&mut self, visit: &mut Visit<'_>) -> anyhow::Result<()> {
        for (level, tile) in (0u8..).zip(&self.levels) {
            if !tile.hashes.is_empty() {
                self.tiles += 1;
                visit(level, tile.full, &tile.hashes)?;
            }
        }
        Ok(())
    }
}
