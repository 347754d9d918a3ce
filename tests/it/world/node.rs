//! A node as a process of its own.

use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::http::{Answer, request};
use super::{Modules, warm};

/// How long a node may take to start. Short of a busy machine it takes a fraction of a second.
const START: Duration = Duration::from_secs(60);

/// How a node is started.
pub(crate) struct Setup {
    pub data: PathBuf,
    pub config: String,
    /// Where it listens; port 0 takes a free one.
    listen: String,
    folder: Option<TempDir>,
    /// More of its environment.
    env: Vec<(&'static str, PathBuf)>,
}

/// A running node. Dropping it kills it.
pub(crate) struct Node {
    child: Child,
    guard: Guard,
    pub address: String,
    pub admin: String,
    pub vkey: String,
}

impl Setup {
    /// An empty data directory below `target/`, and a node that builds from these modules.
    pub(crate) fn empty(modules: &Modules) -> Setup {
        let folder = super::scratch();
        let setup = Setup::at(folder.path().join("data"), modules);
        Setup { folder: Some(folder), ..setup }
    }

    /// The same with a toolchain and its standard library in place, so that it builds at once.
    pub(crate) fn warm(modules: &Modules) -> Setup {
        let setup = Setup::empty(modules);
        warm::furnish(&setup.data);
        setup
    }

    /// With a data directory that the caller takes care of.
    pub(crate) fn at(data: PathBuf, modules: &Modules) -> Setup {
        let config = format!(
            "name = \"node.example\"\ndata = {:?}\ngoproxy = {:?}\ngosumdb = {:?}\n",
            data,
            modules.url(),
            modules.gosumdb()
        );
        Setup { data, config, listen: "127.0.0.1:0".to_owned(), folder: None, env: Vec::new() }
    }

    /// With another name, for a key of that name.
    pub(crate) fn named(mut self, name: &str) -> Setup {
        self.config = self.config.replacen("node.example", name, 1);
        self
    }

    /// Listening at an address that others know beforehand.
    pub(crate) fn listening(mut self, address: &str) -> Setup {
        address.clone_into(&mut self.listen);
        self
    }

    /// With more in its environment.
    pub(crate) fn env(mut self, name: &'static str, value: &Path) -> Setup {
        self.env.push((name, value.to_owned()));
        self
    }

    /// With no other program to be found, and no module proxy named.
    pub(crate) fn alone(mut self) -> Setup {
        self.config =
            self.config.lines().filter(|line| !line.starts_with("go")).map(|line| format!("{line}\n")).collect();
        self.env("PATH", Path::new(""))
    }

    /// With another data directory, and the key of this one.
    pub(crate) fn moved(mut self, data: PathBuf) -> Setup {
        std::fs::create_dir_all(&data).expect("a folder");
        std::fs::copy(self.data.join("key"), data.join("key")).expect("copied");
        self.config = self.config.replace(&format!("{:?}", self.data), &format!("{data:?}"));
        self.data = data;
        self
    }

    /// With more configuration.
    pub(crate) fn with(mut self, toml: &str) -> Setup {
        self.config.push_str(toml);
        self
    }

    /// The configuration as a file.
    pub(crate) fn file(&self) -> PathBuf {
        let path = self.data.with_extension("toml");
        std::fs::write(&path, &self.config).expect("written");
        path
    }

    /// Starts it and waits until it listens.
    ///
    /// # Panics
    /// With what it said, if it does not start.
    pub(crate) fn start(&self) -> Node {
        self.try_start().unwrap_or_else(|said| panic!("the node did not start:\n{said}"))
    }

    /// Starts it; what it said on stderr if it ended instead.
    ///
    /// # Errors
    /// Its words, and how it ended.
    pub(crate) fn try_start(&self) -> Result<Node, String> {
        let mut child = program()
            .args(["serve", "--listen", &self.listen, "--admin-listen", "127.0.0.1:0", "--config"])
            .arg(self.file())
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program");
        let guard = Guard::new(child.id(), self.folder.as_ref().map(TempDir::path));
        let said = listen(&mut child, self.data.with_extension("log"));
        let (mut address, mut admin) = (None, None);
        let mut all = String::new();
        loop {
            let Ok(line) = said.recv_timeout(START) else {
                let _ = child.kill();
                let status = child.wait().expect("ended");
                return Err(format!("{all}{status}"));
            };
            if let Some(found) = line.strip_prefix("listening on ") {
                address = found.split_once("://").map(|(_, address)| address.to_owned());
            } else if let Some(found) = line.strip_prefix("admin on http://") {
                admin = Some(found.to_owned());
            } else if let Some(vkey) = line.strip_prefix("verifier key ") {
                return Ok(Node {
                    child,
                    guard,
                    address: address.expect("said before the key"),
                    admin: admin.expect("said before the key"),
                    vkey: vkey.to_owned(),
                });
            }
            all.push_str(&line);
            all.push('\n');
        }
    }

