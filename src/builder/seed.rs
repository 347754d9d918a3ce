//! The standard library, compiled once per toolchain and target, and lent to every build.
//!
//! Compiling it anew takes most of a small build's time. A seed is the build cache that
//! `go build std` leaves in a home of its own, made by a checked toolchain from nothing but its own
//! sources, without network, and read-only ever after. What a build adds to its cache stays in its
//! home: nothing that a module's author wrote gets into a seed.
//!
//! Sums do not depend on seeds: without one the same files are compiled, only later.
//!
//! Out of scope: how a seed is lent ([`super::home`]).

use std::collections::HashMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::{Context as _, bail};
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::home::{Home, Homes, prefixes, remove};
use super::run::{environment, go_arguments};
use super::sandbox::{Ended, Job, Limits, Sandbox};
use crate::model::{GoVersion, Target, Variant};

/// Seeds kept. One takes about 200 MB.
const KEPT: usize = 24;

/// All seeds of a node. Cloning gives another handle.
#[derive(Clone)]
pub struct Seeds {
    folder: PathBuf,
    homes: Homes,
    sandbox: Sandbox,
    limits: Limits,
    slots: Arc<Mutex<HashMap<Key, Arc<Slot>>>>,
}

type Key = (GoVersion, Target);

/// One seed, made by the first that asks; others wait for it. None if the toolchain cannot make it.
type Slot = OnceCell<Option<PathBuf>>;

/// The right to use a seed: it is not removed while one exists.
pub struct Lease {
    slot: Arc<Slot>,
}

impl Lease {
    /// The seed's folder; none where the standard library does not compile for the target: a build
    /// then says so itself.
    pub fn path(&self) -> Option<&Path> {
        self.slot.get()?.as_deref()
    }
}

impl Seeds {
    /// Keeps seeds in `folder`.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(folder: PathBuf, homes: Homes, sandbox: Sandbox, limits: Limits) -> anyhow::Result<Seeds> {
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let folder = fs::canonicalize(&folder).with_context(|| format!("cannot find {}", folder.display()))?;
        Ok(Seeds { folder, homes, sandbox, limits, slots: Arc::default() })
    }

    /// Whether a seed is there already.
    pub fn has(&self, goversion: &GoVersion, target: Target) -> bool {
        self.place(goversion, target).is_dir()
    }

    /// The seed of a toolchain (its folder is `toolchain`) for a target, made if it is missing.
    ///
    /// # Errors
    /// Trouble of the moment: disk, time, memory, a stopping node.
    pub async fn lend(
        &self,
        toolchain: &Path,
        goversion: &GoVersion,
        target: Target,
        stop: &CancellationToken,
        said: impl FnMut(&[u8]),
    ) -> anyhow::Result<Lease> {
        let slot = Arc::clone(self.slots().entry((*goversion, target)).or_default());
        slot.get_or_try_init(|| self.find_or_make(toolchain, goversion, target, stop, said)).await?;
        let lease = Lease { slot };
        if let Some(path) = lease.path() {
            // Its own time says when a seed was last used.
            let used = File::open(path).and_then(|folder| folder.set_modified(SystemTime::now()));
            used.context("cannot touch a seed")?;
        }
        Ok(lease)
    }

    async fn find_or_make(
        &self,
        toolchain: &Path,
        goversion: &GoVersion,
        target: Target,
        stop: &CancellationToken,
        mut said: impl FnMut(&[u8]),
    ) -> anyhow::Result<Option<PathBuf>> {
        let place = self.place(goversion, target);
        if place.is_dir() {
            return Ok(Some(place));
        }
        let begin = std::time::Instant::now();
        let home = self.homes.make()?;
        let rooms = home.rooms(toolchain, None, None);
        let mut env = environment(goversion, target, &self.sandbox.inside(&rooms), None);
        env.push(("GOPROXY".to_owned(), "off".to_owned()));
        let mut args = go_arguments("build", Variant::Plain);
        args.push("std".to_owned());
        let job = Job { rooms, args, env };
        let mut words = Vec::new();
        let ended = self.sandbox.run(&job, &self.limits, stop, |bytes| {
            words.extend_from_slice(&bytes[..bytes.len().min(4096 - words.len().min(4096))]);
            said(bytes);
        });
        match ended.await? {
            Ended::Exited(0) => {}
            Ended::Exited(status) => {
                let words = String::from_utf8_lossy(&words);
                warn!(%goversion, %target, status, words = words.trim(), "no seed: the standard library does not compile");
                return Ok(None);
            }
            ended => {
                bail!("compiling the standard library for {target} did not end well: {ended:?}")
            }
        }
        let kept = place.clone();
        spawn_blocking(move || keep(home, &kept)).await.context("keeping a seed panicked")??;
        info!(%goversion, %target, seconds = begin.elapsed().as_secs(), "standard library compiled");
        self.evict();
        Ok(Some(place))
    }

    /// Removes what was not used for longest and is not lent, until few enough are left.
    fn evict(&self) {
        let mut all = self.on_disk();
        all.sort_by_key(|(_, used)| *used);
        let mut left = all.len();
        for (path, _) in all {
            if left <= KEPT {
                return;
            }
            // Held while renaming: nobody can begin to use what goes away.
            let mut slots = self.slots();
            let lent = |slot: &Arc<Slot>| slot.get().is_some_and(|seed| seed.as_deref() == Some(&path));
            if slots.values().any(|slot| lent(slot) && Arc::strong_count(slot) > 1) {
                continue;
            }
            slots.retain(|_, slot| !lent(slot));
            let Ok(trash) = tempfile::tempdir_in(self.homes.folder()) else {
                return;
            };
            if fs::rename(&path, trash.path().join("seed")).is_ok() {
                left -= 1;
            }
            drop(slots);
            // Its folders are read-only, which its own drop could not undo.
            let trash = trash.keep();
            if let Err(error) = remove(&trash) {
                warn!(path = %trash.display(), %error, "old seed left behind");
            }
        }
    }

    /// All seeds with the time of their last use.
    fn on_disk(&self) -> Vec<(PathBuf, SystemTime)> {
        let list = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        list(&self.folder)
            .flat_map(|version| list(&version).collect::<Vec<_>>())
            .filter_map(|seed| Some((seed.clone(), fs::metadata(&seed).ok()?.modified().ok()?)))
            .collect()
    }

    fn place(&self, goversion: &GoVersion, target: Target) -> PathBuf {
        let name = format!("{}-{}", target.goos(), target.goarch());
        self.folder.join(goversion.to_string()).join(name)
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the build cache of a home read-only and moves it to its place, whole or not at all.
fn keep(home: Home, place: &Path) -> anyhow::Result<()> {
    let cache = home.cache();
    for prefix in prefixes() {
        let folder = cache.join(prefix);
        for entry in fs::read_dir(&folder).context("cannot read a new seed")? {
            let path = entry.context("cannot read a new seed")?.path();
            fs::set_permissions(&path, Permissions::from_mode(0o444)).context("cannot protect a seed")?;
        }
        fs::set_permissions(&folder, Permissions::from_mode(0o555)).context("cannot protect a seed")?;
    }
    // A seed whose name survives a power cut must have its bytes too: there is no second look at it.
    let file = File::open(&cache).context("cannot sync a new seed")?;
    rustix::fs::syncfs(&file).context("cannot sync a new seed")?;
    let parent = place.parent().context("a seed has a folder")?;
    fs::create_dir_all(parent).context("cannot make a folder for seeds")?;
    fs::rename(&cache, place).with_context(|| format!("cannot keep a seed as {}", place.display()))?;
    drop(home);
    Ok(())
}
