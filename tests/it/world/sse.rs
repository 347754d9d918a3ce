//! A client of streams that reads bytes, and knows nothing of the server's code.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// One connection to a stream.
pub(crate) struct Sse {
    connection: TcpStream,
    /// Bytes that may still come before the connection is cut.
    left: usize,
    /// As they came, chunks and all.
    raw: Vec<u8>,
    /// What the chunks hold, and no frame has taken yet.
    text: Vec<u8>,
    ended: bool,
    pub status: u16,
}

/// What has come next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Comment,
    Entry {
        id: u64,
        text: String,
    },
    Head {
        id: u64,
        note: String,
    },
    /// The server ended the stream, after a whole frame, as HTTP wants it.
    End,
    /// The connection broke off, or was cut; half a frame is lost.
    Cut,
}

impl Sse {
    /// Asks for a stream; `headers` are whole lines. After `limit` bytes of the answer the connection is cut.
    pub(crate) fn open(address: &str, path: &str, headers: &str, limit: usize) -> std::io::Result<Sse> {
        let mut connection = TcpStream::connect(address)?;
        connection.set_read_timeout(Some(Duration::from_secs(30)))?;
        write!(connection, "GET {path} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n")?;
        let mut sse = Sse { connection, left: limit, raw: Vec::new(), text: Vec::new(), ended: false, status: 0 };
        loop {
            if let Some(end) = sse.raw.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = sse.raw.drain(..end + 4).collect();
                let head = String::from_utf8_lossy(&head).into_owned();
                sse.status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
                sse.dechunk();
                return Ok(sse);
            }
            if !sse.more()? {
                return Err(std::io::Error::other("no head"));
            }
        }
    }

    /// The next frame, waiting for it.
    ///
    /// # Panics
    /// If nothing comes for 30 s.
    pub(crate) fn next(&mut self) -> Frame {
        loop {
            if let Some(end) = self.text.windows(2).position(|window| window == b"\n\n") {
                let frame: Vec<u8> = self.text.drain(..end + 2).collect();
                return parse(std::str::from_utf8(&frame[..end]).expect("UTF-8"));
            }
            if self.ended {
                assert!(self.text.is_empty(), "it ended within a frame");
                return Frame::End;
            }
            match self.more() {
                Ok(true) => self.dechunk(),
                Ok(false) => return Frame::Cut,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("nothing came"),
                Err(_) => return Frame::Cut,
            }
        }
    }

    fn more(&mut self) -> std::io::Result<bool> {
        let mut buffer = [0; 16 << 10];
        let room = self.left.min(buffer.len());
        let read = if room == 0 { 0 } else { self.connection.read(&mut buffer[..room])? };
        self.left -= read;
        self.raw.extend_from_slice(&buffer[..read]);
        Ok(read > 0)
    }

    fn dechunk(&mut self) {
        while let Some(line) = self.raw.windows(2).position(|window| window == b"\r\n") {
            let size = std::str::from_utf8(&self.raw[..line]).ok().and_then(|hex| usize::from_str_radix(hex, 16).ok());
            let size = size.expect("the size of a chunk");
            if self.raw.len() < line + 2 + size + 2 {
                return;
            }
            self.text.extend_from_slice(&self.raw[line + 2..line + 2 + size]);
            self.raw.drain(..line + 2 + size + 2);
            self.ended |= size == 0;
        }
    }
}

fn parse(frame: &str) -> Frame {
    if frame == ":" {
        return Frame::Comment;
    }
    let mut lines = frame.lines();
    let mut field = |name: &str| lines.next().and_then(|line| line.strip_prefix(name)).expect("a field").to_owned();
    let id = field("id: ").parse().expect("a number");
    let event = field("event: ");
    let datum = |line| if line == "data:" { "" } else { str::strip_prefix(line, "data: ").expect("data") };
    let data: Vec<&str> = lines.map(datum).collect();
    let data = data.join("\n") + "\n";
    match event.as_str() {
        "entry" => Frame::Entry { id, text: data },
        "head" => Frame::Head { id, note: data },
        other => panic!("an event {other}"),
    }
}
