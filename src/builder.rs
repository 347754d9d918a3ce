//! One spec → one outcome: a bounded queue, and builds that share nothing they could poison.
//!
//! ```text
//! submit ─▶ queue ─▶ run: at most `max-builds` at a time
//!                     toolchain ─▶ seed ─▶ home + module proxy ─▶ go, in the sandbox ─▶ classify
//!                                                                   └▶ binary: kept, synced
//!                                                     report ─▶ channel ─▶ whoever writes the claim
//! ```
//!
//! Out of scope: what a finding is worth and where it is written; reports go up through a channel.
//!
//! Invariants: a spec is built once at a time, whoever asks joins; nothing waits for a peer in here;
//! a binary is on disk before its report is sent.

pub mod classify;
pub mod home;
mod progress;
mod queue;
mod report;
pub mod run;
pub mod sandbox;
pub mod seed;
pub mod toolchain;
pub mod transcript;
mod tries;
mod work;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{Id, JoinSet, spawn_blocking};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::binaries::Binaries;
use crate::goproxy::ModuleCache;
use crate::metrics::Metrics;
use crate::model::{GoVersion, Spec, Target};

pub use progress::{Phase, Progress};
pub use queue::{Priority, QueueFull};
pub use report::{BuildLimits, BuildReport, Outcome, RunningBuild, Snapshot, WaitingBuild};

use home::{Home, Homes};
use progress::Reporter;
use queue::Queue;
use sandbox::{Limits, Sandbox};
use seed::Seeds;
use toolchain::Toolchains;
use tries::Tries;
use work::{Made, Workshop};

/// Builds that may wait. More is answered with [`QueueFull`].
const QUEUE: usize = 1000;
/// Reports that may wait for whoever writes claims; then builds wait to hand theirs in.
const REPORTS: usize = 64;

/// What the builder takes of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The data directory; `homes` and `seeds` in it are the builder's.
    pub data: PathBuf,
    /// This program, which is executed again as helper.
    pub helper: PathBuf,
    pub sandbox: sandbox::Choice,
    pub max_builds: NonZeroUsize,
    pub limits: BuildLimits,
    /// Value of `GOSUMDB` for builds, if the operator set one.
    pub gosumdb: Option<String>,
}

/// Other parts that builds use.
#[derive(Clone)]
pub struct Parts {
    pub toolchains: Toolchains,
    pub modules: ModuleCache,
    pub binaries: Binaries,
    pub metrics: Metrics,
    /// Rung whenever a build begins.
    pub begun: Arc<Notify>,
}

/// A handle to the builder. Cloning gives another handle.
#[derive(Clone)]
pub struct Builder {
    inner: Arc<Inner>,
}

struct Inner {
    workshop: Workshop,
    metrics: Metrics,
    max_builds: usize,
    queue: Mutex<Queue<Waiters>>,
    /// Rung when there may be something to take.
    bell: Notify,
    /// Rung when something was taken.
    begun: Arc<Notify>,
    tries: Mutex<Tries>,
}

/// What is kept about a build in the queue.
struct Waiters {
    progress: watch::Sender<Progress>,
    since: Timestamp,
}

/// A place in the queue, shared by all who asked for the same spec.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// Becomes [`Progress::Done`], or closes, when what came of it is stored.
    pub progress: watch::Receiver<Progress>,
}

/// Keeps a build in the queue until its report is stored, so that who asks meanwhile joins it
/// instead of building again. Dropping it tells all who wait.
#[derive(Default)]
pub struct Finished {
    build: Option<(Arc<Inner>, Spec)>,
}

impl std::fmt::Debug for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Finished").field(&self.build.as_ref().map(|(_, spec)| spec)).finish()
    }
}

impl Drop for Finished {
    fn drop(&mut self) {
        let Some((inner, spec)) = self.build.take() else {
            return;
        };
        let waiters = inner.queue().finish(&spec);
        if let Some(waiters) = waiters {
            waiters.progress.send_replace(Progress::Done);
        }
    }
}

