//! A plain HTTP client: what is sent is what the test says.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// An HTTP answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header, if there is one.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }

    /// Where it leads.
    ///
    /// # Panics
    /// If it leads nowhere.
    pub(crate) fn location(&self) -> String {
        self.header("location").unwrap_or_else(|| panic!("no redirect: {}\n{}", self.head, self.text()))
    }
}

/// One request on a connection of its own. `headers` are whole lines, each ending with `\r\n`.
///
/// # Errors
/// There was no whole answer in time.
pub(crate) fn request(
    address: &str,
    line: &str,
    headers: &str,
    body: &str,
    patience: Duration,
) -> std::io::Result<Answer> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(patience))?;
    exchange(stream, address, line, headers, body)
}

/// The same on a connection that is there already.
pub(super) fn exchange(
    mut stream: impl Read + Write,
    address: &str,
    line: &str,
    headers: &str,
    body: &str,
) -> std::io::Result<Answer> {
    write!(
        stream,
        "{line} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    )?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse(&bytes, line.starts_with("HEAD")).ok_or_else(|| std::io::Error::other("no whole answer"))
}

fn parse(bytes: &[u8], headless: bool) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let mut answer = Answer { status, head, body: bytes[end + 4..].to_vec() };
    if answer.header("transfer-encoding").is_some_and(|coding| coding == "chunked") {
        answer.body = dechunk(&answer.body)?;
    } else if let Some(length) = answer.header("content-length")
        && !headless
        && length.parse() != Ok(answer.body.len())
    {
        return None;
    }
    Some(answer)
}

fn dechunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?, 16).ok()?;
        let start = end + 2;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(start..start + size)?);
        rest = rest.get(start + size + 2..)?;
    }
}
