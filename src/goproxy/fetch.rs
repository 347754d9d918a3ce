//! One request to one proxy: status, limits, time limits.
//!
//! Out of scope: which proxy, and whether to try again ([`super::client`]).
//!
//! Bodies are hashed as they come, so nothing here may decompress: reqwest's decoders stay out of Cargo.toml.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use reqwest::header::{ACCEPT_RANGES, CONTENT_RANGE, ETAG, HeaderMap, IF_RANGE, RANGE};
use reqwest::{Response, StatusCode, redirect};
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use super::list::shown;
use super::{FetchError, Timing};

/// How many redirects are followed: proxies send zips to storage hosts, one step away.
const MAX_REDIRECTS: usize = 5;
/// Bytes of an error's body that are shown.
const MESSAGE_LIMIT: usize = 300;

/// The HTTP client to ask proxies with: TLS by the system's roots (Debian: `ca-certificates`), at most five
/// redirects, never to anything but http and https, never from https back to http.
///
/// # Errors
/// If the TLS roots cannot be read.
///
/// # Panics
/// Never: it installs the process's TLS provider (ring) if nobody has.
pub fn http_client() -> anyhow::Result<reqwest::Client> {
    // An error means that another part of the program was first, with the same provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let redirects = redirect::Policy::custom(|attempt| {
        let from_https = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
        match attempt.url().scheme() {
            _ if attempt.previous().len() > MAX_REDIRECTS => attempt.error("too many redirects"),
            "https" => attempt.follow(),
            "http" if !from_https => attempt.follow(),
            _ => attempt.error("redirect to an address that is not https"),
        }
    });
    reqwest::Client::builder()
        .redirect(redirects)
        .connect_timeout(Duration::from_secs(10))
        .pool_idle_timeout(Duration::from_secs(60))
        .user_agent(concat!("sumpeer/", env!("CARGO_PKG_VERSION")))
        .build()
        .context("cannot make an HTTP client: are the system's TLS roots installed (ca-certificates)?")
}

/// One address to fetch from, and how long to wait for it.
pub(super) struct Fetch<'a> {
    pub(super) http: &'a reqwest::Client,
    pub(super) url: Url,
    /// Relative to the proxy, for messages.
    pub(super) path: &'a str,
    pub(super) limit: u64,
    pub(super) timing: &'a Timing,
}

/// How far a download into a file got, so that the next try can go on from there.
#[derive(Default)]
pub(super) struct Partial {
    done: u64,
    /// A strong entity tag: without one, what follows might belong to other bytes.
    etag: Option<String>,
}

