//! The server against real sockets on the loopback address.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::web::tls;

struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    done: JoinHandle<anyhow::Result<()>>,
    metrics: Metrics,
}

const SHORT: Timeouts =
    Timeouts { head: Duration::from_millis(300), idle: Duration::from_millis(900), stop: Duration::from_millis(600) };

/// Bytes of an answer that says how long it is.
const LARGE: usize = 2 << 20;

async fn start(connections: usize) -> Running {
    start_with(connections, None).await
}

#[expect(clippy::disallowed_methods, reason = "a test waits for what it starts")]
async fn start_with(connections: usize, tls: Option<Tls>) -> Running {
    let endless = || {
        let more = futures_util::stream::repeat_with(|| Ok::<_, Infallible>(vec![b'x'; 1 << 16]));
        Response::new(Body::from_stream(more))
    };
    let app = Router::new()
        .route("/", get(|| async { "hello" }))
        .route(
            "/slow",
            get(|| async {
                sleep(Duration::from_millis(500)).await;
                "done"
            }),
        )
        .route(
            "/never",
            get(|| async {
                std::future::pending::<()>().await;
            }),
        )
        .route(
            "/endless",
            get(move || async move {
                let mut response = endless();
                response.extensions_mut().insert(Until(Instant::now() + SHORT.idle));
                response
            }),
        )
        .route(
            "/large",
            get(|| async {
                let pieces = (0..LARGE >> 16).map(|_| Ok::<_, Infallible>(vec![b'x'; 1 << 16]));
                let mut response = Response::new(Body::from_stream(futures_util::stream::iter(pieces)));
                response.headers_mut().insert(CONTENT_LENGTH, LARGE.into());
                response
            }),
        )
        .route("/stream", get(move || async move { endless() }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let metrics = Metrics::new();
    let serving = serve(listener, tls, app, Places::new(connections), SHORT, metrics.clone(), stop.clone());
    Running { address, stop, done: tokio::spawn(serving), metrics }
}

/// Sends `text` and reads until the server closes; gives what came and how long it took.
async fn exchange(address: SocketAddr, text: &str) -> (String, Duration) {
    let started = Instant::now();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A reset is a way to close, too.
    let _ = timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await.unwrap();
    (String::from_utf8(answer).unwrap(), started.elapsed())
}

#[tokio::test]
async fn answers() {
    let server = start(10).await;
    let (answer, _) = exchange(server.address, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("hello"), "{answer}");
}

#[tokio::test]
async fn silence_and_half_a_head_are_cut_sooner_than_an_idle_connection() {
    let server = start(10).await;
    for text in ["", "G", "GET / HTTP/1.1\r\nHost: a\r\n"] {
        let (_, took) = exchange(server.address, text).await;
        assert!(took > Duration::from_millis(250), "{text:?} {took:?}");
        assert!(took < Duration::from_millis(800), "{text:?} {took:?}");
    }
    let (answer, took) = exchange(server.address, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.ends_with("hello"));
    assert!(took > Duration::from_millis(800), "{took:?}");
    assert!(took < Duration::from_millis(1600), "{took:?}");
}

#[tokio::test]
async fn half_a_second_head_is_cut_soon_and_drops_of_bytes_do_not_help() {
    let server = start(10).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    sleep(Duration::from_millis(100)).await;
    let started = Instant::now();
    let mut closed = false;
    for byte in b"GET / HTTP/1.1\r\nHost: aaaaaaaaaaaaaaaaaaaaaaaaaaa" {
        sleep(Duration::from_millis(50)).await;
        if stream.write_all(&[*byte]).await.is_err() {
            closed = true;
            break;
        }
    }
    assert!(closed);
    assert!(started.elapsed() < Duration::from_millis(900), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_connection_too_many_is_closed_at_once() {
    let server = start(1).await;
    let mut first = TcpStream::connect(server.address).await.unwrap();
    first.write_all(b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    sleep(Duration::from_millis(50)).await;
    let mut second = TcpStream::connect(server.address).await.unwrap();
    let mut byte = [0];
    let read = timeout(Duration::from_millis(200), second.read(&mut byte)).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)));
    drop(first);
    sleep(Duration::from_millis(100)).await;
    let (answer, _) = exchange(server.address, "GET / HTTP/1.0\r\n\r\n").await;
    assert!(answer.ends_with("hello"), "{answer}");
}

#[tokio::test]
async fn a_request_in_flight_is_answered_while_stopping() {
    let server = start(10).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let idle = TcpStream::connect(server.address).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    server.stop.cancel();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("done"), "{answer}");
    timeout(Duration::from_millis(300), server.done).await.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err(), "the port is free again");
    drop(idle);
}

