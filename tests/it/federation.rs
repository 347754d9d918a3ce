//! Nodes that need each other's word: what is asked on one becomes a record on all, or on none.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use sumpeer::tlog::parse_lookup;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::liar;
use crate::world::{Module, Modules, Node, Place, Setup, eventually, scratch, spec};

/// Some builds at the same time on a busy machine, and what goes back and forth between nodes.
const PATIENCE: Duration = Duration::from_secs(120);

/// Publishes a command and gives its spec.
fn publish(modules: &Modules, path: &str) -> String {
    modules.publish(&Module::command(path, "v1.0.0"));
    spec(&format!("{path}@v1.0.0"))
}

/// The record of a spec as the log has it, once it is there without anybody asking for it here.
fn record(node: &Node, spec: &str) -> String {
    let path = format!("/tlog/lookup/{spec}?wait=0");
    eventually(PATIENCE, "a record of what was asked elsewhere", || node.get(&path).status == 200);
    let answer = node.get(&path);
    let (_, record, _) = parse_lookup(&answer.body).expect("a lookup's answer");
    record.to_owned()
}

fn is_whole(setups: &[&Setup]) {
    for setup in setups {
        let check = setup.check();
        assert!(check.status.success(), "{}\n{}", String::from_utf8_lossy(&check.stdout), setup.log());
    }
}

#[test]
fn what_is_asked_on_one_becomes_a_record_on_all() {
    let modules = Modules::start();
    let [a, b, c] = ["a.example", "b.example", "c.example"].map(Place::new);
    let setups =
        [a.builds(&modules, "", &[&b, &c]), b.builds(&modules, "", &[&a, &c]), c.builds(&modules, "", &[&a, &b])];
    let nodes = [setups[0].start(), setups[1].start(), setups[2].start()];
    // So that all that comes counts as recent: what was said before they met is not built unasked.
    meet(&nodes);

    let asked = [publish(&modules, "fed.example/x"), publish(&modules, "fed.example/y")];
    for (node, spec) in nodes.iter().zip(&asked) {
        let answer = node.lookup(spec);
        assert_eq!(answer.status, 200, "{}\n{}", answer.text(), setups[0].log());
    }
    // A want is not passed on: the others build this because a voter claims it.
    let wanted = publish(&modules, "fed.example/z");
    let answer = nodes[2].send("POST /claims/want", "", &format!("{wanted}\n"));
    assert_eq!(answer.status, 202, "{}", answer.text());

    for spec in asked.iter().chain([&wanted]) {
        let records = nodes.each_ref().map(|node| record(node, spec));
        assert!(records.iter().all(|record| *record == records[0]), "{records:?}");
        for node in &nodes {
            assert!(node.claim(spec).expect("its own finding")["sum"].is_string());
            assert_eq!(node.lookup(spec).status, 200);
            let verdict = node.verdict(spec);
            assert_eq!((&verdict["verdict"], &verdict["waiting_for"]), (&json!("accepted"), &json!([])));
            assert_eq!(verdict["words"].as_array().expect("words").len(), 3, "{verdict}");
        }
    }
    for node in &nodes {
        assert_eq!((node.records(), node.claims()), (3, 3), "each once");
    }
    is_whole(&setups.each_ref());
}

/// Waits until each follows the others.
fn meet(nodes: &[Node]) {
    for node in nodes {
        eventually(PATIENCE, "all follow each other", || {
            let peers = node.json("/api/v1/peers");
            peers["items"].as_array().expect("peers").iter().all(|peer| {
                let logs = peer["logs"].as_array().expect("logs");
                peer["state"] == "following" && logs.iter().any(|log| log["head"].is_string())
            })
        });
    }
}