impl Fetch<'_> {
    /// The whole body in memory.
    pub(super) async fn bytes(&self) -> Result<Bytes, FetchError> {
        let mut response = self.send(HeaderMap::new()).await?;
        let deadline = Instant::now() + self.timing.whole;
        let mut body = Vec::new();
        while let Some(piece) = self.next_piece(&mut response, deadline).await? {
            if (body.len() + piece.len()) as u64 > self.limit {
                return Err(self.too_large());
            }
            body.extend_from_slice(&piece);
        }
        Ok(body.into())
    }

    /// The whole body into `to`, which afterwards holds exactly it; `partial` remembers across tries.
    pub(super) async fn file(
        &self,
        to: &mut tokio::fs::File,
        partial: &mut Partial,
        progress: &(dyn Fn(u64, Option<u64>) + Send + Sync),
    ) -> Result<u64, FetchError> {
        let mut headers = HeaderMap::new();
        if let Some(etag) = partial.etag.as_deref().and_then(|etag| etag.parse().ok())
            && let Ok(range) = format!("bytes={}-", partial.done).parse()
        {
            headers.insert(IF_RANGE, etag);
            headers.insert(RANGE, range);
        }
        let mut response = self.send(headers).await?;
        let goes_on = response.status() == StatusCode::PARTIAL_CONTENT && partial.etag.is_some() && {
            let want = format!("bytes {}-", partial.done);
            header(&response, &CONTENT_RANGE).is_some_and(|range| range.starts_with(&want))
        };
        if response.status() == StatusCode::PARTIAL_CONTENT && !goes_on {
            *partial = Partial::default();
            return Err(self.temporary("answers with a part that was not asked for"));
        }
        if !goes_on {
            *partial = Partial { done: 0, etag: strong_etag(&response) };
        }
        let ours = |error: std::io::Error| FetchError::Temporary(format!("cannot write {}: {error}", self.path));
        to.set_len(partial.done).await.map_err(ours)?;
        to.seek(std::io::SeekFrom::Start(partial.done)).await.map_err(ours)?;
        let total = response.content_length().map(|rest| rest + partial.done);
        if total.is_some_and(|total| total > self.limit) {
            return Err(self.too_large());
        }
        let deadline = Instant::now() + self.timing.whole;
        while let Some(piece) = self.next_piece(&mut response, deadline).await? {
            if partial.done + piece.len() as u64 > self.limit {
                return Err(self.too_large());
            }
            to.write_all(&piece).await.map_err(ours)?;
            partial.done += piece.len() as u64;
            progress(partial.done, total);
        }
        to.flush().await.map_err(ours)?;
        Ok(partial.done)
    }

    /// An answer with status 200 or 206; everything else is already an error.
    async fn send(&self, headers: HeaderMap) -> Result<Response, FetchError> {
        let is_file = [".zip", ".mod", ".info"].iter().any(|ending| self.path.ends_with(ending));
        let patience = if is_file { self.timing.first_byte_file } else { self.timing.first_byte };
        let request = self.http.get(self.url.clone()).headers(headers).send();
        let mut response = match timeout(patience, request).await {
            Err(_) => return Err(self.temporary(&format!("sent no answer within {patience:?}"))),
            Ok(Err(error)) => return Err(self.temporary(&broken(error))),
            Ok(Ok(response)) => response,
        };
        let status = response.status();
        if matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            return Ok(response);
        }
        let message = self.message(&mut response).await;
        let detail = format!("{}: {} answers {status}{message}", self.path, shown(&self.url_base()));
        Err(match status.as_u16() {
            404 | 410 => FetchError::NotFound(detail),
            408 | 425 | 429 | 500.. => FetchError::Temporary(detail),
            400.. => FetchError::Refused { status: status.as_u16(), detail },
            _ => FetchError::Temporary(detail),
        })
    }

    async fn next_piece(&self, response: &mut Response, deadline: Instant) -> Result<Option<Bytes>, FetchError> {
        let until = deadline.min(Instant::now() + self.timing.idle);
        match timeout_at(until, response.chunk()).await {
            Err(_) => Err(self.temporary("stopped sending")),
            Ok(Err(error)) => Err(self.temporary(&broken(error))),
            Ok(Ok(piece)) => Ok(piece),
        }
    }

    /// The first words of an error's body, as proxies explain themselves in plain text; empty if there are none.
    async fn message(&self, response: &mut Response) -> String {
        let mut body = Vec::new();
        let deadline = Instant::now() + self.timing.first_byte;
        while body.len() < MESSAGE_LIMIT
            && let Ok(Some(piece)) = self.next_piece(response, deadline).await
        {
            body.extend_from_slice(&piece);
        }
        body.truncate(MESSAGE_LIMIT);
        let text: String =
            String::from_utf8_lossy(&body).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        match text.trim() {
            "" => String::new(),
            text => format!(": {text}"),
        }
    }

    fn temporary(&self, what: &str) -> FetchError {
        FetchError::Temporary(format!("{}: {} {what}", self.path, shown(&self.url_base())))
    }

    fn too_large(&self) -> FetchError {
        FetchError::TooLarge { path: self.path.to_owned(), limit: self.limit }
    }

    /// Who was asked, without the path: it stands before it in every message.
    fn url_base(&self) -> Url {
        let mut url = self.url.clone();
        url.set_path("");
        url
    }
}

fn header<'a>(response: &'a Response, name: &reqwest::header::HeaderName) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// The entity tag by which a download may be continued, if the server offers that.
fn strong_etag(response: &Response) -> Option<String> {
    let etag = header(response, &ETAG)?;
    let ranges = header(response, &ACCEPT_RANGES)? == "bytes";
    (ranges && etag.starts_with('"')).then(|| etag.to_owned())
}

fn broken(error: reqwest::Error) -> String {
    format!("cannot be reached or broke off: {}", causes(error))
}

/// An error with its causes in one line; without the address, which may hold credentials, and which our messages name
/// themselves.
pub(crate) fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
