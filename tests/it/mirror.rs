//! Downloads from a node that builds nothing: fetched from its voters, whatever these make of them.
//!
//! Voters are small nodes with made-up programs; between them and the node under test stands something that can change
//! every byte of a download.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sumpeer::binaries;
use sumpeer::model::{Finding, Spec, Sum};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::small::Small;
use crate::world::{Act, Modules, Node, Place, Setup, Tamper, announced, eventually, program, scratch, whole, words};

/// What is made of a download.
type Deed = Box<dyn Fn(&[u8]) -> Vec<Act> + Send>;

/// For what takes a moment, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Voters that keep what they claim, each behind a [`Tamper`], and a node that only verifies.
pub(crate) struct Mirrored {
    pub(crate) setup: Setup,
    /// The node's, for others to follow it.
    place: Place,
    voters: Vec<Voter>,
    _stop: DropGuard,
    runtime: Runtime,
}

struct Voter {
    small: Small,
    tamper: Tamper,
    folder: TempDir,
}

/// A program as it was published.
pub(crate) struct Published {
    pub(crate) spec: String,
    sum: Sum,
    /// Its address.
    pub(crate) path: String,
    pub(crate) plain: Vec<u8>,
}

impl Mirrored {
    /// With voters of these names. `more` is of the top level of the configuration.
    pub(crate) fn new(names: &[&str], more: &str) -> Mirrored {
        let runtime = Runtime::new().expect("a runtime");
        let stop = CancellationToken::new();
        let mut places = Vec::new();
        let mut voters = Vec::new();
        for name in names {
            let place = Place::new(name);
            let folder = scratch();
            let small = runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind(&place.address).await.expect("free");
                let made = Small::new(folder.path(), &place.key, listener, Vec::new(), &stop).await;
                let (small, tasks) = made.expect("a small node");
                runtime.spawn(tasks.run());
                small
            });
            let tamper = Tamper::start(runtime.handle(), place.address.clone());
            places.push(Place { key: place.key.clone(), address: tamper.address.to_string() });
            voters.push(Voter { small, tamper, folder });
        }
        let place = Place::new("v.example");
        let setup = place.verifies(&Modules::start(), more, &places.iter().collect::<Vec<_>>());
        Mirrored { setup: setup.alone(), place, voters, _stop: stop.drop_guard(), runtime }
    }

    /// Has all voters claim a program.
    pub(crate) fn publish(&self, name: &str, plain: Vec<u8>) -> Published {
        let spec = format!("{name}.example/x@v1.0.0/linux-amd64-go1.27.1/");
        let parsed: Spec = spec.parse().expect("a spec");
        let sum = Sum::of_sha256(&Sha256::digest(&plain).into());
        for voter in &self.voters {
            let file = voter.folder.path().join("program");
            fs::write(&file, &plain).expect("written");
            let finding = Finding::Built { size: plain.len() as u64, sum };
            self.runtime.block_on(voter.small.find(parsed.clone(), finding, Some(&file))).expect("claimed");
        }
        let path = format!("/{spec}{sum}/{}", parsed.file_name());
        Published { spec, sum, path, plain }
    }

    /// Where the node keeps a program.
    fn kept(&self, published: &Published) -> PathBuf {
        binaries::path(&self.setup.data.join("binaries"), &published.sum)
    }

    /// How many downloads its voters were asked for.
    pub(crate) fn downloads(&self) -> usize {
        self.voters.iter().map(|voter| voter.tamper.downloads()).sum()
    }

    /// Nothing half is left, and all that is there is right.
    pub(crate) fn is_whole(&self) {
        let staged = fs::read_dir(self.setup.data.join("staging")).expect("a folder").count();
        assert_eq!(staged, 0, "something is left in staging");
        let check = self.setup.check();
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    }
}

/// A program of so many bytes: some of it can be compressed, none of it twice.
pub(crate) fn made(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut plain = Vec::with_capacity(size + 16);
    while plain.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        plain.extend_from_slice(&state.to_le_bytes()[..5]);
        plain.extend_from_slice(b"\0\0\0run");
    }
    plain.truncate(size);
    plain
}

fn gz(plain: &[u8]) -> Vec<u8> {
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(plain).expect("in memory");
    gz.finish().expect("in memory")
}

fn unpack(gz: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    GzDecoder::new(gz).read_to_end(&mut plain).expect("a gzip");
    plain
}

/// The same bytes but for one, that far from the start.
fn flip(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 0x20;
    bytes
}

