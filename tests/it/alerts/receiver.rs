//! Somebody who gets webhooks, and does with them what a test says.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// How requests are answered.
#[derive(Clone, Debug)]
pub(crate) enum Mood {
    /// 200.
    Takes,
    /// 200, and a body that never ends.
    TakesWithoutEnd,
    /// This status with this text.
    Refuses(u16, &'static str),
    /// 500, and a body that never ends.
    RefusesWithoutEnd,
    /// To another address.
    Redirects(String),
    /// Not at all.
    Hangs,
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) id: String,
    pub(crate) timestamp: String,
    pub(crate) signature: Option<String>,
    pub(crate) raw: String,
    pub(crate) body: Value,
    pub(crate) acknowledged: bool,
}

/// A server on a thread. Dropping it closes its port.
pub(crate) struct Receiver {
    pub(crate) address: String,
    mood: Arc<Mutex<Mood>>,
    received: Arc<Mutex<Vec<Received>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    /// At an address that nothing listens at.
    pub(crate) fn at(address: &str, mood: Mood) -> Receiver {
        let listener = TcpListener::bind(address).expect("free");
        let address = listener.local_addr().expect("bound").to_string();
        let (mood, received) = (Arc::new(Mutex::new(mood)), Arc::<Mutex<Vec<Received>>>::default());
        let stop = Arc::<AtomicBool>::default();
        let thread = std::thread::spawn({
            let (mood, received, stop) = (mood.clone(), received.clone(), stop.clone());
            move || {
                for connection in listener.incoming().map_while(Result::ok) {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let mood = mood.lock().expect("no panic").clone();
                    let (received, stop) = (received.clone(), stop.clone());
                    std::thread::spawn(move || serve(connection, &mood, &received, &stop));
                }
            }
        });
        Receiver { address, mood, received, stop, thread: Some(thread) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/alerts", self.address)
    }

    /// From the next connection on.
    pub(crate) fn becomes(&self, mood: Mood) {
        *self.mood.lock().expect("no panic") = mood;
    }

    /// All requests so far, in order.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().expect("no panic").clone()
    }

    /// Those that were acknowledged.
    pub(crate) fn taken(&self) -> Vec<Received> {
        self.received().into_iter().filter(|one| one.acknowledged).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread, which then closes the port.
        let _ = TcpStream::connect(&self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One request, and the end of the connection.
fn serve(mut connection: TcpStream, mood: &Mood, received: &Mutex<Vec<Received>>, stop: &AtomicBool) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        match connection.read(&mut buffer) {
            Ok(read @ 1..) => bytes.extend_from_slice(&buffer[..read]),
            _ => return,
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let header = |name: &str| {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned()).next()
    };
    let length: usize = header("content-length").and_then(|length| length.parse().ok()).expect("a length");
    while bytes.len() < head + 4 + length {
        match connection.read(&mut buffer) {
            Ok(read @ 1..) => bytes.extend_from_slice(&buffer[..read]),
            _ => return,
        }
    }
    let raw = String::from_utf8(bytes[head + 4..].to_vec()).expect("UTF-8");
    assert!(
        text.starts_with("POST /alerts ") && header("content-type").as_deref() == Some("application/json"),
        "{text}"
    );
    received.lock().expect("no panic").push(Received {
        id: header("webhook-id").expect("an id"),
        timestamp: header("webhook-timestamp").expect("a time"),
        signature: header("webhook-signature"),
        body: serde_json::from_str(&raw).expect("JSON"),
        raw,
        acknowledged: matches!(mood, Mood::Takes | Mood::TakesWithoutEnd),
    });
    let endless = |mut connection: TcpStream, status: &str| {
        let _ = write!(connection, "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\n\r\n");
        while !stop.load(Ordering::SeqCst) && connection.write_all(&[b'x'; 8192]).is_ok() {}
    };
    let _ = match mood {
        Mood::Takes => write!(connection, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        Mood::Refuses(status, text) => write!(
            connection,
            "HTTP/1.1 {status} No\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
            text.len()
        ),
        Mood::Redirects(to) => {
            write!(connection, "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        }
        Mood::TakesWithoutEnd => return endless(connection, "200 OK"),
        Mood::RefusesWithoutEnd => return endless(connection, "500 No"),
        Mood::Hangs => {
            // Until the client has had enough.
            let _ = connection.set_read_timeout(Some(Duration::from_secs(60)));
            connection.read(&mut buffer).map(drop)
        }
    };
}

/// The header `webhook-signature` as the Standard Webhooks text has it, by HMAC's definition (RFC 2104).
pub(crate) fn signature(secret: &[u8], one: &Received) -> String {
    let mut block = [0; 64];
    block[..secret.len()].copy_from_slice(secret);
    let inner = block.map(|byte| byte ^ 0x36);
    let outer = block.map(|byte| byte ^ 0x5c);
    let signed = format!("{}.{}.{}", one.id, one.timestamp, one.raw);
    let digest = Sha256::digest([&inner, signed.as_bytes()].concat());
    let mac = Sha256::digest([&outer, digest.as_slice()].concat());
    format!("v1,{}", data_encoding::BASE64.encode(&mac))
}
