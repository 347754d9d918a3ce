//! The operator's commands against a real node, and `check` against what a peer has said.

use std::path::Path;
use std::process::Output;

use sumpeer::binaries::Binaries;
use sumpeer::metrics::Metrics;
use sumpeer::model::{Claim, Finding, Sum};
use sumpeer::peer::{Entry, Peer, Proven, Said, SignedHead};
use sumpeer::quorum::Word;
use sumpeer::store::LogId;
use sumpeer::tally::{Tally, Voter};
use sumpeer::tlog::{CompactRange, Head, SignerKey, leaf_hash, sign_note};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::world::{Modules, Setup, check_tells, open, program, words};

const SPEC: &str = "example.com/m@v1.0.0/linux-amd64-go1.27.1/";

fn key(name: &str) -> SignerKey {
    SignerKey::generate(name, [name.as_bytes()[0]; 32]).expect("a key")
}

/// Two voters have claimed different sums of 300 programs, and both signed for it; then one is in quarantine.
async fn quarrel(data: &Path) {
    let store = open(data);
    let binaries = Binaries::open(data, u64::MAX, store.clone(), Metrics::new()).await.expect("opened");
    let voter = |name: &str| Voter { name: name.to_owned(), vkey: key(name).verifier().to_string(), own: false };
    let tally = Tally::new(store.clone(), None, None, binaries, ["beta", "gamma"].map(voter).into(), Vec::new());
    let stop = CancellationToken::new();
    for (name, sum) in [("beta", 1), ("gamma", 2)] {
        let mut range = CompactRange::new();
        let mut entries = Vec::new();
        for number in 0..300 {
            let claim = Claim {
                spec: SPEC.replace("v1.0.0", &format!("v1.0.{number}")).parse().expect("a spec"),
                finding: Finding::Built { size: 9, sum: Sum::from_bytes([if number == 0 { sum } else { 3 }; 20]) },
                at: "2026-11-21T09:30:00Z".parse().expect("a time"),
                host: "linux/amd64".to_owned(),
                toolchain: "h1:none".to_owned(),
                sandbox: "none".to_owned(),
            };
            let text = claim.to_text().into_bytes();
            range.push(leaf_hash(&text));
            let said = Said { word: Word::from(&claim.finding), spec: claim.spec, at: claim.at.as_second() };
            entries.push(Entry { text, said: Some(said) });
        }
        let signer = key(name).as_name(&format!("{name}/claims"));
        let head = Head { origin: signer.name().to_owned(), size: range.size(), root: range.root() };
        let head = Some(SignedHead { note: sign_note(&head.to_text(), &[&signer]), head });
        let (taken, done) = oneshot::channel();
        let (send, proven) = mpsc::channel(1);
        let batch = Proven { log: LogId::Claims, first: 0, entries, root: range.root(), head, taken };
        send.send(batch).await.expect("there is room");
        let peer = Peer {
            name: name.to_owned(),
            key: key(name).verifier(),
            url: "http://127.0.0.1:1/".parse().expect("an address"),
            program: None,
            vote: true,
            build_on_claim: false,
        };
        tokio::select! {
            ended = tally.clone().hear(peer, proven, stop.clone()) => panic!("{ended:?}"),
            heard = done => heard.expect("taken in"),
        }
    }
    let vkey = key("gamma").verifier().to_string();
    let convicted = store.write(move |tx| {
        let (id, _) = tx.see_divergence("bad-root", None, &vkey, None)?;
        tx.put_quarantine(&vkey, "it served other entries than it signed", id)
    });
    convicted.await.expect("written");
}

/// A node whose voters differ, not running.
fn divided(modules: &Modules) -> Setup {
    let setup = Setup::empty(modules);
    assert_eq!(setup.start().terminate().0, Some(0));
    tokio::runtime::Runtime::new().expect("a runtime").block_on(quarrel(&setup.data));
    drop(open(&setup.data));
    setup
}

fn run(setup: &Setup, line: &str) -> (Option<i32>, String, String) {
    words(program().args(line.split('|')).arg("--config").arg(setup.file()))
}

