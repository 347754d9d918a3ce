//! Audits: each entry of an observed peer's log is built again once, whatever happens to the node, and what differs is
//! found.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sumpeer::model::{Claim, Class, Finding, Spec, Sum};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::small::Small;
use crate::world::{
    GO, Module, Modules, Node, Place, Setup, check_tells, eventually, furnish_stub, program, scratch, spec, words,
};

/// A thousand builds on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);
const RECORDS: usize = 1000;
/// How often the node is killed on its way.
const KILLS: usize = 10;

/// Serves the logs of a peer that has made these findings, until it is stopped.
fn serve<'s>(
    scope: &'s std::thread::Scope<'s, '_>,
    place: &'s Place,
    findings: Vec<(String, Finding)>,
    stop: &CancellationToken,
) -> ScopedJoinHandle<'s, ()> {
    let stop = stop.clone();
    scope.spawn(move || {
        let folder = scratch();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::bind(&place.address).await.expect("free");
            let made = Small::new(folder.path(), &place.key, listener, Vec::new(), &stop).await;
            let (small, tasks) = made.expect("a small node");
            for (spec, finding) in findings {
                small.claim(spec.parse().expect("a spec"), finding).await.expect("claimed");
            }
            tasks.run().await.expect("it serves until it is stopped");
        });
    })
}

fn observed(place: &Place) -> String {
    format!("{}vote = false\n", place.as_peer())
}

fn stub_spec(number: usize) -> String {
    spec(&format!("example.com/stub@v1.0.{number}"))
}

/// What the peer says of a package: every hundredth is another sum, and every hundredth cannot be built here.
fn stub_finding(number: usize) -> Finding {
    let program = format!("made of example.com/stub@v1.0.{number}\n");
    let mut hash: [u8; 32] = Sha256::digest(&program).into();
    if number % 100 == 3 {
        hash[0] ^= 1;
    }
    Finding::Built { size: program.len() as u64, sum: Sum::of_sha256(&hash) }
}

/// A go command that notes each package in a file and makes a program of its name.
fn stub(built: &Path) -> String {
    format!(
        "#!/bin/sh\n\
         [ \"$1\" = install ] || exit 0\n\
         for package; do :; done\n\
         echo \"$package\" >> '{}'\n\
         case \"$package\" in *07|*.7) echo \"package example.com/stub is not a main package\" >&2; exit 1;; esac\n\
         /bin/mkdir -p \"$GOPATH/bin\"\n\
         echo \"made of $package\" > \"$GOPATH/bin/stub\"\n",
        built.display()
    )
}

/// How the audit of the one peer stands.
fn coverage(node: &Node) -> Value {
    node.json("/api/v1/audit")["items"][0].clone()
}

fn count(audit: &Value, name: &str) -> usize {
    audit[name].as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or(0)
}

#[test]
fn no_record_is_skipped_or_done_twice_however_often_the_node_is_killed() {
    let peer = Place::new("peer.example");
    let modules = Modules::start();
    let setup = Setup::empty(&modules)
        .with("sandbox = \"none\"\nmax-builds = 2\npoll-interval = \"1s\"\n[audit]\nhistory = true\n")
        .with(&observed(&peer));
    let built = setup.data.with_extension("built");
    fs::write(&built, "").expect("written");
    furnish_stub(&setup.data, &stub(&built));
    let findings = (0..RECORDS).map(|number| (stub_spec(number), stub_finding(number))).collect();
    let stop = CancellationToken::new();
    std::thread::scope(|scope| {
        serve(scope, &peer, findings, &stop);
        let _stop = stop.clone().drop_guard();
        for kill in 1..=KILLS {
            let node = setup.start();
            let done = || {
                let audit = coverage(&node);
                count(&audit, "chosen") - count(&audit, "pending").min(count(&audit, "chosen"))
            };
            eventually(PATIENCE, "it gets on", || done() >= kill * RECORDS / (KILLS + 2));
            assert!(done() < RECORDS, "it is killed while there is something to do");
            let status = Command::new("kill").args(["-9", &node.id().to_string()]).status();
            assert!(status.expect("kill").success());
        }
        let node = setup.start();
        eventually(PATIENCE, "all is built again", || {
            let audit = coverage(&node);
            count(&audit, "chosen") == RECORDS && count(&audit, "pending") == 0
        });
        let audit = coverage(&node);
        let outcomes = ["reproduced", "differs", "cannot_build"].map(|name| count(&audit, name));
        assert_eq!(outcomes, [RECORDS - 20, 10, 10], "{audit}");
        assert_eq!(node.claims(), RECORDS as u64, "each was claimed once");
        assert_eq!(node.json("/api/v1/divergences?limit=100")["items"].as_array().map(Vec::len), Some(10));

        let mut builds: HashMap<String, usize> = HashMap::new();
        let text = fs::read_to_string(&built).expect("written by builds");
        text.lines().for_each(|line| *builds.entry(line.to_owned()).or_default() += 1);
        assert_eq!(builds.len(), RECORDS, "none was skipped");
        let again = text.lines().count() - RECORDS;
        assert!(again <= 2 * KILLS, "only what was under way when it was killed is built again: {again}");

        let (code, out, _) = words(program().arg("audit").arg("--config").arg(setup.file()));
        assert_eq!(code, Some(3), "{out}");
        assert!(out.contains("differs: entry 903 of peer.example, example.com/stub@v1.0.903/"), "{out}");
        let once = words(program().args(["audit", "--once", "--peer", "peer.example", "--config"]).arg(setup.file()));
        assert_eq!(once.0, Some(1));
        assert!(once.2.contains("cannot audit: another node is running on the data directory"), "{}", once.2);
        drop(node);
    });
    let check = setup.check();
    let said = String::from_utf8_lossy(&check.stdout);
    assert!(check.status.success(), "{said}\n{}", setup.log());
    assert!(said.contains("audit of the peer.example's claims log: 1000 of 1000 entries"), "{said}");
    let any = "WHERE key = (SELECT max(key) FROM audit_record)";
    for (damage, finding) in [
        (format!("UPDATE audit_record SET size = size + 1 {any}"), "what is audited of"),
        (format!("DELETE FROM audit_record {any}"), "the counts of the audit"),
        ("UPDATE audit_record SET state = 'reproduced' WHERE state = 'differs'".to_owned(), "own word it is differs"),
        ("UPDATE audit_log SET reproduced = reproduced + 1".to_owned(), "the counts of the audit"),
        ("UPDATE audit_log SET next = next - 1".to_owned(), "entry 999 of the peer.example's claims log is audited"),
        ("UPDATE audit_log SET next = next + 1".to_owned(), "was audited up to entry 1001"),
    ] {
        check_tells(&setup, &damage, finding);
    }
}

