//! Asking one voter for its word on what somebody here waits for.
//!
//! A sumpeer that builds is told by `POST /claims/want`; any other party whose words are in its accepted log is
//! asked by a lookup in the background, which makes it build or ask on. Either is a wish and nothing more: the word comes
//! by the followed log, proven. A wish is repeated with backoff until the word is there, and at once when a voter that
//! was away is back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, instrument};

use super::{Fault, NodeClient, Peer, Status, Transport};
use crate::model::Spec;
use crate::store::{LogId, Store};

/// Specs that are wished for at once; further ones are dropped, and wished for again by whoever still waits.
const WISHES: usize = 4096;
/// Questions that are open at once. A lookup may take as long as a build.
const OPEN: usize = 16;
/// The first pause before a wish is repeated; doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// Repetitions after which nobody can still be waiting: more than a day.
const TRIES: u32 = 32;

/// Asks one voter.
pub struct Asker {
    peer: Peer,
    client: NodeClient,
    store: Store,
    status: watch::Receiver<Status>,
}

/// How often a spec was asked for, and when it is next.
struct Wish {
    tries: u32,
    /// None while a question is open.
    next: Option<Instant>,
}

impl Asker {
    /// An asker of one voter, whose `status` tells what program it runs.
    pub fn new(peer: Peer, transport: Arc<dyn Transport>, store: Store, status: watch::Receiver<Status>) -> Asker {
        let client = NodeClient::new(transport, peer.url.clone());
        Asker { peer, client, store, status }
    }

    /// Asks for each spec that comes in, until it is stopped.
    ///
    /// # Errors
    /// The store failed: the node must stop.
    #[instrument(skip_all, fields(peer = %self.peer.name))]
    pub async fn run(mut self, mut specs: mpsc::Receiver<Spec>, stop: CancellationToken) -> anyhow::Result<()> {
        let mut wishes: HashMap<Spec, Wish> = HashMap::new();
        let mut open = FuturesUnordered::new();
        let mut followed_since = None;
        loop {
            let now = Instant::now();
            let (program, since) = {
                let status = self.status.borrow_and_update();
                (status.log, status.connected_since)
            };
            if since.is_some() && since != followed_since {
                // Who was away could not be asked, or has forgotten what was queued: no pause is of use.
                wishes.values_mut().filter(|wish| wish.next.is_some()).for_each(|wish| wish.next = Some(now));
            }
            followed_since = since;
            let due: Vec<Spec> = wishes
                .iter()
                .filter(|(_, wish)| wish.next.is_some_and(|next| next <= now))
                .map(|(spec, _)| spec.clone())
                .take(OPEN.saturating_sub(open.len()))
                .collect();
            for spec in due {
                // Until it is known where its words are, there is nothing to ask for.
                let Some(log) = program else { break };
                if self.is_answered(&spec).await? {
                    wishes.remove(&spec);
                } else if let Some(wish) = wishes.get_mut(&spec) {
                    wish.next = None;
                    open.push(ask(self.client.clone(), log, spec));
                }
            }
            let next = if open.len() < OPEN && program.is_some() {
                wishes.values().filter_map(|wish| wish.next).min()
            } else {
                None
            };
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                spec = specs.recv() => match spec {
                    Some(spec) if wishes.len() < WISHES => {
                        wishes.entry(spec).or_insert(Wish { tries: 0, next: Some(now) });
                    }
                    Some(_) => {}
                    None => return stopped(&stop).await,
                },
                Some((spec, result)) = open.next() => {
                    if let Err(fault) = &result {
                        debug!(%spec, "a wish failed: {fault}");
                    }
                    let Some(wish) = wishes.get_mut(&spec) else { continue };
                    wish.tries += 1;
                    wish.next = Some(Instant::now() + pause(wish.tries, result.as_ref().err()));
                    if wish.tries >= TRIES {
                        wishes.remove(&spec);
                    }
                }
                changed = self.status.changed() => if changed.is_err() { return stopped(&stop).await },
                () = sleep_until(next) => {}
            }
        }
    }

    /// Whether the voter has spoken, or nobody needs its word any more.
    async fn is_answered(&self, spec: &Spec) -> anyhow::Result<bool> {
        let (spec, vkey) = (spec.clone(), self.peer.key.to_string());
        let known = move |reader: &crate::store::Reader<'_>| {
            let Some(id) = reader.spec_id(&spec)? else {
                return Ok(false);
            };
            Ok(reader.word(id, &vkey)?.is_some() || reader.record_by_id(id)?.is_some())
        };
        self.store.read(known).await
    }
}

