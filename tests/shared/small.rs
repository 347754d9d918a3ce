//! A small node made of the library: a store, followers, both logs over HTTP, and no builder. What it claims is up to
//! whoever made it. It says of itself that it builds, so its word is its claims log.
//!
//! For what a real node cannot be asked to do: to lie, or to claim at a given moment.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sumpeer::binaries::Binaries;
use sumpeer::builder::toolchain::Toolchains;
use sumpeer::goproxy::{self, Client, ModuleCache};
use sumpeer::log::{self, Log};
use sumpeer::metrics::Metrics;
use sumpeer::model::{Claim, Finding, Spec, Target};
use sumpeer::node::Following;
use sumpeer::peer::{Http, Pace, Peer, Program, Transport};
use sumpeer::store::{LogId, Store};
use sumpeer::tally::{Found, Settled, Tally, Voter, settle};
use sumpeer::tasks::Tasks;
use sumpeer::tlog::{SignerKey, VerifierKey};
use sumpeer::web::limits::{Limits, Settings};
use sumpeer::web::stream::{self, Streams};
use sumpeer::web::{self, Live, Node, Parts, server};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use url::Url;

/// The node. Cloning gives another handle.
#[derive(Clone)]
pub(crate) struct Small {
    /// Its logs and all else.
    pub(crate) store: Store,
    /// Tells when there is news of peers.
    pub(crate) tally: Tally,
    /// What it serves as the bytes behind its claims.
    binaries: Binaries,
    own: Voter,
}

/// A sumpeer that votes.
pub(crate) fn peer(key: VerifierKey, url: Url) -> Peer {
    Peer { name: key.name().to_owned(), key, url, program: Some(Program::Sumpeer), vote: true, build_on_claim: false }
}

impl Small {
    /// Makes one, and the tasks that have to run. It is its own first voter; `peers` vote too.
    ///
    /// # Errors
    /// The data directory is not to be had, or there are no TLS roots.
    pub(crate) async fn new(
        data: &Path,
        key: &SignerKey,
        listener: TcpListener,
        peers: Vec<Peer>,
        stop: &CancellationToken,
    ) -> anyhow::Result<(Small, Tasks)> {
        let metrics = Metrics::new();
        let store = Store::open(data, log::forms(key), metrics.clone())?;
        let binaries = Binaries::open(data, u64::MAX, store.clone(), metrics.clone()).await?;
        let own = Voter { name: key.name().to_owned(), vkey: key.verifier().to_string(), own: true };
        let transport: Arc<dyn Transport> = Arc::new(Http::new()?);
        let following = Following::new(peers, &Pace::default(), &key.verifier(), &store, &transport, &metrics);
        let voters = std::iter::once(&own).chain(&following.voters).cloned().collect();
        let tally = Tally::new(store.clone(), None, None, binaries.clone(), voters, following.wants.clone());

        let mut tasks = Tasks::new(stop.clone());
        tasks.spawn("judge", tally.clone().judge_again(stop.clone()));
        let peers = following.peers.clone();
        following.spawn(&tally, &mut tasks, stop);

        let proxy = Client::new("off".parse()?, goproxy::http_client()?);
        let live = Live { notes: String::new(), lookup_wait: Duration::from_secs(1) };
        let parts = Parts {
            accepted: Log::new(&store, LogId::Accepted),
            claims: Log::new(&store, LogId::Claims),
            store: store.clone(),
            tally: tally.clone(),
            peers,
            binaries: binaries.clone(),
            builder: None,
            modules: ModuleCache::open(data, 1 << 30, store.clone(), proxy.clone(), None).await?,
            toolchains: Toolchains::open(data, store.clone(), proxy.clone(), None, Default::default()).await?,
            proxy,
            limits: Limits::new(Settings::default()),
            streams: Streams::new(stream::Pace::default()),
            metrics: metrics.clone(),
            node: Node { key: key.verifier(), mode: "build", sandbox: None, host: Target::host() },
            live: watch::channel(live).1,
            stop: stop.clone(),
        };
        let router = web::router(web::State::new(parts));
        let places = server::Places::new(1000);
        tasks.spawn(
            "web",
            server::serve(listener, None, router, places, server::Timeouts::default(), metrics, stop.clone()),
        );
        Ok((Small { store, tally, binaries, own }, tasks))
    }

    /// Claims a finding. It is committed when this returns.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn claim(&self, spec: Spec, finding: Finding) -> anyhow::Result<Settled> {
        self.find(spec, finding, None).await
    }

    /// The same with the program that was found, if there is one; it is kept and served.
    ///
    /// # Errors
    /// The store failed, or the program cannot be kept.
    pub(crate) async fn find(&self, spec: Spec, finding: Finding, program: Option<&Path>) -> anyhow::Result<Settled> {
        let binary = match program {
            Some(program) => Some(self.binaries.keep(program).await?),
            None => None,
        };
        let found = Found {
            claim: Claim {
                spec,
                finding,
                at: jiff::Timestamp::from_second(jiff::Timestamp::now().as_second())?,
                host: Target::host().to_string(),
                toolchain: "h1:Q8bzRgwWHhsCz6+8Yx6xsfJPUkgrzbO2BVn9YuJkHY8=".to_owned(),
                sandbox: "bwrap".to_owned(),
            },
            binary,
            log_gz: Vec::new(),
        };
        let (own, voters) = (self.own.clone(), self.tally.voters().to_vec());
        self.store.write(move |tx| settle(tx, &own, &voters, &found)).await
    }
}
