//! What the operator is told of: one open row per kind, party and spec, whoever raises it and however often.
//!
//! Raising and ending put a row for each channel into the outbox, in the same transaction, so an alert is told if and
//! only if it is stored. [`Tx::see_divergence`] and [`Tx::resolve_divergence`] raise and end by themselves. Rows are
//! never deleted.

use rusqlite::{OptionalExtension, Row, params};

use super::{Reader, SpecId, Tx};
use crate::model::AlertKind;

/// An alert as rows name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AlertId(pub i64);

/// Something to tell the operator.
#[derive(Clone, Copy, Debug)]
pub struct NewAlert<'a> {
    /// What it is.
    pub kind: AlertKind,
    /// Of what, if it is about one spec.
    pub spec: Option<SpecId>,
    /// The whole verifier key of whom it is about, if it is about somebody.
    pub party: Option<&'a str>,
    /// One sentence that an operator understands, with the names that the operator uses.
    pub summary: &'a str,
    /// The divergence that has more to say, if there is one.
    pub divergence: Option<i64>,
}

/// One alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertRow {
    /// To name it by.
    pub id: AlertId,
    /// What it is.
    pub kind: AlertKind,
    /// Of what; none for what is about no spec.
    pub spec: Option<String>,
    /// Verifier key of whom it is about.
    pub party: Option<String>,
    /// The divergence that has more to say.
    pub divergence: Option<i64>,
    /// One sentence; none: it is to be made from the divergence.
    pub summary: Option<String>,
    /// Whether it still holds.
    pub open: bool,
    /// In Unix seconds.
    pub first_seen: i64,
    /// In Unix seconds.
    pub last_seen: i64,
}

const ROWS: &str = "SELECT alert.id, kind, spec.text, party.vkey, divergence, summary, open, first_seen, last_seen
     FROM alert LEFT JOIN spec ON spec.id = alert.spec LEFT JOIN party ON party.id = alert.party";

impl Reader<'_> {
    /// One alert.
    ///
    /// # Errors
    /// The database failed.
    pub fn alert(&self, id: AlertId) -> anyhow::Result<Option<AlertRow>> {
        let mut query = self.conn.prepare_cached(&format!("{ROWS} WHERE alert.id = ?1"))?;
        query.query_row([id.0], |row| Ok(parse(row))).optional()?.transpose()
    }

    /// The alerts after an id, in the order in which they were raised; only those that are open, if so asked.
    ///
    /// # Errors
    /// The database failed.
    pub fn alerts(&self, after: i64, only_open: bool, limit: usize) -> anyhow::Result<Vec<AlertRow>> {
        let sql = format!("{ROWS} WHERE alert.id > ?1 AND (open = 1 OR ?2 = 0) ORDER BY alert.id LIMIT ?3");
        let mut query = self.conn.prepare_cached(&sql)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = query.query_map(params![after, only_open, limit], |row| Ok(parse(row)))?;
        rows.map(|row| row?).collect()
    }

    /// Up to `limit` alerts, those raised last first; only those raised before `before`, if that is given.
    ///
    /// # Errors
    /// The database failed.
    pub fn newest_alerts(&self, before: Option<i64>, limit: usize) -> anyhow::Result<Vec<AlertRow>> {
        let sql = format!("{ROWS} WHERE alert.id < ?1 ORDER BY alert.id DESC LIMIT ?2");
        let mut query = self.conn.prepare_cached(&sql)?;
        let (before, limit) = (before.unwrap_or(i64::MAX), i64::try_from(limit).unwrap_or(i64::MAX));
        let rows = query.query_map([before, limit], |row| Ok(parse(row)))?;
        rows.map(|row| row?).collect()
    }

    /// Up to `limit` open alerts that are about no divergence, those raised last first.
    ///
    /// # Errors
    /// The database failed.
    pub fn open_notices(&self, limit: usize) -> anyhow::Result<Vec<AlertRow>> {
        let sql = format!("{ROWS} WHERE open = 1 AND divergence IS NULL ORDER BY alert.id DESC LIMIT ?1");
        let mut query = self.conn.prepare_cached(&sql)?;
        let rows = query.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| Ok(parse(row)))?;
        rows.map(|row| row?).collect()
    }

    /// The open alerts of a kind, in the order in which they were raised. Of kinds that are about specs there can be many.
    ///
    /// # Errors
    /// The database failed.
    pub fn open_alerts(&self, kind: AlertKind) -> anyhow::Result<Vec<AlertRow>> {
        let mut query = self.conn.prepare_cached(&format!("{ROWS} WHERE open = 1 AND kind = ?1 ORDER BY alert.id"))?;
        let rows = query.query_map([kind.as_str()], |row| Ok(parse(row)))?;
        rows.map(|row| row?).collect()
    }

    /// Up to `limit` alerts of some kinds, those raised last first.
    ///
    /// # Errors
    /// The database failed.
    pub fn newest_alerts_of(&self, kinds: &[AlertKind], limit: usize) -> anyhow::Result<Vec<AlertRow>> {
        let kinds: Vec<String> = kinds.iter().map(|kind| format!("'{kind}'")).collect();
        let sql = format!("{ROWS} WHERE kind IN ({}) ORDER BY alert.id DESC LIMIT ?1", kinds.join(", "));
        let mut query = self.conn.prepare_cached(&sql)?;
        let rows = query.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| Ok(parse(row)))?;
        rows.map(|row| row?).collect()
    }

    /// How many alerts are open.
    ///
    /// # Errors
    /// The database failed.
    pub fn count_open_alerts(&self) -> anyhow::Result<u64> {
        let mut query = self.conn.prepare_cached("SELECT count(*) FROM alert WHERE open = 1")?;
        Ok(query.query_row([], |row| row.get::<_, i64>(0))?.cast_unsigned())
    }
}

