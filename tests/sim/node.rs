//! A simulated node: the program's own store, logs, tally, followers and router. Only what it finds is made up, and the
//! wire is not one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use sumpeer::binaries::Binaries;
use sumpeer::builder::toolchain::Toolchains;
use sumpeer::goproxy::{self, Client, ModuleCache};
use sumpeer::log::{self, Log};
use sumpeer::metrics::Metrics;
use sumpeer::model::{Claim, Spec, Target};
use sumpeer::node::Following;
use sumpeer::peer::{Pace, Peer, Timing, Transport};
use sumpeer::store::{LogId, Store};
use sumpeer::tally::{Found, Tally, Voter, settle};
use sumpeer::tasks::Tasks;
use sumpeer::tlog::SignerKey;
use sumpeer::web::limits::{Limits, Settings};
use sumpeer::web::stream::{self, Streams};
use sumpeer::web::{self, Live, Node as Shown, Parts};
use tempfile::TempDir;
use tokio::sync::{OnceCell, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::net::{Call, Net, Piece, Wire};
use crate::plan::{Kind, NodePlan, Plan, Said, finding};

/// How long a node that starts waits for the one before to let go of the directory.
const PATIENCE: Duration = Duration::from_secs(20);

/// What outlives restarts.
pub(crate) struct Site {
    pub(crate) number: usize,
    pub(crate) key: SignerKey,
    kind: Kind,
    data: PathBuf,
    peers: Vec<Peer>,
    says: Arc<Vec<(Duration, Spec, usize, Said)>>,
    /// How many of its findings are stored for sure.
    said: Arc<AtomicUsize>,
    net: Arc<Net>,
}

/// A node that runs.
pub(crate) struct Up {
    pub(crate) store: Store,
    pub(crate) tally: Tally,
    pub(crate) router: Router,
    stop: CancellationToken,
    running: JoinSet<anyhow::Result<()>>,
}

impl Site {
    pub(crate) fn new(plan: &Plan, number: usize, data: &Path, net: &Arc<Net>) -> Site {
        let NodePlan { kind, peers, says } = &plan.nodes[number];
        let peer = |(peer, vote): &(usize, bool)| Peer {
            name: Plan::name(*peer),
            key: key(*peer).verifier(),
            url: format!("http://{}/", Plan::name(*peer)).parse().expect("an address"),
            program: None,
            vote: *vote,
            build_on_claim: true,
        };
        let says = says.iter().map(|(pause, spec, said)| (*pause, plan.specs[*spec].clone(), *spec, *said));
        Site {
            number,
            key: key(number),
            kind: *kind,
            data: data.join(Plan::name(number)),
            peers: peers.iter().map(peer).collect(),
            says: Arc::new(says.collect()),
            said: Arc::default(),
            net: Arc::clone(net),
        }
    }

    /// How much of what it will find it has found.
    pub(crate) fn found(&self) -> usize {
        self.said.load(Ordering::SeqCst)
    }

    /// Whether it has found all that it will.
    pub(crate) fn is_done(&self) -> bool {
        self.found() == self.says.len()
    }

    /// Starts the node on its directory, as `node::run` does.
    pub(crate) async fn start(&self) -> anyhow::Result<Up> {
        std::fs::create_dir_all(&self.data)?;
        let metrics = Metrics::new();
        let store = self.open(&metrics).await?;
        let binaries = Binaries::open(&self.data, u64::MAX, store.clone(), metrics.clone()).await?;
        let transport: Arc<dyn Transport> = Arc::new(Wire { net: Arc::clone(&self.net), from: self.number });
        let own = self.key.verifier();
        let mut following = Following::new(self.peers.clone(), &pace(), &own, &store, &transport, &metrics);

        let stop = CancellationToken::new();
        let mut tasks = Tasks::new(stop.clone());
        let mut voters = std::mem::take(&mut following.voters);
        if self.kind != Kind::Verifies {
            voters.insert(0, Voter { name: own.name().to_owned(), vkey: own.to_string(), own: true });
        }
        let wants = std::mem::take(&mut following.wants);
        let peers = following.peers.clone();
        let tally = Tally::new(store.clone(), None, None, binaries.clone(), voters, wants);
        tally.recall().await?;
        tasks.spawn("build", self.build(store.clone(), tally.clone(), stop.clone()));
        tasks.spawn("judge", tally.clone().judge_again(stop.clone()));
        following.spawn(&tally, &mut tasks, &stop);
        tasks.spawn("store", watch_store(store.clone(), stop.clone()));

        let idle = idle().await;
        let mode = if self.kind == Kind::Verifies { "verify-only" } else { "build" };
        let everyone = Settings { exempt: vec!["0.0.0.0/0".parse()?], ..Settings::default() };
        let state = web::State::new(Parts {
            accepted: Log::new(&store, LogId::Accepted),
            claims: Log::new(&store, LogId::Claims),
            store: store.clone(),
            peers,
            tally: tally.clone(),
            binaries,
            builder: None,
            modules: idle.modules.clone(),
            toolchains: idle.toolchains.clone(),
            proxy: idle.proxy.clone(),
            limits: Limits::new(everyone),
            streams: Streams::new(stream::Pace { heartbeat: ms(60), max_age: ms(400) }),
            metrics,
            node: Shown { key: own, mode, sandbox: None, host: Target::host() },
            live: watch::channel(Live { notes: String::new(), lookup_wait: ms(100) }).1,
            stop: stop.clone(),
        });
        let mut router = web::router(state);
        if self.kind == Kind::Upstream {
            router = router.layer(axum::middleware::from_fn(as_upstream));
        }
        let (door, calls) = mpsc::channel(64);
        tasks.spawn("web", serve(calls, router.clone(), stop.clone()));
        self.net.set_door(self.number, Some(door));
        let mut running = JoinSet::new();
        running.spawn(tasks.run());
        Ok(Up { store, tally, router, stop, running })
    }

    async fn open(&self, metrics: &Metrics) -> anyhow::Result<Store> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (data, forms, metrics) = (self.data.clone(), log::forms(&self.key), metrics.clone());
            let opened = tokio::task::spawn_blocking(move || Store::open(&data, forms, metrics)).await?;
            match opened {
                Err(error) if format!("{error:#}").contains("another node") && Instant::now() < deadline => {}
                opened => return opened,
            }
            sleep(ms(1)).await;
        }
    }

    /// Finds what the plan says, one after the other. A finding that may be stored already is found again.
    fn build(
        &self,
        store: Store,
        tally: Tally,
        stop: CancellationToken,
    ) -> impl Future<Output = anyhow::Result<()>> + use<> {
        let (says, said) = (Arc::clone(&self.says), Arc::clone(&self.said));
        async move {
            while let Some((pause, spec, number, what)) = says.get(said.load(Ordering::SeqCst)) {
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = sleep(*pause) => {}
                }
                let found = Found {
                    claim: Claim {
                        spec: spec.clone(),
                        finding: finding(*number, *what),
                        at: Timestamp::from_second(1_790_000_000)?,
                        host: "linux/amd64".to_owned(),
                        toolchain: "h1:simulated".to_owned(),
                        sandbox: "none".to_owned(),
                    },
                    binary: None,
                    log_gz: Vec::new(),
                };
                let voters = tally.voters().to_vec();
                let own = voters.iter().find(|voter| voter.own).cloned().context("it builds nothing")?;
                store.write(move |tx| settle(tx, &own, &voters, &found)).await?;
                said.fetch_add(1, Ordering::SeqCst);
            }
            stop.cancelled().await;
            Ok(())
        }
    }
}

