//! Roots and proofs from tiles, whoever keeps them: the store of this node or another server.
//!
//! A reader is believed here. Tiles of a server that is not trusted go through [`super::VerifyingTiles`] first.

use std::collections::HashMap;

use super::merkle::{Hash, TreeSize, node_hash};
use super::tile::{HEIGHT, Tile, TileKind, tile_root};

/// Something that has the tiles of a tree.
pub trait TileReader {
    type Error;

    /// The first `width` hashes of the tile of hashes at this level and index.
    fn read_tile(&mut self, level: u8, index: u64, width: u16) -> Result<Vec<Hash>, Self::Error>;
}

impl<R: TileReader + ?Sized> TileReader for &mut R {
    type Error = R::Error;

    fn read_tile(&mut self, level: u8, index: u64, width: u16) -> Result<Vec<Hash>, Self::Error> {
        (**self).read_tile(level, index, width)
    }
}

/// Tiles that have been fetched. Reading one that is not there fails with the tile to fetch, so that a client can do
/// its waiting outside: compute, fetch what is missing, compute again (a proof needs a dozen tiles at most).
#[derive(Debug, Clone, Default)]
pub struct FetchedTiles {
    tiles: HashMap<(u8, u64), Vec<Hash>>,
}

impl FetchedTiles {
    /// Keeps the hashes of a tile of hashes; they should be as many as its width says.
    pub fn insert(&mut self, tile: Tile, hashes: Vec<Hash>) {
        if let TileKind::Hashes(level) = tile.kind {
            self.tiles.insert((level, tile.index), hashes);
        }
    }
}

impl TileReader for FetchedTiles {
    type Error = Tile;

