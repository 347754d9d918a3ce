//! The logs of peers, as far as they are proven: entries, tiles and every signed head ever seen.
//!
//! Nothing unproven gets here: a caller brings the root that it proved, and the rows stand only if what is
//! stored gives the same one. Entries are never changed, and a log never gets shorter.

use anyhow::{Context, ensure};
use rusqlite::{OptionalExtension, Row, params};

use super::levels::Levels;
use super::{LogId, TreeId};
use crate::store::{Reader, Tx};
use crate::tlog::{CompactRange, Hash, MAX_SIZE, TreeSize, leaf_hash};

/// Heads that are kept of one log; the smallest go first.
const HEADS: i64 = 10_000;

/// A log of a peer, as rows name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerLogId(pub(in crate::store) i64);

impl From<PeerLogId> for TreeId {
    fn from(log: PeerLogId) -> TreeId {
        // Rows are numbered from 1, and the node's own logs are the trees 0 and 1.
        TreeId(log.0 + 1)
    }
}

/// What is stored of a peer's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerLogRow {
    /// To name it by.
    pub id: PeerLogId,
    /// Entries that are proven and stored.
    pub range: CompactRange,
    /// The largest signed head whose entries are all stored, as the peer sent it.
    pub head: Option<String>,
    /// When that head came, in Unix seconds.
    pub head_at: i64,
    /// Size of the first head that was proven: what it covers was said before we met.
    pub met_at: Option<u64>,
}

/// A validly signed head of a peer's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerHeadRow {
    /// Entries it covers.
    pub size: u64,
    /// Over them.
    pub root: Hash,
    /// The note as it came.
    pub note: String,
    /// Who showed it: the name of a peer.
    pub source: String,
    /// When it was first seen, in Unix seconds.
    pub first_seen: i64,
}