#[tokio::test]
async fn a_request_without_end_does_not_hold_up_the_stop() {
    let server = start(10).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    sleep(Duration::from_millis(50)).await;
    let started = Instant::now();
    server.stop.cancel();
    server.done.await.unwrap().unwrap();
    let took = started.elapsed();
    assert!(took >= SHORT.stop && took < SHORT.stop * 2, "{took:?}");
}

#[tokio::test]
async fn an_answer_that_must_end_is_cut_off_though_it_is_hardly_read() {
    let server = start(10).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let (started, mut byte) = (Instant::now(), [0]);
    while started.elapsed() < SHORT.idle * 2 / 3 || server.metrics.connections.get() > 0 {
        stream.read_exact(&mut byte).await.unwrap();
        sleep(Duration::from_millis(20)).await;
        assert!(started.elapsed() < SHORT.idle * 3, "it is still there");
        assert!(started.elapsed() > SHORT.idle * 2 / 3 || server.metrics.connections.get() == 1, "too early");
    }
}

/// Asks for `path` and takes little of it; gives how many bytes the kernel holds of the answer once it takes no more.
async fn held(server: &Running, stream: &mut TcpStream, path: &str) -> u64 {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
    let (from, to) = (server.address.port(), stream.local_addr().unwrap().port());
    let (mut before, mut same, began) = (0, 0, Instant::now());
    loop {
        sleep(Duration::from_millis(50)).await;
        let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
        // Numbers in hexadecimal: local and remote address and port, state, bytes to be sent and to be read.
        let ours = sockets.lines().find_map(|line| {
            let mut fields = line.split_ascii_whitespace().skip(1);
            let (local, remote, queues) = (fields.next()?, fields.next()?, fields.nth(1)?);
            let both = local.ends_with(&format!(":{from:04X}")) && remote.ends_with(&format!(":{to:04X}"));
            both.then(|| u64::from_str_radix(queues.split_once(':')?.0, 16).ok()).flatten()
        });
        // The list is not made at one moment, so one look may miss it.
        let now = ours.unwrap_or(0);
        same = if now > 0 && now == before { same + 1 } else { 0 };
        if same == 10 {
            return now;
        }
        before = now;
        assert!(began.elapsed() < Duration::from_secs(20), "it goes on");
    }
}

#[tokio::test]
async fn a_download_may_leave_more_with_the_kernel_than_a_stream() {
    let server = start(10).await;
    // The kernel counts what it needs beside the bytes, and has twice what it is told for both.
    let few = 2 * SEND_BUFFER_BYTES as u64;
    let download = held(&server, &mut narrow(&server).await, "/large").await;
    assert!(download > few && download <= 2 * DOWNLOAD_BUFFER_BYTES as u64, "{download}");
    let stream = held(&server, &mut narrow(&server).await, "/stream").await;
    assert!(stream <= few, "{stream}");
    // A stream after a download has no more than any.
    let mut both = narrow(&server).await;
    both.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut left = LARGE;
    while left > 0 {
        let mut piece = [0; 8 << 10];
        let read = both.read(&mut piece).await.unwrap();
        assert_ne!(read, 0, "it is closed");
        left -= piece[..read].iter().filter(|byte| **byte == b'x').count();
    }
    let stream = held(&server, &mut both, "/stream").await;
    assert!(stream <= few, "{stream}");
}

#[tokio::test]
async fn only_so_many_downloads_at_once_leave_more_with_the_kernel() {
    let server = start(2 * DOWNLOADS).await;
    let mut others = Vec::new();
    for _ in 0..DOWNLOADS {
        let mut stream = narrow(&server).await;
        stream.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        stream.read_exact(&mut [0]).await.unwrap();
        others.push(stream);
    }
    let download = held(&server, &mut narrow(&server).await, "/large").await;
    assert!(download <= 2 * SEND_BUFFER_BYTES as u64, "{download}");
    others.pop();
    // The server has to notice.
    while server.metrics.connections.get() >= DOWNLOADS as i64 {
        sleep(Duration::from_millis(5)).await;
    }
    let download = held(&server, &mut narrow(&server).await, "/large").await;
    assert!(download > 2 * SEND_BUFFER_BYTES as u64, "{download}");
}

