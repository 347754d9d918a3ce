//! How long a download takes through a node that only verifies, against one from a voter; and what the node serves from
//! its cache, against nginx.
//!
//! `cargo bench --bench mirror -- [FILE]`, by default 40 MB that are made up. Two voters, the node and curl are processes
//! on the loopback address; nginx, if it is installed, serves the file that the node keeps. What is compared takes turns.
//! It prints medians, and the node's memory.

#[expect(dead_code, reason = "one finding is enough here")]
mod made;
mod node;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use node::Node;
use sumpeer::binaries::{self, Binaries};
use sumpeer::log;
use sumpeer::metrics::Metrics;
use sumpeer::model::{Finding, Spec, Sum};
use sumpeer::store::Store;
use sumpeer::tally::settle;
use sumpeer::tlog::SignerKey;

/// Downloads of each kind.
const ROUNDS: usize = 15;
/// Bytes of the made-up program.
const SIZE: usize = 40_000_000;
/// When it is given up.
const PATIENCE: Duration = Duration::from_secs(60);

#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let place = |name: &str| -> anyhow::Result<PathBuf> {
        let data = folder.path().join(name);
        std::fs::create_dir_all(&data)?;
        Ok(data)
    };
    let given = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let program = given.map_or_else(|| make(&folder.path().join("program")), |file| Ok(PathBuf::from(file)))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut voters = Vec::new();
    let mut config = "name = \"mirror.example\"\nmode = \"verify-only\"\n".to_owned();
    let mut published = None;
    for (name, seed) in [("one", 1), ("two", 2)] {
        let data = place(name)?;
        let key = SignerKey::generate(&format!("{name}.example"), [seed; 32])?;
        published = Some(runtime.block_on(publish(&data, &key, &program))?);
        let voter = Node::start(&data, "sandbox = \"none\"\n")?;
        let (vkey, address) = (key.verifier(), &voter.address);
        config += &format!("[[peer]]\nkey = \"{vkey}\"\nurl = \"http://{address}\"\nkind = \"sumpeer\"\n");
        voters.push(voter);
    }
    let (spec, sum) = published.context("there are voters")?;
    let data = place("mirror")?;
    let mirror = Node::start(&data, &config)?;
    let began = Instant::now();
    while mirror.records()? < 1 {
        ensure!(began.elapsed() < PATIENCE, "it has no record");
        std::thread::sleep(Duration::from_millis(20));
    }
    let path = format!("{spec}{sum}/{}", spec.file_name());
    let kept = binaries::path(&data.join("binaries"), &sum);
    let url = |node: &Node, more: &str| format!("http://{}/{path}{more}", node.address);
    println!("before: {:.1} MB resident", mirror.status_kb("VmRSS")? as f64 / 1000.0);

    let (mut direct, mut cold) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        direct.push(download(&url(&voters[0], ""))?);
        cold.push(download(&url(&mirror, ""))?);
        std::fs::remove_file(&kept).context("it was kept")?;
    }
    let ratio = median(&mut cold) / median(&mut direct);
    println!("from a voter: {:.0} ms", median(&mut direct) * 1000.0);
    println!("through the mirror, its cache empty: {:.0} ms, {ratio:.2} times that", median(&mut cold) * 1000.0);

    download(&url(&mirror, ".gz"))?;
    let nginx = Nginx::start(folder.path(), &kept);
    let (mut cached, mut its) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        cached.push(download(&url(&mirror, ".gz"))?);
        if let Ok(nginx) = &nginx {
            its.push(download(&nginx.url)?);
        }
    }
    let size = std::fs::metadata(&kept)?.len() as f64 / 1e6;
    println!("{size:.1} MB of gz from the cache: {:.1} ms", median(&mut cached) * 1000.0);
    match &nginx {
        Ok(_) => {
            let ratio = median(&mut cached) / median(&mut its);
            println!("from nginx: {:.1} ms; the node takes {ratio:.2} times that", median(&mut its) * 1000.0);
        }
        Err(error) => println!("no nginx to compare with: {error:#}"),
    }
    println!(
        "after: {:.1} MB resident, at most {:.1}",
        mirror.status_kb("VmRSS")? as f64 / 1000.0,
        mirror.status_kb("VmHWM")? as f64 / 1000.0
    );
    Ok(())
}

/// A program that compresses to half, as real ones do.
fn make(path: &Path) -> anyhow::Result<PathBuf> {
    let mut bytes = Vec::with_capacity(SIZE + 16);
    let mut state = 1_u64;
    while bytes.len() < SIZE {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes()[..4]);
        bytes.extend_from_slice(&[0x48, 0x8b, 0x44, 0x24]);
    }
    std::fs::write(path, &bytes[..SIZE])?;
    Ok(path.to_owned())
}

/// Makes a data directory whose node has claimed and kept a program.
async fn publish(data: &Path, key: &SignerKey, program: &Path) -> anyhow::Result<(Spec, Sum)> {
    std::fs::write(data.join("key"), key.to_text().as_bytes())?;
    let store = Store::open(data, log::forms(key), Metrics::new())?;
    let row = Binaries::open(data, u64::MAX, store.clone(), Metrics::new()).await?.keep(program).await?;
    let mut found = made::found(1)?;
    let (spec, sum) = (found.claim.spec.clone(), row.sum);
    found.claim.finding = Finding::Built { size: row.size, sum };
    found.binary = Some(row);
    let own = made::own(key);
    store.write(move |tx| settle(tx, &own, std::slice::from_ref(&own), &found)).await?;
    drop(store);
    // The writer thread lets go of the directory a moment after its last handle is gone.
    std::fs::File::open(data.join("lock"))?.lock()?;
    Ok((spec, sum))
}

/// Seconds that curl needs.
fn download(url: &str) -> anyhow::Result<f64> {
    let output = Command::new("curl")
        .args(["--silent", "--fail", "--noproxy", "*", "--output", "/dev/null", "--write-out", "%{time_total}", url])
        .output()
        .context("curl is needed")?;
    ensure!(output.status.success(), "{url}: {}", output.status);
    Ok(std::str::from_utf8(&output.stdout)?.parse()?)
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// nginx with one file. Dropping it ends it.
struct Nginx {
    process: Child,
    url: String,
}

impl Nginx {
    fn start(folder: &Path, file: &Path) -> anyhow::Result<Nginx> {
        let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let (root, name) = (file.parent().context("a folder")?, file.file_name().context("a name")?);
        let config = folder.join("nginx.conf");
        let user = if Command::new("id").arg("-u").output()?.stdout == b"0\n" { "user root;" } else { "" };
        write!(
            std::fs::File::create(&config)?,
            "{user} daemon off; worker_processes 1; pid {0}/nginx.pid; error_log {0}/nginx.log; events {{}}\n\
             http {{ access_log off; sendfile on; tcp_nopush on; client_body_temp_path {0}; proxy_temp_path {0}; \
             fastcgi_temp_path {0}; uwsgi_temp_path {0}; scgi_temp_path {0}; server {{ listen {address}; root {1}; }} }}\n",
            folder.display(),
            root.display(),
        )?;
        let process =
            Command::new("nginx").arg("-c").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let nginx = Nginx { process, url: format!("http://{address}/{}", name.display()) };
        let began = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            ensure!(began.elapsed() < PATIENCE, "it does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(nginx)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its worker would outlive a master that is killed.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}
