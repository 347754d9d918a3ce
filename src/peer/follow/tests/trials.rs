//! Conviction and what comes after it; heads that others show; rings.

use std::time::Duration;

use tokio::time::sleep;

use super::fake::{FakePeer, Lie};
use super::{Net, claim, own_key, pace};
use crate::peer::State;
use crate::store::LogId;
use crate::tlog::leaf_hash;

async fn followed(size: u64) -> Net {
    let mut net = Net::new(LogId::Claims);
    net.peer.grow((0..size).map(claim));
    net.until_caught_up("at first").await;
    net
}

#[tokio::test]
async fn forks_of_any_size_are_proven() {
    for (size, more, lie) in [
        (20, 0, Lie::ForkSameSize),
        (20, 0, Lie::ForkLarger),
        (20, 5, Lie::ForkLarger),
        (300, 300, Lie::ForkLarger),
        (600, 0, Lie::ForkSmaller),
        (512, 0, Lie::ForkSmaller),
    ] {
        let mut net = followed(size).await;
        net.peer.lie([lie]);
        net.peer.grow((size..size + more).map(claim));
        net.until_quarantined(&format!("{lie:?} of {size}")).await;
        assert_eq!(net.divergences().await[0].kind, "fork", "{lie:?} of {size}");
        assert_eq!(net.stored().await.len() as u64, size);
    }
}

#[tokio::test]
async fn a_wrong_root_is_shown_only_after_every_look() {
    let mut net = followed(20).await;
    net.peer.lie([Lie::WrongRoot, Lie::CorruptHashTiles]);
    net.peer.grow((20..25).map(claim));
    net.until_quarantined("wrong root").await;
    let told = net.divergences().await;
    assert!(told.iter().all(|divergence| divergence.kind == "bad-root"), "{told:?}");
    assert!(told[0].evidence.as_ref().unwrap().contains("tile/entries/000.p/25"), "what was fetched is in it");
}

#[tokio::test]
async fn a_quarantine_outlives_restarts_and_ends_by_release_only() {
    let mut net = followed(20).await;
    net.peer.lie([Lie::ForkLarger]);
    net.peer.grow((20..25).map(claim));
    net.until_quarantined("fork").await;
    net.peer.lie([]);
    net.restart().await;
    net.until("still", |status| status.state == State::Quarantined).await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(net.stored().await.len(), 20);
    let release = |net: &Net| {
        let (store, vkey, circle) = (net.store.clone(), net.config.key.to_string(), net.circle.clone());
        async move {
            let key = vkey.clone();
            let write = store.write(move |tx| {
                let lifted = tx.lift_quarantine(&key)?.expect("a quarantine");
                tx.resolve_divergence(lifted.divergence, "it was restored")
            });
            assert!(write.await.unwrap());
            circle.wake(&vkey);
        }
    };
    release(&net).await;
    net.until_caught_up("released").await;
    net.peer.lie([Lie::ForkLarger]);
    net.until_quarantined("again").await;
    // Released while it still lies: its next head convicts it again.
    release(&net).await;
    net.until("free", |status| status.state != State::Quarantined).await;
    net.until_quarantined("a third time").await;
    assert_eq!(net.divergences().await.len(), 3);
}

#[tokio::test]
async fn a_log_that_goes_back_is_told_once_and_believed() {
    let mut net = followed(20).await;
    net.peer.lie([Lie::Rewind]);
    net.until_told("rollback").await;
    sleep(Duration::from_millis(300)).await;
    assert_eq!(net.divergences().await.len(), 1);
    assert_ne!(net.status.borrow().state, State::Quarantined);
    net.peer.lie([]);
    net.peer.grow((20..30).map(claim));
    net.until_caught_up("again").await;
}

#[tokio::test]
async fn a_split_view_shows_in_what_others_say() {
    let mut net = followed(20).await;
    let split = net.peer.sign(15, leaf_hash(b"for others only"), &net.peer.signer);
    let key = net.config.key.clone();
    let others = |note: &str| {
        let note = serde_json::to_string(note).unwrap();
        format!(r#"{{"items":[{{"vkey":"{key}","logs":[{{"head":{note}}}]}}],"next":null}}"#)
    };
    // A stranger's signature moves nothing.
    let stranger = crate::tlog::SignerKey::generate("up.example", [2; 32]).unwrap();
    net.peer.say_peers(others(&net.peer.sign(15, leaf_hash(b"x"), &stranger)));
    sleep(Duration::from_millis(150)).await;
    assert!(net.divergences().await.is_empty());
    net.peer.say_peers(others(&split));
    net.until_quarantined("split").await;
    assert_eq!(net.divergences().await[0].kind, "fork");
}

#[tokio::test]
async fn heads_of_our_own_that_our_log_does_not_have_are_told() {
    let net = followed(1).await;
    let mut own = net.circle.own_log();
    let ours = FakePeer::new("own.example", LogId::Claims);
    let note = ours.sign(7, leaf_hash(b"lost"), &own_key());
    let note = serde_json::to_string(&note).unwrap();
    assert_eq!(*own.borrow_and_update(), None);
    net.peer.say_peers(format!(
        r#"{{"items":[{{"vkey":"{}","logs":[{{"head":{note}}}]}}],"next":null}}"#,
        own_key().verifier()
    ));
    tokio::time::timeout(Duration::from_secs(20), own.changed()).await.expect("told").unwrap();
    let told = own.borrow().clone().unwrap();
    assert!(told.contains("claims log") && told.contains("size 7, but ours has 0"), "{told}");
}

#[tokio::test]
async fn rings_of_accepted_logs_are_named() {
    let peer = FakePeer::new("up.example", LogId::Accepted);
    let (own, key) = (own_key().verifier(), peer.signer.verifier());
    let voters = format!(r#"[{{"name":"own","vkey":"{own}","source":"log"}}]"#);
    peer.say_node(Some(format!(
        r#"{{"name":"up.example","vkey":"{key}","mode":"verify-only","size":0,"claims":0,"voters":{voters}}}"#
    )));
    let mut net = Net::with(peer, pace());
    net.until("the ring", |status| status.ring == ["up", "own.example"]).await;
    assert!(net.status.borrow().last_error.as_ref().unwrap().contains("up, own.example"));
}
