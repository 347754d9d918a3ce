//! Watches over all peers of a node: who has fallen silent, who is back, and which nodes wait for each other in a ring.
//!
//! What is so is seen in the status of each follower; here it becomes alerts, once each, over restarts as well. When a
//! silence is too long is decided by [`super::silence`].
//!
//! A ring is seen anew with each answer of its members and is gone while they are being asked again after a restart, so
//! its alert ends only after it has not been seen for as long as a peer may be silent.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::silence::{Change, Silence};
use super::{Pace, Peer, Peers, Status};
use crate::model::AlertKind;
use crate::store::{NewAlert, Store, Tx};

/// The longest time between two looks; a contact that ends a silence is told that late.
const LONGEST_TICK: Duration = Duration::from_secs(15);

/// The watch over all peers of a node.
pub struct Vigil {
    peers: Peers,
    store: Store,
    /// How long a peer may be silent.
    limit: Duration,
    poll: Duration,
}

/// What the alerts of a moment ago say.
struct Told {
    silence: Silence,
    /// By the sentence that names it, which is the same whichever member is asked.
    rings: HashMap<String, Ring>,
}

struct Ring {
    /// Verifier key of the peer that its alert is about.
    party: String,
    seen: Instant,
}

/// An alert to be raised or ended.
struct Step {
    kind: AlertKind,
    party: Option<String>,
    /// None: it ends.
    summary: Option<String>,
}

impl Vigil {
    /// Over these peers, as patient as their followers.
    pub fn new(peers: Peers, store: Store, pace: &Pace) -> Vigil {
        Vigil { peers, store, limit: pace.silence, poll: pace.poll }
    }

    /// Watches until it is stopped.
    ///
    /// # Errors
    /// Those of the own store only.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let peers: Vec<_> = self.peers.followed().collect();
        let mut told = self.recall(&peers).await?;
        let mut tick = interval(self.poll.min(LONGEST_TICK));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = tick.tick() => {}
            }
            let now = Instant::now();
            let statuses: Vec<Status> = peers.iter().map(|(_, status)| status.borrow().clone()).collect();
            let mut steps = self.silences(&mut told.silence, &peers, &statuses, now);
            steps.extend(self.rings(&mut told.rings, &peers, &statuses, now));
            if !steps.is_empty() {
                self.store.write(move |tx| steps.iter().try_for_each(|step| step.take(tx))).await?;
            }
        }
    }

    /// What was told before this node started. Alerts about who is no peer any more end.
    async fn recall(&self, peers: &[(&Peer, watch::Receiver<Status>)]) -> anyhow::Result<Told> {
        let keys: Vec<String> = peers.iter().map(|(peer, _)| peer.key.to_string()).collect();
        let recall = self.store.write(move |tx| {
            let mut silent = vec![false; keys.len()];
            let mut all_silent = false;
            for row in tx.open_alerts(AlertKind::PeerSilent)? {
                match (row.party.as_ref(), row.party.as_ref().and_then(|vkey| keys.iter().position(|key| key == vkey)))
                {
                    (_, Some(place)) => silent[place] = true,
                    (None, _) if keys.len() > 1 => all_silent = true,
                    (party, None) => drop(tx.end_alert(AlertKind::PeerSilent, party.map(String::as_str), None)?),
                }
            }
            Ok((silent, all_silent, tx.open_alerts(AlertKind::Ring)?))
        });
        let (silent, all_silent, rings) = recall.await?;
        let now = Instant::now();
        // Two questions for the head, and what was asked just before.
        let together = self.poll * 3;
        let silence = Silence::new(self.limit, together, silent, all_silent, now);
        let ring = |row: crate::store::AlertRow| Some((row.summary?, Ring { party: row.party?, seen: now }));
        Ok(Told { silence, rings: rings.into_iter().filter_map(ring).collect() })
    }

    fn silences(
        &self,
        silence: &mut Silence,
        peers: &[(&Peer, watch::Receiver<Status>)],
        statuses: &[Status],
        now: Instant,
    ) -> Vec<Step> {
        let contacts: Vec<Option<Instant>> = statuses.iter().map(|status| status.contact).collect();
        let step = |change| {
            let party = |place: usize| Some(peers[place].0.key.to_string());
            match change {
                Change::Silent(place) => {
                    let summary = silent(&peers[place].0.name, &statuses[place], now, self.limit);
                    Step { kind: AlertKind::PeerSilent, party: party(place), summary: Some(summary) }
                }
                Change::Back(place) => Step { kind: AlertKind::PeerSilent, party: party(place), summary: None },
                Change::AllSilent => {
                    let summary = format!(
                        "None of the {} peers has answered for {}: most likely it is the network of this node.",
                        peers.len(),
                        length(self.limit)
                    );
                    Step { kind: AlertKind::PeerSilent, party: None, summary: Some(summary) }
                }
                Change::SomeBack => Step { kind: AlertKind::PeerSilent, party: None, summary: None },
            }
        };
        silence.look(&contacts, now).into_iter().map(step).collect()
    }

    fn rings(
        &self,
        told: &mut HashMap<String, Ring>,
        peers: &[(&Peer, watch::Receiver<Status>)],
        statuses: &[Status],
        now: Instant,
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        let end = |party: String| Step { kind: AlertKind::Ring, party: Some(party), summary: None };
        for ((peer, _), status) in peers.iter().zip(statuses).filter(|(_, status)| !status.ring.is_empty()) {
            let summary = waiting(&status.ring);
            if let Some(ring) = told.get_mut(&summary) {
                ring.seen = now;
                continue;
            }
            let party = peer.key.to_string();
            // It is in another ring now.
            told.retain(|_, ring| {
                let stays = ring.party != party;
                if !stays {
                    steps.push(end(party.clone()));
                }
                stays
            });
            steps.push(Step { kind: AlertKind::Ring, party: Some(party.clone()), summary: Some(summary.clone()) });
            told.insert(summary, Ring { party, seen: now });
        }
        told.retain(|_, ring| {
            let stays = now.duration_since(ring.seen) < self.limit;
            if !stays {
                steps.push(end(ring.party.clone()));
            }
            stays
        });
        steps
    }
}

