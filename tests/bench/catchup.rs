//! How fast a node that only verifies takes in the log of its only voter: fetched, hashed, proven, judged, accepted.
//!
//! `cargo bench --bench catchup -- [ENTRIES]`, by default 200,000. Both are processes of the real program, on the loopback
//! address. It runs twice: from the voter's claims log, and from its accepted log as if it were an upstream
//! gobuild. It prints entries a second, from the start of the follower's process to the last record, the most
//! memory that the follower ever had resident, what it has half a minute later, and what after a restart.

mod made;
mod node;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::ensure;
use node::Node;
use sumpeer::log;
use sumpeer::metrics::Metrics;
use sumpeer::store::Store;
use sumpeer::tlog::SignerKey;

/// Between two looks at the follower's size.
const LOOK: Duration = Duration::from_millis(20);
/// Until a node that was started again has nothing to do.
const QUIET: Duration = Duration::from_secs(5);
/// Until a node with nothing to do has given back what it can.
const CALM: Duration = Duration::from_secs(30);
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
            follower.status_kb("VmHWM")? as f64 / 1000.0
        );
        std::thread::sleep(CALM);
        println!("after {} s with nothing to do: {:.1} MB resident", CALM.as_secs(), resident(&follower)?);
        drop(follower);
        let follower = Node::start(&data, &more)?;
        // It reads what is there, meets its voter and goes quiet.
        std::thread::sleep(QUIET);
        ensure!(follower.records()? == entries, "it has {} records", follower.records()?);
        let at_first = resident(&follower)?;
        std::thread::sleep(CALM);
        println!("after a restart: {at_first:.1} MB resident, later {:.1}", resident(&follower)?);
    }
    Ok(())
}

/// Millions of bytes.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn resident(node: &Node) -> anyhow::Result<f64> {
    Ok(node.status_kb("VmRSS")? as f64 / 1000.0)
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