    fn read_tile(&mut self, level: u8, index: u64, width: u16) -> Result<Vec<Hash>, Tile> {
        let missing = Tile {
            kind: TileKind::Hashes(level),
            index,
            width,
        };
        let hashes = self
            .tiles
            .get(&(level, index))
            .and_then(|hashes| hashes.get(..usize::from(width)));
        hashes.map(<[Hash]>::to_vec).ok_or(missing)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ProofError<E> {
    /// No proof can be made of this: an entry past the end, an old tree of size 0 or larger than the new one.
    #[error("the tree has no such entry or size")]
    OutOfRange,
    #[error("cannot read tile: {0}")]
    Read(E),
    /// The reader's fault: another number of hashes than asked for.
    #[error("tile {0:?} does not have as many hashes as it should")]
    WrongWidth(Tile),
    /// The hashes do not lead to the root: the tree is damaged, or its server lies.
    #[error("tile {0:?} does not fit the root of the tree")]
    WrongHash(Tile),
}

/// The root of the tree of this size.
pub fn tree_hash<R: TileReader>(
    reader: &mut R,
    size: TreeSize,
) -> Result<Hash, ProofError<R::Error>> {
    Tree::new(reader, size).range(0, size.get())
}

/// The proof that entry `number` is in the tree of this size, the leaf's sibling first. As Go's `tlog.ProveRecord`.
pub fn inclusion_proof<R: TileReader>(
    reader: &mut R,
    size: TreeSize,
    number: u64,
) -> Result<Vec<Hash>, ProofError<R::Error>> {
    if number >= size.get() {
        return Err(ProofError::OutOfRange);
    }
    let mut tree = Tree::new(reader, size);
    let mut proof = Vec::new();
    // Down from the root; what is not on the way is a sibling.
    let (mut begin, mut end) = (0, size.get());
    while end - begin > 1 {
        let middle = begin + split(end - begin);
        if number < middle {
            proof.push(tree.range(middle, end)?);
            end = middle;
        } else {
            proof.push(tree.range(begin, middle)?);
            begin = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The proof that the tree of size `new` continues the one of size `old`: RFC 6962 section 2.1.2, as Go's `tlog.ProveTree`.
pub fn consistency_proof<R: TileReader>(
    reader: &mut R,
    old: TreeSize,
    new: TreeSize,
) -> Result<Vec<Hash>, ProofError<R::Error>> {
    let old = old.get();
    if old == 0 || old > new.get() {
        return Err(ProofError::OutOfRange);
    }
    let mut tree = Tree::new(reader, new);
    let mut proof = Vec::new();
    let (mut begin, mut end) = (0, new.get());
    while end > old {
        let middle = begin + split(end - begin);
        if old <= middle {
            proof.push(tree.range(middle, end)?);
            end = middle;
        } else {
            proof.push(tree.range(begin, middle)?);
            begin = middle;
        }
    }
    // A subtree that is the whole old tree is known to who asks.
    if begin > 0 {
        proof.push(tree.range(begin, end)?);
    }
    proof.reverse();
    Ok(proof)
}

/// The tiles on the right edge of a tree that are not full, lowest first, and the root that their hashes lead to.
/// There is one for each digit of the size, to base 256, that is not 0.
pub(super) fn partial_tiles(size: TreeSize) -> impl Iterator<Item = Tile> {
    // 2^40 has its only digit at level 5.
    (0..=5).filter_map(move |level: u8| {
        let nodes = size.get() >> (u32::from(level) * u32::from(HEIGHT));
        let width = nodes % super::TILE_WIDTH;
        let width = u16::try_from(width).expect("less than 256");
        (width > 0).then_some(Tile {
            kind: TileKind::Hashes(level),
            index: nodes / super::TILE_WIDTH,
            width,
        })
    })
}

/// The root above some hashes of one level, to whose right stands a smaller tree with the root `right`.
pub(super) fn join(hashes: &[Hash], right: Option<Hash>) -> Option<Hash> {
    let mut root = right;
    let mut rest = hashes;
    while !rest.is_empty() {
        // From the right the complete subtrees grow: their sizes are the bits of the number, lowest first.
        let subtree = 1 << rest.len().trailing_zeros();
        let (before, last) = rest.split_at(rest.len() - subtree);
        let hash = tile_root(last);
        root = Some(root.map_or(hash, |right| node_hash(&hash, &right)));
        rest = before;
    }
    root
}

/// Reads each tile once, at the width it has in the tree: the width a server most likely has at hand.
struct Tree<'a, R> {
    reader: &'a mut R,
    size: TreeSize,
    tiles: HashMap<(u8, u64), Vec<Hash>>,
}

impl<'a, R: TileReader> Tree<'a, R> {
    fn new(reader: &'a mut R, size: TreeSize) -> Self {
        Tree {
            reader,
            size,
            tiles: HashMap::new(),
        }
    }

    /// The root of the entries from `begin` to `end`, as if they were a tree: `begin` is a multiple of the largest power
    /// of two that fits.
    fn range(&mut self, begin: u64, end: u64) -> Result<Hash, ProofError<R::Error>> {
        let mut hash = None;
        let mut end = end;
        while end > begin {
            let level = (end - begin).trailing_zeros();
            end -= 1 << level;
            let left = self.subtree(level, end >> level)?;
            hash = Some(hash.map_or(left, |right| node_hash(&left, &right)));
        }
        Ok(hash.unwrap_or(Hash::EMPTY_ROOT))
    }

    /// The root of a complete subtree of `2^level` entries.
    fn subtree(&mut self, level: u32, index: u64) -> Result<Hash, ProofError<R::Error>> {
        let tile_level =
            u8::try_from(level / u32::from(HEIGHT)).expect("levels of 2^40 entries end at 40");
        // Its hashes at the tile's level: 1, 2, … 128, all in one tile.
        let within = level % u32::from(HEIGHT);
        let first = index << within;
        let tile = self.tile(tile_level, first / super::TILE_WIDTH)?;
        let start = usize::try_from(first % super::TILE_WIDTH).expect("less than 256");
        Ok(tile_root(&tile[start..start + (1 << within)]))
    }

    fn tile(&mut self, level: u8, index: u64) -> Result<&[Hash], ProofError<R::Error>> {
        let kind = TileKind::Hashes(level);
        let tile = Tile {
            kind,
            index,
            width: Tile::widest_at(kind, index, self.size),
        };
        if !self.tiles.contains_key(&(level, index)) {
            let hashes = self
                .reader
                .read_tile(level, index, tile.width)
                .map_err(ProofError::Read)?;
            if hashes.len() != usize::from(tile.width) {
                return Err(ProofError::WrongWidth(tile));
            }
            self.tiles.insert((level, index), hashes);
        }
        Ok(&self.tiles[&(level, index)])
    }
}

/// Where RFC 6962 splits a tree of this many entries, two or more: the largest power of two below it.
fn split(entries: u64) -> u64 {
    1 << (entries - 1).ilog2()
}