#[test]
fn a_wish_is_passed_on_once() {
    let modules = Modules::start();
    let [a, b] = ["a.example", "b.example"].map(Place::new);
    // Nobody builds what another claims, so only wishes make anyone build.
    let quiet = |place: &Place, other: &Place| place.builds(&modules, "", &[other]).with("build-on-claim = false\n");
    let setups = [quiet(&a, &b), quiet(&b, &a)];
    let nodes = [setups[0].start(), setups[1].start()];
    meet(&nodes);
    let [unwanted, wanted] = [publish(&modules, "wish.example/x"), publish(&modules, "wish.example/y")];
    let answer = nodes[0].send("POST /claims/want", "", &format!("{unwanted}\n"));
    assert_eq!(answer.status, 202, "{}", answer.text());
    eventually(PATIENCE, "a want is built", || nodes[0].claim(&unwanted).is_some());
    let answer = nodes[0].lookup(&wanted);
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), setups[0].log());
    assert_eq!(nodes[1].claims(), 1, "the second has built what was looked up, and nothing else");
    assert_eq!(nodes[0].verdict(&unwanted)["waiting_for"], json!(["b.example"]));
    is_whole(&setups.each_ref());
}

#[test]
fn who_waits_is_told_for_whom_and_gets_the_record_when_they_come_back() {
    let modules = Modules::start();
    let [a, b] = ["a.example", "b.example"].map(Place::new);
    let setups = [a.builds(&modules, "lookup-wait = \"4s\"\n", &[&b]), b.builds(&modules, "", &[&a])];
    let first = setups[0].start();
    let second = setups[1].start();
    let x = publish(&modules, "wait.example/x");
    eventually(PATIENCE, "both agree", || first.lookup(&x).status == 200);
    second.kill();

    let y = publish(&modules, "wait.example/y");
    let answer = first.lookup(&y);
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("retry-after").is_some(), "{}", answer.head);
    eventually(PATIENCE, "the first has spoken", || first.claim(&y).is_some());
    let answer = first.lookup(&y);
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.text().contains("b.example"), "{}", answer.text());
    assert!(!answer.text().contains("a.example"), "it has spoken: {}", answer.text());
    assert_eq!(first.verdict(&y)["waiting_for"], json!(["b.example"]));
    assert_eq!(first.get(&format!("/tlog/lookup/{x}?wait=0")).status, 200, "what is there stays");

    let second = setups[1].start();
    eventually(PATIENCE, "the second comes back", || first.lookup(&y).status == 200);
    assert_eq!(record(&first, &y), record(&second, &y));
    assert_eq!((first.records(), second.records()), (2, 2));
    is_whole(&setups.each_ref());
}

#[test]
fn a_voter_that_differs_is_named_and_nothing_is_recorded() {
    let modules = Modules::start();
    let [honest, liar] = ["honest.example", "liar.example"].map(Place::new);
    let setup = honest.builds(&modules, "", &[&liar]);
    let node = setup.start();
    let folder = scratch();
    let stop = CancellationToken::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::bind(&liar.address).await.expect("free");
                let lies = liar::run(folder.path(), &liar.key, listener, honest.as_small_peer(), stop.clone());
                lies.await.expect("it lies until it is stopped");
            });
        });
        let _stop = stop.clone().drop_guard();
        let x = publish(&modules, "lie.example/x");
        let answer = node.lookup(&x);
        assert_eq!(answer.status, 409, "{}\n{}", answer.text(), setup.log());
        let text = answer.text();
        for part in ["honest.example", "liar.example", "/divergences/1"] {
            assert!(text.contains(part), "{part} is in: {text}");
        }
        assert!(text.contains(node.claim(&x).expect("its own")["sum"].as_str().expect("a sum")), "{text}");
        assert_eq!(node.get(&format!("/tlog/lookup/{x}?wait=0")).status, 409);
        assert_eq!(node.verdict(&x)["verdict"], "disputed");
        assert_eq!(node.records(), 0);
        let told = node.json("/api/v1/divergences/1");
        assert_eq!((&told["kind"], &told["state"], &told["spec"]), (&json!("divergence"), &json!("open"), &json!(x)));
        assert_eq!(told["words"].as_array().expect("words").len(), 2, "{told}");
    });
    is_whole(&[&setup]);
}

