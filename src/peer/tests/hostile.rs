//! A server that does what it is told, byte by byte.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use url::Url;

/// One thing to do on a connection.
#[derive(Clone)]
pub(super) enum Act {
    Say(Vec<u8>),
    /// One byte at a time, with pauses.
    Drip(Vec<u8>, Duration),
    /// The same again and again, for so many bytes.
    Flood(Vec<u8>, u64),
    /// Nothing, until the client goes.
    Hold,
    /// The next request on the same connection.
    Again,
}

type Script = dyn Fn(&str) -> Vec<Act> + Send + Sync;

#[derive(Default)]
struct Seen {
    /// Heads of requests with their bodies, as they came.
    requests: Mutex<Vec<String>>,
    connections: AtomicU64,
    /// Bytes that the network took.
    sent: AtomicU64,
}

pub(super) struct Hostile {
    pub(super) base: Url,
    seen: Arc<Seen>,
    _server: JoinSet<()>,
}

impl Hostile {
    /// Does what `script` says to each request; then it closes the connection.
    pub(super) async fn start(script: impl Fn(&str) -> Vec<Act> + Send + Sync + 'static) -> Hostile {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let seen = Arc::new(Seen::default());
        let (script, shared): (Arc<Script>, _) = (Arc::new(script), Arc::clone(&seen));
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                shared.connections.fetch_add(1, Ordering::Relaxed);
                let (script, seen) = (Arc::clone(&script), Arc::clone(&shared));
                connections.spawn(async move {
                    // The client may go at any time.
                    let _ = serve(socket, &*script, &seen).await;
                });
            }
        });
        Hostile { base, seen, _server: server }
    }

    /// The same to every request.
    pub(super) async fn always(acts: Vec<Act>) -> Hostile {
        Hostile::start(move |_| acts.clone()).await
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.seen.requests.lock().unwrap().clone()
    }

    pub(super) fn connections(&self) -> u64 {
        self.seen.connections.load(Ordering::Relaxed)
    }

    pub(super) fn sent(&self) -> u64 {
        self.seen.sent.load(Ordering::Relaxed)
    }
}

async fn serve(mut socket: TcpStream, script: &Script, seen: &Seen) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    loop {
        let request = read_request(&mut socket).await?;
        seen.requests.lock().unwrap().push(request.clone());
        let mut again = false;
        for act in script(&request) {
            match act {
                Act::Say(bytes) => write(&mut socket, &bytes, seen).await?,
                Act::Drip(bytes, pause) => {
                    for byte in bytes {
                        write(&mut socket, &[byte], seen).await?;
                        tokio::time::sleep(pause).await;
                    }
                }
                Act::Flood(bytes, total) => {
                    let mut done = 0;
                    while done < total {
                        write(&mut socket, &bytes, seen).await?;
                        done += bytes.len() as u64;
                    }
                }
                Act::Hold => {
                    let _ = socket.read(&mut [0; 16]).await;
                }
                Act::Again => again = true,
            }
        }
        if !again {
            return socket.shutdown().await;
        }
    }
}

async fn write(socket: &mut TcpStream, bytes: &[u8], seen: &Seen) -> std::io::Result<()> {
    socket.write_all(bytes).await?;
    seen.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    Ok(())
}

async fn read_request(socket: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return Ok(String::from_utf8(bytes).unwrap());
            }
        }
        let mut piece = [0; 4096];
        match socket.read(&mut piece).await? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => bytes.extend_from_slice(&piece[..read]),
        }
    }
}

/// An answer whose body is announced.
pub(super) fn answer(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("HTTP/1.1 {status} Because\r\n{headers}content-length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// An answer whose body ends with the connection.
pub(super) fn until_close(headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n{headers}\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

pub(super) const TEXT: &str = "content-type: text/plain; charset=UTF-8\r\n";
pub(super) const BYTES: &str = "content-type: application/octet-stream\r\n";
pub(super) const EVENTS: &str = "content-type: text/event-stream\r\n";
pub(super) const JSON: &str = "content-type: application/json\r\n";
