//! What changes the standing of words that were judged: other voters, the operator's decisions, doubt in ourselves.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::error;

use super::Tally;
use super::settle::{Court, Voter, judge};
use crate::store::{Tx, Unsettled};

/// Specs judged anew in one transaction.
const BATCH: u32 = 500;

/// How long the database may take to answer while all is well.
const ANSWER: Duration = Duration::from_secs(30);

/// The row that says that this node's own log is in doubt.
const OWN_LOG: &str = "own-log";

impl Tally {
    /// Judges all specs that have no record anew, whenever who votes or who is believed has changed.
    ///
    /// # Errors
    /// The store failed: the node must stop.
    pub async fn judge_again(self, stop: CancellationToken) -> anyhow::Result<()> {
        loop {
            let voters = fingerprint(&self.inner.voters);
            let mut next = self.inner.store.read(move |reader| reader.judging(&voters)).await?;
            while let Some(from) = next.filter(|_| self.frozen().is_none() && !stop.is_cancelled()) {
                let inner = self.inner.clone();
                next = self.inner.store.write(move |tx| judge_some(tx, &inner.voters, from)).await?;
                self.tell_news();
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.inner.again.notified() => {}
            }
        }
    }

    /// Ends the quarantine of a peer and resolves its divergence with the operator's note. False if it is in none.
    ///
    /// # Errors
    /// The store failed.
    pub async fn release(&self, vkey: String, note: String) -> anyhow::Result<bool> {
        let voters = fingerprint(&self.inner.voters);
        let released = self.inner.store.write(move |tx| {
            let Some(quarantine) = tx.lift_quarantine(&vkey)? else {
                return Ok(false);
            };
            tx.resolve_divergence(quarantine.divergence, &note)?;
            // Its words may agree again.
            tx.put_judging(&voters, Some(0))?;
            Ok(true)
        });
        let released = released.await?;
        self.inner.again.notify_one();
        Ok(released)
    }

    /// Resolves a divergence with the operator's note. False if there is no such open one.
    ///
    /// # Errors
    /// The store failed.
    pub async fn resolve(&self, divergence: i64, note: String) -> anyhow::Result<bool> {
        let voters = fingerprint(&self.inner.voters);
        let resolved = self.inner.store.write(move |tx| {
            tx.put_judging(&voters, Some(0))?;
            tx.resolve_divergence(divergence, &note)
        });
        let resolved = resolved.await?;
        self.inner.again.notify_one();
        Ok(resolved)
    }

    /// Ends all signing for good, over restarts as well: there is a head by our key that our log does not have.
    /// Reading goes on. `vkey` is our key, `why` what people are told.
    ///
    /// # Errors
    /// The store failed.
    pub async fn freeze(&self, vkey: String, why: String) -> anyhow::Result<()> {
        error!("{why}; nothing is signed any more");
        self.inner.frozen.send_replace(Some(why.clone()));
        let noted = self.inner.store.write(move |tx| tx.see_divergence(OWN_LOG, None, &vkey, Some(&why)).map(drop));
        noted.await
    }

    /// Freezes if the node was frozen when it ended.
    ///
    /// # Errors
    /// The store failed.
    pub async fn recall(&self) -> anyhow::Result<()> {
        let row = self.inner.store.read(|reader| reader.open_divergence(OWN_LOG)).await?;
        if let Some(row) = row {
            self.inner.frozen.send_replace(row.evidence);
        }
        Ok(())
    }

    /// Whether this node can do its work: it may sign, the database takes what is written and gives it back.
    ///
    /// # Errors
    /// Why it cannot, in a sentence.
    pub async fn well(&self) -> Result<(), String> {
        if let Some(why) = self.frozen() {
            return Err(why);
        }
        let store = &self.inner.store;
        let answers = async {
            store.write(|_| Ok(())).await?;
            store.read(|reader| reader.newest_records(1).map(drop)).await
        };
        match tokio::time::timeout(ANSWER, answers).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("{error:#}")),
            Err(_) => Err("the database does not answer".to_owned()),
        }
    }

    /// Why nothing may be signed any more, if that is so.
    pub fn frozen(&self) -> Option<String> {
        self.inner.frozen.borrow().clone()
    }
}

/// Judges the specs from one on. Returns where to go on.
fn judge_some(tx: &mut Tx<'_>, voters: &[Voter], from: i64) -> anyhow::Result<Option<i64>> {
    let Unsettled { specs, next } = tx.unsettled(from, BATCH)?;
    let quarantined = tx.quarantined()?;
    for (id, text) in specs {
        let words = tx.words(id)?;
        if words.is_empty() {
            continue;
        }
        let spec = text.parse().map_err(|error| anyhow::anyhow!("the stored spec {text} is malformed: {error}"))?;
        judge(tx, id, &spec, &words, &Court { voters, quarantined: &quarantined })?;
    }
    tx.put_judging(&fingerprint(voters), next)?;
    Ok(next)
}

/// Who votes, as text: another text means that all is to be judged anew.
fn fingerprint(voters: &[Voter]) -> String {
    let mut keys: Vec<&str> = voters.iter().map(|voter| voter.vkey.as_str()).collect();
    keys.sort_unstable();
    keys.join("\n")
}
