//! What is known of a peer besides its logs: its program, where its words come from, and whether it is believed.

use rusqlite::{OptionalExtension, params};

use super::{LogId, Reader, Tx};

/// Why a peer is not believed any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantine {
    /// In a sentence.
    pub reason: String,
    /// In Unix seconds.
    pub since: i64,
    /// The divergence that proves or shows it.
    pub divergence: i64,
}

impl Reader<'_> {
    /// The verifier keys of all parties that anything is known of.
    ///
    /// # Errors
    /// The database failed.
    pub fn parties(&self) -> anyhow::Result<Vec<String>> {
        let mut query = self.conn.prepare_cached("SELECT vkey FROM party ORDER BY id")?;
        let rows = query.query_map([], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The quarantine of the party with this verifier key, if it is in one.
    ///
    /// # Errors
    /// The database failed.
    pub fn quarantine(&self, vkey: &str) -> anyhow::Result<Option<Quarantine>> {
        let mut query = self.conn.prepare_cached(
            "SELECT quarantine, since, divergence FROM peer_state JOIN party ON party.id = party
             WHERE party.vkey = ?1 AND quarantine IS NOT NULL",
        )?;
        let row = query.query_row([vkey], |row| {
            Ok(Quarantine { reason: row.get(0)?, since: row.get(1)?, divergence: row.get(2)? })
        });
        Ok(row.optional()?)
    }

    /// The verifier keys of all parties in quarantine.
    ///
    /// # Errors
    /// The database failed.
    pub fn quarantined(&self) -> anyhow::Result<Vec<String>> {
        let mut query = self.conn.prepare_cached(
            "SELECT party.vkey FROM peer_state JOIN party ON party.id = party WHERE quarantine IS NOT NULL",
        )?;
        let rows = query.query_map([], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The program of a peer and the log that its words are in, as found when it was last asked.
    ///
    /// # Errors
    /// The database failed.
    pub fn peer_program(&self, vkey: &str) -> anyhow::Result<Option<(String, LogId)>> {
        let mut query = self.conn.prepare_cached(
            "SELECT program, log FROM peer_state JOIN party ON party.id = party
             WHERE party.vkey = ?1 AND program IS NOT NULL",
        )?;
        let row = query.query_row([vkey], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        row.map(|(program, log)| Ok((program, LogId::from_row(log)?))).transpose()
    }
}

impl Tx<'_> {
    /// Keeps what was found of a peer's program.
    ///
    /// # Errors
    /// The database failed.
    pub fn put_peer_program(&mut self, vkey: &str, program: &str, log: LogId) -> anyhow::Result<()> {
        let party = self.party(vkey)?;
        self.conn
            .prepare_cached(
                "INSERT INTO peer_state (party, program, log) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET program = excluded.program, log = excluded.log",
            )?
            .execute(params![party, program, log.to_row()])?;
        Ok(())
    }

    /// Puts a party into quarantine. One that is there already stays as it is.
    ///
    /// # Errors
    /// The database failed.
    pub fn put_quarantine(&mut self, vkey: &str, reason: &str, divergence: i64) -> anyhow::Result<()> {
        let party = self.party(vkey)?;
        self.conn
            .prepare_cached(
                "INSERT INTO peer_state (party, quarantine, since, divergence) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET quarantine = excluded.quarantine, since = excluded.since,
                     divergence = excluded.divergence WHERE quarantine IS NULL",
            )?
            .execute(params![party, reason, super::now(), divergence])?;
        Ok(())
    }

    /// Ends the quarantine of a party. Returns what it was.
    ///
    /// # Errors
    /// The database failed.
    pub fn lift_quarantine(&mut self, vkey: &str) -> anyhow::Result<Option<Quarantine>> {
        let lifted = self.quarantine(vkey)?;
        let party = self.party(vkey)?;
        self.conn
            .prepare_cached(
                "UPDATE peer_state SET quarantine = NULL, since = NULL, divergence = NULL WHERE party = ?1",
            )?
            .execute([party])?;
        Ok(lifted)
    }
}
