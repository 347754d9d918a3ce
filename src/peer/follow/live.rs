//! Entries from the stream: held until a signed head covers them, proven, handed on.

use tokio::time::Instant;
use tracing::debug;

use super::asked;
use super::backlog::{Backlog, Batches};
use super::followed::{Contradiction, Followed, Trouble};
use crate::peer::{Event, EventStream, Fault, SignedHead, State};

/// A backlog that is larger is fetched by tiles.
const STREAM_ENTRIES: u64 = 10_000;

impl Followed<'_> {
    /// One connection, from its first question to its end and the pause after it.
    pub(super) async fn live(&mut self) -> Result<(), Trouble> {
        let head = self.client.head(false).await?;
        self.take_current(&head).await?;
        if head.head.size.get().saturating_sub(self.range.size().get()) > STREAM_ENTRIES {
            self.catch_up(&head, false).await?;
        }
        // The position is that of what is stored, so nothing may be under way.
        self.pipe.settle().await?;
        let last = self.range.size().get().checked_sub(1);
        let mut stream = match self.client.stream(last).await {
            Err(fault @ Fault::Beyond { .. }) => {
                // One of the two logs went back. The number is a hint; a signed head tells.
                let head = self.client.head(true).await?;
                self.take_current(&head).await?;
                return Err(fault.into());
            }
            other => other?,
        };
        debug!(?last, "the stream is open");
        self.set_state(State::Following);
        let opened = Instant::now();
        let ended = self.listen(&mut stream).await;
        drop(stream);
        if opened.elapsed() >= self.f.pace.steady {
            self.backoff.reset();
        }
        self.f.circle.metrics().peer_reconnected(&self.f.peer.name);
        self.show_position(self.range.size().get());
        ended?;
        self.rest(None).await
    }

    /// Until the stream ends, or is not worth going on with.
    async fn listen(&mut self, stream: &mut EventStream) -> Result<(), Trouble> {
        let mut held = Backlog::new(self.range.clone());
        // What the head was a poll ago: by now the stream must have brought it.
        let mut polled = 0;
        loop {
            tokio::select! {
                event = stream.next() => match event? {
                    None => return Ok(()),
                    Some(Event::Retry(pause)) => self.asked = Some(pause),
                    Some(Event::Entry { number, text }) => {
                        if number != held.size() {
                            return Err(self.gap(number, held.size()));
                        }
                        held.push(text);
                        if held.overflowed() {
                            return self.leave_for_tiles().await;
                        }
                    }
                    Some(Event::Head(head)) if head.head.size.get() == held.size() => {
                        held = self.prove(held, head).await?;
                    }
                    Some(Event::Head(head)) if head.head.size.get() > held.size() => {
                        let (last, next) = (head.head.size.get() - 1, held.size());
                        self.consider_own(&head).await?;
                        return Err(self.gap(last, next));
                    }
                    Some(Event::Head(head)) => self.consider_own(&head).await?,
                },
                Some(news) = self.news.recv() => match news {
                    Err(fault) => {
                        super::note(&self.f.status, &fault);
                        self.asked = self.asked.max(asked(&fault));
                    }
                    Ok(head) => {
                        self.take_current(&head).await?;
                        if held.size() < polled {
                            // The stream lives, but does not bring what the peer has signed.
                            return self.reach(&head).await;
                        }
                        if held.size() == self.range.size().get() && self.heads.first_waiting().is_some() && head.head.size <= self.range.size() {
                            let before = self.range.size();
                            self.reach(&head).await?;
                            self.set_state(State::Following);
                            if self.range.size() != before {
                                return Ok(());
                            }
                        }
                        polled = head.head.size.get();
                    }
                },
                Some(hint) = self.f.hints.recv() => {
                    if let Ok(head) = self.client.check_head(&hint.note) {
                        self.consider(&head, &hint.source).await?;
                    }
                }
                result = self.pipe.next() => {
                    result?;
                    self.show_position(held.size());
                }
            }
        }
    }

    /// The stream brought more than can be held before any head came: tiles can be read twice instead.
    async fn leave_for_tiles(&mut self) -> Result<(), Trouble> {
        let head = self.client.head(false).await?;
        self.take_current(&head).await?;
        if head.head.size <= self.range.size() {
            let error = "its stream brings entries without end, but it signs for none of them".to_owned();
            return Err(Fault::Malformed(error).into());
        }
        self.catch_up(&head, false).await
    }

    async fn consider_own(&mut self, head: &SignedHead) -> Result<(), Trouble> {
        let source = self.f.peer.name.clone();
        self.consider(head, &source).await
    }

    /// Takes in entries that end exactly where `head` does. Returns what is held then: nothing yet.
    async fn prove(&mut self, held: Backlog, head: SignedHead) -> Result<Backlog, Trouble> {
        let first = self.range.size().get();
        if held.size() > first {
            if held.root() != head.head.root {
                return Err(Trouble::Contradiction(Box::new(Contradiction { head, served: None })));
            }
            let mut batches = Batches::new(first);
            let (marks, texts) = held.into_parts();
            batches.extend(texts.expect("not more than can be held"));
            for mark in marks {
                let texts = batches.take_until(mark.end).expect("the marks are of these texts");
                self.emit(texts, mark.root, &head).await?;
            }
            self.check_waiting().await?;
        }
        self.take_current(&head).await?;
        Ok(Backlog::new(self.range.clone()))
    }

    /// A gap, a repeat, or entries out of order.
    fn gap(&mut self, number: u64, expected: u64) -> Trouble {
        self.f.status.send_modify(|status| status.gaps += 1);
        self.f.circle.metrics().peer_gap(&self.f.peer.name);
        Fault::Malformed(format!("entry {number} came where {expected} was due")).into()
    }
}
