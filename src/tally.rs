//! Where wishes, builds and words meet: the one door to the accepted log.
//!
//! A wish for a spec becomes a build, a build's report becomes this node's word, all words are
//! judged, and agreement becomes a record. Everything is decided from the store: whoever waits is woken
//! by the end of the build and then reads what is true there.
//!
//! Out of scope: building ([`crate::builder`]), the rule of agreement ([`crate::quorum`]), and HTTP.
//!
//! Invariant: nothing waits here while holding anything.

mod accuse;
mod again;
mod answer;
mod compare;
mod evidence;
mod mirror;
mod peers;
mod settle;
#[cfg(test)]
mod tests;

pub use answer::{Answer, PartyWord, State, View};
pub use compare::Comparer;
pub use evidence::{Names, NoEvidence, evidence};
pub use mirror::{Copier, Mirror};
pub use settle::{Found, Settled, Voter, settle, standings};

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use moka::sync::Cache;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, instrument, warn};

use answer::Known;

use crate::binaries::{Binaries, Stored};
use crate::builder::{BuildReport, Builder, Outcome, Priority, Progress};
use crate::model::{Claim, Finding, Spec};
use crate::store::{Errand, RecordRow, Store, Trouble};

/// How long "no such module or version" is believed: it may exist tomorrow.
const ABSENT_FOR: Duration = Duration::from_secs(600);
/// Specs that are remembered as absent.
const ABSENT_SPECS: u64 = 10_000;
/// First pause before a build that failed for now is tried again; doubles with each try.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
/// Longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 3600);
/// Specs in trouble that are kept; more is no accident but a stranger's game.
const TROUBLES: u64 = 50_000;
/// The shortest pause between two looks at the store by somebody who waits.
const LOOK: Duration = Duration::from_millis(5);
/// How often it is looked whether a pause has passed.
const RETRY_TICK: Duration = Duration::from_secs(15);
/// Builds queued again at one look.
const RETRY_BATCH: usize = 32;

/// A handle. Cloning gives another.
#[derive(Clone)]
pub struct Tally {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    /// None on a node that only verifies.
    builder: Option<Builder>,
    /// Where a node that builds nothing gets binaries from.
    mirror: Option<Mirror>,
    binaries: Binaries,
    /// This node as a voter; none if it only verifies.
    own: Option<Voter>,
    voters: Vec<Voter>,
    /// To whoever asks voters for their word.
    wants: Vec<mpsc::Sender<Spec>>,
    /// Counts what was taken in. Whoever waits reads the store after each change, so none is lost.
    news: watch::Sender<u64>,
    /// All specs are to be judged anew.
    again: Notify,
    /// Why nothing may be signed any more, once that is so.
    frozen: watch::Sender<Option<String>>,
    /// Why a spec does not exist, for as long as that is believed.
    absent: Cache<Spec, String>,
}

impl Tally {
    /// A tally of these voters. This node is among them if it has a builder.
    pub fn new(
        store: Store,
        builder: Option<Builder>,
        mirror: Option<Mirror>,
        binaries: Binaries,
        voters: Vec<Voter>,
        wants: Vec<mpsc::Sender<Spec>>,
    ) -> Tally {
        let absent = Cache::builder().max_capacity(ABSENT_SPECS).time_to_live(ABSENT_FOR).build();
        let own = voters.iter().find(|voter| voter.own).cloned();
        let (news, again, frozen) = (watch::Sender::new(0), Notify::new(), watch::Sender::new(None));
        let inner = Inner { store, builder, mirror, binaries, own, voters, wants, news, again, frozen, absent };
        Tally { inner: Arc::new(inner) }
    }

    /// Whose words are needed.
    pub fn voters(&self) -> &[Voter] {
        &self.inner.voters
    }

