//! How many mails: ten an hour one by one, after that one every ten minutes with all that has happened.
//!
//! Pure: the clock is brought along.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Mails in an hour, beyond which they are put together.
const AN_HOUR: usize = 10;
const HOUR: Duration = Duration::from_secs(3600);
/// Between two mails that list many events.
const COLLECTED: Duration = Duration::from_secs(600);
/// Events in one mail; more go into the next.
const LISTED: usize = 500;

/// When mails were sent in the last hour.
#[derive(Debug, Default)]
pub(super) struct Budget {
    sent: VecDeque<Instant>,
}

impl Budget {
    /// Notes a mail.
    pub(super) fn sent(&mut self, now: Instant) {
        self.forget(now);
        self.sent.push_back(now);
    }

    /// How many events go into the next mail.
    pub(super) fn batch(&mut self, now: Instant) -> usize {
        self.forget(now);
        if self.sent.len() < AN_HOUR { 1 } else { LISTED }
    }

    /// How long to collect before the next mail.
    pub(super) fn rest(&mut self, now: Instant) -> Option<Duration> {
        self.forget(now);
        // The hour may have become a quiet one before that.
        let quiet = *self.sent.get(self.sent.len().checked_sub(AN_HOUR)?)? + HOUR;
        let next = (*self.sent.back()? + COLLECTED).min(quiet);
        Some(next.saturating_duration_since(now)).filter(|rest| !rest.is_zero())
    }

    fn forget(&mut self, now: Instant) {
        while self.sent.front().is_some_and(|at| now.duration_since(*at) >= HOUR) {
            self.sent.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_an_hour_go_one_by_one_and_the_rest_together() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut budget = Budget::default();
        for second in 0..10 {
            assert_eq!((budget.batch(at(second)), budget.rest(at(second))), (1, None));
            budget.sent(at(second));
        }
        // Ten have gone in ten seconds: collected from the last one on.
        assert_eq!((budget.batch(at(10)), budget.rest(at(10))), (LISTED, Some(Duration::from_secs(599))));
        assert_eq!((budget.batch(at(609)), budget.rest(at(609))), (LISTED, None));
        budget.sent(at(609));
        assert_eq!(budget.rest(at(609)), Some(COLLECTED));
        // An hour after the first ones it is quiet again, whenever the last mail went.
        budget.sent(at(3500));
        assert_eq!(budget.rest(at(3500)), Some(Duration::from_secs(102)), "until nine are left");
        assert_eq!((budget.batch(at(3602)), budget.rest(at(3602))), (1, None));
    }

    #[test]
    fn an_endless_flood_is_sixteen_mails_in_an_hour() {
        let start = Instant::now();
        let mut budget = Budget::default();
        let mut sent = Vec::new();
        for second in 0..10 * 3600 {
            let now = start + Duration::from_secs(second);
            if budget.rest(now).is_none() {
                budget.sent(now);
                sent.push(second);
            }
        }
        for first in &sent {
            assert!(sent.iter().filter(|at| (first..&(first + 3600)).contains(at)).count() <= 16);
        }
    }
}
