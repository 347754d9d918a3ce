//! Go toolchains: which there are, and one that is checked, tried and ready.
//!
//! A toolchain is the module `golang.org/toolchain`, so it comes through the module proxies and is checked against the
//! checksum database like any other module. No gpg, no download site.
//!
//! Out of scope: building anything real with one ([`super`]).
//!
//! Order of effects when one is installed: unpacked below a temporary name, hashed and compared, tried, synced, renamed
//! into place, folder synced, row committed. A crash before the row leaves a folder that nobody uses; the next start or
//! the next use removes it.

mod listing;
mod smoke;
mod unpack;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use futures_util::FutureExt as _;

use crate::goproxy::flights::{Flights, Tell};
use crate::goproxy::{Client, FetchError, ZIP_LIMIT};
use crate::model::{GoRange, GoVersion, Target};
use crate::store::{Store, ToolchainRow};
use crate::sumdb::SumDb;
use listing::Listing;

pub use smoke::{Corpus, CorpusResult};

/// The module that toolchains are versions of.
const MODULE: &str = "golang.org/toolchain";
/// Names of folders in which one is being unpacked start so.
const UNFINISHED: &str = "new-";

/// A toolchain that is ready for use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// Its release.
    pub goversion: GoVersion,
    /// Its folder (GOROOT), not to be written to.
    pub root: PathBuf,
    /// Its zip's hash, as the checksum database has it.
    pub h1: String,
    /// What it can build for.
    pub targets: Vec<Target>,
}

/// Why there is no such toolchain. Each text is one sentence for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ToolchainError {
    /// No proxy has it for this machine, the checksum database does not know it, or this node's range leaves it out.
    #[error("{0}")]
    NotListed(String),
    /// What came is not what the checksum database says, or does not work.
    #[error("{0}")]
    Corrupt(String),
    /// It may work later.
    #[error("{0}")]
    Temporary(String),
}

/// The toolchains of a data directory. Cheap to clone.
#[derive(Clone)]
pub struct Toolchains {
    inner: Arc<Inner>,
}

struct Inner {
    /// `<data>/toolchains`
    dir: PathBuf,
    store: Store,
    client: Client,
    /// `None`: the operator has turned the checksum database off, and toolchains are believed as they come.
    sumdb: Option<SumDb>,
    /// Which releases this node uses (`oldest-go`, `newest-go`).
    range: GoRange,
    host: Target,
    listing: Listing,
    flights: Flights<Result<Toolchain, ToolchainError>>,
}

impl Toolchain {
    /// The go command.
    pub fn go(&self) -> PathBuf {
        self.root.join("bin/go")
    }
}

