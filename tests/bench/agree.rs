//! How long agreement takes: from the last voter's claim on disk to the record at a reader of each node.
//!
//! `cargo bench --bench agree -- [SPECS]`, by default 300. Three nodes on this machine follow each other over loopback,
//! each with a store, followers and a server of its own, as a real node has them, but without a builder: claims are
//! put in by hand. Two nodes have claimed every spec beforehand. Then the third claims one after the other, the
//! nodes taking turns in being the last, and one connection to `/tlog/stream` of each node says when the record is there.

#[expect(dead_code, reason = "findings for others, too")]
mod made;
#[path = "../shared/small.rs"]
mod small;

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use sumpeer::model::{Claim, Record};
use sumpeer::store::LogId;
use sumpeer::tlog::SignerKey;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use small::Small;

const NODES: usize = 3;
/// Between two claims, so that each is measured by itself.
const PAUSE: Duration = Duration::from_millis(10);
/// When it is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A record at a reader: of which spec, and when.
type Arrival = (String, Instant);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let specs = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(300);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let stop = CancellationToken::new();
    let mut places = Vec::new();
    for number in 0..NODES {
        let key = SignerKey::generate(&format!("node{number}.example"), [u8::try_from(number)? + 1; 32])?;
        places.push((key, TcpListener::bind("127.0.0.1:0").await?));
    }
    let mut peers = Vec::new();
    for (key, listener) in &places {
        peers.push(small::peer(key.verifier(), format!("http://{}", listener.local_addr()?).parse()?));
    }
    let (mut nodes, mut tasks, mut addresses) = (Vec::new(), Vec::new(), Vec::new());
    for (number, (key, listener)) in places.into_iter().enumerate() {
        let data = folder.path().join(number.to_string());
        std::fs::create_dir(&data)?;
        let others = peers.iter().filter(|peer| peer.key != key.verifier()).cloned().collect();
        addresses.push(listener.local_addr()?);
        let (node, parts) = Small::new(&data, &key, listener, others, &stop).await?;
        nodes.push(node);
        tasks.push(parts.run());
    }
    tokio::select! {
        result = measure(&nodes, &addresses, specs) => result,
        (result, ..) = futures_util::future::select_all(tasks.into_iter().map(Box::pin)) => {
            result.and(Err(anyhow::anyhow!("a node has ended")))
        }
    }
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
async fn measure(nodes: &[Small], addresses: &[SocketAddr], specs: u64) -> anyhow::Result<()> {
    let (arrived, arrivals) = mpsc::channel();
    for address in addresses {
        read(*address, arrived.clone())?;
    }
    let last = |number: u64| usize::try_from(number).unwrap_or(0) % NODES;
    for number in 0..specs {
        for (_, node) in nodes.iter().enumerate().filter(|(index, _)| *index != last(number)) {
            claim(node, number).await?;
        }
    }
    for node in nodes {
        heard(node, specs).await?;
    }
    let mut claimed = HashMap::new();
    for number in 0..specs {
        let spec = claim(&nodes[last(number)], number).await?;
        claimed.insert(spec, Instant::now());
        tokio::time::sleep(PAUSE).await;
    }
    let mut slowest: HashMap<String, Duration> = HashMap::new();
    let wanted = claimed.len() * NODES;
    for count in 0..wanted {
        let next = arrivals.recv_timeout(PATIENCE);
        let (spec, at) = next.with_context(|| format!("{count} of {wanted} records have come"))?;
        let began = claimed.get(&spec).context("a record of something else")?;
        let took = at.saturating_duration_since(*began);
        slowest.entry(spec).and_modify(|slowest| *slowest = took.max(*slowest)).or_insert(took);
    }
    let mut all: Vec<Duration> = slowest.into_values().collect();
    all.sort_unstable();
    let at = |percent: usize| all[(all.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    println!(
        "{} specs, {NODES} nodes: {:.1} ms median, {:.1} ms at 90 %, {:.1} ms at 99 %, {:.1} ms at most",
        all.len(),
        at(50),
        at(90),
        at(99),
        at(100)
    );
    Ok(())
}

/// Commits a node's claim; the spec.
async fn claim(node: &Small, number: u64) -> anyhow::Result<String> {
    let Claim { spec, finding, .. } = made::found(number)?.claim;
    let text = spec.to_string();
    node.claim(spec, finding).await?;
    Ok(text)
}

/// Waits until a node has taken in the first claims of the others: each of them is the last on every third spec.
async fn heard(node: &Small, specs: u64) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let logs = node.store.read(|reader| {
            let logs = reader.peer_logs()?;
            let heard: u64 = logs.iter().map(|(.., row)| row.range.size().get()).sum();
            Ok((heard, reader.count_entries(LogId::Claims)?))
        });
        let (heard, own) = logs.await?;
        // Two claims on each spec, whoever made them.
        if heard + own == 2 * specs {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "a node has heard {heard} claims");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Reads a stream of records on a thread, until its node is gone.
fn read(address: SocketAddr, arrived: mpsc::Sender<Arrival>) -> anyhow::Result<()> {
    let mut connection = TcpStream::connect(address)?;
    write!(connection, "GET /tlog/stream?from=0 HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
    std::thread::spawn(move || {
        let lines = BufReader::new(connection).lines().map_while(Result::ok);
        let texts = lines.filter_map(|line| Some(format!("{}\n", line.strip_prefix("data: ")?)));
        // Heads are no records.
        for record in texts.filter_map(|text| Record::parse(text.as_bytes()).ok()) {
            if arrived.send((record.spec.to_string(), Instant::now())).is_err() {
                return;
            }
        }
    });
    Ok(())
}
