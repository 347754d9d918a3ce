//! A module proxy on loopback. It has made-up modules of its own, lets toolchains through from the
//! real proxy (fetched once, kept below `target/`), and misbehaves on demand.

use std::collections::HashMap;
use std::io::{Cursor, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use sumpeer::model::{ModulePath, Target};
use sumpeer::sumdb::{hash_zip, hash1};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::database::Database;

/// What a path does instead of answering as it should.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// This status.
    Status(u16),
    /// 200 with these bytes.
    Bytes(Vec<u8>),
    /// The right answer, but only this many bytes of it.
    Cut(usize),
    /// This many bytes of the right answer, then nothing more, for ever.
    Stall(usize),
    /// No answer at all.
    Silence,
}

/// A made-up module version.
pub(crate) struct Module {
    pub path: String,
    pub version: String,
    pub files: Vec<(String, String)>,
}

impl Module {
    /// A module whose root is a command that prints something.
    pub(crate) fn command(path: &str, version: &str) -> Module {
        Module::new(path, version)
            .file("go.mod", &format!("module {path}\n\ngo 1.21\n"))
            .file("main.go", &format!("package main\n\nfunc main() {{ println({path:?}, {version:?}) }}\n"))
    }

    /// A module without files.
    pub(crate) fn new(path: &str, version: &str) -> Module {
        Module { path: path.to_owned(), version: version.to_owned(), files: Vec::new() }
    }

    /// With one more file, or another text for one it has.
    pub(crate) fn file(mut self, name: &str, text: &str) -> Module {
        self.files.retain(|(known, _)| known != name);
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    /// Its zip, as a module proxy has it.
    pub(crate) fn zip(&self) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, text) in &self.files {
            let name = format!("{}@{}/{name}", self.path, self.version);
            zip.start_file(name, SimpleFileOptions::default()).expect("a zip");
            zip.write_all(text.as_bytes()).expect("a zip");
        }
        zip.finish().expect("a zip").into_inner()
    }
}

/// The proxy. It serves until the test program ends.
#[derive(Clone)]
pub(crate) struct Modules {
    shared: Arc<Shared>,
    address: SocketAddr,
}

struct Shared {
    state: Mutex<World>,
    real: String,
    kept: PathBuf,
    fetching: tokio::sync::Mutex<()>,
}

struct World {
    files: HashMap<String, Vec<u8>>,
    lists: HashMap<String, Vec<String>>,
    faults: HashMap<String, Fault>,
    asked: Vec<String>,
    database: Database,
}

impl Modules {
    /// Starts one on a free port of loopback.
    pub(crate) fn start() -> Modules {
        let shared = Arc::new(Shared {
            state: Mutex::new(World {
                files: HashMap::new(),
                lists: HashMap::new(),
                faults: HashMap::new(),
                asked: Vec::new(),
                database: Database::new(),
            }),
            real: real_proxy(),
            kept: super::kept("toolchains"),
            fetching: tokio::sync::Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("nonblocking");
        let address = listener.local_addr().expect("bound");
        let app = Router::new().fallback(answer).with_state(shared.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                axum::serve(listener, app).await.expect("serves for ever");
            });
        });
        Modules { shared, address }
    }

    /// As GOPROXY takes it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// As GOSUMDB takes it.
    pub(crate) fn gosumdb(&self) -> String {
        self.world(|world| world.database.vkey())
    }

    /// Publishes a module version and notes its sums.
    pub(crate) fn publish(&self, module: &Module) {
        let Module { path, version, files } = module;
        let prefix = format!("{path}@{version}/");
        let zip = module.zip();
        let whole: Vec<_> = files.iter().map(|(name, text)| (format!("{prefix}{name}"), text.clone())).collect();
        let zip_sum = hash1(whole).expect("hashed");
        let go_mod = files.iter().find(|(name, _)| name == "go.mod").map(|(_, text)| text.clone());
        let go_mod = go_mod.unwrap_or_else(|| format!("module {path}\n"));
        let mod_sum = hash1(vec![("go.mod".to_owned(), go_mod.clone())]).expect("hashed");
        self.world(|world| {
            let escaped = path.parse::<ModulePath>().expect("a module path").escaped();
            let base = format!("{escaped}/@v/{version}");
            let info = format!("{{\"Version\":\"{version}\",\"Time\":\"2026-01-01T00:00:00Z\"}}");
            world.files.insert(format!("{base}.info"), info.into_bytes());
            world.files.insert(format!("{base}.mod"), go_mod.into_bytes());
            world.files.insert(format!("{base}.zip"), zip);
            world.lists.entry(escaped).or_default().push(version.clone());
            world.database.add(path, version, &zip_sum, &mod_sum);
        });
    }

    /// Makes a path misbehave until it is mended.
    pub(crate) fn fault(&self, path: &str, fault: Fault) {
        self.world(|world| world.faults.insert(path.to_owned(), fault));
    }

    /// Makes a path answer as it should again.
    pub(crate) fn mend(&self, path: &str) {
        self.world(|world| world.faults.remove(path));
    }

    /// What was asked for so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.world(|world| world.asked.clone())
    }

    fn world<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        act(&mut self.shared.state.lock().expect("no test panics while it holds this"))
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let fault = {
        let mut world = shared.state.lock().expect("no test panics while it holds this");
        world.asked.push(path.clone());
        world.faults.get(&path).cloned()
    };
    match fault {
        Some(Fault::Silence) => std::future::pending().await,
        Some(Fault::Status(status)) => {
            (StatusCode::from_u16(status).expect("a status"), "a fault of the test\n").into_response()
        }
        Some(Fault::Bytes(bytes)) => bytes.into_response(),
        Some(Fault::Stall(length)) => match right(&shared, &path).await {
            Some(bytes) => stall(&bytes, length),
            None => StatusCode::NOT_FOUND.into_response(),
        },
        Some(Fault::Cut(length)) => match right(&shared, &path).await {
            Some(bytes) => cut(bytes, length),
            None => StatusCode::NOT_FOUND.into_response(),
        },
        None => match right(&shared, &path).await {
            Some(bytes) => bytes.into_response(),
            None => (StatusCode::NOT_FOUND, "not found: no such module\n").into_response(),
        },
    }
}

