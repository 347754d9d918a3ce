//! Requests to one server: bounded in size and time, patient where it builds, and nothing is believed here.
//!
//! What the answers mean and prove is left to [`super::prove`] and [`super::install`].

use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use reqwest::header::RETRY_AFTER;
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use url::{Host, Url};

use crate::model::{Record, SpecQuery};
use crate::tlog::{Hash, Tile, TileKind, parse_hash_tile};

use super::Refusal;
use super::talk::Talk;

/// For a connection, and for the answer to anything that is not built on request.
const ANSWER_TIME: Duration = Duration::from_secs(60);
/// Between two pieces of a download.
const STALL_TIME: Duration = Duration::from_secs(60);
/// Bytes of an answer about a record, or of why there is none. Large enough for any record and head (PROTOCOL 12).
const LOOKUP_LIMIT_BYTES: usize = 64 << 10;
/// Bytes of a full tile of hashes.
const TILE_LIMIT_BYTES: usize = 256 * 32;
/// A server that does not say when to come back is asked again after this.
const PAUSE: Duration = Duration::from_secs(10);
/// Connections that break without an answer, before that is the answer.
const BROKEN_LIMIT: u32 = 3;
const REASON_LIMIT_CHARS: usize = 1000;

/// One server.
pub(super) struct Wire<'a> {
    pub(super) url: Url,
    /// For messages: host and port.
    pub(super) name: String,
    /// Follows no redirects: the log of one server is not to be shown by another.
    log: Client,
    /// Follows some: binaries are checked whole, wherever they are from.
    files: Client,
    deadline: Instant,
    talk: &'a Talk,
}

/// Why there is no tile.
pub(super) enum TileError {
    /// The server says that it has no such tile.
    Gone(String),
    Failed(anyhow::Error),
}

impl<'a> Wire<'a> {
    pub(super) fn new(url: Url, deadline: Instant, talk: &'a Talk) -> anyhow::Result<Wire<'a>> {
        let client = |redirects| {
            let mut client = Client::builder()
                .redirect(redirects)
                .connect_timeout(ANSWER_TIME)
                .user_agent(concat!("sumpeer/", env!("CARGO_PKG_VERSION")));
            if is_loopback(&url) {
                // Whatever proxy the environment names, it has another loopback.
                client = client.no_proxy();
            }
            client
        };
        let log = client(Policy::none()).build().context("cannot set up an HTTP client")?;
        let files =
            client(Policy::limited(5)).read_timeout(STALL_TIME).build().context("cannot set up an HTTP client")?;
        let name = match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (host, _) => host.unwrap_or_default().to_owned(),
        };
        Ok(Wire { url, name, log, files, deadline, talk })
    }

    /// The server's answer to a lookup. It may have to build first, which can take many minutes.
    pub(super) async fn lookup(&self, query: &SpecQuery) -> Result<Vec<u8>, Refusal> {
        let url = self.at(&["tlog", "lookup"], &query.to_string());
        let what = format!("waiting for {} to build {query}", self.name);
        self.talk.while_waiting(&what, self.lookup_until_answered(url)).await
    }

    async fn lookup_until_answered(&self, url: Url) -> Result<Vec<u8>, Refusal> {
        let mut broken = 0;
        loop {
            let response = match self.in_time(self.log.get(url.clone()).send()).await? {
                Ok(response) => response,
                Err(error) if error.is_connect() => return Err(self.failed(error)),
                Err(error) => {
                    // A long wait may be cut by what stands between; the build goes on, so ask again.
                    broken += 1;
                    if broken == BROKEN_LIMIT {
                        return Err(self.failed(error));
                    }
                    self.pause(Duration::from_secs(1)).await?;
                    continue;
                }
            };
            let status = response.status();
            let pause = retry_after(&response);
            let body = self.in_time(read(response, LOOKUP_LIMIT_BYTES)).await?;
            let body = body.with_context(|| format!("{} did not answer in full", self.name))?;
            match status {
                StatusCode::OK => return Ok(body),
                StatusCode::NOT_FOUND => return Err(Refusal::NotFound(self.said(status, &body))),
                StatusCode::CONFLICT => return Err(Refusal::Tampering(self.said(status, &body))),
                _ if is_temporary(status) => {
                    self.pause(pause).await.map_err(|late| {
                        let said = self.said(status, &body);
                        Refusal::Failed(anyhow!("{late}; last, {said}"))
                    })?;
                }
                _ => return Err(Refusal::Failed(anyhow!("{}", self.said(status, &body)))),
            }
        }
    }