impl Toolchains {
    /// Opens `<data>/toolchains`, and removes what a crash left half unpacked there.
    ///
    /// # Errors
    /// If the folder cannot be read or written.
    pub async fn open(
        data: &Path,
        store: Store,
        client: Client,
        sumdb: Option<SumDb>,
        range: GoRange,
    ) -> anyhow::Result<Toolchains> {
        let dir = data.join("toolchains");
        let folder = dir.clone();
        blocking(move || {
            fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                    fs::remove_dir_all(entry.path())
                        .with_context(|| format!("cannot remove {}", entry.path().display()))?;
                }
            }
            Ok(())
        })
        .await
        .context("cannot open the folder of Go toolchains")?;
        Ok(Toolchains {
            inner: Arc::new(Inner {
                listing: Listing::new(client.clone()),
                dir,
                store,
                client,
                sumdb,
                range,
                host: Target::host(),
                flights: Flights::default(),
            }),
        })
    }

    /// A ready toolchain; downloads and checks it if it is not there. Joins an installation that is under way.
    ///
    /// `progress` is told the download's bytes so far and how many there will be.
    ///
    /// # Errors
    /// See [`ToolchainError`].
    pub async fn ensure(
        &self,
        goversion: &GoVersion,
        progress: impl Fn(u64, Option<u64>) + Send + Sync,
    ) -> Result<Toolchain, ToolchainError> {
        if !self.inner.range.contains(goversion) {
            return Err(ToolchainError::NotListed(format!(
                "{goversion} is outside of the Go versions that this node uses (oldest-go, newest-go)"
            )));
        }
        if let Some(toolchain) = self.inner.find(goversion).await.map_err(ours)? {
            return Ok(toolchain);
        }
        let (inner, wanted) = (Arc::clone(&self.inner), *goversion);
        let start = |tell: Tell| async move { inner.install(&wanted, &*tell).await }.boxed();
        self.inner.flights.join(&goversion.to_string(), start, &progress).await
    }

    /// The releases that the proxies list for this machine, oldest first, within the range. At most some minutes old.
    ///
    /// # Errors
    /// [`ToolchainError::Temporary`] if they cannot be asked, [`ToolchainError::NotListed`] if they list none.
    pub async fn available(&self) -> Result<Vec<GoVersion>, ToolchainError> {
        let mut listed = self.inner.listing.of(&self.inner.host).await?;
        listed.retain(|goversion| self.inner.range.contains(goversion));
        Ok(listed)
    }

    /// The newest release that is listed; never a release candidate or beta.
    ///
    /// # Errors
    /// As of [`Toolchains::available`].
    pub async fn latest(&self) -> Result<GoVersion, ToolchainError> {
        let releases = self.available().await?.into_iter().filter(GoVersion::is_release);
        releases
            .max()
            .ok_or_else(|| ToolchainError::NotListed(format!("no Go release for {} is listed", self.inner.host)))
    }

    /// The newest release of Go 1.`minor` that is listed; never a release candidate or beta.
    ///
    /// # Errors
    /// As of [`Toolchains::available`].
    pub async fn latest_of(&self, minor: u32) -> Result<GoVersion, ToolchainError> {
        let releases = self.available().await?.into_iter().filter(GoVersion::is_release);
        releases.filter(|goversion| goversion.minor() == minor).max().ok_or_else(|| {
            ToolchainError::NotListed(format!("no release of go1.{minor} for {} is listed", self.inner.host))
        })
    }

    /// The toolchains that are ready, oldest first.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn installed(&self) -> anyhow::Result<Vec<GoVersion>> {
        let mut installed = self.inner.store.read(|rows| rows.toolchains()).await?;
        installed.sort();
        Ok(installed)
    }
}

impl Inner {
    /// The toolchain, if it is in place and has its row.
    async fn find(&self, goversion: &GoVersion) -> anyhow::Result<Option<Toolchain>> {
        let wanted = *goversion;
        let Some(row) = self.store.read(move |rows| rows.toolchain(&wanted)).await? else {
            return Ok(None);
        };
        let root = self.dir.join(goversion.to_string());
        // Someone may have removed the folder to save space: then it is installed again.
        if !root.join("bin/go").exists() {
            return Ok(None);
        }
        Ok(Some(Toolchain { goversion: *goversion, root, h1: row.h1, targets: row.targets }))
    }

    async fn install(
        &self,
        goversion: &GoVersion,
        progress: &(dyn Fn(u64, Option<u64>) + Send + Sync),
    ) -> Result<Toolchain, ToolchainError> {
        if let Some(toolchain) = self.find(goversion).await.map_err(ours)? {
            return Ok(toolchain);
        }
        let started = std::time::Instant::now();
        // Removed when dropped: whatever goes wrong or is called off leaves nothing.
        let work = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempdir_in(&self.dir)
            .context("cannot make a folder to unpack the Go toolchain in")
            .map_err(ours)?;
        let (zip, expected) = self.fetch(goversion, work.path(), progress).await?;
        let fetched = started.elapsed();

        let root = work.path().join("go");
        let (into, prefix) = (root.clone(), format!("{MODULE}@{}/", self.version(goversion)));
        let h1 = blocking(move || {
            let h1 = unpack::unpack(&zip, &into, &prefix)?;
            fs::remove_file(&zip)?;
            Ok(h1)
        })
        .await
        .map_err(|error| {
            ToolchainError::Corrupt(format!("the Go toolchain {goversion} cannot be unpacked: {error:#}"))
        })?;
        match expected {
            Some(expected) if expected == h1 => {}
            Some(expected) => {
                tracing::error!(%goversion, h1, expected, "Go toolchain refused");
                return Err(ToolchainError::Corrupt(format!(
                    "security error: the Go toolchain {goversion} from the module proxy has the hash {h1}, but the checksum database says {expected}: it was changed on the way, and is not used"
                )));
            }
            None => {
                tracing::warn!(%goversion, h1, "gosumdb is off: nothing vouches for this Go toolchain")
            }
        }
        let unpacked = started.elapsed();

        let (targets, synced) = tokio::join!(self.try_out(goversion, &root, work.path()), {
            let root = root.clone();
            blocking(move || Ok(rustix::fs::syncfs(fs::File::open(root)?)?))
        });
        let targets = targets?;
        synced.context("cannot write the Go toolchain to disk").map_err(ours)?;
        let toolchain = Toolchain { goversion: *goversion, root: self.dir.join(goversion.to_string()), h1, targets };
        self.put_in_place(&toolchain, root, work).await.map_err(ours)?;
        tracing::info!(
            %goversion,
            fetched_ms = fetched.as_millis(),
            unpacked_ms = (unpacked - fetched).as_millis(),
            tried_ms = (started.elapsed() - unpacked).as_millis(),
            "Go toolchain installed"
        );
        Ok(toolchain)
    }

