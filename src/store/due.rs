//! What is still to be done for specs: builds that nobody waits for, and judging all of them anew.

use anyhow::Context as _;
use rusqlite::{OptionalExtension, params};

use super::{Reader, SpecId, Tx};

/// For whom a spec is to be built, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Errand {
    /// A voter has claimed it.
    Voter,
    /// It is a new version of a watched module.
    Watch,
    /// A peer that is audited has claimed it.
    Audit,
}

impl Errand {
    const ALL: [Errand; 3] = [Errand::Voter, Errand::Watch, Errand::Audit];

    /// From a row.
    fn from_row(errand: i64) -> anyhow::Result<Errand> {
        let known = Errand::ALL.into_iter().find(|known| known.to_row() == errand);
        known.context("a row names an errand that there is not")
    }

    /// For a row.
    pub(super) fn to_row(self) -> i64 {
        match self {
            Errand::Voter => 0,
            Errand::Watch => 1,
            Errand::Audit => 2,
        }
    }
}

/// A piece of the list of specs that have no record.
pub struct Unsettled {
    /// With their texts.
    pub specs: Vec<(SpecId, String)>,
    /// Where to go on; `None`: that was all.
    pub next: Option<i64>,
}

impl Reader<'_> {
    /// Specs that are due to be built and not in trouble, the most urgent first, and of these the oldest.
    ///
    /// # Errors
    /// The database failed.
    pub fn due(&self, limit: usize) -> anyhow::Result<Vec<(String, Errand)>> {
        let mut query = self.conn.prepare_cached(
            "SELECT spec.text, due.errand FROM due JOIN spec ON spec.id = due.spec
             WHERE NOT EXISTS (SELECT 1 FROM trouble WHERE trouble.spec = spec.text)
             ORDER BY due.errand, due.spec LIMIT ?1",
        )?;
        let rows = query.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        rows.into_iter().map(|(spec, errand)| Ok((spec, Errand::from_row(errand)?))).collect()
    }

    /// For whom a spec is due to be built, if it is.
    ///
    /// # Errors
    /// The database failed.
    pub fn errand(&self, spec: &str) -> anyhow::Result<Option<Errand>> {
        let Some(id) = self.spec_id_by_text(spec)? else {
            return Ok(None);
        };
        let mut query = self.conn.prepare_cached("SELECT errand FROM due WHERE spec = ?1")?;
        query.query_row([id.0], |row| row.get(0)).optional()?.map(Errand::from_row).transpose()
    }

    /// Whether a spec is due to be built.
    ///
    /// # Errors
    /// The database failed.
    pub fn is_due(&self, spec: SpecId) -> anyhow::Result<bool> {
        let mut query = self.conn.prepare_cached("SELECT 1 FROM due WHERE spec = ?1")?;
        Ok(query.exists([spec.0])?)
    }

    /// The specs from one on that have no record, among so many.
    ///
    /// # Errors
    /// The database failed.
    pub fn unsettled(&self, from: i64, limit: u32) -> anyhow::Result<Unsettled> {
        let mut query = self.conn.prepare_cached(
            "SELECT id, text, EXISTS (SELECT 1 FROM record WHERE record.spec = spec.id) FROM spec
             WHERE id >= ?1 ORDER BY id LIMIT ?2",
        )?;
        let rows = query.query_map(params![from, limit], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let rows = rows.collect::<Result<Vec<(i64, String, bool)>, _>>()?;
        let next = rows.last().filter(|_| rows.len() == limit as usize).map(|(id, ..)| id + 1);
        let open = rows.into_iter().filter(|(.., settled)| !settled).map(|(id, text, _)| (SpecId(id), text)).collect();
        Ok(Unsettled { specs: open, next })
    }

    /// Where judging all specs anew has to go on; `None` if all are judged by these voters.
    ///
    /// # Errors
    /// The database failed.
    pub fn judging(&self, voters: &str) -> anyhow::Result<Option<i64>> {
        let mut query = self.conn.prepare_cached("SELECT voters, next FROM judging")?;
        let row: Option<(String, Option<i64>)> =
            query.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        Ok(match row {
            Some((known, next)) if known == voters => next,
            _ => Some(0),
        })
    }
}

impl Tx<'_> {
    /// Notes that a spec is to be built. Of two errands the more urgent one counts.
    ///
    /// # Errors
    /// The database failed.
    pub fn put_due(&mut self, spec: SpecId, errand: Errand) -> anyhow::Result<()> {
        self.conn
            .prepare_cached(
                "INSERT INTO due (spec, errand) VALUES (?1, ?2)
                 ON CONFLICT DO UPDATE SET errand = min(errand, excluded.errand)",
            )?
            .execute([spec.0, errand.to_row()])?;
        Ok(())
    }

    /// Notes that a spec needs no build any more.
    ///
    /// # Errors
    /// The database failed.
    pub fn clear_due(&mut self, spec: SpecId) -> anyhow::Result<()> {
        self.conn.prepare_cached("DELETE FROM due WHERE spec = ?1")?.execute([spec.0])?;
        Ok(())
    }

    /// Keeps how far judging all specs by these voters has got.
    ///
    /// # Errors
    /// The database failed.
    pub fn put_judging(&mut self, voters: &str, next: Option<i64>) -> anyhow::Result<()> {
        self.conn
            .prepare_cached("INSERT OR REPLACE INTO judging (one, voters, next) VALUES (1, ?1, ?2)")?
            .execute(params![voters, next])?;
        Ok(())
    }
}
