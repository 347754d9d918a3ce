//! A certificate and its key from two files, read again when they change.
//!
//! At start anything wrong with them is an error; later the node keeps the pair it has, says why, and looks again at
//! the next change.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, InconsistentKeys};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::expiry::Life;
use super::{PROTOCOLS, Tls};
use crate::metrics::Metrics;

/// A file larger than this is no certificate: the longest chains have some 20 kB.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// With less than this left somebody should know.
const SOON: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Where a certificate chain and its private key are, both as PEM.
#[derive(Clone, Debug)]
pub struct Files {
    /// `tls.cert`: the node's certificate, then those that lead to the authority's.
    pub cert: PathBuf,
    /// `tls.key`
    pub key: PathBuf,
}

impl Files {
    /// Reads both. The future looks after them until `stop`, and reads them at once when told by `again`.
    ///
    /// # Errors
    /// They cannot be read, do not belong to each other, or are not good now; a sentence that names the file.
    pub fn open(
        self,
        metrics: Metrics,
        again: Arc<Notify>,
        stop: CancellationToken,
    ) -> anyhow::Result<(Tls, impl Future<Output = anyhow::Result<()>> + Send + 'static)> {
        // Before reading: a change in between is then seen as one.
        let seen = self.stamps();
        let (pair, life) = self.read(Timestamp::now())?;
        tell(&life, &metrics);
        let current = Arc::new(Current(RwLock::new(Arc::new(pair))));
        let tls = Tls::new(current.clone(), PROTOCOLS)?;
        Ok((tls, self.watch(current, seen, metrics, again, stop)))
    }

    async fn watch(
        self,
        current: Arc<Current>,
        mut read: Stamps,
        metrics: Metrics,
        again: Arc<Notify>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut seen = read;
        loop {
            let asked = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = again.notified() => true,
                () = tokio::time::sleep(LOOK_INTERVAL) => false,
            };
            let files = self.clone();
            // A disk that hangs must not hold up those that answer requests.
            let now = tokio::task::spawn_blocking(move || files.stamps()).await?;
            // Twice the same: whoever writes two files has written both, and each of them whole.
            let settled = now == seen && now != read;
            seen = now;
            if !asked && !settled {
                continue;
            }
            read = now;
            let files = self.clone();
            match tokio::task::spawn_blocking(move || files.read(Timestamp::now())).await? {
                Ok((pair, life)) => {
                    current.set(pair);
                    tell(&life, &metrics);
                    info!(until = %life.until, "new connections get the certificate in {}", self.cert.display());
                }
                Err(error) => warn!("the certificate is kept as it was: {error:#}"),
            }
        }
    }

    /// The pair, if it is good at `now`.
    fn read(&self, now: Timestamp) -> anyhow::Result<(CertifiedKey, Life)> {
        let Files { cert, key } = self;
        let (shown_cert, shown_key) = (cert.display(), key.display());
        let chain = load(cert).and_then(|bytes| certificates(&bytes));
        let chain = chain.with_context(|| format!("the certificate {shown_cert} (tls.cert) cannot be used"))?;
        let life = Life::of(&chain[0]).and_then(|life| life.check(now).map(|()| life));
        let life = life.with_context(|| format!("the certificate {shown_cert} (tls.cert) cannot be used"))?;
        let secret = load(key).and_then(|bytes| private_key(&bytes));
        let secret = secret.with_context(|| format!("the key {shown_key} (tls.key) cannot be used"))?;
        let provider = rustls::crypto::ring::default_provider();
        match CertifiedKey::from_der(chain, secret, &provider) {
            Ok(pair) => Ok((pair, life)),
            Err(TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                bail!("the key {shown_key} (tls.key) is not that of the certificate {shown_cert} (tls.cert)")
            }
            Err(error) => Err(error).with_context(|| format!("the key {shown_key} (tls.key) cannot be used")),
        }
    }

    fn stamps(&self) -> Stamps {
        [stamp(&self.cert), stamp(&self.key)]
    }
}

