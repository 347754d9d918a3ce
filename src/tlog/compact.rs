//! The few hashes from which a log can go on growing and its root can be computed: at most 40 of them.
//!
//! What the hashes are of, and where they are kept, is left to others.

use super::merkle::{Hash, TreeSize, node_hash};

/// The roots of the complete subtrees that a tree of this size consists of, largest (leftmost) first:
/// one for each bit that is set in the size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompactRange {
    size: TreeSize,
    hashes: Vec<Hash>,
}

impl CompactRange {
    pub fn new() -> CompactRange {
        CompactRange::default()
    }

    /// None if this is not the number of hashes that a tree of this size has.
    pub fn from_hashes(size: TreeSize, hashes: Vec<Hash>) -> Option<CompactRange> {
        (hashes.len() == size.get().count_ones() as usize).then_some(CompactRange { size, hashes })
    }

    pub fn to_hashes(&self) -> Vec<Hash> {
        self.hashes.clone()
    }

    pub fn size(&self) -> TreeSize {
        self.size
    }

    /// Appends an entry by its leaf hash: one node hash, amortized.
    pub fn push(&mut self, leaf: Hash) {
        self.push_with(leaf, |_, _, _| ());
    }

    /// Appends like [`push`](Self::push) and tells each hash that will never change again: level (0 for the leaf itself),
    /// index in that level, hash. The levels that are multiples of 8 are what tiles hold.
    pub fn push_with(&mut self, leaf: Hash, mut complete: impl FnMut(u8, u64, Hash)) {
        let number = self.size.get();
        complete(0, number, leaf);
        let mut hash = leaf;
        // A set bit of the old size is a subtree that waits for its right half.
        let pairs = u8::try_from(number.trailing_ones()).expect("at most 64");
        for level in 1..=pairs {
            let left = self.hashes.pop().expect("one hash for each bit set in the size");
            hash = node_hash(&left, &hash);
            complete(level, number >> level, hash);
        }
        self.hashes.push(hash);
        self.size = TreeSize::new(number + 1).expect("nobody appends 2^40 entries: at 20,000 a second it takes a year");
    }

    /// The root of the tree as it is now.
    pub fn root(&self) -> Hash {
        // The smallest subtree is hashed first: RFC 6962 splits at the largest power of two.
        self.hashes.iter().rev().copied().reduce(|right, left| node_hash(&left, &right)).unwrap_or(Hash::EMPTY_ROOT)
    }
}

#[cfg(test)]
mod tests {
    use super::super::leaf_hash;
    use super::super::vectors::{hash, leaf_text, load, rows};
    use super::*;

    #[test]
    fn the_root_after_each_entry_is_gos() {
        let vectors = load("tlog");
        let mut range = CompactRange::new();
        for (size, root) in (0..).zip(rows(&vectors, "roots")) {
            assert_eq!((range.size().get(), range.root()), (size, hash(root)));
            range.push(leaf_hash(leaf_text(size).as_bytes()));
        }
        let large = rows(&vectors, "large_roots");
        let mut range = CompactRange::new();
        for row in large {
            let size = row["size"].as_u64().unwrap();
            while range.size().get() < size {
                range.push(leaf_hash(leaf_text(range.size().get()).as_bytes()));
            }
            assert_eq!(range.root(), hash(&row["root"]), "size {size}");
        }
    }

    #[test]
    fn it_goes_on_from_its_hashes() {
        let mut range = CompactRange::new();
        for number in 0..300 {
            range = CompactRange::from_hashes(range.size(), range.to_hashes()).unwrap();
            range.push(leaf_hash(leaf_text(number).as_bytes()));
        }
        assert_eq!(range.root(), hash(&load("tlog")["roots"][300]));
        let mut hashes = range.to_hashes();
        hashes.pop();
        assert_eq!(CompactRange::from_hashes(range.size(), hashes), None);
    }
}
