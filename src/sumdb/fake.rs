//! A checksum database for tests: a few hundred records in a tree of its own, able to lie.

use std::sync::{Arc, Mutex};

use crate::goproxy::fake::Says;
use crate::sumdb::Database;
use crate::tlog::{
    Hash, Head, SUMDB_ORIGIN, SignerKey, TILE_WIDTH, Tile, TileKind, TreeSize, format_entry, leaf_hash, node_hash,
    sign_note,
};

#[derive(Clone)]
pub(crate) struct FakeDatabase {
    pub(crate) key: SignerKey,
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Default)]
struct State {
    /// Module and version as `m@v`, and record.
    records: Vec<(String, String)>,
    /// Heads are of this size, not of the newest.
    shown: Option<usize>,
}

pub(crate) const NAME: &str = "sums.test";

impl FakeDatabase {
    /// With so many records that two levels of tiles are needed.
    pub(crate) fn new() -> FakeDatabase {
        let database = FakeDatabase { key: SignerKey::generate(NAME, [9; 32]).unwrap(), state: Arc::default() };
        for number in 0..600 {
            database.add("filler.test/x", &format!("v1.0.{number}"), "h1:zip", "h1:mod");
        }
        database
    }

    pub(crate) fn add(&self, module: &str, version: &str, zip: &str, go_mod: &str) {
        let record = format!("{module} {version} {zip}\n{module} {version}/go.mod {go_mod}\n");
        let mut state = self.state.lock().unwrap();
        state.records.push((format!("{module}@{version}"), record));
    }

    /// Another database with the same key and the same records, so far.
    pub(crate) fn fork(&self) -> FakeDatabase {
        FakeDatabase { key: self.key.clone(), state: Arc::new(Mutex::new(self.state.lock().unwrap().clone())) }
    }

    /// Changes what a record says, long after it was signed.
    pub(crate) fn rewrite(&self, number: usize, record: &str) {
        self.state.lock().unwrap().records[number].1 = record.to_owned();
    }

    /// From now on lookups come with the head of this size, as from a cache on the way.
    pub(crate) fn show_head_of(&self, size: usize) {
        self.state.lock().unwrap().shown = Some(size);
    }

    pub(crate) fn database(&self, url: &str) -> Database {
        Database { key: self.key.verifier(), url: url.parse().unwrap() }
    }

    /// What lies at a path below the database's address.
    pub(crate) fn answer(&self, rest: &str) -> Option<Says> {
        let state = self.state.lock().unwrap();
        let leaves: Vec<Hash> = state.records.iter().map(|(_, record)| leaf_hash(record.as_bytes())).collect();
        let head = self.head(&leaves[..state.shown.unwrap_or(leaves.len())]);
        let body = if rest == "supported" {
            Vec::new()
        } else if rest == "latest" {
            head.into_bytes()
        } else if let Some(wanted) = rest.strip_prefix("lookup/") {
            let number = state.records.iter().position(|(key, _)| key == wanted)?;
            format!("{}{head}", format_entry(number as u64, &state.records[number].1)).into_bytes()
        } else {
            tile(&leaves, Tile::parse_sumdb(rest)?)?
        };
        Some(Says::Body(body.into()))
    }

    fn head(&self, leaves: &[Hash]) -> String {
        let head = Head {
            origin: SUMDB_ORIGIN.to_owned(),
            size: TreeSize::new(leaves.len() as u64).unwrap(),
            root: root(leaves),
        };
        sign_note(&head.to_text(), &[&self.key])
    }
}

/// RFC 6962, written down.
fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Hash::EMPTY_ROOT,
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().div_ceil(2).next_power_of_two());
            node_hash(&root(left), &root(right))
        }
    }
}

fn tile(leaves: &[Hash], tile: Tile) -> Option<Vec<u8>> {
    let TileKind::Hashes(level) = tile.kind else {
        return None;
    };
    let span = usize::try_from(TILE_WIDTH).unwrap().checked_pow(u32::from(level))?;
    let first = usize::try_from(tile.index * TILE_WIDTH).unwrap();
    let mut bytes = Vec::new();
    for hash in first..first + usize::from(tile.width) {
        bytes.extend(root(leaves.get(hash * span..(hash + 1) * span)?).0);
    }
    Some(bytes)
}
