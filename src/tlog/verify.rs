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
        VerifyingTiles { inner, size, root, proved: HashMap::new() }
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
        let hashes = self.inner.read_tile(level, tile.index, tile.width).map_err(ProofError::Read)?;
        if hashes.len() == usize::from(tile.width) { Ok(hashes) } else { Err(ProofError::WrongWidth(tile)) }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::vectors::MemoryTree;
    use super::super::{consistency_proof, inclusion_proof, tree_hash};
    use super::*;

    #[test]
    fn every_tile_of_an_honest_server_is_proved() {
        for size in [1, 5, 255, 256, 257, 511, 512, 600, 65_536, 65_792, 66_000] {
            let mut tree = MemoryTree::new(size);
            let (size, root) = (tree.range.size(), tree.range.root());
            let mut proved = VerifyingTiles::new(tree.clone(), size, root);
            for tile in Tile::new_tiles(TreeSize::ZERO, size) {
                let TileKind::Hashes(level) = tile.kind else { panic!("only hashes") };
                let hashes = proved.read_tile(level, tile.index, tile.width).unwrap();
                assert_eq!(hashes, tree.read_tile(level, tile.index, tile.width).unwrap());
                assert_eq!(proved.read_tile(level, tile.index, 1).unwrap(), hashes[..1]);
            }
            assert_eq!(tree_hash(&mut proved, size).unwrap(), root);
            assert!(proved.read_tile(0, 1 << 30, 1).is_err());
            assert!(proved.read_tile(200, 0, 1).is_err());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_false_hash_gets_through(size in 1_u64..1200, entry in 0_u64..1200, level in 0_u8..2, at: prop::sample::Index) {
            let tree = MemoryTree::new(size);
            let (tree_size, root) = (tree.range.size(), tree.range.root());
            let hashes_there = usize::try_from(size >> (8 * level)).unwrap();
            prop_assume!(hashes_there > 0);
            let at = at.index(hashes_there);
            let mut liar = tree.clone();
            liar.corrupt(level, at);
            let mut checked = VerifyingTiles::new(liar, tree_size, root);
            let tile = u64::try_from(at).unwrap() / 256;
            let wrong = checked.read_tile(level, tile, 1);
            prop_assert!(matches!(wrong, Err(ProofError::WrongHash(_))));

            // Proofs either fail or are the true ones.
            let (mut honest, number) = (tree, entry % size);
            if let Ok(proof) = inclusion_proof(&mut checked, tree_size, number) {
                prop_assert_eq!(proof, inclusion_proof(&mut honest, tree_size, number).unwrap());
            }
            let old = TreeSize::new(number + 1).unwrap();
            if let Ok(proof) = consistency_proof(&mut checked, old, tree_size) {
                prop_assert_eq!(proof, consistency_proof(&mut honest, old, tree_size).unwrap());
            }
        }
    }
}