impl Tx<'_> {
    /// Raises an alert: puts it before all channels, or, if it is open already, notes that it was seen again. Returns
    /// its id, and whether it is new.
    ///
    /// # Errors
    /// The database failed.
    pub fn raise(&mut self, alert: &NewAlert<'_>) -> anyhow::Result<(AlertId, bool)> {
        let party = alert.party.map(|vkey| self.party(vkey)).transpose()?;
        self.raise_row(alert.kind, alert.spec, party, Some(alert.summary), alert.divergence)
    }

    /// Ends an open alert and tells all channels. Returns whether there was one.
    ///
    /// # Errors
    /// The database failed.
    pub fn end_alert(&mut self, kind: AlertKind, party: Option<&str>, spec: Option<SpecId>) -> anyhow::Result<bool> {
        let party = party.map(|vkey| self.party(vkey)).transpose()?;
        let ended = self
            .conn
            .prepare_cached(
                "UPDATE alert SET open = 0, last_seen = ?4 WHERE open = 1 AND kind = ?1
                     AND coalesce(party, 0) = coalesce(?2, 0) AND coalesce(spec, 0) = coalesce(?3, 0) RETURNING id",
            )?
            .query_row(params![kind.as_str(), party, spec.map(|spec| spec.0), super::now()], |row| row.get(0))
            .optional()?;
        if let Some(id) = ended {
            self.tell(AlertId(id), false)?;
        }
        Ok(ended.is_some())
    }

    /// Raises the alert of a divergence. Its sentence is made when it is told: more may be known of it by then.
    pub(super) fn raise_divergence(
        &mut self,
        kind: AlertKind,
        spec: Option<SpecId>,
        party: i64,
        divergence: i64,
    ) -> anyhow::Result<()> {
        self.raise_row(kind, spec, Some(party), None, Some(divergence)).map(drop)
    }

    /// Ends the alert of a divergence.
    pub(super) fn end_divergence(&mut self, divergence: i64) -> anyhow::Result<()> {
        let ended = self
            .conn
            .prepare_cached(
                "UPDATE alert SET open = 0, last_seen = ?2 WHERE divergence = ?1 AND open = 1 RETURNING id",
            )?
            .query_row([divergence, super::now()], |row| row.get(0))
            .optional()?;
        ended.map_or(Ok(()), |id| self.tell(AlertId(id), false))
    }

    fn raise_row(
        &mut self,
        kind: AlertKind,
        spec: Option<SpecId>,
        party: Option<i64>,
        summary: Option<&str>,
        divergence: Option<i64>,
    ) -> anyhow::Result<(AlertId, bool)> {
        let spec = spec.map(|spec| spec.0);
        let known = self
            .conn
            .prepare_cached(
                "UPDATE alert SET last_seen = ?4 WHERE open = 1 AND kind = ?1
                     AND coalesce(party, 0) = coalesce(?2, 0) AND coalesce(spec, 0) = coalesce(?3, 0) RETURNING id",
            )?
            .query_row(params![kind.as_str(), party, spec, super::now()], |row| row.get(0))
            .optional()?;
        if let Some(id) = known {
            return Ok((AlertId(id), false));
        }
        self.conn
            .prepare_cached(
                "INSERT INTO alert (kind, spec, party, divergence, summary, open, first_seen, last_seen)
                 VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6, ?6)",
            )?
            .execute(params![kind.as_str(), spec, party, divergence, summary, super::now()])?;
        let id = AlertId(self.conn.last_insert_rowid());
        self.tell(id, true)?;
        Ok((id, true))
    }
}

fn parse(row: &Row<'_>) -> anyhow::Result<AlertRow> {
    Ok(AlertRow {
        id: AlertId(row.get(0)?),
        kind: row.get::<_, String>(1)?.parse()?,
        spec: row.get(2)?,
        party: row.get(3)?,
        divergence: row.get(4)?,
        summary: row.get(5)?,
        open: row.get(6)?,
        first_seen: row.get(7)?,
        last_seen: row.get(8)?,
    })
}
