//! A node that is killed at random moments, again and again, while it builds and appends.
//!
//! After each restart `sumpeer check` finds nothing wrong, and every head that was ever served is a part of the log as
//! it is now: nothing that anyone was told is ever taken back.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};
use sumpeer::tlog::parse_lookup;

use crate::world::{Heads, Module, Modules, Node, Setup, is_consistent, request, spec};

/// How often the node is killed.
const KILLS: u32 = 50;
/// The latest moment after it listens, in milliseconds. A small build takes about a second.
const LATEST_MS: u64 = 2000;
/// Who asks for builds at the same time.
const CLIENTS: u32 = 4;

/// What a node has told anyone.
#[derive(Default)]
struct Told {
    heads: Vec<Heads>,
    /// Record texts by number.
    records: BTreeMap<u64, String>,
}

#[test]
fn nothing_told_is_ever_taken_back() {
    let seed = seed();
    eprintln!("SUMPEER_TEST_SEED={seed} runs this again");
    let modules = Modules::start();
    let setup = Setup::warm(&modules).with("max-builds = 2\n");
    let told = Mutex::new(Told::default());
    let next = AtomicU32::new(0);
    for kill in 0..KILLS {
        let node = setup.start();
        check(&setup, &node, &told, kill);
        let delay = Duration::from_millis(random(seed, kill) % LATEST_MS);
        let end = Instant::now() + delay;
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| ask(&modules, &node, &told, &next, end));
            }
            scope.spawn(|| watch(&node, &told, end));
            std::thread::sleep(delay);
            let status = std::process::Command::new("kill").args(["-9", &node.id().to_string()]).status();
            assert!(status.expect("kill").success());
        });
    }
    let node = setup.start();
    check(&setup, &node, &told, KILLS);
    // What was under way may be asked for again, as if nothing had been.
    let again = spec("crash.example/x@v1.0.0");
    assert_eq!(node.lookup(&again).status, 200);
    let told = told.into_inner().expect("no panic");
    eprintln!(
        "{KILLS} kills: {} claims, {} records, {} heads seen, {} records told",
        node.claims(),
        node.records(),
        told.heads.len(),
        told.records.len()
    );
    assert!(node.claims() >= 10, "it got something done: {} claims", node.claims());
}

/// Asks for one new version after the other, until the node is gone.
fn ask(modules: &Modules, node: &Node, told: &Mutex<Told>, next: &AtomicU32, end: Instant) {
    while Instant::now() < end {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let version = format!("v1.0.{number}");
        let module = Module::command("crash.example/x", &version);
        // Most are refused at once, which appends faster than building does.
        let module = match number % 4 {
            0 => module,
            _ => module.file("go.mod", "module crash.example/x\n\ngo 1.99\n"),
        };
        modules.publish(&module);
        let line = format!("GET /tlog/lookup/{}", spec(&format!("crash.example/x@{version}")));
        let Ok(answer) = request(&node.address, &line, "", "", Duration::from_secs(30)) else { return };
        if answer.status == 200 {
            let (number, record, _) = parse_lookup(&answer.body).expect("a lookup's answer");
            told.lock().expect("no panic").records.insert(number, record.to_owned());
        }
    }
}

/// Fetches heads until the node is gone.
fn watch(node: &Node, told: &Mutex<Told>, end: Instant) {
    while Instant::now() < end {
        // An answer that was cut is none.
        let Some(heads) = Heads::of(node) else { return };
        told.lock().expect("no panic").note(heads);
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// All is well after the `kill`th kill.
fn check(setup: &Setup, node: &Node, told: &Mutex<Told>, kill: u32) {
    let checked = setup.check();
    let report = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "after kill {kill}: {report}\n{}", setup.log());
    let now = Heads::of(node).expect("it runs");
    let mut told = told.lock().expect("no panic");
    assert!(is_consistent(node, &now, &told.heads), "after kill {kill}: {now:?} does not continue {:?}", told.heads);
    for (number, record) in &told.records {
        let answer = node.get(&format!("/api/v1/records/{number}"));
        let answer: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!(answer["record"], *record, "after kill {kill}");
    }
    told.note(now);
}

impl Told {
    fn note(&mut self, heads: Heads) {
        let known = |old: &Heads| old.accepted == heads.accepted && old.claims == heads.claims;
        if !self.heads.iter().rev().any(known) {
            self.heads.push(heads);
        }
    }
}

/// What chance begins with: `SUMPEER_TEST_SEED`, or the time.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("SUMPEER_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs()))
}

/// The chance of a number.
pub(crate) fn random(seed: u64, number: u32) -> u64 {
    let digest = Sha256::digest(format!("{seed} {number}"));
    u64::from_le_bytes(digest[..8].try_into().expect("8 bytes"))
}
