//! The rightmost tile of each level of one tree: how leaves become tiles on disk.
//!
//! Every tile is read back before its hash goes up a level: a flipped bit must not get into a root that is
//! then signed for, or believed, for good. What the tree is of, and who signed it, is left to others.

use anyhow::{Context, ensure};
use rusqlite::{Connection, params};

use super::TreeId;
use crate::store::Reader;
use crate::tlog::{CompactRange, Hash, TILE_WIDTH, TreeSize, tile_root};

#[expect(clippy::cast_possible_truncation, reason = "it is 256")]
const WIDTH: usize = TILE_WIDTH as usize;

/// The right edge of one tree.
pub(super) struct Levels {
    tree: TreeId,
    size: TreeSize,
    /// Hashes of the rightmost, not yet full tile of each level, from the leaves up.
    tiles: Vec<Vec<Hash>>,
}

impl Levels {
    /// Of a tree without a leaf.
    pub(super) fn empty(tree: TreeId) -> Levels {
        Levels { tree, size: TreeSize::ZERO, tiles: Vec::new() }
    }

    /// Reads the edge of a tree, and checks each level's last full tile against the hash above it.
    ///
    /// # Errors
    /// The tiles are not those of a tree of this size.
    pub(super) fn load(reader: &Reader<'_>, tree: TreeId, size: TreeSize) -> anyhow::Result<Levels> {
        let mut levels = Levels { tree, size, tiles: Vec::new() };
        let mut width = size.get();
        for level in 0u8.. {
            if width == 0 {
                break;
            }
            levels.tiles.push(read_edge(reader, tree, level, width)?);
            width /= TILE_WIDTH;
        }
        for (level, next) in (0u8..).zip(levels.tiles.iter().skip(1)) {
            if let Some(last) = next.last() {
                let index = (size.get() >> (8 * u64::from(level + 1))) - 1;
                let below = reader.tile_hashes(tree, level, index)?;
                ensure!(
                    below.len() == WIDTH && tile_root(&below) == *last,
                    "tile {index} of level {level} does not give the hash above it",
                );
            }
        }
        Ok(levels)
    }

    /// The compact range that the edge stands for.
    ///
    /// # Errors
    /// The tiles are not those of a tree of this size.
    pub(super) fn range(&self) -> anyhow::Result<CompactRange> {
        let mut hashes = Vec::new();
        for tile in self.tiles.iter().rev() {
            // In each tile the subtrees are those of the binary form of its width, largest first.
            let mut rest = tile.as_slice();
            while !rest.is_empty() {
                let (subtree, tail) = rest.split_at(1 << rest.len().ilog2());
                hashes.push(tile_root(subtree));
                rest = tail;
            }
        }
        CompactRange::from_hashes(self.size, hashes).context("the stored hashes do not make a tree")
    }

    /// Adds a leaf. Tiles that fill up are written; they will never change again.
    ///
    /// # Errors
    /// The database failed, or gave back something else than was written.
    pub(super) fn push(&mut self, conn: &Connection, leaf: Hash) -> anyhow::Result<()> {
        self.size = TreeSize::new(self.size.get() + 1).context("the tree is full")?;
        let mut hash = leaf;
        for level in 0.. {
            if self.tiles.len() == level {
                self.tiles.push(Vec::with_capacity(WIDTH));
            }
            self.tiles[level].push(hash);
            if self.tiles[level].len() < WIDTH {
                break;
            }
            hash = tile_root(&self.write(conn, level)?);
            self.tiles[level].clear();
        }
        Ok(())
    }

    /// Writes the tiles that are not full, and takes them as they were read back.
    ///
    /// # Errors
    /// The database failed, or gave back something else than was written.
    pub(super) fn flush(&mut self, conn: &Connection) -> anyhow::Result<()> {
        for level in 0..self.tiles.len() {
            if !self.tiles[level].is_empty() {
                self.tiles[level] = self.write(conn, level)?;
            }
        }
        Ok(())
    }

    /// Writes the edge tile of a level and reads it back.
    fn write(&self, conn: &Connection, level: usize) -> anyhow::Result<Vec<Hash>> {
        let hashes: Vec<u8> = self.tiles[level].iter().flat_map(|hash| hash.0).collect();
        let in_edge = self.tiles[level].len() as u64;
        let index = ((self.size.get() >> (8 * level)) - in_edge) / TILE_WIDTH;
        let level_number = u8::try_from(level).expect("2^40 entries make 5 levels");
        conn.prepare_cached(
            "INSERT INTO tile (log, level, idx, hashes) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET hashes = excluded.hashes",
        )?
        .execute(params![self.tree.0, level_number, index.cast_signed(), hashes])?;
        let read = Reader { conn }.tile_hashes(self.tree, level_number, index)?;
        ensure!(read == self.tiles[level], "a tile came back from the disk other than it was written");
        Ok(read)
    }
}

/// The rightmost tile of a level with `width` hashes; empty if the last one is full.
fn read_edge(reader: &Reader<'_>, tree: TreeId, level: u8, width: u64) -> anyhow::Result<Vec<Hash>> {
    let partial = width % TILE_WIDTH;
    if partial == 0 {
        return Ok(Vec::new());
    }
    let index = width / TILE_WIDTH;
    let hashes = reader.tile_hashes(tree, level, index)?;
    ensure!(
        hashes.len() as u64 == partial,
        "tile {index} of level {level} has {} hashes instead of {partial}",
        hashes.len(),
    );
    Ok(hashes)
}
