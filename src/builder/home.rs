//! A fresh home for each run of a go command: nothing of an earlier build in it.
//!
//! ```text
//! <homes>/<id>/            the working folder, $HOME
//!   cache/ab/…-a, …-d      $GOCACHE: symbolic links into the seed, and what this build adds
//!   mod/                   $GOMODCACHE
//!   go/bin/…               $GOPATH: the finished program
//!   tmp/                   temporary files
//!   .config/go/telemetry/  says that the go command counts nothing
//! <homes>/<id>.sock        the module proxy of this build
//! <homes>/links/           the links that all homes share
//! ```
//!
//! Symbolic links, not hard ones: through a hard link a build could change the seed's file.
//!
//! Thousands of links take a moment, so after a build the next home like it is made ahead, while nobody waits. No build
//! has seen it before its own.
//!
//! Out of scope: what is in a seed ([`super::seed`]).

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::sandbox::Rooms;

/// The folder beside the homes with the links that they share. No home is called so: their names have six letters.
const LINKS: &str = "links";

/// Homes made ahead at most: most builds in a row are for one or two targets.
const AHEAD: usize = 2;

/// Where homes are made.
#[derive(Clone, Debug)]
pub struct Homes {
    folder: PathBuf,
    /// The node is stopping: what is left is removed at the next start.
    stop: CancellationToken,
    /// Made ahead, the newest last.
    ahead: Arc<Mutex<Vec<Home>>>,
}

impl Homes {
    /// Takes over `folder` and removes what an earlier process left there.
    ///
    /// # Errors
    /// When the folder cannot be made or emptied.
    pub fn open(folder: PathBuf, stop: CancellationToken) -> anyhow::Result<Homes> {
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        for old in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let old = old?.path();
            // The links are good for ever: what one is called and where it leads are the same thing.
            if !old.ends_with(LINKS) {
                let removed = if old.is_dir() { remove(&old) } else { fs::remove_file(&old) };
                removed.with_context(|| format!("cannot remove the old home {}", old.display()))?;
            }
        }
        // Absolute, because it is bound into sandboxes and linked to.
        let folder = fs::canonicalize(&folder).with_context(|| format!("cannot find {}", folder.display()))?;
        Ok(Homes { folder, stop, ahead: Arc::default() })
    }

    /// Makes an empty home with an empty build cache.
    ///
    /// # Errors
    /// When the disk is full or gone.
    pub fn make(&self) -> anyhow::Result<Home> {
        let root = tempfile::Builder::new()
            .prefix("")
            .tempdir_in(&self.folder)
            .context("cannot make a home for a build")?
            .keep();
        let home = Home { root, seed: None, stop: self.stop.clone() };
        for folder in ["cache", "mod", "go", "tmp"] {
            fs::create_dir(home.root.join(folder)).context("cannot make a home for a build")?;
        }
        for prefix in prefixes() {
            fs::create_dir(home.cache().join(prefix)).context("cannot make a home for a build")?;
        }
        home.mark_trimmed()?;
        // Else the go command starts a process that leaves its group, to count what it was used for.
        let telemetry = home.root.join(".config/go/telemetry");
        fs::create_dir_all(&telemetry).context("cannot make a home for a build")?;
        fs::write(telemetry.join("mode"), "off").context("cannot write to a home")?;
        Ok(home)
    }

    /// A home with links to a seed, made now if there is none made ahead; see [`Home::lend`].
    ///
    /// # Errors
    /// When the seed cannot be read or the disk is full.
    pub fn with_seed(&self, seed: &Path, inside: &Path) -> anyhow::Result<Home> {
        let wanted = Seed::at(seed, inside);
        let mut ahead = self.ahead();
        let place = ahead.iter().position(|home| home.seed.is_some() && home.seed == wanted);
        if let Some(home) = place.map(|place| ahead.remove(place)) {
            drop(ahead);
            home.mark_trimmed()?;
            return Ok(home);
        }
        drop(ahead);
        let mut home = self.make()?;
        home.lend(seed, inside)?;
        Ok(home)
    }

    /// Makes the next home like a used one, ahead of who needs it. The used one is removed.
    pub fn replace(&self, used: Home) {
        if let Some(seed) = used.seed.clone().filter(|_| !self.stop.is_cancelled()) {
            match self.with_seed(&seed.path, &seed.inside) {
                Ok(home) => {
                    let mut ahead = self.ahead();
                    ahead.push(home);
                    let oldest = (ahead.len() > AHEAD).then(|| ahead.remove(0));
                    drop(ahead);
                    drop(oldest);
                }
                Err(error) => warn!("no home is made ahead: {error:#}"),
            }
        }
        drop(used);
    }

    fn ahead(&self) -> MutexGuard<'_, Vec<Home>> {
        // A list of finished homes: a panic elsewhere cannot leave it half changed.
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A folder on the same file system for other short-lived files, emptied at start like homes.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// One home; dropping it removes it, unless the node is stopping: that must not wait for a slow disk.
#[derive(Debug)]
pub struct Home {
    root: PathBuf,
    /// Whose links are in the build cache.
    seed: Option<Seed>,
    stop: CancellationToken,
}

