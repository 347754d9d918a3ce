//! How far the feed of new module versions was read, which of them are still to be looked at, and what this node has
//! built of a module.

use rusqlite::{OptionalExtension, params};

use super::{Reader, Tx, specs};
use crate::model::ModulePath;

/// New versions that wait to be looked at; more is no module's history but somebody's game.
const FRESH: i64 = 10_000;

/// A new version of a watched module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreshVersion {
    /// Of what.
    pub module: String,
    /// Which.
    pub version: String,
    /// How often it was looked at in vain.
    pub tries: u32,
}

impl Reader<'_> {
    /// How far the feed at an address was read: the newest moment, and what was seen of it.
    ///
    /// # Errors
    /// The database failed.
    pub fn feed(&self, url: &str) -> anyhow::Result<Option<(String, String)>> {
        let mut query = self.conn.prepare_cached("SELECT since, seen FROM feed WHERE url = ?1")?;
        Ok(query.query_row([url], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
    }

    /// New versions to be looked at `now`, those that wait longest first.
    ///
    /// # Errors
    /// The database failed.
    pub fn fresh_versions(&self, now: i64, limit: usize) -> anyhow::Result<Vec<FreshVersion>> {
        let mut query = self.conn.prepare_cached(
            "SELECT module, version, tries FROM fresh_version WHERE next_at <= ?1 ORDER BY next_at LIMIT ?2",
        )?;
        let rows = query.query_map(params![now, i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
            Ok(FreshVersion { module: row.get(0)?, version: row.get(1)?, tries: row.get(2)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Specs of a module that have a record, or of which the party with this verifier key has named a sum; at most
    /// `limit`, the newest.
    ///
    /// # Errors
    /// The database failed.
    pub fn built_of(&self, module: &ModulePath, vkey: &str, limit: usize) -> anyhow::Result<Vec<String>> {
        let mut query = self.conn.prepare_cached(
            "SELECT spec.text FROM spec WHERE spec.id IN (
                 SELECT id FROM spec_recent WHERE hash BETWEEN ?1 AND ?2
                 UNION ALL SELECT id FROM spec_settled WHERE hash BETWEEN ?1 AND ?2
             ) AND substr(spec.text, 1, length(?3)) = ?3 AND (
                 EXISTS (SELECT 1 FROM record WHERE record.spec = spec.id)
                 OR EXISTS (SELECT 1 FROM word JOIN party ON party.id = word.party
                            WHERE word.spec = spec.id AND party.vkey = ?4 AND word.sum IS NOT NULL)
             ) ORDER BY spec.id DESC LIMIT ?5",
        )?;
        let hashes = specs::hashes_of(module.as_str());
        let (prefix, limit) = (format!("{module}@"), i64::try_from(limit).unwrap_or(i64::MAX));
        let rows = query.query_map(params![hashes.start(), hashes.end(), prefix, vkey, limit], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

impl Tx<'_> {
    /// Keeps how far the feed at an address was read; of other addresses nothing is kept.
    ///
    /// # Errors
    /// The database failed.
    pub fn put_feed(&mut self, url: &str, since: &str, seen: &str) -> anyhow::Result<()> {
        self.conn.prepare_cached("DELETE FROM feed WHERE url <> ?1")?.execute([url])?;
        self.conn
            .prepare_cached("INSERT OR REPLACE INTO feed (url, since, seen) VALUES (?1, ?2, ?3)")?
            .execute([url, since, seen])?;
        Ok(())
    }

    /// Notes a new version to be looked at. False if too many wait already.
    ///
    /// # Errors
    /// The database failed.
    pub fn put_fresh_version(&mut self, module: &str, version: &str) -> anyhow::Result<bool> {
        let waiting: i64 = self.conn.query_row("SELECT count(*) FROM fresh_version", [], |row| row.get(0))?;
        if waiting >= FRESH {
            return Ok(false);
        }
        self.conn
            .prepare_cached(
                "INSERT INTO fresh_version (module, version, tries, next_at) VALUES (?1, ?2, 0, 0)
                 ON CONFLICT DO NOTHING",
            )?
            .execute([module, version])?;
        Ok(true)
    }

    /// Notes that a new version was looked at in vain, and when to look again.
    ///
    /// # Errors
    /// The database failed.
    pub fn put_off_version(&mut self, fresh: &FreshVersion, next_at: i64) -> anyhow::Result<()> {
        self.conn
            .prepare_cached(
                "UPDATE fresh_version SET tries = tries + 1, next_at = ?3 WHERE module = ?1 AND version = ?2",
            )?
            .execute(params![fresh.module, fresh.version, next_at])?;
        Ok(())
    }

    /// Forgets a new version that was looked at.
    ///
    /// # Errors
    /// The database failed.
    pub fn remove_fresh_version(&mut self, fresh: &FreshVersion) -> anyhow::Result<()> {
        self.conn
            .prepare_cached("DELETE FROM fresh_version WHERE module = ?1 AND version = ?2")?
            .execute([&fresh.module, &fresh.version])?;
        Ok(())
    }
}
