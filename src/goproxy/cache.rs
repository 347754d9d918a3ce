//! Module files that were fetched and checked once, for all builds.
//!
//! Out of scope: what is a right hash ([`Verify`] is given by whoever wires the parts), and where bytes lie
//! ([`super::files`]).
//!
//! Invariants: only files of exact versions are kept, and only after they were checked; requests for one file are
//! joined; lists and `@latest` live a minute.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::files::{self, Files, Kept};
use super::flights::{Flights, Tell};
use super::{Client, FetchError, FileKind, LIST_LIMIT, VersionFile};
use crate::model::ModulePath;
use crate::store::Store;

/// Whoever knows what a module file must hash to, and has the proofs: the client of a checksum database.
pub trait Verify: Send + Sync + 'static {
    /// The database's name, as in `sumdb/<name>/…`.
    fn name(&self) -> &str;

    /// Checks a `.mod` or `.zip` that lies at `content`.
    fn check<'a>(&'a self, file: &'a VersionFile, content: &'a Path) -> BoxFuture<'a, Result<(), FetchError>>;

    /// What the database answers to `lookup/…`, `tile/…` or `latest`.
    fn answer<'a>(&'a self, rest: &'a str) -> BoxFuture<'a, Result<Bytes, FetchError>>;
}

/// A handle; cheap to clone.
#[derive(Clone)]
pub struct ModuleCache {
    inner: Arc<Inner>,
}

struct Inner {
    files: Files,
    client: Client,
    /// `None`: the operator has turned the checksum database off.
    verify: Option<Arc<dyn Verify>>,
    /// What is being fetched right now, by path.
    flights: Flights<Result<Found, FetchError>>,
    /// Lists and `@latest`, by path.
    brief: moka::future::Cache<String, Answer>,
    /// Why a path has no file, for what is only asked for to find out where a module begins.
    probed: moka::future::Cache<String, FetchError>,
}

/// A file of a version, and where it came from this time.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) kept: Kept,
    /// `cache`, or the proxy's address without credentials.
    pub(super) from: Arc<str>,
}

/// A short answer, and who gave it.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) body: Bytes,
    /// `cache`, or an address without credentials.
    pub(super) from: Arc<str>,
}

/// How long a list or `@latest` may be repeated.
const BRIEF: Duration = Duration::from_secs(60);
/// How long a probe that found nothing is believed: as long as any module that does not exist.
const PROBED: Duration = Duration::from_secs(600);
/// Probes that are remembered.
const PROBES: u64 = 10_000;
/// Bytes of all lists and `@latest` answers together.
const BRIEF_BYTES: u64 = 16 << 20;

impl ModuleCache {
    /// Opens the cache in `<data>/modules`; `limit` is in bytes.
    ///
    /// # Errors
    /// If the folder cannot be read or written, or the store fails.
    pub async fn open(
        data: &Path,
        limit: u64,
        store: Store,
        client: Client,
        verify: Option<Arc<dyn Verify>>,
    ) -> anyhow::Result<ModuleCache> {
        let files = Files::open(files::folder(data), store, limit).await.context("cannot open the module cache")?;
        let brief = moka::future::Cache::builder()
            .time_to_live(BRIEF)
            .max_capacity(BRIEF_BYTES)
            .weigher(|path: &String, answer: &Answer| {
                u32::try_from(path.len() + answer.body.len() + 100).unwrap_or(u32::MAX)
            })
            .build();
        let probed = moka::future::Cache::builder().time_to_live(PROBED).max_capacity(PROBES).build();
        let flights = Flights::default();
        Ok(ModuleCache { inner: Arc::new(Inner { files, client, verify, flights, brief, probed }) })
    }

    /// The name of the checksum database that files are checked against; `None` if it is turned off.
    pub fn database(&self) -> Option<&str> {
        self.inner.verify.as_deref().map(Verify::name)
    }

