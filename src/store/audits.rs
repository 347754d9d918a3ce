//! What this node builds again of observed peers' logs, and what came of it.
//!
//! Out of scope: which entries are chosen, and when their builds begin ([`crate::audit`]). That a record is due follows
//! from its row being pending; asking for its build is a row of `due` in the same transaction, so a crash loses neither
//! and doubles neither. The outcome is written in the transaction that stores this node's word.

mod write;

use anyhow::{Context, bail};
use rusqlite::{OptionalExtension, Row, params};

use super::trees::{entry_key, of_entry_key};
use super::{Errand, LogId, PeerLogId, Reader, SpecId, Trouble};
use crate::model::{Class, Sum};
use crate::quorum::Word;
use crate::tlog::MAX_SIZE;

/// What came of an entry that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditState {
    /// Nothing yet.
    Pending,
    /// This node came to the same size and sum.
    Reproduced,
    /// It came to others.
    Differs,
    /// It found that this cannot be built.
    CannotBuild(Class),
}

impl AuditState {
    /// As the API and metrics call it.
    pub fn name(self) -> &'static str {
        match self {
            AuditState::Pending => "pending",
            AuditState::Reproduced => "reproduced",
            AuditState::Differs => "differs",
            AuditState::CannotBuild(_) => "cannot-build",
        }
    }

    /// What a size and sum that a peer named come to beside this node's word.
    pub fn of(said: (u64, Sum), own: Option<&Word>) -> AuditState {
        match own {
            None => AuditState::Pending,
            Some(Word::Sum { size, sum }) if (*size, *sum) == said => AuditState::Reproduced,
            Some(Word::Sum { .. }) => AuditState::Differs,
            Some(Word::CannotBuild(class)) => AuditState::CannotBuild(*class),
        }
    }

    fn class(self) -> Option<String> {
        match self {
            AuditState::CannotBuild(class) => Some(class.to_string()),
            _ => None,
        }
    }

    /// The column that counts it; pending ones are what is left.
    fn column(self) -> Option<&'static str> {
        match self {
            AuditState::Pending => None,
            AuditState::Reproduced => Some("reproduced"),
            AuditState::Differs => Some("differs"),
            AuditState::CannotBuild(_) => Some("cannot_build"),
        }
    }
}

/// Which entries are built again first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditOrder {
    /// The last of the log.
    #[default]
    NewestFirst,
    /// The first of the log.
    OldestFirst,
}

impl AuditOrder {
    fn sql(self) -> &'static str {
        match self {
            AuditOrder::NewestFirst => "DESC",
            AuditOrder::OldestFirst => "ASC",
        }
    }
}

/// How the chosen entries of a log stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditCounts {
    /// All of them.
    pub chosen: u64,
    /// With the same sum here.
    pub reproduced: u64,
    /// With another sum here.
    pub differs: u64,
    /// Not to be built here.
    pub cannot_build: u64,
}

impl AuditCounts {
    /// Those of which nothing came yet.
    pub fn pending(&self) -> u64 {
        self.chosen.saturating_sub(self.reproduced + self.differs + self.cannot_build)
    }
}

/// How far a log is audited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditedLog {
    /// The settings by which entries were chosen.
    pub selection: String,
    /// Entries before this one do not count.
    pub first: u64,
    /// Entries before this one were looked at.
    pub next: u64,
    /// When the first one was, in Unix seconds.
    pub since: i64,
    /// What came of those that were chosen.
    pub counts: AuditCounts,
}

/// Where choosing from a peer's log stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditPosition {
    /// The log.
    pub log: PeerLogId,
    /// Entries that are proven and stored.
    pub size: u64,
    /// Size of the first head that was proven.
    pub met_at: Option<u64>,
    /// What was audited of it so far.
    pub audited: Option<AuditedLog>,
}

/// An entry that was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// In the peer's log.
    pub number: u64,
    /// What it is about.
    pub spec: String,
    /// The size that it names.
    pub size: u64,
    /// The sum that it names.
    pub sum: Sum,
    /// What came of it.
    pub state: AuditState,
    /// Since when, in Unix seconds; none while it is pending.
    pub at: Option<i64>,
    /// When this sum, or one that the peer named before, was reproduced here, in Unix seconds.
    pub reproduced_at: Option<i64>,
    /// Why its build failed for now.
    pub trouble: Option<Trouble>,
}

