//! Asks a peer every now and then: for its head, for what it says of itself, for the heads it shows of others.
//!
//! It runs beside whatever else the follower does, so that a slow answer holds up no entry.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use super::contact::{self, Belief, Finding};
use super::{Follower, asked, note};
use crate::peer::circle::Circle;
use crate::peer::{Fault, LogClient, NodeClient, Peer, Program, SignedHead, Status};

/// The peer's head, or why there is none.
pub(super) type News = Result<SignedHead, Fault>;

pub(super) struct Watch {
    peer: Peer,
    log: LogClient,
    /// None if the operator says that there is nothing to ask.
    node: Option<NodeClient>,
    belief: Belief,
    poll: Duration,
    circle: Arc<Circle>,
    status: watch::Sender<Status>,
    news: mpsc::Sender<News>,
}

impl Watch {
    pub(super) fn new(follower: &Follower, finding: Finding, news: mpsc::Sender<News>) -> Watch {
        Watch {
            peer: follower.peer.clone(),
            log: follower.client(finding.log),
            node: (follower.peer.program != Some(Program::Gobuild)).then(|| follower.node()),
            belief: Belief::new(finding),
            poll: follower.pace.poll,
            circle: Arc::clone(&follower.circle),
            status: follower.status.clone(),
            news,
        }
    }

    /// Ends with a finding that replaces what was known.
    pub(super) async fn run(mut self) -> Finding {
        loop {
            let head = self.log.head(false).await;
            if head.is_ok() {
                self.status.send_modify(|status| status.contact = Some(Instant::now()));
            }
            let pause = head.as_ref().err().and_then(asked).map_or(self.poll, |asked| asked.max(self.poll));
            if self.news.send(head).await.is_err() {
                // The other half has ended, and with it this one.
                std::future::pending::<()>().await;
            }
            if let Some(changed) = self.ask_node().await {
                return changed;
            }
            sleep(pause).await;
        }
    }

    async fn ask_node(&mut self) -> Option<Finding> {
        let node = self.node.as_ref()?;
        let result = node.node_info().await.map_err(|fault| fault.to_string());
        let result = result.and_then(|contact| {
            self.circle.heard(&self.peer, &contact);
            contact::read(&self.peer, &contact)
        });
        let changed = match result.and_then(|found| Ok((found, self.belief.hear(found)?))) {
            Err(error) => {
                note(&self.status, &error);
                None
            }
            Ok((found, changed)) => {
                if found.program == Program::Sumpeer {
                    match node.peers_heads().await {
                        Ok(heads) => self.circle.show(&self.peer.name, heads).await,
                        Err(fault) => note(&self.status, &fault),
                    }
                }
                changed
            }
        };
        let ring = self.circle.ring_of(&self.peer);
        if !ring.is_empty() {
            let names = ring.join(", ");
            note(&self.status, &format!("these nodes wait for each other's accepted logs: {names}"));
        }
        self.status.send_if_modified(|status| {
            let new = status.ring != ring;
            status.ring = ring;
            new
        });
        changed
    }
}
