//! The follower of one peer: proves what its log says, and hands it on.
//!
//! ```text
//! watch ──head every poll──▶ ┌──────────┐
//! hints ──heads elsewhere──▶ │ Followed │ ──Proven, at most two in flight──▶ tally
//! stream / tiles ──entries─▶ └──────────┘ ──Status──▶ people
//! ```
//!
//! The rooms, in reading order:
//! - `contact`: what program the peer runs, and so which log its words are in
//! - `watch`: asks for its head every now and then, for what it says of itself, and for the heads it shows of others
//! - `followed`: one log that is being followed, and what each trouble with it leads to
//! - `live`, `catchup`, `backlog`: entries from the stream, entries from tiles, and what is held until a head covers it
//! - `heads`: heads that wait for their entries; heads that grew smaller
//! - `doubt`, `accuse`: entries that do not give a signed root; two signed heads that contradict each other
//! - `pipe`, `pause`: batches on their way to the store; how long to wait before trying again
//!
//! Out of scope: what one answer is ([`super::LogClient`]), storing and judging (the receiver of [`Proven`]).
//!
//! Invariants: what leaves is a prefix of a log whose head the peer's key signed, each entry once and in order; memory is
//! bounded whatever a peer sends; only an error of the own store ends a follower.

mod accuse;
mod backlog;
mod catchup;
mod contact;
mod doubt;
mod followed;
mod heads;
mod live;
mod pause;
mod pipe;
mod watch;

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch as watched};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, instrument, warn};

use self::contact::Finding;
use self::followed::Followed;
use self::pause::Backoff;
use self::watch::Watch;
use super::circle::{Circle, Hint};
use super::{Fault, LogClient, NodeClient, Peer, Program, Proven, Status, Timing, Transport, Which};
use crate::store::{LogId, Store};

/// How patient a follower is. Tests scale it down.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Between two questions for the head, stream or not.
    pub poll: Duration,
    /// Pauses before each further look at entries that do not give a signed root; after the last one it is the peer.
    pub recheck: Vec<Duration>,
    /// How long a head may stay smaller than one signed before until that is told.
    pub silence: Duration,
    /// The first and the longest pause after something went wrong.
    pub backoff: (Duration, Duration),
    /// A connection that lasted this long was good: the next pause is the first again.
    pub steady: Duration,
    /// How long to wait for answers.
    pub timing: Timing,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            poll: Duration::from_mins(1),
            recheck: vec![Duration::from_mins(1), Duration::from_mins(10)],
            silence: Duration::from_hours(1),
            backoff: (Duration::from_secs(1), Duration::from_mins(5)),
            steady: Duration::from_mins(1),
            timing: Timing::default(),
        }
    }
}

/// Follows one peer, for as long as the node runs.
pub struct Follower {
    peer: Peer,
    /// The text of the peer's key, by which rows name it.
    vkey: String,
    transport: Arc<dyn Transport>,
    store: Store,
    pace: Pace,
    circle: Arc<Circle>,
    /// Where entries go.
    out: mpsc::Sender<Proven>,
    /// Heads of this peer's key that other peers showed.
    hints: mpsc::Receiver<Hint>,
    /// Something about this peer has changed in the store.
    wake: Arc<Notify>,
    status: watched::Sender<Status>,
}

impl Follower {
    /// A follower of `peer`, which hands what it proves to `proven`, and how it stands. It does nothing until it runs.
    pub fn new(
        peer: Peer,
        transport: Arc<dyn Transport>,
        store: Store,
        pace: Pace,
        proven: mpsc::Sender<Proven>,
        circle: &Arc<Circle>,
    ) -> (Follower, watched::Receiver<Status>) {
        let vkey = peer.key.to_string();
        let (hints, wake) = circle.join(&vkey);
        let (status, seen) = watched::channel(Status::default());
        let circle = Arc::clone(circle);
        (Follower { peer, vkey, transport, store, pace, circle, out: proven, hints, wake, status }, seen)
    }

