//! TLS on the public listener, with certificates from files.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use serde_json::json;

use crate::world::{Authority, Module, Modules, Node, Place, Setup, eventually, spec};

/// How soon a change is noticed, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Years in which the certificates of these tests are good.
const GOOD: (i32, i32) = (2020, 2120);

/// Where the certificate and key of a node are: beside its data.
fn files(setup: &Setup) -> (PathBuf, PathBuf) {
    (setup.data.with_extension("cert.pem"), setup.data.with_extension("key.pem"))
}

/// A node with TLS from its [`files`].
fn encrypted(setup: Setup) -> Setup {
    let (cert, key) = files(&setup);
    setup.with(&format!("[tls]\ncert = {cert:?}\nkey = {key:?}\n"))
}

fn hang_up(node: &Node) {
    let status = Command::new("kill").args(["-HUP", &node.id().to_string()]).status().expect("kill");
    assert!(status.success());
}

#[test]
fn a_certificate_that_clients_would_refuse_is_refused_at_start() {
    let modules = Modules::start();
    let authority = Authority::new();
    let setup = encrypted(Setup::empty(&modules));
    let (cert, key) = files(&setup);
    let other = setup.data.with_extension("other.pem");
    let refused = |part: &str| {
        let Err(said) = setup.try_start() else { panic!("it started, instead of saying {part}") };
        let line = said.lines().find(|line| line.starts_with("sumpeer: ")).expect("a sentence");
        assert!(line.contains(part) && said.contains("exit status: 1"), "{part} is not in {said}");
        assert!(line.contains("tls.cert") || line.contains("tls.key"), "{said}");
        assert!(!setup.data.join("sumpeer.db").exists(), "nothing is begun");
    };
    refused("No such file");
    authority.write_pair(&cert, &key, (2001, 2002));
    refused("it has expired, at 2002-01-01T00:00:00Z");
    authority.write_pair(&cert, &key, (2119, 2120));
    refused("it is not good before 2119-01-01T00:00:00Z");
    authority.write_pair(&cert, &other, GOOD);
    refused("is not that of the certificate");
    std::fs::write(&cert, "hello\n").expect("written");
    refused("no certificate in PEM form");
    authority.write_pair(&cert, &key, GOOD);
    std::fs::remove_file(&key).expect("removed");
    refused("No such file");
    std::fs::write(&key, std::fs::read(&cert).expect("read")).expect("written");
    refused("no private key in PEM form");
    authority.write_pair(&cert, &key, GOOD);
    let node = setup.start();
    assert_eq!(authority.request(&node.address, "GET /healthz").expect("an answer").0.status, 200);
}

#[test]
fn a_new_certificate_is_taken_without_a_restart_and_a_bad_one_never() {
    let modules = Modules::start();
    let authority = Authority::new();
    let setup = encrypted(Setup::empty(&modules));
    let (cert, key) = files(&setup);
    let first = authority.write_pair(&cert, &key, GOOD);
    let mut node = setup.start();
    let address = node.address.clone();
    let shown = || authority.request(&address, "GET /readyz").expect("an answer").1;
    assert_eq!(shown(), first);

    // A renewal that is under way, or has gone wrong: told, and nothing changes.
    std::fs::write(&cert, "half a fi").expect("written");
    hang_up(&node);
    eventually(PATIENCE, "the reason is told", || setup.log().contains("the certificate is kept as it was: "));
    assert_eq!(shown(), first);

    let second = authority.write_pair(&cert, &key, GOOD);
    hang_up(&node);
    eventually(PATIENCE, "the new one after a signal", || shown() == second);

    // As renewals do it: new files, put in the place of the old ones. Nobody tells the node.
    let third = replace(&authority, &cert, &key);
    eventually(PATIENCE, "the new one by itself", || shown() == third);
    assert!(node.lives());
    assert_eq!(node.terminate().0, Some(0));
}

fn replace(authority: &Authority, cert: &Path, key: &Path) -> CertificateDer<'static> {
    let (new_cert, new_key) = (cert.with_extension("new"), key.with_extension("new"));
    let made = authority.write_pair(&new_cert, &new_key, GOOD);
    std::fs::rename(new_cert, cert).expect("renamed");
    std::fs::rename(new_key, key).expect("renamed");
    made
}

#[test]
fn a_peer_is_followed_over_tls_by_those_who_trust_its_certificate() {
    let modules = Modules::start();
    let authority = Authority::new();
    let [leader, trusting, doubting] = ["leader.example", "trusting.example", "doubting.example"].map(Place::new);
    let setup = encrypted(leader.builds(&modules, "", &[]));
    let (cert, key) = files(&setup);
    authority.write_pair(&cert, &key, GOOD);
    let root = setup.data.with_extension("root.pem");
    authority.write_root(&root);
    let node = setup.start();

    let port = node.address.rsplit(':').next().expect("a port");
    let peer = format!("[[peer]]\nkey = {:?}\nurl = \"https://localhost:{port}\"\n", leader.vkey());
    let follows = |place: &Place| place.verifies(&modules, "", &[]).with(&peer);
    let (follower, doubter) = (follows(&trusting).env("SSL_CERT_FILE", &root), follows(&doubting));
    let (follower, doubter) = (follower.start(), doubter.start());
    let state = |node: &Node| node.json("/api/v1/peers")["items"][0].clone();
    eventually(PATIENCE, "its stream is followed", || state(&follower)["state"] == "following");

    modules.publish(&Module::command("tls.example/x", "v1.0.0"));
    let spec = spec("tls.example/x@v1.0.0");
    let lookup = format!("/tlog/lookup/{spec}");
    let (answer, _) = authority.request(&node.address, &format!("GET {lookup}")).expect("an answer");
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), setup.log());
    eventually(PATIENCE, "the record arrives", || follower.get(&format!("{lookup}?wait=0")).status == 200);
    assert_eq!(follower.verdict(&spec)["waiting_for"], json!([]));
    // What the page tells people to type.
    let page = authority.request(&node.address, &format!("GET /{spec}")).expect("an answer").0.location();
    let (page, _) = authority.request(&node.address, &format!("GET {page}")).expect("an answer");
    assert!(page.text().contains(&format!("--url https://{}", node.address)), "{}", page.text());

    eventually(PATIENCE, "who does not trust it says why", || {
        let peer = state(&doubter);
        peer["state"] == "backoff" && peer["last_error"].as_str().is_some_and(|error| error.contains("UnknownIssuer"))
    });
    assert_eq!(doubter.records(), 0);
}
