//! The thread that writes: group commit.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use rusqlite::{Connection, ErrorCode};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tracing::{error, warn};

use super::checkpoints::Checkpoints;
use super::trees::{Published, Trees};
use super::{Reader, Tx};
use crate::metrics::Metrics;

/// Jobs in one transaction at most: bounds what a crash can take back, and the memory of a batch.
const BATCH: usize = 16_384;

/// After so long without a job the writer lets go of its cache: it is as large as everything else a small node needs.
const REST: Duration = Duration::from_secs(1);

/// A change to be made, and what to do with its result once the transaction has ended.
pub(super) type Job = Box<dyn FnOnce(&mut Tx<'_>) -> Outcome + Send>;

/// How a job went.
pub(super) struct Outcome {
    /// Whether its changes stand.
    pub(super) keep: bool,
    /// Set if it failed because the database itself cannot be trusted any more.
    pub(super) fatal: Option<String>,
    /// Tells the caller. Gets the error of the transaction, if that failed.
    pub(super) finish: Box<dyn FnOnce(anyhow::Result<()>) + Send>,
}

/// Where the writer says how it goes.
pub(super) struct Ends {
    /// Why there will be no more commits.
    pub(super) failed: watch::Sender<Option<String>>,
    /// Counts commits that have put something into the outbox.
    pub(super) told: watch::Sender<u64>,
}

/// Serves jobs until all handles are gone or the database fails.
pub(super) fn run(
    waits: &Runtime,
    mut conn: Connection,
    mut trees: Trees,
    mut checkpoints: Checkpoints,
    mut queue: mpsc::Receiver<Job>,
    ends: &Ends,
    metrics: &Metrics,
) {
    let mut jobs = Vec::with_capacity(BATCH);
    while waits.block_on(receive(&conn, &mut queue, &mut jobs)) > 0 {
        let mut ended = Vec::with_capacity(jobs.len());
        let mut told = false;
        let committed = batch(&mut conn, &mut trees, jobs.drain(..), &mut ended, &mut told);
        // One sentence for all: whichever task ends first because of it, the operator reads the same.
        let committed = committed.map_err(|error| format!("the database cannot be written: {error:#}"));
        match &committed {
            Ok(heads) => {
                metrics.commits.inc();
                metrics.jobs.inc_by(ended.len() as u64);
                // Announced only now: what readers are told of is on disk.
                trees.announce(heads);
                if told {
                    ends.told.send_modify(|count| *count += 1);
                }
            }
            Err(sentence) => {
                error!("{sentence}");
                ends.failed.send_replace(Some(sentence.clone()));
            }
        }
        checkpoints.committed(ended.len());
        for outcome in ended {
            (outcome.finish)(committed.as_ref().map(drop).map_err(|sentence| anyhow!(sentence.clone())));
        }
        if committed.is_err() {
            return;
        }
    }
}

/// Waits for jobs; gives their number, 0 if there will be none. If none come for a while, the database lets go of its cache.
async fn receive(conn: &Connection, queue: &mut mpsc::Receiver<Job>, jobs: &mut Vec<Job>) -> usize {
    if let Ok(received) = timeout(REST, queue.recv_many(jobs, BATCH)).await {
        return received;
    }
    if let Err(error) = conn.release_memory() {
        warn!("the database keeps its cache: {error}");
    }
    queue.recv_many(jobs, BATCH).await
}

type Heads = [Option<Arc<Published>>; 2];

/// Runs all jobs in one transaction and commits it. Each outcome is kept for after its end.
fn batch(
    conn: &mut Connection,
    trees: &mut Trees,
    jobs: impl Iterator<Item = Job>,
    ended: &mut Vec<Outcome>,
    told: &mut bool,
) -> anyhow::Result<Heads> {
    let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    for job in jobs {
        execute(&tx, "SAVEPOINT job")?;
        let outcome = job(&mut Tx { reader: Reader { conn: &tx }, trees, told });
        let fatal = outcome.fatal.clone();
        let keep = outcome.keep;
        ended.push(outcome);
        if let Some(cause) = fatal {
            return Err(anyhow!(cause));
        }
        if keep {
            execute(&tx, "RELEASE job")?;
            trees.fold(&tx)?;
        } else {
            execute(&tx, "ROLLBACK TO job")?;
            execute(&tx, "RELEASE job")?;
            trees.forget();
        }
    }
    let heads = trees.seal(&tx)?;
    tx.commit().context("cannot commit")?;
    Ok(heads)
}

fn execute(conn: &Connection, sql: &str) -> rusqlite::Result<usize> {
    conn.prepare_cached(sql)?.execute([])
}

/// Whether an error means that the disk or the database is at fault, not the job.
pub(super) fn disk_trouble(error: &anyhow::Error) -> Option<String> {
    let code = error.chain().find_map(|cause| cause.downcast_ref::<rusqlite::Error>())?;
    match code.sqlite_error_code()? {
        ErrorCode::DiskFull
        | ErrorCode::SystemIoFailure
        | ErrorCode::DatabaseCorrupt
        | ErrorCode::NotADatabase
        | ErrorCode::ReadOnly
        | ErrorCode::CannotOpen
        | ErrorCode::OutOfMemory => Some(format!("{error:#}")),
        _ => None,
    }
}
