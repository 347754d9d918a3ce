//! What the followers of one node tell each other: heads that one peer shows of another's log, and whom each waits for.
//!
//! All of it is unsigned talk of peers, so it moves nothing by itself: heads go as hints to whoever can verify them, and
//! a ring is told to people. Out of scope: asking (`follow`), and what follows from a head.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc, watch};
use tracing::{error, warn};

use super::ring::{Waits, ring};
use super::{Contact, Peer, ShownHead};
use crate::log::StoredTiles;
use crate::metrics::Metrics;
use crate::store::{LogId, Store};
use crate::tlog::{Head, SUMDB_ORIGIN, VerifierKey, open_head, tree_hash};

/// Hints that wait for one follower; more are dropped, as each is shown again at the next poll.
const HINTS: usize = 64;

/// A head that somebody showed, not verified.
pub(super) struct Hint {
    pub(super) note: String,
    /// The name of the peer that showed it.
    pub(super) source: String,
}

/// Shared by all followers of a node. No lock in it is held while anything is waited for.
pub struct Circle {
    own: VerifierKey,
    store: Store,
    metrics: Metrics,
    members: Mutex<HashMap<String, Member>>,
    /// By verifier key, this node among them.
    waits: Mutex<BTreeMap<String, Waits>>,
    own_log: watch::Sender<Option<String>>,
}

struct Member {
    hints: mpsc::Sender<Hint>,
    wake: Arc<Notify>,
}

impl Circle {
    /// Of the node with this key and store. It has no followers yet.
    pub fn new(own: VerifierKey, store: Store, metrics: Metrics) -> Arc<Circle> {
        let node = Waits { name: own.name().to_owned(), ..Waits::default() };
        let waits = Mutex::new(BTreeMap::from([(own.to_string(), node)]));
        let own_log = watch::Sender::new(None);
        Arc::new(Circle { own, store, metrics, members: Mutex::default(), waits, own_log })
    }

    /// Whether a peer has shown a head of ours, with our signature, that our log does not have: a sentence then, for
    /// good. It was signed before this node lost part of its log, or by somebody else who has the key; whichever it is,
    /// nothing may be signed any more.
    pub fn own_log(&self) -> watch::Receiver<Option<String>> {
        self.own_log.subscribe()
    }

    /// Tells the follower of the party with this verifier key that something about it has changed in the store, as the
    /// end of a quarantine.
    pub fn wake(&self, vkey: &str) {
        if let Some(member) = lock(&self.members).get(vkey) {
            member.wake.notify_one();
        }
    }

    pub(super) fn join(&self, vkey: &str) -> (mpsc::Receiver<Hint>, Arc<Notify>) {
        let (hints, receiver) = mpsc::channel(HINTS);
        let wake = Arc::new(Notify::new());
        lock(&self.members).insert(vkey.to_owned(), Member { hints, wake: Arc::clone(&wake) });
        (receiver, wake)
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Notes where a peer's words come from: of a voter's accepted log this node waits for.
    pub(super) fn found(&self, peer: &Peer, log: LogId) {
        let (own, key) = (self.own.to_string(), peer.key.to_string());
        let mut waits = lock(&self.waits);
        let node = waits.entry(own).or_default();
        if peer.vote && log == LogId::Accepted {
            node.on.insert(key);
        } else {
            node.on.remove(&key);
        }
    }

    /// Notes whom a peer waits for.
    pub(super) fn heard(&self, peer: &Peer, contact: &Contact) {
        let mut node = Waits { name: peer.name.clone(), ..Waits::default() };
        if let Contact::Sumpeer(info) = contact
            && info.vkey == peer.key
        {
            let waited = info.voters.iter().filter(|voter| voter.source == "log");
            node.on.extend(waited.map(|voter| voter.vkey.clone()));
        }
        lock(&self.waits).insert(peer.key.to_string(), node);
    }

    /// The ring that a peer is in, by name; empty if there is none.
    pub(super) fn ring_of(&self, peer: &Peer) -> Vec<String> {
        ring(&peer.key.to_string(), &lock(&self.waits)).unwrap_or_default()
    }

    /// Passes on the heads that the peer `source` shows.
    pub(super) async fn show(&self, source: &str, heads: Vec<ShownHead>) {
        let own = self.own.to_string();
        for ShownHead { vkey, note } in heads {
            if vkey == own {
                self.check_own(source, &note).await;
            } else if let Some(member) = lock(&self.members).get(&vkey) {
                let _ = member.hints.try_send(Hint { note, source: source.to_owned() });
            }
        }
    }

    /// Compares a head of this node's logs with the log itself.
    async fn check_own(&self, source: &str, note: &str) {
        let Some((log, head)) = self.open_own(note) else {
            return;
        };
        // Whoever showed it can only know what was committed, and this is read after it was shown.
        let published = self.store.heads(log).borrow().clone();
        let size = head.size;
        let problem = if size > published.size {
            format!("has size {size}, but ours has {}", published.size)
        } else {
            let root =
                self.store.read(move |reader| Ok(tree_hash(&mut StoredTiles { reader, tree: log.into() }, size)?));
            match root.await {
                Ok(root) if root == head.root => return,
                Ok(root) => format!("has the root {} at size {size}, but ours had {root}", head.root),
                Err(error) => {
                    warn!("cannot compare a head of our own: {error:#}");
                    return;
                }
            }
        };
        let sentence = format!("{source} shows a head of our {} log, signed with our key, that {problem}", log.name());
        error!("{sentence}");
        self.own_log.send_if_modified(|known| known.is_none() && known.replace(sentence).is_none());
    }

    /// A head that this node's key signed, in any of its forms.
    fn open_own(&self, note: &str) -> Option<(LogId, Head)> {
        let open = |key: &VerifierKey, origin: &str| open_head(note.as_bytes(), key, origin).ok();
        if let Some(head) = open(&self.own, SUMDB_ORIGIN) {
            return Some((LogId::Accepted, head));
        }
        [("/claims", LogId::Claims), ("/log", LogId::Accepted)].into_iter().find_map(|(suffix, log)| {
            let key = self.own.as_name(&format!("{}{suffix}", self.own.name()));
            Some((log, open(&key, key.name())?))
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
