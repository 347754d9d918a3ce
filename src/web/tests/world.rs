//! A node without a go command, and a client for its router.

use std::collections::HashMap;
use std::io::Write;
use std::num::{NonZeroU32, NonZeroUsize};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, Response, StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt;
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use zip::write::{SimpleFileOptions, ZipWriter};

use crate::alert::{Channel, Channels, Journal};
use crate::binaries::Binaries;
use crate::builder::toolchain::Toolchains;
use crate::builder::{self, BuildLimits, Builder};
use crate::goproxy::{Client as Proxy, ModuleCache};
use crate::log::{Log, forms};
use crate::metrics::Metrics;
use crate::model::{Claim, Class, Finding, Spec, Sum, Target};
use crate::peer::{Peers, Status};
use crate::store::{LogId, Store};
use crate::tally::{Found, Settled, Tally, Voter, settle};
use crate::tlog::SignerKey;
use crate::web::limits::{Limits, Settings};
use crate::web::stream::{Pace, Streams};
use crate::web::{Node, Parts, State, admin, router};

pub(super) const SPEC: &str = "filippo.io/age@v1.2.1/cmd/age/linux-amd64-go1.27.1/";
const COMMANDS: &str = "example.com/three";

pub(super) struct World {
    pub(super) state: State,
    pub(super) own: Voter,
    pub(super) voters: Vec<Voter>,
    app: Router,
    pub(super) builder: Builder,
    /// What the followers of the other voters would say.
    pub(super) statuses: HashMap<String, watch::Sender<Status>>,
    _data: TempDir,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

impl World {
    /// A node that is its only voter.
    pub(super) async fn new() -> World {
        World::with_voters(&[]).await
    }

    /// A node that also needs the words of others.
    pub(super) async fn with_voters(others: &[&str]) -> World {
        World::made(others, 1000).await
    }

    pub(super) async fn made(others: &[&str], builds_per_hour: u32) -> World {
        let build_starts_per_hour = NonZeroU32::new(builds_per_hour).unwrap();
        World::with(others, Settings { build_starts_per_hour, ..Settings::default() }, Pace::default()).await
    }

    pub(super) async fn with(others: &[&str], limits: Settings, pace: Pace) -> World {
        let data = tempfile::tempdir().unwrap();
        let key = SignerKey::generate("test.example", [7; 32]).unwrap();
        let metrics = Metrics::new();
        let store = Store::open(data.path(), forms(&key), metrics.clone()).unwrap();
        let binaries = Binaries::open(data.path(), u64::MAX, store.clone(), metrics.clone()).await.unwrap();
        let proxy = module_proxy().await;
        let modules = ModuleCache::open(data.path(), 1 << 30, store.clone(), proxy.clone(), None).await.unwrap();
        let range = Default::default();
        let toolchains = Toolchains::open(data.path(), store.clone(), proxy.clone(), None, range).await.unwrap();
        let builder = builder(data.path(), &toolchains, &modules, &binaries, &metrics).await;
        let vkey = key.verifier().to_string();
        let own = Voter { name: "test.example".to_owned(), vkey, own: true };
        let mut voters = vec![own.clone()];
        voters.extend(others.iter().map(|name| {
            let vkey = SignerKey::generate(name, [9; 32]).unwrap().verifier().to_string();
            Voter { name: (*name).to_owned(), vkey, own: false }
        }));
        let mut statuses = HashMap::new();
        let followed = voters.iter().filter(|voter| !voter.own).map(|voter| {
            let (sender, status) = watch::channel(Status::default());
            statuses.insert(voter.name.clone(), sender);
            (super::heard::peer(&voter.name, &voter.vkey), status)
        });
        let peers = Peers::new(followed.collect(), None);
        let tally =
            Tally::new(store.clone(), Some(builder.clone()), None, binaries.clone(), voters.clone(), Vec::new());
        let state = State::new(Parts {
            accepted: Log::new(&store, LogId::Accepted),
            claims: Log::new(&store, LogId::Claims),
            store,
            tally,
            peers,
            binaries,
            builder: Some(builder.clone()),
            modules,
            toolchains,
            proxy,
            limits: Limits::new(Settings { requests_per_second: NonZeroU32::new(10_000).unwrap(), ..limits }),
            streams: Streams::new(pace),
            metrics,
            node: Node { key: key.verifier(), mode: "build", sandbox: Some("none".to_owned()), host: Target::host() },
            live: tokio::sync::watch::channel(crate::web::Live {
                notes: "Run by <b>tests</b>.".to_owned(),
                lookup_wait: Duration::from_millis(200),
            })
            .1,
            stop: CancellationToken::new(),
        });
        World { app: router(state.clone()), state, own, voters, builder, statuses, _data: data }
    }

