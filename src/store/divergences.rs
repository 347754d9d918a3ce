//! What was found to differ: who said what, since when, and whether the operator has settled it.
//!
//! The words stand in signed logs that are stored here too, so the proof of a divergence can always be made from
//! them; of a fork there is only what the peer showed, so its bundle is kept. Rows are never deleted.

use rusqlite::{OptionalExtension, Row, params};

use super::{LogId, Reader, SpecId, Tx};
use crate::model::Sum;

/// One divergence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DivergenceRow {
    /// To name it by.
    pub id: i64,
    /// As the API spells it.
    pub kind: String,
    /// Of what; none for what concerns a whole log.
    pub spec: Option<String>,
    /// Verifier key of whose word or head opened it.
    pub party: Option<String>,
    /// Whether it is still to be settled.
    pub open: bool,
    /// In Unix seconds.
    pub first_seen: i64,
    /// In Unix seconds.
    pub last_seen: i64,
    /// What the operator wrote when it was settled.
    pub note: Option<String>,
    /// The bundle that came with it.
    pub evidence: Option<String>,
    /// The words that differ, in the order of parties and entries; of each party the newest 20.
    pub words: Vec<SaidRow>,
}

/// A sum that a party has named, now or before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaidRow {
    /// Verifier key of who said it.
    pub vkey: String,
    /// In which of its logs.
    pub log: LogId,
    /// In which entry.
    pub number: u64,
    /// Uncompressed bytes.
    pub size: u64,
    /// Of the uncompressed bytes.
    pub sum: Sum,
    /// When, in Unix seconds, by the clock of who said it.
    pub at: i64,
}

/// Words of one party that are read of one divergence, the newest: one that changes its mind with every entry must not
/// fill the pages of everybody else.
const WORDS: i64 = 20;

const ROWS: &str = "SELECT divergence.id, kind, spec.text, party.vkey, open, first_seen, last_seen, note, evidence
     FROM divergence LEFT JOIN spec ON spec.id = divergence.spec LEFT JOIN party ON party.id = divergence.party";

impl Reader<'_> {
    /// One divergence.
    ///
    /// # Errors
    /// The database failed.
    pub fn divergence(&self, id: i64) -> anyhow::Result<Option<DivergenceRow>> {
        let mut query = self.conn.prepare_cached(&format!("{ROWS} WHERE divergence.id = ?1"))?;
        let row = query.query_row([id], parse).optional()?;
        row.map(|row| self.with_words(row)).transpose()
    }

    /// The divergences after an id, in the order in which they were found.
    ///
    /// # Errors
    /// The database failed.
    pub fn divergences(&self, after: i64, limit: usize) -> anyhow::Result<Vec<DivergenceRow>> {
        let sql = format!("{ROWS} WHERE divergence.id > ?1 ORDER BY divergence.id LIMIT ?2");
        let mut query = self.conn.prepare_cached(&sql)?;
        let rows = query.query_map(params![after, i64::try_from(limit).unwrap_or(i64::MAX)], parse)?;
        rows.map(|row| self.with_words(row?)).collect()
    }

    /// Up to `limit` divergences, those found last first; only those found before `before`, if that is given.
    ///
    /// # Errors
    /// The database failed.
    pub fn newest_divergences(&self, before: Option<i64>, limit: usize) -> anyhow::Result<Vec<DivergenceRow>> {
        let sql = format!("{ROWS} WHERE divergence.id < ?1 ORDER BY divergence.id DESC LIMIT ?2");
        let mut query = self.conn.prepare_cached(&sql)?;
        let (before, limit) = (before.unwrap_or(i64::MAX), i64::try_from(limit).unwrap_or(i64::MAX));
        let rows = query.query_map([before, limit], parse)?;
        rows.map(|row| self.with_words(row?)).collect()
    }

    /// The newest divergence of a spec between parties, open or not.
    ///
    /// # Errors
    /// The database failed.
    pub fn divergence_on(&self, spec: SpecId) -> anyhow::Result<Option<DivergenceRow>> {
        let sql =
            format!("{ROWS} WHERE divergence.spec = ?1 AND kind = 'divergence' ORDER BY divergence.id DESC LIMIT 1");
        let row = self.conn.prepare_cached(&sql)?.query_row([spec.0], parse).optional()?;
        row.map(|row| self.with_words(row)).transpose()
    }

    /// An open divergence of a kind that concerns this node alone.
    ///
    /// # Errors
    /// The database failed.
    pub fn open_divergence(&self, kind: &str) -> anyhow::Result<Option<DivergenceRow>> {
        let sql = format!("{ROWS} WHERE divergence.open = 1 AND kind = ?1 LIMIT 1");
        let row = self.conn.prepare_cached(&sql)?.query_row([kind], parse).optional()?;
        row.map(|row| self.with_words(row)).transpose()
    }

    /// Whether a divergence of this kind, spec and party is open.
    ///
    /// # Errors
    /// The database failed.
    pub fn has_open_divergence(&self, kind: &str, spec: SpecId, vkey: &str) -> anyhow::Result<bool> {
        let mut query = self.conn.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM divergence JOIN party ON party.id = divergence.party
                 WHERE open = 1 AND kind = ?1 AND spec = ?2 AND party.vkey = ?3)",
        )?;
        Ok(query.query_row(params![kind, spec.0, vkey], |row| row.get(0))?)
    }

    /// How many divergences are open.
    ///
    /// # Errors
    /// The database failed.
    pub fn count_open_divergences(&self) -> anyhow::Result<u64> {
        let count: i64 = self.conn.query_row("SELECT count(*) FROM divergence WHERE open = 1", [], |row| row.get(0))?;
        Ok(count.cast_unsigned())
    }

    fn with_words(&self, mut row: DivergenceRow) -> anyhow::Result<DivergenceRow> {
        let mut query = self.conn.prepare_cached(
            "SELECT party.vkey, log, number, size, sum, at FROM (
                 SELECT *, row_number() OVER (PARTITION BY party ORDER BY log, number DESC) AS place
                 FROM divergence_word WHERE divergence = ?1
             ) JOIN party ON party.id = party WHERE place <= ?2 ORDER BY party, log, number",
        )?;
        let words = query.query_map([row.id, WORDS], |row| {
            let said =
                (row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?, row.get(4)?, row.get(5)?);
            Ok(said)
        })?;
        for said in words {
            let (vkey, log, number, size, sum, at) = said?;
            row.words.push(SaidRow {
                vkey,
                log: LogId::from_row(log)?,
                number: number.cast_unsigned(),
                size: size.cast_unsigned(),
                sum: Sum::from_bytes(sum),
                at,
            });
        }
        Ok(row)
    }
}

