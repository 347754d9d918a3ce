//! A build's proxy and the cache behind it, with a checksum database that only some files agree with.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::Verify;
use super::super::fake::{FakeProxy, Says};
use super::*;
use crate::metrics::Metrics;
use crate::store::{Store, TreeForms};

/// Vouches for files that say so.
struct Vouch;

impl Verify for Vouch {
    fn name(&self) -> &str {
        "sums.test"
    }

    fn check<'a>(&'a self, file: &'a VersionFile, content: &'a Path) -> BoxFuture<'a, Result<(), FetchError>> {
        async move {
            match std::fs::read(content).unwrap().starts_with(b"good") {
                true => Ok(()),
                false => Err(FetchError::Security(format!("{} was changed", file.path()))),
            }
        }
        .boxed()
    }

    fn answer<'a>(&'a self, rest: &'a str) -> BoxFuture<'a, Result<Bytes, FetchError>> {
        async move { Ok(format!("proven {rest}").into()) }.boxed()
    }
}

struct World {
    upstream: FakeProxy,
    data: tempfile::TempDir,
    store: Store,
    lines: Arc<Mutex<Vec<String>>>,
}

impl World {
    async fn new() -> World {
        let data = tempfile::tempdir().unwrap();
        let forms = TreeForms { accepted: Vec::new(), claims: Vec::new() };
        let upstream = FakeProxy::start().await;
        upstream.has("m.test/x/@v/v1.0.0.info", r#"{"Version":"v1.0.0"}"#);
        upstream.has("m.test/x/@v/v1.0.0.mod", "good module");
        upstream.has("m.test/x/@v/v1.0.0.zip", "good ".repeat(200_000));
        upstream.has("m.test/x/@v/list", "v1.0.0\nv1.1.0\n");
        upstream.has("dep.test/y/@v/list", "v0.1.0\n");
        World { store: Store::open(data.path(), forms, Metrics::new()).unwrap(), upstream, data, lines: Arc::default() }
    }

    async fn cache(&self, limit: u64) -> ModuleCache {
        let verify: Arc<dyn Verify> = Arc::new(Vouch);
        ModuleCache::open(self.data.path(), limit, self.store.clone(), self.upstream.client(), Some(verify))
            .await
            .unwrap()
    }

    fn build(&self, cache: ModuleCache, name: &str) -> (BuildProxy, PathBuf) {
        let socket = self.data.path().join(name);
        let lines = Arc::clone(&self.lines);
        let log = move |line: &str| lines.lock().unwrap().push(line.to_owned());
        let (module, version) = ("m.test/x".parse().unwrap(), "v1.0.0".parse().unwrap());
        let proxy = BuildProxy::serve(&socket, cache, module, version, log, |_, _, _| ()).unwrap();
        (proxy, socket)
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for folder in std::fs::read_dir(self.data.path().join("modules")).unwrap() {
            for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
                files.push(file.unwrap().path());
            }
        }
        files
    }
}