    /// Tells whenever something was taken in. What it was is in the store.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.inner.news.subscribe()
    }

    pub(crate) fn tell_news(&self) {
        self.inner.news.send_modify(|count| *count += 1);
    }

    /// Takes in the reports of builds, and queues again what failed for now, until it is stopped.
    ///
    /// # Errors
    /// The store failed: the node must stop.
    pub async fn run(self, mut reports: mpsc::Receiver<BuildReport>, stop: CancellationToken) -> anyhow::Result<()> {
        let mut tick = tokio::time::interval(RETRY_TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = tick.tick() => self.retry_due().await?,
                report = reports.recv() => match report {
                    Some(report) => self.take(report).await?,
                    None => return Ok(()),
                },
            }
        }
    }

    /// What is known of a spec, from the store alone.
    ///
    /// # Errors
    /// The store failed.
    pub async fn view(&self, spec: &Spec) -> anyhow::Result<View> {
        let spec = spec.clone();
        let absent = self.inner.absent.get(&spec);
        let voters = self.inner.voters.clone();
        self.inner
            .store
            .read(move |reader| {
                let record = reader.record(&spec)?;
                let trouble = reader.trouble(&spec)?;
                let id = reader.spec_id(&spec)?;
                let words = id.map_or_else(|| Ok(Vec::new()), |id| reader.words(id))?;
                let divergence = id.map_or(Ok(None), |id| reader.divergence_on(id))?;
                let standings = settle::standings(&words, &voters, &reader.quarantined()?);
                let found = Known { record, words, trouble, absent, divergence: divergence.map(|row| row.id) };
                Ok(View::new(spec, found, &standings, &voters))
            })
            .await
    }

    /// The record of a spec, from the store alone.
    ///
    /// # Errors
    /// The store failed.
    pub async fn known(&self, spec: &Spec) -> anyhow::Result<Option<RecordRow>> {
        let spec = spec.clone();
        self.inner.store.read(move |reader| reader.record(&spec)).await
    }

    /// Starts or joins the build of a spec and asks the voters for their word, unless what is known already answers the
    /// wish. No progress is told if this node has nothing to build.
    ///
    /// A wish with the priority of a voter came from one: it is not passed on, or wants would go in circles.
    ///
    /// # Errors
    /// The answer, or that the queue is full.
    pub async fn ask(&self, spec: &Spec, priority: Priority) -> Result<Option<watch::Receiver<Progress>>, Answer> {
        let view = self.view(spec).await?;
        if let Some(answer) = view.answer() {
            return Err(answer);
        }
        if priority == Priority::Person {
            for want in &self.inner.wants {
                // A full channel drops it: whoever still waits asks again.
                let _ = want.try_send(spec.clone());
            }
        }
        if view.words.iter().any(|word| word.voter.own) {
            return Ok(None);
        }
        self.submit(spec, priority)
    }

    /// Forgets what this node found about a spec it could not build, and builds it again.
    ///
    /// # Errors
    /// The answer, if there is a record; or that the queue is full.
    pub async fn retry(&self, spec: &Spec) -> Result<(), Answer> {
        if let Some(row) = self.known(spec).await? {
            return Err(Answer::Record(Box::new(row)));
        }
        self.inner.absent.invalidate(spec);
        let forget = spec.clone();
        self.inner.store.write(move |tx| tx.clear_trouble(&forget)).await?;
        self.submit(spec, Priority::Person).map(drop)
    }

    /// The record of a spec, building it if need be, after at most `wait`.
    pub async fn record(&self, spec: &Spec, wait: Duration) -> Answer {
        match self.wait(spec, wait).await {
            Ok(answer) | Err(answer) => answer,
        }
    }

    async fn wait(&self, spec: &Spec, wait: Duration) -> Result<Answer, Answer> {
        let deadline = Instant::now() + wait;
        let mut news = self.news();
        let mut progress = self.ask(spec, Priority::Person).await?;
        loop {
            news.mark_unchanged();
            // The truth is in the store, whatever woke us.
            let view = self.view(spec).await?;
            if let Some(answer) = view.answer() {
                return Ok(answer);
            }
            let woken = async {
                tokio::select! {
                    () = ended(&mut progress) => {}
                    // All that wait are woken by all that happens, so they look at most so often.
                    _ = news.changed() => tokio::time::sleep(LOOK).await,
                }
            };
            if tokio::time::timeout_at(deadline.into(), woken).await.is_err() {
                return Ok(view.waiting());
            }
        }
    }

    /// The binary of a record, built again or fetched from a voter if it is not here, after at most `wait`.
    ///
    /// # Errors
    /// There is no valid copy to be had for now.
    pub async fn binary(&self, row: &RecordRow, wait: Duration) -> Result<Stored, Answer> {
        let sum = row.record.sum;
        if let Some(stored) = self.inner.binaries.find(&sum).await? {
            return Ok(stored);
        }
        if let Some(mirror) = &self.inner.mirror {
            return mirror.copy(row, wait).await;
        }
        let deadline = Instant::now() + wait;
        let mut progress = self.submit(&row.record.spec, Priority::Person)?;
        if progress.is_some() {
            // Out of time: the store tells what is so.
            let _ = tokio::time::timeout_at(deadline.into(), ended(&mut progress)).await;
        }
        match self.inner.binaries.find(&sum).await? {
            Some(stored) => Ok(stored),
            None => Err(Answer::waiting_for(
                Vec::new(),
                "the binary is not on this node at the moment and could not be built again yet",
            )),
        }
    }

    /// Starts or joins the build of a spec, whatever is known of it already. No progress is told if this node has nothing
    /// to build with.
    ///
    /// # Errors
    /// The queue is full, or nothing may be signed any more.
    pub fn submit(&self, spec: &Spec, priority: Priority) -> Result<Option<watch::Receiver<Progress>>, Answer> {
        if let Some(why) = self.frozen() {
            return Err(Answer::Busy(why));
        }
        let Some(builder) = &self.inner.builder else {
            return Ok(None);
        };
        match builder.submit(spec, priority) {
            Ok(ticket) => Ok(Some(ticket.progress)),
            Err(full) => Err(Answer::Busy(full.to_string())),
        }
    }

    #[instrument(skip_all, fields(spec = %report.spec))]
    async fn take(&self, report: BuildReport) -> anyhow::Result<()> {
        let inner = &self.inner;
        let spec = report.spec.clone();
        match report.outcome {
            Outcome::NotFound { ref detail } => {
                info!(detail, "no such thing");
                inner.absent.insert(spec.clone(), detail.clone());
                let asked = spec.clone();
                // A rebuild of something that has a word keeps it: what was found, was found.
                let due = inner.store.write(move |tx| {
                    tx.clear_trouble(&asked)?;
                    tx.spec_id(&asked)?.map_or(Ok(false), |id| tx.is_due(id))
                });
                if due.await? {
                    // Somebody has built it, so our module proxy may only lag behind.
                    self.note_trouble(spec, detail.clone()).await?;
                }
            }
            Outcome::Temporary { ref detail } => {
                warn!(detail, "not built for now");
                self.note_trouble(spec, detail.clone()).await?;
            }
            Outcome::Built(ref binary) => {
                let finding = Finding::Built { size: binary.size, sum: binary.sum };
                let binary = Some(binary.clone());
                self.settle(&report, finding, binary).await?;
            }
            Outcome::CannotBuild { class, ref detail } => {
                let finding = Finding::CannotBuild { class, detail: detail.clone() };
                self.settle(&report, finding, None).await?;
            }
        }
        // Whoever waits reads the store, so they are woken only now.
        drop(report.finished);
        self.tell_news();
        Ok(())
    }

    async fn settle(
        &self,
        report: &BuildReport,
        finding: Finding,
        binary: Option<crate::store::BinaryRow>,
    ) -> anyhow::Result<()> {
        let found = Found {
            claim: Claim {
                spec: report.spec.clone(),
                finding,
                at: settle::whole_seconds(Timestamp::now()),
                host: report.host.clone(),
                toolchain: report.toolchain_h1.clone(),
                sandbox: report.sandbox.to_owned(),
            },
            binary,
            log_gz: report.log_gz.clone(),
        };
        if let Some(why) = self.frozen() {
            error!("a finding is dropped: {why}");
            return Ok(());
        }
        let inner = self.inner.clone();
        let settled = self.inner.store.write(move |tx| {
            let own = inner.own.as_ref().context("a node that does not vote has built something")?;
            settle::settle(tx, own, &inner.voters, &found)
        });
        let settled = settled.await?;
        match settled {
            Settled::Accepted(number) => info!(number, "accepted"),
            Settled::Known(number) => info!(number, "built again, as recorded"),
            Settled::Contradicts(number) => {
                error!(number, "this node built something else than it recorded; the record stands");
            }
            Settled::Waiting(names) => info!(waiting_for = names.join(", "), "claimed"),
            Settled::Disputed => warn!("voters disagree"),
            Settled::CannotBuild => info!("cannot be built"),
        }
        Ok(())
    }

    async fn note_trouble(&self, spec: Spec, detail: String) -> anyhow::Result<()> {
        let write = move |tx: &mut crate::store::Tx<'_>| {
            let before = tx.trouble(&spec)?;
            if before.is_none() && tx.count_troubles()? >= TROUBLES {
                return Ok(());
            }
            let tries = before.map_or(0, |trouble| trouble.tries).saturating_add(1);
            let pause = FIRST_PAUSE.saturating_mul(1 << (tries - 1).min(16)).min(LONGEST_PAUSE);
            tx.put_trouble(&Trouble {
                spec: spec.to_string(),
                detail,
                tries,
                next_at: Timestamp::now().as_second() + i64::try_from(pause.as_secs()).unwrap_or(i64::MAX / 2),
            })
        };
        self.inner.store.write(write).await
    }

    /// Queues again what failed for now and whose pause has passed.
    async fn retry_due(&self) -> anyhow::Result<()> {
        let now = Timestamp::now().as_second();
        let ahead = now.saturating_add(i64::try_from(LONGEST_PAUSE.as_secs()).unwrap_or(i64::MAX));
        let due = self.inner.store.read(move |reader| {
            let troubles = reader.due_troubles(now, ahead, RETRY_BATCH)?;
            let with_errand = |trouble: Trouble| Ok((reader.errand(&trouble.spec)?, trouble.spec));
            troubles.into_iter().map(with_errand).collect::<anyhow::Result<Vec<_>>>()
        });
        for (errand, spec) in due.await? {
            let Ok(spec) = spec.parse() else {
                continue;
            };
            // A full queue loses nothing: the row stays, and is due again at the next look.
            if self.submit(&spec, errand.map_or(Priority::Watch, priority)).is_err() {
                return Ok(());
            }
        }
        for (spec, errand) in self.inner.store.read(|reader| reader.due(RETRY_BATCH)).await? {
            let Ok(spec) = spec.parse() else {
                continue;
            };
            if self.submit(&spec, priority(errand)).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// How urgent the builds of an errand are.
fn priority(errand: Errand) -> Priority {
    match errand {
        Errand::Voter => Priority::Voter,
        Errand::Watch => Priority::Watch,
        Errand::Audit => Priority::Audit,
    }
}

/// Seconds until a spec in trouble is tried again; none if it is time. More than the longest pause means that the
/// clock was ahead when it failed: it is time as well, or a node that had the wrong year would wait for it.
fn pause_left(trouble: &Trouble, now: i64) -> Option<u64> {
    let left = u64::try_from(trouble.next_at.saturating_sub(now)).ok()?;
    (left > 0 && left <= LONGEST_PAUSE.as_secs()).then_some(left)
}

/// Waits for the end of a build; for ever if there is none.
async fn ended(progress: &mut Option<watch::Receiver<Progress>>) {
    match progress {
        // An end of the channel is one too: the builder is gone because the node stops.
        Some(receiver) => drop(receiver.wait_for(|progress| matches!(progress, Progress::Done)).await),
        None => std::future::pending().await,
    }
    *progress = None;
}
