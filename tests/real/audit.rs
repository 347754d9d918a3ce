//! One command audits a peer whose log says what others have found, and one thing that nobody has.
//!
//! `SUMPEER_REAL=all` lets the peer say all of `tests/data/sums.json` and `tests/data/more-sums.json`; without it, the
//! smallest of them.

use std::process::{Command, Stdio};

use serde::Deserialize;
use sumpeer::model::Finding;
use sumpeer::tlog::SignerKey;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::small::Small;

#[derive(Deserialize)]
struct Vector {
    spec: String,
    size: u64,
    sum: String,
}

/// What the peer says; the last one is falsified.
fn vectors() -> Vec<Vector> {
    let all = std::env::var("SUMPEER_REAL").is_ok_and(|value| value == "all");
    let texts = [include_str!("../data/sums.json"), include_str!("../data/more-sums.json")];
    let mut vectors: Vec<Vector> =
        texts.iter().flat_map(|text| serde_json::from_str::<Vec<Vector>>(text).expect("vectors")).collect();
    let small =
        ["rsc.io/2fa@v1.2.0/linux-amd64-go1.27.1/", "filippo.io/age@v1.2.1/cmd/age-keygen/linux-amd64-go1.27.1/"];
    vectors.retain(|vector| all || small.contains(&vector.spec.as_str()));
    let known = vectors.iter().find(|vector| vector.spec.contains("rsc.io/2fa")).expect("there is one");
    // Something else that builds: what it really comes to is not this.
    let falsified = "filippo.io/age@v1.2.1/cmd/age-keygen/linux-amd64-go1.27.1-stripped/".to_owned();
    vectors.push(Vector { spec: falsified, size: known.size, sum: known.sum.clone() });
    vectors
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_found_is_reproduced_and_what_is_falsified_is_found() {
    let vectors = vectors();
    let folder = tempfile::tempdir().expect("a folder");
    let key = SignerKey::generate("peer.example", [9; 32]).expect("a key");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let stop = CancellationToken::new();
    let peer = folder.path().join("peer");
    std::fs::create_dir(&peer).expect("made");
    let (small, tasks) = Small::new(&peer, &key, listener, Vec::new(), &stop).await.expect("a small node");
    for Vector { spec, size, sum } in &vectors {
        let finding = Finding::Built { size: *size, sum: sum.parse().expect("a sum") };
        small.claim(spec.parse().expect("a spec"), finding).await.expect("claimed");
    }
    let config = folder.path().join("audit.toml");
    let text = format!(
        "data = {:?}\n[[peer]]\nname = \"others\"\nkey = \"{}\"\nurl = \"http://{address}\"\nvote = false\n",
        folder.path().join("data"),
        key.verifier(),
    );
    std::fs::write(&config, text).expect("written");
    let audit = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sumpeer"));
        command.args(["audit", "--once", "--peer", "others", "--config"]).arg(config).stdin(Stdio::null());
        command.output().expect("the program")
    });
    let audit = tokio::select! {
        ended = tasks.run() => panic!("the peer has ended: {ended:?}"),
        audit = audit => audit.expect("no panic"),
    };
    let (out, said) = (String::from_utf8_lossy(&audit.stdout), String::from_utf8_lossy(&audit.stderr));
    eprintln!("{out}");
    assert_eq!(audit.status.code(), Some(3), "{out}{said}");
    let honest = vectors.len() - 1;
    let summary = format!("{} entries: {honest} reproduced, 1 differ, 0 cannot be built here, 0 pending", honest + 1);
    assert!(out.contains(&summary), "{out}{said}");
    let found = out.lines().find(|line| line.starts_with("differs")).expect("one differs");
    assert!(found.contains(&format!(" {honest} {}", vectors[honest].spec)), "{found}");
}