impl Reader<'_> {
    /// A log of the party with this verifier key, if anything is stored of it.
    ///
    /// # Errors
    /// The database failed, or its tiles are not those of a tree.
    pub fn peer_log(&self, vkey: &str, log: LogId) -> anyhow::Result<Option<PeerLogRow>> {
        let mut query = self.conn.prepare_cached(
            "SELECT peer_log.id, size, head, head_at, met_at FROM peer_log JOIN party ON party.id = party
             WHERE party.vkey = ?1 AND log = ?2",
        )?;
        let row = query
            .query_row(params![vkey, log.to_row()], |row| {
                Ok((
                    PeerLogId(row.get(0)?),
                    row.get::<_, i64>(1)?,
                    row.get(2)?,
                    row.get(3)?,
                    row.get::<_, Option<i64>>(4)?,
                ))
            })
            .optional()?;
        let Some((id, size, head, head_at, met_at)) = row else {
            return Ok(None);
        };
        let size = TreeSize::new(size.cast_unsigned()).context("a stored log of a peer has an impossible size")?;
        let range = Levels::load(self, id.into(), size)?.range()?;
        Ok(Some(PeerLogRow { id, range, head, head_at, met_at: met_at.map(i64::cast_unsigned) }))
    }

    /// The texts of entries `first..end` of a peer's log, in order; fewer if less is stored.
    ///
    /// # Errors
    /// The database failed.
    pub fn peer_entries(&self, log: PeerLogId, first: u64, end: u64) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut query =
            self.conn.prepare_cached("SELECT text FROM peer_entry WHERE key >= ?1 AND key < ?2 ORDER BY key")?;
        let rows = query.query_map([key(log, first.min(MAX_SIZE)), key(log, end.min(MAX_SIZE))], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How many entries are stored of a peer's log, by their table alone.
    ///
    /// # Errors
    /// The database failed.
    pub fn count_peer_entries(&self, log: PeerLogId) -> anyhow::Result<u64> {
        let mut query = self.conn.prepare_cached("SELECT count(*) FROM peer_entry WHERE key >= ?1 AND key < ?2")?;
        let count: i64 = query.query_row([key(log, 0), key(log, MAX_SIZE)], |row| row.get(0))?;
        Ok(count.cast_unsigned())
    }

    /// All logs of peers: whose, which, and what is stored of it.
    ///
    /// # Errors
    /// The database failed, or tiles are not those of a tree.
    pub fn peer_logs(&self) -> anyhow::Result<Vec<(String, LogId, PeerLogRow)>> {
        let mut query = self.conn.prepare_cached(
            "SELECT party.vkey, log FROM peer_log JOIN party ON party.id = party ORDER BY peer_log.id",
        )?;
        let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
        let names = rows.collect::<Result<Vec<_>, _>>()?;
        let mut logs = Vec::new();
        for (vkey, log) in names {
            let log = LogId::from_row(log)?;
            logs.extend(self.peer_log(&vkey, log)?.map(|row| (vkey, log, row)));
        }
        Ok(logs)
    }

    /// The signed heads of a peer's log that were seen, newest first.
    ///
    /// # Errors
    /// The database failed.
    pub fn peer_heads(&self, log: PeerLogId, limit: usize) -> anyhow::Result<Vec<PeerHeadRow>> {
        let mut query = self.conn.prepare_cached(
            "SELECT size, root, note, source, first_seen FROM peer_head WHERE log = ?1
             ORDER BY first_seen DESC, size DESC LIMIT ?2",
        )?;
        let rows = query.query_map(params![log.0, i64::try_from(limit).unwrap_or(i64::MAX)], parse_head)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

impl Tx<'_> {
    /// A log of the party with this verifier key, made empty if it is new.
    ///
    /// # Errors
    /// The database failed.
    pub fn open_peer_log(&mut self, vkey: &str, log: LogId) -> anyhow::Result<PeerLogRow> {
        if let Some(row) = self.peer_log(vkey, log)? {
            return Ok(row);
        }
        let party = self.party(vkey)?;
        self.conn
            .prepare_cached("INSERT INTO peer_log (party, log, size, head_at) VALUES (?1, ?2, 0, 0)")?
            .execute(params![party, log.to_row()])?;
        let id = PeerLogId(self.conn.last_insert_rowid());
        Ok(PeerLogRow { id, range: CompactRange::new(), head: None, head_at: 0, met_at: None })
    }

    /// Appends entries that were proven to a peer's log. They must follow what is stored, and give `root`.
    ///
    /// `head` is the signed note over exactly what is stored then, if there is one.
    ///
    /// # Errors
    /// The log has another size than `first`: somebody else moved it. What is stored does not give the root: the disk
    /// gave back something else than was written. Nothing of it stands then.
    pub fn extend_peer_log(
        &mut self,
        log: PeerLogId,
        first: u64,
        texts: &[Vec<u8>],
        root: &Hash,
        head: Option<&str>,
    ) -> anyhow::Result<()> {
        let size = TreeSize::new(first + texts.len() as u64).context("the log of a peer is full")?;
        let moved = self
            .conn
            .prepare_cached(
                "UPDATE peer_log SET size = ?3, head = coalesce(?4, head),
                     head_at = CASE WHEN ?4 IS NULL THEN head_at ELSE ?5 END,
                     met_at = CASE WHEN ?4 IS NULL THEN met_at ELSE coalesce(met_at, ?3) END
                 WHERE id = ?1 AND size = ?2",
            )?
            .execute(params![log.0, first.cast_signed(), size.get().cast_signed(), head, crate::store::now()])?;
        ensure!(moved == 1, "the stored log of a peer does not end at entry {first}");
        let old = TreeSize::new(first).context("the log of a peer is full")?;
        let mut levels = Levels::load(self, log.into(), old)?;
        let mut insert = self.conn.prepare_cached("INSERT INTO peer_entry (key, text) VALUES (?1, ?2)")?;
        for (number, text) in (first..).zip(texts) {
            insert.execute(params![key(log, number), text])?;
            levels.push(self.conn, leaf_hash(text))?;
        }
        levels.flush(self.conn)?;
        ensure!(
            levels.range()?.root() == *root,
            "the entries of a peer's log came back from the disk other than they were proven"
        );
        Ok(())
    }

    /// Keeps a validly signed head of a peer's log. Returns whether it is new.
    ///
    /// # Errors
    /// The database failed.
    pub fn keep_peer_head(
        &mut self,
        log: PeerLogId,
        size: TreeSize,
        root: &Hash,
        note: &str,
        source: &str,
    ) -> anyhow::Result<bool> {
        let new = self
            .conn
            .prepare_cached(
                "INSERT INTO peer_head (log, size, root, note, source, first_seen) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT DO NOTHING",
            )?
            .execute(params![log.0, size.get().cast_signed(), root.0, note, source, crate::store::now()])?;
        Ok(new == 1)
    }

    /// Forgets the oldest heads of a peer's log beyond what is kept of each. Counting them takes a while, so this is not
    /// done for each that comes.
    ///
    /// # Errors
    /// The database failed.
    pub fn forget_old_peer_heads(&mut self, log: PeerLogId) -> anyhow::Result<()> {
        // Those that contradict the log stand in the evidence against it; the rest say what the log says.
        self.conn
            .prepare_cached(
                "DELETE FROM peer_head WHERE log = ?1 AND size < (SELECT size FROM peer_head WHERE log = ?1
                 ORDER BY size DESC LIMIT 1 OFFSET ?2)",
            )?
            .execute([log.0, HEADS])?;
        Ok(())
    }
}

/// The row of an entry: log and number in one, so that each log is appended to at its end.
pub(in crate::store) fn key(log: PeerLogId, number: u64) -> i64 {
    // Added, as the end of a log may be asked for by the number after its last possible one.
    (log.0 << 40) + number.cast_signed()
}

/// The log and number of an entry's row.
pub(in crate::store) fn of_key(key: i64) -> (PeerLogId, u64) {
    (PeerLogId(key >> 40), (key & (MAX_SIZE - 1).cast_signed()).cast_unsigned())
}

fn parse_head(row: &Row<'_>) -> rusqlite::Result<PeerHeadRow> {
    Ok(PeerHeadRow {
        size: row.get::<_, i64>(0)?.cast_unsigned(),
        root: Hash(row.get(1)?),
        note: row.get(2)?,
        source: row.get(3)?,
        first_seen: row.get(4)?,
    })
}