/// Status and body of one request.
async fn ask(socket: &Path, method: &str, path: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let request = format!("{method} /{path} HTTP/1.1\r\nHost: proxy\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

async fn get(socket: &Path, path: &str) -> (u16, String) {
    ask(socket, "GET", path).await
}

#[tokio::test]
async fn the_built_module_has_one_version_and_the_database_is_always_there() {
    let world = World::new().await;
    let (proxy, socket) = world.build(world.cache(1 << 30).await, "s");
    assert_eq!(get(&socket, "m.test/x/@v/list").await, (200, "v1.0.0\n".into()));
    assert_eq!(get(&socket, "m.test/x/@latest").await, (200, r#"{"Version":"v1.0.0"}"#.into()));
    assert_eq!(get(&socket, "dep.test/y/@v/list").await, (200, "v0.1.0\n".into()));
    assert_eq!(get(&socket, "sumdb/sums.test/supported").await, (200, String::new()));
    assert_eq!(get(&socket, "sumdb/sums.test/lookup/a@v1.0.0").await, (200, "proven lookup/a@v1.0.0".into()));
    assert_eq!(get(&socket, "sumdb/other.test/lookup/a@v1.0.0").await.0, 404);
    assert_eq!(get(&socket, "m.test/x/@v/v1.0.0.zip").await.1.len(), 1_000_000);
    assert_eq!(ask(&socket, "HEAD", "m.test/x/@v/v1.0.0.zip").await, (200, String::new()));
    assert_eq!(ask(&socket, "PUT", "m.test/x/@v/v1.0.0.zip").await.0, 405);
    for path in ["", "etc/passwd", "m.test/x/@v/v1.0.0.zip/..", "m.test/x/@v/master.info", "m.test/../@v/list"] {
        assert_eq!(get(&socket, path).await.0, 404, "{path}");
    }
    assert_eq!(proxy.trouble(), None);
    assert_eq!(proxy.module_absent(), None);
    assert_eq!(world.upstream.asked("m.test/x/@v/list"), 0);
    let lines = world.lines.lock().unwrap();
    let hash = HEXLOWER.encode(&<sha2::Sha256 as sha2::Digest>::digest("good ".repeat(200_000)));
    let from = &world.upstream.url;
    let zip = format!("proxy: GET /m.test/x/@v/v1.0.0.zip: 200 1000000 bytes, sha256:{hash}, ");
    assert!(lines.contains(&format!("{zip}{from}")), "{lines:?}");
    assert!(lines.contains(&format!("{}cache", zip.replace("GET", "HEAD"))), "{lines:?}");
    assert_eq!(lines.len(), 14);
}

#[tokio::test]
async fn a_file_with_a_wrong_hash_is_neither_handed_on_nor_kept() {
    let world = World::new().await;
    let cache = world.cache(1 << 30).await;
    let (proxy, socket) = world.build(cache, "s");
    for path in ["m.test/x/@v/v1.0.0.zip", "m.test/x/@v/v1.0.0.mod"] {
        world.upstream.has(path, "evil");
        let (status, body) = get(&socket, path).await;
        assert_eq!(status, 502);
        assert!(body.starts_with("security error: "), "{body}");
        assert!(proxy.trouble().unwrap().contains("security error"));
    }
    world.upstream.has("m.test/x/@v/v1.0.0.info", r#"{"Version":"v1.0.1"}"#);
    assert_eq!(get(&socket, "m.test/x/@v/v1.0.0.info").await.0, 502);
    assert!(world.files().is_empty(), "{:?}", world.files());
    // Not remembered either.
    world.upstream.has("m.test/x/@v/v1.0.0.mod", "good again");
    assert_eq!(get(&socket, "m.test/x/@v/v1.0.0.mod").await, (200, "good again".into()));
}

#[tokio::test]
async fn what_fails_upstream_is_told_apart() {
    let world = World::new().await;
    let cache = world.cache(1 << 30).await;
    let check = async |path: &str, says: Says, want: &str| {
        let (proxy, socket) = world.build(cache.clone(), "s");
        world.upstream.says(path, says);
        let (status, _) = get(&socket, path).await;
        let trouble = if proxy.trouble().is_some() { " trouble" } else { "" };
        let absent = if proxy.module_absent().is_some() { " absent" } else { "" };
        assert_eq!(format!("{status}{trouble}{absent}"), want, "{path}");
        drop(proxy);
        std::fs::remove_file(socket).unwrap();
    };
    let own = "m.test/x/@v/v1.0.0.mod";
    check(own, Says::Status(404), "404 absent").await;
    check(own, Says::Status(410), "404 absent").await;
    check(own, Says::Status(403), "403 trouble").await;
    check(own, Says::Status(500), "502 trouble").await;
    check(own, Says::Nothing, "502 trouble").await;
    check(own, Says::Cut("good module".into(), 5), "502 trouble").await;
    check("m.test/x/cmd/y/@v/v1.0.0.info", Says::Status(404), "404").await;
    check("dep.test/y/@v/v1.0.0.mod", Says::Status(404), "404").await;
    check("dep.test/y/@v/v1.0.0.info", Says::Body("<html>".into()), "502 trouble").await;
    check("dep.test/z/@v/list", Says::Status(500), "502 trouble").await;
}

#[tokio::test]
async fn where_no_module_is_is_asked_once() {
    let world = World::new().await;
    let cache = world.cache(1 << 30).await;
    let (_proxy, socket) = world.build(cache, "s");
    for (path, asked) in
        [("m.test/x/cmd/y/@v/v1.0.0.info", 1), ("m.test/@v/v1.0.0.info", 1), ("dep.test/q/@v/v1.0.0.info", 2)]
    {
        world.upstream.says(path, Says::Status(404));
        assert_eq!([get(&socket, path).await.0, get(&socket, path).await.0], [404, 404]);
        assert_eq!(world.upstream.asked(path), asked, "{path}");
    }
}

#[tokio::test]
async fn files_are_fetched_once_kept_over_a_restart_and_crashes_leave_nothing() {
    let world = World::new().await;
    let path = "m.test/x/@v/v1.0.0.zip";
    {
        let cache = world.cache(1 << 30).await;
        let (_one, a) = world.build(cache.clone(), "a");
        let (_two, b) = world.build(cache, "b");
        let (one, two) = tokio::join!(get(&a, path), get(&b, path));
        assert_eq!((one.0, &one), (200, &two));
    }
    assert_eq!(world.upstream.asked(path), 1);
    let kept = world.files();
    assert_eq!(kept.len(), 1);
    // As if killed while fetching, and between rename and row.
    let modules = world.data.path().join("modules");
    std::fs::write(modules.join("new/half"), "half").unwrap();
    std::fs::create_dir_all(modules.join("00")).unwrap();
    std::fs::write(modules.join("00").join("0".repeat(64)), "orphan").unwrap();
    {
        let (_proxy, socket) = world.build(world.cache(1 << 30).await, "c");
        assert_eq!(world.files(), kept);
        assert_eq!(get(&socket, path).await.0, 200);
        assert_eq!(world.upstream.asked(path), 1);
        // Someone removes the bytes: fetched again.
        std::fs::remove_file(&kept[0]).unwrap();
        assert_eq!(get(&socket, path).await.0, 200);
        assert_eq!(world.upstream.asked(path), 2);
    }
}

#[tokio::test]
async fn what_was_used_longest_ago_goes_first() {
    let world = World::new().await;
    let cache = world.cache(250_000).await;
    let (_proxy, socket) = world.build(cache, "s");
    for minor in 0..20 {
        let path = format!("dep.test/y/@v/v1.{minor}.0.zip");
        world.upstream.has(&path, format!("good {minor:095}").repeat(500));
        assert_eq!(get(&socket, &path).await.1.len(), 50_000);
        let bytes: u64 = world.files().iter().map(|file| file.metadata().unwrap().len()).sum();
        assert!(bytes <= 250_000, "{bytes}");
        let rows = world.store.read(|rows| rows.module_bytes()).await.unwrap();
        assert_eq!(rows, bytes);
    }
    assert!(world.files().len() >= 4);
}

#[tokio::test]
async fn dropping_the_proxy_ends_its_connections() {
    let world = World::new().await;
    world.upstream.says("dep.test/y/@v/v1.0.0.zip", Says::Nothing);
    let (proxy, socket) = world.build(world.cache(1 << 30).await, "s");
    let mut stream = UnixStream::connect(&socket).await.unwrap();
    stream.write_all(b"GET /dep.test/y/@v/v1.0.0.zip HTTP/1.1\r\nHost: proxy\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(proxy);
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(1), stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(rest.is_empty());
    assert!(UnixStream::connect(&socket).await.is_err());
}
