//! The bytes of a stream: frames, and batches of them that all readers share.
//!
//! Thousands of readers want the same entries at the same moment, so a batch is read and written out once and handed to
//! all of them. What a batch holds follows from its key alone: whoever asks gets just the entries it
//! would have read itself, and losing the whole cache loses nothing but time.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use moka::future::Cache;
use moka::policy::EvictionPolicy;

use crate::log::Log;
use crate::store::LogId;

/// Entries of a batch at most. Batches end at multiples of it, so that readers who began
/// anywhere soon ask for the same ones.
const BATCH: u64 = 256;
/// Bytes of a batch's entries at most, give or take one entry: what a reader that stalls may hold in memory
/// beside what the kernel holds for it.
const BATCH_BYTES: usize = 32 << 10;
/// Bytes of batches that are kept.
const KEPT_BYTES: u64 = 4 << 20;
/// How long a batch is kept that nobody asks for.
const KEPT_IDLE: Duration = Duration::from_secs(30);

/// A comment: it starts a stream and breaks its silence.
pub(super) const COMMENT: Bytes = Bytes::from_static(b":\n\n");

/// Frames of consecutive entries.
#[derive(Clone)]
pub(super) struct Batch {
    pub(super) frames: Bytes,
    /// The entry after the last one.
    pub(super) end: u64,
}

/// Batches that were asked for lately. Cloning gives another handle.
#[derive(Clone)]
pub(super) struct Batches(Cache<Key, Batch>);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    log: LogId,
    first: u64,
    /// No entry from here on, even if there are some by now: a target's entries come before its head.
    limit: u64,
}

impl Batches {
    pub(super) fn new() -> Batches {
        let weigh = |_: &Key, batch: &Batch| u32::try_from(batch.frames.len()).unwrap_or(u32::MAX);
        let cache = Cache::builder()
            .weigher(weigh)
            .max_capacity(KEPT_BYTES)
            .time_to_idle(KEPT_IDLE)
            // Otherwise yesterday's batches would be kept and the one that everybody wants now would not.
            .eviction_policy(EvictionPolicy::lru());
        Batches(cache.build())
    }

    /// The entries of a log from `first` on, as many as make a batch, all below `target`.
    ///
    /// # Errors
    /// They cannot be read.
    pub(super) async fn read(
        &self,
        log: &Log,
        id: LogId,
        first: u64,
        target: u64,
    ) -> Result<Batch, Arc<anyhow::Error>> {
        let limit = target.min((first / BATCH + 1) * BATCH);
        let key = Key { log: id, first, limit };
        if let Some(batch) = self.0.get(&key).await {
            return Ok(batch);
        }
        // One reader reads for all that ask meanwhile; if it goes away another one does.
        self.0.try_get_with(key, batch(log, first, limit)).await
    }
}

async fn batch(log: &Log, first: u64, limit: u64) -> anyhow::Result<Batch> {
    let entries = log.entries_within(first, limit, BATCH_BYTES).await?;
    ensure!(!entries.is_empty(), "entry {first} is missing below an announced size");
    let mut frames = Vec::with_capacity(BATCH_BYTES + BATCH_BYTES / 2);
    let mut end = first;
    for entry in entries {
        push(&mut frames, end, "entry", &entry);
        end += 1;
    }
    frames.shrink_to_fit();
    Ok(Batch { frames: frames.into(), end })
}

/// The frame of a head; its id is the last entry that it covers.
pub(super) fn head(size: u64, note: &str) -> Bytes {
    let mut frame = Vec::with_capacity(note.len() + 64);
    push(&mut frame, size.saturating_sub(1), "head", note.as_bytes());
    frame.into()
}

/// Writes one frame. Each line of the text is a line of data, but for the newline that ends it.
///
/// A carriage return would end a line too, and no text has one: records, claims and notes hold no control
/// characters but newlines.
fn push(frames: &mut Vec<u8>, id: u64, event: &str, text: &[u8]) {
    frames.extend_from_slice(format!("id: {id}\nevent: {event}\n").as_bytes());
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    for line in text.split(|byte| *byte == b'\n') {
        frames.extend_from_slice(if line.is_empty() { b"data:".as_slice() } else { b"data: " });
        frames.extend_from_slice(line);
        frames.push(b'\n');
    }
    frames.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_as_documented() {
        let mut frames = Vec::new();
        let record = b"github.com/mjl-/sherpa v0.6.0 /cmd/sherpaclient linux amd64 go1.27.1 10585484 0mmz \n";
        push(&mut frames, 41, "entry", record);
        let want = "id: 41\nevent: entry\n\
                    data: github.com/mjl-/sherpa v0.6.0 /cmd/sherpaclient linux amd64 go1.27.1 10585484 0mmz \n\n";
        assert_eq!(String::from_utf8(frames).unwrap(), want);
        let note = "go.sum database tree\n42\nEaCF+Wyt\n\n\u{2014} up.example UUsC\n";
        let want = "id: 41\nevent: head\ndata: go.sum database tree\ndata: 42\ndata: EaCF+Wyt\ndata:\n\
                    data: \u{2014} up.example UUsC\n\n";
        assert_eq!(head(42, note), want);
    }
}
