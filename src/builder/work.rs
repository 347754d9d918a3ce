//! One build from toolchain to report.
//!
//! Out of scope: which spec is next and who waits for it ([`super`]).

use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::classify::Reading;
use super::home::{Home, Homes};
use super::progress::{Phase, Reporter};
use super::run::{Found, Run};
use super::sandbox::{Limits, Sandbox};
use super::seed::{Lease, Seeds};
use super::toolchain::{Toolchain, ToolchainError, Toolchains};
use super::transcript::Transcript;
use super::{BuildLimits, Outcome};
use crate::binaries::Binaries;
use crate::goproxy::{BuildProxy, ModuleCache};
use crate::model::{Class, Spec};

/// How often it is looked whether modules are still being fetched.
const TICK: Duration = Duration::from_millis(500);

/// What all builds of a node share.
pub(super) struct Workshop {
    pub(super) toolchains: Toolchains,
    pub(super) modules: ModuleCache,
    pub(super) binaries: Binaries,
    pub(super) sandbox: Sandbox,
    pub(super) homes: Homes,
    pub(super) seeds: Seeds,
    pub(super) limits: BuildLimits,
    pub(super) gosumdb: Option<String>,
}

/// What one build left.
pub(super) struct Made {
    /// None: the node is stopping.
    pub(super) outcome: Option<Outcome>,
    pub(super) log_gz: Vec<u8>,
    pub(super) toolchain_h1: String,
    /// Still full of files: removing it may take longer than anybody wants to wait.
    pub(super) home: Option<Home>,
}

impl Workshop {
    /// Builds a spec. What goes wrong on our side is an outcome too: a temporary one.
    pub(super) async fn build(&self, spec: &Spec, reporter: &Reporter, stop: &CancellationToken) -> Made {
        let transcript = Transcript::new(self.limits.output);
        let mut made = Made { outcome: None, log_gz: Vec::new(), toolchain_h1: String::new(), home: None };
        let outcome = self.steps(spec, reporter, &transcript, stop, &mut made).await;
        made.outcome = match outcome {
            _ if stop.is_cancelled() => None,
            Ok(outcome) => outcome,
            Err(error) => {
                warn!(%spec, error = format!("{error:#}"), "build failed on our side");
                transcript.note(&format!("# {error:#}"));
                Some(Outcome::Temporary { detail: format!("{error:#}") })
            }
        };
        made.log_gz = transcript.gzip();
        made
    }

    async fn steps(
        &self,
        spec: &Spec,
        reporter: &Reporter,
        transcript: &Transcript,
        stop: &CancellationToken,
        made: &mut Made,
    ) -> anyhow::Result<Option<Outcome>> {
        let begin = Instant::now();
        reporter.enter(Phase::Toolchain, None);
        let ensured = tokio::select! {
            ensured = self.toolchains.ensure(&spec.goversion, |done, total| reporter.toolchain(done, total)) => ensured,
            () = stop.cancelled() => return Ok(None),
        };
        let toolchain = match ensured {
            Ok(toolchain) => toolchain,
            Err(ToolchainError::NotListed(detail)) => {
                return Ok(Some(Outcome::NotFound { detail }));
            }
            Err(ToolchainError::Corrupt(detail) | ToolchainError::Temporary(detail)) => {
                return Ok(Some(Outcome::Temporary { detail }));
            }
        };
        made.toolchain_h1.clone_from(&toolchain.h1);
        if !toolchain.targets.contains(&spec.target) {
            let detail = format!("{} does not build for {}", spec.goversion, spec.target);
            return Ok(Some(Outcome::CannotBuild { class: Class::UnsupportedTarget, detail }));
        }
        let had_toolchain = begin.elapsed();
        let lease = self.seed(spec, &toolchain, reporter, stop).await?;
        let had_seed = begin.elapsed();
        let home = made.home.insert(self.furnish(&lease).await?);
        let furnished = begin.elapsed();
        let found = self.go(spec, &toolchain, &lease, home, reporter, transcript, stop).await?;
        let compiled = begin.elapsed();
        let outcome = match found {
            Found::Program(path) => {
                let kept = self.binaries.keep(&path).await.context("cannot keep the binary")?;
                transcript.note(&format!("# {} bytes, sum {}", kept.size, kept.sum));
                Outcome::Built(kept)
            }
            Found::Nothing(Reading::Cannot { class, detail }) => Outcome::CannotBuild { class, detail },
            Found::Nothing(Reading::NotFound { detail }) => Outcome::NotFound { detail },
            Found::Nothing(Reading::Temporary { detail }) => Outcome::Temporary { detail },
            Found::TimedOut => Outcome::CannotBuild {
                class: Class::Timeout,
                detail: format!("the build took longer than {} s", self.limits.time.as_secs()),
            },
            Found::Stopped => return Ok(None),
        };
        info!(
            %spec,
            outcome = outcome.kind(),
            toolchain_ms = had_toolchain.as_millis(),
            seed_ms = (had_seed - had_toolchain).as_millis(),
            home_ms = (furnished - had_seed).as_millis(),
            go_ms = (compiled - furnished).as_millis(),
            keep_ms = (begin.elapsed() - compiled).as_millis(),
            "build ended"
        );
        Ok(Some(outcome))
    }

