//! One log that is being followed: what is proven of it, and what each trouble leads to.
//!
//! Whatever brings entries, they leave only once their root is proven against a signed head, which the last batch brings
//! along or which is kept first. A crash at any moment leaves a prefix of a signed log, and heads that fit it.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info};

use super::contact::Finding;
use super::heads::Heads;
use super::pause::Backoff;
use super::pipe::Pipe;
use super::watch::News;
use super::{Follower, asked, note};
use crate::log::StoredTiles;
use crate::peer::{Fault, LogClient, Program, SignedHead, State, Status};
use crate::store::PeerLogId;
use crate::tlog::{CompactRange, Hash, TreeSize, tree_hash};

/// What can go wrong, as far as it is answered in different ways.
#[derive(Debug)]
pub(super) enum Trouble {
    /// An answer that is none: a pause, and polling meanwhile.
    Fault(Fault),
    /// Entries that do not give the root of a signed head: looked at again before anybody is blamed.
    Contradiction(Box<Contradiction>),
    /// A signed head that contradicts another one: proof against the peer.
    Fork(Box<Fork>),
    /// A batch was dropped instead of stored: what is stored decides where to go on.
    Lost,
    /// The own store failed, which ends the follower.
    Own(anyhow::Error),
}

/// A head, and the last tile of entries that did not give its root.
#[derive(Debug)]
pub(super) struct Contradiction {
    pub(super) head: SignedHead,
    pub(super) served: Option<Served>,
}

/// A tile of entries as it was served.
#[derive(Clone, Debug)]
pub(super) struct Served {
    pub(super) index: u64,
    pub(super) texts: Vec<Vec<u8>>,
}

/// A head that no log can have together with another one.
#[derive(Debug)]
pub(super) struct Fork {
    pub(super) head: SignedHead,
    /// The other one; none for the head of what is stored.
    pub(super) other: Option<SignedHead>,
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Trouble {
        Trouble::Fault(fault)
    }
}

impl From<anyhow::Error> for Trouble {
    fn from(error: anyhow::Error) -> Trouble {
        Trouble::Own(error)
    }
}

/// A log of a peer.
pub(super) struct Followed<'f> {
    pub(super) f: &'f mut Follower,
    pub(super) finding: Finding,
    pub(super) client: LogClient,
    /// What the peer's head is, each poll.
    pub(super) news: mpsc::Receiver<News>,
    pub(super) id: PeerLogId,
    /// Entries that are proven, stored or on their way there.
    pub(super) range: CompactRange,
    pub(super) pipe: Pipe,
    pub(super) heads: Heads,
    pub(super) backoff: Backoff,
    /// How long the peer wants to be left alone after its stream has ended.
    pub(super) asked: Option<Duration>,
}

