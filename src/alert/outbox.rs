//! Delivering what is in the outbox: which event is next, when a failed one is tried again, and what is noted of it.
//!
//! # Crashes
//! A delivery is noted after it was acknowledged and before the next one begins. A node that dies in between delivers that
//! event again, with the same `uid`; one that dies at any other point has lost nothing, since what is next is always read
//! from the store.
//!
//! # Pauses
//! After a failure a channel rests, longer each time, until something succeeds; and the event that failed rests by
//! itself, so that one which a receiver never takes holds up only what is about the same spec or party.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::message::Told;
use super::{Author, Channel};
use crate::metrics::Metrics;
use crate::store::{Pending, Store};

/// Pending events that are looked at: the oldest.
const WINDOW: usize = 500;
/// How long a delivery may still take once the node stops. One whose answer is not waited for is repeated.
const LAST_DELIVERY: Duration = Duration::from_secs(3);
/// Characters kept of why a delivery failed.
const REASON_CHARS: usize = 500;
/// Failures before anything is given up, however long it has been pending: the node may have been down.
const LEAST_TRIES: u32 = 5;

/// How patient deliveries are.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The pause after a first failure. It doubles with each further one.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// The longest pause of a program that fails.
    pub longest_hook: Duration,
    /// How long it is tried to run a program that fails. Other channels never give up.
    pub give_up: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(5 * 60),
            longest_hook: Duration::from_secs(3600),
            give_up: Duration::from_secs(24 * 3600),
        }
    }
}

/// What all that deliver share. Cloning gives another handle.
#[derive(Clone)]
pub struct Office {
    /// Where the outbox is.
    pub store: Store,
    /// Who words messages.
    pub author: Author,
    /// How patient they are.
    pub pace: Pace,
    /// Counts deliveries.
    pub metrics: Metrics,
    /// What time it is; the system's, unless a test has its own.
    pub now: fn() -> Timestamp,
}

impl Office {
    /// By the system's clock.
    pub fn new(store: Store, author: Author, pace: Pace, metrics: Metrics) -> Office {
        Office { store, author, pace, metrics, now: Timestamp::now }
    }
}

/// Delivers what a channel has yet to be told, until it is stopped.
///
/// # Errors
/// The store failed: the node must stop.
pub(super) async fn run(channel: &Channel, office: &Office, stop: &CancellationToken) -> anyhow::Result<()> {
    let mut news = office.store.told();
    let mut queue = Queue::new(channel.name(), &office.metrics);
    loop {
        if let Some(wait) = channel.rest() {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(wait) => {}
            }
        }
        // Before the outbox is read: what comes meanwhile wakes at once.
        news.mark_unchanged();
        let wait = match queue.next(office, channel.batch()).await? {
            Next::Deliver(told) => {
                let ended = tokio::select! {
                    ended = channel.deliver(&told) => ended,
                    () = last_moment(stop) => return Ok(()),
                };
                match ended {
                    Ok(()) => queue.delivered(office, &told).await?,
                    Err(why) => queue.failed(office, &told, &why, None).await?,
                }
                continue;
            }
            Next::Wait(wait) => wait,
        };
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = news.changed() => if changed.is_err() { stop.cancelled().await },
            () = rest(wait) => {}
        }
    }
}

/// Waits until the node stops, and then as long as a delivery may still take.
pub(super) async fn last_moment(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(LAST_DELIVERY).await;
}

