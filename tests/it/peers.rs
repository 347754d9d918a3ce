//! Peers that cannot be: what a configuration gets wrong is refused at start, what a network gets wrong is told while
//! the node runs. One clear sentence each.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use crate::world::{Modules, Place, Setup, eventually, free_address, program, words};

/// How soon it must be told what is wrong with a peer.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_peer_that_makes_no_sense_is_refused_in_a_sentence() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("config.toml");
    let peer = Place::new("peer.example");
    let (good, key) = (peer.as_peer(), peer.vkey());
    let damaged = key.replacen('+', "+0", 1);
    for (text, says) in [
        ("[[peer]]\nkey = \"peer.example\"\n".to_owned(), &["line 2", "key"][..]),
        (format!("[[peer]]\nkey = {damaged:?}\n"), &["line 2", "key"]),
        (format!("[[peer]]\nkey = {:?}\n", &key[..key.len() - 1]), &["line 2", "key"]),
        (format!("{good}{good}"), &["peer.example", "another peer has the same key"]),
        (format!("{good}[[peer]]\nkey = {key:?}\nname = \"twin\"\n"), &["twin", "another peer has the same key"]),
        ("[[peer]]\nname = \"nobody\"\n".to_owned(), &["nobody", "key is missing"]),
        (format!("{good}kind = \"sumdb\"\n"), &["sumdb"]),
        (format!("[[peer]]\nkey = {key:?}\nurl = \"ftp://peer.example\"\n"), &["peer.example", "http or https"]),
        ("mode = \"verify-only\"\n".to_owned(), &["verify-only", "needs a peer that votes"]),
        (format!("mode = \"verify-only\"\n{good}vote = false\n"), &["verify-only", "needs a peer that votes"]),
    ] {
        fs::write(&config, &text).expect("written");
        for command in [&["serve", "--config"][..], &["config", "check"]] {
            let (code, out, said) = words(program().args(command).arg(&config).current_dir(&folder));
            let all = format!("{out}{said}");
            assert!(code == Some(1), "{text}: {code:?} {all}");
            assert!(says.iter().all(|part| all.contains(part)), "{says:?} of {text} are not in: {all}");
            assert!(!all.contains("panicked"), "{all}");
        }
    }
    assert_eq!(fs::read_dir(&folder).expect("there").count(), 1, "nothing is made for a file that is wrong");
}

#[test]
fn a_node_is_no_peer_of_itself() {
    let modules = Modules::start();
    let place = Place::new("own.example");
    let setup = place.verifies(&modules, "", &[&place]);
    let Err(said) = setup.try_start() else { panic!("it started") };
    assert!(said.contains("own.example") && said.contains("its key is this node's own"), "{said}");
}

#[test]
fn a_peer_that_cannot_be_reached_is_told_and_the_node_runs() {
    let modules = Modules::start();
    let nobody = Place { address: free_address(), ..Place::new("nobody.example") };
    let plain = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = plain.local_addr().expect("bound").port();
    // Answers everything with what is no TLS.
    std::thread::spawn(move || {
        for mut connection in plain.incoming().flatten() {
            // Read first and to the end, or the answer is lost in a reset.
            let _ = connection.read(&mut [0; 4096]);
            let _ = connection.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            let _ = std::io::copy(&mut connection, &mut std::io::sink());
        }
    });
    for (url, part) in [
        ("http://no-such-host.invalid".to_owned(), "dns error"),
        (format!("https://127.0.0.1:{port}"), "received corrupt message"),
        (format!("http://{}", nobody.address), "Connection refused"),
    ] {
        let watcher = Place::new("watcher.example");
        let setup =
            watcher.verifies(&modules, "", &[]).with(&format!("[[peer]]\nkey = {:?}\nurl = {url:?}\n", nobody.vkey()));
        told(&setup, part);
    }
}

/// Starts a node and waits until it says what is wrong with its one peer.
fn told(setup: &Setup, part: &str) {
    let mut node = setup.start();
    eventually(PATIENCE, part, || {
        let peers = node.json("/api/v1/peers");
        let peer = &peers["items"][0];
        peer["state"] == "backoff" && peer["last_error"].as_str().is_some_and(|error| error.contains(part))
    });
    assert!(node.lives());
    assert_eq!(node.get("/readyz").status, 200);
    assert_eq!(node.terminate().0, Some(0));
}
