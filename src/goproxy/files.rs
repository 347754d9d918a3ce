//! Module files on disk, by SHA-256, with one row per path in the store.
//!
//! Out of scope: fetching and checking them ([`super::cache`]).
//!
//! Order of effects when a file is kept: bytes synced under a temporary name, renamed to their hash, folder synced, row
//! committed. A crash before the row leaves bytes that nobody refers to, removed at the next start. When a file goes:
//! row first, then bytes. So a row always has its bytes, unless someone else removed them: then the row goes too.

use std::fs::{self, File, Permissions};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, ensure};
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use tokio::sync::Mutex as AsyncMutex;

use crate::store::{ModuleFile, Store};

/// Uses that are noted together, so that reading costs no transaction each.
const TOUCHES: usize = 64;
/// After eviction this much of the limit is in use, so that not every new file evicts another.
const FILL_PERCENT: u64 = 90;

/// A bounded folder of files that never change.
pub(super) struct Files {
    /// `<data>/modules`: folders named by the first byte of a hash, and [`Files::staging`].
    dir: PathBuf,
    store: Store,
    /// Bytes that may be kept.
    limit: u64,
    /// Held while a file appears or goes: of two paths with the same bytes one must not remove what the other keeps.
    changing: AsyncMutex<()>,
    /// Paths used since the store was last told.
    touched: Mutex<Vec<String>>,
}

/// A kept file, open: it can be read even if it is evicted meanwhile.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) file: Arc<File>,
    /// SHA-256.
    pub(super) hash: [u8; 32],
    /// Bytes.
    pub(super) size: u64,
}

impl Files {
    /// Opens `<data>/modules`, and removes what a crash left there.
    pub(super) async fn open(dir: PathBuf, store: Store, limit: u64) -> anyhow::Result<Files> {
        let folder = dir.clone();
        store
            .read(move |rows| {
                let staging = folder.join(STAGING);
                if staging.exists() {
                    fs::remove_dir_all(&staging).with_context(|| format!("cannot empty {}", staging.display()))?;
                }
                fs::create_dir_all(&staging).with_context(|| format!("cannot make {}", staging.display()))?;
                for (hash, path) in present(&folder)? {
                    if rows.module_paths_of(&hash)? == 0 {
                        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
                    }
                }
                Ok(())
            })
            .await?;
        Ok(Files { dir, store, limit, changing: AsyncMutex::new(()), touched: Mutex::default() })
    }

    /// Where new files are written before they are kept; on the same file system.
    pub(super) fn staging(&self) -> PathBuf {
        self.dir.join(STAGING)
    }

    /// The kept file of a path.
    pub(super) async fn find(&self, path: &str) -> anyhow::Result<Option<Kept>> {
        let wanted = path.to_owned();
        let Some(row) = self.store.read(move |rows| rows.module_file(&wanted)).await? else {
            return Ok(None);
        };
        let place = self.place(&row.hash);
        let size = row.size;
        let opened = blocking(move || {
            let file = File::open(place)?;
            ensure!(file.metadata()?.len() == size, "it has another size");
            Ok(file)
        })
        .await;
        match opened {
            Ok(file) => {
                self.touch(path).await?;
                Ok(Some(Kept { file: Arc::new(file), hash: row.hash, size }))
            }
            Err(error) => {
                tracing::warn!(path, error = format!("{error:#}"), "a kept module file is gone, fetching it again");
                let path = row.path;
                self.store.write(move |rows| rows.remove_module_file(&path)).await?;
                Ok(None)
            }
        }
    }

    /// Keeps a file from [`Files::staging`] under a path.
    pub(super) async fn keep(&self, path: &str, file: NamedTempFile) -> anyhow::Result<Kept> {
        let dir = self.dir.clone();
        let _alone = self.changing.lock().await;
        let kept = blocking(move || put(&dir, file)).await.with_context(|| format!("cannot keep {path}"))?;
        let (row, hash, size) = (path.to_owned(), kept.hash, kept.size);
        self.store.write(move |rows| rows.put_module_file(&row, &hash, size)).await?;
        self.evict().await?;
        Ok(kept)
    }

