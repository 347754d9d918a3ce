//! Honest peers: catching up, live entries, restarts at any moment, peers without streams.

use std::time::Duration;

use tokio::time::sleep;

use super::fake::FakePeer;
use super::{Net, claim, pace, record};
use crate::peer::{Program, State};
use crate::store::LogId;

#[tokio::test]
async fn a_log_is_followed_from_its_first_entry_and_live() {
    let mut net = Net::new(LogId::Claims);
    net.until("the stream of an empty log", |status| status.state == State::Following).await;
    for size in [1, 2, 10, 300, 700] {
        net.peer.grow((net.peer.size()..size).map(claim));
        net.until_caught_up(&size.to_string()).await;
    }
    let status = net.status.borrow().clone();
    assert_eq!(
        (status.state, status.program, status.log),
        (State::Following, Some(Program::Sumpeer), Some(LogId::Claims))
    );
    assert_eq!((status.gaps, status.not_words, status.last_error), (0, 0, None));
}

#[tokio::test]
async fn a_peer_without_an_api_is_a_gobuild_and_polled() {
    let peer = FakePeer::new("up.example", LogId::Accepted);
    peer.say_node(None);
    let mut net = Net::with(peer, pace());
    for size in [1, 256, 257, 1000] {
        net.peer.grow((net.peer.size()..size).map(record));
        net.until_caught_up(&size.to_string()).await;
    }
    net.until("polling", |status| status.state == State::Polling).await;
    let status = net.status.borrow().clone();
    assert_eq!((status.program, status.log, status.not_words), (Some(Program::Gobuild), Some(LogId::Accepted), 0));
}

#[tokio::test]
async fn a_large_backlog_comes_by_tiles() {
    for log in [LogId::Claims, LogId::Accepted] {
        let peer = FakePeer::new("up.example", log);
        peer.grow((0..10_600).map(if log == LogId::Claims { claim } else { record }));
        let mut net = Net::with(peer, pace());
        net.until("catching up", |status| status.verified > 0).await;
        net.until_caught_up("backlog").await;
    }
}

#[tokio::test]
async fn a_backlog_that_cannot_be_held_is_read_twice() {
    let peer = FakePeer::new("up.example", LogId::Claims);
    let long = |number: u64| format!("{number}{}\n", "x".repeat(15_000)).into_bytes();
    peer.grow((0..2500).map(long));
    let mut pace = pace();
    pace.timing.whole = Duration::from_secs(20);
    pace.timing.silence = Duration::from_secs(20);
    let mut net = Net::with(peer, pace);
    net.until_caught_up("backlog").await;
    let read = net.peer.bytes.load(std::sync::atomic::Ordering::Relaxed);
    assert!(read > 2 * 2500 * 15_000, "{read} bytes are not two readings");
    assert_eq!(net.status.borrow().not_words, 2500);
}

#[tokio::test]
async fn a_restart_at_any_moment_loses_and_repeats_nothing() {
    let mut net = Net::new(LogId::Claims);
    for round in 0..40 {
        net.peer.grow((0..rand::random_range(1..400)).map(|n| claim(round * 1000 + n)));
        sleep(Duration::from_millis(rand::random_range(0..30))).await;
        net.restart().await;
    }
    net.until_caught_up("restarts").await;
}

#[tokio::test]
async fn a_change_of_mode_moves_to_the_other_log() {
    let peer = FakePeer::new("up.example", LogId::Accepted);
    let key = peer.signer.verifier();
    let node = |mode: &str| {
        Some(format!(r#"{{"name":"up.example","vkey":"{key}","mode":"{mode}","size":0,"claims":0,"voters":[]}}"#))
    };
    peer.say_node(node("build"));
    peer.grow((0..5).map(record));
    let mut net = Net::with(peer, pace());
    net.until("its claims", |status| status.log == Some(LogId::Claims)).await;
    net.peer.say_node(node("verify-only"));
    net.until("its accepted log", |status| status.log == Some(LogId::Accepted)).await;
    net.until_caught_up("accepted").await;
    net.peer.say_node(None);
    net.until("the refusal", |status| status.last_error.as_ref().is_some_and(|e| e.contains("was a sumpeer"))).await;
    assert_eq!(net.status.borrow().program, Some(Program::Sumpeer));
}
