//! The node's own logs: append, then announce.
//!
//! A log is one type, used twice: the accepted log and the claims log. This module says what may enter which,
//! and reads tiles and proofs. Out of scope: deciding *what* is accepted ([`crate::quorum`]), how entries
//! and heads get to disk ([`crate::store`]), and HTTP ([`crate::web`]).
//!
//! Invariant: every announced size is committed; announced sizes never go down.

use std::sync::Arc;

use tokio::sync::watch;

use crate::model::Claim;
use crate::quorum::Accepted;
use crate::store::{HeadForm, LogId, Published, Reader, SpecId, Store, TreeForms, TreeId, Tx};
use crate::tlog::{self, Hash, SUMDB_ORIGIN, SignerKey, TileReader, TreeSize};

/// A handle to one of the node's logs, for reading.
#[derive(Clone)]
pub struct Log {
    id: LogId,
    store: Store,
    published: watch::Receiver<Arc<Published>>,
}

/// The forms in which the heads of a node's logs are signed, all by its one key.
///
/// A Go checksum database has a fixed first line, so its heads carry the node's name as it is; C2SP
/// tlog-tiles wants the key's name to be the origin.
pub fn forms(key: &SignerKey) -> TreeForms {
    let c2sp = |suffix: &str| {
        let origin = format!("{}{suffix}", key.name());
        HeadForm { signer: key.as_name(&origin), origin }
    };
    TreeForms {
        accepted: vec![HeadForm { origin: SUMDB_ORIGIN.to_owned(), signer: key.clone() }, c2sp("/log")],
        claims: vec![c2sp("/claims")],
    }
}

/// Appends what every voter agreed on to the accepted log, and returns its number.
///
/// It takes the proof of agreement, so the log cannot grow without one; `spec` is the id of what was agreed on.
///
/// # Errors
/// The spec has a record already, or the database failed; the job that called must fail with it.
#[expect(clippy::needless_pass_by_value, reason = "one agreement is good for one entry")]
pub fn append_record(tx: &mut Tx<'_>, spec: SpecId, accepted: Accepted) -> anyhow::Result<u64> {
    let record = accepted.record();
    let number = tx.append_entry(LogId::Accepted, record.to_text().as_bytes())?;
    tx.insert_record(number, spec, record)?;
    Ok(number)
}

/// Appends what this node found to its claims log, and returns its number.
///
/// # Errors
/// The database failed; the job that called must fail with it.
pub fn append_claim(tx: &mut Tx<'_>, claim: &Claim) -> anyhow::Result<u64> {
    tx.append_entry(LogId::Claims, claim.to_text().as_bytes())
}

impl Log {
    /// A handle to a log of this store.
    pub fn new(store: &Store, id: LogId) -> Log {
        Log { id, store: store.clone(), published: store.heads(id) }
    }

    /// Size, root and signed heads as last committed.
    pub fn published(&self) -> Arc<Published> {
        self.published.borrow().clone()
    }

    /// Entries that are on disk.
    pub fn size(&self) -> TreeSize {
        self.published.borrow().size
    }

    /// Tells when there is more to read. What there is comes from the store, so a lost wake-up loses nothing.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Published>> {
        self.published.clone()
    }

    /// The texts of entries `first..end`, in order; fewer if the log ends before.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn entries(&self, first: u64, end: u64) -> anyhow::Result<Vec<Vec<u8>>> {
        let id = self.id;
        // Entries beyond the announced size are not signed for yet.
        let end = end.min(self.size().get());
        self.store.read(move |reader| reader.entries(id, first, end)).await
    }

    /// The same, but it stops after the entry with which the texts have `enough_bytes` or more: at least one entry,
    /// if there is one.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn entries_within(&self, first: u64, end: u64, enough_bytes: usize) -> anyhow::Result<Vec<Vec<u8>>> {
        let id = self.id;
        let end = end.min(self.size().get());
        self.store.read(move |reader| reader.entries_within(id, first, end, enough_bytes)).await
    }

    /// The first `width` hashes of a tile, 32 bytes each; `None` if there are not so many.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn tile(&self, level: u8, index: u64, width: u16) -> anyhow::Result<Option<Vec<u8>>> {
        let id = self.id;
        let mut hashes = self.store.read(move |reader| reader.tile(id, level, index)).await?;
        let wanted = usize::from(width) * 32;
        if hashes.len() < wanted {
            return Ok(None);
        }
        hashes.truncate(wanted);
        Ok(Some(hashes))
    }

    /// The proof that an entry is included in the tree of a size, the leaf's sibling first (RFC 6962, 2.1.1).
    ///
    /// # Errors
    /// There is no such entry at that size, or the database cannot be read.
    pub async fn inclusion_proof(&self, number: u64, size: TreeSize) -> anyhow::Result<Vec<Hash>> {
        let log = self.id;
        self.store
            .read(move |reader| Ok(tlog::inclusion_proof(&mut StoredTiles { reader, tree: log.into() }, size, number)?))
            .await
    }
}

/// The tiles of a log as stored: of one of the node's own, or of a peer's as far as it is proven.
pub struct StoredTiles<'r> {
    /// Where to read.
    pub reader: &'r Reader<'r>,
    /// Of which log.
    pub tree: TreeId,
}

impl TileReader for StoredTiles<'_> {
    type Error = anyhow::Error;

    fn read_tile(&mut self, level: u8, index: u64, width: u16) -> anyhow::Result<Vec<Hash>> {
        let mut hashes = self.reader.tile_hashes(self.tree, level, index)?;
        anyhow::ensure!(
            hashes.len() >= usize::from(width),
            "tile {index} of level {level} has {} hashes instead of {width}",
            hashes.len(),
        );
        hashes.truncate(usize::from(width));
        Ok(hashes)
    }
}
