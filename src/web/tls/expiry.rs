//! From when until when a certificate is good.

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;

/// The two ends of a certificate's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
}

impl Life {
    /// As the certificate has it (RFC 5280, 4.1.2.5).
    ///
    /// # Errors
    /// It is no certificate.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> anyhow::Result<Life> {
        let (_, certificate) =
            x509_parser::parse_x509_certificate(certificate).context("it holds something that is no certificate")?;
        let validity = certificate.validity();
        let time = |seconds| Timestamp::from_second(seconds).context("its dates are out of range");
        Ok(Life { from: time(validity.not_before.timestamp())?, until: time(validity.not_after.timestamp())? })
    }

    /// That it is good at `now`.
    ///
    /// # Errors
    /// It is not: since when, or from when on.
    pub(super) fn check(&self, now: Timestamp) -> anyhow::Result<()> {
        ensure!(self.until > now, "it has expired, at {}: renew it", self.until);
        ensure!(self.from <= now, "it is not good before {}: is the clock of this machine right?", self.from);
        Ok(())
    }
}
