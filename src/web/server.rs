//! The accept loop: from a listening socket to requests for a router, with every wait bounded.
//!
//! What a stranger can hold here is limited: connections by number, silence by the timers of
//! [`Watched`], TLS handshakes by time, headers by size, unread answers by a small send buffer and the kernel's own
//! timeout. Out of scope: what the requests mean, how many a subnet may send
//! ([`crate::web::limits`]), and certificates ([`crate::web::tls`]).
//!
//! Invariant: nothing started here outlives [`serve`] by more than the moment it takes to drop it.

mod watched;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::Response;
use axum::http::header::CONTENT_LENGTH;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tracing::{debug, warn};

use super::tls::Tls;
use crate::metrics::Metrics;
use watched::{Activity, Socket, Watched};

/// The most bytes of a request's head. Longer ones get 431 from hyper; a URL longer than half of
/// it is refused by our own routes, in our own words.
const HEAD_LIMIT_BYTES: usize = 8 << 10;

/// What the kernel holds of an answer that a reader does not take.
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// The same of an answer that is longer than that and says so, such as a download: the fewer turns it takes, the sooner
/// it is over. The kernel gives no more than `net.core.wmem_max`, by default 208 KiB, and may take twice that.
const DOWNLOAD_BUFFER_BYTES: usize = 256 << 10;

/// Answers that may have so much at once. What stands still could otherwise hold memory that streams must not.
const DOWNLOADS: usize = 64;

/// How long the kernel waits for a reader that takes nothing before it drops the connection.
/// Neither axum nor hyper ever notice one. Within half a minute it is gone.
const READER_TIMEOUT: Duration = Duration::from_secs(25);

/// The pause after an `accept` that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The address a request came from, as an extension of the request.
#[derive(Clone, Copy, Debug)]
pub struct Client(pub SocketAddr);

/// The request came over TLS of our own, as an extension of the request.
#[derive(Clone, Copy, Debug)]
pub struct Encrypted;

/// When an answer has to be over, as an extension of the response: it ends by itself before, if it is read.
#[derive(Clone, Copy, Debug)]
pub struct Until(pub Instant);

/// How long a client may keep a connection busy or idle.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For the TLS handshake, for the first byte of a connection, and from the first to the last byte of a request's
    /// head.
    pub head: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// For requests in flight once the node is asked to stop.
    pub stop: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            head: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            // The node promises to be gone within 10 s; the tasks below the server need some of it.
            stop: Duration::from_secs(5),
        }
    }
}

/// Places for connections, shared by all listeners of a node.
#[derive(Clone)]
pub struct Places {
    connections: Arc<Semaphore>,
    /// For answers with a larger send buffer.
    downloads: Arc<Semaphore>,
}

impl Places {
    /// Room for so many connections at once.
    pub fn new(connections: usize) -> Places {
        let places = |count: usize| Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)));
        Places { connections: places(connections), downloads: places(DOWNLOADS) }
    }
}

/// Serves a router on one listener until `stop`, then gives requests in flight a bounded time. With `tls`, nothing else
/// is spoken there.
///
/// # Errors
/// None at present: trouble with one connection is no reason to end, and a listener that cannot
/// accept is tried again.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    app: Router,
    places: Places,
    timeouts: Timeouts,
    metrics: Metrics,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let running = Running { tasks: TaskTracker::new(), kill: CancellationToken::new() };
    let Places { connections, downloads } = places;
    let serving = Serving { app, timeouts, downloads, executor: running.clone(), stop: stop.clone() };
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&connections).try_acquire_owned() else {
            // Dropping the stream closes it: an answer would cost what the limit is there to save.
            Metrics::count(&metrics.refused, "connections");
            continue;
        };
        let (tls, serving) = (tls.clone(), serving.clone());
        let open = metrics.connections.clone();
        running.execute(async move {
            open.inc();
            let ended = connection(stream, tls, peer, serving).await;
            open.dec();
            drop(place);
            if let Err(error) = ended {
                debug!("connection ended early: {error}");
            }
        });
    }
    // From here on nothing new is accepted: the port is free again at once.
    drop(listener);
    running.tasks.close();
    if tokio::time::timeout(timeouts.stop, running.tasks.wait()).await.is_err() {
        running.kill.cancel();
        running.tasks.wait().await;
    }
    Ok(())
}

