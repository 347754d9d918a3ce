//! The two logs' entries, hash tiles and signed heads, and the edge of each tree in memory.
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

use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::watch;

use super::{Reader, Tx};
use crate::tlog::{
    self, CompactRange, Hash, Head, SignerKey, TILE_WIDTH, TreeSize, VerifierKey, leaf_hash,
    node_hash, tile_root,
};

const WIDTH: usize = TILE_WIDTH as usize;

/// One of the node's two logs.
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

    /// In rows.
    fn id(self) -> i64 {
        match self {
            LogId::Accepted => 0,
            LogId::Claims => 1,
        }
    }

    fn table(self) -> &'static str {
        match self {
            LogId::Accepted => "accepted_entry",
            LogId::Claims => "claims_entry",
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

/// The right edge of one tree: all that appending needs.
struct Edge {
    log: LogId,
    forms: Vec<HeadForm>,
    range: CompactRange,
    /// Hashes of the rightmost, not yet full tile of each level, from the leaves up.
    levels: Vec<Vec<Hash>>,
    /// Leaf hashes of the job that is running.
    pending: Vec<Hash>,
    /// Size of the last signed head.
    sealed: TreeSize,
    announced: watch::Sender<Arc<Published>>,
}

impl Tx<'_> {
    /// Appends an entry and returns its number. It counts once the transaction is committed.
    ///
    /// Only [`crate::log`] calls this: what may enter which log is its business.
    pub(crate) fn append_entry(&mut self, log: LogId, text: &[u8]) -> anyhow::Result<u64> {
        let edge = &mut self.trees.edges[log.index()];
        let number = edge.range.size().get() + edge.pending.len() as u64;
        ensure!(number < tlog::MAX_SIZE, "the {} log is full", log.name());
        let sql = match log {
            LogId::Accepted => "INSERT INTO accepted_entry (number, text) VALUES (?1, ?2)",
            LogId::Claims => "INSERT INTO claims_entry (number, text) VALUES (?1, ?2)",
        };
        self.reader
            .conn
            .prepare_cached(sql)?
            .execute(params![number.cast_signed(), text])?;
        edge.pending.push(leaf_hash(text));
        Ok(number)
    }
}