/// Has the record accepted, so that only the download is left to ask for.
fn accept(node: &Node, published: &Published) {
    let answer = node.lookup(&published.spec);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn corrupt_bytes_never_reach_a_client() {
    let world = Mirrored::new(&["a.example"], "");
    let node = world.setup.start();
    let published = world.publish("corrupt", made(60_000, 1));
    accept(&node, &published);
    let (tamper, plain) = (&world.voters[0].tamper, &published.plain);
    let packed = node.get(&format!("{}.gz", published.path)).body.len();
    fs::remove_file(world.kept(&published)).expect("kept");
    let (mut tried, mut passed) = (0, 0);
    let mut try_each = |deed: Deed| {
        tamper.does(deed);
        let answer = node.get(&published.path);
        let right = answer.status == 200 && answer.body == *plain;
        assert!(answer.status == 503 || right, "{} with {} bytes", answer.status, answer.body.len());
        if right {
            passed += 1;
            fs::remove_file(world.kept(&published)).expect("kept");
        } else {
            assert!(answer.text().contains("a.example") && !world.kept(&published).exists(), "{}", answer.text());
        }
        tried += 1;
    };
    let around = |len: usize| (0..24).chain(len / 2..len / 2 + 12).chain(len - 24..len);
    for at in around(packed) {
        try_each(Box::new(move |right| whole(&flip(right, at))));
        try_each(Box::new(move |right| whole(&flip(right, right.len() - 1 - at))));
    }
    for at in around(plain.len()) {
        let other = gz(&flip(plain, at));
        try_each(Box::new(move |_| whole(&other)));
    }
    for len in around(packed) {
        try_each(Box::new(move |right| whole(&right[..len])));
        try_each(Box::new(move |right| announced(right.len() as u64, &right[..len])));
    }
    for tail in [&b"x"[..], &[0], &packed.to_le_bytes(), &gz(b"more")] {
        let tail = tail.to_vec();
        try_each(Box::new(move |right| whole(&[right, &tail].concat())));
    }
    for other in [Vec::new(), gz(b""), gz(&plain[1..]), gz(&[plain, &b"x"[..]].concat()), plain.clone()] {
        try_each(Box::new(move |_| whole(&other)));
    }
    // When and by whom it was packed, twice six bytes here, and what fills the last packed byte is of no program.
    assert!(passed <= 14, "{passed}");
    assert!(tried > 200 && tamper.downloads() == tried + 1, "{tried}");
    // All of it is one divergence, with the bytes that came first.
    let told = node.json("/api/v1/divergences");
    assert_eq!(told["items"].as_array().map(Vec::len), Some(1), "{told}");
    assert_eq!(fs::read_dir(world.setup.data.join("evidence")).expect("a folder").count(), 1);
    tamper.does(whole);
    let answer = node.get(&published.path);
    assert!(answer.status == 200 && answer.body == *plain);
    world.is_whole();
}

#[test]
fn the_next_voter_is_asked_and_the_bytes_are_kept_as_evidence() {
    let world = Mirrored::new(&["honest.example", "corrupt.example"], "");
    let node = world.setup.start();
    let published = world.publish("two", made(300_000, 2));
    accept(&node, &published);
    let served = gz(&flip(&published.plain, 200_000));
    let wrong = served.clone();
    world.voters[1].tamper.does(move |_| whole(&wrong));
    // Either may be asked first.
    while world.voters[1].tamper.downloads() == 0 {
        let answer = node.get(&published.path);
        assert!(answer.status == 200 && answer.body == published.plain, "{}", answer.status);
        fs::remove_file(world.kept(&published)).expect("kept");
    }

    let told = node.json("/api/v1/divergences/1");
    assert_eq!(
        (&told["kind"], &told["state"], &told["spec"], &told["party"]),
        (&json!("mirror-mismatch"), &json!("open"), &json!(published.spec), &json!("corrupt.example"))
    );
    let alerts = node.json("/api/v1/alerts")["items"].clone();
    let alert = alerts.as_array().expect("a list").iter().find(|alert| alert["kind"] == "mirror-mismatch");
    let alert = alert.unwrap_or_else(|| panic!("{alerts}"));
    assert_eq!((&alert["state"], &alert["party"]), (&json!("open"), &json!("corrupt.example")), "{alert}");
    let sha256 = HEXLOWER.encode(&Sha256::digest(&served));
    let received = &told["received"];
    assert_eq!((&received["sha256"], &received["size"]), (&json!(sha256), &json!(served.len())), "{told}");
    let kept = world.setup.data.join("evidence").join(&sha256);
    assert!(fs::read(&kept).expect("kept") == served);

    let page = node.send("GET /divergences/1", "Accept: text/html\r\n", "").text();
    for part in ["corrupt.example", &sha256, "Other bytes than its log names"] {
        assert!(page.contains(part), "{part} is in: {page}");
    }
    let run = |line: &str| words(program().args(line.split('|')).arg("--config").arg(world.setup.file()));
    let (code, shown, _) = run("divergences|show|1");
    assert!(code == Some(3) && shown.contains(&sha256) && shown.contains("corrupt.example"), "{shown}");

    let file = world.setup.data.with_extension("evidence");
    fs::write(&file, &node.get("/api/v1/divergences/1/evidence").body).expect("written");
    let vkey = Place::new("corrupt.example").vkey();
    let (code, out, said) = words(program().args(["evidence", "verify", "--key", &vkey]).arg(&file));
    assert!(code == Some(4) && out.starts_with("shown mirror-mismatch"), "{code:?} {out}{said}");
    let text = fs::read_to_string(&file).expect("text").replace(&sha256, &HEXLOWER.encode(&[7; 32]));
    fs::write(&file, text).expect("written");
    assert_eq!(words(program().args(["evidence", "verify"]).arg(&file)).0, Some(3), "it was tampered with");

    assert_eq!(run("divergences|resolve|1|--note|its disk was broken").0, Some(0));
    assert_eq!(node.json("/api/v1/divergences/1")["state"], "resolved");
    assert_eq!(node.lookup(&published.spec).status, 200, "the record stands");
    assert!(node.get(&published.path).body == published.plain);
    world.is_whole();
}

#[test]
fn a_voter_that_hangs_or_floods_is_passed_over() {
    let world = Mirrored::new(&["good.example", "bad.example"], "");
    let node = world.setup.start();
    let deeds: [(&str, Deed); 5] = [
        ("hang", Box::new(|_| vec![Act::Hold])),
        ("huge", Box::new(|_| [announced(10 << 30, b""), vec![Act::Flood]].concat())),
        ("endless", Box::new(|_| vec![Act::Say(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec()), Act::Flood])),
        ("short", Box::new(|right| announced(right.len() as u64 + 1, right))),
        (
            "moved",
            Box::new(|_| vec![Act::Say(b"HTTP/1.1 302 Found\r\nlocation: /\r\nconnection: close\r\n\r\n".to_vec())]),
        ),
    ];
    for (name, deed) in deeds {
        let published = world.publish(name, made(100_000, 3));
        accept(&node, &published);
        world.voters[1].tamper.does(deed);
        let before = world.voters[1].tamper.downloads();
        let began = Instant::now();
        while world.voters[1].tamper.downloads() == before {
            let answer = node.get(&published.path);
            assert!(answer.status == 200 && answer.body == published.plain, "{name}: {}", answer.text());
            fs::remove_file(world.kept(&published)).expect("kept");
        }
        assert!(node.get(&published.path).body == published.plain);
        assert!(began.elapsed() < PATIENCE, "{name} took {:?}", began.elapsed());
    }
    assert_eq!(node.json("/api/v1/divergences")["items"], json!([]), "none of it proves anything");
    world.is_whole();
}

#[test]
fn who_asks_at_once_shares_one_fetch_and_what_was_evicted_is_fetched_again() {
    let limits = "[build-limits]\nbinary = \"1MiB\"\n";
    let mut world = Mirrored::new(&["a.example", "b.example"], "binary-cache = \"1MiB\"\n");
    world.setup = world.setup.with(limits);
    let node = world.setup.start();
    let [first, second] = [("first", 4), ("second", 5)].map(|(name, seed)| world.publish(name, made(1_000_000, seed)));
    accept(&node, &first);
    accept(&node, &second);
    // Slow enough that all of them come before it is there.
    for voter in &world.voters {
        voter.tamper.does(|right| {
            let slow = Act::Drip(right[..40].to_vec());
            [announced(right.len() as u64, b""), vec![slow, Act::Say(right[40..].to_vec())]].concat()
        });
    }
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let answer = node.get(&first.path);
                assert!(answer.status == 200 && answer.body == first.plain, "{}", answer.text());
            });
        }
    });
    assert_eq!(world.downloads(), 1);

    let packed = node.get(&format!("{}.gz", first.path));
    assert_eq!((packed.status, packed.header("content-type").as_deref()), (200, Some("application/gzip")));
    assert!(unpack(&packed.body) == first.plain);
    assert_eq!(packed.header("etag"), Some(format!("\"{}\"", HEXLOWER.encode(&Sha256::digest(&packed.body)))));
    let part = node.send(&format!("GET {}", first.path), "Range: bytes=999990-\r\n", "");
    assert!(part.status == 206 && part.body == first.plain[999_990..], "{}", part.head);
    let part = node.send(&format!("GET {}.gz", first.path), "Range: bytes=100-199\r\n", "");
    assert!(part.status == 206 && part.body == packed.body[100..200], "{}", part.head);
    assert_eq!(world.downloads(), 1, "all from here");

    // There is room for one of them.
    assert!(node.get(&second.path).body == second.plain);
    assert!(world.kept(&second).exists() && !world.kept(&first).exists());
    assert!(node.get(&first.path).body == first.plain);
    assert!(world.kept(&first).exists() && !world.kept(&second).exists());
    assert_eq!(world.downloads(), 3);

    let large = world.publish("large", made(1_200_000, 6));
    accept(&node, &large);
    let answer = node.get(&large.path);
    assert!(answer.status == 503 && answer.text().contains("binary-cache"), "{}", answer.text());
    assert_eq!(world.downloads(), 3);
    world.is_whole();
}