    pub(super) async fn send(&self, request: Request) -> Answer {
        read(self.app.clone().oneshot(request).await.unwrap()).await
    }

    pub(super) async fn open(&self, path: &str) -> Response<Body> {
        self.app.clone().oneshot(request(Method::GET, path, &[], "")).await.unwrap()
    }

    pub(super) async fn send_open(&self, request: Request) -> Response<Body> {
        self.app.clone().oneshot(request).await.unwrap()
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send(request(Method::GET, path, &[], "")).await
    }

    /// As a browser asks.
    pub(super) async fn browse(&self, path: &str) -> Answer {
        self.get_with(path, &[("accept", "text/html,*/*;q=0.8"), ("host", "test.example:8000")]).await
    }

    pub(super) async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(request(Method::GET, path, headers, "")).await
    }

    pub(super) async fn post(&self, path: &str, body: &str) -> Answer {
        self.send(request(Method::POST, path, &[], body)).await
    }

    pub(super) async fn admin(&self, path: &str, host: &str) -> Answer {
        self.operate(request(Method::GET, path, &[("host", host)], "")).await
    }

    /// A request to the admin listener on 127.0.0.1:8001, whose token is `sesame`.
    pub(super) async fn operate(&self, request: Request) -> Answer {
        let token = admin::Token::new("sesame".to_owned());
        let channels = Channels::new(vec![Channel::Journal(Journal)], "node.example", "http://node.example");
        let app = admin::router(self.state.clone(), "127.0.0.1:8001".parse().unwrap(), token, channels);
        read(app.oneshot(request).await.unwrap()).await
    }

    /// This node has built `bytes` for a spec.
    pub(super) async fn built(&self, spec: &str, bytes: &[u8]) -> Sum {
        let file = self.state.binaries.staging_dir().join("made-by-test");
        std::fs::write(&file, bytes).unwrap();
        let binary = self.state.binaries.keep(&file).await.unwrap();
        let (size, sum) = (binary.size, binary.sum);
        self.found(spec, Finding::Built { size, sum }, Some(binary)).await;
        sum
    }

    /// This node has found that a spec cannot be built.
    pub(super) async fn cannot_build(&self, spec: &str, class: Class, detail: &str) -> Settled {
        self.found(spec, Finding::CannotBuild { class, detail: detail.to_owned() }, None).await
    }

    /// This node has built something for each of these numbers, all told in one commit.
    pub(super) async fn many(&self, numbers: Range<u64>) {
        let (own, voters) = (self.own.clone(), self.voters.clone());
        let found: Vec<Found> = numbers
            .map(|number| {
                let spec = format!("example.com/many@v1.0.{number}/linux-amd64-go1.27.1/");
                let sum = Sum::from_bytes([u8::try_from(number % 251).unwrap(); 20]);
                finding(&spec, Finding::Built { size: number + 1, sum }, None)
            })
            .collect();
        let settled = self.state.store.write(move |tx| {
            found.iter().map(|found| settle(tx, &own, &voters, found)).collect::<anyhow::Result<Vec<_>>>()
        });
        settled.await.unwrap();
        self.state.tally.tell_news();
    }

    pub(super) async fn found(&self, spec: &str, found: Finding, binary: Option<crate::store::BinaryRow>) -> Settled {
        let found = finding(spec, found, binary);
        let (own, voters) = (self.own.clone(), self.voters.clone());
        let settled = self.state.store.write(move |tx| settle(tx, &own, &voters, &found)).await.unwrap();
        self.state.tally.tell_news();
        settled
    }