/// Runs `sumpeer audit --once` with more arguments: its status, and the states and numbers that it tells.
fn audit(setup: &Setup, arguments: &str) -> (Option<i32>, String) {
    let mut command = program();
    command.args(["audit", "--once", "--peer", "peer.example"]).args(arguments.split_whitespace());
    let (code, out, said) = words(command.arg("--config").arg(setup.file()));
    let told = out.lines().filter(|line| !line.starts_with("peer.example, "));
    let mut told: Vec<String> =
        told.map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")).collect();
    told.sort();
    assert_ne!(code, Some(1), "{out}{said}");
    (code, told.join(", "))
}

#[test]
fn one_command_audits_a_peer_and_finds_what_was_falsified() {
    let modules = Modules::start();
    let peer = Place::new("peer.example");
    let packages: Vec<String> = (0..3).map(|number| format!("once.example/x{number}@v1.0.0")).collect();
    let builder = Setup::warm(&modules);
    let node = builder.start();
    let mut findings = Vec::new();
    for package in &packages {
        let (path, version) = package.split_once('@').expect("a version");
        modules.publish(&Module::command(path, version));
        assert_eq!(node.lookup(&spec(package)).status, 200, "{}", builder.log());
        let claim = node.claim(&spec(package)).expect("built").to_string() + "\n";
        findings.push((spec(package), Claim::parse(claim.as_bytes()).expect("a claim").finding));
    }
    node.kill();
    if let Finding::Built { sum, .. } = &mut findings[2].1 {
        let mut bytes = *sum.as_bytes();
        bytes[19] ^= 1;
        *sum = Sum::from_bytes(bytes);
    }
    let absent = spec("once.example/absent@v1.0.0");
    findings.push((absent, findings[0].1.clone()));
    let cannot = Finding::CannotBuild { class: Class::Cgo, detail: String::new() };
    findings.push((spec("once.example/none@v1.0.0"), cannot));

    let auditor = Setup::warm(&modules)
        .with("poll-interval = \"1s\"\n[audit]\norder = \"oldest-first\"\n")
        .with(&observed(&peer));
    let stop = CancellationToken::new();
    std::thread::scope(|scope| {
        serve(scope, &peer, findings, &stop);
        let _stop = stop.clone().drop_guard();
        assert_eq!(audit(&auditor, "--limit 2"), (Some(0), "reproduced 0, reproduced 1".to_owned()));
        assert_eq!(audit(&auditor, "--from 3"), (Some(4), "pending 3".to_owned()));
        let all = "differs 2, pending 3, reproduced 0, reproduced 1";
        assert_eq!(audit(&auditor, ""), (Some(3), all.to_owned()));

        let mut command = program();
        command.args([
            "audit",
            "--once",
            "--json",
            "--peer",
            "peer.example",
            "--from",
            "2",
            "--limit",
            "1",
            "--config",
        ]);
        let (code, out, _) = words(command.arg(auditor.file()));
        let told: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!((code, &told["summary"]["differs"]), (Some(3), &json!(1)), "{out}");
        let details = told["records"][0]["details"].as_str().expect("details");
        assert!(details.starts_with("peer.example has 0") && details.contains("; divergence 1"), "{details}");
        let made: Spec = told["records"][0]["spec"].as_str().expect("a spec").parse().expect("a spec");
        assert_eq!(made.goversion.to_string(), GO);
    });
    // Nobody answers there any more.
    let (code, _, said) =
        words(program().args(["audit", "--once", "--peer", "nobody", "--config"]).arg(auditor.file()));
    assert!(code == Some(1) && said.contains("no peer called nobody"), "{said}");
    let check = auditor.check();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
}
