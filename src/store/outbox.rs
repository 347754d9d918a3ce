//! What has yet to be told to whom.
//!
//! One row per event of an alert and channel, written in the transaction that raises or ends the alert. Only the row's
//! going, committed, ends its delivery. Out of scope: how anything is told, when it is tried again, and in which order;
//! that is `crate::alert`.

use rusqlite::params;

use super::alerts::AlertId;
use super::{Reader, Tx};

/// Something that happened to an alert, as rows name it; later ones are larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub i64);

/// Something that happened to an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    /// The same at every try, and like no other's: receivers know by it what they have had already.
    pub uid: String,
    /// To what.
    pub alert: AlertId,
    /// Whether it was raised; otherwise it ended.
    pub open: bool,
    /// In Unix seconds.
    pub at: i64,
}

/// Something that has yet to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// What.
    pub event: EventId,
    /// Whom its alert is about, as a number; 0: nobody.
    pub party: i64,
    /// What its alert is about, as a number; 0: no spec.
    pub spec: i64,
    /// Failed tries so far.
    pub tries: u32,
    /// When it happened, in Unix seconds.
    pub since: i64,
    /// When it may be tried, in Unix milliseconds.
    pub next_at: i64,
}

/// How far a channel is behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Of which.
    pub channel: String,
    /// Events that it has yet to be told.
    pub pending: u64,
    /// When the oldest of them happened, in Unix seconds.
    pub since: i64,
    /// Why a try failed: of those that are put off, the one whose next is the furthest away.
    pub error: Option<String>,
}

impl Reader<'_> {
    /// The names of the channels that are told of what happens, in their order.
    ///
    /// # Errors
    /// The database failed.
    pub fn channels(&self) -> anyhow::Result<Vec<String>> {
        let mut query = self.conn.prepare_cached("SELECT name FROM channel ORDER BY name")?;
        let rows = query.query_map([], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The oldest events that a channel has yet to be told, in order.
    ///
    /// # Errors
    /// The database failed.
    pub fn pending(&self, channel: &str, limit: usize) -> anyhow::Result<Vec<Pending>> {
        let mut query = self.conn.prepare_cached(
            "SELECT event, coalesce(party, 0), coalesce(spec, 0), tries, at, next_at
             FROM outbox JOIN alert_event ON alert_event.id = event JOIN alert ON alert.id = alert_event.alert
             WHERE channel = ?1 ORDER BY event LIMIT ?2",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = query.query_map(params![channel, limit], |row| {
            Ok(Pending {
                event: EventId(row.get(0)?),
                party: row.get(1)?,
                spec: row.get(2)?,
                tries: row.get(3)?,
                since: row.get(4)?,
                next_at: row.get(5)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// An event that somebody has yet to be told.
    ///
    /// # Errors
    /// There is no such event, or the database failed.
    pub fn alert_event(&self, event: EventId) -> anyhow::Result<EventRow> {
        let mut query = self.conn.prepare_cached("SELECT uid, alert, open, at FROM alert_event WHERE id = ?1")?;
        let row = query.query_row([event.0], |row| {
            Ok(EventRow { uid: row.get(0)?, alert: AlertId(row.get(1)?), open: row.get(2)?, at: row.get(3)? })
        });
        Ok(row?)
    }

    /// How far each channel is behind that is behind, by name. Programs that a channel runs stand by themselves.
    ///
    /// # Errors
    /// The database failed.
    pub fn backlogs(&self) -> anyhow::Result<Vec<Backlog>> {
        let mut query = self.conn.prepare_cached(
            "SELECT channel, count(*), min(at),
                 (SELECT error FROM outbox AS tried WHERE tried.channel = outbox.channel AND error IS NOT NULL
                  ORDER BY next_at DESC LIMIT 1)
             FROM outbox JOIN alert_event ON alert_event.id = event GROUP BY channel ORDER BY channel",
        )?;
        let rows = query.query_map([], |row| {
            Ok(Backlog {
                channel: row.get(0)?,
                pending: row.get::<_, i64>(1)?.cast_unsigned(),
                since: row.get(2)?,
                error: row.get(3)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

impl Tx<'_> {
    /// Makes these the channels that are told of what happens from now on. What others have yet to be told is dropped;
    /// returns whose, and how many events. Names that begin with one of `families` are kept: what a channel runs.
    ///
    /// # Errors
    /// The database failed.
    pub fn set_channels(&mut self, names: &[String], families: &[&str]) -> anyhow::Result<Vec<(String, u64)>> {
        self.conn.execute("DELETE FROM channel", [])?;
        for name in names {
            self.conn.prepare_cached("INSERT INTO channel (name) VALUES (?1)")?.execute([name])?;
        }
        let mut dropped = Vec::new();
        for Backlog { channel, .. } in self.backlogs()? {
            if !names.contains(&channel) && !families.iter().any(|family| channel.starts_with(family)) {
                let count = self.drop_outbox(&channel)?;
                dropped.push((channel, count));
            }
        }
        Ok(dropped)
    }

    /// Forgets all that a channel has yet to be told. Returns how many events.
    ///
    /// # Errors
    /// The database failed.
    pub fn drop_outbox(&mut self, channel: &str) -> anyhow::Result<u64> {
        let count = self.conn.prepare_cached("DELETE FROM outbox WHERE channel = ?1")?.execute([channel])?;
        Ok(count as u64)
    }

    /// Ends the delivery of an event to a channel: it was acknowledged, or is given up.
    ///
    /// # Errors
    /// The database failed.
    pub fn end_delivery(&mut self, channel: &str, event: EventId) -> anyhow::Result<()> {
        self.conn
            .prepare_cached("DELETE FROM outbox WHERE channel = ?1 AND event = ?2")?
            .execute(params![channel, event.0])?;
        Ok(())
    }

    /// Notes that telling an event failed, why, and when to try again, in Unix milliseconds.
    ///
    /// # Errors
    /// The database failed.
    pub fn put_off(&mut self, channel: &str, event: EventId, next_at: i64, error: &str) -> anyhow::Result<()> {
        self.conn
            .prepare_cached(
                "UPDATE outbox SET tries = tries + 1, next_at = ?3, error = ?4 WHERE channel = ?1 AND event = ?2",
            )?
            .execute(params![channel, event.0, next_at, error])?;
        Ok(())
    }

    /// Puts an event that a channel has yet to be told before each of the programs that it runs instead.
    ///
    /// # Errors
    /// The database failed.
    pub fn spread(&mut self, channel: &str, event: EventId, programs: &[String]) -> anyhow::Result<()> {
        for program in programs {
            self.conn
                .prepare_cached("INSERT OR IGNORE INTO outbox (channel, event, tries, next_at) VALUES (?1, ?2, 0, 0)")?
                .execute(params![program, event.0])?;
        }
        self.end_delivery(channel, event)
    }

    /// Puts what happened to an alert before all channels.
    pub(super) fn tell(&mut self, alert: AlertId, open: bool) -> anyhow::Result<()> {
        self.conn
            .prepare_cached(
                "INSERT INTO alert_event (uid, alert, open, at) VALUES (lower(hex(randomblob(16))), ?1, ?2, ?3)",
            )?
            .execute(params![alert.0, open, super::now()])?;
        let event = self.conn.last_insert_rowid();
        let rows = self
            .conn
            .prepare_cached("INSERT INTO outbox (channel, event, tries, next_at) SELECT name, ?1, 0, 0 FROM channel")?
            .execute([event])?;
        *self.told |= rows > 0;
        Ok(())
    }
}
