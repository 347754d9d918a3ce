//! Every lie alone and with every other one: what can pass is forgotten when it has passed, what cannot is convicted.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::sleep;

use super::fake::Lie;
use super::{Net, claim, record};
use crate::peer::State;
use crate::store::LogId;

/// Scenarios that run side by side.
const AT_ONCE: usize = 24;

async fn run(log: LogId, lies: &[Lie]) {
    let what = format!("{lies:?}");
    let mut net = Net::new(log);
    let text = if log == LogId::Claims { claim } else { record };
    net.peer.grow((0..20).map(text));
    net.until_caught_up(&what).await;
    net.peer.lie(lies.iter().copied());
    net.peer.grow((20..30).map(text));
    sleep(Duration::from_millis(150)).await;
    // Among what hides a lie, that lie is found once the hiding is over.
    let convicting: Vec<Lie> = lies.iter().copied().filter(|lie| lie.convicts()).collect();
    net.peer.lie(convicting.iter().copied());
    if convicting.is_empty() {
        net.until_caught_up(&what).await;
        assert!(net.divergences().await.iter().all(|divergence| divergence.kind == "rollback"), "{what}");
        net.peer.grow((30..33).map(text));
        net.until_caught_up(&what).await;
        assert_ne!(net.status.borrow().state, State::Quarantined, "{what}");
    } else {
        net.until_quarantined(&what).await;
        let held = net.stored().await.len();
        net.peer.grow((30..33).map(text));
        sleep(Duration::from_millis(60)).await;
        assert_eq!(net.stored().await.len(), held, "{what}: nothing is taken in");
        net.check(&what).await;
    }
    let bytes = net.peer.bytes.load(std::sync::atomic::Ordering::Relaxed);
    assert!(bytes < 50 << 20, "{what}: {bytes} bytes were read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_lie_alone_ends_well() {
    let all = Lie::ALL.into_iter().flat_map(|lie| [(LogId::Claims, lie), (LogId::Accepted, lie)]);
    stream::iter(all)
        .map(|(log, lie)| async move { run(log, &[lie]).await })
        .buffer_unordered(AT_ONCE)
        .collect::<()>()
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_two_lies_together_end_well() {
    let pairs = Lie::ALL
        .into_iter()
        .flat_map(|one| Lie::ALL.into_iter().filter(move |other| one < *other).map(move |other| [one, other]));
    stream::iter(pairs)
        .map(|pair| async move { run(LogId::Claims, &pair).await })
        .buffer_unordered(AT_ONCE)
        .collect::<()>()
        .await;
}
