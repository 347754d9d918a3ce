//! A thing between a node and its voter that passes on everything but downloads, of which it makes what it likes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

/// One thing to say for a download.
#[derive(Clone)]
pub(crate) enum Act {
    /// These bytes, as they are.
    Say(Vec<u8>),
    /// Zeros, as many as are taken.
    Flood,
    /// A byte at a time.
    Drip(Vec<u8>),
    /// Nothing more, until the client goes.
    Hold,
}

type Deed = Box<dyn Fn(&[u8]) -> Vec<Act> + Send>;

/// Where it listens, and what it does. It runs for as long as its runtime.
#[derive(Clone)]
pub(crate) struct Tamper {
    pub(crate) address: SocketAddr,
    inner: Arc<Inner>,
}

struct Inner {
    deed: Mutex<Deed>,
    downloads: AtomicUsize,
}

/// A body that is announced as it is.
pub(crate) fn whole(body: &[u8]) -> Vec<Act> {
    announced(body.len() as u64, body)
}

/// A body that is announced as so long.
pub(crate) fn announced(length: u64, body: &[u8]) -> Vec<Act> {
    let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    vec![Act::Say([head.as_bytes(), body].concat())]
}

impl Tamper {
    /// Passes on what comes for `voter`.
    pub(crate) fn start(runtime: &Handle, voter: String) -> Tamper {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let inner = Arc::new(Inner { deed: Mutex::new(Box::new(whole)), downloads: AtomicUsize::default() });
        let shared = inner.clone();
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (inner, voter) = (shared.clone(), voter.clone());
                // Either side may go at any time.
                Handle::current().spawn(async move { pass(client, &voter, &inner).await });
            }
        });
        Tamper { address, inner }
    }

    /// From now on makes this of each download, of which it is given the right body.
    pub(crate) fn does(&self, deed: impl Fn(&[u8]) -> Vec<Act> + Send + 'static) {
        *self.inner.deed.lock().expect("unpoisoned") = Box::new(deed);
    }

    /// How many downloads were asked for.
    pub(crate) fn downloads(&self) -> usize {
        self.inner.downloads.load(Ordering::SeqCst)
    }
}

async fn pass(mut client: TcpStream, voter: &str, inner: &Inner) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let head = read_head(&mut client).await?;
    let mut upstream = TcpStream::connect(voter).await?;
    upstream.set_nodelay(true)?;
    // One request a connection, so that each is seen.
    upstream.write_all(head.replacen("\r\n", "\r\nconnection: close\r\n", 1).as_bytes()).await?;
    if !head.starts_with("GET /claims/file/") {
        return copy_bidirectional(&mut client, &mut upstream).await.map(drop);
    }
    inner.downloads.fetch_add(1, Ordering::SeqCst);
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer).await?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("an answer") + 4;
    let acts = (inner.deed.lock().expect("unpoisoned"))(&answer[end..]);
    for act in acts {
        match act {
            Act::Say(bytes) => client.write_all(&bytes).await?,
            Act::Flood => loop {
                client.write_all(&[0; 64 << 10]).await?;
            },
            Act::Drip(bytes) => {
                for byte in bytes {
                    client.write_all(&[byte]).await?;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            Act::Hold => drop(client.read(&mut [0; 16]).await?),
        }
    }
    client.shutdown().await
}

async fn read_head(client: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    Ok(String::from_utf8(head).expect("a head is text"))
}
