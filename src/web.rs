//! The node as strangers see it: HTTP.
//!
//! A request's path is read by one strict parser ([`paths`]) into a [`Route`]; each route has one
//! handler, which asks the store, the logs or the tally and writes what they say. Errors become
//! answers in one place ([`error`]). The router is the same in production and in tests; sockets,
//! timeouts and stopping are [`server`]'s.
//!
//! Out of scope: deciding anything. Below `/tlog`, `/log` and `/claims` every byte is fixed by
//! docs/PROTOCOL.md; pages may change freely.

pub mod admin;
mod alerts;
mod api;
mod assets;
mod audits;
mod badge;
mod builds;
mod claims;
mod divergences;
mod error;
mod events;
mod feed;
mod files;
pub mod limits;
mod openapi;
mod others;
mod packages;
mod pages;
mod paths;
mod peers;
mod range;
mod resolve;
mod results;
pub mod server;
pub mod stream;
mod tlog;
pub mod tls;
mod words;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State as Extracted};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH,
    LOCATION, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::request::Parts as Head;
use axum::http::{HeaderMap, Method, Response, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::binaries::Binaries;
use crate::builder::Builder;
use crate::builder::toolchain::Toolchains;
use crate::goproxy::{Client as Proxy, ModuleCache};
use crate::log::Log;
use crate::metrics::Metrics;
use crate::model::Target;
use crate::peer::Peers;
use crate::store::{LogId, Store};
use crate::tally::Tally;
use crate::tlog::VerifierKey;
use assets::Assets;
use error::Error;
use limits::Limits;
use paths::{Api, BuildStep, Route};
use resolve::Resolver;
use stream::Streams;

/// The type of plain text, as the go command's own servers spell it.
const TEXT: &str = "text/plain; charset=UTF-8";
/// What never changes may be kept by anyone for a year, the longest that is of use.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// How long a body may take to come.
const BODY_TIME: Duration = Duration::from_secs(30);
/// Pages load nothing from elsewhere, run no inline code and are shown in no frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What the handlers work with. Cloning gives another handle.
#[derive(Clone)]
pub struct State(Arc<Inner>);

struct Inner {
    parts: Parts,
    resolver: Resolver,
    assets: Assets,
    counts: peers::Counts,
}

/// The parts of a node that its web side shows.
pub struct Parts {
    /// Where everything is read from.
    pub store: Store,
    /// The log of what every voter agreed on.
    pub accepted: Log,
    /// The log of what this node found.
    pub claims: Log,
    /// The one door through which wishes go.
    pub tally: Tally,
    /// Who is followed, and how that goes.
    pub peers: Peers,
    /// Files to serve.
    pub binaries: Binaries,
    /// The queue of builds; none if the node only verifies.
    pub builder: Option<Builder>,
    /// Zips of modules, to find their commands.
    pub modules: ModuleCache,
    /// Which Go versions there are.
    pub toolchains: Toolchains,
    /// Lists of versions.
    pub proxy: Proxy,
    /// How much one subnet may ask for.
    pub limits: Limits,
    /// What all open streams share.
    pub streams: Streams,
    /// Counters.
    pub metrics: Metrics,
    /// What the node says of itself.
    pub node: Node,
    /// What the operator may change while the node runs.
    pub live: watch::Receiver<Live>,
    /// Ends every waiting answer.
    pub stop: CancellationToken,
}

/// What the operator may change while the node runs.
#[derive(Clone, Debug)]
pub struct Live {
    /// The operator's text for the home page.
    pub notes: String,
    /// How long a lookup waits for a record.
    pub lookup_wait: Duration,
}

/// What the node says of itself.
pub struct Node {
    /// The public half of its key; its name is the node's.
    pub key: VerifierKey,
    /// `build` or `verify-only`.
    pub mode: &'static str,
    /// How builds are walled in, as claims say it; none if the node only verifies.
    pub sandbox: Option<String>,
    /// What this machine is.
    pub host: Target,
}

impl State {
    /// Ready to serve.
    pub fn new(parts: Parts) -> State {
        let resolver = Resolver::new(parts.proxy.clone(), parts.modules.clone(), parts.toolchains.clone());
        State(Arc::new(Inner { parts, resolver, assets: Assets::new(), counts: peers::Counts::default() }))
    }

    fn lookup_wait(&self) -> Duration {
        self.live.borrow().lookup_wait
    }

    fn notes(&self) -> String {
        self.live.borrow().notes.clone()
    }

    fn log(&self, id: LogId) -> &Log {
        match id {
            LogId::Accepted => &self.accepted,
            LogId::Claims => &self.claims,
        }
    }

    fn resolver(&self) -> &Resolver {
        &self.0.resolver
    }

    fn assets(&self) -> &Assets {
        &self.0.assets
    }

    fn counts(&self) -> &peers::Counts {
        &self.0.counts
    }
}

impl std::ops::Deref for State {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0.parts
    }
}

