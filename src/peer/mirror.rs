//! Fetches the binary behind a word of one peer: into files of ours, hashed whole before anybody gets it.
//!
//! Its compressed form is asked for, from where PROTOCOL 4 and 7 have it: less has to come, and what came is what is
//! kept. Unpacking and hashing is [`crate::binaries`]' room; asking the next peer, and what follows from a peer that
//! serves other bytes, are the caller's.

use std::iter;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use futures_util::StreamExt as _;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_LENGTH, HeaderMap};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::fetch::{Line, check_encoding};
use super::{Answer, Fault, Timing, Transport};
use crate::binaries::{Received, longest_gz, receive};
use crate::model::Spec;
use crate::store::{LogId, SaidRow};

/// Bytes that have to come in each [`Timing::whole`]: 68 KiB a second, below which others are asked instead.
const LEAST_BYTES: u64 = 4 << 20;
/// Pieces that wait to be unpacked. Each is what one read gave, some ten KiB.
const AHEAD: usize = 16;

/// Fetches binaries from one peer.
#[derive(Clone)]
pub struct BinaryClient {
    line: Line,
}

/// Why there is no binary.
#[derive(Debug, thiserror::Error)]
pub enum NotFetched {
    /// The peer has not given it; this says nothing against the peer.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// All that was announced came, and it is not what the peer's log names.
    #[error("{}: {}", .0.url.path(), .0.what)]
    Differs(Box<Mismatch>),
    /// This machine cannot keep it, so nobody else need be asked.
    #[error("{0:#}")]
    Own(anyhow::Error),
}

/// Other bytes than recorded, whole as they were announced.
pub struct Mismatch {
    /// Where they came from.
    pub url: Url,
    /// What is wrong with them.
    pub what: String,
    /// They themselves.
    pub received: Received,
}

impl std::fmt::Debug for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mismatch").field("url", &self.url.as_str()).field("what", &self.what).finish_non_exhaustive()
    }
}

impl BinaryClient {
    /// Of the peer at the address `base`.
    pub fn new(transport: Arc<dyn Transport>, base: Url) -> BinaryClient {
        BinaryClient { line: Line { transport, base, timing: Timing::default() } }
    }

    /// The same with other waits.
    #[must_use]
    pub fn with_timing(mut self, timing: Timing) -> BinaryClient {
        self.line.timing = timing;
        self
    }

    /// The binary of `spec` that the peer named in `said`, in files in the folder `staging` that are gone when they are
    /// dropped. At most [`longest_gz`] of its size is read, and at most its size is unpacked. May be cancelled at any
    /// time.
    ///
    /// # Errors
    /// Why there is none; no more than what is named here was written anywhere.
    pub async fn fetch(&self, spec: &Spec, said: &SaidRow, staging: &Path) -> Result<Received, NotFetched> {
        let path = path(spec, said);
        let limit = longest_gz(said.size);
        let mut ask = self.line.ask(&path, false);
        if said.log == LogId::Accepted {
            // It may have to fetch it itself first.
            ask.first_byte = self.line.timing.whole;
        }
        let url = ask.url.clone();
        let sent = self.line.transport.send(ask).await;
        let answer = sent.map_err(|error| Fault::Network(error.context(path.clone())))?;
        if answer.status != StatusCode::OK {
            return Err(self.line.refusal(answer).await.into());
        }
        check_encoding(&path, &answer.headers)?;
        let announced = announced(&answer.headers);
        if let Some(length) = announced.filter(|length| *length > limit) {
            let size = said.size;
            return Err(
                Fault::Malformed(format!("{path}: {length} bytes are announced for {size} unpacked ones")).into()
            );
        }
        let (to, mut from) = mpsc::channel(AHEAD);
        let (size, staging) = (said.size, staging.to_owned());
        let received = spawn_blocking(move || receive(iter::from_fn(|| from.blocking_recv()), size, &staging));
        let came = self.pass(&path, answer, to, limit).await;
        let received = received.await.context("taking a binary in panicked").map_err(NotFetched::Own)?;
        let received = received.context("cannot keep a binary that is being fetched").map_err(NotFetched::Own)?;
        came?;
        match received.check(said.size, &said.sum) {
            Ok(()) => Ok(received),
            Err(what) if announced.is_some() => Err(NotFetched::Differs(Box::new(Mismatch { url, what, received }))),
            // Nothing says that this is all of it.
            Err(what) => Err(Fault::Malformed(format!("{path}: {what}, and its length was not announced")).into()),
        }
    }

    /// Hands on the body as it comes, up to its end.
    async fn pass(&self, path: &str, mut answer: Answer, to: mpsc::Sender<Bytes>, limit: u64) -> Result<(), Fault> {
        let window = self.line.timing.whole;
        let (mut came, mut since, mut deadline) = (0, 0, Instant::now() + window);
        loop {
            let piece = match timeout_at(deadline, answer.body.next()).await {
                Err(_) => {
                    return Err(Fault::Network(anyhow!("{path}: only {since} bytes came within {window:?}")));
                }
                Ok(None) => return Ok(()),
                Ok(Some(Err(error))) => {
                    return Err(Fault::Network(anyhow::Error::from(error).context(path.to_owned())));
                }
                Ok(Some(Ok(piece))) => piece,
            };
            came += piece.len() as u64;
            since += piece.len() as u64;
            if came > limit {
                return Err(Fault::Malformed(format!("{path}: the answer is longer than {limit} bytes")));
            }
            if since >= LEAST_BYTES {
                (since, deadline) = (0, Instant::now() + window);
            }
            if to.send(piece).await.is_err() {
                // Whoever takes it in has failed, and says why.
                return Ok(());
            }
        }
    }
}

/// Where a peer has the compressed form of a binary that it named.
fn path(spec: &Spec, said: &SaidRow) -> String {
    match said.log {
        LogId::Claims => format!("/claims/file/{}.gz", said.number),
        LogId::Accepted => format!("/{spec}{}/{}.gz", said.sum, spec.file_name()),
    }
}

/// How long the body is said to be.
fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
