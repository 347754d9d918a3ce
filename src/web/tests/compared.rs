//! How the binaries of a divergence differ: fetched in the background, kept, shown, and put beside the proof.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use tokio::time::{sleep, timeout};

use super::world::{SPEC, World};
use crate::evidence::{Class, Judgement, made, verify};
use crate::model::{Finding, Sum};
use crate::peer;
use crate::tally::Comparer;
use crate::web::divergences::names;

/// A peer that has one binary, once it is willing, and may serve other bytes before.
struct Peer {
    gz: Vec<u8>,
    other: Option<Vec<u8>>,
    willing: AtomicBool,
}

impl peer::Transport for Peer {
    fn send(&self, ask: peer::Ask) -> BoxFuture<'static, anyhow::Result<peer::Answer>> {
        assert_eq!(ask.url.as_str(), "http://beta.example/claims/file/0.gz");
        let (status, body) = match (self.willing.load(Ordering::SeqCst), &self.other) {
            (true, _) => (StatusCode::OK, self.gz.clone()),
            (false, Some(other)) => (StatusCode::OK, other.clone()),
            (false, None) => (StatusCode::SERVICE_UNAVAILABLE, b"evicted\n".to_vec()),
        };
        let headers = [("content-length", body.len().to_string())].into_iter();
        let headers = headers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let body = stream::iter([Ok(Bytes::from(body))]).boxed();
        async move { Ok(peer::Answer { status, headers, body }) }.boxed()
    }
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

/// Compares what is due, with binaries from that peer.
fn comparing(world: &World, peer: &Arc<Peer>) -> impl Future<Output = anyhow::Result<()>> + use<> {
    let state = &world.state;
    let comparer = Comparer::new(state.store.clone(), state.binaries.clone(), names(state), peer.clone());
    comparer.with_pause(Duration::from_secs(1)).run(state.tally.news(), state.stop.clone())
}

