//! How a follower behaves towards a peer that has trouble: it counts, it waits as long as it is asked to, it keeps within
//! its memory.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::sleep;

use super::fake::{FakePeer, Lie};
use super::{Net, Pace, claim, pace};
use crate::peer::State;
use crate::store::LogId;

async fn followed(size: u64) -> Net {
    let mut net = Net::new(LogId::Claims);
    net.peer.grow((0..size).map(claim));
    net.until_caught_up("at first").await;
    net
}

#[tokio::test]
async fn gaps_are_counted_and_filled() {
    for lie in [Lie::Missing, Lie::Repeated, Lie::Reordered, Lie::HeadTooEarly] {
        // So rarely polled that only the stream can bring anything.
        let peer = FakePeer::new("up.example", LogId::Claims);
        let mut net = Net::with(peer, Pace { poll: Duration::from_secs(600), ..pace() });
        net.peer.grow((0..5).map(claim));
        net.until_caught_up("at first").await;
        net.peer.lie([lie]);
        net.peer.grow((5..9).map(claim));
        net.until(&format!("{lie:?}"), |status| status.gaps > 0).await;
        net.peer.lie([]);
        net.until_caught_up(&format!("{lie:?}")).await;
    }
}

#[tokio::test]
async fn a_peer_is_left_alone_for_as_long_as_it_asks() {
    for lie in [Lie::TooMany, Lie::RetryZero] {
        let mut net = followed(5).await;
        net.peer.lie([lie]);
        sleep(Duration::from_millis(150)).await;
        if lie == Lie::TooMany {
            // What was under way has heard of it; now nothing comes for the rest of the second.
            let before = net.peer.asks.load(Ordering::Relaxed);
            sleep(Duration::from_millis(400)).await;
            assert_eq!(net.peer.asks.load(Ordering::Relaxed), before, "{lie:?}");
        }
        net.peer.lie([]);
        net.peer.grow((5..9).map(claim));
        net.until_caught_up(&format!("{lie:?}")).await;
    }
}

#[tokio::test]
async fn a_stream_without_end_is_left_and_polling_goes_on() {
    let mut net = followed(5).await;
    net.peer.lie([Lie::Endless]);
    net.until("left", |status| status.last_error.as_ref().is_some_and(|error| error.contains("without end"))).await;
    net.peer.grow((5..9).map(claim));
    net.until_caught_up("polled").await;
    net.peer.lie([]);
    net.until("back", |status| status.state == State::Following).await;
    let read = net.peer.bytes.load(Ordering::Relaxed);
    assert!(read < 400 << 20, "{read}");
}
