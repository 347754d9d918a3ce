//! Conditions that a person is told of: silent peers, a log of our own in doubt, rings; raised once, over restarts too,
//! and ended when they are over.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sumpeer::model::{AlertKind, Finding, Sum};
use sumpeer::store::{AlertRow, ReadOnly};
use sumpeer::tlog::{Hash, Head, SUMDB_ORIGIN, SignerKey, TreeSize, sign_note};
use tokio_util::sync::CancellationToken;

use crate::small::Small;
use crate::world::{Module, Modules, Place, Setup, eventually, scratch, spec};

/// Some polls on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a peer may be silent here.
const SILENCE: Duration = Duration::from_secs(3);

const ALERTS: &str = "[alerts]\npeer-silence = \"3s\"\n";

/// A peer with an empty log, as simple as can be: it answers or it does not, and shows what heads it is told to.
struct Puppet {
    state: Arc<Mutex<State>>,
}

struct State {
    key: SignerKey,
    answers: bool,
    /// What it shows of others: verifier key and head.
    shows: Vec<(String, String)>,
    /// How often it was asked.
    asked: usize,
}

impl Puppet {
    fn at(place: &Place) -> Puppet {
        let listener = TcpListener::bind(&place.address).expect("a free address");
        let state = State { key: place.key.clone(), answers: true, shows: Vec::new(), asked: 0 };
        let puppet = Puppet { state: Arc::new(Mutex::new(state)) };
        let state = puppet.state.clone();
        std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| drop(serve(stream, &state))));
        puppet
    }

    fn answer(&self, answers: bool) {
        self.state.lock().expect("a state").answers = answers;
    }

    fn show(&self, vkey: String, head: String) {
        self.state.lock().expect("a state").shows.push((vkey, head));
    }

    fn asked(&self) -> usize {
        self.state.lock().expect("a state").asked
    }
}

