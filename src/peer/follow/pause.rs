//! How long to leave a peer alone after something went wrong.

use std::time::Duration;

use super::Pace;

/// Pauses that double.
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(pace: &Pace) -> Backoff {
        let (first, longest) = pace.backoff;
        Backoff { first, longest, next: first }
    }

    /// The next pause, drawn from its upper half: many followers that lost one peer must not come back together. It is
    /// never shorter than what the peer asked for.
    pub(super) fn pause(&mut self, asked: Option<Duration>) -> Duration {
        let drawn = self.next.mul_f64(rand::random_range(0.5..=1.0));
        self.next = (self.next * 2).min(self.longest);
        drawn.max(asked.unwrap_or_default())
    }

    /// All was well for long enough.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_keep_to_what_was_asked() {
        let seconds = Duration::from_secs;
        let mut backoff = Backoff::new(&Pace::default());
        for full in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            let pause = backoff.pause(None);
            assert!(pause >= seconds(full) / 2 && pause <= seconds(full), "{pause:?} of {full} s");
        }
        assert_eq!(backoff.pause(Some(seconds(600))), seconds(600));
        assert!(backoff.pause(Some(seconds(1))) >= seconds(150));
        backoff.reset();
        assert!(backoff.pause(None) <= seconds(1));
    }
}
