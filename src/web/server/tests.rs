//! The server against real sockets on the loopback address.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::*;

struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    done: JoinHandle<anyhow::Result<()>>,
    metrics: Metrics,
}

const SHORT: Timeouts =
    Timeouts { head: Duration::from_millis(300), idle: Duration::from_millis(900), stop: Duration::from_millis(600) };

#[expect(clippy::disallowed_methods, reason = "a test waits for what it starts")]
async fn start(connections: usize) -> Running {
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
            get(|| async {
                let more = futures_util::stream::repeat_with(|| Ok::<_, Infallible>(vec![b'x'; 1 << 16]));
                let mut response = Response::new(Body::from_stream(more));
                response.extensions_mut().insert(Until(Instant::now() + SHORT.idle));
                response
            }),
        );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let metrics = Metrics::new();
    let serving = serve(listener, app, Places::new(connections), SHORT, metrics.clone(), stop.clone());
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

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let server = start(10).await;
    let text = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(HEAD_LIMIT_BYTES * 2));
    let (answer, _) = exchange(server.address, &text).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
}
