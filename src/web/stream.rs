//! A log as it grows, as server-sent events.
//!
//! A reader is a cursor. It takes a target (the committed size and its head), sends the entries up to it from the store,
//! then that head, then takes the next target; when there is none it waits to be woken. What is old and what is new go the
//! same way, so nothing can be lost or doubled where one ends and the other begins.
//!
//! Out of scope: the bytes ([`frames`]), how many streams there may be ([`super::limits`]), and readers that stop
//! reading, which only the kernel notices ([`super::server`]).

mod frames;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode};
use bytes::Bytes;
use futures_util::stream;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::error::Error;
use super::limits::StreamPlace;
use super::server::Until;
use super::{Call, fresh, text};
use crate::log::Log;
use crate::metrics::{Label, Metrics};
use crate::store::{LogId, Published};
use frames::Batches;

/// When a client that found no place should come again.
const RETRY_AFTER_SECONDS: u64 = 60;

/// How a stream passes its time.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// A comment comes this often.
    pub heartbeat: Duration,
    /// A stream lives at most 80 to 100 % of this, by chance, so that not all end at once.
    pub max_age: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { heartbeat: Duration::from_secs(15), max_age: Duration::from_mins(30) }
    }
}

/// What all open streams of a node share. Cloning gives another handle.
#[derive(Clone)]
pub struct Streams {
    pace: Pace,
    batches: Batches,
}

impl Streams {
    /// None open yet.
    pub fn new(pace: Pace) -> Streams {
        Streams { pace, batches: Batches::new() }
    }
}

/// Opens a stream at the position that the client names.
pub(super) fn open(call: &Call<'_>, id: LogId) -> Result<Response<Body>, Error> {
    let state = call.state;
    let log = state.log(id);
    // Subscribed before the size is read: what comes in between wakes the reader once for nothing.
    let heads = log.subscribe();
    let target = log.published();
    let size = target.size.get();
    let first = position(call)?.unwrap_or(size);
    if first > size {
        // One of two logs went back: this one, or the one that the client has followed under this address.
        Metrics::count(&state.metrics.ahead, id.name());
        let mut response = text(format!("{size}\n"));
        *response.status_mut() = StatusCode::CONFLICT;
        return Ok(response);
    }
    let place = state.limits.stream(call.client).ok_or_else(|| {
        Metrics::count(&state.metrics.refused, "streams");
        let message = "too many streams are open here or from your network".to_owned();
        Error::Unavailable { message, retry_after: RETRY_AFTER_SECONDS }
    })?;
    let Streams { pace, batches } = state.streams.clone();
    let now = Instant::now();
    // What is left is for the last frames to get out before the connection is cut.
    let ends = now + pace.max_age.mul_f64(rand::random_range(0.8..0.99));
    let reader = Reader {
        log: log.clone(),
        id,
        batches,
        heads,
        target,
        cursor: first,
        told: 0,
        begun: false,
        heartbeat: pace.heartbeat,
        comment_at: now + pace.heartbeat,
        ends,
        stop: state.stop.clone(),
        _open: Open::new(&state.metrics, id, place),
    };
    let frames = stream::unfold(Some(reader), |reader| async move {
        let mut reader = reader?;
        match reader.next().await {
            Ok(frames) => frames.map(|frames| (Ok(frames), Some(reader))),
            // The body breaks off, so that nobody takes this for an orderly end.
            Err(cause) => {
                error!("a stream of the {} log cannot go on: {cause:#}", reader.id.name());
                Some((Err(cause), None))
            }
        }
    });
    let mut response = fresh("text/event-stream", Body::from_stream(frames));
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response.extensions_mut().insert(Until(now + pace.max_age));
    Ok(response)
}

/// The first entry that the client wants; none if it wants only what is new. The header wins over the query.
fn position(call: &Call<'_>) -> Result<Option<u64>, Error> {
    let header = call.head.headers.get("last-event-id").map(HeaderValue::as_bytes);
    if let Some(last) = header.filter(|last| !last.is_empty()) {
        let last = std::str::from_utf8(last).ok().and_then(digits);
        let last = last.ok_or_else(|| Error::Malformed("Last-Event-ID is not the number of an entry".to_owned()))?;
        return Ok(Some(last.saturating_add(1)));
    }
    let Some(first) = call.query("from") else {
        return Ok(None);
    };
    let first = digits(&first).ok_or_else(|| Error::Malformed("from is not the number of an entry".to_owned()))?;
    Ok(Some(first))
}

/// Plain digits without a leading zero. Those of a number beyond all others are a number too: beyond every log.
fn digits(text: &str) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with('0');
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (canonical && plain).then(|| text.parse().unwrap_or(u64::MAX))
}

/// One open stream.
struct Reader {
    log: Log,
    id: LogId,
    batches: Batches,
    heads: watch::Receiver<Arc<Published>>,
    /// What is being sent: the entries below its size, then its head.
    target: Arc<Published>,
    /// The next entry to send; never beyond the target.
    cursor: u64,
    /// The size of the last head sent; 0 if none was.
    told: u64,
    begun: bool,
    heartbeat: Duration,
    comment_at: Instant,
    ends: Instant,
    stop: CancellationToken,
    _open: Open,
}

impl Reader {
    /// The next whole frames; none at the end of the stream.
    async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            if !self.begun {
                self.begun = true;
                return Ok(Some(frames::COMMENT));
            }
            let now = Instant::now();
            if self.stop.is_cancelled() || now >= self.ends {
                return Ok(None);
            }
            if now >= self.comment_at {
                self.comment_at = now + self.heartbeat;
                return Ok(Some(frames::COMMENT));
            }
            let size = self.target.size.get();
            if self.cursor < size {
                // Boxed, because an idle stream should not carry the room that this takes.
                let batch = Box::pin(self.batches.read(&self.log, self.id, self.cursor, size)).await;
                let batch = batch.map_err(|cause| anyhow::anyhow!("{cause:#}"))?;
                self.cursor = batch.end;
                return Ok(Some(batch.frames));
            }
            if self.told < size {
                self.told = size;
                // The first form: a checksum database's head of the accepted log, the claims log's checkpoint.
                let note = self.target.notes.first().context("there is no head")?;
                return Ok(Some(frames::head(size, note)));
            }
            let newest = self.heads.borrow_and_update().clone();
            if newest.size > self.target.size {
                self.target = newest;
                continue;
            }
            tokio::select! {
                changed = self.heads.changed() => changed.context("nothing more is written")?,
                () = sleep_until(self.comment_at.min(self.ends)) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }
}

/// A place that is taken, and counted.
struct Open {
    gauge: Gauge,
    _place: StreamPlace,
}

impl Open {
    fn new(metrics: &Metrics, id: LogId, place: StreamPlace) -> Open {
        let gauge = metrics.streams.get_or_create_owned(&Label { kind: id.name() });
        gauge.inc();
        Open { gauge, _place: place }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}
