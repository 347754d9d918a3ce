//! The server: the node's router, server loop and store, with a builder that builds nothing.
//!
//! It prints its address, then obeys lines: `grow N` appends N records, many at the same time, and says so when all are
//! on disk; `state` tells how many streams are open, and resident memory in kB. It ends with its input.

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use sumpeer::binaries::Binaries;
use sumpeer::builder::toolchain::Toolchains;
use sumpeer::builder::{self, BuildLimits, Builder};
use sumpeer::goproxy::{self, Client, ModuleCache};
use sumpeer::log::{self, Log};
use sumpeer::metrics::{Label, Metrics};
use sumpeer::model::Target;
use sumpeer::store::{LogId, Store};
use sumpeer::tally::{Tally, Voter};
use sumpeer::tlog::SignerKey;
use sumpeer::web::limits::{Limits, Settings};
use sumpeer::web::stream::{Pace, Streams};
use sumpeer::web::{self, Live, Node, Parts, server};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{BEFORE, made};

/// Serves until its input ends.
#[tokio::main]
pub(crate) async fn run() -> anyhow::Result<()> {
    let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let key = SignerKey::generate("bench.example", [1; 32])?;
    let metrics = Metrics::new();
    let store = Store::open(data.path(), log::forms(&key), metrics.clone())?;
    let own = made::own(&key);
    made::append(&store, &own, 0..BEFORE, 1000).await?;
    let stop = CancellationToken::new();
    let parts = parts(data.path(), &key, &store, &metrics, stop.clone()).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    say(&listener.local_addr()?.to_string());
    let router = web::router(web::State::new(parts));
    let places = server::Places::new(20_000);
    tokio::select! {
        ended = server::serve(listener, None, router, places, server::Timeouts::default(), metrics.clone(), stop) => ended,
        ended = obey(&store, &own, &metrics) => ended,
    }
}

async fn obey(store: &Store, own: &Voter, metrics: &Metrics) -> anyhow::Result<()> {
    let (sender, mut lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || std::io::stdin().lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let mut size = BEFORE;
    while let Some(line) = lines.recv().await {
        if let Some(count) = line.strip_prefix("grow ") {
            let end = size + count.parse::<u64>()?;
            made::append(store, own, size..end, 1000).await?;
            size = end;
            say("grown");
        } else {
            let open = metrics.streams.get_or_create_owned(&Label { kind: LogId::Accepted.name() }).get();
            say(&format!("{open} {}", resident_kb()?));
        }
    }
    Ok(())
}

async fn parts(
    data: &Path,
    key: &SignerKey,
    store: &Store,
    metrics: &Metrics,
    stop: CancellationToken,
) -> anyhow::Result<Parts> {
    let binaries = Binaries::open(data, u64::MAX, store.clone(), metrics.clone()).await?;
    let proxy = Client::new("off".parse()?, goproxy::http_client()?);
    let modules = ModuleCache::open(data, 1 << 30, store.clone(), proxy.clone(), None).await?;
    let toolchains = Toolchains::open(data, store.clone(), proxy.clone(), None, Default::default()).await?;
    let settings = builder::Settings {
        data: data.to_owned(),
        helper: Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/idle-helper"),
        sandbox: builder::sandbox::Choice::None,
        max_builds: NonZeroUsize::MIN,
        limits: BuildLimits { time: Duration::from_secs(1), memory: 1 << 30, output: 1 << 20, binary: 1 << 30 },
        gosumdb: None,
    };
    let tools = builder::Parts {
        toolchains: toolchains.clone(),
        modules: modules.clone(),
        binaries: binaries.clone(),
        metrics: metrics.clone(),
        begun: std::sync::Arc::default(),
    };
    let (builder, _, _) = Builder::new(settings, tools, stop.clone()).await?;
    let own = made::own(key);
    Ok(Parts {
        accepted: Log::new(store, LogId::Accepted),
        claims: Log::new(store, LogId::Claims),
        store: store.clone(),
        peers: sumpeer::peer::Peers::default(),
        tally: Tally::new(store.clone(), Some(builder.clone()), None, binaries.clone(), vec![own], Vec::new()),
        binaries,
        builder: Some(builder),
        modules,
        toolchains,
        proxy,
        limits: Limits::new(Settings::default()),
        streams: Streams::new(Pace::default()),
        metrics: metrics.clone(),
        node: Node { key: key.verifier(), mode: "build", sandbox: None, host: Target::host() },
        live: tokio::sync::watch::channel(Live { notes: String::new(), lookup_wait: Duration::from_secs(1) }).1,
        stop,
    })
}

#[expect(clippy::print_stdout, reason = "its output is read by the client")]
fn say(line: &str) {
    println!("{line}");
}

fn resident_kb() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    Ok(line.and_then(|line| line.trim().strip_suffix(" kB")).unwrap_or("0").trim().parse()?)
}
