//! Which Go releases the proxies list.
//!
//! Out of scope: which of them this node uses and what `latest` means ([`super::Toolchains`]).

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::{MODULE, ToolchainError};
use crate::goproxy::{Client, FetchError, LIST_LIMIT};
use crate::model::{GoVersion, Target};

/// The proxies' list, read again now and then.
pub(super) struct Listing {
    client: Client,
    /// Versions of [`MODULE`], and when they were read. Held while reading: those who come meanwhile share the answer.
    read: Mutex<Option<(Vec<String>, Instant)>>,
}

/// Releases come every few weeks.
const BELIEVED: Duration = Duration::from_secs(300);

/// What a toolchain's version as a module's starts with.
const PREFIX: &str = "v0.0.1-";

/// `v0.0.1-go1.27.1.linux-amd64`
pub(super) fn module_version(goversion: &GoVersion, host: &Target) -> String {
    format!("{PREFIX}{goversion}.{}-{}", host.goos(), host.goarch())
}

impl Listing {
    pub(super) fn new(client: Client) -> Listing {
        Listing { client, read: Mutex::default() }
    }

    /// The Go versions listed for a machine, oldest first.
    pub(super) async fn of(&self, host: &Target) -> Result<Vec<GoVersion>, ToolchainError> {
        let mut read = self.read.lock().await;
        let fresh = read.as_ref().is_some_and(|(_, at)| at.elapsed() < BELIEVED);
        if !fresh {
            match self.client.get(&format!("{MODULE}/@v/list"), LIST_LIMIT).await {
                Ok(body) => {
                    let lines = String::from_utf8_lossy(&body);
                    *read = Some((lines.split_whitespace().map(str::to_owned).collect(), Instant::now()));
                }
                Err(error) if read.is_some() => {
                    tracing::warn!(%error, "cannot read the list of Go toolchains again, using the last one");
                }
                Err(error @ (FetchError::NotFound(_) | FetchError::Refused { .. } | FetchError::Off)) => {
                    return Err(ToolchainError::NotListed(format!("Go toolchains are not listed: {error}")));
                }
                Err(error) => {
                    return Err(ToolchainError::Temporary(format!(
                        "the list of Go toolchains cannot be read: {error}"
                    )));
                }
            }
        }
        Ok(read.as_ref().map(|(versions, _)| for_host(versions, host)).unwrap_or_default())
    }
}

fn for_host(versions: &[String], host: &Target) -> Vec<GoVersion> {
    let ending = format!(".{}-{}", host.goos(), host.goarch());
    let mut found: Vec<GoVersion> = versions
        .iter()
        .filter_map(|version| version.strip_prefix(PREFIX)?.strip_suffix(&ending)?.parse().ok())
        .collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_runs_here_is_listed() {
        let versions: Vec<String> = "v0.0.1-go1.9.2.linux-amd64 v0.0.1-go1.21.0.linux-amd64 v0.0.1-go1.21rc2.linux-amd64 \
            v0.0.1-go1.21.10.linux-amd64 v0.0.1-go1.21.9.linux-arm64 v0.0.1-go1.21.x.linux-amd64 v1.0.0 go1.22.0.linux-amd64"
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        let host = "linux/amd64".parse().unwrap();
        let found: Vec<String> = for_host(&versions, &host).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["go1.9.2", "go1.21rc2", "go1.21.0", "go1.21.10"]);
        assert_eq!(module_version(&"go1.27.1".parse().unwrap(), &host), "v0.0.1-go1.27.1.linux-amd64");
    }
}
