//! The operator's side, on an address of its own: counters, a look into the queue, peers and divergences. What changes
//! something is in [`actions`], and needs a token.
//!
//! A page of some other site could make a browser ask here; the Host header it would send names that
//! other site, so only the bound address is answered.

mod actions;

pub use actions::Token;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State as Extracted};
use axum::http::header::HOST;
use axum::http::request::Parts as Head;
use axum::http::{HeaderMap, Method, Response};

use super::error::Error;
use super::pages::{self, Base};
use super::paths::{self, Api, Audience, Route};
use super::peers::PeerLine;
use super::{Call, State, alerts, api, audits, divergences, fresh, html, peers, text, without_body};
use crate::alert::Channels;
use crate::store::Reader;

/// As Prometheus asks for it.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Troubles shown.
const TROUBLES: usize = 200;

#[derive(Template)]
#[template(path = "admin.html")]
struct Overview {
    base: Base,
    accepted: u64,
    claims: u64,
    builds: Vec<(String, &'static str)>,
    troubles: Vec<(String, String, u32, String)>,
    peers: Vec<PeerLine>,
    open: u64,
}

/// What the admin listener on this address serves. Whoever shows the token may act; these are the channels to try out.
pub fn router(state: State, bound: SocketAddr, token: Token, channels: Channels) -> Router {
    Router::new().fallback(dispatch).with_state(Admin { state, bound, token: Arc::new(token), channels })
}

#[derive(Clone)]
struct Admin {
    state: State,
    bound: SocketAddr,
    token: Arc<Token>,
    channels: Channels,
}

async fn dispatch(Extracted(admin): Extracted<Admin>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let response = match answer(&admin, &head, body).await {
        Ok(response) => response,
        Err(error) => {
            let audience = if head.method == Method::POST { Audience::Api } else { paths::audience(head.uri.path()) };
            error.respond(&admin.state, audience, &head.headers)
        }
    };
    if head.method == Method::HEAD { without_body(response) } else { response }
}

async fn answer(admin: &Admin, head: &Head, body: Body) -> Result<Response<Body>, Error> {
    let state = &admin.state;
    let authority = head.uri.authority().map(ToString::to_string);
    if !is_ours(authority, &head.headers, admin.bound) {
        return Err(Error::Forbidden("this address is not served under that name"));
    }
    let path = head.uri.path();
    if let Some(action) = actions::Action::at(path) {
        if head.method != Method::POST {
            return Err(Error::Method("POST"));
        }
        if !admin.token.is_shown(&head.headers) {
            return Err(Error::Unauthorized);
        }
        return action.run(state, &admin.channels, body).await;
    }
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return Err(Error::Method("GET, HEAD"));
    }
    match path {
        "/metrics" => {
            peers::measure(state).await?;
            audits::measure(state).await?;
            Ok(fresh(OPENMETRICS, state.metrics.to_text()))
        }
        "/healthz" => Ok(text("ok\n")),
        "/channels" => Ok(api::json(&alerts::channels(state).await?)),
        "/" => overview(state).await,
        _ => shown_to_all(state, head).await,
    }
}

/// What strangers may see on the public address, and the operator's commands need here as well.
async fn shown_to_all(state: &State, head: &Head) -> Result<Response<Body>, Error> {
    let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let call = Call { state, head, client };
    match paths::route(head.uri.path()).map_err(|_| Error::not_found())? {
        Route::Asset(name) => state.assets().serve(&call, &name),
        Route::Divergences => divergences::pages::list(&call).await,
        Route::Divergence(id) => divergences::pages::page(&call, id).await,
        Route::Api(
            api @ (Api::Node
            | Api::Peers
            | Api::Queue
            | Api::Audit
            | Api::Divergences
            | Api::Divergence(_)
            | Api::Evidence(_)
            | Api::Alerts
            | Api::Alert(_)),
        ) => api::serve(&call, api).await,
        _ => Err(Error::not_found()),
    }
}

/// Whether the request was meant for the bound address, by number or as localhost.
fn is_ours(authority: Option<String>, headers: &HeaderMap, bound: SocketAddr) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    let Some(host) = authority.or(host) else {
        return false;
    };
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port.parse().ok()),
        _ => (host.as_str(), Some(80)),
    };
    if port != Some(bound.port()) {
        return false;
    }
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let bound_ip = bound.ip().to_canonical();
    match name.parse::<std::net::IpAddr>() {
        // Bound to all addresses, any number is ours; names are not.
        Ok(ip) => bound_ip.is_unspecified() || ip.to_canonical() == bound_ip,
        Err(_) => name == "localhost" && (bound_ip.is_loopback() || bound_ip.is_unspecified()),
    }
}

async fn overview(state: &State) -> Result<Response<Body>, Error> {
    let read = |reader: &Reader<'_>| Ok((reader.troubles(TROUBLES)?, reader.count_open_divergences()?));
    let (troubles, open) = state.store.read(read).await?;
    let mut builds = Vec::new();
    if let Some(builder) = &state.builder {
        let now = builder.snapshot();
        builds.extend(now.running.iter().map(|build| (build.spec.to_string(), "running")));
        builds.extend(now.waiting.iter().map(|build| (build.spec.to_string(), "queued")));
    }
    let page = Overview {
        base: Base::of(state),
        accepted: state.accepted.size().get(),
        claims: state.claims.size().get(),
        builds,
        peers: peers::lines(state).await?,
        open,
        troubles: troubles
            .into_iter()
            .map(|trouble| (trouble.spec, trouble.detail, trouble.tries, pages::time(trouble.next_at)))
            .collect(),
    };
    Ok(html(&page))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_the_bound_address_is_answered() {
        let check = |bound: &str, host: &str, want: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_str(host).unwrap());
            assert_eq!(is_ours(None, &headers, bound.parse().unwrap()), want, "{bound} {host}");
        };
        check("127.0.0.1:8001", "127.0.0.1:8001", true);
        check("127.0.0.1:8001", "localhost:8001", true);
        check("127.0.0.1:8001", "evil.example:8001", false);
        check("127.0.0.1:8001", "127.0.0.1:8000", false);
        check("127.0.0.1:8001", "127.0.0.1", false);
        check("127.0.0.1:80", "127.0.0.1", true);
        check("[::1]:8001", "[::1]:8001", true);
        check("[::1]:8001", "[::2]:8001", false);
        check("192.0.2.1:8001", "localhost:8001", false);
        check("0.0.0.0:8001", "192.0.2.7:8001", true);
        check("0.0.0.0:8001", "evil.example:8001", false);
        assert!(!is_ours(None, &HeaderMap::new(), "127.0.0.1:8001".parse().unwrap()));
    }
}
