//! Certificates from an authority by ACME (RFC 8555), with TLS-ALPN-01 (RFC 8737): the authority proves that this node
//! has a name by connecting to port 443 of that name, so no other program and no other port is needed.
//!
//! The steps of the protocol are those of `tokio-rustls-acme`; this file decides when they are tried again, and keeps a
//! certificate in use until there is a newer one.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use rustls::ClientConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::time::{sleep, timeout};
use tokio_rustls_acme::caches::DirCache;
use tokio_rustls_acme::{AcmeConfig, AcmeState, EventError, EventOk};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::expiry::Life;
use super::{CHALLENGE, PROTOCOLS, Tls};
use crate::metrics::Metrics;

/// The authority that is asked if none is configured.
pub const LETS_ENCRYPT: &str = tokio_rustls_acme::acme::LETS_ENCRYPT_PRODUCTION_DIRECTORY;

/// The pause after an order that failed. Authorities count those: Let's Encrypt refuses after five in an hour.
const PAUSE: Duration = Duration::from_secs(15 * 60);

/// After so long the library begins anew, from the certificate on disk: its requests have no time limits of their own,
/// so an authority that never answers would otherwise be waited for until the certificate has expired.
const ROUND: Duration = Duration::from_secs(24 * 60 * 60);

/// Whom to ask for certificates, and for which names.
#[derive(Clone, Debug)]
pub struct Acme {
    /// The host names of this node.
    pub domains: Vec<String>,
    /// Where the authority may write to, like `mailto:admin@example.org`.
    pub contact: Option<String>,
    /// The address that the protocol begins at.
    pub directory: String,
    /// The folder that keeps the account and the certificates.
    pub folder: PathBuf,
}

impl Acme {
    /// The future gets certificates and renews them, until `stop`. Before there is a first one, handshakes fail.
    ///
    /// # Errors
    /// The folder cannot be made, or there are no TLS roots to check the authority by.
    pub fn open(
        self,
        metrics: Metrics,
        stop: CancellationToken,
    ) -> anyhow::Result<(Tls, impl Future<Output = anyhow::Result<()>> + Send + 'static)> {
        self.make_folder().with_context(|| format!("cannot make the folder {}", self.folder.display()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("cannot set up TLS")?
            .with_platform_verifier()
            .context("cannot ask an authority: are the system's TLS roots installed (ca-certificates)?")?
            .with_no_client_auth();
        let kept = Arc::new(Kept { now: Mutex::default(), metrics: Shown(metrics) });
        let tls = Tls::new(kept.clone(), PROTOCOLS.into_iter().chain([CHALLENGE]))?;
        Ok((tls, self.run(Arc::new(client), kept, stop)))
    }

    async fn run(self, client: Arc<ClientConfig>, kept: Arc<Kept>, stop: CancellationToken) -> anyhow::Result<()> {
        let rounds = async {
            loop {
                let mut state = AcmeConfig::new_with_client_tls_config(&self.domains, client.clone())
                    .directory(&self.directory)
                    .contact(&self.contact)
                    .cache(DirCache::new(self.folder.clone()))
                    .state();
                kept.lock().library = Some(state.resolver());
                let _ = timeout(ROUND, self.round(&mut state)).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            never = rounds => never,
        }
    }

    /// Runs the library for as long as it is let.
    async fn round(&self, state: &mut AcmeState<std::io::Error>) {
        let (names, authority) = (self.domains.join(", "), &self.directory);
        while let Some(event) = state.next().await {
            match event {
                Ok(EventOk::DeployedCachedCert) => debug!("the certificate for {names} is kept from before"),
                Ok(EventOk::DeployedNewCert) => info!("{authority} has given a certificate for {names}"),
                Ok(EventOk::CertCacheStore | EventOk::AccountCacheStore) => debug!("what {authority} gave is kept"),
                Err(EventError::Order(error)) => {
                    warn!("{authority} gives no certificate for {names}, next try in {PAUSE:?}: {error}");
                    sleep(PAUSE).await;
                }
                Err(error) => warn!("a certificate for {names} cannot be kept or used: {error}"),
            }
        }
    }

    /// Private keys are in it, which the library writes as files that the folder has to hide.
    fn make_folder(&self) -> std::io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        fs::set_permissions(&self.folder, fs::Permissions::from_mode(0o700))
    }
}

/// The certificate in use, across the rounds of the library.
#[derive(Debug)]
struct Kept {
    now: Mutex<Now>,
    metrics: Shown,
}

#[derive(Debug, Default)]
struct Now {
    /// What the library has in this round: nothing in the first moments of one.
    library: Option<Arc<tokio_rustls_acme::ResolvesServerCertAcme>>,
    /// What a client has got last.
    last: Option<Arc<CertifiedKey>>,
}

/// Counters have nothing to say in a debugger.
struct Shown(Metrics);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, Now> {
        // Only pointers are inside: a panic elsewhere cannot leave them half changed.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolvesServerCert for Kept {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let challenge = hello.alpn().is_some_and(|mut offered| offered.any(|name| name == CHALLENGE));
        let library = self.lock().library.clone()?;
        let found = library.resolve(hello);
        if challenge {
            return found;
        }
        let mut now = self.lock();
        let Some(found) = found else { return now.last.clone() };
        if now.last.as_ref().is_none_or(|last| !Arc::ptr_eq(last, &found)) {
            if let Some(Ok(life)) = found.cert.first().map(Life::of) {
                self.metrics.0.set_certificate_expiry(life.until.as_second());
            }
            now.last = Some(found.clone());
        }
        Some(found)
    }
}
