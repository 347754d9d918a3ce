//! The latest proven word of each party on each spec, and the sum that it named before it found that it cannot build.

use anyhow::{Context, bail};
use rusqlite::{OptionalExtension, Row, params};

use super::{LogId, Reader, SaidRow, SpecId, Tx};
use crate::model::{Spec, Sum};
use crate::quorum::Word;

/// A word with where it was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WordRow {
    /// Verifier key of who said it.
    pub vkey: String,
    /// The log of that party in which it was said.
    pub log: LogId,
    /// Its entry there.
    pub number: u64,
    /// What was said.
    pub word: Word,
    /// When, in Unix seconds, by the clock of who said it.
    pub at: i64,
}

const QUERY: &str = "SELECT party.vkey, word.number, word.size, word.sum, word.class, word.at, word.log
     FROM word JOIN party ON party.id = word.party";

impl Reader<'_> {
    /// The words of all parties on a spec, in the order in which the parties were met.
    pub fn words(&self, spec: SpecId) -> anyhow::Result<Vec<WordRow>> {
        let sql = format!("{QUERY} WHERE word.spec = ?1 ORDER BY word.party");
        let mut query = self.conn.prepare_cached(&sql)?;
        let rows = query.query_map([spec.0], |row| Ok(parse(row)))?;
        rows.map(|row| row?).collect()
    }

    /// The word of one party on a spec that was not looked up yet.
    pub fn word_on(&self, spec: &Spec, vkey: &str) -> anyhow::Result<Option<WordRow>> {
        match self.spec_id(spec)? {
            Some(id) => self.word(id, vkey),
            None => Ok(None),
        }
    }

    /// The word of one party on a spec.
    pub fn word(&self, spec: SpecId, vkey: &str) -> anyhow::Result<Option<WordRow>> {
        let sql = format!("{QUERY} WHERE word.spec = ?1 AND party.vkey = ?2");
        let mut query = self.conn.prepare_cached(&sql)?;
        query.query_row(params![spec.0, vkey], |row| Ok(parse(row))).optional()?.transpose()
    }

    /// The sum that a party named last before it said that the spec cannot be built.
    pub fn withdrawn(&self, spec: SpecId, vkey: &str) -> anyhow::Result<Option<SaidRow>> {
        let mut query = self.conn.prepare_cached(
            "SELECT log, number, size, sum, at FROM withdrawn JOIN party ON party.id = party
             WHERE spec = ?1 AND party.vkey = ?2",
        )?;
        let row = query.query_row(params![spec.0, vkey], |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, row.get(3)?, row.get(4)?))
        });
        let Some((log, number, size, sum, at)) = row.optional()? else {
            return Ok(None);
        };
        Ok(Some(SaidRow {
            vkey: vkey.to_owned(),
            log: LogId::from_row(log)?,
            number: number.cast_unsigned(),
            size: size.cast_unsigned(),
            sum: Sum::from_bytes(sum),
            at,
        }))
    }

    /// Calls `visit` with the spec and word of every row of one party.
    pub fn each_word(
        &self,
        vkey: &str,
        mut visit: impl FnMut(&str, WordRow) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut query = self.conn.prepare_cached(
            "SELECT party.vkey, word.number, word.size, word.sum, word.class, word.at, word.log, spec.text
             FROM word JOIN party ON party.id = word.party JOIN spec ON spec.id = word.spec
             WHERE party.vkey = ?1",
        )?;
        let mut rows = query.query([vkey])?;
        while let Some(row) = rows.next()? {
            visit(&row.get::<_, String>(7)?, parse(row)?)?;
        }
        Ok(())
    }
}

impl Tx<'_> {
    /// Makes a word the latest of its party on a spec.
    pub fn put_word(&mut self, spec: SpecId, row: &WordRow) -> anyhow::Result<()> {
        let party = self.party(&row.vkey)?;
        let (size, sum, class) = match &row.word {
            Word::Sum { size, sum } => (Some(size.cast_signed()), Some(sum.as_bytes()), None),
            Word::CannotBuild(class) => (None, None, Some(class.to_string())),
        };
        self.conn
            .prepare_cached(
                "INSERT OR REPLACE INTO word (spec, party, number, size, sum, class, at, log)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![spec.0, party, row.number.cast_signed(), size, sum, class, row.at, row.log.to_row()])?;
        Ok(())
    }

    /// Keeps a sum that its party has just replaced by saying that it cannot be built.
    pub fn put_withdrawn(&mut self, spec: SpecId, said: &SaidRow) -> anyhow::Result<()> {
        let party = self.party(&said.vkey)?;
        self.conn
            .prepare_cached(
                "INSERT OR REPLACE INTO withdrawn (spec, party, log, number, size, sum, at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                spec.0,
                party,
                said.log.to_row(),
                said.number.cast_signed(),
                said.size.cast_signed(),
                said.sum.as_bytes(),
                said.at
            ])?;
        Ok(())
    }

    /// The row of a party, made if it is new.
    pub(super) fn party(&mut self, vkey: &str) -> anyhow::Result<i64> {
        let known = self
            .conn
            .prepare_cached("SELECT id FROM party WHERE vkey = ?1")?
            .query_row([vkey], |row| row.get(0))
            .optional()?;
        if let Some(id) = known {
            return Ok(id);
        }
        self.conn.execute("INSERT INTO party (vkey) VALUES (?1)", [vkey])?;
        Ok(self.conn.last_insert_rowid())
    }
}

fn parse(row: &Row<'_>) -> anyhow::Result<WordRow> {
    let word = match (row.get::<_, Option<i64>>(2)?, row.get(3)?, row.get::<_, Option<String>>(4)?) {
        (Some(size), Some(sum), None) => Word::Sum { size: size.cast_unsigned(), sum: Sum::from_bytes(sum) },
        (None, None, Some(class)) => {
            Word::CannotBuild(class.parse().with_context(|| format!("a stored word has the class {class}"))?)
        }
        _ => bail!("a stored word is neither a sum nor a class"),
    };
    Ok(WordRow {
        vkey: row.get(0)?,
        log: LogId::from_row(row.get(6)?)?,
        number: row.get::<_, i64>(1)?.cast_unsigned(),
        word,
        at: row.get(5)?,
    })
}
