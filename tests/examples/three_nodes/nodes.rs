//! The places of the nodes, and the processes there.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;
use sumpeer::node::{read_key, write_key};
use sumpeer::tlog::SignerKey;

use crate::http::{Answer, request};
use crate::sumpeer;

/// How long a node may take to listen.
const START: Duration = Duration::from_secs(60);
/// How long a lookup may take: longer than the node's own limit.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// What a node is known by before it runs.
pub(crate) struct Place {
    pub(crate) name: &'static str,
    pub(crate) url: String,
    pub(crate) data: PathBuf,
    address: SocketAddr,
    config: PathBuf,
}

/// A running node. Dropping it stops it.
pub(crate) struct Node {
    pub(crate) name: &'static str,
    pub(crate) url: String,
    pub(crate) config: PathBuf,
    address: String,
    log: PathBuf,
    process: Child,
}

impl Place {
    /// Three of them, with keys and free ports.
    pub(crate) fn three(folder: &Path, names: [&'static str; 3]) -> anyhow::Result<[Place; 3]> {
        // All at once, so that no port is handed out twice.
        let listen = || TcpListener::bind("127.0.0.1:0");
        let ports = [listen()?, listen()?, listen()?];
        let mut places = Vec::new();
        for (name, port) in names.into_iter().zip(&ports) {
            let address = port.local_addr()?;
            let data = folder.join(name);
            fs::create_dir_all(&data).with_context(|| format!("cannot make the folder {}", data.display()))?;
            let data = data.canonicalize()?;
            let key = data.join("key");
            if !key.exists() {
                write_key(&key, &SignerKey::generate(&format!("{name}.example"), rand::random())?)?;
            }
            let config = data.with_extension("toml");
            places.push(Place { name, url: format!("http://{address}"), data, address, config });
        }
        places.try_into().map_err(|_| anyhow::anyhow!("there are three names"))
    }

    pub(crate) fn key(&self) -> anyhow::Result<SignerKey> {
        read_key(&self.data.join("key"))
    }

    pub(crate) fn listen(&self) -> anyhow::Result<TcpListener> {
        let listener = TcpListener::bind(self.address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    /// The configuration of a node here, with these voters beside itself.
    fn config(&self, voters: &[&Place]) -> anyhow::Result<String> {
        let mut text = format!(
            "data = {:?}\nlisten = \"{}\"\nadmin-listen = \"127.0.0.1:0\"\npoll-interval = \"5s\"\n",
            self.data, self.address
        );
        for voter in voters {
            let key = voter.key()?.verifier().to_string();
            text.push_str(&format!("\n[[peer]]\nname = {:?}\nkey = {key:?}\nurl = {:?}\n", voter.name, voter.url));
        }
        Ok(text)
    }
}

impl Node {
    /// Starts one, with these voters beside itself.
    pub(crate) fn start(place: &Place, voters: &[&Place]) -> anyhow::Result<Node> {
        fs::write(&place.config, place.config(voters)?)?;
        let log = place.data.with_extension("log");
        let process = sumpeer()?
            .args(["serve", "--config"])
            .arg(&place.config)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .context("cannot start a node")?;
        let (url, config) = (place.url.clone(), place.config.clone());
        Ok(Node { name: place.name, url, config, address: place.address.to_string(), log, process })
    }

    /// Waits until it listens.
    pub(crate) fn listens(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        while request(&self.address, "GET /readyz", "", "", START).is_err() {
            if self.process.try_wait()?.is_some() || began.elapsed() > START {
                let log = fs::read_to_string(&self.log)?;
                bail!("the node {} did not start:\n{log}", self.name);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    pub(crate) fn get(&self, path: &str) -> anyhow::Result<Answer> {
        let answer = request(&self.address, &format!("GET {path}"), "", "", PATIENCE);
        answer.with_context(|| format!("{} does not answer; its log is {}", self.name, self.log.display()))
    }

    pub(crate) fn json(&self, path: &str) -> anyhow::Result<Value> {
        let answer = self.get(path)?;
        serde_json::from_slice(&answer.body)
            .with_context(|| format!("{}{path} answers {}: {}", self.url, answer.status, answer.text()))
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait(&mut self) {
        // Its input stays open: that is what it lives by.
        while matches!(self.process.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The end of its input stops it in order.
        self.process.stdin = None;
        let _ = self.process.wait();
    }
}
