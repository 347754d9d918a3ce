//! Where wishes, builds and words meet: the one door to the accepted log.
//!
//! A wish for a spec becomes a build, a build's report becomes this node's word, all words are
//! judged, and agreement becomes a record. Everything is decided from the store: whoever waits is woken
//! by the end of the build and then reads what is true there.
//!
//! Out of scope: building ([`crate::builder`]), the rule of agreement ([`crate::quorum`]), and HTTP.
//!
//! Invariant: nothing waits here while holding anything.

mod answer;
mod settle;

pub use answer::{Answer, PartyWord, State, View};
pub use settle::{Found, Settled, Voter, settle, standings};

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use moka::sync::Cache;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, instrument, warn};

use crate::binaries::{Binaries, Stored};
use crate::builder::{BuildReport, Builder, Outcome, Priority, Progress};
use crate::model::{Claim, Finding, Spec};
use crate::store::{RecordRow, Store, Trouble};

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
    builder: Builder,
    binaries: Binaries,
    own: Voter,
    voters: Vec<Voter>,
    /// Why a spec does not exist, for as long as that is believed.
    absent: Cache<Spec, String>,
}

impl Tally {
    /// A tally of these voters, `own` among them.
    pub fn new(store: Store, builder: Builder, binaries: Binaries, own: Voter, voters: Vec<Voter>) -> Tally {
        let absent = Cache::builder().max_capacity(ABSENT_SPECS).time_to_live(ABSENT_FOR).build();
        Tally { inner: Arc::new(Inner { store, builder, binaries, own, voters, absent }) }
    }

    /// Whose words are needed.
    pub fn voters(&self) -> &[Voter] {
        &self.inner.voters
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
                let words = reader.spec_id(&spec)?.map_or_else(|| Ok(Vec::new()), |id| reader.words(id))?;
                let trouble = reader.trouble(&spec)?;
                Ok(View::new(spec, record, &words, trouble, absent, &voters))
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

    /// Starts or joins the build of a spec, unless what is known already answers the wish.
    ///
    /// # Errors
    /// The answer, or that the queue is full.
    pub async fn ask(&self, spec: &Spec, priority: Priority) -> Result<watch::Receiver<Progress>, Answer> {
        match self.view(spec).await?.answer() {
            Some(answer) => Err(answer),
            None => self.submit(spec, priority),
        }
    }

    /// Forgets what this node found about a spec it could not build, and builds it again.
    ///
    /// # Errors
    /// The answer, if there is a record; or that the queue is full.
    pub async fn retry(&self, spec: &Spec) -> Result<watch::Receiver<Progress>, Answer> {
        if let Some(row) = self.known(spec).await? {
            return Err(Answer::Record(Box::new(row)));
        }
        self.inner.absent.invalidate(spec);
        let forget = spec.clone();
        self.inner.store.write(move |tx| tx.clear_trouble(&forget)).await?;
        self.submit(spec, Priority::Person)
    }

    /// The record of a spec, building it if need be, after at most `wait`.
    pub async fn record(&self, spec: &Spec, wait: Duration) -> Answer {
        match self.wait(spec, wait).await {
            Ok(answer) | Err(answer) => answer,
        }
    }

    async fn wait(&self, spec: &Spec, wait: Duration) -> Result<Answer, Answer> {
        let deadline = Instant::now() + wait;
        let progress = self.ask(spec, Priority::Person).await?;
        self.finished(progress, deadline).await;
        // The truth is in the store, whatever woke us.
        let view = self.view(spec).await?;
        Ok(view.answer().unwrap_or_else(|| view.waiting()))
    }

    /// The binary of a record, built again if it was evicted, after at most `wait`.
    ///
    /// # Errors
    /// There is no valid copy to be had for now.
    pub async fn binary(&self, row: &RecordRow, wait: Duration) -> Result<Stored, Answer> {
        let sum = row.record.sum;
        if let Some(stored) = self.inner.binaries.find(&sum).await? {
            return Ok(stored);
        }
        let deadline = Instant::now() + wait;
        let progress = self.submit(&row.record.spec, Priority::Person)?;
        self.finished(progress, deadline).await;
        match self.inner.binaries.find(&sum).await? {
            Some(stored) => Ok(stored),
            None => Err(Answer::waiting_for(
                Vec::new(),
                "the binary is not on this node at the moment and could not be built again yet",
            )),
        }
    }

    fn submit(&self, spec: &Spec, priority: Priority) -> Result<watch::Receiver<Progress>, Answer> {
        match self.inner.builder.submit(spec, priority) {
            Ok(ticket) => Ok(ticket.progress),
            Err(full) => Err(Answer::Busy(full.to_string())),
        }
    }

    async fn finished(&self, mut progress: watch::Receiver<Progress>, deadline: Instant) {
        let done = progress.wait_for(|progress| matches!(progress, Progress::Done));
        // Out of time, or the builder is gone because the node stops: the store tells what is so.
        let _ = tokio::time::timeout_at(deadline.into(), done).await;
    }

    #[instrument(skip_all, fields(spec = %report.spec))]
    async fn take(&self, report: BuildReport) -> anyhow::Result<()> {
        let inner = &self.inner;
        let spec = report.spec.clone();
        match report.outcome {
            Outcome::NotFound { ref detail } => {
                info!(detail, "no such thing");
                inner.absent.insert(spec.clone(), detail.clone());
                // A rebuild of something that has a word keeps it: what was found, was found.
                inner.store.write(move |tx| tx.clear_trouble(&spec)).await?;
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
        let inner = self.inner.clone();
        let settled = self.inner.store.write(move |tx| settle::settle(tx, &inner.own, &inner.voters, &found)).await?;
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
        let due = self.inner.store.read(|reader| reader.troubles(RETRY_BATCH)).await?;
        for trouble in due.into_iter().take_while(|trouble| trouble.next_at <= now) {
            let Ok(spec) = trouble.spec.parse() else {
                continue;
            };
            // A full queue loses nothing: the row stays, and is due again at the next look.
            if self.submit(&spec, Priority::Watch).is_err() {
                break;
            }
        }
        Ok(())
    }
}