/// A seed as it was when links to it were made.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seed {
    path: PathBuf,
    inside: PathBuf,
    /// Tells one seed from another that was made in its place later: links to entries that are gone would be written
    /// through.
    folder: (u64, SystemTime),
}

impl Seed {
    /// None where the file system does not tell when a folder was made.
    fn at(path: &Path, inside: &Path) -> Option<Seed> {
        let folder = fs::metadata(path).ok()?;
        let folder = (folder.ino(), folder.created().ok()?);
        Some(Seed { path: path.to_owned(), inside: inside.to_owned(), folder })
    }
}

impl Home {
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The build cache.
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// Where the socket of this build's module proxy belongs: beside the home, not in it, so that a
    /// build cannot put another in its place.
    pub fn socket(&self) -> PathBuf {
        self.root.with_extension("sock")
    }

    /// When the go command last removed old entries: now, so that it does not look at all of them, and does not take
    /// links to an old seed for entries nobody uses.
    fn mark_trimmed(&self) -> anyhow::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        fs::write(self.cache().join("trim.txt"), now.to_string()).context("cannot write to a home")
    }

    /// Fills the build cache with links to the entries of a seed: `seed` is its folder as the host
    /// names it, `inside` as the go command will.
    ///
    /// Every home has the same links, so each is made once, in a folder beside the homes, and a home gets one more name
    /// of it. Making and removing thousands of links for every build takes ext4 seconds after a few builds: it looks at
    /// every inode that was removed lately (`recently_deleted` in the kernel). A build can remove its name of
    /// a link, but change no link.
    ///
    /// # Errors
    /// When the seed cannot be read or the disk is full.
    pub fn lend(&mut self, seed: &Path, inside: &Path) -> anyhow::Result<()> {
        let cache = self.cache();
        let name: String = inside.to_string_lossy().replace('/', "+");
        let links = self.root.with_file_name(LINKS).join(name);
        for prefix in prefixes() {
            let (from, to) = (seed.join(&prefix), cache.join(&prefix));
            let (target, links) = (inside.join(&prefix), links.join(&prefix));
            fs::create_dir_all(&links).context("cannot make a folder for links")?;
            for entry in fs::read_dir(&from).with_context(|| format!("cannot read seed {}", from.display()))? {
                let name = entry.context("cannot read a seed")?.file_name();
                link(&target.join(&name), &links.join(&name), &to.join(&name)).context("cannot link to a seed")?;
            }
        }
        self.seed = Seed::at(seed, inside);
        Ok(())
    }

    /// The rooms of a run in this home.
    pub fn rooms(&self, toolchain: &Path, seed: Option<&Path>, socket: Option<&Path>) -> Rooms {
        Rooms {
            toolchain: toolchain.to_owned(),
            seed: seed.map(Path::to_owned),
            home: self.root.clone(),
            socket: socket.map(Path::to_owned),
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.socket());
        let removed = empty(&self.root, &|| self.stop.is_cancelled());
        if self.stop.is_cancelled() {
            return;
        }
        if let Err(error) = removed.and_then(|()| remove(&self.root)) {
            // Removed at the next start.
            warn!(path = %self.root.display(), error = %error, "home left behind");
        }
    }
}

/// Makes `to` a name of the symbolic link at `kept`, which leads to `target` and is made if it is not there yet.
fn link(target: &Path, kept: &Path, to: &Path) -> io::Result<()> {
    let missing = match fs::hard_link(kept, to) {
        Ok(()) => return Ok(()),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    if missing {
        match symlink(target, kept) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            // Another home may have been faster.
            _ => {}
        }
        if fs::hard_link(kept, to).is_ok() {
            return Ok(());
        }
    }
    // A file system without second names, or with no more of them: a link of its own does as well.
    symlink(target, to)
}

/// The 256 folders of a build cache.
pub(super) fn prefixes() -> impl Iterator<Item = String> {
    (0..=u8::MAX).map(|byte| format!("{byte:02x}"))
}

/// Removes what is in a folder, until told to stop. Follows no links. What it may not remove it leaves.
fn empty(folder: &Path, stop: &impl Fn() -> bool) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        if stop() {
            return Ok(());
        }
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
            empty(&path, stop)?;
            // Not empty if told to stop within.
            let _ = fs::remove_dir(&path);
        } else {
            let _ = fs::remove_file(&path);
        }
    }
    Ok(())
}

