//! One request and the whole of its answer: addresses, statuses, content types, limits of bytes and of time.
//!
//! What is inside is read by [`super::client`] and [`super::ask`]; a stream's body goes to [`super::frames`] instead.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::StatusCode;
use reqwest::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::{Answer, Ask, Fault, Transport};

/// Bytes of a refusal's body that are read, and characters of it that are shown.
const REFUSAL_LIMIT_BYTES: usize = 1 << 10;
const REFUSAL_SHOWN_CHARS: usize = 200;
/// What a peer may ask for with `Retry-After` and `retry:` (PROTOCOL 5.1): less would be a hot loop, more a way to be
/// left alone.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(10));

/// How long to wait for a peer. Tests scale it down.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Until the headers of an answer.
    pub first_byte: Duration,
    /// For the body after them, so that a byte now and then holds nothing for ever.
    pub whole: Duration,
    /// Until the next whole frame or comment of a stream: three heartbeats.
    pub silence: Duration,
    /// Until the headers of a lookup's answer: a peer may build first, or wait for others (`lookup-wait` there).
    pub lookup: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            first_byte: Duration::from_secs(10),
            whole: Duration::from_secs(60),
            silence: Duration::from_secs(45),
            lookup: Duration::from_mins(11),
        }
    }
}

/// Who is asked, and by what means.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) transport: Arc<dyn Transport>,
    pub(super) base: Url,
    pub(super) timing: Timing,
}

/// What an answer must be to be read.
pub(super) struct Wanted {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) limit_bytes: usize,
}

impl Line {
    /// A GET of what stands at `path` below the peer's address. If `fresh`, past every cache and on a new connection.
    pub(super) fn ask(&self, path: &str, fresh: bool) -> Ask {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url.set_query(None);
        url.set_fragment(None);
        let mut headers = HeaderMap::new();
        if fresh {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            // No cache has seen this address, so none can answer it, whatever it thinks of the header.
            url.set_query(Some(&format!("fresh={:016x}", rand::random::<u64>())));
        }
        Ask { url, headers, post: None, first_byte: self.timing.first_byte, new_connection: fresh }
    }

    /// The whole body of the answer, or why it is none.
    pub(super) async fn fetch(&self, ask: Ask, wanted: &Wanted) -> Result<Vec<u8>, Fault> {
        let path = ask.url.path().to_owned();
        let answer = self.transport.send(ask).await.map_err(|error| Fault::Network(error.context(path.clone())))?;
        if answer.status != wanted.status {
            return Err(self.refusal(answer).await);
        }
        check_type(&path, &answer.headers, wanted.content_type)?;
        self.read(&path, answer, wanted.limit_bytes).await
    }

    async fn read(&self, path: &str, mut answer: Answer, limit_bytes: usize) -> Result<Vec<u8>, Fault> {
        let deadline = Instant::now() + self.timing.whole;
        let mut body = Vec::new();
        loop {
            let piece = match timeout_at(deadline, answer.body.next()).await {
                Err(_) => return Err(Fault::Network(anyhow!("{path}: not all sent within {:?}", self.timing.whole))),
                Ok(None) => return Ok(body),
                Ok(Some(Err(error))) => {
                    return Err(Fault::Network(anyhow::Error::from(error).context(path.to_owned())));
                }
                Ok(Some(Ok(piece))) => piece,
            };
            if body.len() + piece.len() > limit_bytes {
                return Err(Fault::Malformed(format!("{path}: the answer is longer than {limit_bytes} bytes")));
            }
            body.extend_from_slice(&piece);
        }
    }

    /// What an answer of another status says. Reading its body may fail without harm.
    pub(super) async fn refusal(&self, mut answer: Answer) -> Fault {
        let deadline = Instant::now() + self.timing.first_byte;
        let mut body = Vec::new();
        while body.len() < REFUSAL_LIMIT_BYTES
            && !body.contains(&b'\n')
            && let Ok(Some(Ok(piece))) = timeout_at(deadline, answer.body.next()).await
        {
            let room = REFUSAL_LIMIT_BYTES - body.len();
            body.extend_from_slice(&piece[..piece.len().min(room)]);
        }
        let line = body.split(|byte| *byte == b'\n').next().unwrap_or_default();
        Fault::Refused {
            status: answer.status.as_u16(),
            retry_after: retry_after(&answer.headers),
            body: shown(&String::from_utf8_lossy(line), REFUSAL_SHOWN_CHARS),
        }
    }
}

/// Whether the body is of this type and comes as it is. Parameters and case do not count.
pub(super) fn check_type(path: &str, headers: &HeaderMap, wanted: &str) -> Result<(), Fault> {
    let found = headers.get(CONTENT_TYPE).map_or("", |value| value.to_str().unwrap_or("no text"));
    let essence = found.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case(wanted) {
        let found = if found.is_empty() { "none".to_owned() } else { shown(found, 80) };
        return Err(Fault::Malformed(format!("{path}: the content type is {found}, not {wanted}")));
    }
    check_encoding(path, headers)
}

/// Whether the body comes as it is.
pub(super) fn check_encoding(path: &str, headers: &HeaderMap) -> Result<(), Fault> {
    // Nothing was asked to be compressed, so something in between plays with the bytes.
    match headers.get(CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => {
            let encoding = shown(&String::from_utf8_lossy(encoding.as_bytes()), 80);
            Err(Fault::Malformed(format!("{path}: the content is encoded ({encoding}), which nobody asked for")))
        }
        _ => Ok(()),
    }
}

/// A pause that a peer asks for, as it is honoured.
pub(super) fn pause(asked: Duration) -> Duration {
    asked.clamp(PAUSES.0, PAUSES.1)
}

/// A stranger's text for a message: short, without control characters.
pub(super) fn shown(text: &str, chars: usize) -> String {
    // Besides control characters those that reorder or hide text on a terminal or page.
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    text.chars().filter(|c| !hidden(*c)).take(chars).collect::<String>().trim().to_owned()
}

/// `Retry-After`, in seconds or as a date (RFC 9110, 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are a long time.
        return Some(pause(Duration::from_secs(text.parse().unwrap_or(u64::MAX))));
    }
    let at = DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(pause(Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default()))
}
