//! Entries from tiles: what a signed head is ahead, proven against its root before any of it leaves.
//!
//! What can be held is read once. More is read twice: first for the root, which tells that a head covers it, and again to
//! hand it on; between the two only the root after each batch is kept.

use futures_util::stream::{self, Stream, StreamExt as _};
use tokio::sync::oneshot;
use tracing::debug;

use super::backlog::{Backlog, Batches, HELD_ENTRIES, Mark};
use super::followed::{Contradiction, Followed, Served, Trouble};
use crate::peer::{Entry, Fault, LogClient, Proven, Said, SignedHead, State};
use crate::tlog::{Hash, TILE_WIDTH, leaf_hash};

/// Tiles that are asked for at once. Each may have 4 MiB, held twice while it is parsed.
const AT_ONCE: usize = 4;
/// Entries that are parsed without letting others run.
const PARSED_AT_ONCE: usize = 256;

impl Followed<'_> {
    /// Fetches, proves and hands on all entries up to `head`, which is ahead.
    ///
    /// # Errors
    /// Of those of contradiction nothing has left; what has left otherwise is proven.
    pub(super) async fn catch_up(&mut self, head: &SignedHead, fresh: bool) -> Result<(), Trouble> {
        self.set_state(State::CatchingUp);
        let (first, size) = (self.range.size().get(), head.head.size.get());
        debug!(first, size, "catching up by tiles");
        let mut backlog = Backlog::new(self.range.clone());
        if size - first > HELD_ENTRIES as u64 {
            backlog.drop_texts();
        }
        let mut served = None;
        {
            let mut tiles = std::pin::pin!(tiles(self.client.clone(), first, size, fresh));
            while let Some(tile) = tiles.next().await {
                let tile = tile?;
                if tile.index == (size - 1) / TILE_WIDTH {
                    served = Some(tile.clone());
                }
                for text in tile.after(first) {
                    backlog.push(text);
                }
                if backlog.is_endless() {
                    return Err(Fault::Malformed("its log is longer than anybody can catch up with".to_owned()).into());
                }
                self.show_position(backlog.size());
            }
        }
        if backlog.root() != head.head.root {
            self.show_position(first);
            return Err(Trouble::Contradiction(Box::new(Contradiction { head: head.clone(), served })));
        }
        let source = self.f.peer.name.clone();
        self.keep(head, &source).await?;
        let (marks, texts) = backlog.into_parts();
        let mut batches = Batches::new(first);
        match texts {
            Some(texts) => {
                batches.extend(texts);
                for mark in marks {
                    let texts = batches.take_until(mark.end).expect("the marks are of these texts");
                    self.emit(texts, mark.root, head).await?;
                }
            }
            None => self.read_again(first, &marks, head, fresh).await?,
        }
        self.check_waiting().await
    }

    /// The second reading.
    async fn read_again(&mut self, first: u64, marks: &[Mark], head: &SignedHead, fresh: bool) -> Result<(), Trouble> {
        let mut tiles = std::pin::pin!(tiles(self.client.clone(), first, head.head.size.get(), fresh));
        let mut batches = Batches::new(first);
        let mut marks = marks.iter().peekable();
        while let Some(tile) = tiles.next().await {
            batches.extend(tile?.after(first));
            while let Some(mark) = marks.peek()
                && let Some(texts) = batches.take_until(mark.end)
            {
                self.emit(texts, mark.root, head).await?;
                marks.next();
            }
        }
        Ok(())
    }

    /// Hands on entries that are known to end in a log with this root, covered by `head`.
    pub(super) async fn emit(&mut self, texts: Vec<Vec<u8>>, root: Hash, head: &SignedHead) -> Result<(), Trouble> {
        let first = self.range.size().get();
        let log = self.finding.log;
        let mut range = self.range.clone();
        texts.iter().for_each(|text| range.push(leaf_hash(text)));
        if range.root() != root {
            return Err(Fault::Malformed("its entries changed between two readings".to_owned()).into());
        }
        let mut entries = Vec::with_capacity(texts.len());
        let mut not_words = 0;
        for text in texts {
            let said = Said::parse(log, &text);
            not_words += u64::from(said.is_none());
            entries.push(Entry { text, said });
            if entries.len() % PARSED_AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
        }
        let size = range.size();
        let (taken, answer) = oneshot::channel();
        let head = (head.head.size == size).then(|| head.clone());
        self.pipe.send(Proven { log, first, entries, root, head, taken }, answer).await?;
        self.range = range;
        self.f.status.send_modify(|status| status.not_words += not_words);
        self.show_position(self.range.size().get());
        Ok(())
    }
}

impl Served {
    /// Its entries from number `first` on.
    fn after(mut self, first: u64) -> Vec<Vec<u8>> {
        let skip = first.saturating_sub(self.index * TILE_WIDTH);
        self.texts.drain(..usize::try_from(skip).map_or(self.texts.len(), |skip| skip.min(self.texts.len())));
        self.texts
    }
}

/// The tiles of the entries from `first` to `size`, in order, some asked for at once.
fn tiles(client: LogClient, first: u64, size: u64, fresh: bool) -> impl Stream<Item = Result<Served, Fault>> {
    stream::iter(first / TILE_WIDTH..size.div_ceil(TILE_WIDTH))
        .map(move |index| {
            let client = client.clone();
            async move {
                let width = u16::try_from((size - index * TILE_WIDTH).min(TILE_WIDTH)).expect("at most 256");
                let texts = tile(&client, index, width, fresh).await?;
                Ok(Served { index, texts })
            }
        })
        .buffered(AT_ONCE)
}

/// One tile, asked for twice if need be: a walk over thousands should not begin anew for one cut connection.
async fn tile(client: &LogClient, index: u64, width: u16, fresh: bool) -> Result<Vec<Vec<u8>>, Fault> {
    match client.entries(index, width, fresh).await {
        // C2SP tlog-tiles lets a server forget a partial tile once it has the full one.
        Err(Fault::Refused { status: 404, .. }) if u64::from(width) < TILE_WIDTH => {
            let mut texts = client.entries(index, 256, fresh).await?;
            texts.truncate(usize::from(width));
            Ok(texts)
        }
        Err(Fault::Network(_) | Fault::Malformed(_)) => client.entries(index, width, true).await,
        result => result,
    }
}