    /// Follows until asked to stop. Being stopped at any moment loses nothing: all that counts is in the store.
    ///
    /// # Errors
    /// Those of the own store only.
    #[instrument(name = "follow", skip_all, fields(peer = %self.peer.name))]
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        tokio::select! {
            biased;
            () = stop.cancelled() => Ok(()),
            result = self.follow() => result.map(|never| match never {}),
        }
    }

    async fn follow(&mut self) -> anyhow::Result<Infallible> {
        let mut finding = self.find().await?;
        loop {
            let finding_now = finding;
            self.status.send_modify(|status| {
                status.program = Some(finding_now.program);
                status.log = Some(finding_now.log);
            });
            self.circle.found(&self.peer, finding_now.log);
            // One head waits at most: what is older than the next question is of no use.
            let (news, heard) = mpsc::channel(1);
            let watch = Watch::new(self, finding, news);
            let mut followed = Followed::open(self, finding, heard).await?;
            finding = tokio::select! {
                changed = watch.run() => changed,
                result = followed.run() => match result? {},
            };
            warn!(program = ?finding.program, log = finding.log.name(), "the peer's words now come from another place");
            self.keep_finding(finding).await?;
        }
    }

    /// What the peer is: as kept, or else asked until it answers.
    async fn find(&mut self) -> anyhow::Result<Finding> {
        if self.peer.program == Some(Program::Gobuild) {
            let finding = Finding { program: Program::Gobuild, log: LogId::Accepted };
            self.keep_finding(finding).await?;
            return Ok(finding);
        }
        let vkey = self.vkey.clone();
        let kept = self.store.read(move |reader| reader.peer_program(&vkey)).await?;
        if let Some(finding) = kept.and_then(|(program, log)| Finding::from_row(&program, log))
            && self.peer.program.is_none_or(|program| program == finding.program)
        {
            return Ok(finding);
        }
        let node = self.node();
        let mut backoff = Backoff::new(&self.pace);
        loop {
            let answer = node.node_info().await;
            match answer.and_then(|contact| {
                self.circle.heard(&self.peer, &contact);
                contact::read(&self.peer, &contact).map_err(Fault::Malformed)
            }) {
                Ok(finding) => {
                    info!(program = ?finding.program, log = finding.log.name(), "met a peer");
                    self.keep_finding(finding).await?;
                    return Ok(finding);
                }
                Err(fault) => {
                    note(&self.status, &fault);
                    sleep(backoff.pause(asked(&fault))).await;
                }
            }
        }
    }

    async fn keep_finding(&self, finding: Finding) -> anyhow::Result<()> {
        let vkey = self.vkey.clone();
        self.store.write(move |tx| tx.put_peer_program(&vkey, finding.to_row(), finding.log)).await
    }

    fn node(&self) -> NodeClient {
        NodeClient::new(Arc::clone(&self.transport), self.peer.url.clone()).with_timing(self.pace.timing)
    }

    fn client(&self, log: LogId) -> LogClient {
        let which = match log {
            LogId::Accepted => Which::Tlog,
            LogId::Claims => Which::Claims,
        };
        let client = LogClient::new(Arc::clone(&self.transport), self.peer.url.clone(), which, &self.peer.key);
        client.with_timing(self.pace.timing)
    }
}

/// Tells people what went wrong.
fn note(status: &watched::Sender<Status>, error: &dyn std::fmt::Display) {
    let error = error.to_string();
    status.send_if_modified(|status| {
        let new = status.last_error.as_ref() != Some(&error);
        if new {
            // The same trouble every few minutes is one line in the journal.
            warn!(error, "trouble with a peer");
            status.last_error = Some(error);
        }
        new
    });
}

/// The pause that a peer asked for.
fn asked(fault: &Fault) -> Option<Duration> {
    match fault {
        Fault::Refused { retry_after, .. } => *retry_after,
        _ => None,
    }
}
