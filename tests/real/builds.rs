//! The builder alone: sums that others found, and findings about modules that cannot be built.
//!
//! `SUMPEER_REAL=all` builds every spec of `tests/data/sums.json`; without it, some.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use sumpeer::binaries::Binaries;
use sumpeer::builder::toolchain::Toolchains;
use sumpeer::builder::{
    BuildLimits, BuildReport, Builder, Outcome, Parts, Priority, Progress, Settings, sandbox::Choice,
};
use sumpeer::goproxy::ModuleCache;
use sumpeer::metrics::Metrics;
use sumpeer::model::{GoRange, Spec};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::upstream;

#[derive(Deserialize)]
struct Vector {
    spec: String,
    size: u64,
    sum: String,
}

const VECTORS: &str = include_str!("../data/sums.json");

/// A builder with all that belongs to it, and nothing above it.
struct World {
    builder: Builder,
    reports: mpsc::Receiver<BuildReport>,
    stop: CancellationToken,
    running: tokio::task::JoinSet<anyhow::Result<()>>,
    _data: TempDir,
}

impl World {
    async fn new(choice: Choice) -> World {
        // With --nocapture: where the time goes.
        let _ = tracing_subscriber::fmt().try_init();
        let data = tempfile::tempdir().unwrap();
        let path: &Path = data.path();
        let metrics = Metrics::new();
        let (client, store) = (upstream::client(), upstream::store(path));
        let sumdb = upstream::sumdb(&client, &store);
        let parts = Parts {
            toolchains: Toolchains::open(path, store.clone(), client.clone(), Some(sumdb.clone()), GoRange::default())
                .await
                .unwrap(),
            modules: ModuleCache::open(path, 1 << 30, store.clone(), client, Some(Arc::new(sumdb))).await.unwrap(),
            binaries: Binaries::open(path, 1 << 30, store, metrics.clone()).await.unwrap(),
            metrics,
            begun: Arc::default(),
        };
        let settings = Settings {
            data: path.to_owned(),
            helper: env!("CARGO_BIN_EXE_sumpeer").into(),
            sandbox: choice,
            max_builds: 1.try_into().unwrap(),
            limits: BuildLimits { time: Duration::from_secs(600), memory: 4 << 30, output: 1 << 20, binary: 1 << 30 },
            gosumdb: Some(upstream::gosumdb().to_string()),
        };
        let stop = CancellationToken::new();
        let (builder, run, reports) = Builder::new(settings, parts, stop.clone()).await.unwrap();
        eprintln!("{}: {}", builder.sandbox(), builder.sandbox_reason());
        let mut running = tokio::task::JoinSet::new();
        running.spawn(run);
        World { builder, reports, stop, running, _data: data }
    }

    async fn build(&mut self, spec: &str) -> BuildReport {
        let spec: Spec = spec.parse().unwrap();
        let begin = Instant::now();
        let mut ticket = self.builder.submit(&spec, Priority::Person).unwrap();
        let report = self.reports.recv().await.unwrap();
        eprintln!("{spec}: {} in {:?}, after {:?}", report.outcome.kind(), report.took, begin.elapsed());
        assert_eq!(report.spec, spec);
        assert_ne!(*ticket.progress.borrow_and_update(), Progress::Done, "not before it is stored");
        report
    }

    async fn stop(mut self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(10), self.running.join_next()).await;
        ended.expect("stops within 10 s").unwrap().unwrap().unwrap();
    }
}

fn unzip(gz: &[u8]) -> String {
    use std::io::Read as _;
    let mut text = String::new();
    flate2::read::GzDecoder::new(gz).read_to_string(&mut text).unwrap();
    text
}

#[tokio::test]
async fn sums_are_what_others_found() {
    let all = std::env::var("SUMPEER_REAL").is_ok_and(|value| value == "all");
    let mut world = World::new(Choice::Auto).await;
    let vectors: Vec<Vector> = serde_json::from_str(VECTORS).unwrap();
    for vector in vectors {
        // One system and architecture each, small programs: a minute or two.
        let small = ["linux-amd64-go1.27.1", "windows-amd64-go1.27.1-stripped", "go1.17.13"];
        let wanted = all || (!vector.spec.contains("mox") && small.iter().any(|end| vector.spec.contains(end)));
        if !wanted {
            continue;
        }
        let report = world.build(&vector.spec).await;
        let log = unzip(&report.log_gz);
        let Outcome::Built(row) = &report.outcome else {
            panic!("{}: {:?}\n{log}", vector.spec, report.outcome);
        };
        assert_eq!((row.size, row.sum.to_string()), (vector.size, vector.sum), "{}", vector.spec);
        assert!(log.starts_with("# "), "{log}");
        assert!(log.contains("proxy: GET ") && log.contains("# command: go "), "{log}");
        drop(report);
    }
    world.stop().await;
}

#[tokio::test]
async fn what_cannot_be_built_is_named() {
    let mut world = World::new(Choice::Auto).await;
    for (spec, expected) in [
        ("rsc.io/2fa@v1.2.0/nosuch/linux-amd64-go1.27.1/", "no-such-package"),
        ("golang.org/x/crypto@v0.24.0/ssh/linux-amd64-go1.27.1/", "not-main"),
        ("github.com/mjl-/mox@v0.0.17/linux-amd64-go1.21.13/", "needs-newer-go"),
        ("rsc.io/2fa@v1.2.0/ios-arm64-go1.27.1/", "external-linker"),
        ("rsc.io/2fa@v9.9.9+incompatible/linux-amd64-go1.27.1/", ""),
        ("rsc.io/2fa@v1.2.0/linux-amd64-go1.26.99/", ""),
    ] {
        let report = world.build(spec).await;
        match &report.outcome {
            Outcome::CannotBuild { class, detail } => {
                assert_eq!((class.to_string().as_str(), detail.is_empty()), (expected, false))
            }
            // Some proxies refuse what does not exist instead of saying so.
            Outcome::NotFound { .. } | Outcome::Temporary { .. } if expected.is_empty() => {
                eprintln!("{:?}", report.outcome)
            }
            outcome => panic!("{spec}: {outcome:?}\n{}", unzip(&report.log_gz)),
        }
    }
    world.stop().await;
}
