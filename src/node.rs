//! A node: makes the parts, connects them, supervises them, stops them.
//!
//! The only module besides `cli` that sees the configuration; every part takes its own few values. What
//! a node of some mode lacks is not made here, and no other module asks.

mod alerts;
mod audit;
mod key;
mod peers;

pub use alerts::channels;
pub use key::{read_key, write_key};
pub use peers::Following;

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::alert::{self, Disk, Heartbeat};
use crate::binaries::Binaries;
use crate::builder::sandbox::Choice;
use crate::builder::toolchain::Toolchains;
use crate::builder::{self, BuildLimits, Builder};
use crate::config::{self, Config, GoSumDb, Mode, Tls};
use crate::goproxy::{self, ModuleCache, Verify};
use crate::log::{self, Log};
use crate::metrics::Metrics;
use crate::model::Target;
use crate::peer::{self, Transport};
use crate::store::{LogId, Store};
use crate::sumdb::{Database, SumDb};
use crate::tally::{Comparer, Mirror, Names, Tally, Voter};
use crate::tasks::Tasks;
use crate::web::admin::Token;
use crate::web::limits::{self, Limits};
use crate::web::stream::{Pace, Streams};
use crate::web::tls;
use crate::web::{self, server};

/// Bytes of module files to keep: enough for the dependencies of some hundred programs.
const MODULE_CACHE_BYTES: u64 = 10 << 30;
/// What a build takes on the disk, in programs of the largest size that is allowed: what the compiler leaves, the program
/// that is linked from it, and its compressed copy.
const BINARIES_A_BUILD: u64 = 3;
/// Bytes of the disk that a node needs which only fetches: a large program, and what the database grows by.
const DOWNLOAD_BYTES: u64 = 512 << 20;
/// Connections to the admin listener: one operator, and what collects the metrics.
const ADMIN_CONNECTIONS: usize = 64;