    pub(super) fn is_asked_for(&self, spec: &str) -> bool {
        self.builder.find(&spec.parse::<Spec>().unwrap()).is_some()
    }
}

fn finding(spec: &str, finding: Finding, binary: Option<crate::store::BinaryRow>) -> Found {
    Found {
        claim: Claim {
            spec: spec.parse().unwrap(),
            finding,
            at: "2026-11-21T09:30:00Z".parse::<Timestamp>().unwrap(),
            host: "linux/amd64".to_owned(),
            toolchain: "h1:none".to_owned(),
            sandbox: "none".to_owned(),
        },
        binary,
        log_gz: gz(b"output <of> the build\n"),
    }
}

pub(super) fn request(method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Request {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from(body.to_owned())).unwrap()
}

async fn read(response: Response<Body>) -> Answer {
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer { status: head.status, headers: head.headers, body }
}

/// A builder whose queue nobody works off.
async fn builder(
    data: &Path,
    toolchains: &Toolchains,
    modules: &ModuleCache,
    binaries: &Binaries,
    metrics: &Metrics,
) -> Builder {
    let settings = builder::Settings {
        data: data.to_owned(),
        helper: Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/idle-helper"),
        sandbox: builder::sandbox::Choice::None,
        max_builds: NonZeroUsize::MIN,
        limits: BuildLimits { time: Duration::from_secs(1), memory: 1 << 30, output: 1 << 20, binary: 1 << 30 },
        gosumdb: None,
    };
    let parts = builder::Parts {
        toolchains: toolchains.clone(),
        modules: modules.clone(),
        binaries: binaries.clone(),
        metrics: metrics.clone(),
        begun: std::sync::Arc::default(),
    };
    let (builder, _, _) = Builder::new(settings, parts, CancellationToken::new()).await.unwrap();
    builder
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

/// Serves two modules and a list of Go versions.
#[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
async fn module_proxy() -> Proxy {
    let mut files: HashMap<String, Vec<u8>> = HashMap::new();
    let host = Target::host();
    let go = ["1.26.8", "1.27.0", "1.27.1", "1.28rc1"]
        .map(|go| format!("v0.0.1-go{go}.{}-{}\n", host.goos(), host.goarch()));
    files.insert("golang.org/toolchain/@v/list".to_owned(), go.concat().into_bytes());
    let three: &[&str] = &["cmd/a/a.go", "cmd/b/b.go", "c/c.go"];
    for (module, sources) in [(COMMANDS, three), ("example.com/one", &["x/main.go"]), ("example.com/none", &[])] {
        let at = format!("{module}/@v/");
        files.insert(format!("{at}list"), b"v1.0.0\nv1.1.0\n".to_vec());
        for version in ["v1.0.0", "v1.1.0"] {
            let info = format!("{{\"Version\":\"{version}\",\"Time\":\"2026-01-01T00:00:00Z\"}}");
            files.insert(format!("{at}{version}.info"), info.into_bytes());
            files.insert(format!("{at}{version}.mod"), format!("module {module}\n").into_bytes());
            files.insert(format!("{at}{version}.zip"), module_zip(&format!("{module}@{version}"), sources));
        }
    }
    let files = Arc::new(files);
    let app = Router::new().fallback(move |request: Request| {
        let file = files.get(request.uri().path().trim_start_matches('/')).cloned();
        async move { file.ok_or(StatusCode::NOT_FOUND) }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let list = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    Proxy::new(list.parse().unwrap(), crate::goproxy::http_client().unwrap())
}

fn module_zip(prefix: &str, sources: &[&str]) -> Vec<u8> {
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for source in ["lib.go"].iter().chain(sources) {
        zip.start_file(format!("{prefix}/{source}"), SimpleFileOptions::default()).unwrap();
        let package = if *source == "lib.go" { "lib" } else { "main" };
        writeln!(zip, "package {package}").unwrap();
    }
    zip.finish().unwrap().into_inner()
}