    /// The compiled standard library, made now if this is the first build of its kind.
    async fn seed(
        &self,
        spec: &Spec,
        toolchain: &Toolchain,
        reporter: &Reporter,
        stop: &CancellationToken,
    ) -> anyhow::Result<Lease> {
        let first = !self.seeds.has(&spec.goversion, spec.target);
        let line = first.then(|| format!("compiling the standard library for {}, once", spec.target));
        reporter.enter(Phase::Compile, line);
        self.seeds.lend(&toolchain.root, &spec.goversion, spec.target, stop, |_| ()).await
    }

    /// A home with the seed in its cache.
    async fn furnish(&self, lease: &Lease) -> anyhow::Result<Home> {
        let homes = self.homes.clone();
        let seed = lease.path().map(|seed| (seed.to_owned(), self.sandbox.seed_inside(seed)));
        let furnish = move || match seed {
            Some((seed, inside)) => homes.with_seed(&seed, &inside),
            None => homes.make(),
        };
        spawn_blocking(furnish).await.context("making a home panicked")?
    }

    /// Runs the go command with a module proxy of its own.
    #[expect(clippy::too_many_arguments, reason = "each is one thing a run needs, named at its one caller")]
    async fn go(
        &self,
        spec: &Spec,
        toolchain: &Toolchain,
        lease: &Lease,
        home: &Home,
        reporter: &Reporter,
        transcript: &Transcript,
        stop: &CancellationToken,
    ) -> anyhow::Result<Found> {
        reporter.enter(Phase::Modules, None);
        let (log, progress) = (transcript.clone(), reporter.clone());
        let proxy = BuildProxy::serve(
            &home.socket(),
            self.modules.clone(),
            spec.module.clone(),
            spec.version.clone(),
            move |line| log.note(line),
            move |path, done, total| progress.module(path, done, total),
        )?;
        let limits = Limits { time: self.limits.time, memory: self.limits.memory, file: self.limits.file() };
        let run = Run {
            sandbox: &self.sandbox,
            limits: &limits,
            binary_limit: self.limits.binary,
            gosumdb: self.gosumdb.as_deref(),
            home,
            toolchain: &toolchain.root,
            toolchain_h1: &toolchain.h1,
            seed: lease.path(),
            transcript,
        };
        let mut building = std::pin::pin!(run.build(spec, stop, || reporter.lines(transcript.last_lines())));
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let found = loop {
            tokio::select! {
                found = &mut building => break found?,
                _ = ticks.tick() => reporter.tick(),
            }
        };
        if found == Found::TimedOut
            && let Some(path) = proxy.unanswered()
        {
            // The time went into waiting for others: no finding about the module.
            let detail = format!("the build took longer than {} s, waiting for {path}", self.limits.time.as_secs());
            return Ok(Found::Nothing(Reading::Temporary { detail }));
        }
        Ok(with_proxy(found, proxy.module_absent(), proxy.trouble()))
    }
}

/// What the module proxy saw weighs more than what the go command made of it, as far as it is about
/// what exists: not every Go version repeats the reason.
///
/// A finding stands all the same: proxies refuse many a path that the go command only tries.
fn with_proxy(found: Found, absent: Option<String>, trouble: Option<String>) -> Found {
    let (Found::Nothing(Reading::NotFound { detail }) | Found::Nothing(Reading::Temporary { detail })) = &found else {
        return found;
    };
    match (absent, trouble) {
        (Some(detail), _) => Found::Nothing(Reading::NotFound { detail }),
        (None, Some(trouble)) => Found::Nothing(Reading::Temporary { detail: format!("{detail}; {trouble}") }),
        (None, None) => found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxys_word_counts_where_the_go_command_only_guesses() {
        let nothing = |reading: Reading| Found::Nothing(reading);
        let not_found = |detail: &str| nothing(Reading::NotFound { detail: detail.into() });
        let temporary = |detail: &str| nothing(Reading::Temporary { detail: detail.into() });
        let cannot = || nothing(Reading::Cannot { class: Class::NotMain, detail: "library".into() });
        let (absent, trouble) = (|| Some("absent".to_owned()), || Some("trouble".to_owned()));
        for (found, absent, trouble, expected) in [
            (not_found("go"), None, None, not_found("go")),
            (not_found("go"), None, trouble(), temporary("go; trouble")),
            (temporary("go"), absent(), None, not_found("absent")),
            (temporary("go"), None, trouble(), temporary("go; trouble")),
            (cannot(), None, trouble(), cannot()),
        ] {
            assert_eq!(with_proxy(found, absent, trouble), expected);
        }
    }
}