/// Removes a folder, whatever the modes in it: the go command makes its module cache read-only.
///
/// # Errors
/// When something in it cannot be removed.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    // As root, and in most homes, this is all.
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        result => return result,
    }
    unlock(folder)?;
    fs::remove_dir_all(folder)
}

/// Makes a folder and all below it writable. Follows no links.
fn unlock(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            unlock(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_are_fresh_and_leave_nothing() {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().join("homes");
        let homes = Homes::open(folder.clone(), CancellationToken::new()).unwrap();
        let seed = data.path().join("seed");
        for prefix in prefixes() {
            fs::create_dir_all(seed.join(&prefix)).unwrap();
            fs::write(seed.join(&prefix).join("entry-d"), &prefix).unwrap();
        }
        let mut home = homes.make().unwrap();
        home.lend(&seed, &seed).unwrap();
        assert_eq!(fs::read_to_string(home.cache().join("7f/entry-d")).unwrap(), "7f");
        assert!(home.cache().join("7f/entry-d").is_symlink());
        let mut other = homes.make().unwrap();
        other.lend(&seed, &seed).unwrap();
        let inode = |home: &Home| fs::symlink_metadata(home.cache().join("7f/entry-d")).unwrap().ino();
        assert_eq!(inode(&home), inode(&other), "one link with two names");
        fs::remove_file(other.cache().join("7f/entry-d")).unwrap();
        drop(other);
        assert_eq!(fs::read_to_string(home.cache().join("7f/entry-d")).unwrap(), "7f", "no home harms another");
        let module = home.root().join("mod/m@v1");
        fs::create_dir_all(&module).unwrap();
        fs::write(module.join("go.mod"), "").unwrap();
        fs::set_permissions(&module, fs::Permissions::from_mode(0o555)).unwrap();
        drop(home);
        let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [LINKS], "only what the next home will use");
        assert_eq!(fs::read_to_string(seed.join("7f/entry-d")).unwrap(), "7f", "a seed outlives homes");
    }

    #[test]
    fn a_home_is_made_ahead_for_one_build_and_its_seed_only() {
        let data = tempfile::tempdir().unwrap();
        let homes = Homes::open(data.path().join("homes"), CancellationToken::new()).unwrap();
        let seed = data.path().join("seed");
        let fill = || {
            for prefix in prefixes() {
                fs::create_dir_all(seed.join(&prefix)).unwrap();
                fs::write(seed.join(&prefix).join("entry-d"), &prefix).unwrap();
            }
        };
        fill();
        let used = homes.with_seed(&seed, &seed).unwrap();
        fs::write(used.root().join("go/left"), "by a build").unwrap();
        let before = used.root().to_owned();
        homes.replace(used);
        assert!(!before.exists(), "the used one is gone");
        let spare = homes.ahead().first().expect("one ahead").root().to_owned();
        let next = homes.with_seed(&seed, &seed).unwrap();
        assert_eq!(next.root(), spare);
        assert!(!next.root().join("go/left").exists() && next.cache().join("7f/entry-d").is_symlink());
        assert!(homes.ahead().is_empty(), "given once");
        homes.replace(next);
        // Another seed in the same place may have other entries.
        fs::rename(&seed, data.path().join("old")).unwrap();
        fill();
        let other = homes.with_seed(&seed, &seed).unwrap();
        assert_ne!(homes.ahead().first().expect("still there").root(), other.root());
        for _ in 0..AHEAD + 1 {
            let mut used = homes.make().unwrap();
            used.lend(&seed, &seed).unwrap();
            homes.replace(used);
            homes.ahead().iter_mut().for_each(|home| home.seed = None);
        }
        assert_eq!(homes.ahead().len(), AHEAD, "bounded");
    }

    #[test]
    fn what_a_killed_node_left_is_removed_at_start() {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().join("homes");
        let home = Homes::open(folder.clone(), CancellationToken::new()).unwrap().make().unwrap();
        std::mem::forget(home);
        Homes::open(folder.clone(), CancellationToken::new()).unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }

    #[test]
    fn a_stopping_node_does_not_wait_for_the_disk() {
        let data = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let homes = Homes::open(data.path().join("homes"), stop.clone()).unwrap();
        let (home, root) = (homes.make().unwrap(), homes.folder().to_owned());
        stop.cancel();
        drop(home);
        assert_eq!(fs::read_dir(&root).unwrap().count(), 1, "left for the next start");
    }

    #[test]
    fn read_only_folders_are_unlocked() {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().join("mod");
        fs::create_dir_all(folder.join("a/b")).unwrap();
        for path in ["a/b", "a"] {
            fs::set_permissions(folder.join(path), fs::Permissions::from_mode(0o555)).unwrap();
        }
        unlock(&folder).unwrap();
        let mode = fs::metadata(folder.join("a/b")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