#[test]
fn a_node_killed_while_it_fetches_keeps_nothing_half() {
    let world = Mirrored::new(&["a.example"], "");
    let node = world.setup.start();
    let published = world.publish("killed", made(500_000, 7));
    accept(&node, &published);
    let tamper = &world.voters[0].tamper;
    tamper.does(|right| [announced(right.len() as u64, &right[..right.len() / 2]), vec![Act::Hold]].concat());
    let staging = world.setup.data.join("staging");
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let address = node.address.clone();
            crate::world::request(&address, &format!("GET {}", published.path), "", "", PATIENCE)
        });
        eventually(PATIENCE, "half of it is here", || {
            let files = fs::read_dir(&staging).expect("a folder");
            files.filter_map(|file| file.ok()?.metadata().ok()).any(|file| file.len() > 100_000)
        });
        let killed = std::process::Command::new("kill").args(["-9", &node.id().to_string()]).status();
        assert!(killed.expect("kill").success());
        assert!(asking.join().expect("no panic").is_err(), "it got no answer");
    });
    drop(node);
    tamper.does(whole);
    let node = world.setup.start();
    assert_eq!(fs::read_dir(&staging).expect("a folder").count(), 0);
    assert!(!world.kept(&published).exists());
    let answer = node.get(&published.path);
    assert!(answer.status == 200 && answer.body == published.plain, "{}", answer.status);
    world.is_whole();
}

