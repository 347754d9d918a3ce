//! Building new versions of watched modules as they appear in a module index.
//!
//! ```text
//! index, page by page ─▶ versions of watched modules, kept with the cursor ─▶ their programs ─▶ rows of `due`
//! ```
//!
//! What is built of a new version: what this node has of earlier ones, for the same targets and variants, with the newest
//! Go; of a module that it has nothing of, all its commands for this machine. Pseudo-versions are passed over: anyone
//! makes them by asking for a commit.
//!
//! Whatever is wrong with the index is told, and tried again after a pause; nothing else stops.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::feed::Feed;
use super::index::{Cursor, News, PAGE, Page};
use crate::builder::Priority;
use crate::builder::toolchain::Toolchains;
use crate::goproxy::{self, ModuleCache};
use crate::model::{Dir, ModulePath, Spec, Target, Variant, Version};
use crate::store::{Errand, FreshVersion, Store};
use crate::tally::Tally;

/// Between two looks at an index that had no more.
const POLL: Duration = Duration::from_secs(60);
/// Between two pages of a backlog. A year of the public index takes some hours so.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause after an index did not answer; it doubles from [`POLL`].
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// New versions that are looked at between two pages.
const VERSIONS: usize = 8;
/// Specs of a module that are looked at, and programs that are built of one version.
const SPECS: usize = 1000;
const PROGRAMS: usize = 200;
/// How often a version is looked at before it is given up: it takes two days to get there.
const TRIES: u32 = 16;

/// Watches some modules.
pub struct Watcher {
    /// Where everything is.
    pub store: Store,
    /// To whom builds are given.
    pub tally: Tally,
    /// The index.
    pub feed: Feed,
    /// Whose new versions are built.
    pub modules: Vec<ModulePath>,
    /// Zips of modules, to find their commands.
    pub cache: ModuleCache,
    /// Which Go is the newest.
    pub toolchains: Toolchains,
}

impl Watcher {
    /// Watches until it is stopped.
    ///
    /// # Errors
    /// The store failed: the node must stop.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        // Told once and not with every page.
        let mut told = Vec::new();
        let mut failures = 0;
        loop {
            let step = async {
                let news = self.read().await?;
                self.build_fresh().await?;
                anyhow::Ok(news)
            };
            let news = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                news = step => news?,
            };
            let (now_told, pause) = match news {
                Ok(News { told, more, .. }) => {
                    failures = 0;
                    (told, if more { PAUSE } else { POLL })
                }
                Err(sentence) => {
                    failures += 1;
                    (vec![sentence], POLL.saturating_mul(1 << (failures - 1).min(6)).min(LONGEST_PAUSE))
                }
            };
            for sentence in now_told.iter().filter(|sentence| !told.contains(*sentence)) {
                warn!("the module index: {sentence}");
            }
            told = now_told;
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Reads the next page; a sentence if the index has none for now.
    async fn read(&self) -> anyhow::Result<Result<News, String>> {
        let (url, now) = (self.feed.url().to_owned(), Timestamp::now());
        let asked = url.clone();
        let known = self.store.read(move |reader| reader.feed(&asked)).await?;
        // What was there before this node watched is not new.
        let mut cursor = match known {
            Some((since, seen)) => {
                Cursor::from_texts(&since, &seen).context("the stored place in the feed is no time")?
            }
            None => {
                let cursor = Cursor::at(now);
                let (url, (since, seen)) = (url.clone(), cursor.to_texts());
                self.store.write(move |tx| tx.put_feed(&url, &since, &seen)).await?;
                cursor
            }
        };
        let body = match self.feed.page(cursor.since).await {
            Ok(body) => body,
            Err(error) => return Ok(Err(format!("{error:#}"))),
        };
        let mut news = cursor.advance(Page::parse(&body), PAGE, now);
        let fresh: Vec<(String, String)> = news
            .rows
            .drain(..)
            .filter(|row| self.modules.iter().any(|module| module.as_str() == row.path))
            .filter(|row| row.version.parse::<Version>().is_ok_and(|version| !version.is_pseudo()))
            .map(|row| (row.path, row.version))
            .collect();
        let (since, seen) = cursor.to_texts();
        let behind = now.duration_since(cursor.since).as_secs() / (24 * 60 * 60);
        if news.more && behind > 0 {
            news.told.push(format!("it is read from {behind} days ago on, page by page"));
        }
        let kept = self.store.write(move |tx| {
            tx.put_feed(&url, &since, &seen)?;
            let mut kept = true;
            for (module, version) in fresh {
                kept &= tx.put_fresh_version(&module, &version)?;
            }
            Ok(kept)
        });
        if !kept.await? {
            news.told.push("it has more new versions than this node can look at; some are passed over".to_owned());
        }
        Ok(Ok(news))
    }