/// What the file system says of both files.
type Stamps = [Option<Stamp>; 2];

/// A file with another one of these has changed: inode, length, and the time of the last change to the nanosecond.
type Stamp = (u64, u64, i64, i64);

fn stamp(path: &Path) -> Option<Stamp> {
    let found = fs::metadata(path).ok()?;
    Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
}

fn load(path: &Path) -> anyhow::Result<Vec<u8>> {
    use std::io::Read as _;

    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 <= MAX_FILE_BYTES, "it has more than {MAX_FILE_BYTES} bytes");
    Ok(bytes)
}

/// At least one.
fn certificates(bytes: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(bytes).collect::<Result<_, _>>()?;
    ensure!(!chain.is_empty(), "it holds no certificate in PEM form");
    Ok(chain)
}

fn private_key(bytes: &[u8]) -> anyhow::Result<PrivateKeyDer<'static>> {
    match PrivateKeyDer::from_pem_slice(bytes) {
        Err(pem::Error::NoItemsFound) => bail!("it holds no private key in PEM form"),
        other => Ok(other?),
    }
}

/// Notes until when the certificate is good, and says so if that is soon.
fn tell(life: &Life, metrics: &Metrics) {
    metrics.set_certificate_expiry(life.until.as_second());
    if life.until.duration_since(Timestamp::now()) < SOON {
        warn!("the certificate is good until {} only: renew it", life.until);
    }
}

/// The pair that new connections get.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl Current {
    fn set(&self, pair: CertifiedKey) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pair);
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// A folder with a pair in it that is good in the years between.
    fn pair(from: i32, until: i32) -> (tempfile::TempDir, Files) {
        let folder = tempfile::tempdir().unwrap();
        let files = Files { cert: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        fs::write(&files.cert, params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        (folder, files)
    }

    fn now() -> Timestamp {
        "2026-11-21T12:00:00Z".parse().unwrap()
    }

    fn refused(files: &Files) -> String {
        format!("{:#}", files.read(now()).expect_err("refused"))
    }

    #[test]
    fn a_pair_is_taken_with_its_dates() {
        let (_folder, files) = pair(2026, 2027);
        let (_, life) = files.read(now()).unwrap();
        assert_eq!(life.until, "2027-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(life.from, "2026-01-01T00:00:00Z".parse().unwrap());
    }

    #[test]
    fn what_is_wrong_is_said_in_a_sentence() {
        let said = refused(&pair(2020, 2021).1);
        assert!(said.contains("(tls.cert) cannot be used: "), "the folder is gone: {said}");
        let (_folder, old) = pair(2020, 2021);
        assert!(refused(&old).ends_with("it has expired, at 2021-01-01T00:00:00Z: renew it"), "{}", refused(&old));
        let (_folder, early) = pair(2030, 2031);
        assert!(refused(&early).contains("not good before 2030-01-01T00:00:00Z"), "{}", refused(&early));
        let ((_a, one), (_b, other)) = (pair(2026, 2027), pair(2026, 2027));
        let mixed = Files { cert: one.cert.clone(), key: other.key.clone() };
        assert!(refused(&mixed).contains("(tls.key) is not that of the certificate"), "{}", refused(&mixed));
        let swapped = Files { cert: one.key.clone(), key: one.cert.clone() };
        assert!(refused(&swapped).ends_with("it holds no certificate in PEM form"), "{}", refused(&swapped));
        let twice = Files { cert: one.cert.clone(), key: one.cert.clone() };
        assert!(refused(&twice).ends_with("it holds no private key in PEM form"), "{}", refused(&twice));
        let endless = Files { cert: "/dev/zero".into(), key: one.key.clone() };
        assert!(refused(&endless).contains("more than"), "{}", refused(&endless));
        for garbage in [&b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"[..], b"", &[0xff; 99]] {
            fs::write(&one.cert, garbage).unwrap();
            assert!(refused(&one).contains("(tls.cert) cannot be used: "), "{}", refused(&one));
        }
    }
}