/// All that the node serves to everyone.
pub fn router(state: State) -> Router {
    // No routes of axum's: its matching decodes and cleans paths before we have seen them.
    Router::new().fallback(dispatch).with_state(state)
}

/// A request whose route is known.
struct Call<'a> {
    state: &'a State,
    head: &'a Head,
    client: IpAddr,
}

impl Call<'_> {
    fn header(&self, name: &HeaderName) -> Option<&str> {
        self.head.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The value of a query parameter, the first if there are more.
    fn query(&self, name: &str) -> Option<String> {
        let query = self.head.uri.query()?;
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// Takes one start of a build from the client's budget.
    fn charge_build(&self) -> Result<(), Error> {
        self.state.limits.build_start(self.client).map_err(|wait| {
            Metrics::count(&self.state.metrics.refused, "builds");
            Error::TooMany(wait)
        })
    }
}

async fn dispatch(Extracted(state): Extracted<State>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let audience = paths::audience(head.uri.path());
    let mut response = match answer(&state, &head, body).await {
        Ok(response) => response,
        Err(error) => error.respond(&state, audience, &head.headers),
    };
    Metrics::count(&state.metrics.requests, class(response.status()));
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if head.method == Method::HEAD { without_body(response) } else { response }
}

async fn answer(state: &State, head: &Head, body: Body) -> Result<Response<Body>, Error> {
    let peer = head.extensions.get::<server::Client>();
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |client| client.0.ip());
    let client = state.limits.client(peer, &head.headers);
    state.limits.request(client).map_err(|wait| {
        Metrics::count(&state.metrics.refused, "requests");
        Error::TooMany(wait)
    })?;
    let path = head.uri.path();
    let route = paths::route(path).map_err(|nowhere| nowhere.into_error(paths::audience(path)))?;
    check_method(&route, &head.method)?;
    let call = Call { state, head, client };
    // Boxed, or every answer, a stream's too, would take the room of the largest.
    match route {
        Route::Home => Box::pin(pages::home(&call)).await,
        Route::Robots => Ok(text(ROBOTS)),
        Route::Health => Ok(text("ok\n")),
        Route::Ready => Box::pin(api::ready(&call)).await,
        Route::Asset(name) => call.state.assets().serve(&call, &name),
        Route::Head(log, form) => tlog::head(&call, log, form),
        Route::Tile(log, form, tile) => Box::pin(tlog::tile(&call, log, form, tile)).await,
        Route::Stream(log) => stream::open(&call, log),
        Route::Lookup(query) => Box::pin(tlog::lookup(&call, query)).await,
        Route::ClaimLookup(query) => Box::pin(claims::lookup(&call, &query)).await,
        Route::ClaimFile { number, gz } => Box::pin(claims::file(&call, number, gz)).await,
        Route::Want => Box::pin(claims::want(&call, body)).await,
        Route::Api(Api::Description) => openapi::describe(&call),
        Route::Api(api) => Box::pin(api::serve(&call, api)).await,
        Route::Divergences => Box::pin(divergences::pages::list(&call)).await,
        Route::Divergence(id) => Box::pin(divergences::pages::page(&call, id)).await,
        Route::Feed => Box::pin(feed::serve(&call)).await,
        Route::Badge(query) => Box::pin(badge::serve(&call, &query)).await,
        Route::Package(query) => Box::pin(packages::serve(&call, query)).await,
        Route::Build(query, step) => Box::pin(builds::serve(&call, query, step)).await,
        Route::Result(query, sum, step) => Box::pin(results::serve(&call, &query, sum, step)).await,
    }
}

