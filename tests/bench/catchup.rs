//! How fast a node that only verifies takes in the log of its only voter: fetched, hashed, proven, judged, accepted.
//!
//! `cargo bench --bench catchup -- [ENTRIES]`, by default 200,000. Both are processes of the real program, on the loopback
//! address. It runs twice: from the voter's claims log, and from its accepted log as if it were an upstream
//! gobuild. It prints entries a second, from the start of the follower's process to the last record, and the most
//! memory that the follower ever had resident.

#[expect(dead_code, reason = "a client that has more than is needed here")]
#[path = "../it/world/http.rs"]
mod http;
mod made;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use sumpeer::log;
use sumpeer::metrics::Metrics;
use sumpeer::store::Store;
use sumpeer::tlog::SignerKey;

/// Between two looks at the follower's size.
const LOOK: Duration = Duration::from_millis(20);
/// When it is given up.
const PATIENCE: Duration = Duration::from_secs(600);

#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn main() -> anyhow::Result<()> {
    let entries = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(200_000);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let place = |name: &str| -> anyhow::Result<PathBuf> {
        let data = folder.path().join(name);
        std::fs::create_dir_all(&data)?;
        Ok(data)
    };
    let data = place("voter")?;
    let voter_key = fill(&data, entries)?;
    let voter = Node::start(&data, "sandbox = \"none\"\n")?;
    for (kind, what) in [("sumpeer", "the claims log"), ("gobuild", "the accepted log, as of a gobuild")] {
        let data = place(kind)?;
        let more = format!(
            "name = \"follower.example\"\nmode = \"verify-only\"\n\
             [[peer]]\nkey = {voter_key:?}\nurl = \"http://{}\"\nkind = {kind:?}\n",
            voter.address
        );
        let began = Instant::now();
        let follower = Node::start(&data, &more)?;
        while follower.records()? < entries {
            ensure!(began.elapsed() < PATIENCE, "it has {} records", follower.records()?);
            std::thread::sleep(LOOK);
        }
        let took = began.elapsed().as_secs_f64();
        println!(
            "{entries} entries from {what}: {took:.2} s, {:.0} a second; at most {:.1} MB resident",
            entries as f64 / took,
            follower.peak_kb()? as f64 / 1000.0
        );
    }
    Ok(())
}

/// Writes a data directory with so many claims and records; the node's verifier key.
fn fill(data: &Path, entries: u64) -> anyhow::Result<String> {
    let key = SignerKey::generate("voter.example", [1; 32])?;
    std::fs::write(data.join("key"), key.to_text().as_bytes())?;
    let store = Store::open(data, log::forms(&key), Metrics::new())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(made::append(&store, &made::own(&key), 0..entries, 4096))?;
    drop((runtime, store));
    // The writer thread lets go of the directory a moment after its last handle is gone.
    std::fs::File::open(data.join("lock"))?.lock()?;
    Ok(key.verifier().to_string())
}

/// A node as a process. Dropping it kills it.
struct Node {
    process: Child,
    address: String,
}

impl Node {
    fn start(data: &Path, more: &str) -> anyhow::Result<Node> {
        let config = data.with_extension("toml");
        let text = format!("data = {data:?}\ngoproxy = \"off\"\ngosumdb = \"off\"\n{more}");
        std::fs::write(&config, text)?;
        let mut process = Command::new(env!("CARGO_BIN_EXE_sumpeer"))
            .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--config"])
            .arg(&config)
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = process.stderr.take().context("piped")?;
        let mut node = Node { process, address: String::new() };
        let mut lines = BufReader::new(stderr).lines();
        while node.address.is_empty() {
            let line = lines.next().context("the node has ended")??;
            if let Some(address) = line.strip_prefix("listening on http://") {
                address.clone_into(&mut node.address);
            }
        }
        // Read on, or it would stop at a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(node)
    }

    fn records(&self) -> anyhow::Result<u64> {
        let head = http::request(&self.address, "GET /tlog/latest", "", "", PATIENCE)?;
        head.text().lines().nth(1).and_then(|size| size.parse().ok()).context("no head")
    }

    /// The most that it ever had resident.
    fn peak_kb(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no peak")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