impl Up {
    /// Fails if one of its tasks has ended by itself.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        match self.running.try_join_next() {
            None => Ok(()),
            Some(ended) => ended?.and_then(|()| anyhow::bail!("a node ended by itself")),
        }
    }

    /// Gone, in the middle of whatever it does.
    pub(crate) fn crash(self, net: &Net, number: usize) {
        net.set_door(number, None);
        drop(self);
    }

    /// # Errors
    /// A task had failed, or did not end in time.
    pub(crate) async fn stop(mut self, net: &Net, number: usize) -> anyhow::Result<()> {
        self.stop.cancel();
        let begun = Instant::now();
        while let Some(ended) = self.running.join_next().await {
            ended??;
        }
        net.set_door(number, None);
        ensure!(begun.elapsed() < Duration::from_secs(5), "it took {:?} to stop", begun.elapsed());
        Ok(())
    }
}

/// Answers what comes over the wire, many at the same time, until the node is gone.
async fn serve(mut calls: mpsc::Receiver<Call>, router: Router, stop: CancellationToken) -> anyhow::Result<()> {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            Some(_) = open.join_next() => {}
            call = calls.recv() => {
                let Some(Call { request, reply }) = call else {
                    stop.cancelled().await;
                    return Ok(());
                };
                let router = router.clone();
                open.spawn(async move {
                    let Ok(response) = router.oneshot(request).await;
                    let (head, mut body) = response.into_parts();
                    let (pieces, receiver) = mpsc::channel(4);
                    if reply.send((head, receiver)).is_err() {
                        return;
                    }
                    while let Some(frame) = body.frame().await {
                        // A body that breaks off ends without a word.
                        let Ok(frame) = frame else { return };
                        if let Ok(bytes) = frame.into_data()
                            && pieces.send(Piece::Bytes(bytes)).await.is_err()
                        {
                            return;
                        }
                    }
                    let _ = pieces.send(Piece::End).await;
                });
            }
        }
    }
}