/// Runs a node until `stop` is cancelled. Of a configuration that comes later it takes over what it can.
///
/// # Errors
/// It cannot start, or one of its parts has failed; each is one sentence for the operator.
pub async fn run(mut configs: watch::Receiver<Config>, stop: CancellationToken) -> anyhow::Result<()> {
    let config = configs.borrow_and_update().clone();
    // Before anything is changed: a port that is taken is the most common mistake.
    let public = listen(config.listen, "listen").await?;
    let admin = listen(config.admin_listen, "admin-listen").await?;
    let data = &config.data;
    fs::create_dir_all(data).with_context(|| format!("cannot make the data directory {}", data.display()))?;

    let key = key::own_key(&config.key_file(), config.name.as_deref(), Store::exists(data))?;
    let metrics = Metrics::new();
    let certificates = Arc::new(Notify::new());
    let (tls, renewal) = tls(&config, &metrics, &certificates, &stop)?.unzip();
    let store = Store::open(data, log::forms(&key), metrics.clone())?;
    let accepted = Log::new(&store, LogId::Accepted);
    let claims = Log::new(&store, LogId::Claims);
    let binaries = Binaries::open(data, config.binary_cache.bytes(), store.clone(), metrics.clone()).await?;

    let proxies = match config.mode {
        Mode::Build => config::goproxy(config.goproxy.as_deref())?,
        // For names such as `latest` only.
        Mode::VerifyOnly => config::goproxy_if_named(config.goproxy.as_deref()),
    };
    let proxy = goproxy::Client::new(proxies.parse().context("goproxy")?, goproxy::http_client()?);
    let gosumdb = config::gosumdb(config.gosumdb.as_ref())?;
    let sumdb = match &gosumdb {
        GoSumDb::Off => None,
        GoSumDb::Key(key) => Some(SumDb::new(Database::of_key((**key).clone())?, proxy.clone(), store.clone())),
    };
    let verify = sumdb.clone().map(|sumdb| Arc::new(sumdb) as Arc<dyn Verify>);
    let modules = ModuleCache::open(data, MODULE_CACHE_BYTES, store.clone(), proxy.clone(), verify).await?;
    let toolchains = Toolchains::open(data, store.clone(), proxy.clone(), sumdb, config.go_versions()).await?;
    let transport: Arc<dyn Transport> = Arc::new(peer::Http::new()?);
    let own = key.verifier();
    let followed = peers::peers(&config, &own)?;
    let mut following = Following::new(followed, &peers::pace(&config), &own, &store, &transport, &metrics);

    let mut tasks = Tasks::new(stop.clone());
    // Before anything can be raised: only channels that the store knows of are told.
    let author = alerts::author(&config, &own, &following.peers, public.local_addr()?);
    let channels = alerts::make(&config, own.name(), &author.base, Some((&store, &author)))?;
    channels.open(&store).await?;
    let office = alert::Office::new(store.clone(), author, alerts::pace(&config), metrics.clone());
    channels.spawn(&office, &mut tasks, &stop);
    let names = Names { own: own.clone(), peers: following.peers.clone() };
    let mut voters = std::mem::take(&mut following.voters);
    let (mut built, mut mirror) = (None, None);
    // Rung when a build begins: it is what takes room.
    let begun = Arc::new(Notify::new());
    let mut room = DOWNLOAD_BYTES;
    if config.mode == Mode::Build {
        room = config.build_limits.binary.bytes().saturating_mul(BINARIES_A_BUILD);
        // What the node checks against is what builds check against, wherever it was set.
        let gosumdb = Some(gosumdb.to_string()).filter(|name| name != config::DEFAULT_SUMDB);
        let parts = builder::Parts {
            toolchains: toolchains.clone(),
            modules: modules.clone(),
            binaries: binaries.clone(),
            metrics: metrics.clone(),
            begun: begun.clone(),
        };
        let (builder, build, reports) = Builder::new(build_settings(&config, gosumdb)?, parts, stop.clone()).await?;
        tasks.spawn("builder", build);
        voters.insert(0, Voter { name: key.name().to_owned(), vkey: key.verifier().to_string(), own: true });
        built = Some((builder, reports));
    } else {
        let (copies, copier) = Mirror::new(store.clone(), binaries.clone(), names.clone(), transport.clone());
        tasks.spawn("mirror", copier.run(stop.clone()));
        mirror = Some(copies);
    }
    let (builder, reports) = built.unzip();
    let wants = std::mem::take(&mut following.wants);
    let peers = following.peers.clone();
    let tally = Tally::new(store.clone(), builder.clone(), mirror, binaries.clone(), voters, wants);
    tally.recall().await?;
    if let Some(reports) = reports {
        tasks.spawn("tally", tally.clone().run(reports, stop.clone()));
        if let Some(auditor) = audit::auditor(&config, &store, &tally, &peers) {
            tasks.spawn("audit", auditor.run(stop.clone()));
        }
        if let Some(watcher) = audit::watcher(&config, &store, &tally, &modules, &toolchains)? {
            tasks.spawn("watch", watcher.run(stop.clone()));
        }
    }
    let comparer = Comparer::new(store.clone(), binaries.clone(), names, transport.clone());
    tasks.spawn("compare", comparer.run(tally.news(), stop.clone()));
    tasks.spawn("judge", tally.clone().judge_again(stop.clone()));
    following.spawn(&tally, &mut tasks, &stop);
    if let Some(renewal) = renewal {
        tasks.spawn("certificates", renewal);
    }
    tasks.spawn("binaries", binaries.clone().sweep(stop.clone()));
    let limits = Limits::new(request_limits(&config));
    tasks.spawn("limits", limits.clone().forget(stop.clone()));
    tasks.spawn("disk", Disk::new(data.clone(), room, begun, store.clone()).run(stop.clone()));
    if let Some(heartbeat) = config.alerts.as_ref().and_then(|alerts| alerts.heartbeat.as_ref()) {
        let url = heartbeat.url.clone().context("alerts.heartbeat: url is missing")?;
        let well = tally.clone();
        let well = move || {
            let tally = well.clone();
            async move { tally.well().await }
        };
        tasks.spawn("heartbeat", Heartbeat::new(url, heartbeat.every.duration())?.run(well, stop.clone()));
    }
    tasks.spawn("store", watch_store(store.clone(), stop.clone()));
    for log in [(accepted.clone(), LogId::Accepted), (claims.clone(), LogId::Claims)] {
        tasks.spawn("log-size", count(log.0, log.1, metrics.clone(), stop.clone()));
    }

    let (alive, live) = watch::channel(live(&config));
    tasks.spawn("reload", reload(configs, alive, certificates, stop.clone()));
    let sandbox = builder.as_ref().map(|builder| builder.sandbox().to_owned());
    let state = web::State::new(web::Parts {
        store,
        accepted,
        claims,
        tally,
        peers,
        binaries,
        builder,
        modules,
        proxy,
        toolchains,
        limits,
        streams: Streams::new(Pace { max_age: config.stream_max_age.duration(), ..Pace::default() }),
        metrics: metrics.clone(),
        node: web::Node { key: key.verifier(), mode: config.mode.name(), sandbox, host: Target::host() },
        live,
        stop: stop.clone(),
    });
    let places = server::Places::new(config.limits.max_connections.get() as usize);
    let timeouts = server::Timeouts::default();
    let (public_at, admin_at) = (public.local_addr()?, admin.local_addr()?);
    let token = keep_admin(data, admin_at)?;
    // Places of its own: strangers must not keep the operator out.
    let admin_places = server::Places::new(ADMIN_CONNECTIONS);
    let scheme = if tls.is_some() { "https" } else { "http" };
    let serve = |listener, tls, router, places| {
        server::serve(listener, tls, router, places, timeouts, metrics.clone(), stop.clone())
    };
    tasks.spawn("web", serve(public, tls, web::router(state.clone()), places));
    tasks.spawn("admin", serve(admin, None, web::admin::router(state, admin_at, token, channels), admin_places));
    say(scheme, public_at, admin_at, &key.verifier().to_string());
    tasks.run().await
}

