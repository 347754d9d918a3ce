//! Proofs from the database's tiles, fetched as needed and believed only when they lead to a signed root.
//!
//! Out of scope: which head to believe ([`super::SumDb`]).

use bytes::Bytes;
use futures_util::future::try_join_all;

use crate::goproxy::{DatabaseSource, FetchError};
use crate::tlog::{
    FetchedTiles, HEIGHT, Hash, Head, ProofError, TILE_WIDTH, Tile, TileKind, TileReader as _, TreeSize,
    VerifyingTiles, parse_hash_tile, tree_hash,
};

/// Tiles of one database. What was proven is kept in memory and serves builds as well.
pub(super) struct ProvenTiles {
    source: DatabaseSource,
    /// By path; each led to a signed root, and a tile of one width never changes.
    proven: moka::sync::Cache<String, Bytes>,
}

/// What a proof ran into.
enum Stop {
    Missing(Tile),
    Wrong(String),
}

/// Bytes of all proven tiles in memory: 2000 full ones.
const PROVEN_BYTES: u64 = 16 << 20;
/// Rounds of fetching for one proof. The tree of 2^40 entries has five levels of tiles, and each is asked for once at
/// its edge and once on the way to the entry.
const ROUNDS: usize = 16;

impl ProvenTiles {
    pub(super) fn new(source: DatabaseSource) -> ProvenTiles {
        let proven = moka::sync::Cache::builder()
            .max_capacity(PROVEN_BYTES)
            .weigher(|path: &String, tile: &Bytes| u32::try_from(path.len() + tile.len() + 100).unwrap_or(u32::MAX))
            .build();
        ProvenTiles { source, proven }
    }

    /// The hash of an entry below the head's size.
    pub(super) async fn leaf(&self, head: &Head, number: u64) -> Result<Hash, FetchError> {
        let (index, slot) = (number / TILE_WIDTH, number % TILE_WIDTH);
        let width = Tile::widest_at(TileKind::Hashes(0), index, head.size);
        let slot = usize::try_from(slot).expect("less than 256");
        self.prove(head, number, |tiles| {
            let hashes = tiles.read_tile(0, index, width).map_err(Stop::from)?;
            hashes.get(slot).copied().ok_or_else(|| Stop::Wrong("no such entry".to_owned()))
        })
        .await
    }

    /// The root of the log when it had `size` entries, which are at least one and fewer than the head's.
    pub(super) async fn root(&self, head: &Head, size: TreeSize) -> Result<Hash, FetchError> {
        self.prove(head, size.get(), |tiles| match tree_hash(tiles, size) {
            Ok(root) => Ok(root),
            Err(ProofError::Read(error)) => Err(error.into()),
            Err(_) => Err(Stop::Wrong(format!("no root of size {size} comes of them"))),
        })
        .await
    }

    /// A tile for the go command, which proves it again by itself.
    pub(super) async fn tile(&self, tile: Tile) -> Result<Bytes, FetchError> {
        let path = tile.sumdb_path();
        if let Some(bytes) = self.proven.get(&path) {
            return Ok(bytes);
        }
        match self.source.get(&path).await {
            // A partial tile may be gone once the full one is there, which starts with it.
            Err(FetchError::NotFound(_)) if u64::from(tile.width) < TILE_WIDTH && tile.kind != TileKind::Entries => {
                let full = Tile { width: u16::try_from(TILE_WIDTH).expect("256"), ..tile };
                let bytes = self.source.get(&full.sumdb_path()).await?;
                Ok(bytes.slice(..bytes.len().min(usize::from(tile.width) * Hash::EMPTY_ROOT.0.len())))
            }
            answer => answer,
        }
    }

    /// Runs a proof, fetching what it misses; `near` is the entry about which it will ask.
    async fn prove<T>(
        &self,
        head: &Head,
        near: u64,
        proof: impl Fn(&mut VerifyingTiles<FetchedTiles>) -> Result<T, Stop>,
    ) -> Result<T, FetchError> {
        let mut tiles = FetchedTiles::default();
        let mut fetched = Vec::new();
        let mut missing = likely(head.size, near);
        for _ in 0..ROUNDS {
            for (tile, bytes) in try_join_all(missing.into_iter().map(|tile| self.with_tile(tile))).await? {
                let hashes = parse_hash_tile(&bytes, tile.width)
                    .ok_or_else(|| FetchError::Temporary(format!("{}: not a tile of that width", tile.sumdb_path())))?;
                tiles.insert(tile, hashes);
                fetched.push((tile, bytes));
            }
            let mut verifying = VerifyingTiles::new(tiles, head.size, head.root);
            match proof(&mut verifying) {
                Ok(value) => {
                    self.remember(&mut verifying, fetched);
                    return Ok(value);
                }
                Err(Stop::Missing(tile)) => missing = vec![tile],
                Err(Stop::Wrong(error)) => {
                    return Err(FetchError::Temporary(format!(
                        "the checksum database's tiles do not lead to its signed head of size {}: {error}",
                        head.size
                    )));
                }
            }
            tiles = verifying.into_inner();
        }
        Err(FetchError::Temporary("a proof of the checksum database needs too many tiles".to_owned()))
    }

    async fn with_tile(&self, tile: Tile) -> Result<(Tile, Bytes), FetchError> {
        Ok((tile, self.tile(tile).await?))
    }

    /// Keeps those tiles that lead to the root; of what was fetched some may not have been looked at.
    fn remember(&self, verifying: &mut VerifyingTiles<FetchedTiles>, fetched: Vec<(Tile, Bytes)>) {
        for (tile, bytes) in fetched {
            if let TileKind::Hashes(level) = tile.kind
                && verifying.read_tile(level, tile.index, tile.width).is_ok()
            {
                self.proven.insert(tile.sumdb_path(), bytes);
            }
        }
    }
}

impl From<ProofError<Tile>> for Stop {
    fn from(error: ProofError<Tile>) -> Stop {
        match error {
            ProofError::Read(tile) => Stop::Missing(tile),
            error => Stop::Wrong(error_text(&error)),
        }
    }
}

fn error_text(error: &ProofError<Tile>) -> String {
    match error {
        ProofError::Read(tile) | ProofError::WrongWidth(tile) | ProofError::WrongHash(tile) => tile.sumdb_path(),
        ProofError::OutOfRange => "no such entry or size".to_owned(),
    }
}

/// The tiles that a proof about `near` reads, so that they can be fetched side by side: those of the right edge that are
/// not full, and those above the entry.
fn likely(size: TreeSize, near: u64) -> Vec<Tile> {
    let mut tiles = Vec::new();
    let mut add = |level: u8, index: u64| {
        let kind = TileKind::Hashes(level);
        let width = Tile::widest_at(kind, index, size);
        let tile = Tile { kind, index, width };
        if width > 0 && !tiles.contains(&tile) {
            tiles.push(tile);
        }
    };
    for level in 0..=4 {
        let (hashes, above) = (size.get() >> (HEIGHT * level), near >> (HEIGHT * level));
        if hashes == 0 {
            break;
        }
        add(level, above / TILE_WIDTH);
        add(level, hashes / TILE_WIDTH);
    }
    tiles
}
