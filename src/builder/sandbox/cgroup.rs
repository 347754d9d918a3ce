//! A control group for each run, so that memory is limited for all its processes together.
//!
//! Only where one can be made: version 1 with a writable memory hierarchy, or version 2 with a
//! delegated subtree (systemd: `Delegate=yes`). Elsewhere [`super`] limits each process instead.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::Context as _;
use tracing::warn;

const MOUNT: &str = "/sys/fs/cgroup";

/// Names of groups begin with this and the process id of the node.
const PREFIX: &str = "sumpeer-";

/// A place where control groups with a memory limit can be made.
#[derive(Clone, Debug)]
pub(super) struct Cgroups {
    parent: PathBuf,
    files: &'static Files,
}

/// The names of the two versions.
#[derive(Debug)]
struct Files {
    limit: &'static str,
    /// Memory and swap together (version 1) or swap alone (version 2); may be missing.
    swap: &'static str,
    swap_is_sum: bool,
    /// Holds a line `oom_kill N`.
    events: &'static str,
}

const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    swap: "memory.memsw.limit_in_bytes",
    swap_is_sum: true,
    events: "memory.oom_control",
};

const V2: Files = Files { limit: "memory.max", swap: "memory.swap.max", swap_is_sum: false, events: "memory.events" };

impl Cgroups {
    /// Looks for a place by making a group in it.
    pub(super) fn detect() -> Option<Cgroups> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let (parent, files) = place(&own)?;
        if std::ptr::eq(files, &V2) {
            delegate(&parent)?;
        }
        sweep(&parent);
        let cgroups = Cgroups { parent, files };
        let trial = cgroups.make(1 << 30).ok()?;
        // The events tell whether the kernel counts here at all.
        fs::read_to_string(trial.path.join(files.events)).ok()?;
        Some(cgroups)
    }

    /// Makes a group that may use `bytes` of memory.
    ///
    /// # Errors
    /// When the host takes back what it gave at start.
    pub(super) fn make(&self, bytes: u64) -> anyhow::Result<Cgroup> {
        let path = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{}-", std::process::id()))
            .tempdir_in(&self.parent)
            .with_context(|| format!("cannot make a control group in {}", self.parent.display()))?
            .keep();
        let group = Cgroup { path, files: self.files };
        fs::write(group.path.join(self.files.limit), bytes.to_string())
            .context("cannot limit memory in a control group")?;
        let swap = if self.files.swap_is_sum { bytes } else { 0 };
        // Missing where the kernel does not account for swap.
        let _ = fs::write(group.path.join(self.files.swap), swap.to_string());
        Ok(group)
    }
}

/// One group; dropping it removes it.
#[derive(Debug)]
pub(super) struct Cgroup {
    path: PathBuf,
    files: &'static Files,
}

impl Cgroup {
    /// The file that takes the ids of processes to put in.
    pub(super) fn procs(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// Whether the kernel has killed a process in it for want of memory.
    pub(super) fn starved(&self) -> bool {
        fs::read_to_string(self.path.join(self.files.events)).is_ok_and(|text| oom_kills(&text) > 0)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A process that was just reaped may be counted for a moment longer.
        for _ in 0..20 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            sleep(Duration::from_millis(5));
        }
        warn!(path = %self.path.display(), "control group left behind");
    }
}

/// Removes the groups of nodes that were killed.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // Fails if a process is in it; then the next start removes it.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Where the process with this `/proc/self/cgroup` can make groups that limit memory.
fn place(own: &str) -> Option<(PathBuf, &'static Files)> {
    let lines = || own.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let below = |mount: &str, path: &str| Path::new(mount).join(path.trim_start_matches('/'));
    if let Some((_, path)) = lines().find(|(names, _)| names.split(',').any(|name| name == "memory")) {
        return Some((below(&format!("{MOUNT}/memory"), path), &V1));
    }
    let (_, path) = lines().find(|(names, _)| names.is_empty())?;
    Some((below(MOUNT, path), &V2))
}

/// Makes the memory controller usable below `parent` (version 2): a group with processes of its own
/// cannot have groups with controllers below it, so we move into one of our own.
fn delegate(parent: &Path) -> Option<()> {
    let enabled = parent.join("cgroup.subtree_control");
    if fs::read_to_string(&enabled).ok()?.split_whitespace().any(|name| name == "memory") {
        return Some(());
    }
    let procs = fs::read_to_string(parent.join("cgroup.procs")).ok()?;
    if procs.trim() != std::process::id().to_string() {
        // Others live here: this subtree was not given to us.
        return None;
    }
    let node = parent.join("node");
    if !node.is_dir() {
        fs::create_dir(&node).ok()?;
    }
    fs::write(node.join("cgroup.procs"), std::process::id().to_string()).ok()?;
    fs::write(&enabled, "+memory").ok()
}

/// The number after `oom_kill` in a list of events.
fn oom_kills(events: &str) -> u64 {
    events
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find_map(|(name, number)| (name == "oom_kill").then(|| number.trim().parse().ok())?)
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_hierarchy_is_found_in_both_versions() {
        let path = |own: &str| place(own).map(|(path, files)| format!("{} {}", path.display(), files.limit));
        assert_eq!(
            path("9:name=systemd:/\n4:cpu,memory:/a/b\n0::/\n").unwrap(),
            "/sys/fs/cgroup/memory/a/b memory.limit_in_bytes"
        );
        assert_eq!(
            path("0::/system.slice/sumpeer.service\n").unwrap(),
            "/sys/fs/cgroup/system.slice/sumpeer.service memory.max"
        );
        assert_eq!(path("2:cpu:/\n"), None);
        assert_eq!(path(""), None);
    }

    #[test]
    fn kills_are_counted() {
        assert_eq!(oom_kills("low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\n"), 2);
        assert_eq!(oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n"), 0);
        assert_eq!(oom_kills(""), 0);
    }
}
