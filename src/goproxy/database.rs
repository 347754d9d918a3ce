//! Where a checksum database can be reached: through the proxies if they pass it on, else by itself.
//!
//! Out of scope: believing it ([`crate::sumdb`]).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use url::Url;

use super::list::{Place, shown};
use super::{Client, FetchError, SUMDB_LIMIT};

/// Fetches what lies below `sumdb/<name>/`. Cheap to clone.
#[derive(Clone)]
pub struct DatabaseSource {
    client: Client,
    name: Arc<str>,
    /// The database's own address.
    own: Url,
    /// Who was found to have it, and when.
    found: Arc<Mutex<Option<(Client, bool, Instant)>>>,
}

/// How long a finding is believed: proxies change seldom, and a wrong one only costs errors until then.
const BELIEVED: Duration = Duration::from_secs(600);

impl DatabaseSource {
    /// `own` is the database's own address, for when no proxy passes it on; usually `https://<name>`.
    pub fn new(client: Client, name: &str, own: Url) -> DatabaseSource {
        DatabaseSource { client, name: name.into(), own, found: Arc::default() }
    }

    /// What lies at `rest`, such as `lookup/rsc.io/2fa@v1.2.0`, escaped.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn get(&self, rest: &str) -> Result<Bytes, FetchError> {
        let (client, through_proxy) = self.source().await?;
        if through_proxy {
            client.get(&format!("sumdb/{}/{rest}", self.name), SUMDB_LIMIT).await
        } else {
            client.get(rest, SUMDB_LIMIT).await
        }
    }

    /// A client of the one place that has the database, and whether that is a proxy. As in Go's `dbClient.initBase`,
    /// which asks each proxy for `supported`.
    async fn source(&self) -> Result<(Client, bool), FetchError> {
        if let Some((client, through_proxy, at)) = &*self.found()
            && at.elapsed() < BELIEVED
        {
            return Ok((client.clone(), *through_proxy));
        }
        let (client, through_proxy) = self.search().await?;
        *self.found() = Some((client.clone(), through_proxy, Instant::now()));
        Ok((client, through_proxy))
    }

    async fn search(&self) -> Result<(Client, bool), FetchError> {
        let path = format!("sumdb/{}/supported", self.name);
        for entry in self.client.entries() {
            match &entry.place {
                Place::Off => return Err(FetchError::Off),
                Place::Direct => break,
                Place::Proxy(base) => {
                    let client = self.client.narrowed_to(base);
                    match client.get(&path, SUMDB_LIMIT).await {
                        Ok(_) => return Ok((client, true)),
                        Err(error) if entry.on_any_error || error.is_not_found() => {
                            tracing::debug!(proxy = shown(base), %error, "proxy does not pass on the checksum database");
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok((self.client.narrowed_to(&self.own), false))
    }

    fn found(&self) -> std::sync::MutexGuard<'_, Option<(Client, bool, Instant)>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
