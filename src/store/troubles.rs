//! Builds that failed for a reason that may pass, and when each is tried again.

use rusqlite::{OptionalExtension, Row, params};

use super::{Reader, Tx};
use crate::model::Spec;

/// A build that failed for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What could not be built.
    pub spec: String,
    /// Why, in a sentence.
    pub detail: String,
    /// How often it was tried.
    pub tries: u32,
    /// When it is tried again, in Unix seconds.
    pub next_at: i64,
}

const COLUMNS: &str = "spec, detail, tries, next_at";

impl Reader<'_> {
    /// What keeps a spec from being built at the moment.
    pub fn trouble(&self, spec: &Spec) -> anyhow::Result<Option<Trouble>> {
        let sql = format!("SELECT {COLUMNS} FROM trouble WHERE spec = ?1");
        let mut query = self.conn.prepare_cached(&sql)?;
        Ok(query.query_row([spec.to_string()], parse).optional()?)
    }

    /// The specs in trouble, soonest next try first.
    pub fn troubles(&self, limit: usize) -> anyhow::Result<Vec<Trouble>> {
        let sql = format!("SELECT {COLUMNS} FROM trouble ORDER BY next_at LIMIT ?1");
        let mut query = self.conn.prepare_cached(&sql)?;
        let rows = query.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], parse)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The specs to be tried again `now`, those that have waited longest first. A time beyond `ahead` is longer than any
    /// pause: the clock was wrong when it was noted, so these are due as well.
    pub fn due_troubles(&self, now: i64, ahead: i64, limit: usize) -> anyhow::Result<Vec<Trouble>> {
        let sql =
            format!("SELECT {COLUMNS} FROM trouble WHERE next_at <= ?1 OR next_at > ?2 ORDER BY next_at LIMIT ?3");
        let mut query = self.conn.prepare_cached(&sql)?;
        let rows = query.query_map(params![now, ahead, i64::try_from(limit).unwrap_or(i64::MAX)], parse)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How many specs are in trouble.
    pub fn count_troubles(&self) -> anyhow::Result<u64> {
        let mut query = self.conn.prepare_cached("SELECT count(*) FROM trouble")?;
        Ok(query.query_row([], |row| row.get::<_, i64>(0))?.cast_unsigned())
    }
}

impl Tx<'_> {
    /// Notes a failure.
    pub fn put_trouble(&mut self, trouble: &Trouble) -> anyhow::Result<()> {
        self.conn
            .prepare_cached("INSERT OR REPLACE INTO trouble (spec, detail, tries, next_at) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![trouble.spec, trouble.detail, trouble.tries, trouble.next_at])?;
        Ok(())
    }

    /// Forgets the failures of a spec.
    pub fn clear_trouble(&mut self, spec: &Spec) -> anyhow::Result<()> {
        self.conn.prepare_cached("DELETE FROM trouble WHERE spec = ?1")?.execute([spec.to_string()])?;
        Ok(())
    }
}

fn parse(row: &Row<'_>) -> rusqlite::Result<Trouble> {
    Ok(Trouble { spec: row.get(0)?, detail: row.get(1)?, tries: row.get(2)?, next_at: row.get(3)? })
}
