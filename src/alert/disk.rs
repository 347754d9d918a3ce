//! Tells when the disk of the data directory has less room than the node needs, and when it has again.
//!
//! Nothing is refused for it: a small program may still be built, and one that finds no room is tried again later. Out of
//! scope: making room (`crate::binaries` evicts by its own limit), and a database that cannot be written, which stops the
//! node.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::model::AlertKind;
use crate::store::{NewAlert, Store};

/// How often it is looked, besides whenever a build begins.
const TICK: Duration = Duration::from_secs(30);
/// With less than this an alert could not be written either, and trying would stop a node that can still answer.
const LEAST: u64 = 256 << 10;

/// The watch over a disk.
pub struct Disk {
    data: PathBuf,
    need: u64,
    look: Arc<Notify>,
    store: Store,
}

impl Disk {
    /// Over the disk of a data directory, on which `need` bytes should be free. It looks whenever `look` is rung.
    pub fn new(data: PathBuf, need: u64, look: Arc<Notify>, store: Store) -> Disk {
        Disk { data, need, look, store }
    }

    /// Watches until it is stopped.
    ///
    /// # Errors
    /// Those of the own store only.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let open = self.store.read(|reader| reader.open_alerts(AlertKind::Disk)).await?;
        let mut told = !open.is_empty();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = tick.tick() => {}
                () = self.look.notified() => {}
            }
            let free = match free(&self.data).await {
                Ok(free) => free,
                Err(error) => {
                    warn!("{error:#}");
                    continue;
                }
            };
            let Some(tell) = change(told, free, self.need) else {
                continue;
            };
            if !tell {
                self.store.write(|tx| tx.end_alert(AlertKind::Disk, None, None).map(drop)).await?;
                told = false;
                continue;
            }
            let summary = summary(&self.data, free, self.need);
            if free < LEAST {
                error!("{summary}");
            } else {
                let raise = move |tx: &mut crate::store::Tx<'_>| {
                    let alert = NewAlert {
                        kind: AlertKind::Disk,
                        spec: None,
                        party: None,
                        summary: &summary,
                        divergence: None,
                    };
                    tx.raise(&alert).map(drop)
                };
                self.store.write(raise).await?;
                told = true;
            }
        }
    }
}

/// Whether to tell, or to end what was told; none: neither. It ends only with an eighth more than is needed, so that a
/// disk at the edge is no alert every other minute.
fn change(told: bool, free: u64, need: u64) -> Option<bool> {
    match told {
        false if free < need => Some(true),
        true if free >= need.saturating_add(need / 8) => Some(false),
        _ => None,
    }
}

fn summary(data: &Path, free: u64, need: u64) -> String {
    let mebibytes = |bytes: u64| bytes >> 20;
    format!(
        "The disk of {} has {} MiB left, and this node needs {}.",
        data.display(),
        mebibytes(free),
        mebibytes(need.saturating_add((1 << 20) - 1))
    )
}

/// Bytes that an ordinary user may still write on the disk of a folder.
async fn free(folder: &Path) -> anyhow::Result<u64> {
    let folder = folder.to_owned();
    // A disk that does not answer must hold up nothing else.
    let look = tokio::task::spawn_blocking(move || {
        let disk = rustix::fs::statvfs(&folder).with_context(|| format!("cannot look at {}", folder.display()))?;
        anyhow::Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    });
    look.await.context("looking at a disk panicked")?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_once_and_ends_with_room_to_spare() {
        let mut told = false;
        let mut changes = String::new();
        for free in [900, 800, 799, 0, 799, 800, 899, 900, 900, 850, 799] {
            match change(told, free, 800) {
                Some(true) => changes.push('-'),
                Some(false) => changes.push('+'),
                None => changes.push('.'),
            }
            told = change(told, free, 800).unwrap_or(told);
        }
        assert_eq!(changes, "..-....+..-");
    }
}
