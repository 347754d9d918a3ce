//! Lies, growth and restarts in any order: what is stored stays a prefix of what was signed, and all of it arrives once
//! the lies are over, unless one was told that no excuse undoes.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::sleep;

use super::fake::Lie;
use super::{Net, claim};
use crate::peer::State;
use crate::store::LogId;

/// Sequences, and steps in each.
const RUNS: u64 = 24;
const STEPS: usize = 12;

async fn run(seed: u64) {
    let mut chance = SmallRng::seed_from_u64(seed);
    let mut net = Net::new(LogId::Claims);
    let mut told = Vec::new();
    let mut convicting = false;
    for _ in 0..STEPS {
        match chance.random_range(0..5) {
            0 | 1 => {
                let more = chance.random_range(1..200);
                let size = net.peer.size();
                net.peer.grow((size..size + more).map(claim));
                told.push(format!("grow {more}"));
            }
            2 => {
                net.restart().await;
                told.push("restart".to_owned());
            }
            _ => {
                let count = chance.random_range(0..=3);
                let lies: Vec<Lie> = (0..count).map(|_| Lie::ALL[chance.random_range(0..Lie::ALL.len())]).collect();
                // Some sequences are of an honest peer with bad luck.
                let lies: Vec<Lie> = lies.into_iter().filter(|lie| seed.is_multiple_of(3) || !lie.convicts()).collect();
                convicting |= lies.iter().any(|lie| lie.convicts());
                told.push(format!("{lies:?}"));
                net.peer.lie(lies);
            }
        }
        sleep(Duration::from_millis(chance.random_range(0..80))).await;
    }
    net.peer.lie([]);
    let size = net.peer.size();
    let what = format!("seed {seed}: {told:?}");
    net.until(&what, |status| status.state == State::Quarantined || status.verified == size).await;
    let stored = net.stored().await;
    // Who meets a peer while it shows its other log, signed like this one, has that one until it sees both.
    let other = convicting && net.peer.other_texts().starts_with(&stored);
    assert!(other || net.peer.texts().starts_with(&stored), "{what}: what is stored was never signed");
    net.check_evidence(&what).await;
    if net.status.borrow().state == State::Quarantined {
        assert!(convicting, "{what}: an honest peer was convicted: {:?}", net.divergences().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_in_whatever_order() {
    let first: u64 = rand::random();
    eprintln!("seeds from {first}");
    let seeds = (0..RUNS).map(|n| first.wrapping_add(n));
    stream::iter(seeds).map(run).buffer_unordered(8).collect::<()>().await;
}