/// Waits; for ever without a time.
pub(super) async fn rest(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// What one receiver has yet to be told, and how it fares.
pub(super) struct Queue {
    name: String,
    /// Failures since the last success.
    failures: u32,
    /// When it may be tried again.
    rests_until: Option<Instant>,
}

/// What to do.
pub(super) enum Next {
    /// Tell these.
    Deliver(Vec<Told>),
    /// Nothing, for so long, or until there is news.
    Wait(Option<Duration>),
}

impl Queue {
    pub(super) fn new(name: &str, metrics: &Metrics) -> Queue {
        metrics.begin_alerts(name);
        Queue { name: name.to_owned(), failures: 0, rests_until: None }
    }

    /// What to do now, with up to `limit` events at one time.
    pub(super) async fn next(&self, office: &Office, limit: usize) -> anyhow::Result<Next> {
        if let Some(until) = self.rests_until.filter(|until| *until > Instant::now()) {
            return Ok(Next::Wait(Some(until.saturating_duration_since(Instant::now()))));
        }
        let (name, author) = (self.name.clone(), office.author.clone());
        let ahead = i64::try_from(office.pace.longest.as_millis()).unwrap_or(i64::MAX);
        let now = (office.now)().as_millisecond();
        let next = office.store.read(move |reader| {
            Ok(match choose(&reader.pending(&name, WINDOW)?, now, ahead, limit) {
                Choice::Now(chosen) => {
                    let told = chosen.into_iter().map(|pending| Told::of(reader, pending, &author));
                    Next::Deliver(told.collect::<anyhow::Result<_>>()?)
                }
                Choice::At(at) => {
                    Next::Wait(Some(Duration::from_millis(at.saturating_sub(now).max(1).cast_unsigned())))
                }
                Choice::Nothing => Next::Wait(None),
            })
        });
        next.await
    }

    /// Notes that events were acknowledged. They are never told again.
    pub(super) async fn delivered(&mut self, office: &Office, told: &[Told]) -> anyhow::Result<()> {
        self.end(office, told).await?;
        office.metrics.alerts_sent(&self.name, "delivered", told.len());
        if self.failures > 0 {
            info!(channel = self.name, failures = self.failures, "alerts are delivered again");
        }
        (self.failures, self.rests_until) = (0, None);
        Ok(())
    }

    /// Notes that telling events failed, and puts them off; or gives those up that were tried for so long.
    pub(super) async fn failed(
        &mut self,
        office: &Office,
        told: &[Told],
        why: &str,
        give_up: Option<Duration>,
    ) -> anyhow::Result<()> {
        let Pace { first, longest, .. } = office.pace;
        self.failures = self.failures.saturating_add(1);
        self.rests_until = Some(Instant::now() + pause(self.failures, first, longest));
        office.metrics.alerts_sent(&self.name, "failed", told.len());
        let why: String = why.chars().take(REASON_CHARS).collect();
        let now = (office.now)();
        let is_over = |pending: &Pending| {
            let age = Duration::from_secs(u64::try_from(now.as_second().saturating_sub(pending.since)).unwrap_or(0));
            give_up.is_some_and(|limit| age >= limit) && pending.tries + 1 >= LEAST_TRIES
        };
        let (over, again): (Vec<Told>, Vec<Told>) =
            told.iter().cloned().partition(|told| told.pending.as_ref().is_some_and(is_over));
        for Told { message, .. } in &over {
            let (alert, summary) = (&message.id, &message.summary);
            error!(channel = self.name, alert, summary, why, "an alert could not be delivered and is given up");
        }
        if !over.is_empty() {
            self.end(office, &over).await?;
            office.metrics.alerts_sent(&self.name, "given-up", over.len());
        }
        if again.is_empty() {
            return Ok(());
        }
        warn!(channel = self.name, why, "an alert was not delivered and is tried again");
        let name = self.name.clone();
        let put_off = office.store.write(move |tx| {
            for pending in again.iter().filter_map(|told| told.pending.as_ref()) {
                let pause = pause(pending.tries + 1, first, longest);
                let pause = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
                tx.put_off(&name, pending.event, now.as_millisecond().saturating_add(pause), &why)?;
            }
            Ok(())
        });
        put_off.await
    }

    async fn end(&self, office: &Office, told: &[Told]) -> anyhow::Result<()> {
        let name = self.name.clone();
        let events: Vec<_> = told.iter().filter_map(|told| told.pending).map(|pending| pending.event).collect();
        office.store.write(move |tx| events.into_iter().try_for_each(|event| tx.end_delivery(&name, event))).await
    }
}

/// The pause after so many failures, drawn from its upper half: what failed together must not come back together.
fn pause(failures: u32, first: Duration, longest: Duration) -> Duration {
    let whole = first.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(longest);
    whole.mul_f64(rand::random_range(0.5..=1.0))
}

/// What may go now.
#[derive(Debug, PartialEq, Eq)]
enum Choice {
    /// These, in order.
    Now(Vec<Pending>),
    /// Nothing before this time, in Unix milliseconds.
    At(i64),
    /// There is nothing.
    Nothing,
}

/// Which of the pending events, oldest first, are next: of those that no earlier one holds up, first what failed least,
/// then what is oldest; and up to `limit` at one time, with what may go once those before it in the same batch have.
/// A time more than `ahead` milliseconds away is no pause of ours: the clock was wrong, and it is time.
fn choose(pending: &[Pending], now: i64, ahead: i64, limit: usize) -> Choice {
    let is_due = |row: &Pending| row.next_at <= now || row.next_at > now.saturating_add(ahead);
    let is_free = |at: usize, gone: &[usize]| {
        (0..at).all(|earlier| gone.contains(&earlier) || !holds_up(&pending[earlier], &pending[at]))
    };
    let free: Vec<usize> = (0..pending.len()).filter(|at| is_free(*at, &[])).collect();
    let due = free.iter().copied().filter(|at| is_due(&pending[*at]));
    let Some(first) = due.min_by_key(|at| (pending[*at].tries, pending[*at].event)) else {
        return free.iter().map(|at| pending[*at].next_at).min().map_or(Choice::Nothing, Choice::At);
    };
    let mut chosen = vec![first];
    for (at, row) in pending.iter().enumerate() {
        if chosen.len() >= limit {
            break;
        }
        if at != first && is_due(row) && is_free(at, &chosen) {
            chosen.push(at);
        }
    }
    chosen.sort_unstable();
    Choice::Now(chosen.into_iter().map(|at| pending[at]).collect())
}

/// Whether a later event has to wait for an earlier one: both are about one party or one spec, or about neither.
fn holds_up(earlier: &Pending, later: &Pending) -> bool {
    let about = |one: i64, other: i64| one != 0 && one == other;
    about(earlier.party, later.party)
        || about(earlier.spec, later.spec)
        || (earlier.party, earlier.spec, later.party, later.spec) == (0, 0, 0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::EventId;

    /// Events as `party/spec`, with `*` for each failure and `@` and a time for when they may be tried, in order.
    fn rows(text: &str) -> Vec<Pending> {
        let row = |(event, text): (i64, &str)| {
            let (text, next_at) = text.split_once('@').unwrap_or((text, "0"));
            let keys = text.trim_end_matches('*');
            let (party, spec) = keys.split_once('/').expect("two keys");
            Pending {
                event: EventId(event),
                party: party.parse().expect("a number"),
                spec: spec.parse().expect("a number"),
                tries: u32::try_from(text.len() - keys.len()).expect("few"),
                since: 0,
                next_at: next_at.parse().expect("a time"),
            }
        };
        (1..).zip(text.split_whitespace()).map(row).collect()
    }

    #[test]
    fn nothing_overtakes_what_it_is_about() {
        let check = |text: &str, limit: usize, want: &str| {
            let got = match choose(&rows(text), 100, 1000, limit) {
                Choice::Now(rows) => rows.iter().map(|row| row.event.0.to_string()).collect::<Vec<_>>().join(" "),
                Choice::At(at) => format!("at {at}"),
                Choice::Nothing => String::new(),
            };
            assert_eq!(got, want, "{text} by {limit}");
        };
        check("", 1, "");
        check("1/1 2/2", 1, "1");
        check("1/1* 2/2", 1, "2");
        check("1/1* 1/2 2/3", 1, "3");
        check("1/1* 1/2 2/1", 1, "1");
        check("1/1@200 1/2 2/1", 1, "at 200");
        check("1/1@200 2/2@150 3/2", 1, "at 150");
        check("1/1@200 2/2", 1, "2");
        check("0/0@200 0/0", 1, "at 200");
        check("0/0@200 0/1 1/0", 1, "2");
        // Far beyond any pause: the clock was wrong.
        check("1/1@9000", 1, "1");
        // A batch takes what follows something that is in it, in order, and nothing that follows what is not.
        check("1/1 1/2 2/3", 9, "1 2 3");
        check("1/1* 1/2 2/3", 9, "1 2 3");
        check("1/1@200 1/2 2/3 2/4", 9, "3 4");
        check("1/1 1/2 2/3", 2, "1 2");
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let (first, longest) = (Duration::from_secs(1), Duration::from_secs(300));
        for (failures, full) in [(1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (u32::MAX, 300)] {
            let pause = pause(failures, first, longest);
            let full = Duration::from_secs(full);
            assert!(pause >= full / 2 && pause <= full, "{pause:?} of {full:?}");
        }
    }
}
