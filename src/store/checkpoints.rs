//! A second thread that moves committed pages from the write-ahead log into the database.
//!
//! SQLite would have the writer do it after some commit, and everybody who waits for the next one would wait for
//! that too. Nothing depends on this thread: what it does not get to, the writer does once
//! `wal_autocheckpoint` pages have gathered, and a crash leaves a log that the next start reads.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use anyhow::Context;
use rusqlite::Connection;
use tracing::warn;

/// Jobs between two rounds. A quiet node never has so many: it leaves all to SQLite.
const JOBS: usize = 16_384;

/// The writer's handle to the thread. Dropping it ends the thread.
pub(super) struct Checkpoints {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Jobs since the last round was asked for.
    jobs: usize,
}

impl Checkpoints {
    /// Starts the thread on a database in WAL mode.
    ///
    /// # Errors
    /// The database cannot be opened a second time, or no thread can be had.
    pub(super) fn start(database: &Path) -> anyhow::Result<Checkpoints> {
        let conn = Connection::open(database).context("cannot open the database for checkpoints")?;
        let (wake, rounds) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("store-checkpoint".to_owned())
            .spawn(move || run(&conn, &rounds))
            .context("cannot start the thread for checkpoints")?;
        Ok(Checkpoints { wake: Some(wake), thread: Some(thread), jobs: 0 })
    }

    /// Notes that this many jobs were committed.
    pub(super) fn committed(&mut self, jobs: usize) {
        self.jobs += jobs;
        if self.jobs >= JOBS {
            self.jobs = 0;
            // One round that waits is enough.
            let _ = self.wake.as_ref().map(|wake| wake.try_send(()));
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.wake = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn run(conn: &Connection, rounds: &Receiver<()>) {
    for () in rounds {
        // Passive: it waits for nobody, and nobody waits for it.
        if let Err(error) = conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
            warn!("a checkpoint of the database failed; the writer will do it: {error}");
        }
    }
}
