//! What leaves this room: entries that a signed head covers, and how things stand with each peer.
//!
//! Above this room nobody checks a peer's words again, and below it nobody trusts them.

use std::sync::Arc;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use url::Url;

use super::{Circle, SignedHead};
use crate::model::{Claim, Record, Spec};
use crate::quorum::Word;
use crate::store::LogId;
use crate::tlog::{Hash, VerifierKey};

/// A peer as the operator configured it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// As the operator calls it.
    pub name: String,
    /// The node's own key; that of its claims log follows from it.
    pub key: VerifierKey,
    /// Where it is.
    pub url: Url,
    /// What program it runs; none: to be found out.
    pub program: Option<Program>,
    /// Whether its word is needed for a record.
    pub vote: bool,
    /// Whether this node builds what it claims.
    pub build_on_claim: bool,
}

/// What program a peer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// This one.
    Sumpeer,
    /// Upstream's, without streams and claims.
    Gobuild,
}

/// Entries that follow what is stored of a peer's log, and are proven.
pub struct Proven {
    /// Which of its logs.
    pub log: LogId,
    /// Number of the first.
    pub first: u64,
    /// In order.
    pub entries: Vec<Entry>,
    /// Of the log that ends with them.
    pub root: Hash,
    /// The signed head over exactly that log, if these entries complete one.
    pub head: Option<SignedHead>,
    /// Told once they are stored and judged.
    pub taken: oneshot::Sender<()>,
}

/// An entry, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As it is hashed.
    pub text: Vec<u8>,
    /// None if it is no claim or record: it is kept, and is no word.
    pub said: Option<Said>,
}

/// The word in an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// On what.
    pub spec: Spec,
    /// What was said.
    pub word: Word,
    /// When, in Unix seconds, by the peer's clock; 0 for a record, which says no time.
    pub at: i64,
}

impl Said {
    /// The word in an entry of a log, if it is one.
    pub fn parse(log: LogId, text: &[u8]) -> Option<Said> {
        match log {
            LogId::Claims => {
                let claim = Claim::parse(text).ok()?;
                Some(Said { word: Word::from(&claim.finding), at: claim.at.as_second(), spec: claim.spec })
            }
            LogId::Accepted => {
                let Record { spec, size, sum } = Record::parse(text).ok()?;
                Some(Said { spec, word: Word::Sum { size, sum }, at: 0 })
            }
        }
    }
}

/// How a follower stands with its peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Not reached yet, or to be tried again after a pause.
    #[default]
    Backoff,
    /// Its stream is open.
    Following,
    /// Its head is asked for every now and then.
    Polling,
    /// Its backlog is being fetched by tiles.
    CatchingUp,
    /// It contradicted its own signed log; nothing of it is believed until the operator lifts it.
    Quarantined,
}

impl State {
    /// All of them.
    pub const ALL: [State; 5] =
        [State::Backoff, State::Following, State::Polling, State::CatchingUp, State::Quarantined];

    /// As the API and metrics call it.
    pub fn name(self) -> &'static str {
        match self {
            State::Backoff => "backoff",
            State::Following => "following",
            State::Polling => "polling",
            State::CatchingUp => "catching-up",
            State::Quarantined => "quarantined",
        }
    }
}

/// All that is known of a peer at the moment, for people and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// What the follower does.
    pub state: State,
    /// What program it runs, once known.
    pub program: Option<Program>,
    /// The log that its words are taken from, once known.
    pub log: Option<LogId>,
    /// The largest signed head it has shown, and when it was seen last, in Unix seconds.
    pub head: Option<(SignedHead, i64)>,
    /// Entries held, proven or not.
    pub downloaded: u64,
    /// Entries proven and stored.
    pub verified: u64,
    /// Since when it is followed without a break, in Unix seconds.
    pub connected_since: Option<i64>,
    /// When it last answered with a head that its key signed, or with entries that were proven.
    pub contact: Option<Instant>,
    /// Gaps and repeats in its streams.
    pub gaps: u64,
    /// Entries that are neither claims nor records.
    pub not_words: u64,
    /// The last thing that went wrong, in a sentence; cleared by nothing but the next.
    pub last_error: Option<String>,
    /// The ring of nodes that wait for each other's accepted logs, by name, if this peer is in one.
    pub ring: Vec<String>,
}

/// All peers, for whoever shows or asks them. Cloning is cheap.
#[derive(Clone, Default)]
pub struct Peers {
    followed: Arc<Vec<(Peer, watch::Receiver<Status>)>>,
    circle: Option<Arc<Circle>>,
}

impl Peers {
    /// Of the followers that are running, which know each other by `circle`.
    pub fn new(followed: Vec<(Peer, watch::Receiver<Status>)>, circle: Option<Arc<Circle>>) -> Peers {
        Peers { followed: Arc::new(followed), circle }
    }

    /// Tells the follower of a peer that something about it has changed in the store, as the end of a quarantine.
    pub fn wake(&self, vkey: &str) {
        if let Some(circle) = &self.circle {
            circle.wake(vkey);
        }
    }

    /// Each peer with its status as of now, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = (&Peer, Status)> {
        self.followed.iter().map(|(peer, status)| (peer, status.borrow().clone()))
    }

    /// Each peer with its status as it changes.
    pub(super) fn followed(&self) -> impl Iterator<Item = (&Peer, watch::Receiver<Status>)> {
        self.followed.iter().map(|(peer, status)| (peer, status.clone()))
    }

    /// The log that the words of the peer with this verifier key are taken from, once that is known.
    pub fn log_of(&self, vkey: &str) -> Option<LogId> {
        self.followed.iter().find(|(peer, _)| peer.key.to_string() == vkey)?.1.borrow().log
    }
}
