//! The reference vectors in `tests/data`, made with golang.org/x/mod, and a tree in memory to compare with them.

use data_encoding::{BASE64, BASE64URL_NOPAD};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{CompactRange, Hash, TileReader, leaf_hash};

pub(super) fn load(name: &str) -> Value {
    let path = format!("{}/tests/data/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The rows of a table.
pub(super) fn rows<'a>(vectors: &'a Value, table: &str) -> &'a [Value] {
    vectors[table].as_array().unwrap()
}

/// What a row gives as input, as bytes.
pub(super) fn input(row: &Value) -> Vec<u8> {
    match &row["in_base64"] {
        Value::String(text) => BASE64.decode(text.as_bytes()).unwrap(),
        _ => text(&row["in"]).as_bytes().to_vec(),
    }
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

pub(super) fn hash(value: &Value) -> Hash {
    text(value).parse().unwrap()
}

pub(super) fn hashes(value: &Value) -> Vec<Hash> {
    value.as_array().map(|list| list.iter().map(hash).collect()).unwrap_or_default()
}

/// Entry `number` by the `leaf_rule` of `tlog.json`.
pub(super) fn leaf_text(number: u64) -> String {
    let digest = Sha256::digest(number.to_string());
    let sum = BASE64URL_NOPAD.encode(&digest[..20]);
    format!("example.com/m v1.0.{number} /cmd/x linux amd64 go1.27.1 {} 0{sum} \n", 1_000_000 + number)
}

/// All hashes of all tile levels of a tree, as a store would keep them.
#[derive(Clone)]
pub(super) struct MemoryTree {
    levels: [Vec<Hash>; 6],
    pub(super) range: CompactRange,
}

impl MemoryTree {
    pub(super) fn new(size: u64) -> MemoryTree {
        let mut tree = MemoryTree { levels: Default::default(), range: CompactRange::new() };
        for number in 0..size {
            tree.push(leaf_hash(leaf_text(number).as_bytes()));
        }
        tree
    }

    pub(super) fn push(&mut self, leaf: Hash) {
        let levels = &mut self.levels;
        self.range.push_with(leaf, |level, _, hash| {
            if level.is_multiple_of(8) {
                levels[usize::from(level / 8)].push(hash);
            }
        });
    }

    pub(super) fn corrupt(&mut self, level: u8, index: usize) {
        self.levels[usize::from(level)][index].0[7] ^= 1;
    }
}

impl TileReader for MemoryTree {
    type Error = String;

    fn read_tile(&mut self, level: u8, index: u64, width: u16) -> Result<Vec<Hash>, String> {
        let start = usize::try_from(index * 256).unwrap();
        let hashes = self.levels[usize::from(level)].get(start..start + usize::from(width));
        hashes.map(<[Hash]>::to_vec).ok_or_else(|| format!("no tile {level} {index} of {width}"))
    }
}
