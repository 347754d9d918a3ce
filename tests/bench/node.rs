//! The real program as a process, on the loopback address, for benchmarks.

#[expect(dead_code, reason = "a client that has more than is needed here")]
#[path = "../it/world/http.rs"]
mod http;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;

/// When an answer is given up.
const PATIENCE: Duration = Duration::from_secs(600);

/// A node as a process. Dropping it kills it.
pub(crate) struct Node {
    process: Child,
    pub(crate) address: String,
}

impl Node {
    /// Starts one on a data directory, with more configuration, and waits until it listens.
    ///
    /// # Errors
    /// It has ended instead.
    pub(crate) fn start(data: &Path, more: &str) -> anyhow::Result<Node> {
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

    /// The number of its records.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) fn records(&self) -> anyhow::Result<u64> {
        let head = http::request(&self.address, "GET /tlog/latest", "", "", PATIENCE)?;
        head.text().lines().nth(1).and_then(|size| size.parse().ok()).context("no head")
    }

    /// A figure of its process in kB, as `VmRSS` or `VmHWM`.
    ///
    /// # Errors
    /// The system does not tell.
    pub(crate) fn status_kb(&self, name: &str) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Ok(line.context("no such figure")?.trim().trim_end_matches(" kB").parse()?)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