    /// Runs `sumpeer check` on its data directory.
    pub(crate) fn check(&self) -> Output {
        program().args(["check", "--config"]).arg(self.file()).output().expect("the program")
    }

    /// What its nodes have said on stderr so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.data.with_extension("log")).unwrap_or_default()
    }
}

impl Node {
    /// GET, at most `patience`.
    pub(crate) fn get_within(&self, path: &str, patience: Duration) -> Answer {
        let answer = request(&self.address, &format!("GET {path}"), "", "", patience);
        answer.unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// GET of something that needs no build.
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.get_within(path, Duration::from_secs(60))
    }

    /// A request of any method, with more headers (whole lines).
    pub(crate) fn send(&self, line: &str, headers: &str, body: &str) -> Answer {
        let answer = request(&self.address, line, headers, body, Duration::from_secs(60));
        answer.unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// A lookup that may build, for at most five minutes.
    pub(crate) fn lookup(&self, spec: &str) -> Answer {
        self.get_within(&format!("/tlog/lookup/{spec}"), Duration::from_secs(300))
    }

    /// The number of entries in the claims log.
    pub(crate) fn claims(&self) -> u64 {
        size(&self.get("/claims/checkpoint"))
    }

    /// The number of records.
    pub(crate) fn records(&self) -> u64 {
        size(&self.get("/tlog/latest"))
    }

    /// This node's latest claim on a spec, parsed; none if there is none.
    pub(crate) fn claim(&self, spec: &str) -> Option<serde_json::Value> {
        let answer = self.get(&format!("/claims/lookup/{spec}"));
        if answer.status == 404 {
            return None;
        }
        let answer: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        Some(serde_json::from_str(answer["claim"].as_str().expect("a text")).expect("JSON"))
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process lives.
    pub(crate) fn lives(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_none()
    }

    /// Waits for it to end by itself; its exit code.
    ///
    /// # Panics
    /// If it does not.
    pub(crate) fn ends_within(mut self, patience: Duration) -> Option<i32> {
        super::eventually(patience, "the node ends", || !self.lives());
        self.child.wait().expect("ended").code()
    }

    /// SIGKILL, at once.
    pub(crate) fn kill(self) {
        drop(self);
    }

    /// SIGTERM; the exit code, and how long it took.
    pub(crate) fn terminate(mut self) -> (Option<i32>, Duration) {
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
        self.guard.release();
    }
}

/// Kills a node, and removes its folder, when this test program is gone: values that live for ever are never dropped, and a killed test drops
/// nothing. A shell that waits at the other end of a pipe.
struct Guard {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Guard {
    fn new(id: u32, folder: Option<&Path>) -> Guard {
        let remove = folder.map_or(String::new(), |folder| format!("; sleep 1; rm -rf '{}'", folder.display()));
        let mut shell = Command::new("/bin/sh")
            .args(["-c", &format!("read released || {{ kill -9 {id} 2>/dev/null{remove}; }}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let pipe = shell.stdin.take();
        Guard { shell, pipe }
    }

    fn release(&mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            let _ = pipe.write_all(b"released\n");
            drop(pipe);
            let _ = self.shell.wait();
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.release();
    }
}

/// The program under test.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sumpeer"));
    // What the developer has set for himself is not what is tested.
    command.env_remove("RUST_LOG").env_remove("GOPROXY").env_remove("GOSUMDB").env_remove("GOFLAGS");
    command
}

/// Exit code, stdout and stderr of a command.
pub(crate) fn words(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.stdin(Stdio::null()).output().expect("the program");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn listen(child: &mut Child, log: PathBuf) -> mpsc::Receiver<String> {
    let stderr = child.stderr.take().expect("piped");
    let (lines, said) = mpsc::channel();
    std::thread::spawn(move || {
        let mut log = std::fs::File::options().create(true).append(true).open(log).expect("a log");
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let _ = writeln!(log, "{line}");
            let _ = lines.send(line);
        }
    });
    said
}

fn size(head: &Answer) -> u64 {
    head.text().lines().nth(1).and_then(|size| size.parse().ok()).expect("a head")
}