    /// Removes what was used longest ago until the rest fits. `changing` is held.
    async fn evict(&self) -> anyhow::Result<()> {
        let limit = self.limit;
        if self.store.read(|rows| rows.module_bytes()).await? <= limit {
            return Ok(());
        }
        self.flush_touches().await?;
        let gone = self
            .store
            .write(move |rows| {
                let mut bytes = rows.module_bytes()?;
                let mut gone = Vec::new();
                while bytes > limit / 100 * FILL_PERCENT {
                    let oldest = rows.oldest_module_files(64)?;
                    if oldest.is_empty() {
                        break;
                    }
                    for file in oldest {
                        if bytes <= limit / 100 * FILL_PERCENT {
                            break;
                        }
                        rows.remove_module_file(&file.path)?;
                        bytes = bytes.saturating_sub(file.size);
                        gone.push(file);
                    }
                }
                Ok(gone)
            })
            .await?;
        // The rows are gone for good; a crash from here on leaves bytes that the next start removes.
        self.unlink_unused(gone).await
    }

    async fn unlink_unused(&self, files: Vec<ModuleFile>) -> anyhow::Result<()> {
        let count = files.len();
        let dir = self.dir.clone();
        self.store
            .read(move |rows| {
                for file in files {
                    if rows.module_paths_of(&file.hash)? == 0 {
                        let _ = fs::remove_file(place(&dir, &file.hash));
                    }
                }
                Ok(())
            })
            .await?;
        tracing::info!(files = count, "evicted module files");
        Ok(())
    }

    async fn touch(&self, path: &str) -> anyhow::Result<()> {
        let full = {
            let mut touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
            touched.push(path.to_owned());
            touched.len() >= TOUCHES
        };
        if full { self.flush_touches().await } else { Ok(()) }
    }

    async fn flush_touches(&self) -> anyhow::Result<()> {
        let paths = std::mem::take(&mut *self.touched.lock().unwrap_or_else(PoisonError::into_inner));
        self.store.write(move |rows| rows.touch_module_files(&paths)).await
    }

    fn place(&self, hash: &[u8; 32]) -> PathBuf {
        place(&self.dir, hash)
    }
}

const STAGING: &str = "new";

/// Where the cache of a data directory keeps the bytes with this SHA-256.
pub fn kept_path(data: &Path, hash: &[u8; 32]) -> PathBuf {
    place(&folder(data), hash)
}

/// The cache's folder in a data directory.
pub(super) fn folder(data: &Path) -> PathBuf {
    data.join("modules")
}

fn place(dir: &Path, hash: &[u8; 32]) -> PathBuf {
    let name = HEXLOWER.encode(hash);
    dir.join(&name[..2]).join(name)
}

/// The files that are there, by what their names say.
fn present(dir: &Path) -> anyhow::Result<Vec<([u8; 32], PathBuf)>> {
    let mut files = Vec::new();
    for folder in fs::read_dir(dir)? {
        let folder = folder?;
        if folder.file_name() == STAGING || !folder.file_type()?.is_dir() {
            continue;
        }
        for file in fs::read_dir(folder.path())? {
            let file = file?;
            let name = file.file_name().into_encoded_bytes();
            if let Some(hash) = HEXLOWER.decode(&name).ok().and_then(|hash| hash.try_into().ok()) {
                files.push((hash, file.path()));
            }
        }
    }
    Ok(files)
}

/// Hashes a new file, syncs it, and renames it to its hash.
fn put(dir: &Path, mut new: NamedTempFile) -> anyhow::Result<Kept> {
    let mut hash = Sha256::new();
    let mut size = 0_u64;
    let mut buffer = vec![0; 64 << 10];
    let mut reader = new.reopen()?;
    loop {
        let n = reader.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        hash.update(&buffer[..n]);
        size += n as u64;
    }
    let hash: [u8; 32] = hash.finalize().into();
    let place = place(dir, &hash);
    let folder = place.parent().expect("it was joined to a folder above");
    if !folder.exists() {
        fs::create_dir_all(folder)?;
        File::open(dir)?.sync_all()?;
    }
    new.as_file_mut().set_permissions(Permissions::from_mode(0o444))?;
    new.as_file().sync_all()?;
    let file = new.persist(&place)?;
    File::open(folder)?.sync_all()?;
    Ok(Kept { file: Arc::new(file), hash, size })
}

/// Runs what blocks where blocking is allowed.
pub(super) async fn blocking<T: Send + 'static>(
    job: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(job).await.context("a file job panicked")?
}
