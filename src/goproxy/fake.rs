//! A module proxy for tests, in this process, on a loopback port: it says what it is told to say, and counts.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Response, StatusCode, header};
use bytes::Bytes;
use futures_util::stream;
use tokio::task::JoinSet;

use super::{Client, Timing, http_client};

#[derive(Clone)]
pub(crate) enum Says {
    /// 200 with a body, and ranges of it where asked.
    Body(Bytes),
    Status(u16),
    /// Accepts, and never answers.
    Nothing,
    /// Promises the whole body, breaks off after so many bytes; the next time the same.
    Cut(Bytes, usize),
    /// As `Cut` the first time, as `Body` from then on.
    CutOnce(Bytes, usize),
    /// A body of unannounced, endless length.
    Endless,
    /// Answers so many times with 500, then with the body.
    Stumbles(usize, Bytes),
    Redirect(String),
}

type Else = Box<dyn Fn(&str) -> Option<Says> + Send + Sync>;

#[derive(Default)]
struct State {
    says: HashMap<String, Says>,
    otherwise: Option<Else>,
    asked: Vec<String>,
}

pub(crate) struct FakeProxy {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
    _server: JoinSet<()>,
}

impl FakeProxy {
    pub(crate) async fn start() -> FakeProxy {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let app = axum::Router::new().fallback(move |request: Request| answer(Arc::clone(&shared), request));
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, app).await.unwrap() });
        FakeProxy { url, state, _server: server }
    }

    pub(crate) fn says(&self, path: &str, says: Says) {
        self.state.lock().unwrap().says.insert(path.to_owned(), says);
    }

    pub(crate) fn has(&self, path: &str, body: impl Into<Bytes>) {
        self.says(path, Says::Body(body.into()));
    }

    /// What it says where nothing else was said; 404 for `None`.
    pub(crate) fn otherwise(&self, says: impl Fn(&str) -> Option<Says> + Send + Sync + 'static) {
        self.state.lock().unwrap().otherwise = Some(Box::new(says));
    }

    /// How often a path was asked for.
    pub(crate) fn asked(&self, path: &str) -> usize {
        self.state.lock().unwrap().asked.iter().filter(|asked| *asked == path).count()
    }

    pub(crate) fn asked_in_all(&self) -> usize {
        self.state.lock().unwrap().asked.len()
    }

    pub(crate) fn client(&self) -> Client {
        client(&self.url)
    }
}

/// A client of a list, with waits 100 times shorter.
pub(crate) fn client(list: &str) -> Client {
    Client::with_timing(list.parse().unwrap(), http_client().unwrap(), Timing::default().scaled_down(50))
}

async fn answer(state: Arc<Mutex<State>>, request: Request) -> Response<Body> {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let says = {
        let mut state = state.lock().unwrap();
        let says =
            state.says.get(&path).cloned().or_else(|| state.otherwise.as_ref().and_then(|otherwise| otherwise(&path)));
        match &says {
            Some(Says::CutOnce(body, _)) => {
                let body = body.clone();
                state.says.insert(path.clone(), Says::Body(body));
            }
            Some(Says::Stumbles(times, body)) => {
                let next = match times.checked_sub(1) {
                    None | Some(0) => Says::Body(body.clone()),
                    Some(times) => Says::Stumbles(times, body.clone()),
                };
                state.says.insert(path.clone(), next);
            }
            _ => {}
        }
        state.asked.push(path);
        says
    };
    let response = Response::builder();
    match says {
        None => plain(404, "no such thing"),
        Some(Says::Status(status)) => plain(status, "because I say so"),
        Some(Says::Stumbles(..)) => plain(500, "stumbled"),
        Some(Says::Body(body)) => whole(&body, request.headers()),
        Some(Says::Nothing) => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            plain(500, "")
        }
        Some(Says::Cut(body, at) | Says::CutOnce(body, at)) => {
            let pieces = [Ok(body.slice(..at)), Err(io::Error::other("cut"))];
            response
                .header(header::CONTENT_LENGTH, body.len())
                .header(header::ETAG, "\"one\"")
                .header(header::ACCEPT_RANGES, "bytes")
                .body(Body::from_stream(slowly(pieces)))
                .unwrap()
        }
        Some(Says::Endless) => {
            let pieces = stream::repeat_with(|| Ok::<_, io::Error>(Bytes::from(vec![0; 10_000])));
            response.body(Body::from_stream(pieces)).unwrap()
        }
        Some(Says::Redirect(to)) => response.status(302).header(header::LOCATION, to).body(Body::empty()).unwrap(),
    }
}

/// One piece after the other has been sent: an error that comes at once would take the piece before it along.
fn slowly(pieces: [io::Result<Bytes>; 2]) -> impl stream::Stream<Item = io::Result<Bytes>> {
    stream::unfold(pieces.into_iter(), |mut pieces| async move {
        let piece = pieces.next()?;
        if piece.is_err() {
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        Some((piece, pieces))
    })
}

fn whole(body: &Bytes, headers: &HeaderMap) -> Response<Body> {
    let from = headers
        .get(header::RANGE)
        .and_then(|range| range.to_str().ok()?.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    match from {
        Some(from) => Response::builder()
            .status(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_RANGE, format!("bytes {from}-{}/{}", body.len() - 1, body.len()))
            .body(Body::from(body.slice(from..)))
            .unwrap(),
        None => Response::new(Body::from(body.clone())),
    }
}

fn plain(status: u16, text: &'static str) -> Response<Body> {
    Response::builder().status(status).body(Body::from(text)).unwrap()
}
