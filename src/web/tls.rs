//! TLS on the public listener: the handshake, and which certificate a new connection gets.
//!
//! Certificates come from two files ([`files`]) or from an authority ([`acme`]); either way a running node takes new
//! ones, and connections that are open keep what they were opened with.
//!
//! Out of scope: limits and timers of connections ([`super::server`]), who has which certificate configured (the
//! node), and TLS of requests that the node itself makes.

mod acme;
mod expiry;
mod files;

use std::io;
use std::sync::Arc;

use anyhow::Context as _;
use rustls::ServerConfig;
use rustls::server::ResolvesServerCert;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub use acme::{Acme, LETS_ENCRYPT};
pub use files::Files;

/// What a node says it speaks over TLS, best first (RFC 7301).
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What an authority says when it looks at the answer to its challenge (RFC 8737).
const CHALLENGE: &[u8] = b"acme-tls/1";

/// Turns connections into encrypted ones. Cloning gives another handle to the same certificates.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

impl Tls {
    /// With the certificates that `resolver` has at the time of each handshake, for these protocols.
    fn new<'a>(
        resolver: Arc<dyn ResolvesServerCert>,
        protocols: impl IntoIterator<Item = &'a [u8]>,
    ) -> anyhow::Result<Tls> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("cannot set up TLS")?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = protocols.into_iter().map(<[u8]>::to_vec).collect();
        Ok(Tls(TlsAcceptor::from(Arc::new(config))))
    }

    /// The handshake on a new connection; the caller limits its time. None: it was an authority that has seen what it
    /// came for.
    ///
    /// # Errors
    /// The client speaks no TLS, or none that we do, or there is no certificate yet.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<Option<TlsStream<TcpStream>>> {
        let stream = self.0.accept(stream).await?;
        let challenge = stream.get_ref().1.alpn_protocol() == Some(CHALLENGE);
        Ok((!challenge).then_some(stream))
    }
}