/// A client that takes little as long as it does not read.
async fn narrow(server: &Running) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    socket.connect(server.address).await.unwrap()
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let server = start(10).await;
    let text = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(HEAD_LIMIT_BYTES * 2));
    let (answer, _) = exchange(server.address, &text).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
}

/// A server that speaks TLS, with a certificate for `localhost`, and a client that trusts it.
async fn start_encrypted(connections: usize, protocols: &[&[u8]]) -> (Running, TlsConnector) {
    let folder = tempfile::tempdir().unwrap();
    let files = tls::Files { cert: folder.path().join("cert"), key: folder.path().join("key") };
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(&files.cert, certificate.pem()).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();
    let (tls, _) = files.open(Metrics::new(), Arc::default(), CancellationToken::new()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    (start_with(connections, Some(tls)).await, TlsConnector::from(Arc::new(client)))
}

async fn encrypted(server: &Running, client: &TlsConnector) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(server.address).await.unwrap();
    client.connect("localhost".try_into().unwrap(), stream).await
}

#[tokio::test]
async fn tls_answers_what_the_client_speaks() {
    let (server, client) = start_encrypted(10, &[b"http/1.1"]).await;
    let mut stream = encrypted(&server, &client).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    // With a proper end: a cut-off answer is an error here.
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("hello"), "{answer}");

    let (server, client) = start_encrypted(10, &[b"h2", b"http/1.1"]).await;
    let mut stream = encrypted(&server, &client).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    // The preface and an empty SETTINGS frame; the server's settings come back (RFC 9113, 3.4).
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame[3], 4, "{frame:?}");

    let (server, client) = start_encrypted(10, &[b"gopher"]).await;
    assert!(encrypted(&server, &client).await.is_err(), "there is nothing to talk in");
}

#[tokio::test]
async fn half_a_handshake_and_what_is_no_tls_are_closed_and_give_their_places_back() {
    let (server, client) = start_encrypted(1, &[]).await;
    // Nothing at all, half a record, a whole record that promises more of its message.
    for bytes in [&b""[..], b"\x16\x03\x01", b"\x16\x03\x01\0\x04\x01\0\x7f\xff"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let started = Instant::now();
        stream.write_all(bytes).await.unwrap();
        let _ = timeout(Duration::from_secs(5), stream.read(&mut [0; 99])).await.unwrap();
        let took = started.elapsed();
        assert!(took > SHORT.head * 3 / 4 && took < SHORT.idle, "{bytes:?} {took:?}");
        free(&server).await;
    }
    let started = Instant::now();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await.unwrap();
    assert!(started.elapsed() < SHORT.head, "at once");
    assert!(answer.len() < 10, "an alert of TLS at most: {answer:?}");
    free(&server).await;
    // After the handshake silence is cut as it is without TLS.
    let mut stream = encrypted(&server, &client).await.unwrap();
    let started = Instant::now();
    let _ = timeout(Duration::from_secs(5), stream.read(&mut [0; 9])).await.unwrap();
    assert!(started.elapsed() < SHORT.idle, "{:?}", started.elapsed());
    free(&server).await;
    assert!(encrypted(&server, &client).await.is_ok(), "nothing has come to harm");
}

#[tokio::test]
async fn a_handshake_does_not_hold_up_the_stop() {
    let (server, _) = start_encrypted(10, &[]).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"\x16").await.unwrap();
    while server.metrics.connections.get() == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    server.stop.cancel();
    timeout(SHORT.head / 2, server.done).await.expect("at once").unwrap().unwrap();
}

/// Waits until no connection is left.
async fn free(server: &Running) {
    let began = Instant::now();
    while server.metrics.connections.get() > 0 {
        assert!(began.elapsed() < Duration::from_secs(5), "a place is still taken");
        sleep(Duration::from_millis(5)).await;
    }
}
