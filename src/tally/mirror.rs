//! Copies of binaries from voters, for a node that builds none itself.
//!
//! ```text
//! download ─▶ Mirror ─▶ Copier ─▶ a voter that named the record's sum ─▶ hashed whole ─▶ binaries ─▶ all that wait
//!                          └───── failed, or other bytes: the next voter
//! ```
//!
//! One fetch a sum, however many ask; a few at once, some more in a queue, and beyond that a refusal. A fetch goes on if
//! everybody who asked has left: it ends soon, and somebody will ask again. A voter that serves other bytes than it
//! signed for is a divergence, stored with the bytes before the next voter is asked.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use rand::seq::SliceRandom as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, instrument};

use super::Answer;
use super::accuse::accuse;
use super::evidence::Names;
use super::settle::said;
use crate::binaries::{Binaries, Stored};
use crate::model::Sum;
use crate::peer::{BinaryClient, NotFetched, Peer, Transport};
use crate::store::{RecordRow, SaidRow, Store};

/// Fetches at once. Each may write as fast as the disk takes it.
const AT_ONCE: usize = 4;
/// Further ones that wait.
const QUEUE: usize = 64;
/// Wishes on their way to the task.
const WISHES: usize = 64;

/// What a fetch came to; the sentence is for whoever asked.
type Copied = Result<Stored, String>;

/// Asks for copies. Cloning gives another handle.
#[derive(Clone)]
pub struct Mirror {
    wishes: mpsc::Sender<Wish>,
}

struct Wish {
    row: RecordRow,
    reply: oneshot::Sender<Copied>,
}

/// Fetches what is asked for.
pub struct Copier {
    source: Arc<Source>,
    wishes: mpsc::Receiver<Wish>,
}

struct Source {
    store: Store,
    binaries: Binaries,
    /// Who is there to be asked.
    names: Names,
    transport: Arc<dyn Transport>,
}

impl Mirror {
    /// A mirror of the voters among the peers in `names`, and the task that fetches.
    pub fn new(store: Store, binaries: Binaries, names: Names, transport: Arc<dyn Transport>) -> (Mirror, Copier) {
        let (send, wishes) = mpsc::channel(WISHES);
        let source = Arc::new(Source { store, binaries, names, transport });
        (Mirror { wishes: send }, Copier { source, wishes })
    }

    /// The binary of a record, after at most `wait`.
    pub(super) async fn copy(&self, row: &RecordRow, wait: Duration) -> Result<Stored, Answer> {
        let copied = timeout(wait, async {
            let (reply, copied) = oneshot::channel();
            self.wishes.send(Wish { row: row.clone(), reply }).await.ok()?;
            copied.await.ok()
        });
        match copied.await {
            Ok(Some(Ok(stored))) => Ok(stored),
            Ok(Some(Err(why))) => Err(Answer::waiting_for(Vec::new(), &why)),
            Ok(None) => Err(Answer::Busy("too many binaries are being fetched, try again later".to_owned())),
            Err(_) => Err(Answer::waiting_for(Vec::new(), "the binary is still being fetched from a voter; ask again")),
        }
    }
}

impl Copier {
    /// Fetches until it is stopped.
    ///
    /// # Errors
    /// The store failed: the node must stop.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut asked: HashMap<Sum, Vec<oneshot::Sender<Copied>>> = HashMap::new();
        let mut queue: VecDeque<RecordRow> = VecDeque::new();
        let mut open = FuturesUnordered::new();
        loop {
            while open.len() < AT_ONCE
                && let Some(row) = queue.pop_front()
            {
                let sum = row.record.sum;
                let source = self.source.clone();
                open.push(async move { (sum, source.copy(&row).await) });
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                wish = self.wishes.recv() => match wish {
                    Some(Wish { row, reply }) => {
                        let sum = row.record.sum;
                        match asked.get_mut(&sum) {
                            Some(replies) => replies.push(reply),
                            // Dropping the reply says that there is no room.
                            None if queue.len() >= QUEUE => {}
                            None => {
                                asked.insert(sum, vec![reply]);
                                queue.push_back(row);
                            }
                        }
                    }
                    None => {
                        stop.cancelled().await;
                        return Ok(());
                    }
                },
                Some((sum, copied)) = open.next() => {
                    let copied: Copied = copied?;
                    for reply in asked.remove(&sum).unwrap_or_default() {
                        // It may have left.
                        let _ = reply.send(copied.clone());
                    }
                }
            }
        }
    }
}

