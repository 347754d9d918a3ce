//! Nothing is missed: a log grows without pause while the one who follows it and the one who serves it are killed in
//! turn, at random moments.
//!
//! `SUMPEER_TEST_FULL=1` runs the full size: 50,000 entries and 30 kills. The server is this test program once more, as a
//! process that can be killed: a small node that appends in bursts, and goes on where its log ends when it is started
//! again. The follower is the real program, verifying only, with that server as its one voter.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sumpeer::log;
use sumpeer::model::Record;
use sumpeer::store::{LogId, ReadOnly};
use sumpeer::tally::settle;
use sumpeer::tlog::{CompactRange, Head, SignerKey, leaf_hash};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::crash::{random, seed};
use crate::made;
use crate::small::Small;
use crate::world::{Modules, Place, Setup, eventually, scratch};

/// Entries appended in one transaction, and the pause after it.
const BURST: u64 = 20;
const PAUSE: Duration = Duration::from_millis(10);
/// The latest moment of a kill after the last start. A follower waits a second before it connects again.
const LATEST_MS: u64 = 1800;
/// For all that is left after the last kill.
const PATIENCE: Duration = Duration::from_secs(180);

/// What the server process is told by its environment.
const DATA: &str = "SUMPEER_TEST_FLOOD_DATA";
const ADDRESS: &str = "SUMPEER_TEST_FLOOD_ADDRESS";
const ENTRIES: &str = "SUMPEER_TEST_FLOOD_ENTRIES";

#[test]
fn nothing_is_missed_and_nothing_comes_twice() {
    let full = std::env::var_os("SUMPEER_TEST_FULL").is_some();
    let (entries, kills) = if full { (50_000, 30) } else { (10_000, 8) };
    let seed = seed();
    eprintln!("SUMPEER_TEST_SEED={seed} runs this again");
    let modules = Modules::start();
    let place = Place { key: key(), ..Place::new("server.example") };
    let folder = scratch();
    let setup = Place::new("follower.example").verifies(&modules, "", &[&place]);
    let start = || Server::start(folder.path(), &place.address, entries);

    let mut server = Some(start());
    let mut node = Some(setup.start());
    let (mut seen, mut during) = (0, 0);
    for kill in 0..kills {
        std::thread::sleep(Duration::from_millis(random(seed, kill) % LATEST_MS));
        if kill % 2 == 0 {
            // The address is free again only when the old one is gone.
            drop(server.take());
            server = Some(start());
        } else {
            drop(node.take());
            let stored = check(&setup, kill);
            assert!(stored >= seen, "after kill {kill}: {stored} entries, but there were {seen}");
            during += u32::from(stored > seen && stored < entries);
            seen = stored;
            node = Some(setup.start());
        }
    }
    let node = node.expect("started again");
    eventually(PATIENCE, "all of it is accepted", || node.records() == entries);
    let (code, _) = node.terminate();
    assert_eq!(code, Some(0), "{}", setup.log());
    drop(server);
    check(&setup, kills);
    compare(folder.path(), &setup, entries);
    eprintln!("{kills} kills, {during} of them while more had come and more was to come; {entries} entries");
    assert!(during > 0, "the follower was never killed in the middle");
}

/// What a killed follower has stored: whole, and no further than its cursor. The number of entries.
fn check(setup: &Setup, kill: u32) -> u64 {
    let checked = setup.check();
    let report = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "after kill {kill}: {report}\n{}", setup.log());
    let store = ReadOnly::open(&setup.data).expect("a database");
    let stored = store.read(|reader| {
        let mut stored = 0;
        for (_, _, row) in reader.peer_logs()? {
            stored = row.range.size().get();
            let texts = reader.peer_entries(row.id, 0, u64::MAX)?;
            let mut range = CompactRange::new();
            texts.iter().for_each(|text| range.push(leaf_hash(text)));
            assert_eq!((texts.len() as u64, range.root()), (stored, row.range.root()), "the cursor fits the entries");
            let head = row.head.as_deref().and_then(|note| Head::parse(note).ok());
            assert!(head.is_none_or(|head| head.size.get() <= stored), "the head is covered by entries");
            assert!(reader.count_entries(LogId::Accepted)? <= stored, "nothing is accepted that was not said");
        }
        Ok(stored)
    });
    stored.expect("readable")
}

/// All that the server claimed is recorded by the follower, once and in its order.
fn compare(server: &Path, setup: &Setup, entries: u64) {
    let read = |data: &Path, log| {
        let store = ReadOnly::open(data).expect("a database");
        store.read(|reader| reader.entries(log, 0, entries + 1)).expect("readable")
    };
    let records = read(&setup.data, LogId::Accepted);
    assert_eq!(records.len() as u64, entries);
    assert!(records == read(server, LogId::Accepted), "the same records in the same order");
    let parse = |text: &Vec<u8>| Record::parse(text).expect("a record").spec.to_string();
    let specs: BTreeSet<String> = records.iter().map(parse).collect();
    let wanted: BTreeSet<String> =
        (0..entries).map(|number| made::found(number).expect("a finding").claim.spec.to_string()).collect();
    assert!(specs == wanted && specs.len() as u64 == entries, "every spec, each once");
}

fn key() -> SignerKey {
    SignerKey::generate("server.example", [11; 32]).expect("a key")
}

/// The server process. Dropping it kills it.
struct Server(Child);

impl Server {
    fn start(data: &Path, address: &str, entries: u64) -> Server {
        let child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "flood::server", "--ignored", "--nocapture"])
            .envs([(DATA, data.to_str().expect("UTF-8")), (ADDRESS, address), (ENTRIES, &entries.to_string())])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn();
        Server(child.expect("this program"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "the process that the test above starts and kills"]
fn server() {
    let (Ok(data), Ok(address), Ok(entries)) = (std::env::var(DATA), std::env::var(ADDRESS), std::env::var(ENTRIES))
    else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    // A test program that was killed kills nothing: its end is the end of this input.
    std::thread::spawn(|| {
        let _ = std::io::stdin().lines().count();
        std::process::exit(0);
    });
    runtime.block_on(async {
        let listener = TcpListener::bind(&address).await.expect("free");
        let stop = CancellationToken::new();
        let (node, mut tasks) =
            Small::new(Path::new(&data), &key(), listener, Vec::new(), &stop).await.expect("a node");
        tasks.spawn("grow", grow(node, entries.parse().expect("a number"), stop.clone()));
        tasks.run().await.expect("it is killed, and does not end");
    });
}

/// Appends from where the log ends until it has so many entries.
async fn grow(node: Small, entries: u64, stop: CancellationToken) -> anyhow::Result<()> {
    let own = made::own(&key());
    let mut next = log::Log::new(&node.store, LogId::Claims).size().get();
    while next < entries {
        let (own, end) = (own.clone(), entries.min(next + BURST));
        let numbers = next..end;
        let burst = node.store.write(move |tx| {
            for number in numbers {
                settle(tx, &own, std::slice::from_ref(&own), &made::found(number)?)?;
            }
            Ok(())
        });
        burst.await?;
        next = end;
        tokio::time::sleep(PAUSE).await;
    }
    stop.cancelled().await;
    Ok(())
}
