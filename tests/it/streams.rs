//! Streams of the real program: cut, resumed, killed, limited, grown old, stopped.

use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use sumpeer::log;
use sumpeer::metrics::Metrics;
use sumpeer::store::Store;
use sumpeer::tlog::{CompactRange, Head, SUMDB_ORIGIN, SignerKey, VerifierKey, leaf_hash, open_head};

use crate::made;
use crate::world::{Frame, Module, Modules, Node, Setup, Sse, eventually, spec};

/// Entries of a log that is there before the node starts: some batches.
const ENTRIES: u64 = 1500;

/// Writes a data directory with so many records and claims.
fn fill(setup: &Setup) {
    std::fs::create_dir_all(&setup.data).expect("a folder");
    let key = SignerKey::generate("node.example", [5; 32]).expect("a key");
    let file = setup.data.join("key");
    std::fs::write(&file, key.to_text().as_bytes()).expect("written");
    assert!(Command::new("chmod").arg("600").arg(&file).status().expect("chmod").success());
    let store = Store::open(&setup.data, log::forms(&key), Metrics::new()).expect("a store");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(made::append(&store, &made::own(&key), 0..ENTRIES, 1000)).expect("appended");
    drop((runtime, store));
}

/// What a client knows of a log, over as many connections as it takes.
struct Follower {
    key: VerifierKey,
    path: &'static str,
    tree: CompactRange,
    head: Option<Head>,
}

impl Follower {
    fn new(node: &Node, path: &'static str) -> Follower {
        Follower { key: node.vkey.parse().expect("a key"), path, tree: CompactRange::new(), head: None }
    }

    fn size(&self) -> u64 {
        self.tree.size().get()
    }

    /// The log behind the last head, which covers all entries that came before it.
    fn verified(&self) -> u64 {
        self.head.as_ref().map_or(0, |head| head.size.get())
    }

    /// Goes on after the last entry it has.
    fn connect(&self, node: &Node, limit: usize) -> std::io::Result<Sse> {
        match self.size().checked_sub(1) {
            None => Sse::open(&node.address, &format!("{}?from=0", self.path), "", limit),
            Some(last) => Sse::open(&node.address, self.path, &format!("Last-Event-ID: {last}\r\n"), limit),
        }
    }

    /// Takes frames until a head covers `size`; whether it got so far.
    fn read(&mut self, stream: &mut Sse, size: u64) -> bool {
        assert_eq!(stream.status, 200);
        while self.verified() < size {
            match stream.next() {
                Frame::Comment => {}
                Frame::Entry { id, text } => {
                    assert_eq!(id, self.size(), "exactly once and in order");
                    self.tree.push(leaf_hash(text.as_bytes()));
                }
                Frame::Head { id, note } => {
                    let claims = format!("{}/claims", self.key.name());
                    let head = match self.path {
                        "/claims/stream" => open_head(note.as_bytes(), &self.key.as_name(&claims), &claims),
                        _ => open_head(note.as_bytes(), &self.key, SUMDB_ORIGIN),
                    };
                    let head = head.expect("a head");
                    assert_eq!((head.size.get(), id + 1), (self.size(), self.size()), "it covers what came");
                    assert_eq!(head.root, self.tree.root(), "the entries are those that were signed");
                    self.head = Some(head);
                }
                Frame::End | Frame::Cut => return false,
            }
        }
        true
    }
}

#[test]
fn cut_at_any_byte_and_resumed_a_stream_is_the_log() {
    let modules = Modules::start();
    let setup = Setup::empty(&modules);
    fill(&setup);
    let node = setup.start();
    let mut seed = std::process::id().into();
    for path in ["/tlog/stream", "/claims/stream"] {
        for _ in 0..5 {
            let (mut follower, mut cuts) = (Follower::new(&node, path), 0);
            loop {
                let mut stream = follower.connect(&node, 400 + random(&mut seed) % 40_000).expect("a stream");
                if follower.read(&mut stream, ENTRIES) {
                    break;
                }
                cuts += 1;
            }
            assert!(cuts > 3, "{cuts}");
        }
        let position = |headers: &str, query: &str| {
            Sse::open(&node.address, &format!("{path}{query}"), headers, usize::MAX).expect("an answer").status
        };
        assert_eq!(position(&format!("Last-Event-ID: {}\r\n", ENTRIES - 1), ""), 200);
        assert_eq!(position(&format!("Last-Event-ID: {ENTRIES}\r\n"), "?from=0"), 409);
        assert_eq!(position("", &format!("?from={ENTRIES}")), 200);
        assert_eq!(position("", &format!("?from={}", ENTRIES + 1)), 409);
        assert_eq!(position("Last-Event-ID: 01\r\n", ""), 400);
        assert_eq!(position("Last-Event-ID:\r\n", ""), 200);
        assert_eq!(node.send(&format!("HEAD {path}"), "", "").status, 405);
    }
}

