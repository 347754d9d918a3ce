//! The tasks around each peer: a follower that proves, the tally that listens to it, an asker if it votes; and the
//! watch over all of them.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, PeerKind};
use crate::metrics::Metrics;
use crate::model::Spec;
use crate::peer::{Asker, Circle, Follower, Pace, Peer, Peers, Program, Proven, Transport, Vigil};
use crate::store::Store;
use crate::tally::{Tally, Voter};
use crate::tasks::Tasks;
use crate::tlog::VerifierKey;

/// Batches of a peer that wait for the writer: one is stored while the next is proven.
const BATCHES: usize = 2;
/// Wishes that wait for an asker.
const WISHES: usize = 1024;

/// The followers of all peers, made and not yet running. Simulated nodes are wired by it too.
pub struct Following {
    /// For whoever shows or asks them.
    pub peers: Peers,
    /// Those that vote.
    pub voters: Vec<Voter>,
    /// To the askers of those that vote.
    pub wants: Vec<mpsc::Sender<Spec>>,
    /// This node's key.
    own: VerifierKey,
    followers: Vec<(Peer, Follower, mpsc::Receiver<Proven>)>,
    askers: Vec<(Asker, mpsc::Receiver<Spec>)>,
    circle: Arc<Circle>,
    store: Store,
    pace: Pace,
}

impl Following {
    /// Makes the followers of these peers, for the node with the key `own`.
    pub fn new(
        peers: Vec<Peer>,
        pace: &Pace,
        own: &VerifierKey,
        store: &Store,
        transport: &Arc<dyn Transport>,
        metrics: &Metrics,
    ) -> Following {
        let circle = Circle::new(own.clone(), store.clone(), metrics.clone());
        let mut following = Following {
            peers: Peers::default(),
            voters: Vec::new(),
            wants: Vec::new(),
            own: own.clone(),
            followers: Vec::new(),
            askers: Vec::new(),
            circle: circle.clone(),
            store: store.clone(),
            pace: pace.clone(),
        };
        let mut shown = Vec::new();
        for peer in peers {
            metrics.add_peer(&peer.name);
            let (batches, proven) = mpsc::channel(BATCHES);
            let (follower, status) =
                Follower::new(peer.clone(), transport.clone(), store.clone(), pace.clone(), batches, &circle);
            if peer.vote {
                let (want, wants) = mpsc::channel(WISHES);
                following.wants.push(want);
                let asker = Asker::new(peer.clone(), transport.clone(), store.clone(), status.clone());
                following.askers.push((asker, wants));
                let voter = Voter { name: peer.name.clone(), vkey: peer.key.to_string(), own: false };
                following.voters.push(voter);
            }
            shown.push((peer.clone(), status));
            following.followers.push((peer, follower, proven));
        }
        following.peers = Peers::new(shown, Some(circle));
        following
    }

    /// Starts all of them.
    pub fn spawn(self, tally: &Tally, tasks: &mut Tasks, stop: &CancellationToken) {
        for (peer, follower, proven) in self.followers {
            tasks.spawn("follow", follower.run(stop.clone()));
            tasks.spawn("hear", tally.clone().hear(peer, proven, stop.clone()));
        }
        for (asker, wants) in self.askers {
            tasks.spawn("want", asker.run(wants, stop.clone()));
        }
        tasks.spawn("vigil", Vigil::new(self.peers, self.store, &self.pace).run(stop.clone()));
        tasks.spawn("own-log", doubt(self.circle, tally.clone(), self.own, stop.clone()));
    }
}

/// Ends all signing once a peer shows a head by our key that our log does not have.
async fn doubt(circle: Arc<Circle>, tally: Tally, own: VerifierKey, stop: CancellationToken) -> anyhow::Result<()> {
    let mut shown = circle.own_log();
    let why = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        why = shown.wait_for(Option::is_some) => why.context("nobody looks after our own log any more")?.clone(),
    };
    tally.freeze(own.to_string(), why.unwrap_or_default()).await?;
    stop.cancelled().await;
    Ok(())
}

/// How patient a configuration wants its followers to be.
pub(super) fn pace(config: &Config) -> Pace {
    Pace {
        poll: config.poll_interval.duration(),
        recheck: config.recheck.iter().map(|pause| pause.duration()).collect(),
        silence: config.alerts.clone().unwrap_or_default().peer_silence.duration(),
        ..Pace::default()
    }
}

/// The peers of a configuration, with what it leaves out filled in.
///
/// # Errors
/// A peer is the node with the key `own` itself, or has no address.
pub(super) fn peers(config: &Config, own: &VerifierKey) -> anyhow::Result<Vec<Peer>> {
    config.check_own_key(own).map_err(anyhow::Error::msg)?;
    let peer = |peer: &crate::config::Peer| {
        let key = peer.key.clone().context("a peer has no key")?;
        let url = match &peer.url {
            Some(url) => url.clone(),
            None => format!("https://{}/", key.name())
                .parse()
                .with_context(|| format!("peer {}: its key's name is no host; set its url", peer.shown_name()))?,
        };
        ensure!(url.has_host(), "peer {}: its address {url} names no host", peer.shown_name());
        let program = match peer.kind {
            PeerKind::Auto => None,
            PeerKind::Sumpeer => Some(Program::Sumpeer),
            PeerKind::Gobuild => Some(Program::Gobuild),
        };
        Ok(Peer {
            name: peer.shown_name().to_owned(),
            key,
            url,
            program,
            vote: peer.vote,
            build_on_claim: peer.build_on_claim.unwrap_or(peer.vote),
        })
    };
    config.peer.iter().map(peer).collect()
}
