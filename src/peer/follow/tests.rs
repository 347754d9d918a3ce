//! Peers that lie, lag and break off: a whole peer in memory, and what a follower makes of it.
//!
//! After each scenario the harness checks the whole: what is stored is a prefix of the honest log, each entry was emitted
//! once and in order, and what is held against a peer is worth what it says.

mod chance;
mod fake;
mod lies;
mod manners;
mod ordinary;
mod trials;

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use url::Url;

use self::fake::FakePeer;
use super::{Follower, Pace};
use crate::evidence::{Judgement, verify};
use crate::metrics::Metrics;
use crate::model::Sum;
use crate::peer::{Circle, Peer, Proven, State, Status, Timing, Transport};
use crate::store::{DivergenceRow, LogId, Store};
use crate::tlog::SignerKey;

/// Hasty, but not so that a busy machine turns an honest peer into a silent one.
fn pace() -> Pace {
    let ms = Duration::from_millis;
    Pace {
        poll: ms(40),
        recheck: vec![ms(20), ms(20)],
        silence: ms(150),
        backoff: (ms(5), ms(40)),
        steady: ms(100),
        timing: Timing { first_byte: ms(2000), whole: ms(300), silence: ms(300), lookup: ms(2000) },
    }
}

fn sum(number: u64) -> Sum {
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Sum::from_bytes(bytes)
}

fn claim(number: u64) -> Vec<u8> {
    let sum = sum(number);
    let spec = format!("example.com/m@v1.0.{number}/linux-amd64-go1.27.1/");
    format!("{{\"spec\":\"{spec}\",\"size\":7,\"sum\":\"{sum}\",\"at\":\"2026-11-21T09:30:00Z\",\"host\":\"linux/amd64\",\"toolchain\":\"h1:x\"}}\n")
        .into_bytes()
}

fn record(number: u64) -> Vec<u8> {
    format!("example.com/m v1.0.{number} / linux amd64 go1.27.1 7 {} \n", sum(number)).into_bytes()
}

/// One node with one peer, and someone who stores what is proven.
struct Net {
    _data: TempDir,
    store: Store,
    peer: FakePeer,
    config: Peer,
    circle: Arc<Circle>,
    pace: Pace,
    status: watch::Receiver<Status>,
    stop: CancellationToken,
    running: JoinSet<anyhow::Result<()>>,
}

fn own_key() -> SignerKey {
    SignerKey::generate("own.example", [5; 32]).unwrap()
}

impl Net {
    fn new(log: LogId) -> Net {
        Net::with(FakePeer::new("up.example", log), pace())
    }

    fn with(peer: FakePeer, pace: Pace) -> Net {
        let data = TempDir::new().unwrap();
        let store = Store::open(data.path(), crate::log::forms(&own_key()), Metrics::new()).unwrap();
        let circle = Circle::new(own_key().verifier(), store.clone(), Metrics::new());
        let config = Peer {
            name: "up".to_owned(),
            key: peer.signer.verifier(),
            url: Url::parse("http://up.example/").unwrap(),
            program: None,
            vote: true,
            build_on_claim: true,
        };
        let (_, status) = watch::channel(Status::default());
        let (stop, running) = (CancellationToken::new(), JoinSet::new());
        let mut net = Net { _data: data, store, peer, config, circle, pace, status, stop, running };
        net.start();
        net
    }

    /// Starts a follower, and whoever stores.
    fn start(&mut self) {
        let (out, proven) = mpsc::channel(1);
        let transport: Arc<dyn Transport> = Arc::new(self.peer.clone());
        let (follower, status) =
            Follower::new(self.config.clone(), transport, self.store.clone(), self.pace.clone(), out, &self.circle);
        self.status = status;
        self.running.spawn(store_all(self.store.clone(), self.config.key.to_string(), proven));
        self.running.spawn(follower.run(self.stop.clone()));
    }

    /// Ends both at once, as a kill would.
    async fn restart(&mut self) {
        self.running.shutdown().await;
        self.start();
    }

    /// Waits until the status is as wanted; says what it is if that takes too long.
    async fn until(&mut self, what: &str, wanted: impl Fn(&Status) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !wanted(&self.status.borrow()) {
            if let Some(ended) = self.running.try_join_next() {
                panic!("{what}: a task ended: {ended:?}");
            }
            assert!(Instant::now() < deadline, "{what}: {:?}", self.status.borrow());
            let _ = tokio::time::timeout(Duration::from_millis(20), self.status.changed()).await;
        }
    }

    async fn until_caught_up(&mut self, what: &str) {
        let size = self.peer.size();
        self.until(&format!("{what}: caught up"), |status| status.verified == size).await;
        self.check(what).await;
        assert_eq!(self.stored().await.len() as u64, size, "{what}");
    }

    async fn stored(&self) -> Vec<Vec<u8>> {
        let (vkey, log) = (self.config.key.to_string(), self.log());
        let read = self.store.read(move |reader| {
            let Some(row) = reader.peer_log(&vkey, log)? else {
                return Ok(Vec::new());
            };
            reader.peer_entries(row.id, 0, row.range.size().get())
        });
        read.await.unwrap()
    }

    fn log(&self) -> LogId {
        self.status.borrow().log.unwrap_or(LogId::Claims)
    }

    async fn divergences(&self) -> Vec<DivergenceRow> {
        self.store.read(|reader| reader.divergences(0, 100)).await.unwrap()
    }

    /// What must hold whatever a peer has done.
    async fn check(&self, what: &str) {
        let stored = self.stored().await;
        assert!(self.peer.texts().starts_with(&stored), "{what}: what is stored is not the honest log");
        self.check_evidence(what).await;
    }

    /// What is kept against the peer proves what it can.
    async fn check_evidence(&self, what: &str) {
        for divergence in self.divergences().await {
            let evidence = divergence.evidence.expect("evidence");
            let judged = verify(evidence.as_bytes(), &[]);
            match divergence.kind.as_str() {
                "fork" => assert!(matches!(judged, Judgement::Proven(_)), "{what}: {judged:?}"),
                _ => assert!(matches!(judged, Judgement::Shows(_)), "{what}: {judged:?}"),
            }
        }
    }

    async fn until_told(&self, kind: &str) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.divergences().await.iter().any(|divergence| divergence.kind == kind) {
            assert!(Instant::now() < deadline, "no {kind} was told: {:?}", self.status.borrow());
            sleep(Duration::from_millis(10)).await;
        }
    }

    async fn until_quarantined(&mut self, what: &str) {
        self.until(&format!("{what}: quarantined"), |status| status.state == State::Quarantined).await;
        self.check(what).await;
        assert!(self.divergences().await.iter().any(|d| matches!(d.kind.as_str(), "fork" | "bad-root")), "{what}");
    }
}

/// Stores what is proven; an entry that comes twice, or out of order, is refused by the store.
async fn store_all(store: Store, vkey: String, mut proven: mpsc::Receiver<Proven>) -> anyhow::Result<()> {
    while let Some(batch) = proven.recv().await {
        let Proven { log, first, entries, root, head, taken } = batch;
        let vkey = vkey.clone();
        let texts: Vec<Vec<u8>> = entries.into_iter().map(|entry| entry.text).collect();
        let write = store.write(move |tx| {
            let id = tx.open_peer_log(&vkey, log)?.id;
            tx.extend_peer_log(id, first, &texts, &root, head.as_ref().map(|head| head.note.as_str()))
        });
        write.await?;
        let _ = taken.send(());
    }
    // The follower was stopped first.
    std::future::pending().await
}
