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
        let missing = Tile { kind: TileKind::Hashes(level), index, width };
        let hashes = self.tiles.get(&(level, index)).and_then(|hashes| hashes.get(..usize::from(width)));
        hashes.map(<[Hash]>::to_vec).ok_or(missing)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ProofError<E> {
    /// No proof can be made of this: an entry past the end, an old tree of size 0 or larger than the new one.
    #[error("the tree has no such entry or size")]
    OutOfRange,
    #[error("cannot read {0}")]
    Read(E),
    /// The reader's fault: another number of hashes than asked for.
    #[error("{0} does not have as many hashes as it should")]
    WrongWidth(Tile),
    /// The hashes do not lead to the root: the tree is damaged, or its server lies.
    #[error("{0} does not fit the root of the tree")]
    WrongHash(Tile),
}

/// The root of the tree of this size.
pub fn tree_hash<R: TileReader>(reader: &mut R, size: TreeSize) -> Result<Hash, ProofError<R::Error>> {
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
pub fn partial_tiles(size: TreeSize) -> impl Iterator<Item = Tile> {
    // 2^40 has its only digit at level 5.
    (0..=5).filter_map(move |level: u8| {
        let nodes = size.get() >> (u32::from(level) * u32::from(HEIGHT));
        let width = nodes % super::TILE_WIDTH;
        let width = u16::try_from(width).expect("less than 256");
        (width > 0).then_some(Tile { kind: TileKind::Hashes(level), index: nodes / super::TILE_WIDTH, width })
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
        Tree { reader, size, tiles: HashMap::new() }
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
        let tile_level = u8::try_from(level / u32::from(HEIGHT)).expect("levels of 2^40 entries end at 40");
        // Its hashes at the tile's level: 1, 2, … 128, all in one tile.
        let within = level % u32::from(HEIGHT);
        let first = index << within;
        let tile = self.tile(tile_level, first / super::TILE_WIDTH)?;
        let start = usize::try_from(first % super::TILE_WIDTH).expect("less than 256");
        Ok(tile_root(&tile[start..start + (1 << within)]))
    }

    fn tile(&mut self, level: u8, index: u64) -> Result<&[Hash], ProofError<R::Error>> {
        let kind = TileKind::Hashes(level);
        let tile = Tile { kind, index, width: Tile::widest_at(kind, index, self.size) };
        if !self.tiles.contains_key(&(level, index)) {
            let hashes = self.reader.read_tile(level, index, tile.width).map_err(ProofError::Read)?;
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::vectors::{MemoryTree, hash, hashes, leaf_text, load, rows, text};
    use super::super::{check_consistency, check_inclusion, leaf_hash};
    use super::*;

    fn size(value: &serde_json::Value) -> TreeSize {
        TreeSize::new(value.as_u64().unwrap()).unwrap()
    }

    #[test]
    fn roots_proofs_and_tiles_are_gos() {
        let vectors = load("tlog");
        let mut tree = MemoryTree::new(66_000);
        for (number, root) in (0..).zip(rows(&vectors, "roots")) {
            assert_eq!(tree_hash(&mut tree, TreeSize::new(number).unwrap()).unwrap(), hash(root));
        }
        for row in rows(&vectors, "large_roots") {
            assert_eq!(tree_hash(&mut tree, size(&row["size"])).unwrap(), hash(&row["root"]));
        }
        for row in rows(&vectors, "inclusion") {
            let proof = inclusion_proof(&mut tree, size(&row["size"]), row["index"].as_u64().unwrap()).unwrap();
            assert_eq!(proof, hashes(&row["proof"]), "{row}");
        }
        for row in rows(&vectors, "consistency") {
            let proof = consistency_proof(&mut tree, size(&row["old"]), size(&row["new"])).unwrap();
            assert_eq!(proof, hashes(&row["proof"]), "{row}");
        }
        for row in rows(&vectors, "tiles") {
            let tile = Tile::parse_sumdb(text(&row["path"])).unwrap();
            let TileKind::Hashes(level) = tile.kind else {
                continue;
            };
            let bytes: Vec<u8> =
                tree.read_tile(level, tile.index, tile.width).unwrap().iter().flat_map(|h| h.0).collect();
            let digest = <sha2::Sha256 as sha2::Digest>::digest(bytes);
            assert_eq!(data_encoding::HEXLOWER.encode(&digest), text(&row["sha256_hex"]), "{row}");
        }
    }

    #[test]
    fn senseless_questions_have_no_proof() {
        let mut tree = MemoryTree::new(5);
        let at = |number| TreeSize::new(number).unwrap();
        assert!(matches!(inclusion_proof(&mut tree, at(5), 5), Err(ProofError::OutOfRange)));
        assert!(matches!(inclusion_proof(&mut tree, at(0), 0), Err(ProofError::OutOfRange)));
        assert!(matches!(consistency_proof(&mut tree, at(0), at(5)), Err(ProofError::OutOfRange)));
        assert!(matches!(consistency_proof(&mut tree, at(5), at(4)), Err(ProofError::OutOfRange)));
        assert!(matches!(tree_hash(&mut tree, at(1 << 40)), Err(ProofError::Read(_))));
    }

    #[test]
    fn what_is_missing_is_named_until_nothing_is() {
        let mut tree = MemoryTree::new(700);
        let mut fetched = FetchedTiles::default();
        let size = TreeSize::new(700).unwrap();
        let mut fetches = Vec::new();
        let proof = loop {
            match inclusion_proof(&mut fetched, size, 300) {
                Ok(proof) => break proof,
                Err(ProofError::Read(tile)) => {
                    fetches.push(tile.sumdb_path());
                    let TileKind::Hashes(level) = tile.kind else { panic!("a proof needs hashes only") };
                    fetched.insert(tile, tree.read_tile(level, tile.index, tile.width).unwrap());
                }
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!(fetches, ["tile/8/0/002.p/188", "tile/8/1/000.p/2", "tile/8/0/001"]);
        let root = tree_hash(&mut tree, size).unwrap();
        let leaf = leaf_hash(leaf_text(300).as_bytes());
        assert_eq!(check_inclusion(&proof, size, &root, 300, &leaf), Ok(()));
    }

    /// Reads a hash by the index under which Go's and that crate's stored hashes stand.
    struct Stored(std::cell::RefCell<MemoryTree>);

    impl tlog_tiles::HashReader for Stored {
        fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog_tiles::Hash>, tlog_tiles::Error> {
            let mut tree = self.0.borrow_mut();
            let size = tree.range.size();
            let read = |index: &u64| {
                let (level, number) = tlog_tiles::split_stored_hash_index(*index);
                tlog_tiles::Hash(Tree::new(&mut *tree, size).subtree(u32::from(level), number).unwrap().0)
            };
            Ok(indexes.iter().map(read).collect())
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn proofs_agree_with_another_implementation(new in 1_u64..1500, old in 1_u64..1500, number in 0_u64..1500) {
            let (old, number) = (1 + old % new, number % new);
            let (size, old_size) = (TreeSize::new(new).unwrap(), TreeSize::new(old).unwrap());
            let mut tree = MemoryTree::new(new);
            let stored = Stored(tree.clone().into());
            let root = tree_hash(&mut tree, size).unwrap();
            let old_root = tree_hash(&mut tree, old_size).unwrap();
            prop_assert_eq!(root, tree.range.root());
            prop_assert_eq!(root.0, tlog_tiles::tree_hash(new, &stored).unwrap().0);

            let proof = inclusion_proof(&mut tree, size, number).unwrap();
            let theirs = tlog_tiles::prove_record(new, number, &stored).unwrap();
            prop_assert_eq!(&proof, &theirs.iter().map(|hash| Hash(hash.0)).collect::<Vec<_>>());
            let leaf = leaf_hash(leaf_text(number).as_bytes());
            prop_assert_eq!(check_inclusion(&proof, size, &root, number, &leaf), Ok(()));

            let proof = consistency_proof(&mut tree, old_size, size).unwrap();
            let theirs = tlog_tiles::prove_tree(new, old, &stored).unwrap();
            prop_assert_eq!(&proof, &theirs.iter().map(|hash| Hash(hash.0)).collect::<Vec<_>>());
            prop_assert_eq!(check_consistency(&proof, size, &root, old_size, &old_root), Ok(()));
        }

        #[test]
        fn a_proof_with_anything_changed_fails(new in 2_u64..600, old in 1_u64..600, at: prop::sample::Index, bit in 0_usize..256) {
            let old = 1 + old % (new - 1);
            let (size, old_size) = (TreeSize::new(new).unwrap(), TreeSize::new(old).unwrap());
            let mut tree = MemoryTree::new(new);
            let (root, old_root) = (tree.range.root(), tree_hash(&mut tree, old_size).unwrap());
            let leaf = leaf_hash(leaf_text(old).as_bytes());
            let mut inclusion = inclusion_proof(&mut tree, size, old).unwrap();
            let mut consistency = consistency_proof(&mut tree, old_size, size).unwrap();
            let (one, other) = (at.index(inclusion.len()), at.index(consistency.len()));
            inclusion[one].0[bit / 8] ^= 1 << (bit % 8);
            consistency[other].0[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(check_inclusion(&inclusion, size, &root, old, &leaf).is_err());
            prop_assert!(check_consistency(&consistency, size, &root, old_size, &old_root).is_err());
        }

        #[test]
        fn hostile_numbers_do_no_harm(proof: Vec<[u8; 32]>, new in 0..=1_u64 << 40, old in 0..=1_u64 << 40, number: u64, hash: [u8; 32]) {
            let proof: Vec<Hash> = proof.into_iter().map(Hash).collect();
            let (new, old, hash) = (TreeSize::new(new).unwrap(), TreeSize::new(old).unwrap(), Hash(hash));
            prop_assert!(check_inclusion(&proof, new, &Hash::EMPTY_ROOT, number, &hash).is_err());
            prop_assert!(old == new || check_consistency(&proof, new, &Hash::EMPTY_ROOT, old, &hash).is_err());
            // A reader that has nothing is asked for one tile and that is all.
            let _ = inclusion_proof(&mut FetchedTiles::default(), new, number);
            let _ = consistency_proof(&mut FetchedTiles::default(), old, new);
            let _ = tree_hash(&mut FetchedTiles::default(), new);
        }
    }
}
