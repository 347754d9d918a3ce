//! The boundary to the network: one request, one answer whose body comes in pieces.
//!
//! It is a trait because reqwest cannot run in a simulated network, and tests need one. Limits, content types and
//! what a status means are left to [`super::fetch`].

use std::io;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _};
use reqwest::header::HeaderMap;
use reqwest::{StatusCode, redirect};
use tokio::time::timeout;
use url::Url;

use crate::goproxy::causes;

/// One request.
#[derive(Clone, Debug)]
pub struct Ask {
    pub url: Url,
    pub headers: HeaderMap,
    /// The body of a POST; without one it is a GET.
    pub post: Option<Vec<u8>>,
    /// How long connecting, asking and waiting for the answer's headers may take together.
    pub first_byte: Duration,
    /// Whether a connection that served others must not serve this: an answer that was wrong may have been the fault
    /// of something between here and there.
    pub new_connection: bool,
}

/// The head of an answer, and its body as it comes.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Ends with an error if it is cut off.
    pub body: BoxStream<'static, io::Result<Bytes>>,
}

/// Sends requests. A redirect is an answer like any other, and nothing is tried twice.
pub trait Transport: Send + Sync + 'static {
    /// The answer, once its headers are there. An error is one line without the address.
    fn send(&self, ask: Ask) -> BoxFuture<'static, anyhow::Result<Answer>>;
}

/// HTTP/1.1 and HTTP/2 over TCP, TLS by the system's roots (Debian: `ca-certificates`).
#[derive(Clone, Debug)]
pub struct Http {
    /// Keeps connections for the next request.
    pooled: reqwest::Client,
    /// Opens one for each.
    unpooled: reqwest::Client,
}

impl Http {
    /// # Errors
    /// If the TLS roots cannot be read.
    pub fn new() -> anyhow::Result<Http> {
        // An error means that another part of the program was first, with the same provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = |idle_connections| {
            reqwest::Client::builder()
                .redirect(redirect::Policy::none())
                .referer(false)
                .connect_timeout(Duration::from_secs(10))
                .pool_idle_timeout(Duration::from_secs(60))
                .pool_max_idle_per_host(idle_connections)
                .user_agent(concat!("sumpeer/", env!("CARGO_PKG_VERSION")))
                .build()
                .context("cannot make an HTTP client: are the system's TLS roots installed (ca-certificates)?")
        };
        Ok(Http { pooled: client(2)?, unpooled: client(0)? })
    }
}

impl Transport for Http {
    fn send(&self, ask: Ask) -> BoxFuture<'static, anyhow::Result<Answer>> {
        let client = if ask.new_connection { &self.unpooled } else { &self.pooled };
        let request = match ask.post {
            None => client.get(ask.url),
            Some(body) => client.post(ask.url).body(body),
        };
        let sent = request.headers(ask.headers).send();
        async move {
            let response = match timeout(ask.first_byte, sent).await {
                Err(_) => anyhow::bail!("no answer within {:?}", ask.first_byte),
                Ok(Err(error)) => anyhow::bail!(causes(error)),
                Ok(Ok(response)) => response,
            };
            Ok(Answer {
                status: response.status(),
                headers: response.headers().clone(),
                body: response.bytes_stream().map(|piece| piece.map_err(|e| io::Error::other(causes(e)))).boxed(),
            })
        }
        .boxed()
    }
}