#[test]
fn a_node_that_only_verifies_has_the_same_records_and_builds_nothing() {
    let modules = Modules::start();
    let [a, b, v] = ["a.example", "b.example", "v.example"].map(Place::new);
    let setups = [a.builds(&modules, "", &[&b]), b.builds(&modules, "", &[&a]), v.verifies(&modules, "", &[&a, &b])];
    let nodes = [setups[0].start(), setups[1].start(), setups[2].start()];
    let x = publish(&modules, "verify.example/x");
    let answer = nodes[2].lookup(&x);
    assert_eq!(answer.status, 200, "asked on the one that cannot build it: {}\n{}", answer.text(), setups[2].log());
    let records = nodes.each_ref().map(|node| record(node, &x));
    assert!(records.iter().all(|record| *record == records[0]), "{records:?}");

    let verifier = &nodes[2];
    let about = verifier.json("/api/v1/node");
    assert_eq!((&about["mode"], &about["builder"]), (&json!("verify-only"), &json!(null)));
    assert_eq!((verifier.claims(), verifier.records()), (0, 1));
    assert_eq!(verifier.send("POST /claims/want", "", &format!("{x}\n")).status, 403);
    let installed = std::fs::read_dir(setups[2].data.join("toolchains")).map_or(0, Iterator::count);
    assert_eq!(installed, 0, "it has fetched no Go");
    assert!(!setups[2].log().contains("builds are confined"), "it has looked for no walls");
    let [builds, verifies] = [&nodes[0], verifier].map(|node| node.get("/").text().contains("builds nothing itself"));
    assert!(!builds && verifies, "the home pages say who does what");
    is_whole(&setups.each_ref());
}

#[test]
fn a_ring_of_accepted_logs_is_named_and_stops_only_its_own() {
    let modules = Modules::start();
    let [a, v, w, u] = ["a.example", "v.example", "w.example", "u.example"].map(Place::new);
    let short = "lookup-wait = \"2s\"\n";
    let setups = [
        a.builds(&modules, "", &[]),
        v.verifies(&modules, short, &[&a, &w]),
        w.verifies(&modules, short, &[&v]),
        u.verifies(&modules, "", &[&a]),
    ];
    let [builder, ring, _other, free] = setups.each_ref().map(Setup::start);
    eventually(PATIENCE, "the ring is named", || {
        let peers = ring.json("/api/v1/peers");
        let peer = peers["items"].as_array().expect("peers").iter().find(|peer| peer["name"] == "w.example").cloned();
        peer.is_some_and(|peer| {
            let error = peer["last_error"].as_str().unwrap_or_default().to_owned();
            error.contains("v.example") && error.contains("w.example")
        })
    });
    let x = publish(&modules, "ring.example/x");
    assert_eq!(free.lookup(&x).status, 200, "who is not in the ring goes on: {}", setups[3].log());
    let answer = ring.lookup(&x);
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.text().contains("w.example") && !answer.text().contains("a.example"), "{}", answer.text());
    assert_eq!(ring.get("/readyz").status, 200);
    assert_eq!((builder.records(), free.records(), ring.records()), (1, 1, 0));
    is_whole(&setups.each_ref());
}

#[test]
fn nodes_that_follow_each_other_stop_at_once() {
    let modules = Modules::start();
    let [a, b] = ["a.example", "b.example"].map(Place::new);
    let setups = [a.builds(&modules, "", &[&b]), b.builds(&modules, "", &[&a])];
    let nodes = [setups[0].start(), setups[1].start()];
    meet(&nodes);
    let began = Instant::now();
    for node in &nodes {
        assert!(Command::new("kill").arg(node.id().to_string()).status().expect("kill").success());
    }
    for node in nodes {
        assert_eq!(node.ends_within(Duration::from_secs(10)), Some(0));
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}
