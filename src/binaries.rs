//! Binaries on disk, named by the sum of their uncompressed bytes.
//!
//! Order of effects when one arrives: compressed into the staging folder, synced, renamed into place, its
//! folder synced; only then is its row written, in the transaction of the claim about it. When one is evicted the
//! row goes first. So a row always has its file, and what a crash leaves is a file without a row,
//! which the next start removes. One that comes from elsewhere is unpacked and hashed as it comes, into files without
//! names or in staging, and goes the same way once it is what it should be.
//!
//! Out of scope: what a binary should be ([`crate::tally`]) and serving it ([`crate::web`]).

mod exhibit;
mod read;
mod receive;
mod stage;

use read::Written;

pub use read::Stored;
pub use receive::{Received, longest_gz, receive};

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use moka::sync::Cache;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::metrics::Metrics;
use crate::model::Sum;
use crate::store::{BinaryRow, Store};

/// How often times of service are written and the size limit is enforced.
const SWEEP: Duration = Duration::from_secs(30);
/// How long a file that was hashed and right is served without being hashed again, and how many are remembered.
const RIGHT_FOR: Duration = Duration::from_mins(10);
const RIGHT_FILES: u64 = 1000;
/// Binaries evicted in one transaction.
const EVICT_BATCH: usize = 64;

/// A handle to the binaries of a node. Cloning gives another handle.
#[derive(Clone)]
pub struct Binaries {
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    staging: PathBuf,
    evidence: PathBuf,
    /// Compressed bytes to keep at most.
    limit: u64,
    store: Store,
    metrics: Metrics,
    /// When binaries were last served, until the next sweep writes it. A crash loses half a
    /// minute of it, which only shifts what is evicted first.
    served: Mutex<HashMap<Sum, i64>>,
    /// Compressed files that were hashed lately and were right.
    right: Cache<Sum, Written>,
}