    /// The go.mod file of a version, checked.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn go_mod(&self, module: &ModulePath, version: &crate::model::Version) -> Result<Bytes, FetchError> {
        let file = VersionFile { module: module.clone(), version: version.clone(), kind: FileKind::Mod };
        let kept = self.file(&file, &|_, _| ()).await?.kept;
        read_whole(kept).await
    }

    /// The zip of a version, checked, as an open file and its size in bytes.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn zip(
        &self,
        module: &ModulePath,
        version: &crate::model::Version,
    ) -> Result<(std::fs::File, u64), FetchError> {
        let file = VersionFile { module: module.clone(), version: version.clone(), kind: FileKind::Zip };
        let kept = self.file(&file, &|_, _| ()).await?.kept;
        let file = kept
            .file
            .try_clone()
            .map_err(|error| FetchError::Temporary(format!("cannot open a module file: {error}")))?;
        Ok((file, kept.size))
    }

    /// A file of a version, from the cache or fetched and checked. Joins a fetch of it that is under way.
    pub(super) async fn file(
        &self,
        file: &VersionFile,
        progress: &(dyn Fn(u64, Option<u64>) + Send + Sync),
    ) -> Result<Found, FetchError> {
        let path = file.path();
        // Most files are there; only what is not goes through the map of flights.
        if let Some(kept) = self.inner.files.find(&path).await.map_err(ours)? {
            return Ok(Found { kept, from: "cache".into() });
        }
        let (inner, wanted) = (Arc::clone(&self.inner), file.clone());
        let start = |tell: Tell| async move { inner.fetch(&wanted, &*tell).await }.boxed();
        self.inner.flights.join(&path, start, progress).await
    }

    /// The same for a path above or below the module that is built, where mostly nothing is: that is remembered, because
    /// the go command asks for each of them in every build, and waits for the answers.
    pub(super) async fn probe(
        &self,
        file: &VersionFile,
        progress: &(dyn Fn(u64, Option<u64>) + Send + Sync),
    ) -> Result<Found, FetchError> {
        let path = file.path();
        if let Some(known) = self.inner.probed.get(&path).await {
            return Err(known);
        }
        let found = self.file(file, progress).await;
        if let Err(error @ (FetchError::NotFound(_) | FetchError::Refused { .. })) = &found {
            self.inner.probed.insert(path, error.clone()).await;
        }
        found
    }

    /// A list or `@latest`, at most a minute old.
    pub(super) async fn brief(&self, path: &str) -> Result<Answer, FetchError> {
        if let Some(answer) = self.inner.brief.get(path).await {
            let from = "cache".into();
            return Ok(Answer { from, ..answer });
        }
        let (body, from) = self.inner.client.get_from(path, LIST_LIMIT).await?;
        let answer = Answer { body, from: from.into() };
        self.inner.brief.insert(path.to_owned(), answer.clone()).await;
        Ok(answer)
    }

    /// What the checksum database `name` says, if it is the one that files are checked against.
    pub(super) async fn database_answer(&self, name: &str, rest: &str) -> Result<Answer, FetchError> {
        match &self.inner.verify {
            Some(verify) if verify.name() == name => {
                Ok(Answer { body: verify.answer(rest).await?, from: format!("checksum database {name}").into() })
            }
            _ => Err(FetchError::NotFound(format!("checksum database {name} is not in use here"))),
        }
    }
}

impl Inner {
    /// Fetches, checks and keeps a file.
    async fn fetch(
        &self,
        file: &VersionFile,
        progress: &(dyn Fn(u64, Option<u64>) + Send + Sync),
    ) -> Result<Found, FetchError> {
        let path = file.path();
        // It may have landed between the caller's look and its boarding.
        if let Some(kept) = self.files.find(&path).await.map_err(ours)? {
            return Ok(Found { kept, from: "cache".into() });
        }
        // Removed when dropped: whatever goes wrong or is called off leaves nothing.
        let new = tempfile::NamedTempFile::new_in(self.files.staging())
            .context("cannot make a file in the module cache")
            .map_err(ours)?;
        let handle = new.reopen().context("cannot open a file in the module cache").map_err(ours)?;
        let mut handle = tokio::fs::File::from_std(handle);
        let (_, from) = self.client.download_from(&path, file.kind.limit(), &mut handle, progress).await?;
        drop(handle);
        match file.kind {
            FileKind::Info => check_info(file, new.path()).await?,
            FileKind::Mod | FileKind::Zip => {
                if let Some(verify) = &self.verify {
                    let checked = verify.check(file, new.path()).await;
                    if let Err(FetchError::Security(detail)) = &checked {
                        tracing::error!(path, from, detail, "module file refused");
                    }
                    checked?;
                }
            }
        }
        let kept = self.files.keep(&path, new).await.map_err(ours)?;
        Ok(Found { kept, from: from.into() })
    }
}

/// An answer that is no info of that version is a proxy's garbage: it is not kept, and may be better next time.
async fn check_info(file: &VersionFile, content: &Path) -> Result<(), FetchError> {
    let body = tokio::fs::read(content).await.map_err(|error| ours(error.into()))?;
    let info = super::versions::parse_info(&body);
    match info {
        Ok(info) if info.version == file.version => Ok(()),
        Ok(info) => Err(FetchError::Temporary(format!(
            "{}: the proxy answers with version {} instead",
            file.path(),
            info.version
        ))),
        Err(error) => Err(FetchError::Temporary(format!("{}: {error}", file.path()))),
    }
}

/// All bytes of a kept file that is known to be small.
pub(super) async fn read_whole(kept: Kept) -> Result<Bytes, FetchError> {
    files::blocking(move || {
        use std::os::unix::fs::FileExt as _;
        let mut body = vec![0; usize::try_from(kept.size)?];
        kept.file.read_exact_at(&mut body, 0)?;
        Ok(body.into())
    })
    .await
    .map_err(ours)
}

/// Our own trouble (disk, store) is as temporary to a build as a network's.
fn ours(error: anyhow::Error) -> FetchError {
    FetchError::Temporary(format!("module cache: {error:#}"))
}
