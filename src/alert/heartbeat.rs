//! The dead-man's switch: an address that is asked every now and then while all is well, so that somebody else notices
//! when this node cannot tell anybody anything any more.
//!
//! Out of scope: what well means; whoever makes the heartbeat brings that along. A task of the node that ends stops the
//! node, so a heartbeat also says that all of them run.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use url::Url;

/// How long an answer may take.
const TIME: Duration = Duration::from_secs(10);
/// The pause after the first failure; doubles with each further one, up to that between two heartbeats.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// How often it is looked, at least, whether all is well again.
const LOOK: Duration = Duration::from_secs(30);

/// An address, and how often it is asked.
pub struct Heartbeat {
    url: Url,
    every: Duration,
    client: reqwest::Client,
}

/// How it went last, so that the same is not said twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Beat,
    Failed,
    Unwell,
}

impl Heartbeat {
    /// Nothing is asked before it runs.
    ///
    /// # Errors
    /// There are no TLS roots.
    pub fn new(url: Url, every: Duration) -> anyhow::Result<Heartbeat> {
        // What answers from elsewhere is not what was asked.
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIME)
            .user_agent(concat!("sumpeer/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("cannot set up requests for the heartbeat")?;
        Ok(Heartbeat { url, every, client })
    }

    /// Asks the address while `well` says so, until it is stopped. Why it is not well goes to the journal, once.
    ///
    /// # Errors
    /// None: an address that cannot be reached is a matter for whoever waits for the heartbeat.
    pub async fn run<F>(self, well: impl Fn() -> F, stop: CancellationToken) -> anyhow::Result<()>
    where
        F: Future<Output = Result<(), String>>,
    {
        let mut last = Last::Beat;
        let mut pause = FIRST_PAUSE;
        loop {
            let rest = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                rest = self.beat(&well, &mut last, &mut pause) => rest,
            };
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = sleep(rest) => {}
            }
        }
    }

    /// Asks once, if all is well. Returns how long to wait.
    async fn beat<F>(&self, well: &impl Fn() -> F, last: &mut Last, pause: &mut Duration) -> Duration
    where
        F: Future<Output = Result<(), String>>,
    {
        if let Err(why) = well().await {
            if *last != Last::Unwell {
                warn!("no heartbeat: {why}");
            }
            *last = Last::Unwell;
            return self.every.min(LOOK);
        }
        match self.ask().await {
            Ok(()) => {
                if *last != Last::Beat {
                    info!("the heartbeat is taken again");
                }
                (*last, *pause) = (Last::Beat, FIRST_PAUSE);
                self.every
            }
            Err(error) => {
                if *last != Last::Failed {
                    warn!("the heartbeat is not taken: {error:#}");
                }
                *last = Last::Failed;
                let rest = (*pause).min(self.every);
                *pause = pause.saturating_mul(2);
                rest
            }
        }
    }

    async fn ask(&self) -> anyhow::Result<()> {
        // The address is a secret: whoever knows it can keep the alarm from going off.
        let answer = self.client.get(self.url.clone()).send().await.map_err(reqwest::Error::without_url)?;
        let status = answer.status();
        ensure!(status.is_success(), "it answers {status}");
        Ok(())
    }
}
