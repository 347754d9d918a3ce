//! Entries that do not give a signed root: whose fault is it?
//!
//! Entries are unsigned, so anything between the peer and us may have garbled them. All that is unproven is dropped, and
//! fetched again by tiles: at once and after each pause, past all caches and on a new connection, each time up to the
//! newest head. One look that comes out well ends the doubt; only if every single one contradicts a validly signed head
//! is it the peer.

use tracing::warn;

use super::followed::{Contradiction, Followed, Fork, Trouble};
use super::note;
use crate::peer::State;

impl Followed<'_> {
    /// # Errors
    /// A [`Trouble::Fault`] ends the doubt too: an answer that is none says nothing against the peer.
    pub(super) async fn doubt(&mut self, first: Contradiction) -> Result<(), Trouble> {
        let mut latest = first;
        let source = self.f.peer.name.clone();
        self.keep(&latest.head, &source).await?;
        let pauses = self.f.pace.recheck.clone();
        let mut pauses = pauses.into_iter();
        loop {
            warn!(size = latest.head.head.size.get(), "entries do not give the signed root: looking again");
            let size = latest.head.head.size;
            note(&self.f.status, &format!("its entries do not give the root of its signed head of size {size}"));
            self.set_state(State::Backoff);
            match self.look_again(&latest).await {
                Err(Trouble::Contradiction(contradiction)) => {
                    latest = *contradiction;
                    let Some(pause) = pauses.next() else {
                        return self.convict_of_bad_root(latest).await;
                    };
                    self.set_state(State::Backoff);
                    self.wait(Some(pause), false).await?;
                }
                other => return other,
            }
        }
    }

    async fn look_again(&mut self, doubted: &Contradiction) -> Result<(), Trouble> {
        let newest = self.client.head(true).await?;
        self.take_current(&newest).await?;
        // The doubted head waits: if the newest one comes out, it is checked against what that one proved.
        if doubted.head.head.size > self.range.size()
            && let Some(other) = self.heads.wait(&doubted.head)
        {
            return Err(Trouble::Fork(Box::new(Fork { head: doubted.head.clone(), other: Some(other) })));
        }
        let target = if newest.head.size > doubted.head.head.size { &newest } else { &doubted.head };
        if target.head.size <= self.range.size() {
            return self.check_waiting().await;
        }
        match self.catch_up(target, true).await {
            // What cannot be an accident needs no third look.
            Err(Trouble::Contradiction(contradiction)) if self.is_proven_fork(&contradiction.head).await? => {
                Err(Trouble::Fork(Box::new(Fork { head: contradiction.head, other: None })))
            }
            result => result,
        }
    }
}