impl Builder {
    /// Tries the sandbox, removes what an earlier process left, and makes the builder: a handle, the
    /// task that builds until `stop`, and its reports.
    ///
    /// # Errors
    /// When builds cannot be confined as the settings say, or the data directory cannot be used.
    pub async fn new(
        settings: Settings,
        parts: Parts,
        stop: CancellationToken,
    ) -> anyhow::Result<(Builder, impl Future<Output = anyhow::Result<()>> + Send + 'static, mpsc::Receiver<BuildReport>)>
    {
        let (homes, stopping) = (settings.data.join("homes"), stop.clone());
        let homes = spawn_blocking(|| Homes::open(homes, stopping)).await.context("cleaning homes panicked")??;
        let sandbox = Sandbox::detect(settings.sandbox, settings.helper, homes.folder()).await?;
        let limits =
            Limits { time: settings.limits.time, memory: settings.limits.memory, file: settings.limits.file() };
        let seeds = Seeds::open(settings.data.join("seeds"), homes.clone(), sandbox.clone(), limits)?;
        let inner = Arc::new(Inner {
            workshop: Workshop {
                toolchains: parts.toolchains,
                modules: parts.modules,
                binaries: parts.binaries,
                sandbox,
                homes,
                seeds,
                limits: settings.limits,
                gosumdb: settings.gosumdb,
            },
            metrics: parts.metrics,
            max_builds: settings.max_builds.get(),
            queue: Mutex::new(Queue::new(QUEUE)),
            bell: Notify::new(),
            begun: parts.begun,
            tries: Mutex::default(),
        });
        let (reports, receiver) = mpsc::channel(REPORTS);
        let run = Arc::clone(&inner).run(reports, stop);
        Ok((Builder { inner }, run, receiver))
    }

    /// Queues the build of a spec, or joins the one that waits or runs, raising its priority.
    ///
    /// # Errors
    /// When too many wait already.
    pub fn submit(&self, spec: &Spec, priority: Priority) -> Result<Ticket, QueueFull> {
        let mut queue = self.inner.queue();
        let waiters =
            || Waiters { progress: watch::Sender::new(Progress::Queued { position: 0 }), since: Timestamp::now() };
        let (waiters, _) = queue.submit(spec, priority, waiters)?;
        let progress = waiters.progress.subscribe();
        self.inner.tell_positions(&queue);
        drop(queue);
        self.inner.bell.notify_one();
        Ok(Ticket { progress })
    }

    /// Joins the build of a spec if it waits or runs.
    pub fn find(&self, spec: &Spec) -> Option<Ticket> {
        let queue = self.inner.queue();
        let progress = queue.find(spec)?.progress.subscribe();
        Some(Ticket { progress })
    }

    /// What runs and what waits.
    pub fn snapshot(&self) -> Snapshot {
        let queue = self.inner.queue();
        let running = queue.running().map(|(spec, waiters)| RunningBuild {
            spec: spec.clone(),
            progress: waiters.progress.borrow().clone(),
            since: waiters.since,
        });
        let waiting = queue.waiting().enumerate().map(|(position, (spec, priority, waiters))| WaitingBuild {
            spec: spec.clone(),
            priority,
            position,
            since: waiters.since,
        });
        Snapshot { running: running.collect(), waiting: waiting.collect() }
    }

    /// What a Go version builds for: as its toolchain says if it is here, else as the releases do.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn targets_of(&self, goversion: &GoVersion) -> anyhow::Result<Vec<Target>> {
        let toolchains = &self.inner.workshop.toolchains;
        if toolchains.installed().await?.contains(goversion)
            && let Ok(toolchain) = toolchains.ensure(goversion, |_, _| ()).await
        {
            return Ok(toolchain.targets);
        }
        Ok(Target::all().filter(|target| target.exists_in(goversion)).collect())
    }

    /// The Go toolchains of this node.
    pub fn toolchains(&self) -> &Toolchains {
        &self.inner.workshop.toolchains
    }

