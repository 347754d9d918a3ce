//! How the binaries behind the words of a divergence differ: what was found, or what is missing to find it.
//!
//! A pair is due from when its second word is stored, in the same transaction, so no crash forgets one. What is missing
//! is tried again at its time, for as long as the divergence is open.

use rusqlite::{OptionalExtension, Row, params};

use super::{Reader, Tx};
use crate::model::Sum;

/// Pairs of sums of one divergence that are compared: three parties that all differ have three, and one that changes its
/// mind with every entry must not fill the disk.
const PAIRS: i64 = 6;

/// Two sums of one divergence, the smaller one first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComparisonRow {
    /// Of which divergence.
    pub divergence: i64,
    /// Of the one file.
    pub one: Sum,
    /// Of the other.
    pub other: Sum,
    /// How they differ, as in evidence.
    pub text: Option<String>,
    /// What was missing at the last try.
    pub missing: Option<String>,
    /// Tries so far.
    pub tries: u32,
    /// When to try next, in Unix seconds.
    pub next_at: i64,
}

const COLUMNS: &str = "divergence, one, other, text, missing, tries, next_at";

impl Reader<'_> {
    /// The pairs of a divergence.
    ///
    /// # Errors
    /// The database failed.
    pub fn comparisons(&self, divergence: i64) -> anyhow::Result<Vec<ComparisonRow>> {
        let sql = format!("SELECT {COLUMNS} FROM comparison WHERE divergence = ?1 ORDER BY one, other");
        let mut query = self.conn.prepare_cached(&sql)?;
        Ok(query.query_map([divergence], parse)?.collect::<Result<_, _>>()?)
    }

    /// A pair that is to be compared by now.
    ///
    /// # Errors
    /// The database failed.
    pub fn due_comparison(&self, now: i64) -> anyhow::Result<Option<ComparisonRow>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM comparison WHERE text IS NULL AND next_at <= ?1 ORDER BY next_at, divergence LIMIT 1"
        );
        Ok(self.conn.prepare_cached(&sql)?.query_row([now], parse).optional()?)
    }

    /// Bytes on disk of the binaries that open divergences are about.
    ///
    /// # Errors
    /// The database failed.
    pub fn disputed_bytes(&self) -> anyhow::Result<u64> {
        let mut query = self.conn.prepare_cached(
            "SELECT coalesce(sum(gz_size), 0) FROM binary WHERE state = 'present' AND sum IN (
                 SELECT sum FROM divergence_word JOIN divergence ON divergence.id = divergence WHERE open = 1)",
        )?;
        Ok(query.query_row([], |row| row.get::<_, i64>(0))?.cast_unsigned())
    }
}

impl Tx<'_> {
    /// Makes the pairs of a new word due: with each other sum that was named in this divergence.
    pub(super) fn pair_up(&mut self, divergence: i64, sum: &Sum) -> anyhow::Result<()> {
        self.conn
            .prepare_cached(
                "INSERT OR IGNORE INTO comparison (divergence, one, other, tries, next_at)
                 SELECT DISTINCT ?1, min(sum, ?2), max(sum, ?2), 0, 0 FROM divergence_word
                 WHERE divergence = ?1 AND sum <> ?2
                 LIMIT max(0, ?3 - (SELECT count(*) FROM comparison WHERE divergence = ?1))",
            )?
            .execute(params![divergence, sum.as_bytes(), PAIRS])?;
        Ok(())
    }

    /// Keeps what was found or is missing, if the pair is still waited for.
    ///
    /// # Errors
    /// The database failed.
    pub fn put_comparison(&mut self, row: &ComparisonRow) -> anyhow::Result<()> {
        self.conn
            .prepare_cached(
                "UPDATE comparison SET text = ?4, missing = ?5, tries = ?6, next_at = ?7
                 WHERE divergence = ?1 AND one = ?2 AND other = ?3",
            )?
            .execute(params![
                row.divergence,
                row.one.as_bytes(),
                row.other.as_bytes(),
                row.text,
                row.missing,
                row.tries,
                row.next_at
            ])?;
        Ok(())
    }

    /// Gives up what has not been compared of a divergence that is settled.
    pub(super) fn drop_due_comparisons(&mut self, divergence: i64) -> anyhow::Result<()> {
        self.conn
            .prepare_cached("DELETE FROM comparison WHERE divergence = ?1 AND text IS NULL")?
            .execute([divergence])?;
        Ok(())
    }
}

fn parse(row: &Row<'_>) -> rusqlite::Result<ComparisonRow> {
    Ok(ComparisonRow {
        divergence: row.get(0)?,
        one: Sum::from_bytes(row.get(1)?),
        other: Sum::from_bytes(row.get(2)?),
        text: row.get(3)?,
        missing: row.get(4)?,
        tries: row.get(5)?,
        next_at: row.get(6)?,
    })
}
