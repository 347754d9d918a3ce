//! Time limits of one fetch, and the pauses between tries.
//!
//! Out of scope: deciding what is worth another try ([`super::fetch`] says so by its error).

use std::time::Duration;

/// How long to wait for a proxy. Tests scale it down, so that "accepts and never answers" does not cost minutes.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Until the answer's header, for lists, heads and tiles: what a proxy has at hand.
    pub first_byte: Duration,
    /// Until the answer's header, for a version's files: a proxy that has never seen the version fetches it first.
    pub first_byte_file: Duration,
    /// Between two pieces of a body.
    pub idle: Duration,
    /// For a whole body, so that a proxy which sends a byte now and then holds nothing for ever.
    pub whole: Duration,
    /// Before the second try; doubles for each further one, and each is drawn from its upper half.
    pub pause: Duration,
    /// How often one proxy is asked for one thing before it counts as out of order.
    pub tries: u32,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            first_byte: Duration::from_secs(10),
            first_byte_file: Duration::from_secs(30),
            idle: Duration::from_secs(30),
            whole: Duration::from_mins(20),
            pause: Duration::from_millis(300),
            tries: 3,
        }
    }
}

impl Timing {
    /// The same with every wait divided: for tests.
    #[must_use]
    pub fn scaled_down(self, by: u32) -> Timing {
        Timing {
            first_byte: self.first_byte / by,
            first_byte_file: self.first_byte_file / by,
            idle: self.idle / by,
            whole: self.whole / by,
            pause: self.pause / by,
            tries: self.tries,
        }
    }

    /// Waits before the try that follows the `done`-th failed one (from 1).
    ///
    /// Drawn at random: many builds fail together when a proxy stumbles, and must not come back together.
    pub(super) async fn wait_after(&self, done: u32) {
        let full = self.pause * (1 << done.saturating_sub(1).min(6));
        tokio::time::sleep(full.mul_f64(rand::random_range(0.5..1.0))).await;
    }
}