/// One request on one connection.
fn serve(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let mut state = state.lock().expect("a state");
    state.asked += 1;
    if !state.answers {
        return Ok(());
    }
    let (kind, body) = match path.split('?').next().unwrap_or_default() {
        "/api/v1/node" => {
            let vkey = state.key.verifier().to_string();
            let node = serde_json::json!({
                "name": "puppet", "vkey": vkey, "mode": "verify-only", "size": 0, "claims": 0, "voters": [],
            });
            ("application/json", node.to_string())
        }
        "/api/v1/peers" => {
            let item = |(vkey, head): &(String, String)| serde_json::json!({"vkey": vkey, "logs": [{"head": head}]});
            let items: Vec<_> = state.shows.iter().map(item).collect();
            ("application/json", serde_json::json!({"items": items, "next": null}).to_string())
        }
        "/tlog/latest" => {
            let root = sumpeer::tlog::CompactRange::new().root();
            ("text/plain; charset=UTF-8", head_of(&state.key, 0, root))
        }
        _ => return write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    };
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// A signed head of an accepted log.
fn head_of(key: &SignerKey, size: u64, root: Hash) -> String {
    let head = Head { origin: SUMDB_ORIGIN.to_owned(), size: TreeSize::new(size).expect("small"), root };
    sign_note(&head.to_text(), &[key])
}

/// The alerts of a kind that a node has stored, in order.
fn alerts(setup: &Setup, kind: AlertKind) -> Vec<AlertRow> {
    let rows = ReadOnly::open(&setup.data).and_then(|store| store.read(|reader| reader.alerts(0, false, 1000)));
    rows.expect("alerts").into_iter().filter(|row| row.kind == kind).collect()
}

/// `+b.example` is told, `-b.example` was; `*` is about all of them.
fn silences(setup: &Setup) -> String {
    let shown = |row: AlertRow| {
        let name = row.party.as_deref().map_or("*", |vkey| vkey.split('+').next().expect("a name")).to_owned();
        format!("{}{name}", if row.open { '+' } else { '-' })
    };
    alerts(setup, AlertKind::PeerSilent).into_iter().map(shown).collect::<Vec<_>>().join(" ")
}

fn becomes(setup: &Setup, wanted: &str) {
    eventually(PATIENCE, wanted, || silences(setup) == wanted);
}

#[test]
fn a_silent_peer_is_told_once_over_restarts_and_so_is_its_return() {
    let modules = Modules::start();
    let [a, b] = ["a.example", "b.example"].map(Place::new);
    let setup = a.verifies(&modules, "", &[&b]).with(ALERTS);
    let node = setup.start();
    becomes(&setup, "+b.example");
    let row = alerts(&setup, AlertKind::PeerSilent).remove(0);
    let summary = row.summary.expect("a sentence");
    assert!(summary.starts_with("b.example has not been reached since") && summary.contains("refused"), "{summary}");
    assert_eq!(node.terminate().0, Some(0));

    // Longer than it may be silent, which is the only way to see that nothing is told.
    let node = setup.start();
    std::thread::sleep(SILENCE * 2);
    assert_eq!(silences(&setup), "+b.example");
    assert_eq!(node.terminate().0, Some(0));

    let puppet = Puppet::at(&b);
    let node = setup.start();
    becomes(&setup, "-b.example");
    // As long as it answers nothing is told, however little it has to say.
    std::thread::sleep(SILENCE * 2);
    assert_eq!(silences(&setup), "-b.example");
    puppet.answer(false);
    let since = Instant::now();
    becomes(&setup, "-b.example +b.example");
    assert!(since.elapsed() > SILENCE - Duration::from_secs(2), "told after {:?}", since.elapsed());
    puppet.answer(true);
    becomes(&setup, "-b.example -b.example");
    puppet.answer(false);
    becomes(&setup, "-b.example -b.example +b.example");
    assert_eq!(node.terminate().0, Some(0));
}

#[test]
fn a_network_of_our_own_that_is_down_is_one_thing() {
    let modules = Modules::start();
    let [a, b, c, d] = ["a.example", "b.example", "c.example", "d.example"].map(Place::new);
    let setup = a.verifies(&modules, "", &[&b, &c, &d]).with(ALERTS);
    let node = setup.start();
    becomes(&setup, "+*");
    let row = alerts(&setup, AlertKind::PeerSilent).remove(0);
    assert!(row.summary.as_deref().is_some_and(|summary| summary.contains("None of the 3 peers")), "{row:?}");
    let puppets = [Puppet::at(&b), Puppet::at(&c)];
    becomes(&setup, "-* +d.example");
    puppets.iter().for_each(|puppet| puppet.answer(false));
    becomes(&setup, "-* +d.example +*");
    assert_eq!(node.terminate().0, Some(0));

    // Who is no peer any more is waited for by nobody.
    let other = a.verifies(&modules, "", &[&b]).with(ALERTS);
    std::fs::remove_dir_all(&other.data).expect("removed");
    copy(&setup.data, &other.data);
    puppets[0].answer(true);
    let node = other.start();
    becomes(&other, "-* -d.example -*");
    assert_eq!(node.terminate().0, Some(0));
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let done = std::process::Command::new("cp").arg("-a").args([from, to]).status().expect("cp");
    assert!(done.success());
}

#[test]
fn a_head_of_ours_that_our_log_does_not_have_is_told_and_ends_all_signing() {
    let modules = Modules::start();
    let [a, b] = ["a.example", "b.example"].map(Place::new);
    let (watch, beats) = heartbeats();
    let heartbeat = format!("[alerts.heartbeat]\nurl = \"http://{watch}/beat\"\nevery = \"1s\"\n");
    let setup = a.verifies(&modules, "", &[&b]).with(ALERTS).with(&heartbeat);
    let puppet = Puppet::at(&b);
    let node = setup.start();
    eventually(PATIENCE, "the peer is asked", || puppet.asked() > 3);
    assert_eq!(node.get("/readyz").status, 200);
    eventually(PATIENCE, "the heart beats", || beats.load(Ordering::Relaxed) > 3);
    assert!(alerts(&setup, AlertKind::OwnLog).is_empty());
    puppet.show(a.vkey(), head_of(&a.key, 5, Hash([7; 32])));
    eventually(PATIENCE, "it is told", || !alerts(&setup, AlertKind::OwnLog).is_empty());
    assert_eq!(node.get("/readyz").status, 503);
    // The last one may have been on its way.
    std::thread::sleep(Duration::from_secs(1));
    let last = beats.load(Ordering::Relaxed);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(beats.load(Ordering::Relaxed), last, "the heart stands still");
    assert_eq!(node.terminate().0, Some(0));
    // Once for good, whatever is seen again.
    let node = setup.start();
    let asked = puppet.asked();
    eventually(PATIENCE, "the peer is asked again", || puppet.asked() > asked + 6);
    let rows = alerts(&setup, AlertKind::OwnLog);
    assert!(rows.len() == 1 && rows[0].open && rows[0].party == Some(a.vkey()), "{rows:?}");
    assert_eq!(node.get("/readyz").status, 503);
    assert_eq!((beats.load(Ordering::Relaxed), node.terminate().0), (last, Some(0)));
    assert_eq!(setup.log().matches("no heartbeat:").count(), 2, "once a run: {}", setup.log());
}

/// Counts what asks it, and leads everybody elsewhere at first, which is no answer.
fn heartbeats() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let beats = Arc::new(AtomicUsize::new(0));
    let count = beats.clone();
    std::thread::spawn(move || {
        for (number, mut stream) in listener.incoming().flatten().enumerate() {
            let mut head = [0; 1024];
            let read = stream.read(&mut head).unwrap_or(0);
            assert!(head[..read].starts_with(b"GET /beat HTTP/1.1\r\n"), "{}", String::from_utf8_lossy(&head));
            let status = if number == 0 { "302 Found\r\nLocation: /other" } else { "200 OK" };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            if stream.write_all(answer.as_bytes()).is_ok() && number > 0 {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    (address, beats)
}

#[test]
fn what_a_voter_has_built_and_this_node_cannot_is_told_once() {
    let modules = Modules::start();
    let [own, other] = ["own.example", "other.example"].map(Place::new);
    let main = "package main\n\n// int one(void) { return 1; }\nimport \"C\"\n\nfunc main() { println(C.one()) }\n";
    modules.publish(&Module::command("cgo.example/x", "v1.0.0").file("main.go", main));
    let x = spec("cgo.example/x@v1.0.0");
    let setup = own.builds(&modules, "", &[&other]).with(ALERTS);
    let node = setup.start();
    let (folder, stop) = (scratch(), CancellationToken::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind(&other.address).await.expect("free");
                let small = Small::new(folder.path(), &other.key, listener, Vec::new(), &stop).await;
                let (small, tasks) = small.expect("a small node");
                let finding = Finding::Built { size: 9, sum: Sum::of_sha256(&[7; 32]) };
                small.claim(x.parse().expect("a spec"), finding).await.expect("claimed");
                tasks.run().await.expect("it runs until it is stopped");
            });
        });
        let _stop = stop.clone().drop_guard();
        let answer = node.lookup(&x);
        assert_eq!(answer.status, 404, "{}\n{}", answer.text(), setup.log());
        eventually(PATIENCE, "it is told", || !alerts(&setup, AlertKind::CannotBuildHere).is_empty());
        let rows = alerts(&setup, AlertKind::CannotBuildHere);
        assert!(rows.len() == 1 && rows[0].open && rows[0].spec.as_ref() == Some(&x), "{rows:?}");
        let summary = rows[0].summary.as_deref().expect("a sentence");
        assert!(summary.contains("(cgo)") && summary.contains("other.example named a sum"), "{summary}");
        // A mistake of ours that a retry mends would end it; here it is found again, and not told again.
        let _ = node.send(&format!("POST /{x}retry"), "", "");
        eventually(PATIENCE, "it was tried again", || setup.log().matches("build ended").count() >= 2);
        assert_eq!(alerts(&setup, AlertKind::CannotBuildHere).len(), 1);
    });
    assert_eq!(node.terminate().0, Some(0));
}