impl<'f> Followed<'f> {
    /// Goes on where the store ends.
    pub(super) async fn open(
        f: &'f mut Follower,
        finding: Finding,
        news: mpsc::Receiver<News>,
    ) -> anyhow::Result<Followed<'f>> {
        let (vkey, log) = (f.vkey.clone(), finding.log);
        let row = f.store.write(move |tx| tx.open_peer_log(&vkey, log)).await?;
        let client = f.client(log);
        // The largest head whose entries are stored was verified when it came.
        let largest = row.head.and_then(|note| client.check_head(&note).ok());
        let size = row.range.size().get();
        if let Some(head) = &largest {
            let shown = (head.clone(), row.head_at);
            f.status.send_modify(|status| status.head = Some(shown));
        }
        // What was proven before this start is no contact.
        f.status.send_modify(|status| status.verified = size);
        let pipe = Pipe::new(f.out.clone(), size);
        let backoff = Backoff::new(&f.pace);
        let heads = Heads::new(largest);
        let mut followed =
            Followed { f, finding, client, news, id: row.id, range: row.range, pipe, heads, backoff, asked: None };
        followed.show_position(size);
        Ok(followed)
    }

    /// Follows for ever.
    ///
    /// # Errors
    /// Those of the own store.
    pub(super) async fn run(&mut self) -> anyhow::Result<Infallible> {
        loop {
            let mut result = self.round().await;
            while let Err(trouble) = result {
                result = match trouble {
                    Trouble::Own(error) => return Err(error),
                    trouble => self.answer(trouble).await,
                };
            }
        }
    }

    async fn round(&mut self) -> Result<(), Trouble> {
        if self.is_quarantined().await? {
            self.sit_out().await
        } else if self.finding.program == Program::Gobuild {
            // The first head comes at once, the next ones each poll.
            self.wait(None, true).await
        } else {
            self.live().await
        }
    }

    async fn answer(&mut self, trouble: Trouble) -> Result<(), Trouble> {
        match trouble {
            Trouble::Fault(fault) => {
                note(&self.f.status, &fault);
                self.rest(asked(&fault)).await
            }
            Trouble::Contradiction(contradiction) => self.doubt(*contradiction).await,
            Trouble::Fork(fork) => self.convict_of_fork(*fork).await,
            Trouble::Lost => {
                note(&self.f.status, &"its entries were not stored; going on from what is");
                let (vkey, log) = (self.f.vkey.clone(), self.finding.log);
                let row = self.f.store.write(move |tx| tx.open_peer_log(&vkey, log)).await?;
                self.pipe = Pipe::new(self.f.out.clone(), row.range.size().get());
                self.range = row.range;
                self.show_position(self.range.size().get());
                self.rest(None).await
            }
            Trouble::Own(error) => Err(Trouble::Own(error)),
        }
    }

    /// Leaves the peer alone for a while, but for polling.
    pub(super) async fn rest(&mut self, asked: Option<Duration>) -> Result<(), Trouble> {
        let asked = asked.max(self.asked.take());
        let pause = self.backoff.pause(asked);
        self.set_state(State::Backoff);
        debug!(?pause, "leaving the peer alone");
        self.wait(Some(pause), true).await
    }

    /// Waits, taking in what is heard meanwhile; fetches what a head is ahead only if `fetch`. Without a pause for ever.
    pub(super) async fn wait(&mut self, pause: Option<Duration>, fetch: bool) -> Result<(), Trouble> {
        let until = pause.map(|pause| Instant::now() + pause);
        loop {
            tokio::select! {
                () = sleep_until_some(until) => return Ok(()),
                Some(news) = self.news.recv() => self.hear(news, fetch).await?,
                Some(hint) = self.f.hints.recv() => {
                    if let Ok(head) = self.client.check_head(&hint.note) {
                        self.consider(&head, &hint.source).await?;
                    }
                }
                result = self.pipe.next() => {
                    result?;
                    self.show_position(self.range.size().get());
                }
            }
        }
    }

    /// Takes in what the peer's head is.
    async fn hear(&mut self, news: News, fetch: bool) -> Result<(), Trouble> {
        let polled = self.finding.program == Program::Gobuild;
        let head = match news {
            Err(fault) => {
                note(&self.f.status, &fault);
                if polled {
                    self.set_state(State::Backoff);
                }
                return Ok(());
            }
            Ok(head) => head,
        };
        self.take_current(&head).await?;
        if fetch {
            self.reach(&head).await?;
            self.set_state(State::Polling);
            if polled {
                self.backoff.reset();
            }
        }
        Ok(())
    }

    /// Fetches by tiles what `head` is ahead, or else tries what another head is that waits.
    pub(super) async fn reach(&mut self, head: &SignedHead) -> Result<(), Trouble> {
        if head.head.size > self.range.size() {
            return self.catch_up(head, false).await;
        }
        let Some(other) = self.heads.first_waiting().cloned() else {
            return Ok(());
        };
        match self.catch_up(&other, false).await {
            // The peer does not own up to that head. That it grew smaller is told in time.
            Err(Trouble::Fault(fault)) => {
                note(&self.f.status, &format!("a head of size {} was seen elsewhere, but: {fault}", other.head.size));
                Ok(())
            }
            other => other,
        }
    }

    /// Takes in the head that the peer itself shows at the moment.
    pub(super) async fn take_current(&mut self, head: &SignedHead) -> Result<(), Trouble> {
        let source = self.f.peer.name.clone();
        self.consider(head, &source).await?;
        let now = jiff::Timestamp::now().as_second();
        self.f.status.send_modify(|status| {
            if status.head.as_ref().is_none_or(|(known, _)| known.head.size <= head.head.size) {
                status.head = Some((head.clone(), now));
            }
        });
        self.show_position(self.range.size().get());
        if let Some(before) = self.heads.shrunk(head, Instant::now(), self.f.pace.silence) {
            self.tell_rollback(&before, head).await?;
        }
        Ok(())
    }

    /// Checks a validly signed head against what is proven, and keeps it; one that is larger waits for its entries.
    pub(super) async fn consider(&mut self, head: &SignedHead, source: &str) -> Result<(), Trouble> {
        if head.head.size > self.range.size() {
            self.keep(head, source).await?;
            return match self.heads.wait(head) {
                None => Ok(()),
                other => Err(Trouble::Fork(Box::new(Fork { head: head.clone(), other }))),
            };
        }
        if self.root_at(head.head.size).await? != head.head.root {
            return Err(Trouble::Fork(Box::new(Fork { head: head.clone(), other: None })));
        }
        self.heads.see(head);
        self.keep(head, source).await
    }

    /// Checks the heads that have waited for what is proven now.
    pub(super) async fn check_waiting(&mut self) -> Result<(), Trouble> {
        while let Some(head) = self.heads.due(self.range.size().get()) {
            if self.root_at(head.head.size).await? != head.head.root {
                return Err(Trouble::Fork(Box::new(Fork { head, other: None })));
            }
        }
        Ok(())
    }

    /// The root of the proven log at a size that it has or had.
    async fn root_at(&mut self, size: TreeSize) -> Result<Hash, Trouble> {
        if size == self.range.size() {
            return Ok(self.range.root());
        }
        self.pipe.settle().await?;
        let tree = self.id.into();
        let root = self.f.store.read(move |reader| Ok(tree_hash(&mut StoredTiles { reader, tree }, size)?));
        Ok(root.await?)
    }

    /// Keeps a validly signed head.
    pub(super) async fn keep(&mut self, head: &SignedHead, source: &str) -> Result<(), Trouble> {
        if self.heads.keep(head) {
            let (id, head, source) = (self.id, head.clone(), source.to_owned());
            let forget = self.heads.is_time_to_forget();
            let write = self.f.store.write(move |tx| {
                tx.keep_peer_head(id, head.head.size, &head.head.root, &head.note, &source)?;
                if forget { tx.forget_old_peer_heads(id) } else { Ok(()) }
            });
            write.await?;
        }
        Ok(())
    }

    pub(super) async fn is_quarantined(&self) -> Result<bool, Trouble> {
        let vkey = self.f.vkey.clone();
        Ok(self.f.store.read(move |reader| reader.quarantine(&vkey)).await?.is_some())
    }

    /// Takes nothing in until the quarantine is lifted, but keeps the heads that are shown.
    async fn sit_out(&mut self) -> Result<(), Trouble> {
        self.set_state(State::Quarantined);
        self.heads.forget_waiting();
        while self.is_quarantined().await? {
            let name = self.f.peer.name.clone();
            tokio::select! {
                Some(news) = self.news.recv() => match news {
                    Ok(head) => self.keep(&head, &name).await?,
                    Err(fault) => note(&self.f.status, &fault),
                },
                Some(hint) = self.f.hints.recv() => {
                    if let Ok(head) = self.client.check_head(&hint.note) {
                        self.keep(&head, &hint.source).await?;
                    }
                }
                () = self.f.wake.notified() => {}
            }
        }
        info!("the quarantine is lifted: going on from what was proven");
        self.backoff.reset();
        self.set_state(State::Backoff);
        Ok(())
    }

    pub(super) fn set_state(&mut self, state: State) {
        let good = matches!(state, State::Following | State::Polling);
        let now = jiff::Timestamp::now().as_second();
        self.f.status.send_if_modified(|status| {
            let connected_since = match state {
                _ if good => status.connected_since.or(Some(now)),
                State::CatchingUp => status.connected_since,
                _ => None,
            };
            let new = (status.state, status.connected_since) != (state, connected_since);
            (status.state, status.connected_since) = (state, connected_since);
            new
        });
        self.f.circle.metrics().set_peer_state(&self.f.peer.name, State::ALL.map(State::name), state.name());
    }

    /// Tells people how far it got.
    pub(super) fn show_position(&mut self, downloaded: u64) {
        let verified = self.pipe.stored();
        let mut lag = 0;
        self.f.status.send_if_modified(|status: &mut Status| {
            let head = status.head.as_ref().map_or(0, |(head, _)| head.head.size.get());
            lag = head.saturating_sub(verified);
            let new = (status.downloaded, status.verified) != (downloaded, verified);
            if verified > status.verified {
                // While a long backlog is fetched nobody asks for heads.
                status.contact = Some(Instant::now());
            }
            (status.downloaded, status.verified) = (downloaded, verified);
            new
        });
        self.f.circle.metrics().set_peer_position(&self.f.peer.name, verified, lag);
    }
}

async fn sleep_until_some(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}