    /// Has the programs of new versions built.
    async fn build_fresh(&self) -> anyhow::Result<()> {
        let now = Timestamp::now().as_second();
        for fresh in self.store.read(move |reader| reader.fresh_versions(now, VERSIONS)).await? {
            let (module, version) = (fresh.module.parse::<ModulePath>(), fresh.version.parse::<Version>());
            let found = match (module, version) {
                (Ok(module), Ok(version)) if self.modules.contains(&module) => self.programs(&module, &version).await,
                // Not watched any more.
                _ => Ok(Vec::new()),
            };
            match found {
                Ok(programs) => self.ask(fresh, programs).await?,
                Err(error) => self.put_off(fresh, now, &error).await?,
            }
        }
        Ok(())
    }

    /// What is built of a version.
    async fn programs(&self, module: &ModulePath, version: &Version) -> anyhow::Result<Vec<Spec>> {
        let own = self.tally.voters().iter().find(|voter| voter.own).map(|own| own.vkey.clone()).unwrap_or_default();
        let asked = module.clone();
        let built = self.store.read(move |reader| reader.built_of(&asked, &own, SPECS)).await?;
        let built: Vec<Spec> = built.iter().filter_map(|spec| spec.parse().ok()).collect();
        let goversion = self.toolchains.latest().await?;
        let like = |spec: &Spec| (spec.dir.clone(), spec.target, spec.variant);
        let mut programs: BTreeSet<(Dir, Target, Variant)> =
            built.iter().filter(|spec| spec.version < *version).map(like).collect();
        if programs.is_empty() {
            // A version of an older line may appear after those of a newer one.
            programs.extend(built.iter().map(like));
        }
        if programs.is_empty() {
            let (file, size) = self.cache.zip(module, version).await?;
            let (of, at) = (module.clone(), version.clone());
            let find = move || goproxy::commands(&file, size, &of, &at);
            let dirs = tokio::task::spawn_blocking(find).await.context("reading a zip panicked")??;
            programs.extend(dirs.into_iter().map(|dir| (dir, Target::host(), Variant::Plain)));
        }
        let spec =
            |(dir, target, variant)| Spec::new(module.clone(), version.clone(), dir, target, goversion, variant).ok();
        Ok(programs.into_iter().filter_map(spec).take(PROGRAMS).collect())
    }

    async fn ask(&self, fresh: FreshVersion, programs: Vec<Spec>) -> anyhow::Result<()> {
        info!(module = fresh.module, version = fresh.version, programs = programs.len(), "a new version");
        let own = self.tally.voters().iter().find(|voter| voter.own).map(|own| own.vkey.clone()).unwrap_or_default();
        let due = self.store.write(move |tx| {
            let mut due = Vec::new();
            for spec in programs {
                let id = tx.make_spec_id(&spec)?;
                if tx.word(id, &own)?.is_none() {
                    tx.put_due(id, Errand::Watch)?;
                    due.push(spec);
                }
            }
            tx.remove_fresh_version(&fresh)?;
            Ok(due)
        });
        for spec in due.await? {
            // A full queue loses nothing: it stays due.
            let _ = self.tally.submit(&spec, Priority::Watch);
        }
        Ok(())
    }

    async fn put_off(&self, fresh: FreshVersion, now: i64, error: &anyhow::Error) -> anyhow::Result<()> {
        let FreshVersion { module, version, tries } = &fresh;
        let why = anyhow!("{error:#}").to_string();
        if *tries + 1 >= TRIES {
            warn!(module, version, why, "a new version is given up: what to build of it could not be found out");
            return self.store.write(move |tx| tx.remove_fresh_version(&fresh)).await;
        }
        info!(module, version, why, "a new version cannot be looked at yet");
        let pause = 60_i64.saturating_mul(1 << (*tries).min(9)).min(6 * 3600);
        self.store.write(move |tx| tx.put_off_version(&fresh, now + pause)).await
    }
}