#[test]
fn a_ring_is_told_once_by_its_names() {
    let modules = Modules::start();
    let [v, w, x] = ["v.example", "w.example", "x.example"].map(Place::new);
    let verifies = |place: &Place, voters: &[&Place]| place.verifies(&modules, "", voters).with(ALERTS);
    let setups = [verifies(&v, &[&w, &x]), verifies(&w, &[&v]), verifies(&x, &[&v])];
    let [first, second, third] = setups.each_ref().map(Setup::start);
    let rings = |setup: &Setup| alerts(setup, AlertKind::Ring);
    let is_told = |rows: &[AlertRow], names: &str| {
        rows.iter().any(|row| {
            row.open && row.summary.as_deref().is_some_and(|summary| summary.ends_with(&format!("{names}.")))
        })
    };
    for (setup, names) in setups.iter().zip(["v.example, w.example", "v.example, w.example", "v.example, x.example"]) {
        eventually(PATIENCE, "the ring is told", || is_told(&rings(setup), names));
    }
    eventually(PATIENCE, "the other one is told", || is_told(&rings(&setups[0]), "v.example, x.example"));
    assert_eq!(rings(&setups[0]).len(), 2);
    assert_eq!(rings(&setups[1]).len(), 1);
    // After a restart all of it is seen again, and nothing is told again.
    assert_eq!(first.terminate().0, Some(0));
    let first = setups[0].start();
    std::thread::sleep(SILENCE * 2);
    assert_eq!(rings(&setups[0]).len(), 2);
    assert!(rings(&setups[0]).iter().all(|row| row.open));
    // The member that closes one of them waits for somebody else: that one is over.
    assert_eq!(third.terminate().0, Some(0));
    let elsewhere = verifies(&x, &[&Place::new("y.example")]);
    let third = elsewhere.start();
    eventually(PATIENCE, "it ends", || rings(&setups[0]).iter().filter(|row| row.open).count() == 1);
    for node in [first, second, third] {
        assert_eq!(node.terminate().0, Some(0));
    }
}