#[test]
fn a_reader_of_a_node_that_is_killed_again_and_again_misses_nothing() {
    let modules = Modules::start();
    let setup = Setup::warm(&modules);
    let mut node = setup.start();
    let mut follower = Follower::new(&node, "/claims/stream");
    for round in 0..4 {
        let mut stream = follower.connect(&node, usize::MAX).expect("a stream");
        for n in 0..3 {
            // Refused at once, which is a claim, while the reader is connected.
            let version = format!("v1.{round}.{n}");
            let module = Module::command("stream.example/x", &version);
            modules.publish(&module.file("go.mod", "module stream.example/x\n\ngo 1.99\n"));
            assert_eq!(node.lookup(&spec(&format!("stream.example/x@{version}"))).status, 404);
        }
        let size = node.claims();
        assert!(follower.read(&mut stream, size), "the log grows while the reader is connected");
        assert_eq!(size, (round + 1) * 3);
        node.kill();
        assert!(!follower.read(&mut stream, size + 1), "the connection breaks");
        node = setup.start();
    }
    let mut fresh = Follower::new(&node, "/claims/stream");
    let mut stream = fresh.connect(&node, usize::MAX).expect("a stream");
    assert!(fresh.read(&mut stream, follower.verified()));
    assert_eq!(fresh.head, follower.head);
}

#[test]
fn subnets_have_so_many_streams_and_a_stop_ends_them() {
    let modules = Modules::start();
    let setup = Setup::empty(&modules)
        .with("trusted-proxies = [\"127.0.0.0/8\"]\n[limits]\nmax-streams = 8\nmax-streams-per-subnet = 2\n");
    fill(&setup);
    let node = setup.start();
    let from = |client: &str| {
        let header = format!("X-Forwarded-For: {client}\r\n");
        Sse::open(&node.address, "/tlog/stream", &header, usize::MAX).expect("an answer")
    };
    let first = from("192.0.2.1");
    let mut open = vec![from("192.0.2.2")];
    assert_eq!(from("192.0.2.3").status, 503);
    let refused = node.send("GET /tlog/stream", "X-Forwarded-For: 192.0.2.3\r\n", "");
    assert!(refused.header("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok()), "{}", refused.head);
    open.push(from("192.0.3.1"));
    drop(first);
    eventually(Duration::from_secs(10), "a place is given back", || {
        let next = from("192.0.2.4");
        let taken = next.status == 200;
        open.extend(taken.then_some(next));
        taken
    });
    // The proxy itself has no limit but that of all.
    let rest: Vec<Sse> =
        (0..5).map(|_| Sse::open(&node.address, "/tlog/stream", "", usize::MAX).expect("it")).collect();
    assert!(rest.iter().all(|stream| stream.status == 200));
    assert_eq!(from("198.51.100.1").status, 503, "all places are taken");
    open.extend(rest);
    // One that takes nothing and has much to take does not hold up the stop either.
    drop(open.pop());
    let mut stalled = TcpStream::connect(&node.address).expect("a connection");
    std::io::Write::write_all(&mut stalled, b"GET /claims/stream?from=0 HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
    let (code, took) = node.terminate();
    assert_eq!(code, Some(0), "{}", setup.log());
    assert!(took < Duration::from_secs(10), "{took:?}");
    for stream in &mut open {
        let end = std::iter::repeat_with(|| stream.next()).find(|frame| matches!(frame, Frame::End | Frame::Cut));
        assert_eq!(end, Some(Frame::End), "it ends in order");
    }
}

#[test]
fn a_stream_has_a_heartbeat_and_ends_of_age() {
    let modules = Modules::start();
    let setup = Setup::empty(&modules).with("stream-max-age = \"1m\"\n");
    fill(&setup);
    let node = setup.start();
    let began = Instant::now();
    let path = format!("/tlog/stream?from={}", ENTRIES - 1);
    let mut stream = Sse::open(&node.address, &path, "", usize::MAX).expect("a stream");
    let mut comments = Vec::new();
    loop {
        match stream.next() {
            Frame::Comment => comments.push(began.elapsed().as_secs()),
            Frame::End => break,
            Frame::Cut => panic!("cut after {:?}", began.elapsed()),
            Frame::Entry { .. } | Frame::Head { .. } => {}
        }
    }
    let lived = began.elapsed();
    assert!(lived > Duration::from_secs(47) && lived < Duration::from_secs(61), "{lived:?}");
    assert_eq!(comments[0], 0, "one at once");
    assert!(comments.len() >= 4, "every 15 s: {comments:?}");
}

fn random(seed: &mut u64) -> usize {
    // Numbers of Knuth's MMIX generator; only that they differ matters.
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*seed >> 33).expect("31 bits")
}