impl Tx<'_> {
    /// Opens a divergence, or sees one again that is open: one a spec for `divergence`, one a kind, party and spec for
    /// the others. Raises its alert. Returns its id, and whether it is new.
    ///
    /// # Errors
    /// The database failed, or nobody can be told of such a kind.
    pub fn see_divergence(
        &mut self,
        kind: &str,
        spec: Option<SpecId>,
        vkey: &str,
        evidence: Option<&str>,
    ) -> anyhow::Result<(i64, bool)> {
        let alert = kind.parse()?;
        let party = self.party(vkey)?;
        let row = spec.map(|spec| spec.0);
        let known = self
            .conn
            .prepare_cached(
                "UPDATE divergence SET last_seen = ?4 WHERE open = 1 AND kind = ?1 AND coalesce(spec, 0) = coalesce(?2, 0)
                     AND (kind = 'divergence' OR party = ?3) RETURNING id, party",
            )?
            .query_row(params![kind, row, party, super::now()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        if let Some((id, opener)) = known {
            // The alert is about whose word opened it, whoever has spoken now.
            self.raise_divergence(alert, spec, opener, id)?;
            return Ok((id, false));
        }
        self.conn
            .prepare_cached(
                "INSERT INTO divergence (kind, spec, party, open, first_seen, last_seen, evidence)
                 VALUES (?1, ?2, ?3, 1, ?4, ?4, ?5)",
            )?
            .execute(params![kind, row, party, super::now(), evidence])?;
        let id = self.conn.last_insert_rowid();
        self.raise_divergence(alert, spec, party, id)?;
        Ok((id, true))
    }

    /// Adds a word to a divergence, if it is not there yet. What it differs from is due to be compared with it.
    ///
    /// # Errors
    /// The database failed.
    pub fn add_said(&mut self, divergence: i64, said: &SaidRow) -> anyhow::Result<()> {
        let party = self.party(&said.vkey)?;
        self.conn
            .prepare_cached(
                "INSERT INTO divergence_word (divergence, party, log, number, size, sum, at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
            )?
            .execute(params![
                divergence,
                party,
                said.log.to_row(),
                said.number.cast_signed(),
                said.size.cast_signed(),
                said.sum.as_bytes(),
                said.at
            ])?;
        self.pair_up(divergence, &said.sum)
    }

    /// Settles an open divergence with the operator's note, and ends its alert. Returns whether there was one.
    ///
    /// # Errors
    /// The database failed.
    pub fn resolve_divergence(&mut self, id: i64, note: &str) -> anyhow::Result<bool> {
        let resolved = self
            .conn
            .prepare_cached("UPDATE divergence SET open = 0, note = ?2 WHERE id = ?1 AND open = 1")?
            .execute(params![id, note])?;
        if resolved == 1 {
            self.end_divergence(id)?;
            self.drop_due_comparisons(id)?;
        }
        Ok(resolved == 1)
    }
}

fn parse(row: &Row<'_>) -> rusqlite::Result<DivergenceRow> {
    Ok(DivergenceRow {
        id: row.get(0)?,
        kind: row.get(1)?,
        spec: row.get(2)?,
        party: row.get(3)?,
        open: row.get(4)?,
        first_seen: row.get(5)?,
        last_seen: row.get(6)?,
        note: row.get(7)?,
        evidence: row.get(8)?,
        words: Vec::new(),
    })
}