/// Says how long the answer is, and ends before.
fn cut(bytes: Vec<u8>, length: usize) -> Response {
    let whole = bytes.len();
    let part = bytes[..length.min(whole)].to_vec();
    let stream =
        futures_util::stream::iter([Ok(bytes::Bytes::from(part)), Err(std::io::Error::other("cut by the test"))]);
    Response::builder().header("content-length", whole).body(Body::from_stream(stream)).expect("a response")
}

/// Says how long the answer is, and never ends.
fn stall(bytes: &[u8], length: usize) -> Response {
    let part = bytes::Bytes::copy_from_slice(&bytes[..length.min(bytes.len())]);
    let begin = futures_util::stream::iter([Ok::<_, std::io::Error>(part)]);
    let body = Body::from_stream(begin.chain(futures_util::stream::pending()));
    Response::builder().header("content-length", bytes.len()).body(body).expect("a response")
}

async fn right(shared: &Arc<Shared>, path: &str) -> Option<Vec<u8>> {
    if path == "golang.org/toolchain/@v/list" {
        // One release, so that `latest` means the same on every day.
        let host = Target::host();
        return Some(format!("v0.0.1-{}.{}-{}\n", super::GO, host.goos(), host.goarch()).into_bytes());
    }
    if let Some(rest) = path.strip_prefix("golang.org/toolchain/") {
        let bytes = toolchain(shared, path).await;
        let version = rest.strip_prefix("@v/").and_then(|file| file.strip_suffix(".zip"));
        if let (Some(version), Some(_)) = (version, &bytes) {
            vouch(shared, version);
        }
        return bytes;
    }
    if let Some(rest) = path.strip_prefix("sumdb/sums.example/") {
        // The go command asks for a toolchain's sums before its zip.
        if let Some(version) = rest.strip_prefix("lookup/golang.org/toolchain@") {
            toolchain(shared, &format!("golang.org/toolchain/@v/{version}.zip")).await?;
            vouch(shared, version);
        }
        return shared.state.lock().expect("unpoisoned").database.answer(rest);
    }
    let world = shared.state.lock().expect("unpoisoned");
    if let Some(module) = path.strip_suffix("/@v/list") {
        return world.lists.get(module).map(|versions| (versions.join("\n") + "\n").into_bytes());
    }
    world.files.get(path).cloned()
}

/// A file of the toolchain module, from the real proxy the first time.
async fn toolchain(shared: &Arc<Shared>, path: &str) -> Option<Vec<u8>> {
    let kept = shared.kept.join(path.replace('/', "_"));
    if let Ok(bytes) = std::fs::read(&kept) {
        return Some(bytes);
    }
    // Its sums and its zip are asked for at once: one download is enough.
    let _one = shared.fetching.lock().await;
    if let Ok(bytes) = std::fs::read(&kept) {
        return Some(bytes);
    }
    // An error means that somebody else has installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let url = format!("{}/{path}", shared.real);
    let client = reqwest::Client::builder().timeout(Duration::from_secs(300)).build().expect("a client");
    let response =
        client.get(&url).send().await.unwrap_or_else(|error| {
            panic!("THE MODULE PROXY CANNOT BE REACHED, so tests that build cannot run: {error}")
        });
    if !response.status().is_success() {
        return None;
    }
    let bytes = response.bytes().await.expect("a whole answer").to_vec();
    let new = kept.with_extension("new");
    std::fs::write(&new, &bytes).expect("written");
    std::fs::rename(&new, &kept).expect("renamed");
    Some(bytes)
}

fn vouch(shared: &Arc<Shared>, version: &str) {
    let kept = shared.kept.join(format!("golang.org_toolchain_@v_{version}.zip"));
    let sum_file = kept.with_extension("zip-h1");
    let sum = std::fs::read_to_string(&sum_file).unwrap_or_else(|_| {
        let sum = hash_zip(&kept).expect("hashed");
        std::fs::write(&sum_file, &sum).expect("written");
        sum
    });
    let mut world = shared.state.lock().expect("unpoisoned");
    world.database.add("golang.org/toolchain", version, &sum, &sum);
}

/// The first address of the proxy list of the machine that runs the tests.
fn real_proxy() -> String {
    let list = sumpeer::config::goproxy(None).expect("GOPROXY or the go command is needed");
    list.split([',', '|']).next().unwrap_or_default().trim().to_owned()
}
