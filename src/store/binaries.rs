//! Which binaries are on disk, and the output of the builds that made them.

use rusqlite::{OptionalExtension, Row, params};

use super::{Reader, SpecId, Tx};
use crate::model::{Spec, Sum};

/// What is known of one binary, present or evicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BinaryRow {
    /// Of the uncompressed bytes, cut to 20.
    pub sum: Sum,
    /// Uncompressed bytes.
    pub size: u64,
    /// Of the uncompressed bytes.
    pub sha256: [u8; 32],
    /// Bytes of the file as it is kept.
    pub gz_size: u64,
    /// Of the file as it is kept: another program or release may compress otherwise.
    pub gz_sha256: [u8; 32],
    /// Whether the file is there.
    pub present: bool,
}

const COLUMNS: &str = "sum, size, sha256, gz_size, gz_sha256, state = 'present'";

impl Reader<'_> {
    /// The binary with a sum, if it was ever here.
    pub fn binary(&self, sum: &Sum) -> anyhow::Result<Option<BinaryRow>> {
        let sql = format!("SELECT {COLUMNS} FROM binary WHERE sum = ?1");
        let mut query = self.conn.prepare_cached(&sql)?;
        Ok(query.query_row([sum.as_bytes()], parse).optional()?)
    }

    /// All binaries that should be on disk, least recently served first.
    pub fn present_binaries(&self, limit: usize) -> anyhow::Result<Vec<BinaryRow>> {
        let sql = format!("SELECT {COLUMNS} FROM binary WHERE state = 'present' ORDER BY served_at LIMIT ?1");
        let mut query = self.conn.prepare_cached(&sql)?;
        let rows = query.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], parse)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Up to `limit` binaries on disk, in the order in which they go when there are too many: least recently served first,
    /// and what open divergences are about only after all others.
    pub fn evictable_binaries(&self, limit: usize) -> anyhow::Result<Vec<BinaryRow>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM binary WHERE state = 'present' ORDER BY sum IN (
                 SELECT sum FROM divergence_word JOIN divergence ON divergence.id = divergence WHERE open = 1
             ), served_at LIMIT ?1"
        );
        let mut query = self.conn.prepare_cached(&sql)?;
        let rows = query.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], parse)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Bytes that the present binaries take on disk.
    pub fn binary_bytes(&self) -> anyhow::Result<u64> {
        let mut query =
            self.conn.prepare_cached("SELECT coalesce(sum(gz_size), 0) FROM binary WHERE state = 'present'")?;
        Ok(query.query_row([], |row| row.get::<_, i64>(0))?.cast_unsigned())
    }

    /// Output of the latest build of a spec that ended in a claim, as gzip.
    pub fn build_log(&self, spec: &Spec) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(id) = self.spec_id(spec)? else {
            return Ok(None);
        };
        let mut query = self.conn.prepare_cached("SELECT gz FROM build_log WHERE spec = ?1")?;
        Ok(query.query_row([id.0], |row| row.get(0)).optional()?)
    }

    /// Whether there is output of a build of a spec.
    ///
    /// # Errors
    /// The database failed.
    pub fn has_build_log(&self, spec: &Spec) -> anyhow::Result<bool> {
        let Some(id) = self.spec_id(spec)? else {
            return Ok(false);
        };
        let mut query = self.conn.prepare_cached("SELECT EXISTS (SELECT 1 FROM build_log WHERE spec = ?1)")?;
        Ok(query.query_row([id.0], |row| row.get(0))?)
    }
}

impl Tx<'_> {
    /// Notes a binary whose file is in place and synced.
    pub fn put_binary(&mut self, row: &BinaryRow) -> anyhow::Result<()> {
        self.conn
            .prepare_cached(
                "INSERT INTO binary (sum, size, sha256, gz_size, gz_sha256, state, served_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 ON CONFLICT (sum) DO UPDATE SET gz_size = excluded.gz_size, gz_sha256 = excluded.gz_sha256,
                     state = excluded.state, served_at = excluded.served_at",
            )?
            .execute(params![
                row.sum.as_bytes(),
                row.size.cast_signed(),
                row.sha256,
                row.gz_size.cast_signed(),
                row.gz_sha256,
                if row.present { "present" } else { "evicted" },
                super::now()
            ])?;
        Ok(())
    }

    /// Notes that a binary is no longer on disk; its file may be unlinked once this is committed.
    pub fn evict_binary(&mut self, sum: &Sum) -> anyhow::Result<()> {
        self.conn.prepare_cached("UPDATE binary SET state = 'evicted' WHERE sum = ?1")?.execute([sum.as_bytes()])?;
        Ok(())
    }

    /// Notes when binaries were last served.
    pub fn binaries_served(&mut self, sums: &[Sum], at: i64) -> anyhow::Result<()> {
        let mut update = self.conn.prepare_cached("UPDATE binary SET served_at = max(served_at, ?2) WHERE sum = ?1")?;
        for sum in sums {
            update.execute(params![sum.as_bytes(), at])?;
        }
        Ok(())
    }

    /// Keeps the output of a build.
    pub fn put_build_log(&mut self, spec: SpecId, gz: &[u8]) -> anyhow::Result<()> {
        self.conn
            .prepare_cached("INSERT OR REPLACE INTO build_log (spec, gz) VALUES (?1, ?2)")?
            .execute(params![spec.0, gz])?;
        Ok(())
    }
}

fn parse(row: &Row<'_>) -> rusqlite::Result<BinaryRow> {
    Ok(BinaryRow {
        sum: Sum::from_bytes(row.get(0)?),
        size: row.get::<_, i64>(1)?.cast_unsigned(),
        sha256: row.get(2)?,
        gz_size: row.get::<_, i64>(3)?.cast_unsigned(),
        gz_sha256: row.get(4)?,
        present: row.get(5)?,
    })
}