impl Source {
    /// Asks one voter after the other. The outer error is a store that failed.
    #[instrument(skip_all, fields(spec = %row.record.spec))]
    async fn copy(&self, row: &RecordRow) -> anyhow::Result<Copied> {
        let (spec, sum) = (&row.record.spec, row.record.sum);
        if let Some(stored) = self.binaries.find(&sum).await? {
            return Ok(Ok(stored));
        }
        if row.record.size > self.binaries.limit() {
            return Ok(Err("the binary is larger than all that this node may keep (binary-cache)".to_owned()));
        }
        let mut failed = Vec::new();
        for (peer, said) in self.voters(row).await? {
            let client = BinaryClient::new(self.transport.clone(), peer.url.clone());
            let why = match client.fetch(spec, &said, self.binaries.staging_dir()).await {
                Ok(received) => match self.binaries.keep_received(received).await {
                    Ok(stored) => {
                        info!(peer = %peer.name, size = row.record.size, "a binary was fetched");
                        return Ok(Ok(stored));
                    }
                    Err(error) => return Ok(Err(own_fault(&error))),
                },
                Err(NotFetched::Own(error)) => return Ok(Err(own_fault(&error))),
                Err(NotFetched::Fault(fault)) => {
                    info!(peer = %peer.name, "a binary was not fetched: {fault}");
                    fault.to_string()
                }
                Err(NotFetched::Differs(mismatch)) => {
                    accuse(&self.store, &self.binaries, &self.names, spec, said, *mismatch).await?
                }
            };
            failed.push(format!("{}: {why}", peer.name));
        }
        Ok(Err(match failed.as_slice() {
            [] => "the binary is not on this node, and no voter that is followed names its sum any more".to_owned(),
            failed => format!("the binary could not be fetched from any voter ({})", failed.join("; ")),
        }))
    }

    /// The voters whose latest word is the record's sum, in any order; those that contradicted their own log last.
    async fn voters(&self, row: &RecordRow) -> anyhow::Result<Vec<(Peer, SaidRow)>> {
        let spec = row.record.spec.clone();
        let (words, quarantined) = self
            .store
            .read(move |reader| {
                let words = reader.spec_id(&spec)?.map_or_else(|| Ok(Vec::new()), |id| reader.words(id))?;
                Ok((words, reader.quarantined()?))
            })
            .await?;
        let mut voters: Vec<(Peer, SaidRow)> = words
            .iter()
            .filter_map(said)
            .filter(|said| (said.size, said.sum) == (row.record.size, row.record.sum))
            .filter_map(|said| {
                let mut peers = self.names.peers.iter();
                let (peer, _) = peers.find(|(peer, _)| peer.vote && peer.key.to_string() == said.vkey)?;
                Some((peer.clone(), said))
            })
            .collect();
        // Not always the same one has the work, and one that is slow is not asked first by everybody.
        voters.shuffle(&mut rand::rng());
        voters.sort_by_key(|(_, said)| quarantined.contains(&said.vkey));
        Ok(voters)
    }
}

/// What whoever asked is told if this machine cannot keep a binary; the journal gets all of it.
fn own_fault(error: &anyhow::Error) -> String {
    error!("a binary that was fetched cannot be kept: {error:#}");
    let full = |cause: &(dyn std::error::Error + 'static)| {
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    };
    let why = if error.chain().any(full) { "no space left on device" } else { "its disk fails" };
    format!("this node cannot keep the binary that it fetched: {why}")
}