    /// How builds are confined: `bwrap`, `landlock` or `none`.
    pub fn sandbox(&self) -> &'static str {
        self.inner.workshop.sandbox.name()
    }

    /// Why they are confined so, in one sentence.
    pub fn sandbox_reason(&self) -> &str {
        self.inner.workshop.sandbox.reason()
    }
}

impl Inner {
    /// Takes from the queue and builds, until asked to stop; then ends what runs.
    async fn run(self: Arc<Inner>, reports: mpsc::Sender<BuildReport>, stop: CancellationToken) -> anyhow::Result<()> {
        let mut builds = JoinSet::new();
        let mut specs: HashMap<Id, Spec> = HashMap::new();
        // Removing a home takes longer than people like to wait for the next build.
        let mut removals: JoinSet<()> = JoinSet::new();
        loop {
            while builds.len() < self.max_builds
                && removals.len() <= self.max_builds
                && !stop.is_cancelled()
                && let Some(spec) = self.take()
            {
                let build = Arc::clone(&self).build(spec.clone(), reports.clone(), stop.clone());
                specs.insert(builds.spawn(build).id(), spec);
            }
            self.metrics.running.set(i64::try_from(builds.len()).unwrap_or(i64::MAX));
            tokio::select! {
                () = self.bell.notified() => {}
                () = stop.cancelled() => break,
                Some(ended) = builds.join_next_with_id() => match ended {
                    Ok((id, home)) => {
                        specs.remove(&id);
                        let homes = self.workshop.homes.clone();
                        removals.spawn_blocking(move || {
                            if let Some(home) = home {
                                homes.replace(home);
                            }
                        });
                    }
                    Err(error) => {
                        let spec = specs.remove(&error.id());
                        error!(?spec, %error, "a build panicked");
                        // Who waits sees its channel close.
                        if let Some(spec) = spec {
                            self.queue().finish(&spec);
                        }
                    }
                },
                Some(_) = removals.join_next() => {}
            }
        }
        // Removals end soon now, too: what is left goes at the next start.
        while builds.join_next().await.is_some() {}
        while removals.join_next().await.is_some() {}
        Ok(())
    }

    /// One build, and its report. Returns the home, to be removed.
    async fn build(
        self: Arc<Inner>,
        spec: Spec,
        reports: mpsc::Sender<BuildReport>,
        stop: CancellationToken,
    ) -> Option<Home> {
        let begin = Instant::now();
        let progress = self.queue().find(&spec)?.progress.clone();
        self.begun.notify_one();
        // Whatever happens, those who wait are told.
        let finished = Finished { build: Some((Arc::clone(&self), spec.clone())) };
        let made = self.workshop.build(&spec, &Reporter::new(progress), &stop).await;
        let Made { outcome, log_gz, toolchain_h1, home } = made;
        let Some(outcome) = outcome else { return home };
        let outcome = self.tries.lock().unwrap_or_else(PoisonError::into_inner).judge(&spec, outcome);
        self.metrics.build_ended(outcome.kind(), begin.elapsed());
        let report = BuildReport {
            spec,
            outcome,
            log_gz,
            toolchain_h1,
            sandbox: self.workshop.sandbox.name(),
            host: Target::host().to_string(),
            took: begin.elapsed(),
            finished,
        };
        // An error means that the node is stopping: the build is done again after the start.
        let _ = reports.send(report).await;
        home
    }

    fn take(&self) -> Option<Spec> {
        let mut queue = self.queue();
        let spec = queue.take()?;
        self.tell_positions(&queue);
        Some(spec)
    }

    fn tell_positions(&self, queue: &Queue<Waiters>) {
        let mut count = 0;
        for (position, (_, _, waiters)) in queue.waiting().enumerate() {
            count += 1;
            let now = Progress::Queued { position };
            waiters.progress.send_if_modified(|progress| std::mem::replace(progress, now.clone()) != now);
        }
        self.metrics.queued.set(count);
    }

    fn queue(&self) -> MutexGuard<'_, Queue<Waiters>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
