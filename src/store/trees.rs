//! Entries, hash tiles and signed heads of the node's two logs and of the logs of peers.
//!
//! Effects of a batch, in order, all in one transaction:
//! 1. each job inserts its entries; their leaf hashes wait until the job is known to stand;
//! 2. `fold` adds them to the edge. A tile that fills up is written, and read back before its hash
//!    goes up a level: a flipped bit must not get into a root that is then signed for good;
//! 3. `seal` writes the edge tiles, reads them back, computes the root from what was read, compares it with a
//!    compact range that never saw the disk, and signs.
//!
//! A crash before the commit leaves the last batch's state; after it, this one's. No head leaves the
//! process before its commit.

mod edge;
mod levels;
mod peers;

use std::sync::Arc;

use anyhow::{Context, ensure};
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::watch;

use super::{Reader, Tx};
use crate::tlog::{self, Hash, SignerKey, TreeSize, leaf_hash};
use edge::Edge;
pub use peers::{PeerHeadRow, PeerLogId, PeerLogRow};
pub(super) use peers::{key as entry_key, of_key as of_entry_key};

/// One of the two logs that a node has: this one, or a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogId {
    /// Records that every voter agreed on.
    Accepted,
    /// What this node found itself.
    Claims,
}

impl LogId {
    /// Both.
    pub const ALL: [LogId; 2] = [LogId::Accepted, LogId::Claims];

    /// As people and metrics call it.
    pub fn name(self) -> &'static str {
        match self {
            LogId::Accepted => "accepted",
            LogId::Claims => "claims",
        }
    }

    pub(super) fn index(self) -> usize {
        match self {
            LogId::Accepted => 0,
            LogId::Claims => 1,
        }
    }

    /// From a row.
    pub(super) fn from_row(log: i64) -> anyhow::Result<LogId> {
        LogId::ALL.into_iter().find(|id| TreeId::from(*id).0 == log).context("a row names a log that there is not")
    }

    /// For a row.
    pub(super) fn to_row(self) -> i64 {
        TreeId::from(self).0
    }

    fn table(self) -> &'static str {
        match self {
            LogId::Accepted => "accepted_entry",
            LogId::Claims => "claims_entry",
        }
    }
}

/// A tree as its tiles name it: of one of the node's two logs, or of a log of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeId(i64);

impl From<LogId> for TreeId {
    fn from(log: LogId) -> TreeId {
        match log {
            LogId::Accepted => TreeId(0),
            LogId::Claims => TreeId(1),
        }
    }
}

/// One way in which the heads of a log are signed.
pub struct HeadForm {
    /// First line of the note.
    pub origin: String,
    /// The node's key, under the name that this form wants.
    pub signer: SignerKey,
}

/// The forms of both logs' heads.
pub struct TreeForms {
    /// Of the accepted log: as a Go checksum database, and as C2SP tlog-tiles.
    pub accepted: Vec<HeadForm>,
    /// Of the claims log: as C2SP tlog-tiles.
    pub claims: Vec<HeadForm>,
}

/// The committed state of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Entries that are on disk.
    pub size: TreeSize,
    /// Root hash over them.
    pub root: Hash,
    /// The signed notes, in the order of the log's forms.
    pub notes: Vec<String>,
}

/// Both trees, as the writer thread knows them.
pub(super) struct Trees {
    edges: [Edge; 2],
}

impl Tx<'_> {
    /// Appends an entry and returns its number. It counts once the transaction is committed.
    ///
    /// Only [`crate::log`] calls this: what may enter which log is its business.
    pub(crate) fn append_entry(&mut self, log: LogId, text: &[u8]) -> anyhow::Result<u64> {
        let edge = &mut self.trees.edges[log.index()];
        let number = edge.next_number();
        ensure!(number < tlog::MAX_SIZE, "the {} log is full", log.name());
        let sql = match log {
            LogId::Accepted => "INSERT INTO accepted_entry (number, text) VALUES (?1, ?2)",
            LogId::Claims => "INSERT INTO claims_entry (number, text) VALUES (?1, ?2)",
        };
        self.reader.conn.prepare_cached(sql)?.execute(params![number.cast_signed(), text])?;
        edge.push(leaf_hash(text));
        Ok(number)
    }
}

