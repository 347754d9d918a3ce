//! The module proxy that one build talks to, on a unix socket.
//!
//! Out of scope: the sandbox and the forwarder inside it ([`crate::builder`]).
//!
//! Invariants: read-only; a build is told of the module it builds that just the one version exists, so its outcome does
//! not depend on what is published later; every request is a line in the build's log; dropping the proxy ends all of
//! its connections.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use futures_util::stream;
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::cache::{Answer, Found};
use super::files::{Kept, blocking};
use super::path::Asked;
use super::{FetchError, FileKind, ModuleCache, VersionFile};
use crate::model::{ModulePath, Version};

/// Serves one build. Ends when dropped.
pub struct BuildProxy {
    /// The accept loop, which owns the connections.
    _server: JoinSet<()>,
    notes: Arc<Mutex<Notes>>,
}

/// What the requests showed so far.
#[derive(Default)]
struct Notes {
    trouble: Option<String>,
    absent: Option<String>,
    /// Paths of requests that have no answer yet. One that the build did not live to get stays.
    unanswered: Vec<String>,
}

impl Notes {
    fn wait_for(&mut self, path: &str) {
        // A build that asks and hangs up, again and again, is not remembered for ever.
        if self.unanswered.len() < CONNECTIONS {
            self.unanswered.push(path.to_owned());
        }
    }

    fn answered(&mut self, path: &str) {
        if let Some(at) = self.unanswered.iter().position(|waiting| waiting == path) {
            self.unanswered.swap_remove(at);
        }
    }
}

/// All that a request needs.
struct Serving {
    cache: ModuleCache,
    module: ModulePath,
    version: Version,
    log: Box<dyn Fn(&str) + Send + Sync>,
    progress: Box<Progress>,
    notes: Arc<Mutex<Notes>>,
}

/// What is sent back.
struct Reply {
    status: StatusCode,
    content_type: &'static str,
    body: Content,
    /// For the build's log: hash and origin, or what went wrong.
    note: String,
}

enum Content {
    Bytes(Bytes),
    File(Kept),
}

/// Told a path, its bytes so far, and of how many.
type Progress = dyn Fn(&str, u64, Option<u64>) + Send + Sync;
type Body = BoxBody<Bytes, io::Error>;

/// Connections at a time; the go command opens some ten.
const CONNECTIONS: usize = 64;
/// Bytes of a request's head.
const HEAD_LIMIT: usize = 16 << 10;
/// Bytes of a file that are read and sent at a time.
const PIECE: usize = 256 << 10;

impl BuildProxy {
    /// Listens on `socket`, which must not exist, for the build of one module version.
    ///
    /// `log` gets a line per request, without a newline; `progress` the path of a file, its bytes so far and how many
    /// there will be, if that is known. Both are called from many tasks and must not block.
    ///
    /// # Errors
    /// If the socket cannot be made. Must be called within a tokio runtime.
    pub fn serve(
        socket: &Path,
        cache: ModuleCache,
        module: ModulePath,
        version: Version,
        log: impl Fn(&str) + Send + Sync + 'static,
        progress: impl Fn(&str, u64, Option<u64>) + Send + Sync + 'static,
    ) -> anyhow::Result<BuildProxy> {
        let listener = UnixListener::bind(socket).with_context(|| format!("cannot listen on {}", socket.display()))?;
        let notes = Arc::new(Mutex::new(Notes::default()));
        let serving = Arc::new(Serving {
            cache,
            module,
            version,
            log: Box::new(log),
            progress: Box::new(progress),
            notes: Arc::clone(&notes),
        });
        let mut server = JoinSet::new();
        server.spawn(accept(listener, serving));
        Ok(BuildProxy { _server: server, notes })
    }

    /// The last trouble that may be gone tomorrow (network, a proxy's fault, a refused hash), in one sentence: a build
    /// that failed with one says nothing about the module.
    pub fn trouble(&self) -> Option<String> {
        self.notes().trouble.clone()
    }

    /// Says, in the proxy's words, that the module version being built does not exist (404 or 410).
    pub fn module_absent(&self) -> Option<String> {
        self.notes().absent.clone()
    }

    /// A file that the build was still waiting for, if there was one: then the time that it took says nothing about the
    /// module.
    pub fn unanswered(&self) -> Option<String> {
        self.notes().unanswered.first().cloned()
    }

    fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Accepts for ever. Connections live in a set of this future's own, so they end with it.
async fn accept(listener: UnixListener, serving: Arc<Serving>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, Arc::clone(&serving)));
                }
                Err(error) => {
                    // Out of file descriptors, most likely: those in use will be given back.
                    tracing::warn!(%error, "build proxy cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(stream: UnixStream, serving: Arc<Serving>) {
    let service = service_fn(move |request| {
        let serving = Arc::clone(&serving);
        async move { Ok::<_, Infallible>(serving.respond(request).await) }
    });
    let outcome = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .max_buf_size(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = outcome {
        tracing::debug!(%error, "a build's connection to its proxy broke off");
    }
}

impl Serving {
    async fn respond(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        let is_get = request.method() == Method::GET;
        let reply = if is_get || request.method() == Method::HEAD {
            let asked = path.trim_start_matches('/');
            self.notes().wait_for(asked);
            // A killed build closes its connections, and nothing after this line runs.
            let reply = self.reply(asked).await;
            self.notes().answered(asked);
            reply.unwrap_or_else(|error| self.refuse(path, &error))
        } else {
            Reply::text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n")
        };
        let size = reply.body.size();
        (self.log)(&format!(
            "proxy: {} {path}: {} {size} bytes, {}",
            request.method(),
            reply.status.as_u16(),
            reply.note
        ));
        reply.into_response(is_get)
    }

    async fn reply(&self, path: &str) -> Result<Reply, FetchError> {
        match Asked::parse(path) {
            None => Err(FetchError::NotFound(format!("{path:?} is not what a module proxy has"))),
            Some(Asked::List(module)) if module == self.module => {
                Ok(Reply::ours(format!("{}\n", self.version), "text/plain; charset=UTF-8"))
            }
            Some(Asked::Latest(module)) if module == self.module => {
                let kind = FileKind::Info;
                let version = self.version.clone();
                self.file(&VersionFile { module, version, kind }).await
            }
            Some(Asked::List(_)) => Ok(Reply::from_answer(self.cache.brief(path).await?, "text/plain; charset=UTF-8")),
            Some(Asked::Latest(_)) => Ok(Reply::from_answer(self.cache.brief(path).await?, "application/json")),
            Some(Asked::File(file)) => self.file(&file).await,
            // Always: else the go command would look for the database itself, and has no network.
            Some(Asked::Database { rest, .. }) if rest == "supported" => {
                Ok(Reply::ours(String::new(), "text/plain; charset=UTF-8"))
            }
            Some(Asked::Database { name, rest }) => {
                let answer = self.cache.database_answer(&name, &rest).await?;
                Ok(Reply::from_answer(answer, "application/octet-stream"))
            }
        }
    }

    async fn file(&self, file: &VersionFile) -> Result<Reply, FetchError> {
        let path = file.path();
        let progress = |done, total| (self.progress)(&path, done, total);
        let found = match self.is_probe(&file.module) {
            true => self.cache.probe(file, &progress).await,
            false => self.cache.file(file, &progress).await,
        };
        if let Err(FetchError::NotFound(detail)) = &found
            && file.module == self.module
            && file.version == self.version
        {
            self.notes().absent = Some(detail.clone());
        }
        let Found { kept, from } = found?;
        (self.progress)(&path, kept.size, Some(kept.size));
        Ok(Reply {
            status: StatusCode::OK,
            content_type: file.kind.content_type(),
            note: format!("sha256:{}, {from}", HEXLOWER.encode(&kept.hash)),
            body: Content::File(kept),
        })
    }

    /// Whether a module is one that the go command asks for only because a package of the built one could be in it.
    fn is_probe(&self, module: &ModulePath) -> bool {
        let below = |path: &str, root: &str| path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'));
        let (asked, built) = (module.as_str(), self.module.as_str());
        below(asked, built) || below(built, asked)
    }

    /// An error as the go command understands it: 404 leads it on, anything else ends the build.
    fn refuse(&self, path: &str, error: &FetchError) -> Reply {
        let status = match error {
            FetchError::NotFound(_) => StatusCode::NOT_FOUND,
            FetchError::Refused { status, .. } => StatusCode::from_u16(*status).unwrap_or(StatusCode::FORBIDDEN),
            _ => StatusCode::BAD_GATEWAY,
        };
        if status != StatusCode::NOT_FOUND {
            tracing::info!(path, %error, "build proxy cannot answer");
            self.notes().trouble = Some(error.to_string());
        }
        Reply::text(status, &format!("{error}\n"))
    }

    fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reply {
    fn text(status: StatusCode, text: &str) -> Reply {
        Reply {
            status,
            content_type: "text/plain; charset=UTF-8",
            note: text.trim_end().to_owned(),
            body: Content::Bytes(text.to_owned().into()),
        }
    }

    /// What this proxy knows by itself.
    fn ours(text: String, content_type: &'static str) -> Reply {
        Reply {
            status: StatusCode::OK,
            content_type,
            note: "this build's proxy".to_owned(),
            body: Content::Bytes(text.into()),
        }
    }

    fn from_answer(answer: Answer, content_type: &'static str) -> Reply {
        Reply { status: StatusCode::OK, content_type, note: answer.from.to_string(), body: Content::Bytes(answer.body) }
    }

    fn into_response(self, with_body: bool) -> Response<Body> {
        let mut response = Response::builder()
            .status(self.status)
            .header(CONTENT_TYPE, self.content_type)
            .header(CONTENT_LENGTH, self.body.size());
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            response = response.header(ALLOW, "GET, HEAD");
        }
        let body = if with_body { self.body.into_body() } else { Content::Bytes(Bytes::new()).into_body() };
        response.body(body).expect("status and headers are our own constants")
    }
}

impl Content {
    fn size(&self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File(kept) => kept.size,
        }
    }

    fn into_body(self) -> Body {
        match self {
            Content::Bytes(bytes) => Full::new(bytes).map_err(|never| match never {}).boxed(),
            Content::File(kept) => {
                let pieces = stream::try_unfold((kept, 0_u64), |(kept, at)| async move {
                    let Some(piece) = read_piece(kept.clone(), at).await? else {
                        return Ok(None);
                    };
                    let next = at + piece.len() as u64;
                    Ok::<_, io::Error>(Some((Frame::data(piece), (kept, next))))
                });
                BodyExt::boxed(StreamBody::new(pieces))
            }
        }
    }
}

/// The piece of a file at an offset; `None` at its end.
async fn read_piece(kept: Kept, at: u64) -> io::Result<Option<Bytes>> {
    use std::os::unix::fs::FileExt as _;
    let rest = usize::try_from(kept.size - at).unwrap_or(PIECE).min(PIECE);
    if rest == 0 {
        return Ok(None);
    }
    let read = blocking(move || {
        let mut piece = vec![0; rest];
        kept.file.read_exact_at(&mut piece, at)?;
        Ok(piece)
    });
    Ok(Some(read.await.map_err(io::Error::other)?.into()))
}

#[cfg(test)]
mod tests;