impl Binaries {
    /// Opens the folders below a data directory and makes rows and files agree again after a crash.
    ///
    /// # Errors
    /// The folders cannot be made or read, or the store failed.
    pub async fn open(data: &Path, limit: u64, store: Store, metrics: Metrics) -> anyhow::Result<Binaries> {
        let folder = data.join("binaries");
        let staging = data.join("staging");
        let evidence = data.join("evidence");
        if staging.exists() {
            fs::remove_dir_all(&staging).with_context(|| format!("cannot clear {}", staging.display()))?;
        }
        for folder in [&folder, &staging] {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let right = Cache::builder().max_capacity(RIGHT_FILES).time_to_live(RIGHT_FOR).build();
        let inner = Inner { folder, staging, evidence, limit, store, metrics, served: Mutex::default(), right };
        let binaries = Binaries { inner: Arc::new(inner) };
        binaries.recover().await?;
        Ok(binaries)
    }

    /// A folder on the same file system, emptied at each start.
    pub fn staging_dir(&self) -> &Path {
        &self.inner.staging
    }

    /// Compressed bytes that are kept at most.
    pub fn limit(&self) -> u64 {
        self.inner.limit
    }

    /// Hashes and compresses a file and puts it in place, synced. The row is the caller's to write,
    /// in the transaction that needs the binary.
    ///
    /// # Errors
    /// The file cannot be read, or the disk is full or failing.
    pub async fn keep(&self, file: &Path) -> anyhow::Result<BinaryRow> {
        let this = self.clone();
        let file = file.to_owned();
        tokio::task::spawn_blocking(move || {
            let staged = stage::stage(&file, &this.inner.staging)
                .with_context(|| format!("cannot keep the binary {}", file.display()))?;
            let path = path(&this.inner.folder, &staged.row.sum);
            staged.place(&path).with_context(|| format!("cannot put a binary to {}", path.display()))
        })
        .await
        .context("keeping a binary panicked")?
    }

    /// Puts what came from elsewhere in place, synced, and notes it. Only for what passed [`Received::check`].
    ///
    /// # Errors
    /// The disk is full or failing, or the store failed.
    pub async fn keep_received(&self, received: Received) -> anyhow::Result<Stored> {
        let folder = self.inner.folder.clone();
        let (row, gz, plain) = tokio::task::spawn_blocking(move || {
            let (staged, plain) = received.stage().context("cannot keep a binary that was fetched")?;
            let path = path(&folder, &staged.row.sum);
            let gz = fs::File::open(&staged.path).context("cannot open a binary that was fetched")?;
            let row = staged.place(&path).with_context(|| format!("cannot put a binary to {}", path.display()))?;
            anyhow::Ok((row, gz, plain))
        })
        .await
        .context("keeping a binary panicked")??;
        // File first, then row, as for what was built: a crash in between leaves a file that nobody promises.
        let kept = row.clone();
        self.inner.store.write(move |tx| tx.put_binary(&kept)).await?;
        // At once, or fast fetches would go far beyond the limit between two sweeps; and not the one just fetched, though
        // others may have been served in the same second.
        self.note_service().await?;
        self.make_room(Some(row.sum)).await?;
        Ok(Stored::new(row, gz, self.clone()).unpacked(plain))
    }

    /// Keeps what came from elsewhere and is not what it should be, for people to look at: a file named by its SHA-256
    /// in the folder `evidence`. False if there are too many already.
    ///
    /// # Errors
    /// The disk is full or failing.
    pub async fn exhibit(&self, received: Received) -> anyhow::Result<bool> {
        let folder = self.inner.evidence.clone();
        let keep = move || exhibit::keep(received, &folder);
        tokio::task::spawn_blocking(keep).await.context("keeping evidence panicked")?.context("cannot keep evidence")
    }

    /// The binary with a sum, if it is here.
    ///
    /// # Errors
    /// The store failed. A file that is missing is no error: its row is corrected.
    pub async fn find(&self, sum: &Sum) -> anyhow::Result<Option<Stored>> {
        let sum = *sum;
        let row = self.inner.store.read(move |reader| reader.binary(&sum)).await?;
        let Some(row) = row.filter(|row| row.present) else {
            return Ok(None);
        };
        let opened = open(path(&self.inner.folder, &sum), row.gz_size).await;
        let file = match opened {
            Ok(file) => file,
            Err(error) => {
                warn!(%sum, "a binary is missing or was cut, and counts as evicted: {error}");
                self.evict(vec![row]).await?;
                return Ok(None);
            }
        };
        let now = jiff::Timestamp::now().as_second();
        self.served().insert(sum, now);
        Ok(Some(Stored::new(row, file, self.clone())))
    }

    /// Keeps times of service and the size limit until it is stopped.
    ///
    /// # Errors
    /// The store failed.
    pub async fn sweep(self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut tick = tokio::time::interval(SWEEP);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return self.note_service().await,
                _ = tick.tick() => {
                    self.note_service().await?;
                    self.enforce_limit().await?;
                }
            }
        }
    }

    /// Evicts the least recently served binaries until the limit holds; those of open divergences only if all others
    /// are gone.
    ///
    /// # Errors
    /// The store failed.
    pub async fn enforce_limit(&self) -> anyhow::Result<()> {
        self.make_room(None).await
    }

    async fn make_room(&self, spared: Option<Sum>) -> anyhow::Result<()> {
        loop {
            let limit = self.inner.limit;
            let (bytes, doomed) = self
                .inner
                .store
                .read(move |reader| {
                    let bytes = reader.binary_bytes()?;
                    let mut excess = bytes.saturating_sub(limit);
                    let mut doomed = Vec::new();
                    if excess > 0 {
                        for row in reader.evictable_binaries(EVICT_BATCH)? {
                            if excess == 0 {
                                break;
                            }
                            if spared == Some(row.sum) {
                                continue;
                            }
                            excess = excess.saturating_sub(row.gz_size);
                            doomed.push(row);
                        }
                    }
                    Ok((bytes, doomed))
                })
                .await?;
            self.inner.metrics.binary_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
            if doomed.is_empty() {
                return Ok(());
            }
            info!(count = doomed.len(), "binaries evicted by the size limit");
            self.evict(doomed).await?;
        }
    }

    /// Row first, then file: a crash in between leaves a file that nobody promises.
    async fn evict(&self, rows: Vec<BinaryRow>) -> anyhow::Result<()> {
        let sums: Vec<Sum> = rows.iter().map(|row| row.sum).collect();
        let paths: Vec<PathBuf> = sums.iter().map(|sum| path(&self.inner.folder, sum)).collect();
        self.inner.store.write(move |tx| sums.iter().try_for_each(|sum| tx.evict_binary(sum))).await?;
        for path in paths {
            if let Err(error) = tokio::fs::remove_file(&path).await
                && error.kind() != io::ErrorKind::NotFound
            {
                warn!("cannot remove the evicted {}: {error}", path.display());
            }
        }
        Ok(())
    }

    async fn note_service(&self) -> anyhow::Result<()> {
        let served = std::mem::take(&mut *self.served());
        let Some(latest) = served.values().max().copied() else {
            return Ok(());
        };
        let sums: Vec<Sum> = served.into_keys().collect();
        self.inner.store.write(move |tx| tx.binaries_served(&sums, latest)).await
    }

    fn served(&self) -> std::sync::MutexGuard<'_, HashMap<Sum, i64>> {
        self.inner.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes rows and files agree: a row without its file is marked evicted, a file without a row goes.
    async fn recover(&self) -> anyhow::Result<()> {
        let rows = self.inner.store.read(|reader| reader.present_binaries(usize::MAX)).await?;
        let folder = self.inner.folder.clone();
        let lost = tokio::task::spawn_blocking(move || reconcile(&folder, rows))
            .await
            .context("looking at the binaries panicked")?
            .context("cannot look at the binaries on disk")?;
        if !lost.is_empty() {
            warn!(count = lost.len(), "binaries are missing on disk and count as evicted");
            self.evict(lost).await?;
        }
        self.enforce_limit().await
    }
}

/// Where the binary with a sum is kept: spread over folders, so that none gets too large to list.
pub fn path(folder: &Path, sum: &Sum) -> PathBuf {
    let name = sum.to_string();
    folder.join(&name[1..3]).join(format!("{name}.gz"))
}

/// Opens a kept file, if it is as long as it should be.
async fn open(path: PathBuf, len: u64) -> io::Result<fs::File> {
    let file = tokio::fs::File::open(path).await?;
    match file.metadata().await?.len() {
        found if found == len => Ok(file.into_std().await),
        found => Err(io::Error::other(format!("it has {found} bytes, not {len}"))),
    }
}

/// Removes files that no row promises; returns the rows whose file is missing or cut.
fn reconcile(folder: &Path, rows: Vec<BinaryRow>) -> io::Result<Vec<BinaryRow>> {
    let promised: HashSet<PathBuf> = rows.iter().map(|row| path(folder, &row.sum)).collect();
    for shard in fs::read_dir(folder)? {
        let shard = shard?;
        if !shard.file_type()?.is_dir() {
            continue;
        }
        for file in fs::read_dir(shard.path())? {
            let file = file?.path();
            if !promised.contains(&file) {
                info!("{} belongs to no claim that was committed: removed", file.display());
                fs::remove_file(&file)?;
            }
        }
    }
    let whole = |row: &BinaryRow| {
        fs::metadata(path(folder, &row.sum)).is_ok_and(|file| file.is_file() && file.len() == row.gz_size)
    };
    Ok(rows.into_iter().filter(|row| !whole(row)).collect())
}