/// Upstream has no streams, no claims and no API.
async fn as_upstream(request: Request, next: axum::middleware::Next) -> axum::response::Response {
    let path = request.uri().path();
    let ours = path.starts_with("/api/") || path.starts_with("/claims/") || path.ends_with("/stream");
    if ours { (StatusCode::NOT_FOUND, "404 page not found\n").into_response() } else { next.run(request).await }
}

async fn watch_store(store: Store, stop: CancellationToken) -> anyhow::Result<()> {
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        cause = store.failed() => Err(cause),
    }
}

/// What a router needs and no run uses: one for all.
struct Idle {
    modules: ModuleCache,
    toolchains: Toolchains,
    proxy: Client,
    _data: TempDir,
}

async fn idle() -> &'static Idle {
    static IDLE: OnceCell<Idle> = OnceCell::const_new();
    let make = || async {
        let data = folder()?;
        let store = Store::open(data.path(), log::forms(&key(0)), Metrics::new())?;
        let proxy = Client::new("off".parse()?, goproxy::http_client()?);
        let modules = ModuleCache::open(data.path(), 1 << 30, store.clone(), proxy.clone(), None).await?;
        let toolchains = Toolchains::open(data.path(), store, proxy.clone(), None, Default::default()).await?;
        anyhow::Ok(Idle { modules, toolchains, proxy, _data: data })
    };
    IDLE.get_or_try_init(make).await.expect("a folder")
}

/// In memory if the machine has such a place: a run syncs some thousand times.
pub(crate) fn folder() -> anyhow::Result<TempDir> {
    let builder = || {
        let mut builder = tempfile::Builder::new();
        builder.prefix("sumpeer-sim-");
        builder
    };
    Ok(builder().tempdir_in("/dev/shm").or_else(|_| builder().tempdir())?)
}

/// Everything is as in a node, some thousand times faster.
fn pace() -> Pace {
    Pace {
        poll: ms(20),
        recheck: vec![ms(10), ms(20)],
        silence: ms(60_000),
        backoff: (ms(2), ms(30)),
        steady: ms(100),
        timing: Timing { first_byte: ms(400), whole: ms(400), silence: ms(300), lookup: ms(1000) },
    }
}

pub(crate) fn key(number: usize) -> SignerKey {
    SignerKey::generate(&Plan::name(number), [u8::try_from(number).expect("few nodes") + 1; 32]).expect("a name")
}

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}
