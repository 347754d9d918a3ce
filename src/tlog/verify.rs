//! Tiles of a server that is not trusted, each proved against the signed root before anyone sees it.
//!
//! As Go's `tlog.TileHashReader`. Fetching is left to the reader inside.

use std::collections::HashMap;

use super::merkle::{Hash, TreeSize};
use super::proof::{ProofError, TileReader, join, partial_tiles};
use super::tile::{TILE_WIDTH, Tile, TileKind, tile_root};

/// A reader whose every answer leads to the root: the tiles of the right edge are checked together, every full tile
/// against its hash in the tile above, which is checked first.
pub struct VerifyingTiles<R> {
    inner: R,
    size: TreeSize,
    root: Hash,
    /// Proved tiles, at their width in this tree.
    proved: HashMap<(u8, u64), Vec<Hash>>,
}

impl<R: TileReader> VerifyingTiles<R> {
    /// `size` and `root` come from one signed head.
    pub fn new(inner: R, size: TreeSize, root: Hash) -> VerifyingTiles<R> {
        VerifyingTiles {
            inner,
            size,
            root,
            proved: HashMap::new(),
        }
    }

    /// The reader inside, for instance to see what it had to fetch.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// Sees to it that the tile stands in `proved`.
    fn prove(&mut self, level: u8, index: u64) -> Result<(), ProofError<R::Error>> {
        if self.proved.contains_key(&(level, index)) {
            return Ok(());
        }
        let kind = TileKind::Hashes(level);
        let width = Tile::widest_at(kind, index, self.size);
        if width == 0 {
            return Err(ProofError::OutOfRange);
        }
        if u64::from(width) < TILE_WIDTH {
            return self.prove_edge();
        }
        // A full tile has its hash in the level above. There are six levels, so this ends.
        let (above, slot) = (index / TILE_WIDTH, index % TILE_WIDTH);
        self.prove(level + 1, above)?;
        let hashes = self.fetch(Tile { kind, index, width })?;
        let slot = usize::try_from(slot).expect("less than 256");
        if tile_root(&hashes) != self.proved[&(level + 1, above)][slot] {
            return Err(ProofError::WrongHash(Tile { kind, index, width }));
        }
        self.proved.insert((level, index), hashes);
        Ok(())
    }

    /// Proves all tiles that are not full: together they give the root.
    fn prove_edge(&mut self) -> Result<(), ProofError<R::Error>> {
        let mut edge = Vec::new();
        let mut root = None;
        for tile in partial_tiles(self.size) {
            let hashes = self.fetch(tile)?;
            root = join(&hashes, root);
            edge.push((tile, hashes));
        }
        match edge.last() {
            Some((tile, _)) if root != Some(self.root) => return Err(ProofError::WrongHash(*tile)),
            _ => {}
        }
        for (tile, hashes) in edge {
            if let TileKind::Hashes(level) = tile.kind {
                self.proved.insert((level, tile.index), hashes);
            }
        }
        Ok(())
    }

    fn fetch(&mut self, tile: Tile) -> Result<Vec<Hash>, ProofError<R::Error>> {
        let TileKind::Hashes(level) = tile.kind else {
            return Err(ProofError::OutOfRange);
        };
        let hashes = self
            .inner
            .read_tile(level, tile.index, tile.width)
            .map_err(ProofError::Read)?;
        if hashes.len() == usize::from(tile.width) {
            Ok(hashes)
        } else {
            Err(ProofError::WrongWidth(tile))
        }
    }
}

impl<R: TileReader> TileReader for VerifyingTiles<R> {
    type Error = ProofError<R::Error>;

    fn read_tile(&mut self, level: u8, index: u64, width: u16) -> Result<Vec<Hash>, Self::Error> {
        self.prove(level, index)?;
        let hashes = self.proved[&(level, index)].get(..usize::from(width));
        hashes.map(<[Hash]>::to_vec).ok_or(ProofError::OutOfRange)
    }
}
