//! Signed heads of one log beside the proven part: those that wait for their entries, and those that grew smaller.
//!
//! Pure: the clock is brought along, and keeping and telling are left to `followed`.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::peer::SignedHead;
use crate::tlog::Hash;

/// Heads that may wait for their entries. More are dropped: they will be shown again.
const WAITING: usize = 32;
/// Heads remembered as kept, so that the same one is not written at each poll.
const KEPT: usize = 64;
/// Heads between two looks at how many are stored.
const FORGET_EVERY: usize = 256;

#[derive(Default)]
pub(super) struct Heads {
    kept: VecDeque<(u64, Hash)>,
    /// How many were kept since this began.
    kept_in_all: usize,
    /// By size: larger than what is proven.
    waiting: BTreeMap<u64, SignedHead>,
    /// The largest head that fits, or may fit, the log.
    largest: Option<SignedHead>,
    /// Since when the current head has been smaller than the largest, and whether that was told.
    smaller: Option<(Instant, bool)>,
}

impl Heads {
    /// Of a log whose proven part has this head.
    pub(super) fn new(largest: Option<SignedHead>) -> Heads {
        Heads { largest, ..Heads::default() }
    }

    /// Notes that a head is kept. Returns whether that is new, as far as is remembered.
    pub(super) fn keep(&mut self, head: &SignedHead) -> bool {
        let head = (head.head.size.get(), head.head.root);
        if self.kept.contains(&head) {
            return false;
        }
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(head);
        self.kept_in_all += 1;
        true
    }

    /// Whether so many were kept that the oldest ones in the store should go, if there are too many.
    pub(super) fn is_time_to_forget(&self) -> bool {
        self.kept_in_all.is_multiple_of(FORGET_EVERY)
    }

    /// Lets a head wait until its entries are proven. A head of that size that has another root comes back: no log
    /// can have both.
    pub(super) fn wait(&mut self, head: &SignedHead) -> Option<SignedHead> {
        self.see(head);
        match self.waiting.get(&head.head.size.get()) {
            Some(other) => (other.head.root != head.head.root).then(|| other.clone()),
            None => {
                if self.waiting.len() < WAITING {
                    self.waiting.insert(head.head.size.get(), head.clone());
                }
                None
            }
        }
    }

    /// Takes out a head whose entries are proven now.
    pub(super) fn due(&mut self, proven: u64) -> Option<SignedHead> {
        let entry = self.waiting.first_entry()?;
        (*entry.key() <= proven).then(|| entry.remove())
    }

    /// The smallest head that waits.
    pub(super) fn first_waiting(&self) -> Option<&SignedHead> {
        self.waiting.values().next()
    }

    /// Forgets what waits: it was held against the peer.
    pub(super) fn forget_waiting(&mut self) {
        self.waiting.clear();
        self.largest = None;
        self.smaller = None;
    }

    /// Notes a head that fits, or may.
    pub(super) fn see(&mut self, head: &SignedHead) {
        if self.largest.as_ref().is_none_or(|largest| largest.head.size < head.head.size) {
            self.largest = Some(head.clone());
        }
    }

    /// Takes the head that the peer shows now. Returns the larger one that it has gone back behind, once that has been
    /// so for longer than `silence`, and once only until it catches up.
    pub(super) fn shrunk(&mut self, current: &SignedHead, now: Instant, silence: Duration) -> Option<SignedHead> {
        let largest = self.largest.as_ref()?;
        if current.head.size >= largest.head.size {
            self.smaller = None;
            return None;
        }
        let (since, told) = self.smaller.get_or_insert((now, false));
        if *told || now.duration_since(*since) < silence {
            return None;
        }
        *told = true;
        Some(largest.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlog::{Head, TreeSize};

    fn head(size: u64, root: u8) -> SignedHead {
        let head = Head { origin: String::new(), size: TreeSize::new(size).unwrap(), root: Hash([root; 32]) };
        SignedHead { head, note: String::new() }
    }

    #[test]
    fn heads_wait_in_order_and_are_few() {
        let mut heads = Heads::default();
        for size in (1..=100).rev() {
            assert_eq!(heads.wait(&head(size, 1)), None);
        }
        assert_eq!(heads.due(68), None);
        assert_eq!(heads.due(70), Some(head(69, 1)));
        assert_eq!(heads.due(70), Some(head(70, 1)));
        assert_eq!(heads.due(70), None);
        assert_eq!(heads.wait(&head(71, 1)), None);
        assert_eq!(heads.wait(&head(71, 2)), Some(head(71, 1)), "two roots of one size");
        assert_eq!(heads.due(100).map(|head| head.head.size.get()), Some(71));
    }

    #[test]
    fn a_head_that_stays_smaller_is_told_once() {
        let (start, silence) = (Instant::now(), Duration::from_secs(60));
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut heads = Heads::new(Some(head(10, 1)));
        assert_eq!(heads.shrunk(&head(9, 1), at(0), silence), None);
        assert_eq!(heads.shrunk(&head(9, 1), at(59), silence), None);
        assert_eq!(heads.shrunk(&head(10, 1), at(60), silence), None, "it came back in time");
        assert_eq!(heads.shrunk(&head(9, 1), at(61), silence), None);
        assert_eq!(heads.shrunk(&head(8, 1), at(121), silence), Some(head(10, 1)));
        assert_eq!(heads.shrunk(&head(8, 1), at(500), silence), None, "told already");
        assert_eq!(heads.shrunk(&head(11, 1), at(501), silence), None);
        assert_eq!(heads.shrunk(&head(9, 1), at(502), silence), None);
        assert_eq!(heads.shrunk(&head(9, 1), at(600), silence), Some(head(10, 1)));
    }

    #[test]
    fn what_was_kept_lately_is_not_kept_again() {
        let mut heads = Heads::default();
        assert!(heads.keep(&head(1, 1)) && !heads.keep(&head(1, 1)) && heads.keep(&head(1, 2)));
        (2..=KEPT as u64 + 1).for_each(|size| assert!(heads.keep(&head(size, 1))));
        assert!(heads.keep(&head(1, 1)));
    }
}