impl Reader<'_> {
    /// The texts of entries `first..end`, in order; fewer if the log ends before.
    pub fn entries(&self, log: LogId, first: u64, end: u64) -> anyhow::Result<Vec<Vec<u8>>> {
        let sql = match log {
            LogId::Accepted => {
                "SELECT text FROM accepted_entry WHERE number >= ?1 AND number < ?2 ORDER BY number"
            }
            LogId::Claims => {
                "SELECT text FROM claims_entry WHERE number >= ?1 AND number < ?2 ORDER BY number"
            }
        };
        let mut query = self.conn.prepare_cached(sql)?;
        let rows = query.query_map(params![first.cast_signed(), end.cast_signed()], |row| {
            row.get(0)
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How many entries a log has, by its table alone.
    pub fn count_entries(&self, log: LogId) -> anyhow::Result<u64> {
        let sql = format!("SELECT count(*) FROM {}", log.table());
        Ok(self
            .conn
            .query_row(&sql, [], |row| row.get::<_, i64>(0))?
            .cast_unsigned())
    }

    /// The hashes of a tile as stored: as many as there are, up to 256; none if there is no such tile.
    pub fn tile(&self, log: LogId, level: u8, index: u64) -> anyhow::Result<Vec<u8>> {
        let mut query = self
            .conn
            .prepare_cached("SELECT hashes FROM tile WHERE log = ?1 AND level = ?2 AND idx = ?3")?;
        let hashes = query
            .query_row(params![log.id(), level, index.cast_signed()], |row| {
                row.get(0)
            })
            .optional()?;
        Ok(hashes.unwrap_or_default())
    }

    /// How many tiles a log has stored.
    pub fn count_tiles(&self, log: LogId) -> anyhow::Result<u64> {
        let mut query = self
            .conn
            .prepare_cached("SELECT count(*) FROM tile WHERE log = ?1")?;
        Ok(query
            .query_row([log.id()], |row| row.get::<_, i64>(0))?
            .cast_unsigned())
    }

    /// The newest signed head of a log in the form of an origin: size, root and note.
    pub fn head(
        &self,
        log: LogId,
        origin: &str,
    ) -> anyhow::Result<Option<(TreeSize, Hash, String)>> {
        let mut query = self
            .conn
            .prepare_cached("SELECT size, root, note FROM head WHERE log = ?1 AND origin = ?2")?;
        let row = query
            .query_row(params![log.id(), origin], |row| {
                Ok((
                    row.get::<_, i64>(0)?,
                    row.get::<_, [u8; 32]>(1)?,
                    row.get::<_, String>(2)?,
                ))
            })
            .optional()?;
        row.map(|(size, root, note)| {
            let size = TreeSize::new(size.cast_unsigned())
                .context("a stored head has an impossible size")?;
            Ok((size, Hash(root), note))
        })
        .transpose()
    }
}

impl Trees {
    /// Loads both edges, or signs empty heads in a new database.
    pub(super) fn open(conn: &mut Connection, forms: TreeForms) -> anyhow::Result<Trees> {
        let tx = conn.transaction()?;
        let edges = [
            Edge::open(&tx, LogId::Accepted, forms.accepted)?,
            Edge::open(&tx, LogId::Claims, forms.claims)?,
        ];
        tx.commit()?;
        Ok(Trees { edges })
    }

    pub(super) fn subscribe(&self) -> [watch::Receiver<Arc<Published>>; 2] {
        [
            self.edges[0].announced.subscribe(),
            self.edges[1].announced.subscribe(),
        ]
    }

    /// The number that the next entry gets.
    #[cfg(test)]
    pub(super) fn next_number(&self, log: LogId) -> u64 {
        let edge = &self.edges[log.index()];
        edge.range.size().get() + edge.pending.len() as u64
    }

    /// The job that ran stands: its entries become part of the trees.
    pub(super) fn fold(&mut self, conn: &Connection) -> anyhow::Result<()> {
        self.edges.iter_mut().try_for_each(|edge| edge.fold(conn))
    }

    /// The job that ran was taken back.
    pub(super) fn forget(&mut self) {
        self.edges.iter_mut().for_each(|edge| edge.pending.clear());
    }

    /// Writes and signs what has grown; returns what to announce once it is committed.
    pub(super) fn seal(
        &mut self,
        conn: &Connection,
    ) -> anyhow::Result<[Option<Arc<Published>>; 2]> {
        let mut heads = [None, None];
        for (edge, head) in self.edges.iter_mut().zip(&mut heads) {
            if edge.range.size() > edge.sealed {
                *head = Some(Arc::new(edge.seal(conn)?));
            }
        }
        Ok(heads)
    }

    pub(super) fn announce(&self, heads: &[Option<Arc<Published>>; 2]) {
        for (edge, head) in self.edges.iter().zip(heads) {
            if let Some(head) = head {
                edge.announced.send_replace(head.clone());
            }
        }
    }
}

impl Edge {
    fn open(conn: &Connection, log: LogId, forms: Vec<HeadForm>) -> anyhow::Result<Edge> {
        let reader = Reader { conn };
        let mut edge = Edge {
            log,
            forms,
            range: CompactRange::new(),
            levels: Vec::new(),
            pending: Vec::new(),
            sealed: TreeSize::default(),
            announced: watch::Sender::new(Arc::new(Published {
                size: TreeSize::default(),
                root: Hash::EMPTY_ROOT,
                notes: Vec::new(),
            })),
        };
        let mut stored = Vec::new();
        for form in &edge.forms {
            stored.extend(reader.head(log, &form.origin)?);
        }
        let published = if stored.is_empty() {
            let strangers: i64 = conn.query_row(
                "SELECT count(*) FROM head WHERE log = ?1",
                [log.id()],
                |r| r.get(0),
            )?;
            ensure!(
                strangers == 0 && reader.count_entries(log)? == 0,
                "the {} log was signed under another name than {}: use the key file it was made with",
                log.name(),
                edge.forms[0].signer.name(),
            );
            edge.seal(conn)?
        } else {
            ensure!(
                stored.len() == edge.forms.len(),
                "the {} log lacks a signed head",
                log.name()
            );
            edge.load(&reader, stored).with_context(|| {
                format!(
                    "the {} log does not match its signed head: refusing to start. Run `sumpeer check` \
                     to see how far it is sound. Do not restore it from a backup: that would be a fork. \
                     If it cannot be repaired, start anew with an empty data directory and a new key",
                    log.name()
                )
            })?
        };
        edge.announced.send_replace(Arc::new(published));
        Ok(edge)
    }

    /// Reads the edge back and checks it: entries against the leaves' tile, each full tile against
    /// the level above, the root against every signed head, the heads against our key.
    fn load(
        &mut self,
        reader: &Reader<'_>,
        stored: Vec<(TreeSize, Hash, String)>,
    ) -> anyhow::Result<Published> {
        let (size, root, _) = stored[0];
        let count = reader.count_entries(self.log)?;
        ensure!(
            count == size.get(),
            "the head covers {size} entries, but {count} are stored"
        );
        let mut width = size.get();
        for level in 0u8.. {
            if width == 0 {
                break;
            }
            self.levels.push(read_edge(reader, self.log, level, width)?);
            width /= TILE_WIDTH;
        }
        self.check_leaves(reader, size)?;
        for (level, next) in (0u8..).zip(self.levels.iter().skip(1)) {
            if let Some(last) = next.last() {
                let index = (size.get() >> (8 * u64::from(level + 1))) - 1;
                let below = split(&reader.tile(self.log, level, index)?)?;
                ensure!(
                    below.len() == WIDTH && tile_root(&below) == *last,
                    "tile {index} of level {level} does not give the hash above it",
                );
            }
        }
        ensure!(
            self.tiles_root() == root,
            "the stored hashes do not give the root of the head"
        );
        self.range = self
            .compact(size)
            .context("the stored hashes do not make a tree")?;
        for (form, (form_size, form_root, note)) in self.forms.iter().zip(&stored) {
            let key = form.signer.verifier();
            let head = tlog::open_head(note.as_bytes(), &key, &form.origin)
                .with_context(|| wrong_key(note, &key))?;
            let same =
                (*form_size, *form_root) == (size, root) && (head.size, head.root) == (size, root);
            ensure!(
                same,
                "the heads of {} and {} differ",
                self.forms[0].origin,
                form.origin
            );
        }
        self.sealed = size;
        Ok(Published {
            size,
            root,
            notes: stored.into_iter().map(|(_, _, note)| note).collect(),
        })
    }

    /// Hashes the entries of the last tile again.
    fn check_leaves(&self, reader: &Reader<'_>, size: TreeSize) -> anyhow::Result<()> {
        let Some(last) = size.get().checked_sub(1) else {
            return Ok(());
        };
        let first = last - last % TILE_WIDTH;
        let texts = reader.entries(self.log, first, size.get())?;
        let leaves: Vec<Hash> = texts.iter().map(|text| leaf_hash(text)).collect();
        let tile = split(&reader.tile(self.log, 0, first / TILE_WIDTH)?)?;
        ensure!(
            leaves == tile,
            "the entries from {first} on do not give the hashes stored for them"
        );
        Ok(())
    }

    /// The compact range that the edge tiles stand for.
    fn compact(&self, size: TreeSize) -> Option<CompactRange> {
        let mut hashes = Vec::new();
        for tile in self.levels.iter().rev() {
            // In each tile the subtrees are those of the binary form of its width, largest first.
            let mut rest = tile.as_slice();
            while !rest.is_empty() {
                let (subtree, tail) = rest.split_at(1 << rest.len().ilog2());
                hashes.push(tile_root(subtree));
                rest = tail;
            }
        }
        CompactRange::from_hashes(size, hashes)
    }

    /// Moves the pending leaves into the tree.
    fn fold(&mut self, conn: &Connection) -> anyhow::Result<()> {
        for leaf in std::mem::take(&mut self.pending) {
            self.range.push(leaf);
            let mut hash = leaf;
            for level in 0.. {
                if self.levels.len() == level {
                    self.levels.push(Vec::with_capacity(WIDTH));
                }
                self.levels[level].push(hash);
                if self.levels[level].len() < WIDTH {
                    break;
                }
                // The tile is full: it will never change again, and its hash goes up.
                self.write_tile(conn, level)?;
                let read = split(&Reader { conn }.tile(
                    self.log,
                    level_number(level),
                    self.index(level),
                )?)?;
                ensure!(
                    read == self.levels[level],
                    "a tile came back from the disk other than it was written"
                );
                hash = tile_root(&read);
                self.levels[level].clear();
            }
        }
        Ok(())
    }

    /// Index of the tile that is the edge of a level while the last leaf is being folded in or after.
    fn index(&self, level: usize) -> u64 {
        let hashes = self.range.size().get() >> (8 * level);
        let in_edge = self.levels[level].len() as u64;
        (hashes - in_edge) / TILE_WIDTH
    }

    fn write_tile(&self, conn: &Connection, level: usize) -> anyhow::Result<()> {
        let hashes: Vec<u8> = self.levels[level].iter().flat_map(|hash| hash.0).collect();
        conn.prepare_cached(
            "INSERT INTO tile (log, level, idx, hashes) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET hashes = excluded.hashes",
        )?
        .execute(params![
            self.log.id(),
            level_number(level),
            self.index(level).cast_signed(),
            hashes
        ])?;
        Ok(())
    }

    /// Writes the edge, checks it, and signs it in every form.
    fn seal(&mut self, conn: &Connection) -> anyhow::Result<Published> {
        let size = self.range.size();
        let mut width = size.get();
        for level in 0..self.levels.len() {
            if !self.levels[level].is_empty() {
                self.write_tile(conn, level)?;
                let read = read_edge(&Reader { conn }, self.log, level_number(level), width)?;
                ensure!(
                    read == self.levels[level],
                    "a tile came back from the disk other than it was written"
                );
            }
            width /= TILE_WIDTH;
        }
        let root = self.range.root();
        if self.tiles_root() != root {
            bail!(
                "the tiles of the {} log do not give the root that its leaves give",
                self.log.name()
            );
        }
        let mut notes = Vec::with_capacity(self.forms.len());
        for form in &self.forms {
            let head = Head {
                origin: form.origin.clone(),
                size,
                root,
            };
            let note = tlog::sign_note(&head.to_text(), &[&form.signer]);
            conn.prepare_cached(
                "INSERT INTO head (log, origin, size, root, note) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET size = excluded.size, root = excluded.root, note = excluded.note",
            )?
            .execute(params![self.log.id(), form.origin, size.get().cast_signed(), root.0, note])?;
            notes.push(note);
        }
        self.sealed = size;
        Ok(Published { size, root, notes })
    }

    /// The root that the edge tiles give, from the leaves' level up.
    fn tiles_root(&self) -> Hash {
        let mut root = None;
        for tile in &self.levels {
            let mut rest = tile.as_slice();
            let mut subtrees = Vec::new();
            while !rest.is_empty() {
                let (subtree, tail) = rest.split_at(1 << rest.len().ilog2());
                subtrees.push(tile_root(subtree));
                rest = tail;
            }
            for subtree in subtrees.into_iter().rev() {
                root = Some(root.map_or(subtree, |right| node_hash(&subtree, &right)));
            }
        }
        root.unwrap_or(Hash::EMPTY_ROOT)
    }
}

/// The rightmost tile of a level with `width` hashes; empty if the last one is full.
fn read_edge(reader: &Reader<'_>, log: LogId, level: u8, width: u64) -> anyhow::Result<Vec<Hash>> {
    let partial = width % TILE_WIDTH;
    if partial == 0 {
        return Ok(Vec::new());
    }
    let index = width / TILE_WIDTH;
    let hashes = split(&reader.tile(log, level, index)?)?;
    ensure!(
        hashes.len() as u64 == partial,
        "tile {index} of level {level} has {} hashes instead of {partial}",
        hashes.len(),
    );
    Ok(hashes)
}

fn split(bytes: &[u8]) -> anyhow::Result<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    ensure!(rest.is_empty(), "a stored tile ends within a hash");
    Ok(hashes.iter().map(|hash| Hash(*hash)).collect())
}

fn level_number(level: usize) -> u8 {
    u8::try_from(level).expect("2^40 entries make 5 levels")
}

fn wrong_key(note: &str, key: &VerifierKey) -> String {
    let signed = note.rsplit('\u{2014}').next().unwrap_or_default().trim();
    format!("the stored head is not signed by the key {key}, but: {signed}")
}
