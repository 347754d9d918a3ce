//! Entries that are held until a signed head covers them, and the batches they will go out in.

use std::mem;

use crate::tlog::{CompactRange, Hash, leaf_hash};

/// Entries that are held unproven; with more, they are read twice instead.
pub(super) const HELD_ENTRIES: usize = 100_000;
/// Bytes of their texts.
const HELD_BYTES: usize = 32 << 20;
/// Entries of one batch, and bytes of their texts.
const BATCH_ENTRIES: u64 = 4096;
const BATCH_BYTES: usize = 4 << 20;
/// Batches whose roots are remembered between two readings: 40 bytes for each 4096 entries.
const MARKS: usize = 1 << 19;

/// Where a batch ends, and the root of the log that ends there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) end: u64,
    pub(super) root: Hash,
}

/// What follows the proven part of a log, as far as it was downloaded.
pub(super) struct Backlog {
    /// Of the log that ends with it.
    range: CompactRange,
    /// Where batches end; what follows the last one is in the batch that is open.
    marks: Vec<Mark>,
    open_bytes: usize,
    /// None once there were too many.
    texts: Option<Vec<Vec<u8>>>,
    bytes: usize,
}

impl Backlog {
    /// Nothing yet after what is proven.
    pub(super) fn new(proven: CompactRange) -> Backlog {
        Backlog { range: proven, marks: Vec::new(), open_bytes: 0, texts: Some(Vec::new()), bytes: 0 }
    }

    /// Adds an entry.
    pub(super) fn push(&mut self, text: Vec<u8>) {
        self.range.push(leaf_hash(&text));
        self.bytes += text.len();
        self.open_bytes += text.len();
        if let Some(texts) = &mut self.texts {
            texts.push(text);
            if texts.len() > HELD_ENTRIES || self.bytes > HELD_BYTES {
                self.texts = None;
            }
        }
        if self.size().is_multiple_of(BATCH_ENTRIES) || self.open_bytes >= BATCH_BYTES {
            self.mark();
        }
    }

    /// Entries of the log with this.
    pub(super) fn size(&self) -> u64 {
        self.range.size().get()
    }

    /// The root of the log with this.
    pub(super) fn root(&self) -> Hash {
        self.range.root()
    }

    /// Whether the texts were too many to hold.
    pub(super) fn overflowed(&self) -> bool {
        self.texts.is_none()
    }

    /// Whether there are more batches than can be remembered.
    pub(super) fn is_endless(&self) -> bool {
        self.marks.len() > MARKS
    }

    /// Nothing is held any more, as if it had been too much.
    pub(super) fn drop_texts(&mut self) {
        self.texts = None;
    }

    /// The batches, and the texts if they were held.
    pub(super) fn into_parts(mut self) -> (Vec<Mark>, Option<Vec<Vec<u8>>>) {
        if self.marks.last().is_none_or(|mark| mark.end < self.size()) {
            self.mark();
        }
        (self.marks, self.texts)
    }

    fn mark(&mut self) {
        self.open_bytes = 0;
        let mark = Mark { end: self.size(), root: self.root() };
        self.marks.push(mark);
    }
}

/// Entries that were read, of which batches are taken from the front.
pub(super) struct Batches {
    /// Number of the next entry to leave.
    next: u64,
    texts: Vec<Vec<u8>>,
}

impl Batches {
    pub(super) fn new(next: u64) -> Batches {
        Batches { next, texts: Vec::new() }
    }

    pub(super) fn extend(&mut self, texts: Vec<Vec<u8>>) {
        if self.texts.is_empty() {
            self.texts = texts;
        } else {
            self.texts.extend(texts);
        }
    }

    /// The entries before `end`, if all are there.
    pub(super) fn take_until(&mut self, end: u64) -> Option<Vec<Vec<u8>>> {
        let count = usize::try_from(end - self.next).ok().filter(|count| *count <= self.texts.len())?;
        self.next = end;
        let rest = self.texts.split_off(count);
        Some(mem::replace(&mut self.texts, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(entries: usize, bytes: usize) -> Backlog {
        let mut backlog = Backlog::new(CompactRange::new());
        (0..entries).for_each(|_| backlog.push(vec![b'x'; bytes]));
        backlog
    }

    #[test]
    fn what_is_held_is_bounded_by_entries_and_by_bytes() {
        assert!(!filled(HELD_ENTRIES, 3).overflowed());
        assert!(filled(HELD_ENTRIES + 1, 3).overflowed());
        assert!(!filled(32, 1 << 20).overflowed());
        assert!(filled(33, 1 << 20).overflowed());
    }

    #[test]
    fn batches_end_at_marks_whose_roots_are_those_of_the_log() {
        for (entries, bytes, wanted) in
            [(1, 9, vec![1]), (4096, 9, vec![4096]), (9000, 9, vec![4096, 8192, 9000]), (10, 1 << 20, vec![4, 8, 10])]
        {
            let (marks, texts) = filled(entries, bytes).into_parts();
            assert_eq!(marks.iter().map(|mark| mark.end).collect::<Vec<_>>(), wanted);
            let mut range = CompactRange::new();
            let mut batches = Batches::new(0);
            batches.extend(texts.unwrap());
            for mark in marks {
                for text in batches.take_until(mark.end).unwrap() {
                    range.push(leaf_hash(&text));
                }
                assert_eq!((range.size().get(), range.root()), (mark.end, mark.root));
            }
            assert_eq!(batches.take_until(entries as u64 + 1), None);
        }
    }
}
