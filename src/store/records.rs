//! What the accepted log says, by spec.

use anyhow::Context;
use rusqlite::{OptionalExtension, Row, params};

use super::{Reader, SpecId, Tx, specs};
use crate::model::{ModulePath, Record, Spec, Sum};

/// A record with its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordRow {
    /// Its entry in the accepted log.
    pub number: u64,
    /// What was agreed on.
    pub record: Record,
    /// When, in Unix seconds.
    pub at: i64,
}

/// Records of one module, for links between them.
pub type Neighbours = Vec<RecordRow>;

const ROWS: &str = "SELECT record.number, spec.text, record.size, record.sum, record.at
     FROM record JOIN spec ON spec.id = record.spec";

impl Reader<'_> {
    /// The record of a spec.
    pub fn record(&self, spec: &Spec) -> anyhow::Result<Option<RecordRow>> {
        self.record_by_text(&spec.to_string())
    }

    /// The same, for a spec that is still text; one that is malformed has no record.
    pub fn record_by_text(&self, spec: &str) -> anyhow::Result<Option<RecordRow>> {
        match self.spec_id_by_text(spec)? {
            Some(id) => self.record_by_id(id),
            None => Ok(None),
        }
    }

    /// The same, for a spec that was looked up.
    pub fn record_by_id(&self, spec: SpecId) -> anyhow::Result<Option<RecordRow>> {
        let sql = format!("{ROWS} WHERE record.spec = ?1");
        let mut query = self.conn.prepare_cached(&sql)?;
        query.query_row([spec.0], |row| Ok(parse(row))).optional()?.transpose()
    }

    /// Up to `limit` records from a number on, in the order of the log.
    pub fn records_from(&self, first: u64, limit: usize) -> anyhow::Result<Vec<RecordRow>> {
        let sql = format!("{ROWS} WHERE record.number >= ?1 ORDER BY record.number LIMIT ?2");
        self.records(&sql, params![first.cast_signed(), to_sql(limit)])
    }

    /// The newest records, newest first.
    pub fn newest_records(&self, limit: usize) -> anyhow::Result<Vec<RecordRow>> {
        let sql = format!("{ROWS} ORDER BY record.number DESC LIMIT ?1");
        self.records(&sql, params![to_sql(limit)])
    }

    /// Records of all versions, packages and targets of a module, in the order of their specs.
    pub fn records_of(&self, module: &ModulePath, limit: usize) -> anyhow::Result<Neighbours> {
        let sql = format!(
            "{ROWS} WHERE spec.id IN (
                 SELECT id FROM spec_recent WHERE hash BETWEEN ?1 AND ?2
                 UNION ALL SELECT id FROM spec_settled WHERE hash BETWEEN ?1 AND ?2
             ) AND substr(spec.text, 1, length(?3)) = ?3 ORDER BY spec.text LIMIT ?4"
        );
        let hashes = specs::hashes_of(module.as_str());
        self.records(&sql, params![hashes.start(), hashes.end(), format!("{module}@"), to_sql(limit)])
    }

    /// How many specs have a record.
    pub fn count_records(&self) -> anyhow::Result<u64> {
        let count: i64 = self.conn.query_row("SELECT count(*) FROM record", [], |row| row.get(0))?;
        Ok(count.cast_unsigned())
    }

    fn records(&self, sql: &str, params: impl rusqlite::Params) -> anyhow::Result<Vec<RecordRow>> {
        let mut query = self.conn.prepare_cached(sql)?;
        let rows = query.query_map(params, |row| Ok(parse(row)))?;
        rows.map(|row| row?).collect()
    }
}

impl Tx<'_> {
    /// Notes what the entry of this number in the accepted log says.
    pub(crate) fn insert_record(&mut self, number: u64, spec: SpecId, record: &Record) -> anyhow::Result<()> {
        self.conn
            .prepare_cached("INSERT INTO record (number, spec, size, sum, at) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![
                number.cast_signed(),
                spec.0,
                record.size.cast_signed(),
                record.sum.as_bytes(),
                super::now()
            ])?;
        Ok(())
    }
}

fn parse(row: &Row<'_>) -> anyhow::Result<RecordRow> {
    let spec: String = row.get(1)?;
    Ok(RecordRow {
        number: row.get::<_, i64>(0)?.cast_unsigned(),
        record: Record {
            spec: spec.parse().with_context(|| format!("a stored record has the spec {spec}"))?,
            size: row.get::<_, i64>(2)?.cast_unsigned(),
            sum: Sum::from_bytes(row.get(3)?),
        },
        at: row.get(4)?,
    })
}

fn to_sql(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
