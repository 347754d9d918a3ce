//! The log of one build: what was run, what was fetched for it, what the go command said.
//!
//! Invariant: never more than [`LIMIT_BYTES`] in memory, and it says so when something was left out.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use flate2::Compression;
use flate2::write::GzEncoder;

/// Bytes kept of a build's output; the rest is read and dropped.
pub const LIMIT_BYTES: usize = 1 << 20;
/// Lines shown of a running build, and characters of each.
const LAST_LINES: usize = 12;
const LINE_CHARS: usize = 300;

/// A log being written. Cloning gives another handle to the same one.
#[derive(Clone, Default)]
pub struct Transcript {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    text: Vec<u8>,
    limit: usize,
    /// Bytes that did not fit.
    dropped: u64,
    /// The go command's own words, apart from what was fetched.
    output: Vec<u8>,
    /// The last lines of the output, the last of them perhaps unfinished.
    last: VecDeque<String>,
    unfinished: Vec<u8>,
}

impl Transcript {
    /// An empty log that takes `limit` bytes, at most [`LIMIT_BYTES`].
    pub fn new(limit: usize) -> Transcript {
        let transcript = Transcript::default();
        transcript.inner().limit = limit.min(LIMIT_BYTES);
        transcript
    }

    /// Adds a line of the node's own.
    pub fn note(&self, line: &str) {
        let mut inner = self.inner();
        // Between the lines of the go command, not within one.
        if inner.text.last().is_some_and(|&byte| byte != b'\n') {
            inner.add(b"\n");
        }
        inner.add(line.as_bytes());
        inner.add(b"\n");
    }

    /// Adds what the go command said.
    pub fn output(&self, bytes: &[u8]) {
        let mut inner = self.inner();
        inner.add(bytes);
        let room = LIMIT_BYTES - inner.output.len();
        inner.output.extend_from_slice(&bytes[..bytes.len().min(room)]);
        for &byte in bytes {
            if byte == b'\n' {
                inner.end_line();
            } else if inner.unfinished.len() < LINE_CHARS {
                inner.unfinished.push(byte);
            }
        }
    }

    /// What the go command said, as far as it was kept.
    pub fn words(&self) -> String {
        String::from_utf8_lossy(&self.inner().output).into_owned()
    }

    /// The last lines of what the go command said, without control characters.
    pub fn last_lines(&self) -> Vec<String> {
        self.inner().last.iter().cloned().collect()
    }

    /// The whole log, compressed.
    pub fn gzip(&self) -> Vec<u8> {
        let mut inner = self.inner();
        if inner.dropped > 0 {
            let line = format!("\n… and {} bytes more that were not kept\n", inner.dropped);
            inner.dropped = 0;
            inner.text.extend_from_slice(line.as_bytes());
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&inner.text).expect("writing to memory does not fail");
        encoder.finish().expect("writing to memory does not fail")
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        // Text stays text, wherever a writer may have panicked.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn add(&mut self, bytes: &[u8]) {
        let kept = bytes.len().min(self.limit.saturating_sub(self.text.len()));
        self.text.extend_from_slice(&bytes[..kept]);
        self.dropped += (bytes.len() - kept) as u64;
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.unfinished);
        let line: String =
            String::from_utf8_lossy(&line).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn unzip(gz: &[u8]) -> String {
        let mut text = String::new();
        flate2::read::GzDecoder::new(gz).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn notes_stand_between_lines() {
        let log = Transcript::new(1000);
        log.note("begin");
        log.output(b"go: half a li");
        log.note("proxy: fetched");
        log.output(b"ne\nsecond\x1b[2J\n");
        assert_eq!(unzip(&log.gzip()), "begin\ngo: half a li\nproxy: fetched\nne\nsecond\x1b[2J\n");
        assert_eq!(log.words(), "go: half a line\nsecond\x1b[2J\n");
        assert_eq!(log.last_lines(), ["go: half a line", "second [2J"]);
    }

    #[test]
    fn a_flood_is_cut_and_told() {
        let log = Transcript::new(100);
        for _ in 0..1000 {
            log.output(&[b'x'; 5000]);
        }
        log.output(b"\n");
        let text = unzip(&log.gzip());
        assert!(text.len() < 200, "{} bytes", text.len());
        assert!(text.ends_with("… and 4999901 bytes more that were not kept\n"), "{text}");
        assert_eq!(log.words().len(), LIMIT_BYTES);
        assert_eq!(log.last_lines()[0].len(), LINE_CHARS);
    }
}
