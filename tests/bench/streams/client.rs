//! Readers that cost as little as they can: one thread, one buffer for all, frames counted and not parsed.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::ensure;
use memchr::memmem::Finder;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::LocalSet;

/// In every frame of an entry, once.
const MARK: &[u8] = b"\nevent: entry\n";
/// A burst must have arrived by then.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes that are read at once.
const BUFFER: usize = 256 << 10;

/// Open streams, each read by a task.
pub(crate) struct Readers {
    tasks: LocalSet,
    shared: Rc<Shared>,
    counts: Vec<Rc<Cell<u64>>>,
}

struct Shared {
    mark: Finder<'static>,
    buffer: RefCell<Vec<u8>>,
    /// How many entries everyone is to have.
    goal: Cell<u64>,
    /// How many have them.
    there: Cell<u64>,
    all_there: Notify,
    readers: u64,
}

impl Readers {
    /// Opens so many streams of what is new, and waits for the head of each.
    pub(crate) async fn connect(address: SocketAddr, readers: u64) -> anyhow::Result<Readers> {
        let shared = Rc::new(Shared {
            mark: Finder::new(MARK),
            buffer: RefCell::new(vec![0; BUFFER]),
            goal: Cell::new(u64::MAX),
            there: Cell::new(0),
            all_there: Notify::new(),
            readers,
        });
        let (tasks, mut counts) = (LocalSet::new(), Vec::new());
        for _ in 0..readers {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(request(address, "").as_bytes()).await?;
            let mut beginning = Vec::new();
            while !beginning.ends_with(b"\n\n\r\n") || !beginning.windows(11).any(|window| window == b"event: head") {
                ensure!(stream.read_buf(&mut beginning).await? > 0, "{}", String::from_utf8_lossy(&beginning));
            }
            let count = Rc::new(Cell::new(0));
            counts.push(Rc::clone(&count));
            tasks.spawn_local(read(stream, Rc::clone(&shared), count));
        }
        Ok(Readers { tasks, shared, counts })
    }

    /// Waits until everyone has so many entries.
    pub(crate) async fn all_have(&self, entries: u64) -> anyhow::Result<()> {
        self.shared.goal.set(entries);
        self.shared.there.set(0);
        let all_there = self.tasks.run_until(self.shared.all_there.notified());
        let arrived = tokio::time::timeout(PATIENCE, all_there).await;
        ensure!(
            arrived.is_ok(),
            "{} of {} readers have {entries} entries",
            self.shared.there.get(),
            self.shared.readers
        );
        Ok(())
    }

    /// Everyone must have exactly so many.
    pub(crate) fn close(self, entries: u64) -> anyhow::Result<()> {
        for count in &self.counts {
            ensure!(count.get() == entries, "a reader has {} entries instead of {entries}", count.get());
        }
        Ok(())
    }
}

async fn read(stream: TcpStream, shared: Rc<Shared>, count: Rc<Cell<u64>>) {
    let mut tail = [0; MARK.len() - 1];
    while stream.readable().await.is_ok() {
        let mut buffer = shared.buffer.borrow_mut();
        // A mark may come in two pieces.
        buffer[..tail.len()].copy_from_slice(&tail);
        match stream.try_read(&mut buffer[tail.len()..]) {
            Ok(0) => return,
            Ok(read) => {
                let bytes = &buffer[..tail.len() + read];
                let before = count.get();
                let now = before + shared.mark.find_iter(bytes).count() as u64;
                tail.copy_from_slice(&bytes[read..]);
                count.set(now);
                let goal = shared.goal.get();
                if before < goal && now >= goal {
                    shared.there.set(shared.there.get() + 1);
                    if shared.there.get() == shared.readers {
                        shared.all_there.notify_one();
                    }
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// Opens so many streams of everything, with as little room for them as the kernel gives, and never reads them.
pub(crate) async fn stall(address: SocketAddr, readers: u64) -> anyhow::Result<Vec<TcpStream>> {
    let mut stalled = Vec::new();
    for _ in 0..readers {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(1)?;
        let mut stream = socket.connect(address).await?;
        stream.write_all(request(address, "?from=0").as_bytes()).await?;
        stalled.push(stream);
    }
    Ok(stalled)
}

fn request(address: SocketAddr, query: &str) -> String {
    format!("GET /tlog/stream{query} HTTP/1.1\r\nHost: {address}\r\n\r\n")
}

/// For dividing.
pub(crate) fn count(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}
