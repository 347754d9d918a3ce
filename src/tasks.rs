//! Named, supervised tasks.
//!
//! Every task of the node is spawned here, so each has a name, an owner and an end. The first that
//! ends by itself stops all the others: the process exits and is restarted from a known state,
//! instead of living on without one of its parts.
//!
//! Out of scope: what the tasks do, and signals ([`crate::node`]).

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

/// How long tasks may take to finish once asked to stop. The node promises to be gone within 10 s;
/// the rest is for the last commit and for killing what builds are still running.
const GRACE: Duration = Duration::from_secs(8);

/// The tasks of one process.
pub struct Tasks {
    running: JoinSet<Ended>,
    stop: CancellationToken,
}

struct Ended {
    name: &'static str,
    result: anyhow::Result<()>,
}

impl Tasks {
    /// No tasks yet. `stop` is what they watch; cancelling it asks all of them to end.
    pub fn new(stop: CancellationToken) -> Tasks {
        Tasks { running: JoinSet::new(), stop }
    }

    /// Starts a task that should end only once the stop token is cancelled.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        debug!(task = name, "task started");
        self.running.spawn(async move {
            let result = task.await;
            Ended { name, result }
        });
    }

    /// Runs until the stop token is cancelled or a task ends by itself, then stops the rest.
    ///
    /// # Errors
    /// Names the task that failed, or that ended though nobody had asked it to.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let first = tokio::select! {
            () = self.stop.cancelled() => None,
            ended = self.running.join_next() => ended,
        };
        let asked = self.stop.is_cancelled();
        self.stop.cancel();
        let mut verdict = match first {
            Some(ended) if !asked => Err(by_itself(ended)),
            Some(ended) => of(ended),
            None => Ok(()),
        };
        let rest = tokio::time::timeout(GRACE, async {
            while let Some(ended) = self.running.join_next().await {
                let result = of(ended);
                if verdict.is_ok() {
                    verdict = result;
                } else if let Err(error) = result {
                    error!("while stopping: {error:#}");
                }
            }
        })
        .await;
        if rest.is_err() {
            info!(left = self.running.len(), "some tasks did not end in time and are dropped");
        }
        verdict
    }
}

fn by_itself(ended: Result<Ended, JoinError>) -> anyhow::Error {
    match ended {
        Ok(Ended { name, result: Ok(()) }) => anyhow!("task {name} ended by itself"),
        Ok(Ended { name, result: Err(error) }) => error.context(format!("task {name} failed")),
        Err(error) => anyhow!(error).context("a task panicked"),
    }
}

fn of(ended: Result<Ended, JoinError>) -> anyhow::Result<()> {
    let Ended { name, result } = ended.context("a task panicked")?;
    result.with_context(|| format!("task {name} failed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn until(stop: CancellationToken) -> anyhow::Result<()> {
        stop.cancelled().await;
        Ok(())
    }

    #[tokio::test]
    async fn the_first_to_end_stops_all() {
        let stop = CancellationToken::new();
        let mut tasks = Tasks::new(stop.clone());
        tasks.spawn("steady", until(stop.clone()));
        tasks.spawn("short", async { Ok(()) });
        let error = tasks.run().await.expect_err("one ended by itself");
        assert_eq!(error.to_string(), "task short ended by itself");
        assert!(stop.is_cancelled());
    }

    #[tokio::test]
    async fn a_failure_is_named() {
        let stop = CancellationToken::new();
        let mut tasks = Tasks::new(stop.clone());
        tasks.spawn("steady", until(stop.clone()));
        tasks.spawn("disk", async { Err(anyhow!("no space left")) });
        let error = tasks.run().await.expect_err("one failed");
        assert_eq!(format!("{error:#}"), "task disk failed: no space left");
    }

    #[tokio::test]
    async fn stopping_is_no_failure() {
        let stop = CancellationToken::new();
        let mut tasks = Tasks::new(stop.clone());
        tasks.spawn("steady", until(stop.clone()));
        stop.cancel();
        tasks.run().await.expect("asked to stop");
    }
}
