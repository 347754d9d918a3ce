//! From `latest` and bare module paths to exact values, by what the module proxies say.
//!
//! Answers are kept for a while, and those who wait for one thing wait for one fetch. Out of scope:
//! what a build uses ([`crate::builder`] fetches and checks for itself); what is found here only
//! names things.

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use tokio::sync::Semaphore;

use super::commands;
use super::error::Error;
use crate::goproxy::{Client, FetchError, ModuleCache};
use crate::model::{
    Dir, GoVersion, GoVersionQuery, ModulePath, Spec, SpecQuery, Target, Version, VersionQuery,
};

/// How long a list of versions is believed: someone who just tagged a release should see it soon.
const VERSIONS_FOR: Duration = Duration::from_secs(60);
/// The same for Go releases, which come once a month.
const GO_FOR: Duration = Duration::from_secs(600);
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
    host: Target,
    latest: Cache<ModulePath, Version>,
    versions: Cache<ModulePath, Arc<[Version]>>,
    exact: Cache<(ModulePath, Version), Version>,
    go: Cache<(), Arc<[GoVersion]>>,
    commands: Cache<(ModulePath, Version), Arc<[Dir]>>,
    zips: Semaphore,
}

impl Resolver {
    pub(super) fn new(proxy: Client, modules: ModuleCache, host: Target) -> Resolver {
        Resolver {
            proxy,
            modules,
            host,
            latest: Cache::builder().max_capacity(MODULES).time_to_live(VERSIONS_FOR).build(),
            versions: Cache::builder().max_capacity(MODULES).time_to_live(VERSIONS_FOR).build(),
            exact: Cache::builder().max_capacity(MODULES).build(),
            go: Cache::builder().max_capacity(1).time_to_live(GO_FOR).build(),
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
        let minor = match query {
            GoVersionQuery::Exact(version) => return Ok(*version),
            GoVersionQuery::Latest => None,
            GoVersionQuery::LatestOf(minor) => Some(*minor),
        };
        let known = patiently(LONG_PATIENCE, self.fetch_go()).await?;
        let mut releases = known.iter().filter(|version| version.is_release());
        let found = releases.find(|version| minor.is_none_or(|minor| version.minor() == minor));
        found.copied().ok_or_else(|| Error::NotFound(format!("there is no release of Go that {query} could mean")))
    }

    /// The Go versions that this node can get, newest first; none if they cannot be had quickly.
    pub(super) async fn go_versions(&self) -> Arc<[GoVersion]> {
        patiently(PATIENCE, self.fetch_go()).await.unwrap_or_default()
    }

    async fn fetch_go(&self) -> Shared<Arc<[GoVersion]>> {
        self.go
            .try_get_with((), async {
                let toolchains = "golang.org/toolchain".parse().expect("a module path");
                let listed = self.proxy.versions(&toolchains).await?;
                let mut versions: Vec<GoVersion> =
                    listed.iter().filter_map(|version| goversion(version, self.host)).collect();
                versions.sort_unstable_by(|a, b| b.cmp(a));
                Ok(versions.into())
            })
            .await
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
            let find = move || commands::find(&file, size, &module, &version);
            let found = tokio::task::spawn_blocking(find).await;
            let found = found.map_err(|_| FetchError::Temporary("reading a zip panicked".to_owned()))?;
            // Checked against the checksum database, so what is odd about it will stay so.
            found.map(Arc::from).map_err(|error| FetchError::NotFound(format!("{error:#}")))
        });
        patiently(LONG_PATIENCE, fetch).await
    }
}

/// `v0.0.1-go1.27.1.linux-amd64`: the Go version, if it is for this target.
fn goversion(version: &Version, host: Target) -> Option<GoVersion> {
    let rest = version.as_str().strip_prefix("v0.0.1-")?;
    let version = rest.strip_suffix(&format!(".{}-{}", host.goos(), host.goarch()))?;
    version.parse().ok()
}

async fn patiently<T>(wait: Duration, fetch: impl Future<Output = Shared<T>>) -> Result<T, Error> {
    match tokio::time::timeout(wait, fetch).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(FetchError::clone(&error).into()),
        Err(_) => Err(Error::Unavailable {
            message: "the module proxy does not answer in time".to_owned(),
            retry_after: 30,
        }),
    }
}
