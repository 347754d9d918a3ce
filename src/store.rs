//! The node's state: one SQLite database, one writer thread, any number of readers.
//!
//! All SQL of the program is in this module, a file a table or two. Out of scope: what the rows
//! mean. That is [`crate::log`], [`crate::tally`] and the rest; here is only how they are kept.
//!
//! # Locking
//! The thread of [`writer`] owns the only connection that writes. It takes the jobs that have queued up,
//! runs each in a savepoint of its own, signs the heads of the logs that grew, and commits them
//! together with `synchronous = FULL`: one fsync a batch. Readers have read-only connections; WAL
//! lets them read while the writer writes. A lock file keeps a second node out.
//!
//! # Failure
//! A job that fails is rolled back alone. A failing disk, a full one, or a tree that does not come
//! out as it was written, ends the writer: nothing of that batch is announced, and
//! [`Store::failed`] tells the node to stop. Starting again is the recovery.

mod alerts;
mod audits;
mod binaries;
mod caches;
mod checkpoints;
mod comparisons;
mod counts;
mod divergences;
mod due;
mod outbox;
mod parties;
mod records;
mod schema;
mod specs;
#[cfg(test)]
mod tests;
mod trees;
mod troubles;
mod watches;
mod words;
mod writer;

pub use alerts::{AlertId, AlertRow, NewAlert};
pub use audits::{AuditCounts, AuditOrder, AuditPosition, AuditRow, AuditState, AuditedLog, Chosen};
pub use binaries::BinaryRow;
pub use caches::{ModuleFile, ToolchainRow};
pub use comparisons::ComparisonRow;
pub use counts::WordCounts;
pub use divergences::{DivergenceRow, SaidRow};
pub use due::{Errand, Unsettled};
pub use outbox::{Backlog, EventId, EventRow, Pending};
pub use parties::Quarantine;
pub use records::{Neighbours, RecordRow};
pub use specs::SpecId;
pub use trees::{HeadForm, LogId, PeerHeadRow, PeerLogId, PeerLogRow, Published, TreeForms, TreeId};
pub use troubles::Trouble;
pub use watches::FreshVersion;
pub use words::WordRow;

use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use rusqlite::{Connection, OpenFlags};
use tokio::sync::{mpsc, oneshot, watch};

use crate::metrics::Metrics;
use checkpoints::Checkpoints;
use trees::Trees;
use writer::{Job, Outcome};

/// Jobs that may wait for the writer; further callers wait before they queue.
const QUEUE: usize = 16_384;
/// Idle read connections that are kept open.
const IDLE_READERS: usize = 8;
/// Pages a reader caches, in KiB. Small: the operating system caches the file as well.
const READER_CACHE_KIB: i64 = 1024;
/// How long a reader waits for a lock that only a checkpoint holds.
const BUSY: Duration = Duration::from_secs(10);
const DATABASE: &str = "sumpeer.db";
const LOCK: &str = "lock";

/// A handle to the state. Cloning gives another handle.
#[derive(Clone)]
pub struct Store {
    /// To the thread that owns the only write connection.
    jobs: mpsc::Sender<Job>,
    readers: Arc<Readers>,
    heads: [watch::Receiver<Arc<Published>>; 2],
    /// Counts commits that have something to tell. What it is stands in the outbox, so no lost wake-up loses an alert.
    told: watch::Receiver<u64>,
    failure: watch::Receiver<Option<String>>,
}

/// Read-only connections to one database.
struct Readers {
    path: PathBuf,
    /// Those that no query is using.
    idle: Mutex<Vec<Connection>>,
}

/// What a query sees: one consistent state of the database.
pub struct Reader<'c> {
    conn: &'c Connection,
}

/// What a job sees and may change.
pub struct Tx<'c> {
    reader: Reader<'c>,
    trees: &'c mut Trees,
    /// Set once there is something new in the outbox.
    told: &'c mut bool,
}

impl<'c> Deref for Tx<'c> {
    type Target = Reader<'c>;

    fn deref(&self) -> &Reader<'c> {
        &self.reader
    }
}

impl Store {
    /// Whether a data directory has a database.
    pub fn exists(data: &Path) -> bool {
        data.join(DATABASE).exists()
    }

    /// Opens the database in a data directory, creates it if there is none, and checks the edge of both
    /// logs against their signed heads.
    ///
    /// # Errors
    /// Another node holds the directory; the schema is newer; a log does not match its head, or was signed by
    /// another key.
    pub fn open(data: &Path, forms: TreeForms, metrics: Metrics) -> anyhow::Result<Store> {
        let lock = lock(data)?;
        let path = data.join(DATABASE);
        let mut conn =
            Connection::open(&path).with_context(|| format!("cannot open the database {}", path.display()))?;
        // FULL: with NORMAL a power cut may lose the last commits, which for a signed log is a fork.
        conn.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
             PRAGMA cache_size = -32768; PRAGMA wal_autocheckpoint = 65536; PRAGMA temp_store = MEMORY;",
        )
        .with_context(|| format!("cannot set up the database{}", room(data)))?;
        conn.busy_timeout(BUSY)?;
        conn.set_prepared_statement_cache_capacity(64);
        schema::migrate(&mut conn)?;
        // What the last run or the migration left in the log goes into the database, and gives its room back.
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .with_context(|| format!("cannot bring the database up to date{}", room(data)))?;
        let trees = Trees::open(&mut conn, forms)?;