/// Crawlers may read everything but what waits, streams or downloads.
const ROBOTS: &str = "User-agent: *
Disallow: /tlog/
Disallow: /log/
Disallow: /claims/
Disallow: /api/
Disallow: /*/events$
Disallow: /*/dl$
Disallow: /*.gz$
";

fn check_method(route: &Route, method: &Method) -> Result<(), Error> {
    let (allowed, allow) = match route {
        Route::Want | Route::Build(_, BuildStep::Retry) => (method == Method::POST, "POST"),
        // A stream without its body would be of no use, and asking for a build's starts the build.
        Route::Stream(_) | Route::Build(_, BuildStep::Events) => (method == Method::GET, "GET"),
        _ => (method == Method::GET || method == Method::HEAD, "GET, HEAD"),
    };
    if allowed { Ok(()) } else { Err(Error::Method(allow)) }
}

/// The body of a request, if it is not longer and does not come slower than allowed.
async fn read_body(body: Body, limit: usize) -> Result<Bytes, Error> {
    let collected = tokio::time::timeout(BODY_TIME, Limited::new(body, limit).collect()).await;
    match collected {
        Err(_) => Err(Error::TooSlow),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(Error::TooLarge(limit)),
        Ok(Err(error)) => Err(Error::Malformed(format!("the body could not be read: {error}"))),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
    }
}

/// A 200 of this type that nobody may keep.
fn fresh(content_type: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn text(body: impl Into<Body>) -> Response<Body> {
    fresh(TEXT, body)
}

/// A page.
fn html(page: &impl askama::Template) -> Response<Body> {
    let body = page.render().expect("templates write to a string and call nothing that fails");
    let mut response = fresh("text/html; charset=utf-8", body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Something that never changes.
fn immutable(request: &HeaderMap, content_type: &'static str, body: Vec<u8>) -> Response<Body> {
    tagged(request, content_type, body, IMMUTABLE)
}

/// With a strong entity tag, and 304 for who has it already.
fn tagged(request: &HeaderMap, content_type: &'static str, body: Vec<u8>, cache: &'static str) -> Response<Body> {
    let etag = etag(&body);
    let known = request.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let mut response = if range::matches(known, &etag) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let mut response = Response::new(Body::from(body));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(ETAG, header(&etag));
    response
}

/// A strong entity tag of these bytes, with its quotes.
fn etag(body: &[u8]) -> String {
    let hash = Sha256::digest(body);
    format!("\"{}\"", data_encoding::HEXLOWER.encode(&hash[..16]))
}

/// 307: the same request, elsewhere. `path` is not encoded yet.
fn redirect(path: &str) -> Response<Body> {
    to(StatusCode::TEMPORARY_REDIRECT, path)
}

/// 303: what was posted is done; look at the result there.
fn see_other(path: &str) -> Response<Body> {
    to(StatusCode::SEE_OTHER, path)
}

fn to(status: StatusCode, path: &str) -> Response<Body> {
    let mut response = text(format!("see {path}\n"));
    *response.status_mut() = status;
    response.headers_mut().insert(LOCATION, header(&paths::encode(path)));
    response
}

/// A header's value of a text that is printable ASCII by its making.
fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("printable ASCII")
}

fn without_body(response: Response<Body>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    if !head.headers.contains_key(CONTENT_LENGTH)
        && let Some(length) = body.size_hint().exact()
    {
        head.headers.insert(CONTENT_LENGTH, length.into());
    }
    Response::from_parts(head, Body::empty())
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

#[cfg(test)]
mod tests;
