//! A checksum database for the modules of a test.

use std::collections::HashMap;

use sumpeer::tlog::{
    self, CompactRange, Head, SUMDB_ORIGIN, SignerKey, Tile, TileKind, TreeSize, leaf_hash, tile_root,
};

/// A log of module sums, signed by a key of its own.
pub(crate) struct Database {
    key: SignerKey,
    texts: Vec<String>,
    numbers: HashMap<String, usize>,
}

impl Database {
    pub(crate) fn new() -> Database {
        Database {
            key: SignerKey::generate("sums.example", [42; 32]).expect("a key"),
            texts: Vec::new(),
            numbers: HashMap::new(),
        }
    }

    /// The verifier key, as GOSUMDB takes it.
    pub(crate) fn vkey(&self) -> String {
        self.key.verifier().to_string()
    }

    /// Notes both hashes of a module version.
    pub(crate) fn add(&mut self, module: &str, version: &str, zip: &str, go_mod: &str) {
        let key = format!("{module}@{version}");
        if self.numbers.contains_key(&key) {
            return;
        }
        self.numbers.insert(key, self.texts.len());
        self.texts.push(format!("{module} {version} {zip}\n{module} {version}/go.mod {go_mod}\n"));
    }

    /// Answers what comes after `sumdb/<name>/`.
    pub(crate) fn answer(&self, rest: &str) -> Option<Vec<u8>> {
        if rest == "supported" {
            return Some(Vec::new());
        }
        if rest == "latest" {
            return Some(self.head().into_bytes());
        }
        if let Some(key) = rest.strip_prefix("lookup/") {
            let number = *self.numbers.get(key)?;
            let entry = tlog::format_entry(number as u64, &self.texts[number]);
            return Some(format!("{entry}{}", self.head()).into_bytes());
        }
        self.tile(&Tile::parse_sumdb(rest)?)
    }

    fn head(&self) -> String {
        let mut range = CompactRange::new();
        self.texts.iter().for_each(|text| range.push(leaf_hash(text.as_bytes())));
        let head = Head { origin: SUMDB_ORIGIN.to_owned(), size: range.size(), root: range.root() };
        tlog::sign_note(&head.to_text(), &[&self.key])
    }

    fn tile(&self, tile: &Tile) -> Option<Vec<u8>> {
        let size = TreeSize::new(self.texts.len() as u64)?;
        if tile.width > Tile::widest_at(tile.kind, tile.index, size) {
            return None;
        }
        let TileKind::Hashes(level) = tile.kind else {
            return None;
        };
        let mut hashes: Vec<_> = self.texts.iter().map(|text| leaf_hash(text.as_bytes())).collect();
        for _ in 0..level {
            hashes = hashes.chunks_exact(256).map(tile_root).collect();
        }
        let first = usize::try_from(tile.index).ok()? * 256;
        let hashes = &hashes[first..first + usize::from(tile.width)];
        Some(hashes.iter().flat_map(|hash| hash.0).collect())
    }
}