async fn ask(client: NodeClient, log: LogId, spec: Spec) -> (Spec, Result<(), Fault>) {
    let result = match log {
        LogId::Claims => client.want(&spec).await.map(drop),
        // What it answers counts once its log proves it.
        LogId::Accepted => client.lookup(&spec).await.map(drop),
    };
    (spec, result)
}

/// The pause before a wish is repeated: doubled each time, and never shorter than the voter asks for.
fn pause(tries: u32, fault: Option<&Fault>) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << (tries - 1).min(16)).min(LONGEST_PAUSE);
    match fault {
        Some(Fault::Refused { retry_after: Some(least), .. }) => doubled.max(*least),
        _ => doubled,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The other end of a channel is gone, which only happens when the node stops.
async fn stopped(stop: &CancellationToken) -> anyhow::Result<()> {
    stop.cancelled().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Answer, Ask};
    use super::*;
    use crate::metrics::Metrics;
    use crate::tlog::SignerKey;
    use futures_util::future::{BoxFuture, FutureExt as _};

    /// A voter that cannot be reached, and notes who tries.
    struct Nowhere(mpsc::UnboundedSender<String>);

    impl Transport for Nowhere {
        fn send(&self, ask: Ask) -> BoxFuture<'static, anyhow::Result<Answer>> {
            let _ = self.0.send(ask.url.path().to_owned());
            async { Err(anyhow::anyhow!("nobody is there")) }.boxed()
        }
    }

    #[tokio::test]
    async fn who_comes_back_is_asked_at_once() {
        let data = tempfile::tempdir().expect("a folder");
        let key = SignerKey::generate("node.example", [7; 32]).expect("a key");
        let store = Store::open(data.path(), crate::log::forms(&key), Metrics::new()).expect("a store");
        let (key, url) = (key.verifier(), "http://nowhere.invalid".parse().expect("an address"));
        let peer = Peer { name: "b".to_owned(), key, url, program: None, vote: true, build_on_claim: true };
        let (tried, mut tries) = mpsc::unbounded_channel();
        let (status, seen) = watch::channel(Status::default());
        let asker = Asker::new(peer, Arc::new(Nowhere(tried)), store, seen);
        let (want, wants) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let following = |since| {
            status.send_modify(|status| (status.log, status.connected_since) = (Some(LogId::Claims), since));
        };
        let story = async {
            following(Some(1));
            want.send("m.example/x@v1.0.0/linux-amd64-go1.27.1/".parse().expect("a spec")).await.expect("it runs");
            assert_eq!(tries.recv().await.as_deref(), Some("/claims/want"));
            following(None);
            // Only a pause lies between, and it is longer than this.
            tokio::time::timeout(Duration::from_millis(200), tries.recv()).await.expect_err("nobody is there to ask");
            following(Some(2));
            let again = tokio::time::timeout(FIRST_PAUSE / 2, tries.recv()).await;
            assert_eq!(again.expect("it is back").as_deref(), Some("/claims/want"));
            stop.cancel();
        };
        let (ran, ()) = tokio::join!(asker.run(wants, stop.clone()), story);
        ran.expect("stopped");
    }

    #[test]
    fn pauses_double_and_heed_the_voter() {
        assert_eq!(pause(1, None), Duration::from_secs(30));
        assert_eq!(pause(3, None), Duration::from_secs(120));
        assert_eq!(pause(32, None), LONGEST_PAUSE);
        let refused = Fault::Refused { status: 429, retry_after: Some(Duration::from_secs(600)), body: String::new() };
        assert_eq!(pause(1, Some(&refused)), Duration::from_secs(600));
        assert_eq!(pause(32, Some(&refused)), LONGEST_PAUSE);
    }
}
