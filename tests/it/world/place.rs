//! Nodes that know each other: names, keys and addresses that are there before any of them runs.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::Value;
use sumpeer::peer::Peer;
use sumpeer::tlog::SignerKey;

use super::{Modules, Node, Setup, furnish_as};
use crate::small;

/// A node that others can list as a peer.
pub(crate) struct Place {
    pub(crate) key: SignerKey,
    pub(crate) address: String,
}

impl Place {
    /// At a free address of loopback.
    pub(crate) fn new(name: &str) -> Place {
        let mut seed = [9; 32];
        seed[..name.len()].copy_from_slice(name.as_bytes());
        Place { key: SignerKey::generate(name, seed).expect("a key"), address: free_address() }
    }

    /// The text of its verifier key.
    pub(crate) fn vkey(&self) -> String {
        self.key.verifier().to_string()
    }

    /// It as a peer in somebody's configuration.
    pub(crate) fn as_peer(&self) -> String {
        format!("[[peer]]\nkey = {:?}\nurl = \"http://{}\"\n", self.vkey(), self.address)
    }

    /// The same for a small node.
    pub(crate) fn as_small_peer(&self) -> Peer {
        small::peer(self.key.verifier(), format!("http://{}", self.address).parse().expect("an address"))
    }

    /// A node that builds, with these voters beside itself. `more` is of the top level of its configuration.
    pub(crate) fn builds(&self, modules: &Modules, more: &str, voters: &[&Place]) -> Setup {
        let setup = self.setup(modules, more, voters);
        furnish_as(&setup.data, &self.key);
        setup
    }

    /// A node that only verifies, and has nothing to build with.
    pub(crate) fn verifies(&self, modules: &Modules, more: &str, voters: &[&Place]) -> Setup {
        let setup = self.setup(modules, &format!("mode = \"verify-only\"\n{more}"), voters);
        std::fs::create_dir_all(&setup.data).expect("a folder");
        std::fs::write(setup.data.join("key"), self.key.to_text().as_bytes()).expect("written");
        setup
    }

    fn setup(&self, modules: &Modules, more: &str, voters: &[&Place]) -> Setup {
        let voters: String = voters.iter().map(|voter| voter.as_peer()).collect();
        let setup = Setup::empty(modules).named(self.key.name()).listening(&self.address);
        setup.with(&format!("poll-interval = \"1s\"\n{more}{voters}"))
    }
}

/// An address of loopback that nothing listens at. Ports from which the system takes what it hands out are left
/// alone, so it stays free.
pub(crate) fn free_address() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 1000).expect("small") * 10;
    loop {
        let port = 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return format!("127.0.0.1:{port}");
        }
    }
}

impl Node {
    /// What it knows of a spec, as its API says it.
    pub(crate) fn verdict(&self, spec: &str) -> Value {
        self.json(&format!("/api/v1/verdict/{spec}"))
    }

    /// An answer of its API.
    ///
    /// # Panics
    /// If it is not 200 and JSON.
    pub(crate) fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        serde_json::from_slice(&answer.body).expect("JSON")
    }
}