    /// Downloads the zip, and meanwhile asks the checksum database what it must hash to.
    async fn fetch(
        &self,
        goversion: &GoVersion,
        work: &Path,
        progress: &(dyn Fn(u64, Option<u64>) + Send + Sync),
    ) -> Result<(PathBuf, Option<String>), ToolchainError> {
        let version = self.version(goversion);
        let zip = work.join("zip");
        let path = format!("{MODULE}/@v/{version}.zip");
        let mut file =
            tokio::fs::File::create(&zip).await.context("cannot make a file for the Go toolchain").map_err(ours)?;
        let download = self.client.download(&path, ZIP_LIMIT, &mut file, progress);
        let expected = async {
            match &self.sumdb {
                Some(sumdb) => Ok(Some(sumdb.sums(MODULE, &version).await?.zip)),
                None => Ok(None),
            }
        };
        // A toolchain that the database does not know calls its own download off.
        let (expected, _) = tokio::try_join!(expected, download).map_err(|error| not_fetched(goversion, error))?;
        Ok((zip, expected))
    }

    /// Asks the toolchain for its targets, and builds hello twice with it.
    async fn try_out(&self, goversion: &GoVersion, root: &Path, work: &Path) -> Result<Vec<Target>, ToolchainError> {
        let broken = |error: anyhow::Error| {
            ToolchainError::Corrupt(format!("the Go toolchain {goversion} does not work here: {error:#}"))
        };
        let (targets, hello) =
            tokio::join!(smoke::targets(root, goversion, work), smoke::hello_twice(root, goversion, work));
        hello.map_err(broken)?;
        targets.map_err(broken)
    }

    async fn put_in_place(
        &self,
        toolchain: &Toolchain,
        unpacked: PathBuf,
        work: tempfile::TempDir,
    ) -> anyhow::Result<()> {
        let (place, dir) = (toolchain.root.clone(), self.dir.clone());
        blocking(move || {
            if place.exists() {
                // Left by a crash between the rename and the row, or the row was lost: it was never used.
                fs::rename(&place, work.path().join("old"))?;
            }
            fs::rename(&unpacked, &place)?;
            fs::File::open(&dir)?.sync_all()?;
            work.close()?;
            Ok(())
        })
        .await
        .context("cannot put the Go toolchain in place")?;
        let row = ToolchainRow { h1: toolchain.h1.clone(), targets: toolchain.targets.clone() };
        let goversion = toolchain.goversion;
        self.store.write(move |rows| rows.put_toolchain(&goversion, &row)).await
    }

    /// The toolchain's version as a module's.
    fn version(&self, goversion: &GoVersion) -> String {
        listing::module_version(goversion, &self.host)
    }
}

fn not_fetched(goversion: &GoVersion, error: FetchError) -> ToolchainError {
    match error {
        FetchError::NotFound(detail) | FetchError::Refused { detail, .. } => {
            ToolchainError::NotListed(format!("there is no Go toolchain {goversion} to be had: {detail}"))
        }
        FetchError::Security(_) | FetchError::TooLarge { .. } => {
            ToolchainError::Corrupt(format!("the Go toolchain {goversion} is not used: {error}"))
        }
        FetchError::Off | FetchError::Unsupported(_) | FetchError::Temporary(_) => {
            ToolchainError::Temporary(format!("the Go toolchain {goversion} cannot be fetched: {error}"))
        }
    }
}

fn ours(error: anyhow::Error) -> ToolchainError {
    ToolchainError::Temporary(format!("{error:#}"))
}

async fn blocking<T: Send + 'static>(job: impl FnOnce() -> anyhow::Result<T> + Send + 'static) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(job).await.context("a file job panicked")?
}

#[cfg(test)]
mod tests;