/// Where connections and the streams of HTTP/2 run, so that `serve` can wait for them and end them.
#[derive(Clone)]
struct Running {
    tasks: TaskTracker,
    kill: CancellationToken,
}

impl<F> Executor<F> for Running
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, task: F) {
        let kill = self.kill.clone();
        // Each layer that takes a future by value has room for it twice: some 20 kB an open connection.
        let task = Box::pin(task);
        self.tasks.spawn(async move { kill.run_until_cancelled_owned(task).await.is_some() });
    }
}

/// What all connections of a listener share.
#[derive(Clone)]
struct Serving {
    app: Router,
    timeouts: Timeouts,
    downloads: Arc<Semaphore>,
    executor: Running,
    stop: CancellationToken,
}

type Ended = Result<(), Box<dyn std::error::Error + Send + Sync>>;

async fn connection(stream: TcpStream, tls: Option<Tls>, peer: SocketAddr, serving: Serving) -> Ended {
    tune(&stream)?;
    let Some(tls) = tls else {
        return requests(stream, Client(peer), None, serving).await;
    };
    let shaken = tokio::select! {
        () = serving.stop.cancelled() => return Ok(()),
        shaken = timeout(serving.timeouts.head, tls.accept(stream)) => shaken.map_err(|_| "no TLS handshake in time")?,
    };
    match shaken? {
        // Boxed, so that a connection without TLS has no room for it.
        Some(stream) => Box::pin(requests(stream, Client(peer), Some(Encrypted), serving)).await,
        None => Ok(()),
    }
}

async fn requests<S: Socket + AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    client: Client,
    encrypted: Option<Encrypted>,
    serving: Serving,
) -> Ended {
    let Serving { app, timeouts, downloads, executor, stop } = serving;
    let activity = Activity::new(timeouts);
    let io = TokioIo::new(Watched::new(stream, activity.clone()));
    let service = service_fn(move |request: Request<Incoming>| {
        let busy = activity.request(request.version());
        let (app, downloads) = (app.clone(), downloads.clone());
        async move {
            let (mut head, body) = request.into_parts();
            head.extensions.insert(client);
            encrypted.map(|encrypted| head.extensions.insert(encrypted));
            let request = Request::from_parts(head, Body::new(body));
            let Ok(response) = app.oneshot(request).await;
            // The connection is busy until the last byte of the body is on its way.
            let until = response.extensions().get::<Until>().map(|until| until.0);
            let download = if is_long(&response) { downloads.try_acquire_owned().ok() } else { None };
            Ok::<Response<_>, Infallible>(response.map(|body| busy.until_end_of(body, until, download)))
        }
    });
    let builder = builder(executor);
    let mut connection = std::pin::pin!(builder.serve_connection(io, service));
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

fn builder(executor: Running) -> auto::Builder<Running> {
    let mut builder = auto::Builder::new(executor);
    builder
        .http1()
        .timer(TokioTimer::new())
        // `Watched` tells idle from half a head, which hyper's own timer does not.
        .header_read_timeout(None)
        .max_buf_size(HEAD_LIMIT_BYTES)
        .max_headers(64);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(16 << 10)
        .max_concurrent_streams(64)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

/// Whether an answer says that it is longer than what the kernel holds of any.
fn is_long(response: &Response<Body>) -> bool {
    let length = response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    length.unwrap_or(0) > SEND_BUFFER_BYTES
}

fn tune(stream: &TcpStream) -> std::io::Result<()> {
    use rustix::net::sockopt;
    let timeout = u32::try_from(READER_TIMEOUT.as_millis()).expect("25 s fit 32 bits of ms");
    stream.set_nodelay(true)?;
    sockopt::set_tcp_user_timeout(stream, timeout)?;
    sockopt::set_socket_send_buffer_size(stream, SEND_BUFFER_BYTES)?;
    Ok(())
}

#[cfg(test)]
mod tests;
