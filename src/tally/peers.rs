//! What peers said, from their proven logs to verdicts.
//!
//! One transaction takes in a batch: entries, tiles, head and cursor of the peer's log, the words in it, every
//! verdict that follows and every record. A crash leaves all of it or nothing, so nothing is missed or judged twice.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, instrument, warn};

use super::Tally;
use super::settle::{Court, Settled, take_word};
use crate::builder::Priority;
use crate::model::Spec;
use crate::peer::{Peer, Proven};
use crate::store::{Errand, WordRow};

/// Builds that one batch puts into the queue.
const AT_ONCE: usize = 32;

/// What a batch came to.
#[derive(Debug, Default)]
struct Taken {
    words: usize,
    accepted: usize,
    disputed: usize,
    /// What this node is to build now; the rest is found in the store when there is room.
    due: Vec<Spec>,
}

impl Tally {
    /// Takes in what one peer's logs say, in order, until it is stopped.
    ///
    /// # Errors
    /// The store failed: the node must stop.
    #[instrument(skip_all, fields(peer = %peer.name))]
    pub async fn hear(
        self,
        peer: Peer,
        mut proven: mpsc::Receiver<Proven>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let peer = std::sync::Arc::new(peer);
        loop {
            let batch = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                batch = proven.recv() => batch,
            };
            let Some(Proven { log, first, entries, root, head, taken }) = batch else {
                // The follower has ended; whether it should have is told by its own task.
                stop.cancelled().await;
                return Ok(());
            };
            if self.frozen().is_some() {
                // Nothing may be signed, so nothing is taken in that could lead to a record.
                stop.cancelled().await;
                return Ok(());
            }
            let count = entries.len();
            let (inner, peer) = (self.inner.clone(), peer.clone());
            let result = self.inner.store.write(move |tx| {
                let vkey = peer.key.to_string();
                let known = tx.open_peer_log(&vkey, log)?;
                let (texts, said): (Vec<_>, Vec<_>) = entries.into_iter().map(|entry| (entry.text, entry.said)).unzip();
                tx.extend_peer_log(known.id, first, &texts, &root, head.as_ref().map(|head| head.note.as_str()))?;
                if let Some(head) = &head {
                    tx.keep_peer_head(known.id, head.head.size, &head.head.root, &head.note, &peer.name)?;
                }
                let words = (first..).zip(said).filter_map(|(number, said)| Some((number, said?)));
                let mut taken = Taken::default();
                let quarantined = tx.quarantined()?;
                let court = Court { voters: &inner.voters, quarantined: &quarantined };
                for (number, said) in words {
                    let id = tx.make_spec_id(&said.spec)?;
                    let row = WordRow { vkey: vkey.clone(), log, number, word: said.word, at: said.at };
                    let words = tx.words(id)?;
                    let mine = inner.own.as_ref().is_some_and(|own| words.iter().any(|word| word.vkey == own.vkey));
                    let settled = take_word(tx, id, &said.spec, words, &row, &court)?;
                    // What it said before we met is built when somebody asks.
                    let recent = known.met_at.is_some_and(|met_at| number >= met_at);
                    if peer.build_on_claim && recent && !mine && inner.builder.is_some() {
                        tx.put_due(id, Errand::Voter)?;
                        if taken.due.len() < AT_ONCE {
                            taken.due.push(said.spec);
                        }
                    }
                    taken.count(&settled);
                }
                Ok(taken)
            });
            let result = result.await?;
            let _ = taken.send(());
            self.tell_news();
            for spec in &result.due {
                // A full queue loses nothing: it stays due.
                let _ = self.submit(spec, Priority::Voter);
            }
            info!(first, count, words = result.words, accepted = result.accepted, "peer log advanced");
            if result.disputed > 0 {
                warn!(disputed = result.disputed, "parties disagree: see `sumpeer divergences`");
            }
        }
    }
}

impl Taken {
    fn count(&mut self, settled: &Settled) {
        self.words += 1;
        match settled {
            Settled::Accepted(_) => self.accepted += 1,
            Settled::Disputed | Settled::Contradicts(_) => self.disputed += 1,
            Settled::Known(_) | Settled::Waiting(_) | Settled::CannotBuild => {}
        }
    }
}