#[test]
fn the_operator_sees_and_settles_what_differs() {
    let modules = Modules::start();
    let setup = divided(&modules);
    let (code, _, said) = run(&setup, "divergences");
    assert_eq!(code, Some(1));
    assert!(said.contains("no node runs on the data directory"), "{said}");
    let node = setup.start();

    let (code, out, said) = run(&setup, "divergences");
    assert_eq!(code, Some(3), "{said}");
    assert!(out.starts_with("ID  KIND") && out.contains(SPEC) && out.contains("bad-root"), "{out}");
    let (code, out, _) = run(&setup, "divergences|show|1");
    assert_eq!(code, Some(3));
    assert!(out.contains("beta") && out.contains("gamma") && out.contains("claims 0"), "{out}");
    let (code, _, said) = run(&setup, "divergences|show|9");
    assert_eq!((code, said.as_str()), (Some(1), "sumpeer: there is no divergence 9\n"));
    let (code, _, said) = run(&setup, "divergences|resolve|1|--note|");
    assert!(code == Some(1) && said.contains("the note is empty"), "{said}");
    assert_eq!(run(&setup, "divergences|resolve|1").0, Some(2), "a note is needed");

    // The evidence that the node serves proves itself to the program, and after settling as well.
    let file = setup.data.with_extension("evidence");
    std::fs::write(&file, &node.get("/api/v1/divergences/1/evidence").body).expect("written");
    let (code, out, said) = words(program().args(["evidence", "verify"]).arg(&file));
    assert!(code == Some(0) && out.contains("beta/claims"), "{out}{said}");

    let (code, out, _) = run(&setup, "divergences|resolve|1|--note|gamma had bad memory");
    assert_eq!((code, out.as_str()), (Some(0), "divergence 1 is settled\n"));
    let (code, out, _) = run(&setup, "divergences|show|1|--json");
    let row: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &row["note"]), (Some(0), &"gamma had bad memory".into()));

    let (code, out, _) = run(&setup, "peers");
    assert_eq!((code, out.as_str()), (Some(0), "this node follows nobody\n"));
    let (code, _, said) = run(&setup, "peers|release|nobody|--note|x");
    assert_eq!((code, said.as_str()), (Some(1), "sumpeer: there is no peer nobody\n"));
    // One that is not configured any more is named by its key.
    let gamma = key("gamma").verifier();
    let (code, out, said) = run(&setup, &format!("peers|release|{gamma}|--note|a new disk"));
    assert_eq!((code, out.as_str()), (Some(0), "released gamma; divergence 2 is settled\n"), "{said}");
    assert!(said.contains("needs a new key"), "{said}");
    assert_eq!(run(&setup, "divergences").0, Some(0));
    assert_eq!(run(&setup, "queue").1, "nothing is being built\n");
    assert_eq!(run(&setup, "queue|--json").1, "{\"items\":[]}\n");
    drop(node);
    let (code, _, said) = run(&setup, "queue");
    assert!(code == Some(1) && said.contains("nobody listens on"), "{said}");
}

#[test]
fn check_finds_what_is_wrong_with_what_peers_said() {
    let modules = Modules::start();
    let setup = divided(&modules);
    let said = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let sound = setup.check();
    assert_eq!(sound.status.code(), Some(0), "{}", said(&sound));
    for part in ["beta's claims log: 300 entries", "words of gamma: 300", "divergences: 2", "index of specs: 300"] {
        assert!(said(&sound).contains(part), "{part}: {}", said(&sound));
    }
    for (damage, finding) in [
        ("UPDATE peer_entry SET text = x'00' WHERE key = (1 << 40) + 7", "tile 0 of level 0 of the beta's claims log"),
        ("DELETE FROM peer_entry WHERE key = (2 << 40) + 299", "the gamma's claims log has 299 entries stored"),
        ("UPDATE peer_log SET head = replace(head, '300', '301') WHERE id = 1", "the newest head of the beta's claims"),
        ("UPDATE peer_log SET head = (SELECT head FROM peer_log WHERE id = 2) WHERE id = 1", "is not good"),
        ("UPDATE peer_head SET size = 299 WHERE log = 1", "is noted with another size or root"),
        ("UPDATE word SET number = 5 WHERE number = 4", "is not what entry 5 of the"),
        (
            "UPDATE word SET size = 10 WHERE number = 9 AND party = (SELECT party FROM peer_log WHERE id = 1)",
            "the word on",
        ),
        ("DELETE FROM word WHERE number = 9", "but the party has no word on it"),
        ("UPDATE divergence_word SET number = 3", "divergence 1 has a word that entry 3"),
        ("UPDATE divergence SET evidence = '{}' WHERE id = 2", "the evidence of divergence 2 does not hold"),
        ("UPDATE spec_recent SET hash = hash + 1 WHERE id = 3", "under the hash of another"),
        ("DELETE FROM spec_recent WHERE id = 3", "is not indexed"),
        ("INSERT INTO spec_settled SELECT hash, id FROM spec_recent WHERE id = 3", "is indexed more than once"),
    ] {
        check_tells(&setup, damage, finding);
    }
}
