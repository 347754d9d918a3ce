//! The right edge of one tree in memory: all that appending needs, loaded with doubt and sealed with care.

use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use rusqlite::{Connection, params};
use tokio::sync::watch;

use super::levels::Levels;
use super::{HeadForm, LogId, Published};
use crate::store::Reader;
use crate::tlog::{self, CompactRange, Hash, Head, TILE_WIDTH, TreeSize, leaf_hash};

/// The right edge of one tree: all that appending needs.
pub(super) struct Edge {
    log: LogId,
    forms: Vec<HeadForm>,
    range: CompactRange,
    levels: Levels,
    /// Leaf hashes of the job that is running.
    pending: Vec<Hash>,
    /// Size of the last signed head.
    sealed: TreeSize,
    announced: watch::Sender<Arc<Published>>,
}

impl Edge {
    pub(super) fn open(conn: &Connection, log: LogId, forms: Vec<HeadForm>) -> anyhow::Result<Edge> {
        let reader = Reader { conn };
        let mut edge = Edge {
            log,
            forms,
            range: CompactRange::new(),
            levels: Levels::empty(log.into()),
            pending: Vec::new(),
            sealed: TreeSize::default(),
            announced: watch::Sender::new(Arc::new(Published {
                size: TreeSize::default(),
                root: Hash::EMPTY_ROOT,
                notes: Vec::new(),
            })),
        };
        let stored = edge.stored_heads(&reader)?;
        let published = if stored.is_empty() {
            ensure!(reader.count_entries(log)? == 0, "the {} log lacks its signed heads", log.name());
            edge.seal(conn)?
        } else {
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

    /// The signed heads in the order of the forms, by our key; none if the log is new.
    fn stored_heads(&self, reader: &Reader<'_>) -> anyhow::Result<Vec<(TreeSize, Hash, String)>> {
        let name = self.log.name();
        let mut stored = Vec::new();
        for form in &self.forms {
            stored.extend(reader.head(self.log, &form.origin)?);
        }
        ensure!(
            reader.count_heads(self.log)? <= stored.len() as u64,
            "the {name} log was signed under another name than {}: use the key file it was made with",
            self.forms[0].signer.name(),
        );
        ensure!(stored.is_empty() || stored.len() == self.forms.len(), "the {name} log lacks a signed head");
        for (form, (_, _, note)) in self.forms.iter().zip(&stored) {
            let key = form.signer.verifier();
            tlog::open_head(note.as_bytes(), &key, &form.origin).with_context(|| {
                let signature = note.rsplit('\u{2014}').next().unwrap_or_default().trim();
                format!("the head of the {name} log is not signed by the key {key}, but: {signature}")
            })?;
        }
        Ok(stored)
    }

    pub(super) fn next_number(&self) -> u64 {
        self.range.size().get() + self.pending.len() as u64
    }

    /// Takes a leaf of the job that is running.
    pub(super) fn push(&mut self, leaf: Hash) {
        self.pending.push(leaf);
    }

    /// The job that was running is taken back.
    pub(super) fn forget(&mut self) {
        self.pending.clear();
    }

    /// Whether there are entries that no head covers yet.
    pub(super) fn has_grown(&self) -> bool {
        self.range.size() > self.sealed
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<Published>> {
        self.announced.subscribe()
    }

    /// Tells readers of a head that is committed.
    pub(super) fn announce(&self, head: Arc<Published>) {
        self.announced.send_replace(head);
    }

    /// Reads the edge back and checks it: entries against the leaves' tile, each full tile against
    /// the level above, the root against every signed head, the heads against our key.
    fn load(&mut self, reader: &Reader<'_>, stored: Vec<(TreeSize, Hash, String)>) -> anyhow::Result<Published> {
        let (size, root, _) = stored[0];
        let count = reader.count_entries(self.log)?;
        ensure!(count == size.get(), "the head covers {size} entries, but {count} are stored");
        self.levels = Levels::load(reader, self.log.into(), size)?;
        self.check_leaves(reader, size)?;
        self.range = self.levels.range()?;
        ensure!(self.range.root() == root, "the stored hashes do not give the root of the head");
        for (form, (form_size, form_root, note)) in self.forms.iter().zip(&stored) {
            let key = form.signer.verifier();
            let head = tlog::open_head(note.as_bytes(), &key, &form.origin)?;
            let same = (*form_size, *form_root) == (size, root) && (head.size, head.root) == (size, root);
            ensure!(same, "the heads of {} and {} differ", self.forms[0].origin, form.origin);
        }
        self.sealed = size;
        Ok(Published { size, root, notes: stored.into_iter().map(|(_, _, note)| note).collect() })
    }

    /// Hashes the entries of the last tile again.
    fn check_leaves(&self, reader: &Reader<'_>, size: TreeSize) -> anyhow::Result<()> {
        let Some(last) = size.get().checked_sub(1) else {
            return Ok(());
        };
        let first = last - last % TILE_WIDTH;
        let texts = reader.entries(self.log, first, size.get())?;
        let leaves: Vec<Hash> = texts.iter().map(|text| leaf_hash(text)).collect();
        let tile = reader.tile_hashes(self.log, 0, first / TILE_WIDTH)?;
        ensure!(leaves == tile, "the entries from {first} on do not give the hashes stored for them");
        Ok(())
    }

    /// Moves the pending leaves into the tree.
    pub(super) fn fold(&mut self, conn: &Connection) -> anyhow::Result<()> {
        for leaf in std::mem::take(&mut self.pending) {
            self.range.push(leaf);
            self.levels.push(conn, leaf)?;
        }
        Ok(())
    }

    /// Writes the edge, checks it, and signs it in every form.
    pub(super) fn seal(&mut self, conn: &Connection) -> anyhow::Result<Published> {
        let size = self.range.size();
        self.levels.flush(conn)?;
        let root = self.range.root();
        // From the tiles as read back; the range never saw the disk.
        if self.levels.range()?.root() != root {
            bail!("the tiles of the {} log do not give the root that its leaves give", self.log.name());
        }
        let mut notes = Vec::with_capacity(self.forms.len());
        for form in &self.forms {
            let head = Head { origin: form.origin.clone(), size, root };
            let note = tlog::sign_note(&head.to_text(), &[&form.signer]);
            conn.prepare_cached(
                "INSERT INTO head (log, origin, size, root, note) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET size = excluded.size, root = excluded.root, note = excluded.note",
            )?
            .execute(params![self.log.to_row(), form.origin, size.get().cast_signed(), root.0, note])?;
            notes.push(note);
        }
        self.sealed = size;
        Ok(Published { size, root, notes })
    }
}
