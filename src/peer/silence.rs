//! When a peer has been silent for too long, and when it is rather this node that nobody can hear.
//!
//! Pure: contacts and the clock are brought by [`super::vigil`], which also stores and tells what comes of it.
//!
//! A peer that falls silent alone is told by its name. Peers that fall silent together are most likely well, and the
//! network of this node is not: that is told once, as one thing, when the last of them has been silent for too long.

use std::time::Duration;

use tokio::time::Instant;

/// What has changed. Peers go by their place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It has been silent for too long.
    Silent(usize),
    /// It was told as silent, and has been heard.
    Back(usize),
    /// None has been heard for too long.
    AllSilent,
    /// That was told, and one has been heard.
    SomeBack,
}

/// The silence of all peers of a node.
pub(super) struct Silence {
    /// Longer than this is too long.
    limit: Duration,
    /// Peers whose last contacts are no further apart fell silent together.
    together: Duration,
    peers: Vec<Heard>,
    /// Told that none is heard.
    all_told: bool,
}

struct Heard {
    contact: Option<Instant>,
    /// From when silence is counted.
    at: Instant,
    /// Told as silent.
    told: bool,
}

impl Silence {
    /// Counts from `now`. Of each peer whether it was told as silent before this node started, and whether that none is
    /// heard was.
    pub(super) fn new(
        limit: Duration,
        together: Duration,
        told: impl IntoIterator<Item = bool>,
        all_told: bool,
        now: Instant,
    ) -> Silence {
        let peers = told.into_iter().map(|told| Heard { contact: None, at: now, told }).collect();
        Silence { limit, together, peers, all_told }
    }

    /// Takes the last contact with each peer, in the order of the list; none: not since the start.
    pub(super) fn look(&mut self, contacts: &[Option<Instant>], now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut heard = vec![false; self.peers.len()];
        for (place, (peer, contact)) in self.peers.iter_mut().zip(contacts).enumerate() {
            if let Some(at) = contact.filter(|_| *contact != peer.contact) {
                (peer.contact, peer.at, heard[place]) = (*contact, at, true);
                if peer.told {
                    peer.told = false;
                    changes.push(Change::Back(place));
                }
            }
        }
        if self.all_told && heard.contains(&true) {
            self.all_told = false;
            changes.insert(0, Change::SomeBack);
            // The others get their time to be heard again before they are told one by one.
            for (peer, _) in self.peers.iter_mut().zip(&heard).filter(|(_, heard)| !**heard) {
                peer.at = now;
            }
        }
        let silent = |peer: &Heard| now.duration_since(peer.at) >= self.limit;
        let all_silent = self.peers.iter().all(silent);
        let last = self.peers.iter().map(|peer| peer.at).max().unwrap_or(now);
        let alone = self.peers.len() == 1;
        for (place, peer) in self.peers.iter_mut().enumerate() {
            if peer.told || now.duration_since(peer.at) < self.limit {
                continue;
            }
            if alone || last.duration_since(peer.at) > self.together {
                peer.told = true;
                changes.push(Change::Silent(place));
            } else if all_silent && !self.all_told {
                self.all_told = true;
                changes.push(Change::AllSilent);
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 60;
    const TOGETHER: u64 = 2;

    /// `contacts` has for each peer the seconds at which it is heard, `told` the peers told before the start (and `*` for
    /// all of them). Peers are looked at each second; what changes is told as `second:change`.
    fn check(told: &str, contacts: &[&[u64]], until: u64, wanted: &str) {
        let start = Instant::now();
        let at = |second: u64| start + Duration::from_secs(second);
        let places: Vec<char> = ('a'..).take(contacts.len()).collect();
        let mut silence = Silence::new(
            Duration::from_secs(LIMIT),
            Duration::from_secs(TOGETHER),
            places.iter().map(|place| told.contains(*place)),
            told.contains('*'),
            start,
        );
        let mut found = Vec::new();
        for second in 0..=until {
            let last = |seconds: &&[u64]| seconds.iter().copied().filter(|heard| *heard <= second).max().map(at);
            let contacts: Vec<Option<Instant>> = contacts.iter().map(last).collect();
            for change in silence.look(&contacts, at(second)) {
                found.push(match change {
                    Change::Silent(place) => format!("{second}:-{}", places[place]),
                    Change::Back(place) => format!("{second}:+{}", places[place]),
                    Change::AllSilent => format!("{second}:-all"),
                    Change::SomeBack => format!("{second}:+some"),
                });
            }
        }
        assert_eq!(found.join(" "), wanted, "told {told:?}, contacts {contacts:?}");
    }

    /// Heard each second from `first` to `last`.
    fn each(first: u64, last: u64) -> Vec<u64> {
        (first..=last).collect()
    }

    #[test]
    fn one_peer_is_told_by_its_name() {
        check("", &[&[]], 200, "60:-a");
        check("", &[&each(0, 300)], 300, "");
        check("", &[&[5, 64, 123]], 180, "");
        check("", &[&[5, 64, 123]], 190, "183:-a");
        check("", &[&[5, 70, 80, 200]], 300, "65:-a 70:+a 140:-a 200:+a 260:-a");
    }

    #[test]
    fn one_among_others_is_told_by_its_name() {
        check("", &[&each(0, 400), &each(0, 10), &each(0, 400)], 400, "70:-b");
        check("", &[&each(0, 400), &[], &each(0, 400)], 400, "60:-b");
        check("", &[&each(0, 400), &[&each(0, 10)[..], &each(100, 400)].concat()], 400, "70:-b 100:+b");
    }

    #[test]
    fn all_at_once_are_one_thing() {
        check("", &[&[], &[], &[]], 300, "60:-all");
        check("", &[&each(0, 10), &each(0, 11), &each(0, 9)], 300, "71:-all");
        // One stays away when the network is back: it has its time, then it is told.
        let back = [&each(0, 10)[..], &each(100, 400)].concat();
        check("", &[&back, &each(0, 10), &back], 400, "70:-all 100:+some 160:-b");
        // One was away before.
        check("", &[&each(0, 100), &each(0, 10), &each(0, 99)], 300, "70:-b 160:-all");
        // They come back in time.
        check("", &[&[5, 60, 100], &[6, 61, 99]], 150, "");
    }

    #[test]
    fn what_was_told_before_a_restart_is_not_told_again() {
        check("a", &[&[]], 300, "");
        check("a", &[&[0]], 30, "0:+a");
        check("a", &[&[50]], 100, "50:+a");
        check("b", &[&each(0, 300), &[]], 300, "");
        check("*", &[&[], &[]], 300, "");
        check("*", &[&each(3, 300), &each(4, 300)], 300, "3:+some");
        check("a*", &[&each(3, 300), &[]], 100, "3:+some 3:+a 63:-b");
    }
}