    /// A tile of hashes, as long as its width says.
    pub(super) async fn tile(&self, tile: Tile) -> Result<Vec<Hash>, TileError> {
        let failed =
            |error: anyhow::Error| TileError::Failed(error.context(format!("{} did not give {tile}", self.name)));
        ensure_hashes(tile).map_err(failed)?;
        let response = self.log.get(self.at(&[], &format!("tlog/{tile}"))).timeout(ANSWER_TIME).send().await;
        let response = response.map_err(|error| failed(error.into()))?;
        let status = response.status();
        let body = read(response, TILE_LIMIT_BYTES).await.map_err(failed)?;
        match status {
            StatusCode::OK => parse_hash_tile(&body, tile.width)
                .ok_or_else(|| failed(anyhow!("it has {} bytes, not {} hashes", body.len(), tile.width))),
            StatusCode::NOT_FOUND => Err(TileError::Gone(self.said(status, &body))),
            _ => Err(failed(anyhow!("{}", self.said(status, &body)))),
        }
    }

    /// Starts a download of a record's file, compressed or not. None if the server has it not in this form.
    pub(super) async fn file(&self, record: &Record, compressed: bool) -> anyhow::Result<Option<Response>> {
        let Record { spec, sum, .. } = record;
        let form = if compressed { ".gz" } else { "" };
        let url = self.at(&[], &format!("{spec}{sum}/{}{form}", spec.file_name()));
        loop {
            let response = self.in_time(self.files.get(url.clone()).send()).await?;
            let response = response.with_context(|| format!("cannot download from {}", self.name))?;
            match response.status() {
                StatusCode::OK => return Ok(Some(response)),
                StatusCode::NOT_FOUND => return Ok(None),
                status if is_temporary(status) => self.pause(retry_after(&response)).await?,
                status => {
                    let body = read(response, LOOKUP_LIMIT_BYTES).await.unwrap_or_default();
                    bail!("{}", self.said(status, &body));
                }
            }
        }
    }

    /// The same request, bounded by the time that the user gives.
    pub(super) async fn in_time<T>(&self, work: impl Future<Output = T>) -> anyhow::Result<T> {
        let deadline = tokio::time::Instant::from_std(self.deadline);
        tokio::time::timeout_at(deadline, work)
            .await
            .map_err(|_| anyhow!("{} took longer than --timeout allows", self.name))
    }

    /// Fails at once if the pause would end too late.
    pub(super) async fn pause(&self, pause: Duration) -> anyhow::Result<()> {
        ensure!(Instant::now() + pause < self.deadline, "{} took longer than --timeout allows", self.name);
        tokio::time::sleep(pause).await;
        Ok(())
    }

    fn at(&self, before: &[&str], path: &str) -> Url {
        let mut url = self.url.clone();
        url.set_query(None);
        url.set_fragment(None);
        url.path_segments_mut()
            .expect("checked when the logs were chosen")
            .pop_if_empty()
            .extend(before)
            .extend(path.split('/'));
        url
    }

    /// What a server said, fit for a terminal whoever wrote it.
    fn said(&self, status: StatusCode, body: &[u8]) -> String {
        let text = String::from_utf8_lossy(body);
        let text: String =
            text.trim().chars().take(REASON_LIMIT_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
        format!("{} says {status}: {text}", self.name)
    }

    fn failed(&self, error: reqwest::Error) -> Refusal {
        Refusal::Failed(anyhow::Error::new(error).context(format!("cannot reach {}", self.name)))
    }
}

/// Reads a body up to its end, which must come within the limit.
async fn read(mut response: Response, limit: usize) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        ensure!(body.len() + chunk.len() <= limit, "the answer is longer than {limit} bytes");
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn ensure_hashes(tile: Tile) -> anyhow::Result<()> {
    ensure!(matches!(tile.kind, TileKind::Hashes(_)), "it is no tile of hashes");
    Ok(())
}

/// Whether asking again can help: the server says so, or a gateway before it lost patience.
fn is_temporary(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

fn retry_after(response: &Response) -> Duration {
    let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    seconds.map_or(PAUSE, |seconds: u64| Duration::from_secs(seconds.clamp(1, 600)))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
