//! Asks the proxies of a list, one after the other, as the go command does.
//!
//! Out of scope: keeping or checking what comes ([`super::ModuleCache`]).

use std::sync::Arc;

use bytes::Bytes;
use url::Url;

use super::fetch::{Fetch, Partial};
use super::list::{Entry, Place, shown};
use super::{FetchError, ProxyList, Timing};

/// Fetches by path through a list of proxies. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    list: ProxyList,
    http: reqwest::Client,
    timing: Timing,
}

impl Client {
    /// A client with the ordinary time limits; `http` best comes from [`super::http_client`].
    pub fn new(list: ProxyList, http: reqwest::Client) -> Client {
        Client::with_timing(list, http, Timing::default())
    }

    /// A client with other time limits.
    pub fn with_timing(list: ProxyList, http: reqwest::Client, timing: Timing) -> Client {
        Client { inner: Arc::new(Inner { list, http, timing }) }
    }

    /// The body behind `path`, which is relative to a proxy and already escaped (`!x` for `X`), such as
    /// `rsc.io/2fa/@v/list`.
    ///
    /// # Errors
    /// See [`FetchError`]; more than `limit` bytes are [`FetchError::TooLarge`].
    pub async fn get(&self, path: &str, limit: u64) -> Result<Bytes, FetchError> {
        Ok(self.get_from(path, limit).await?.0)
    }

    /// As [`Client::get`], and who had it (without credentials).
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn get_from(&self, path: &str, limit: u64) -> Result<(Bytes, String), FetchError> {
        let mut sink = Sink::Memory(Bytes::new());
        let from = self.walk(path, limit, &mut sink).await?;
        match sink {
            Sink::Memory(body) => Ok((body, from)),
            Sink::File { .. } => unreachable!("the sink was made as memory above"),
        }
    }

    /// Writes the body behind `path` into `to`, which should be empty and holds exactly the body afterwards.
    /// `progress` is told the bytes so far and how many there will be, where the proxy says so.
    ///
    /// # Errors
    /// See [`FetchError`]; what `to` holds then means nothing.
    pub async fn download(
        &self,
        path: &str,
        limit: u64,
        to: &mut tokio::fs::File,
        progress: impl Fn(u64, Option<u64>) + Send + Sync,
    ) -> Result<u64, FetchError> {
        Ok(self.download_from(path, limit, to, &progress).await?.0)
    }

    /// As [`Client::download`], and who had it (without credentials).
    pub(super) async fn download_from(
        &self,
        path: &str,
        limit: u64,
        to: &mut tokio::fs::File,
        progress: &(dyn Fn(u64, Option<u64>) + Send + Sync),
    ) -> Result<(u64, String), FetchError> {
        let mut sink = Sink::File { to, progress, size: 0 };
        let from = self.walk(path, limit, &mut sink).await?;
        match sink {
            Sink::File { size, .. } => Ok((size, from)),
            Sink::Memory(_) => unreachable!("the sink was made as a file above"),
        }
    }

    /// The places of the list, in order.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.inner.list.entries
    }

    /// The same client with a list of one address.
    pub(super) fn narrowed_to(&self, base: &Url) -> Client {
        let Inner { http, timing, .. } = &*self.inner;
        let entry = Entry { place: Place::Proxy(base.clone()), on_any_error: false };
        let list = ProxyList { entries: vec![entry] };
        Client::with_timing(list, http.clone(), *timing)
    }

    /// Asks one place after the other; says which one had it.
    ///
    /// Of several errors the one reported is that of the last place that had trouble; "not found" only if no place
    /// had any (Go's `TryProxies`).
    async fn walk(&self, path: &str, limit: u64, sink: &mut Sink<'_>) -> Result<String, FetchError> {
        check_path(path)?;
        let mut worst: Option<FetchError> = None;
        for entry in &self.inner.list.entries {
            let error = match &entry.place {
                Place::Proxy(base) => match self.tries(join(base, path), path, limit, sink).await {
                    Ok(()) => return Ok(shown(base)),
                    Err(error) => error,
                },
                Place::Off => FetchError::Off,
                Place::Direct => match worst {
                    // The proxies' word stands: a person who reads "not found" is told what was not tried.
                    Some(FetchError::NotFound(detail)) => {
                        return Err(FetchError::NotFound(format!("{detail} (and {DIRECT_UNSUPPORTED})")));
                    }
                    Some(error) => return Err(error),
                    None => FetchError::Unsupported(format!("{path}: {DIRECT_UNSUPPORTED}")),
                },
            };
            let go_on = entry.on_any_error || error.is_not_found();
            // `off` ends a list of proxies that all said "not found" as well: they had their say.
            let keep_worst = match &worst {
                Some(worst) if !worst.is_not_found() => error.is_not_found(),
                Some(_) => matches!(error, FetchError::Off),
                None => false,
            };
            if !keep_worst {
                worst = Some(error);
            }
            if !go_on {
                break;
            }
        }
        Err(worst.expect("a list has at least one entry, and it failed"))
    }

    /// Asks one proxy until it answers, gives up on it, or says no.
    async fn tries(&self, url: Url, path: &str, limit: u64, sink: &mut Sink<'_>) -> Result<(), FetchError> {
        let Inner { http, timing, .. } = &*self.inner;
        let fetch = Fetch { http, url, path, limit, timing };
        let mut partial = Partial::default();
        let mut failed = 0;
        loop {
            let outcome = match sink {
                Sink::Memory(body) => fetch.bytes().await.map(|bytes| *body = bytes),
                Sink::File { to, progress, size } => {
                    fetch.file(to, &mut partial, *progress).await.map(|bytes| *size = bytes)
                }
            };
            match outcome {
                Err(FetchError::Temporary(detail)) => {
                    failed += 1;
                    if failed >= timing.tries {
                        return Err(FetchError::Temporary(detail));
                    }
                    tracing::debug!(path, failed, detail, "module proxy failed, trying again");
                    timing.wait_after(failed).await;
                }
                outcome => return outcome,
            }
        }
    }
}

/// Where a body goes.
enum Sink<'a> {
    Memory(Bytes),
    File { to: &'a mut tokio::fs::File, progress: &'a (dyn Fn(u64, Option<u64>) + Send + Sync), size: u64 },
}

const DIRECT_UNSUPPORTED: &str = "\"direct\", fetching from version control, is not supported yet: name a module proxy";

/// Refuses what could lead out of the proxy's own tree.
fn check_path(path: &str) -> Result<(), FetchError> {
    let clean = path.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#%\\".contains(&byte));
    if clean { Ok(()) } else { Err(FetchError::NotFound(format!("{path:?} is no path of a module proxy"))) }
}

fn join(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}