#[test]
fn who_follows_a_mirror_gets_what_it_fetches() {
    let world = Mirrored::new(&["a.example"], "");
    let node = world.setup.start();
    let second = Place::new("w.example").verifies(&Modules::start(), "", &[&world.place]).alone();
    let follower = second.start();
    let published = world.publish("chain", made(200_000, 9));
    accept(&follower, &published);
    assert!(!world.kept(&published).exists());
    let answer = follower.get(&published.path);
    assert!(answer.status == 200 && answer.body == published.plain, "{}\n{}", answer.text(), second.log());
    assert!(world.kept(&published).exists() && node.get(&published.path).body == published.plain);
    assert_eq!(world.downloads(), 1);
    world.is_whole();
}

#[test]
fn without_go_and_without_a_module_proxy_names_are_exact() {
    let world = Mirrored::new(&["a.example"], "");
    let node = world.setup.start();
    let published = world.publish("alone", made(10_000, 8));
    accept(&node, &published);
    assert!(node.get(&published.path).body == published.plain);
    for path in [
        "/alone.example/x@latest/linux-amd64-go1.27.1/",
        "/alone.example/x@v1.0.0/linux-amd64-latest/",
        "/tlog/lookup/alone.example/x@latest/linux-amd64-go1.27.1/",
        "/alone.example/x",
    ] {
        let answer = node.get(path);
        assert!(answer.status == 404 && answer.text().contains("asks no module proxy"), "{path}: {}", answer.text());
    }
    for path in ["/", &format!("/{}", published.spec)[..], "/divergences", "/api/v1/node", "/readyz"] {
        assert!(node.send(&format!("GET {path}"), "Accept: text/html\r\n", "").status < 400, "{path}");
    }
    assert_eq!(node.terminate().0, Some(0));
}
