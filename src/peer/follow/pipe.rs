//! Batches of proven entries on their way to the store: at most two, so that proving and storing go on side by side.

use std::collections::VecDeque;

use tokio::sync::{mpsc, oneshot};

use super::followed::Trouble;
use crate::peer::Proven;

/// Batches that may be under way.
const IN_FLIGHT: usize = 2;

pub(super) struct Pipe {
    out: mpsc::Sender<Proven>,
    /// Each with the size of the log that ends with it.
    flying: VecDeque<(u64, oneshot::Receiver<()>)>,
    /// Entries known to be stored.
    stored: u64,
}

impl Pipe {
    pub(super) fn new(out: mpsc::Sender<Proven>, stored: u64) -> Pipe {
        Pipe { out, flying: VecDeque::new(), stored }
    }

    /// Entries known to be stored.
    pub(super) fn stored(&self) -> u64 {
        self.stored
    }

    pub(super) fn is_empty(&self) -> bool {
        self.flying.is_empty()
    }

    /// Sends a batch, once at most one other is under way. `answer` is the other end of what is in the batch.
    pub(super) async fn send(&mut self, proven: Proven, answer: oneshot::Receiver<()>) -> Result<(), Trouble> {
        while self.flying.len() >= IN_FLIGHT {
            self.next().await?;
        }
        let end = proven.first + proven.entries.len() as u64;
        if self.out.send(proven).await.is_err() {
            // Whoever stores has ended, so the node is stopping and will say so.
            std::future::pending::<()>().await;
        }
        self.flying.push_back((end, answer));
        Ok(())
    }

    /// Waits until the first batch under way is stored; for ever if there is none. May be cancelled.
    ///
    /// # Errors
    /// [`Trouble::Lost`] if it was dropped instead.
    pub(super) async fn next(&mut self) -> Result<(), Trouble> {
        let Some((end, answer)) = self.flying.front_mut() else {
            return std::future::pending().await;
        };
        let (end, result) = (*end, answer.await);
        self.flying.pop_front();
        result.map_err(|_| Trouble::Lost)?;
        self.stored = end;
        Ok(())
    }

    /// Waits until nothing is under way.
    pub(super) async fn settle(&mut self) -> Result<(), Trouble> {
        while !self.is_empty() {
            self.next().await?;
        }
        Ok(())
    }
}
