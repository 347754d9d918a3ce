//! A node as a process of its own, and a plain HTTP client for it.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::Modules;

/// How a node is started.
pub struct Setup {
    pub data: PathBuf,
    pub config: String,
    _folder: Option<TempDir>,
}

/// A running node. Dropping it kills it.
pub struct Node {
    child: Child,
    pub address: String,
    pub admin: String,
    pub vkey: String,
    pub data: PathBuf,
}

/// An HTTP answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Setup {
    /// An empty data directory below `target/`, and a node that builds from these modules.
    pub fn new(modules: &Modules) -> Setup {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let setup = Setup::at(folder.path().join("data"), modules);
        Setup { _folder: Some(folder), ..setup }
    }

    /// The same with a data directory that may be kept.
    pub fn at(data: PathBuf, modules: &Modules) -> Setup {
        let config = format!(
            "name = \"node.example\"\ndata = {:?}\ngoproxy = {:?}\ngosumdb = {:?}\n",
            data,
            modules.url(),
            modules.gosumdb()
        );
        Setup { data, config, _folder: None }
    }

    /// With more configuration.
    pub fn with(mut self, toml: &str) -> Setup {
        self.config.push_str(toml);
        self
    }

    /// The configuration as a file.
    pub fn file(&self) -> PathBuf {
        let path = self.data.with_extension("toml");
        std::fs::write(&path, &self.config).expect("written");
        path
    }

    /// Starts it and waits until it listens.
    ///
    /// # Panics
    /// With what it said, if it does not start.
    pub fn start(&self) -> Node {
        self.try_start().unwrap_or_else(|said| panic!("the node did not start:\n{said}"))
    }

    /// Starts it; what it said on stderr if it ended instead.
    pub fn try_start(&self) -> Result<Node, String> {
        let mut child = program()
            .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--config"])
            .arg(self.file())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program");
        let stderr = child.stderr.take().expect("piped");
        let (lines, said) = mpsc::channel();
        let log = self.data.with_extension("log");
        std::thread::spawn(move || {
            let mut log = std::fs::File::options().create(true).append(true).open(log).expect("a log");
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = writeln!(log, "{line}");
                let _ = lines.send(line);
            }
        });
        let (mut address, mut admin) = (None, None);
        let mut all = String::new();
        loop {
            let Ok(line) = said.recv_timeout(Duration::from_secs(60)) else {
                let _ = child.kill();
                let status = child.wait().expect("ended");
                return Err(format!("{all}{status}"));
            };
            if let Some(found) = line.strip_prefix("listening on http://") {
                address = Some(found.to_owned());
            } else if let Some(found) = line.strip_prefix("admin on http://") {
                admin = Some(found.to_owned());
            } else if let Some(vkey) = line.strip_prefix("verifier key ") {
                return Ok(Node {
                    child,
                    address: address.expect("said before the key"),
                    admin: admin.expect("said before the key"),
                    vkey: vkey.to_owned(),
                    data: self.data.clone(),
                });
            }
            all.push_str(&line);
            all.push('\n');
        }
    }

    /// Runs `sumpeer check` on its data directory.
    pub fn check(&self) -> Output {
        program().args(["check", "--config"]).arg(self.file()).output().expect("the program")
    }
}

impl Node {
    /// GET, at most `patience`.
    pub fn get_within(&self, path: &str, patience: Duration) -> Answer {
        request(&self.address, "GET", path, "", patience).unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// GET of something that needs no build.
    pub fn get(&self, path: &str) -> Answer {
        self.get_within(path, Duration::from_secs(20))
    }

    /// A request of any method.
    pub fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        let answer = request(&self.address, method, path, body, Duration::from_secs(20));
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// A lookup that may build, for at most five minutes.
    pub fn lookup(&self, spec: &str) -> Answer {
        self.get_within(&format!("/tlog/lookup/{spec}"), Duration::from_secs(300))
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, at once.
    pub fn kill(mut self) {
        self.child.kill().expect("running");
        self.child.wait().expect("ended");
    }

    /// SIGTERM; the exit code, and how long it took.
    pub fn terminate(mut self) -> (Option<i32>, Duration) {
        let began = Instant::now();
        let status = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill");
        assert!(status.success());
        let code = self.child.wait().expect("ended").code();
        (code, began.elapsed())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header, if there is one.
    pub fn header(&self, name: &str) -> Option<String> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }
}

/// The program under test.
pub fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_sumpeer"))
}

/// One request on a connection of its own, written by hand: what is sent is what the test says.
pub fn request(
    address: &str,
    method: &str,
    path: &str,
    body: &str,
    patience: Duration,
) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(patience))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse(&bytes, method).ok_or_else(|| std::io::Error::other("no whole answer"))
}

fn parse(bytes: &[u8], method: &str) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let mut answer = Answer { status, head, body: bytes[end + 4..].to_vec() };
    if answer.header("transfer-encoding").is_some_and(|coding| coding == "chunked") {
        answer.body = dechunk(&answer.body)?;
    } else if let Some(length) = answer.header("content-length")
        && method != "HEAD"
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

