//! Choosing entries for audits, asking for their builds, and noting what came of them.

use anyhow::Context as _;
use rusqlite::{OptionalExtension, params};

use super::{AuditState, AuditedLog, Chosen, parse_state};
use crate::model::Sum;
use crate::quorum::Word;
use crate::store::trees::{entry_key, of_entry_key};
use crate::store::{Errand, PeerLogId, SpecId, Tx, now};
use crate::tlog::MAX_SIZE;

impl Tx<'_> {
    /// What draws samples: the same bytes for ever, made at the first call.
    ///
    /// # Errors
    /// The database failed.
    pub fn audit_seed(&mut self) -> anyhow::Result<[u8; 16]> {
        self.conn
            .prepare_cached(
                "INSERT INTO audit_state (one, seed, day, begun) VALUES (1, ?1, 0, 0) ON CONFLICT DO NOTHING",
            )?
            .execute([rand::random::<[u8; 16]>()])?;
        Ok(self.conn.query_row("SELECT seed FROM audit_state", [], |row| row.get(0))?)
    }

    /// Begins to choose entries of a log by a selection, or goes on. If it was chosen by another one before, choosing
    /// starts again; what came of entries stays.
    ///
    /// # Errors
    /// The database failed.
    pub fn open_audit(&mut self, log: PeerLogId, selection: &str, first: u64) -> anyhow::Result<AuditedLog> {
        if let Some(known) = self.audited(log)? {
            if known.selection == selection && known.first == first {
                return Ok(known);
            }
            self.conn.execute(
                "UPDATE audit_record SET chosen = 0 WHERE key >= ?1 AND key < ?2",
                [entry_key(log, 0), entry_key(log, MAX_SIZE)],
            )?;
        }
        self.conn
            .prepare_cached(
                "INSERT INTO audit_log (log, selection, first, next, since, chosen, reproduced, differs, cannot_build)
                 VALUES (?1, ?2, ?3, ?3, ?4, 0, 0, 0, 0)
                 ON CONFLICT DO UPDATE SET selection = ?2, first = ?3, next = ?3,
                     chosen = 0, reproduced = 0, differs = 0, cannot_build = 0",
            )?
            .execute(params![log.0, selection, first.cast_signed(), now()])?;
        self.audited(log)?.context("a row that was just written is not there")
    }

    /// Chooses entries of a log, in order, and notes that those before `next` were looked at. Returns how many differ
    /// though an earlier entry on the same spec was reproduced.
    ///
    /// # Errors
    /// The database failed.
    pub fn choose(&mut self, log: PeerLogId, chosen: &[Chosen], next: u64) -> anyhow::Result<u64> {
        let mut undone = 0;
        for entry in chosen {
            let key = entry_key(log, entry.number);
            let mut query = self.conn.prepare_cached("SELECT state, class FROM audit_record WHERE key = ?1")?;
            let known = query.query_row([key], |row| Ok((row.get::<_, String>(0)?, row.get(1)?))).optional()?;
            drop(query);
            let state = match known {
                Some((state, class)) => {
                    self.conn.prepare_cached("UPDATE audit_record SET chosen = 1 WHERE key = ?1")?.execute([key])?;
                    parse_state(&state, class)?
                }
                None => {
                    let state = AuditState::of(entry.said, entry.own.as_ref());
                    let reproduced_at = self.put_audit_record(log, entry, state)?;
                    undone += u64::from(state == AuditState::Differs && reproduced_at.is_some());
                    state
                }
            };
            self.count_audited(log, "chosen", 1)?;
            if let Some(column) = state.column() {
                self.count_audited(log, column, 1)?;
            }
        }
        self.conn
            .prepare_cached("UPDATE audit_log SET next = ?2 WHERE log = ?1")?
            .execute([log.0, next.cast_signed()])?;
        Ok(undone)
    }

    /// Asks for the build of a chosen entry, and counts it for a day. False if that was done before.
    ///
    /// # Errors
    /// The database failed.
    pub fn begin_audit(&mut self, log: PeerLogId, number: u64, day: i64) -> anyhow::Result<bool> {
        let mut update = self.conn.prepare_cached(
            "UPDATE audit_record SET begun = 1 WHERE key = ?1 AND state = 'pending' AND begun = 0 RETURNING spec",
        )?;
        let spec = update.query_row([entry_key(log, number)], |row| row.get(0)).optional()?;
        drop(update);
        let Some(spec) = spec else {
            return Ok(false);
        };
        self.put_due(SpecId(spec), Errand::Audit)?;
        self.conn
            .prepare_cached("UPDATE audit_state SET begun = CASE WHEN day = ?1 THEN begun + 1 ELSE 1 END, day = ?1")?
            .execute([day])?;
        Ok(true)
    }

    /// Notes this node's word on all entries that were chosen and are about this spec. Returns how many were reproduced
    /// before and differ now.
    ///
    /// # Errors
    /// The database failed.
    pub fn note_audited(&mut self, spec: SpecId, own: &Word) -> anyhow::Result<u64> {
        let mut query = self
            .conn
            .prepare_cached("SELECT key, size, sum, state, class, chosen FROM audit_record WHERE spec = ?1")?;
        let rows = query.query_map([spec.0], |row| {
            let said = (row.get::<_, i64>(1)?.cast_unsigned(), Sum::from_bytes(row.get(2)?));
            Ok((row.get::<_, i64>(0)?, said, row.get::<_, String>(3)?, row.get(4)?, row.get::<_, bool>(5)?))
        })?;
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        drop(query);
        let mut undone = 0;
        for (key, said, state, class, chosen) in rows {
            let (was, is) = (parse_state(&state, class)?, AuditState::of(said, Some(own)));
            if was == is {
                continue;
            }
            undone += u64::from(was == AuditState::Reproduced && is == AuditState::Differs);
            let reproduced_at = (is == AuditState::Reproduced).then(now);
            self.conn
                .prepare_cached(
                    "UPDATE audit_record SET state = ?2, class = ?3, at = ?4, reproduced_at = coalesce(?5, reproduced_at)
                     WHERE key = ?1",
                )?
                .execute(params![key, is.name(), is.class(), now(), reproduced_at])?;
            if chosen {
                let (log, _) = of_entry_key(key);
                for (column, by) in [(was.column(), -1), (is.column(), 1)] {
                    if let Some(column) = column {
                        self.count_audited(log, column, by)?;
                    }
                }
            }
        }
        Ok(undone)
    }

    /// Writes a new row; returns when an entry of the log on its spec was reproduced, if one was.
    fn put_audit_record(&mut self, log: PeerLogId, entry: &Chosen, state: AuditState) -> anyhow::Result<Option<i64>> {
        let at = (state != AuditState::Pending).then(now);
        let reproduced_at = match state {
            AuditState::Reproduced => at,
            // The peer may have named another sum before, which was reproduced.
            _ => self
                .conn
                .prepare_cached(
                    "SELECT max(reproduced_at) FROM audit_record WHERE spec = ?1 AND key >= ?2 AND key < ?3",
                )?
                .query_row([entry.spec.0, entry_key(log, 0), entry_key(log, MAX_SIZE)], |row| row.get(0))?,
        };
        let (size, sum) = entry.said;
        self.conn
            .prepare_cached(
                "INSERT INTO audit_record (key, spec, size, sum, chosen, begun, state, class, at, reproduced_at)
                 VALUES (?1, ?2, ?3, ?4, 1, 0, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                entry_key(log, entry.number),
                entry.spec.0,
                size.cast_signed(),
                sum.as_bytes(),
                state.name(),
                state.class(),
                at,
                reproduced_at
            ])?;
        Ok(reproduced_at)
    }

    /// `column` is one of this file's.
    fn count_audited(&mut self, log: PeerLogId, column: &'static str, by: i64) -> anyhow::Result<()> {
        let sql = format!("UPDATE audit_log SET {column} = {column} + ?2 WHERE log = ?1");
        self.conn.prepare_cached(&sql)?.execute([log.0, by])?;
        Ok(())
    }
}