impl Step {
    fn take(&self, tx: &mut Tx<'_>) -> anyhow::Result<()> {
        let party = self.party.as_deref();
        match &self.summary {
            Some(summary) => {
                tx.raise(&NewAlert { kind: self.kind, spec: None, party, summary, divergence: None }).map(drop)
            }
            None => tx.end_alert(self.kind, party, None).map(drop),
        }
    }
}

/// The sentence about a silent peer.
fn silent(name: &str, status: &Status, now: Instant, limit: Duration) -> String {
    let mut sentence = match status.contact {
        Some(contact) => {
            let ago = now.duration_since(contact);
            let at = Timestamp::now().checked_sub(jiff::SignedDuration::try_from(ago).unwrap_or_default());
            let at = at.ok().and_then(|at| Timestamp::from_second(at.as_second()).ok()).unwrap_or_default();
            format!("{name} has not answered since {at}")
        }
        None => format!("{name} has not been reached since this node started, for {}", length(limit)),
    };
    if let Some(error) = &status.last_error {
        sentence.push_str("; the last error: ");
        sentence.push_str(error.trim_end_matches('.'));
    }
    sentence.push('.');
    sentence
}

/// The sentence about a ring, whichever member it was found through.
fn waiting(ring: &[String]) -> String {
    let first = (0..ring.len()).min_by_key(|place| &ring[*place]).unwrap_or_default();
    let names: Vec<&str> = ring[first..].iter().chain(&ring[..first]).map(String::as_str).collect();
    format!(
        "These nodes wait for each other's accepted logs, so what needs them is never accepted: {}.",
        names.join(", ")
    )
}

/// A length of time in its largest whole unit.
fn length(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}
