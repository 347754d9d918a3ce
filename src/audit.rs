//! Auditing peers that do not vote: which of their records this node builds again, and when.
//!
//! ```text
//! peer's log, proven ─▶ chosen, by settings and seed ─▶ begun: a row of `due`, within the day's budget
//!                                                        └─▶ tally ─▶ builder ─▶ this node's word
//! reproduced / differs / cannot build here  ◀── written with that word, in its transaction
//! ```
//!
//! Everything is in the store: an entry is looked at once (a cursor), its build is asked for once (a row that stays until
//! there is a word), and its outcome follows from the two words. So a crash between any two steps loses nothing and does
//! nothing twice. Trouble, its pauses and the queue are the tally's, as for all builds.
//!
//! Beside it, [`Watcher`] has new versions of some modules built as they appear in a module index.
//!
//! Out of scope: what differs, and telling it (a word that differs is a divergence like any other).

mod feed;
pub mod index;
mod select;
#[cfg(test)]
mod tests;
mod watch;

pub use feed::Feed;
pub use select::{Selection, TargetPattern};
pub use watch::Watcher;

use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use jiff::Timestamp;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::builder::Priority;
use crate::model::Spec;
use crate::peer::{Peers, Said};
use crate::quorum::Word;
use crate::store::{AuditPosition, Chosen, LogId, Reader, Store, Tx};
use crate::tally::Tally;

/// Builds for audits that are asked for at one time: enough to keep a large machine busy, few enough that all are asked
/// for again at the first look after a restart.
const UNDER_WAY: usize = 16;
/// Entries that are looked at in one transaction.
const ENTRIES: u64 = 500;
/// The shortest pause between two looks at the store.
const LOOK: Duration = Duration::from_millis(50);
/// How often it is looked without any news: a new day has a new budget.
const TICK: Duration = Duration::from_secs(15);

/// Audits some peers.
pub struct Auditor {
    /// Where everything is.
    pub store: Store,
    /// To whom builds are given.
    pub tally: Tally,
    /// All peers, for how far they are followed.
    pub peers: Peers,
    /// Names and verifier keys of those that are audited.
    pub audited: Vec<(String, String)>,
    /// What of their logs.
    pub selection: Selection,
    /// Builds in a day (UTC), at most.
    pub per_day: Option<NonZeroU32>,
}

/// The day that builds count for: in UTC, in days since 1970.
pub fn today() -> i64 {
    Timestamp::now().as_second().div_euclid(24 * 60 * 60)
}

impl Auditor {
    /// Audits until it is stopped.
    ///
    /// # Errors
    /// The store failed: the node must stop.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let seed = self.store.write(|tx| tx.audit_seed()).await?;
        let mut news = self.tally.news();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            news.mark_unchanged();
            for (name, vkey) in &self.audited {
                while !stop.is_cancelled() && self.look(name, vkey, seed).await? {}
            }
            self.begin(today()).await?;
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                changed = news.changed() => {
                    changed.context("nobody builds any more")?;
                    tokio::time::sleep(LOOK).await;
                }
                _ = tick.tick() => {}
            }
        }
    }

    /// Looks at the next entries of a peer's log. False if there are none.
    async fn look(&self, name: &str, vkey: &str, seed: [u8; 16]) -> anyhow::Result<bool> {
        let (asked, wanted) = (vkey.to_owned(), self.selection.clone());
        if !self.store.read(move |reader| is_behind(reader, &asked, &wanted)).await? {
            return Ok(false);
        }
        let own = self.tally.voters().iter().find(|voter| voter.own);
        let look = Look {
            vkey: vkey.to_owned(),
            own: own.map(|own| own.vkey.clone()).unwrap_or_default(),
            selection: self.selection.clone(),
            seed,
        };
        let undone = self.store.write(move |tx| look.at_some(tx)).await?;
        if undone > 0 {
            warn!(peer = name, undone, "what was reproduced before differs now: see `sumpeer audit`");
        }
        Ok(true)
    }

    /// Asks for the builds of chosen entries, as many as there is room for.
    async fn begin(&self, today: i64) -> anyhow::Result<()> {
        let per_day = self.per_day.map_or(u64::MAX, |per_day| u64::from(per_day.get()));
        let (selection, vkeys) = (self.selection.clone(), self.ready());
        let chosen = self.store.read(move |reader| {
            let room = UNDER_WAY - reader.audits_under_way(UNDER_WAY)?;
            let left = per_day.saturating_sub(reader.audits_begun(today)?);
            let room = room.min(usize::try_from(left).unwrap_or(usize::MAX));
            let mut lists = Vec::new();
            for vkey in vkeys.iter().filter(|_| room > 0) {
                let Some(AuditPosition { log, size, audited: Some(audited), .. }) = position(reader, vkey)? else {
                    continue;
                };
                // With a limit, which are the first is known only once all were looked at.
                if selection.limit.is_none() || audited.next >= size {
                    let rows = reader.audit_to_begin(log, selection.order, selection.limit, room)?;
                    lists.push(rows.into_iter().map(|(number, spec)| (log, number, spec)).collect::<Vec<_>>());
                }
            }
            // In turn, so that a long backlog of one peer does not keep another waiting.
            let longest = lists.iter().map(Vec::len).max().unwrap_or(0);
            let in_turn = (0..longest).flat_map(|at| lists.iter().filter_map(move |list| list.get(at).cloned()));
            Ok(in_turn.take(room).collect::<Vec<_>>())
        });
        let chosen = chosen.await?;
        if chosen.is_empty() {
            return Ok(());
        }
        let begun = self.store.write(move |tx| {
            let mut begun = Vec::new();
            for (log, number, spec) in chosen {
                if tx.begin_audit(log, number, today)? {
                    begun.push(spec);
                }
            }
            Ok(begun)
        });
        for spec in begun.await? {
            let spec: Spec = spec.parse().map_err(|error| anyhow!("a stored spec is malformed: {error}"))?;
            info!(%spec, "to be built for an audit");
            // A full queue loses nothing: it stays due.
            let _ = self.tally.submit(&spec, Priority::Audit);
        }
        Ok(())
    }

    /// The keys of peers whose builds may begin: with a limit, only those that are followed up to their head.
    fn ready(&self) -> Vec<String> {
        let is_followed = |vkey: &String| {
            self.peers.iter().any(|(peer, status)| {
                peer.key.to_string() == *vkey
                    && status.head.is_some_and(|(head, _)| status.verified >= head.head.size.get())
            })
        };
        let keys = self.audited.iter().map(|(_, vkey)| vkey);
        keys.filter(|vkey| self.selection.limit.is_none() || is_followed(vkey)).cloned().collect()
    }
}

