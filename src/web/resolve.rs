//! From `latest` and bare module paths to exact values, by what the module proxies say.
//!
//! Answers are kept for a while, and those who wait for one thing wait for one fetch. Out of scope:
//! what a build uses ([`crate::builder`] fetches and checks for itself); what is found here only
//! names things.

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use tokio::sync::Semaphore;

use super::error::Error;
use crate::builder::toolchain::Toolchains;
use crate::goproxy::{self, Client, FetchError, ModuleCache};
use crate::model::{Dir, GoVersion, GoVersionQuery, ModulePath, Spec, SpecQuery, Version, VersionQuery};

/// How long a list of versions is believed: someone who just tagged a release should see it soon.
const VERSIONS_FOR: Duration = Duration::from_secs(60);
/// How long a page waits for what it can do without.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a page waits for what it is about.
const LONG_PATIENCE: Duration = Duration::from_secs(60);
/// Zips read at once: each is fetched whole.
const ZIPS: usize = 4;
/// Modules whose answers are remembered.
const MODULES: u64 = 1000;

type Shared<T> = Result<T, Arc<FetchError>>;

pub(super) struct Resolver {
    proxy: Client,
    modules: ModuleCache,
    toolchains: Toolchains,
    latest: Cache<ModulePath, Version>,
    versions: Cache<ModulePath, Arc<[Version]>>,
    exact: Cache<(ModulePath, Version), Version>,
    commands: Cache<(ModulePath, Version), Arc<[Dir]>>,
    zips: Semaphore,
}

impl Resolver {
    pub(super) fn new(proxy: Client, modules: ModuleCache, toolchains: Toolchains) -> Resolver {
        Resolver {
            proxy,
            modules,
            toolchains,
            latest: Cache::builder().max_capacity(MODULES).time_to_live(VERSIONS_FOR).build(),
            versions: Cache::builder().max_capacity(MODULES).time_to_live(VERSIONS_FOR).build(),
            exact: Cache::builder().max_capacity(MODULES).build(),
            commands: Cache::builder().max_capacity(MODULES).build(),
            zips: Semaphore::new(ZIPS),
        }
    }

    /// The spec that a query means now.
    pub(super) async fn spec(&self, query: &SpecQuery) -> Result<Spec, Error> {
        let version = match &query.version {
            VersionQuery::Exact(version) => version.clone(),
            VersionQuery::Latest => self.latest(&query.module).await?,
        };
        let goversion = self.go(&query.goversion).await?;
        query.resolve(version, goversion).map_err(|error| Error::Malformed(error.to_string()))
    }

    /// The newest version of a module, as the go command chooses it.
    pub(super) async fn latest(&self, module: &ModulePath) -> Result<Version, Error> {
        let fetch = self.latest.try_get_with_by_ref(module, self.proxy.latest(module));
        patiently(LONG_PATIENCE, fetch).await
    }

    /// The versions of a module, newest first; none if they cannot be had quickly.
    pub(super) async fn versions(&self, module: &ModulePath) -> Arc<[Version]> {
        let fetch = self.versions.try_get_with_by_ref(module, async {
            let mut versions = self.proxy.versions(module).await?;
            versions.reverse();
            Ok::<Arc<[_]>, FetchError>(versions.into())
        });
        patiently(PATIENCE, fetch).await.unwrap_or_default()
    }

    /// The Go version that a query means now.
    pub(super) async fn go(&self, query: &GoVersionQuery) -> Result<GoVersion, Error> {
        let found = async {
            match query {
                GoVersionQuery::Exact(version) => Ok(*version),
                GoVersionQuery::Latest => self.toolchains.latest().await,
                GoVersionQuery::LatestOf(minor) => self.toolchains.latest_of(*minor).await,
            }
        };
        Ok(in_time(LONG_PATIENCE, found).await??)
    }

    /// The Go versions that this node can get, newest first; none if they cannot be had quickly.
    pub(super) async fn go_versions(&self) -> Vec<GoVersion> {
        let listed = in_time(PATIENCE, self.toolchains.available()).await;
        let mut listed = listed.and_then(|listed| Ok(listed?)).unwrap_or_default();
        listed.reverse();
        listed
    }

    /// This version, if the module proxy has it.
    pub(super) async fn exists(&self, module: &ModulePath, version: Version) -> Result<Version, Error> {
        let key = (module.clone(), version);
        let fetch = self.exact.try_get_with_by_ref(&key, async { Ok(self.proxy.info(module, &key.1).await?.version) });
        patiently(LONG_PATIENCE, fetch).await
    }

    /// Whether [`Resolver::commands`] answers without fetching anything.
    pub(super) fn knows_commands(&self, module: &ModulePath, version: &Version) -> bool {
        self.commands.contains_key(&(module.clone(), version.clone()))
    }

    /// The folders of a module that hold commands.
    pub(super) async fn commands(&self, module: &ModulePath, version: &Version) -> Result<Arc<[Dir]>, Error> {
        let fetch = self.commands.try_get_with((module.clone(), version.clone()), async {
            let _place = self.zips.acquire().await.expect("the semaphore is never closed");
            let (file, size) = self.modules.zip(module, version).await?;
            let (module, version) = (module.clone(), version.clone());
            let find = move || goproxy::commands(&file, size, &module, &version);
            let found = tokio::task::spawn_blocking(find).await;
            let found = found.map_err(|_| FetchError::Temporary("reading a zip panicked".to_owned()))?;
            // Checked against the checksum database, so what is odd about it will stay so.
            found.map(Arc::from).map_err(|error| FetchError::NotFound(format!("{error:#}")))
        });
        patiently(LONG_PATIENCE, fetch).await
    }
}

async fn patiently<T>(wait: Duration, fetch: impl Future<Output = Shared<T>>) -> Result<T, Error> {
    in_time(wait, fetch).await?.map_err(|error| FetchError::clone(&error).into())
}

async fn in_time<T>(wait: Duration, fetch: impl Future<Output = T>) -> Result<T, Error> {
    tokio::time::timeout(wait, fetch).await.map_err(|_| Error::Unavailable {
        message: "the module proxy does not answer in time".to_owned(),
        retry_after: 30,
    })
}