/// Looks at the divergence until it is as wanted.
async fn wait(world: &World, wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
    let look = async {
        loop {
            let pair = world.get("/api/v1/divergences/1").await.json()["comparisons"][0].clone();
            if wanted(&pair) {
                return pair;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(20), look).await.expect("it comes")
}

#[tokio::test]
async fn binaries_are_compared_once_both_are_at_hand() {
    let program = |number: u8| made::program("elf", &[("code", &[number; 90]), ("data", b"words")]);
    let (ours, theirs) = (program(1), program(2));
    let sum = Sum::of_sha256(&Sha256::digest(&theirs).into());
    let world = World::with_voters(&["beta"]).await;
    let own_sum = world.built(SPEC, &ours).await;
    world.says("beta", SPEC, Finding::Built { size: theirs.len() as u64, sum }).await;
    let pair = wait(&world, |_| true).await;
    assert_eq!(pair["missing"], "not compared yet");

    let peer = Arc::new(Peer { gz: gz(&theirs), other: None, willing: AtomicBool::new(false) });
    let running = comparing(&world, &peer);
    let seen = async {
        let pair = wait(&world, |pair| pair["next_at"].is_string()).await;
        let missing = pair["missing"].as_str().unwrap();
        assert!(missing.contains("is not at hand (beta: ") && missing.contains("503"), "{missing}");
        let page = world.browse("/divergences/1").await;
        assert!(page.status == 200 && page.text().contains("They have not been compared: "), "{}", page.text());
        let answer = world.get("/api/v1/divergences/1/evidence").await;
        let Judgement::Proven(statement) = verify(&answer.body, &[]) else { panic!("{}", answer.text()) };
        assert_eq!(statement.comparison, None, "what is not known proves no less");
        peer.willing.store(true, Ordering::SeqCst);
        wait(&world, |pair| pair["comparison"].is_object()).await
    };
    let pair = tokio::select! {
        ended = running => panic!("{ended:?}"),
        pair = seen => pair,
    };
    assert_eq!(pair["between"], serde_json::json!(["test.example", "beta"]));
    assert_eq!((&pair["comparison"]["class"], pair.get("missing")), (&"code".into(), None));
    assert_eq!(pair["comparison"]["binaries"][1]["size"], theirs.len());

    let answer = world.get("/api/v1/divergences/1/evidence").await;
    let Judgement::Proven(statement) = verify(&answer.body, &[]) else { panic!("{}", answer.text()) };
    let comparison = statement.comparison.expect("beside the proof");
    assert_eq!(comparison.class, Class::Code);
    let mut sums = comparison.sums().map(|(_, sum)| sum);
    sums.sort_unstable();
    let mut wanted = [own_sum, sum];
    wanted.sort_unstable();
    assert_eq!(sums, wanted);
    let page = world.browse("/divergences/1").await;
    for words in ["How the binaries of test.example and beta differ", "code: 90 bytes differ", ".text", "Run neither"] {
        assert!(page.text().contains(words), "{words}: {}", page.text());
    }

    // Both are kept for as long as it is open, whatever else goes.
    for number in 0..3 {
        world.built(&format!("example.com/m@v1.0.{number}/linux-amd64-go1.27.1/"), &[number; 50]).await;
    }
    let order = || world.state.store.read(|reader| reader.evictable_binaries(10));
    let last = |rows: Vec<crate::store::BinaryRow>| {
        let mut sums: Vec<Sum> = rows[rows.len() - 2..].iter().map(|row| row.sum).collect();
        sums.sort_unstable();
        sums
    };
    assert_eq!(last(order().await.unwrap()), wanted);
    assert_eq!(world.get(&format!("/{SPEC}{sum}/age-v1.2.1-go1.27.1")).await.status, 404, "served to nobody");
    assert!(world.state.tally.resolve(1, "looked into".to_owned()).await.unwrap());
    assert_ne!(last(order().await.unwrap()), wanted);
    assert!(world.get("/api/v1/divergences/1").await.json()["comparisons"][0]["comparison"].is_object());
}

#[tokio::test]
async fn who_serves_other_bytes_than_it_claimed_is_told_of_with_the_bytes_kept() {
    let program = |number: u8| made::program("elf", &[("code", &[number; 90]), ("data", b"words")]);
    let (theirs, corrupt) = (program(2), gz(&program(3)));
    let sum = Sum::of_sha256(&Sha256::digest(&theirs).into());
    let world = World::with_voters(&["beta"]).await;
    world.built(SPEC, &program(1)).await;
    world.says("beta", SPEC, Finding::Built { size: theirs.len() as u64, sum }).await;

    let peer = Arc::new(Peer { gz: gz(&theirs), other: Some(corrupt.clone()), willing: AtomicBool::new(false) });
    let running = comparing(&world, &peer);
    let seen = async {
        let pair = wait(&world, |pair| pair["next_at"].is_string()).await;
        let missing = pair["missing"].as_str().unwrap();
        assert!(missing.contains("(beta: other bytes than it signed for: "), "{missing}");
        let mismatch = world.get("/api/v1/divergences/2").await.json();
        assert_eq!((&mismatch["kind"], &mismatch["state"]), (&"mirror-mismatch".into(), &"open".into()));
        assert_eq!((&mismatch["spec"], &mismatch["party"]), (&SPEC.into(), &"beta".into()));
        // It goes on: the right bytes are compared, and nothing is told twice.
        peer.willing.store(true, Ordering::SeqCst);
        wait(&world, |pair| pair["comparison"].is_object()).await
    };
    tokio::select! {
        ended = running => panic!("{ended:?}"),
        _ = seen => {}
    }
    let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(&corrupt));
    let answer = world.get("/api/v1/divergences/2/evidence").await;
    let Judgement::Shows(_) = verify(&answer.body, &[]) else { panic!("{}", answer.text()) };
    assert!(answer.text().contains(&hash), "{}", answer.text());
    let kept = world.state.binaries.staging_dir().with_file_name("evidence").join(hash);
    assert_eq!(std::fs::read(kept).unwrap(), corrupt);
    let alerts = world.get("/api/v1/alerts").await.json();
    let kinds: Vec<&str> =
        alerts["items"].as_array().unwrap().iter().map(|alert| alert["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "mirror-mismatch").count(), 1, "{kinds:?}");
}