/// What people and programs that started the node read.
fn say(scheme: &str, public: SocketAddr, admin: SocketAddr, vkey: &str) {
    eprintln!("listening on {scheme}://{public}");
    eprintln!("admin on http://{admin}");
    eprintln!("verifier key {vkey}");
}

async fn listen(address: SocketAddr, setting: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} ({setting})"))
}

/// What the public listener speaks TLS with, and what keeps its certificate fresh.
fn tls(
    config: &Config,
    metrics: &Metrics,
    again: &Arc<Notify>,
    stop: &CancellationToken,
) -> anyhow::Result<Option<(tls::Tls, BoxFuture<'static, anyhow::Result<()>>)>> {
    let (metrics, stop) = (metrics.clone(), stop.clone());
    let opened = match config.tls.clone() {
        None => return Ok(None),
        Some(Tls { acme: Some(acme), .. }) => {
            let config::Acme { domains, contact, directory } = acme;
            let directory = directory.map_or_else(|| tls::LETS_ENCRYPT.to_owned(), |url| url.to_string());
            let acme = tls::Acme { domains, contact, directory, folder: config.data.join("acme") };
            let (tls, renewal) = acme.open(metrics, stop)?;
            (tls, renewal.boxed())
        }
        Some(Tls { acme: None, cert, key }) => {
            let (cert, key) = cert.zip(key).context("tls: cert and key belong together")?;
            let (tls, renewal) = tls::Files { cert, key }.open(metrics, again.clone(), stop)?;
            (tls, renewal.boxed())
        }
    };
    Ok(Some(opened))
}

/// Keeps the admin listener's address and a fresh token where only the operator can read them.
fn keep_admin(data: &Path, address: SocketAddr) -> anyhow::Result<Token> {
    let path = data.join("admin");
    let token = data_encoding::BASE64URL_NOPAD.encode(&rand::random::<[u8; 32]>());
    let write = || {
        let _ = fs::remove_file(&path);
        let mut file = fs::File::options().create_new(true).write(true).mode(0o600).open(&path)?;
        writeln!(file, "http://{address}\n{token}")
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Token::new(token))
}

/// Ends when the store can no longer be written: the node must not go on without it.
async fn watch_store(store: Store, stop: CancellationToken) -> anyhow::Result<()> {
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        cause = store.failed() => Err(cause),
    }
}

/// Takes over what a changed configuration may change.
async fn reload(
    mut configs: watch::Receiver<Config>,
    alive: watch::Sender<web::Live>,
    certificates: Arc<Notify>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = configs.changed() => changed.context("nobody reads the configuration any more")?,
        }
        alive.send_replace(live(&configs.borrow_and_update()));
        certificates.notify_one();
    }
}

/// What of a configuration is taken over while the node runs; `config` lists the same.
fn live(config: &Config) -> web::Live {
    web::Live { notes: config.notes.clone(), lookup_wait: config.lookup_wait.duration() }
}

/// Shows the size of a log in the metrics.
async fn count(log: Log, id: LogId, metrics: Metrics, stop: CancellationToken) -> anyhow::Result<()> {
    let mut heads = log.subscribe();
    loop {
        metrics.set_log_size(id.name(), heads.borrow_and_update().size.get());
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = heads.changed() => changed.context("the log is gone")?,
        }
    }
}

fn build_settings(config: &Config, gosumdb: Option<String>) -> anyhow::Result<builder::Settings> {
    Ok(builder::Settings {
        data: config.data.clone(),
        helper: std::env::current_exe().context("cannot find this program")?,
        sandbox: choice(config.sandbox),
        max_builds: config.max_builds(),
        limits: build_limits(config),
        gosumdb,
    })
}

fn build_limits(config: &Config) -> BuildLimits {
    let limits = &config.build_limits;
    BuildLimits {
        time: limits.time.duration(),
        memory: limits.memory.bytes(),
        output: usize::try_from(limits.output.bytes()).unwrap_or(usize::MAX),
        binary: limits.binary.bytes(),
    }
}

fn request_limits(config: &Config) -> limits::Settings {
    let limits = &config.limits;
    limits::Settings {
        requests_per_second: limits.requests_per_second,
        build_starts_per_hour: limits.build_starts_per_hour,
        max_streams: limits.max_streams,
        max_streams_per_subnet: limits.max_streams_per_subnet,
        exempt: limits.exempt.clone(),
        trusted_proxies: config.trusted_proxies.clone(),
    }
}

fn choice(setting: config::Sandbox) -> Choice {
    match setting {
        config::Sandbox::Auto => Choice::Auto,
        config::Sandbox::Bwrap => Choice::Bwrap,
        config::Sandbox::Landlock => Choice::Landlock,
        config::Sandbox::None => Choice::None,
    }
}