/// Where choosing from the log of a peer's words stands, if it is known which log that is.
fn position(reader: &Reader<'_>, vkey: &str) -> anyhow::Result<Option<AuditPosition>> {
    match reader.peer_program(vkey)? {
        Some((_, log)) => reader.audit_position(vkey, log),
        None => Ok(None),
    }
}

/// Whether there is something to look at.
fn is_behind(reader: &Reader<'_>, vkey: &str, selection: &Selection) -> anyhow::Result<bool> {
    let Some(AuditPosition { size, met_at: Some(met_at), audited, .. }) = position(reader, vkey)? else {
        return Ok(false);
    };
    Ok(audited.is_none_or(|audited| {
        let is_same = audited.selection == selection.fingerprint() && audited.first == selection.first(met_at);
        !is_same || audited.next < size
    }))
}

/// A look at one peer's log.
struct Look {
    /// Whose log.
    vkey: String,
    /// This node's key.
    own: String,
    selection: Selection,
    seed: [u8; 16],
}

impl Look {
    /// Chooses from the next entries. Returns how many differ on a spec that was reproduced before.
    fn at_some(&self, tx: &mut Tx<'_>) -> anyhow::Result<u64> {
        let Some((_, log)) = tx.peer_program(&self.vkey)? else {
            return Ok(0);
        };
        let Some(position) = tx.audit_position(&self.vkey, log)? else {
            return Ok(0);
        };
        let first = self.selection.first(position.met_at.context("a log without a head is audited")?);
        let audited = tx.open_audit(position.log, &self.selection.fingerprint(), first)?;
        let end = position.size.min(audited.next.saturating_add(ENTRIES));
        let mut chosen = Vec::new();
        for (number, text) in (audited.next..).zip(tx.peer_entries(position.log, audited.next, end)?) {
            chosen.extend(self.choose(tx, log, number, &text)?);
        }
        tx.choose(position.log, &chosen, audited.next.max(end))
    }

    /// An entry with this node's word, if it names a sum and is chosen.
    fn choose(&self, tx: &mut Tx<'_>, log: LogId, number: u64, text: &[u8]) -> anyhow::Result<Option<Chosen>> {
        let Some(Said { spec, word: Word::Sum { size, sum }, .. }) = Said::parse(log, text) else {
            return Ok(None);
        };
        if !self.selection.chooses(&self.seed, &spec) {
            return Ok(None);
        }
        let id = tx.make_spec_id(&spec)?;
        let own = tx.word(id, &self.own)?.map(|row| row.word);
        Ok(Some(Chosen { number, spec: id, said: (size, sum), own }))
    }
}