/// An entry to be chosen: what it says, and what this node says of it.
pub struct Chosen {
    /// In the peer's log.
    pub number: u64,
    /// What it is about.
    pub spec: SpecId,
    /// The size and sum that it names.
    pub said: (u64, Sum),
    /// This node's word.
    pub own: Option<Word>,
}

impl Reader<'_> {
    /// Where choosing from a log of the party with this verifier key stands; none if nothing is stored of it.
    ///
    /// # Errors
    /// The database failed.
    pub fn audit_position(&self, vkey: &str, log: LogId) -> anyhow::Result<Option<AuditPosition>> {
        let mut query = self.conn.prepare_cached(
            "SELECT peer_log.id, size, met_at FROM peer_log JOIN party ON party.id = party
             WHERE party.vkey = ?1 AND log = ?2",
        )?;
        let row = query.query_row(params![vkey, log.to_row()], |row| {
            Ok((PeerLogId(row.get(0)?), row.get::<_, i64>(1)?, row.get::<_, Option<i64>>(2)?))
        });
        let Some((log, size, met_at)) = row.optional()? else {
            return Ok(None);
        };
        let (size, met_at) = (size.cast_unsigned(), met_at.map(i64::cast_unsigned));
        Ok(Some(AuditPosition { log, size, met_at, audited: self.audited(log)? }))
    }

    /// All logs that were audited: whose, which, how many entries are stored, and how far it got.
    ///
    /// # Errors
    /// The database failed.
    pub fn audits(&self) -> anyhow::Result<Vec<(String, LogId, AuditPosition)>> {
        let mut query = self.conn.prepare_cached(
            "SELECT party.vkey, peer_log.log FROM audit_log JOIN peer_log ON peer_log.id = audit_log.log
             JOIN party ON party.id = party ORDER BY peer_log.id",
        )?;
        let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
        let mut all = Vec::new();
        for (vkey, log) in rows.collect::<Result<Vec<_>, _>>()? {
            let log = LogId::from_row(log)?;
            all.extend(self.audit_position(&vkey, log)?.map(|position| (vkey, log, position)));
        }
        Ok(all)
    }

    /// Entries whose builds are to begin, in order: their numbers and specs. With `window`, only those among the first so
    /// many that were chosen.
    ///
    /// # Errors
    /// The database failed.
    pub fn audit_to_begin(
        &self,
        log: PeerLogId,
        order: AuditOrder,
        window: Option<u64>,
        limit: usize,
    ) -> anyhow::Result<Vec<(u64, String)>> {
        let order = order.sql();
        let rows = match window {
            None => "audit_record".to_owned(),
            Some(window) => format!(
                "(SELECT * FROM audit_record WHERE key >= ?1 AND key < ?2 AND chosen = 1 ORDER BY key {order} LIMIT {window})"
            ),
        };
        let mut query = self.conn.prepare_cached(&format!(
            "SELECT key, spec.text FROM {rows} AS entry JOIN spec ON spec.id = entry.spec
             WHERE key >= ?1 AND key < ?2 AND state = 'pending' AND begun = 0 AND chosen = 1 ORDER BY key {order} LIMIT ?3"
        ))?;
        let rows = query.query_map(params![entry_key(log, 0), entry_key(log, MAX_SIZE), to_sql(limit)], |row| {
            Ok((of_entry_key(row.get(0)?).1, row.get(1)?))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Builds for audits that are asked for and not in trouble; `limit` if there are more.
    ///
    /// # Errors
    /// The database failed.
    pub fn audits_under_way(&self, limit: usize) -> anyhow::Result<usize> {
        let mut query = self.conn.prepare_cached(
            "SELECT count(*) FROM (SELECT 1 FROM due JOIN spec ON spec.id = due.spec WHERE errand = ?1
             AND NOT EXISTS (SELECT 1 FROM trouble WHERE trouble.spec = spec.text) LIMIT ?2)",
        )?;
        let count: i64 = query.query_row([Errand::Audit.to_row(), to_sql(limit)], |row| row.get(0))?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// How many builds for audits were begun on a day (UTC, in days since 1970).
    ///
    /// # Errors
    /// The database failed.
    pub fn audits_begun(&self, day: i64) -> anyhow::Result<u64> {
        let mut query = self.conn.prepare_cached("SELECT begun FROM audit_state WHERE day = ?1")?;
        Ok(query.query_row([day], |row| row.get::<_, i64>(0)).optional()?.unwrap_or(0).cast_unsigned())
    }

    /// The first chosen entries of a log in some order, at most `limit`.
    ///
    /// # Errors
    /// The database failed.
    pub fn audit_rows(&self, log: PeerLogId, order: AuditOrder, limit: usize) -> anyhow::Result<Vec<AuditRow>> {
        self.audit_records(log, &format!("chosen = 1 ORDER BY key {}", order.sql()), limit)
    }

    /// The newest entries of a log that differ from what this node found.
    ///
    /// # Errors
    /// The database failed.
    pub fn audit_differing(&self, log: PeerLogId, limit: usize) -> anyhow::Result<Vec<AuditRow>> {
        self.audit_records(log, "state = 'differs' ORDER BY key DESC", limit)
    }

    fn audit_records(&self, log: PeerLogId, rest: &str, limit: usize) -> anyhow::Result<Vec<AuditRow>> {
        let mut query = self.conn.prepare_cached(&format!(
            "SELECT key, spec.text, size, sum, state, class, at, reproduced_at, detail, tries, next_at
             FROM audit_record JOIN spec ON spec.id = audit_record.spec LEFT JOIN trouble ON trouble.spec = spec.text
             WHERE key >= ?1 AND key < ?2 AND {rest} LIMIT ?3"
        ))?;
        let rows = query
            .query_map(params![entry_key(log, 0), entry_key(log, MAX_SIZE), to_sql(limit)], |row| Ok(parse(row)))?;
        rows.map(|row| row?).collect()
    }

    fn audited(&self, log: PeerLogId) -> anyhow::Result<Option<AuditedLog>> {
        let mut query = self.conn.prepare_cached(
            "SELECT selection, first, next, since, chosen, reproduced, differs, cannot_build FROM audit_log
             WHERE log = ?1",
        )?;
        let row = query.query_row([log.0], |row| {
            let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
            let (chosen, reproduced, differs, cannot_build) = (number(4)?, number(5)?, number(6)?, number(7)?);
            Ok(AuditedLog {
                selection: row.get(0)?,
                first: number(1)?,
                next: number(2)?,
                since: row.get(3)?,
                counts: AuditCounts { chosen, reproduced, differs, cannot_build },
            })
        });
        Ok(row.optional()?)
    }
}

fn parse(row: &Row<'_>) -> anyhow::Result<AuditRow> {
    let spec: String = row.get(1)?;
    let trouble = match row.get::<_, Option<String>>(8)? {
        None => None,
        Some(detail) => Some(Trouble { spec: spec.clone(), detail, tries: row.get(9)?, next_at: row.get(10)? }),
    };
    Ok(AuditRow {
        number: of_entry_key(row.get(0)?).1,
        spec,
        size: row.get::<_, i64>(2)?.cast_unsigned(),
        sum: Sum::from_bytes(row.get(3)?),
        state: parse_state(&row.get::<_, String>(4)?, row.get(5)?)?,
        at: row.get(6)?,
        reproduced_at: row.get(7)?,
        trouble,
    })
}

fn parse_state(state: &str, class: Option<String>) -> anyhow::Result<AuditState> {
    Ok(match (state, class) {
        ("pending", None) => AuditState::Pending,
        ("reproduced", None) => AuditState::Reproduced,
        ("differs", None) => AuditState::Differs,
        ("cannot-build", Some(class)) => {
            AuditState::CannotBuild(class.parse().with_context(|| format!("a stored audit has the class {class}"))?)
        }
        _ => bail!("a stored audit has the state {state}"),
    })
}

fn to_sql(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
