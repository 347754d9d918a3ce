//! Hashes of the tree of RFC 6962 section 2.1, tree sizes, and checking proofs.
//!
//! Making proofs needs stored hashes and is done in [`super::proof`]; checking needs nothing but what the proof brings.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64;
use sha2::{Digest, Sha256};

/// The largest tree that is read, served or signed: 2^40 entries.
/// A stranger's number beyond it is refused where it is parsed, so that arithmetic further in cannot overflow.
pub const MAX_SIZE: u64 = 1 << 40;

/// SHA-256 of a leaf, an inner node or a whole tree. Its text is standard base64 with padding, as in a tree head.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

/// The hash of one entry's bytes: SHA-256(0x00 || entry).
pub fn leaf_hash(entry: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update([0]);
    hasher.update(entry);
    Hash(hasher.finalize().into())
}

/// The hash of an inner node: SHA-256(0x01 || left || right).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    // One update with all 65 bytes: three small ones cost a fifth more.
    let mut block = [1; 65];
    block[1..33].copy_from_slice(&left.0);
    block[33..].copy_from_slice(&right.0);
    Hash(Sha256::digest(block).into())
}

impl Hash {
    /// The root of a tree without entries: SHA-256 of nothing.
    pub const EMPTY_ROOT: Hash = Hash([
        0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae,
        0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
    ]);
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // 44 characters: on the stack, as heads are written for every commit.
        let mut text = [0; 44];
        BASE64.encode_mut(&self.0, &mut text);
        f.write_str(std::str::from_utf8(&text).expect("base64 is ASCII"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not the base64 of a hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a hash is 44 characters of base64 with padding")]
pub struct HashError;

impl FromStr for Hash {
    type Err = HashError;

    /// Strict: Go also takes line ends inside and unused bits that are not zero.
    fn from_str(text: &str) -> Result<Self, HashError> {
        if text.len() != 44 {
            return Err(HashError);
        }
        let bytes = BASE64.decode(text.as_bytes()).map_err(|_| HashError)?;
        Ok(Hash(bytes.try_into().map_err(|_| HashError)?))
    }
}

/// How many entries a log has, at most [`MAX_SIZE`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeSize(u64);

impl TreeSize {
    pub const ZERO: TreeSize = TreeSize(0);

    /// None beyond [`MAX_SIZE`].
    pub const fn new(size: u64) -> Option<TreeSize> {
        if size <= MAX_SIZE { Some(TreeSize(size)) } else { None }
    }

    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for TreeSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a proof does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// The question makes no sense: an entry past the end, an old tree larger than the new one, or of size 0
    /// (of which every tree is a continuation, so that a proof would say nothing).
    #[error("the proof is asked for an entry or a size that the tree does not have")]
    OutOfRange,
    #[error("the proof does not lead to the signed root")]
    Invalid,
}

/// Checks that `leaf` is entry `number` of the tree of `size` and `root`. `proof` has the leaf's sibling first.
///
/// Follows RFC 9162 section 2.1.3.2, decides like Go's `tlog.CheckRecord`. The proof does not bind the size: take
/// it from the signed head that the root is from.
pub fn check_inclusion(
    proof: &[Hash],
    size: TreeSize,
    root: &Hash,
    number: u64,
    leaf: &Hash,
) -> Result<(), CheckError> {
    if number >= size.0 {
        return Err(CheckError::OutOfRange);
    }
    let mut node = number;
    let mut last = size.0 - 1;
    let mut hash = *leaf;
    for sibling in proof {
        if last == 0 {
            return Err(CheckError::Invalid);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            // The last node of a level without a sibling is also the last node of the levels above.
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last == 0 && hash == *root { Ok(()) } else { Err(CheckError::Invalid) }
}

/// Checks that the tree of size `old` and `old_root` is how the tree of size `new` and `new_root` began.
///
/// Follows RFC 9162 section 2.1.4.2, decides like Go's `tlog.CheckTree`.
pub fn check_consistency(
    proof: &[Hash],
    new: TreeSize,
    new_root: &Hash,
    old: TreeSize,
    old_root: &Hash,
) -> Result<(), CheckError> {
    if old.0 == 0 || old > new {
        return Err(CheckError::OutOfRange);
    }
    if old == new {
        return if proof.is_empty() && old_root == new_root { Ok(()) } else { Err(CheckError::Invalid) };
    }
    let mut node = old.0 - 1;
    let mut last = new.0 - 1;
    let shared = node.trailing_ones();
    node >>= shared;
    last >>= shared;

    // Where the old tree is one complete subtree its root is where the proof begins; else the proof brings that hash.
    let (first, rest) = if node == 0 { (old_root, proof) } else { proof.split_first().ok_or(CheckError::Invalid)? };
    let mut old_hash = *first;
    let mut new_hash = *first;
    for sibling in rest {
        if last == 0 {
            return Err(CheckError::Invalid);
        }
        if node & 1 == 1 || node == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last == 0 && old_hash == *old_root && new_hash == *new_root { Ok(()) } else { Err(CheckError::Invalid) }
}

#[cfg(test)]
mod tests {
    use super::super::vectors::{hash, hashes, leaf_text, load, rows, text};
    use super::*;

    #[test]
    fn leaves_are_hashed_as_go_does() {
        let vectors = load("tlog");
        for (number, row) in (0..).zip(rows(&vectors, "leaves")) {
            assert_eq!(text(&row["text"]), leaf_text(number));
        }
        for row in rows(&vectors, "leaves").iter().chain(rows(&vectors, "other_leaf_hashes")) {
            assert_eq!(leaf_hash(text(&row["text"]).as_bytes()), hash(&row["hash"]));
        }
        // The space before the newline of an ordinary record counts.
        let record = "github.com/mjl-/gobuild v0.0.8 / linux amd64 go1.14.1 12345678 0N7e6zxGtHCObqNBDA_mXKv7-A9M \n";
        assert_eq!(leaf_hash(record.as_bytes()).to_string(), "6aF9vg4g9SAWeTPKc7hf6Vqb0+1lC2l43hnUAHnNmPo=");
    }

    #[test]
    fn the_empty_root_is_the_hash_of_nothing() {
        assert_eq!(Hash(Sha256::digest([]).into()), Hash::EMPTY_ROOT);
    }

    #[test]
    fn hashes_are_read_strictly() {
        for row in rows(&load("checkpoints"), "parse_hash") {
            let parsed = text(&row["in"]).parse::<Hash>().ok();
            // Go ignores line ends and unused bits in a hash; where we write hashes ourselves there are none.
            let strict = text(&row["about"]) == "plain";
            assert_eq!(parsed, strict.then(|| hash(&row["hash"])), "{row}");
        }
    }

    #[test]
    fn inclusion_is_judged_as_by_go() {
        for row in rows(&load("tlog"), "inclusion_checks") {
            let (size, number) = (row["size"].as_u64().and_then(TreeSize::new), row["index"].as_u64());
            let (Some(size), Some(number)) = (size, number) else {
                assert!(!row["error"].is_null(), "{row}");
                continue;
            };
            let checked =
                check_inclusion(&hashes(&row["proof"]), size, &hash(&row["root"]), number, &hash(&row["leaf"]));
            assert_eq!(checked.is_ok(), row["error"].is_null(), "{row}");
        }
    }

    #[test]
    fn consistency_is_judged_as_by_go() {
        for row in rows(&load("tlog"), "consistency_checks") {
            let (size, old) =
                (row["size"].as_u64().and_then(TreeSize::new), row["old"].as_u64().and_then(TreeSize::new));
            let (Some(size), Some(old)) = (size, old) else {
                assert!(!row["error"].is_null(), "{row}");
                continue;
            };
            let (root, old_root) = (hash(&row["root"]), hash(&row["old_root"]));
            let checked = check_consistency(&hashes(&row["proof"]), size, &root, old, &old_root);
            assert_eq!(checked.is_ok(), row["error"].is_null(), "{row}");
        }
    }

    #[test]
    fn sizes_end_at_2_to_the_40th() {
        assert_eq!(TreeSize::new(1 << 40).map(TreeSize::get), Some(1 << 40));
        assert_eq!(TreeSize::new((1 << 40) + 1), None);
        assert_eq!(TreeSize::new(u64::MAX), None);
    }
}
