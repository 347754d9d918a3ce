//! The operator's side: counters and a look into the queue. Read-only, and on an address of its own.
//!
//! A page of some other site could make a browser ask here; the Host header it would send names that
//! other site, so only the bound address is answered.

use std::net::SocketAddr;

use askama::Template;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State as Extracted};
use axum::http::header::HOST;
use axum::http::request::Parts as Head;
use axum::http::{HeaderMap, Method, Response};

use super::error::Error;
use super::pages::{self, Base};
use super::paths::Audience;
use super::{State, fresh, html, text, without_body};

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
}

/// What the admin listener on this address serves.
pub fn router(state: State, bound: SocketAddr) -> Router {
    Router::new().fallback(dispatch).with_state((state, bound))
}

async fn dispatch(Extracted((state, bound)): Extracted<(State, SocketAddr)>, request: Request) -> Response<Body> {
    let (head, _) = request.into_parts();
    let response = match answer(&state, bound, &head).await {
        Ok(response) => response,
        Err(error) => error.respond(&state, Audience::Anyone, &head.headers),
    };
    if head.method == Method::HEAD { without_body(response) } else { response }
}

async fn answer(state: &State, bound: SocketAddr, head: &Head) -> Result<Response<Body>, Error> {
    let authority = head.uri.authority().map(ToString::to_string);
    if !is_ours(authority, &head.headers, bound) {
        return Err(Error::Forbidden("this address is not served under that name"));
    }
    let path = head.uri.path();
    if !matches!(path, "/" | "/metrics" | "/healthz") {
        return Err(Error::not_found());
    }
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return Err(Error::Method("GET, HEAD"));
    }
    match path {
        "/metrics" => Ok(fresh(OPENMETRICS, state.metrics.to_text())),
        "/healthz" => Ok(text("ok\n")),
        _ => overview(state).await,
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
    let troubles = state.store.read(|reader| reader.troubles(TROUBLES)).await?;
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