        let checkpoints = Checkpoints::start(&path)?;
        let waits = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let waits = waits.context("cannot make the timer of the writer thread")?;
        let heads = trees.subscribe();
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (failed, failure) = watch::channel(None);
        let (tell, told) = watch::channel(0);
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || {
                writer::run(&waits, conn, trees, checkpoints, queue, &writer::Ends { failed, told: tell }, &metrics);
                // Only now may another node have the directory: nothing is left to be written.
                drop(lock);
            })
            .context("cannot start the writer thread")?;
        Ok(Store { jobs, readers: Arc::new(Readers::new(path)), heads, told, failure })
    }

    /// Runs a job in the writer thread, in a savepoint of its own. When this returns `Ok`, its changes are on disk.
    ///
    /// If the caller goes away the job still runs.
    ///
    /// # Errors
    /// The job's own, after which nothing of it remains; or that the store has failed.
    pub async fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Tx<'_>) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |tx| {
            let result = job(tx);
            Outcome {
                fatal: result.as_ref().err().and_then(writer::disk_trouble),
                keep: result.is_ok(),
                // The caller may have gone away; the write stands all the same.
                finish: Box::new(move |committed| {
                    let _ = reply.send(committed.and(result));
                }),
            }
        });
        if self.jobs.send(job).await.is_err() {
            bail!(self.cause());
        }
        answer.await.unwrap_or_else(|_| Err(anyhow!(self.cause())))
    }

    /// Runs a query on a thread that may block.
    ///
    /// # Errors
    /// The query's own, or that the database cannot be read.
    pub async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Reader<'_>) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let readers = self.readers.clone();
        tokio::task::spawn_blocking(move || readers.read(query)).await.context("a query panicked")?
    }

    /// The committed size and signed heads of a log, now and whenever it grows.
    pub fn heads(&self, log: LogId) -> watch::Receiver<Arc<Published>> {
        self.heads[log.index()].clone()
    }

    /// Changes whenever there is something new in the outbox, after the commit.
    pub fn told(&self) -> watch::Receiver<u64> {
        self.told.clone()
    }

    /// Waits until the store can no longer be written, and says why.
    pub async fn failed(&self) -> anyhow::Error {
        let mut failure = self.failure.clone();
        match failure.wait_for(Option::is_some).await {
            Ok(cause) => anyhow!(cause.clone().unwrap_or_default()),
            Err(_) => anyhow!("the writer thread has ended"),
        }
    }

    fn cause(&self) -> String {
        let cause = self.failure.borrow().clone();
        cause.unwrap_or_else(|| "the writer thread has ended".to_owned())
    }
}

/// Reads the database of a data directory, whether a node is running on it or not.
pub struct ReadOnly(Readers);

impl ReadOnly {
    /// Opens without taking the lock and without changing anything.
    ///
    /// # Errors
    /// There is no database, or its schema is newer.
    pub fn open(data: &Path) -> anyhow::Result<ReadOnly> {
        let path = data.join(DATABASE);
        if !path.is_file() {
            bail!("there is no node in {}: {DATABASE} is missing", data.display());
        }
        let readers = Readers::new(path);
        readers.read(|reader| schema::check_version(reader.conn))?;
        Ok(ReadOnly(readers))
    }

    /// Runs a query that sees one state throughout.
    ///
    /// # Errors
    /// The query's own, or that the database cannot be read.
    pub fn read<T>(&self, query: impl FnOnce(&Reader<'_>) -> anyhow::Result<T>) -> anyhow::Result<T> {
        self.0.read(query)
    }
}

impl Readers {
    fn new(path: PathBuf) -> Readers {
        Readers { path, idle: Mutex::default() }
    }

    fn read<T>(&self, query: impl FnOnce(&Reader<'_>) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut conn = match idle {
            Some(conn) => conn,
            None => self.connect().context("cannot read the database")?,
        };
        // One transaction: all statements of a query see the same state.
        let tx = conn.transaction()?;
        let result = query(&Reader { conn: &tx });
        drop(tx);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_READERS {
            idle.push(conn);
        }
        result
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(&self.path, flags)?;
        conn.busy_timeout(BUSY)?;
        conn.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
        conn.set_prepared_statement_cache_capacity(32);
        Ok(conn)
    }
}

/// Takes the data directory for this process; the lock ends with it, however it ends.
fn lock(data: &Path) -> anyhow::Result<File> {
    let path = data.join(LOCK);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            bail!("another node is running on the data directory {}", data.display())
        }
        Err(std::fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// A full disk shows as an I/O error here, which would send people looking for a broken one.
fn room(data: &Path) -> String {
    match rustix::fs::statvfs(data) {
        Ok(disk) if disk.f_bavail == 0 => format!(", as the disk of {} is full", data.display()),
        _ => String::new(),
    }
}

/// Now, in the seconds that rows keep.
fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}