impl Reader<'_> {
    /// The texts of entries `first..end`, in order; fewer if the log ends before.
    pub fn entries(&self, log: LogId, first: u64, end: u64) -> anyhow::Result<Vec<Vec<u8>>> {
        self.entries_within(log, first, end, usize::MAX)
    }

    /// The same, but it stops after the entry with which the texts have `enough_bytes` or more.
    pub fn entries_within(
        &self,
        log: LogId,
        first: u64,
        end: u64,
        enough_bytes: usize,
    ) -> anyhow::Result<Vec<Vec<u8>>> {
        let sql = match log {
            LogId::Accepted => "SELECT text FROM accepted_entry WHERE number >= ?1 AND number < ?2 ORDER BY number",
            LogId::Claims => "SELECT text FROM claims_entry WHERE number >= ?1 AND number < ?2 ORDER BY number",
        };
        let mut query = self.conn.prepare_cached(sql)?;
        let mut rows = query.query(params![first.cast_signed(), end.cast_signed()])?;
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while bytes < enough_bytes
            && let Some(row) = rows.next()?
        {
            let text: Vec<u8> = row.get(0)?;
            bytes += text.len();
            entries.push(text);
        }
        Ok(entries)
    }

    /// How many entries a log has, by its table alone.
    pub fn count_entries(&self, log: LogId) -> anyhow::Result<u64> {
        let sql = format!("SELECT count(*) FROM {}", log.table());
        Ok(self.conn.query_row(&sql, [], |row| row.get::<_, i64>(0))?.cast_unsigned())
    }

    /// The hashes of a tile as stored: as many as there are, up to 256; none if there is no such tile.
    pub fn tile(&self, tree: impl Into<TreeId>, level: u8, index: u64) -> anyhow::Result<Vec<u8>> {
        let mut query =
            self.conn.prepare_cached("SELECT hashes FROM tile WHERE log = ?1 AND level = ?2 AND idx = ?3")?;
        let hashes =
            query.query_row(params![tree.into().0, level, index.cast_signed()], |row| row.get(0)).optional()?;
        Ok(hashes.unwrap_or_default())
    }

    /// The same as hashes.
    pub fn tile_hashes(&self, tree: impl Into<TreeId>, level: u8, index: u64) -> anyhow::Result<Vec<Hash>> {
        tlog::parse_hashes(&self.tile(tree, level, index)?).context("a stored tile ends within a hash")
    }

    /// How many tiles a log has stored.
    pub fn count_tiles(&self, tree: impl Into<TreeId>) -> anyhow::Result<u64> {
        let mut query = self.conn.prepare_cached("SELECT count(*) FROM tile WHERE log = ?1")?;
        Ok(query.query_row([tree.into().0], |row| row.get::<_, i64>(0))?.cast_unsigned())
    }

    /// How many forms of heads a log has.
    pub fn count_heads(&self, log: LogId) -> anyhow::Result<u64> {
        let mut query = self.conn.prepare_cached("SELECT count(*) FROM head WHERE log = ?1")?;
        Ok(query.query_row([log.to_row()], |row| row.get::<_, i64>(0))?.cast_unsigned())
    }

    /// The newest signed head of a log in the form of an origin: size, root and note.
    pub fn head(&self, log: LogId, origin: &str) -> anyhow::Result<Option<(TreeSize, Hash, String)>> {
        let mut query = self.conn.prepare_cached("SELECT size, root, note FROM head WHERE log = ?1 AND origin = ?2")?;
        let row = query
            .query_row(params![log.to_row(), origin], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, [u8; 32]>(1)?, row.get::<_, String>(2)?))
            })
            .optional()?;
        row.map(|(size, root, note)| {
            let size = TreeSize::new(size.cast_unsigned()).context("a stored head has an impossible size")?;
            Ok((size, Hash(root), note))
        })
        .transpose()
    }
}

impl Trees {
    /// Loads both edges, or signs empty heads in a new database.
    pub(super) fn open(conn: &mut Connection, forms: TreeForms) -> anyhow::Result<Trees> {
        let tx = conn.transaction()?;
        let edges = [Edge::open(&tx, LogId::Accepted, forms.accepted)?, Edge::open(&tx, LogId::Claims, forms.claims)?];
        tx.commit()?;
        Ok(Trees { edges })
    }

    pub(super) fn subscribe(&self) -> [watch::Receiver<Arc<Published>>; 2] {
        [self.edges[0].subscribe(), self.edges[1].subscribe()]
    }

    /// The number that the next entry gets.
    #[cfg(test)]
    pub(super) fn next_number(&self, log: LogId) -> u64 {
        self.edges[log.index()].next_number()
    }

    /// The job that ran stands: its entries become part of the trees.
    pub(super) fn fold(&mut self, conn: &Connection) -> anyhow::Result<()> {
        self.edges.iter_mut().try_for_each(|edge| edge.fold(conn))
    }

    /// The job that ran was taken back.
    pub(super) fn forget(&mut self) {
        self.edges.iter_mut().for_each(Edge::forget);
    }

    /// Writes and signs what has grown; returns what to announce once it is committed.
    pub(super) fn seal(&mut self, conn: &Connection) -> anyhow::Result<[Option<Arc<Published>>; 2]> {
        let mut heads = [None, None];
        for (edge, head) in self.edges.iter_mut().zip(&mut heads) {
            if edge.has_grown() {
                *head = Some(Arc::new(edge.seal(conn)?));
            }
        }
        Ok(heads)
    }

    pub(super) fn announce(&self, heads: &[Option<Arc<Published>>; 2]) {
        for (edge, head) in self.edges.iter().zip(heads) {
            if let Some(head) = head {
                edge.announce(head.clone());
            }
        }
    }
}
