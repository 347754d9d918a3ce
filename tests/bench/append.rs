//! How many findings a second become records: claim, word, judgement, record, commit with one fsync a batch.
//!
//! `cargo bench --bench append -- [ENTRIES] [IN FLIGHT] [--keep FOLDER]` prints a line for each tenfold size, and some
//! plain SQLite inserts (one table, no trees, same durability, same batches) for comparison in the same run. With
//! `--keep` the folder becomes a data directory that `sumpeer serve` takes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use sumpeer::log;
use sumpeer::metrics::Metrics;
use sumpeer::model::{Claim, Finding, Spec, Sum};
use sumpeer::store::{LogId, Store};
use sumpeer::tally::{Found, Settled, Voter, settle};
use sumpeer::tlog::SignerKey;

#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<u64> = args.iter().filter_map(|arg| arg.parse().ok()).collect();
    let entries = numbers.first().copied().unwrap_or(1_000_000);
    let in_flight = usize::try_from(numbers.get(1).copied().unwrap_or(16_384))?;
    let kept = args.iter().skip_while(|arg| *arg != "--keep").nth(1);

    let temporary = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let folder = kept.map_or(temporary.path().to_owned(), PathBuf::from);
    std::fs::create_dir_all(&folder)?;
    let key = SignerKey::generate("bench.example", [1; 32])?;
    std::fs::write(folder.join("key"), key.to_text().as_bytes())?;
    let store = Store::open(&folder, log::forms(&key), Metrics::new())?;
    let own = Voter { name: "bench.example".to_owned(), vkey: key.verifier().to_string(), own: true };
    println!("{in_flight} in flight, {} processors", std::thread::available_parallelism()?);
    println!("{:>9} {:>12} {:>12} {:>14}", "records", "a second", "us a record", "us, last slice");
    let start = Instant::now();
    let mut size = 0;
    while size < entries {
        // Up to 10,000, to 100,000, then 100,000 at a time.
        let slice = [10_000, 100_000].into_iter().find(|end| *end > size).unwrap_or(size + 100_000).min(entries) - size;
        let began = Instant::now();
        stream::iter(size..size + slice)
            .map(|number| {
                let (store, own) = (store.clone(), own.clone());
                async move {
                    let found = found(number)?;
                    let voters = [own.clone()];
                    let settled = store.write(move |tx| settle(tx, &own, &voters, &found)).await?;
                    anyhow::ensure!(matches!(settled, Settled::Accepted(_)), "not accepted: {settled:?}");
                    Ok(())
                }
            })
            .buffer_unordered(in_flight)
            .try_collect::<()>()
            .await?;
        size += slice;
        line(size, start.elapsed(), began.elapsed(), slice);
    }
    for id in LogId::ALL {
        let head = store.heads(id).borrow().clone();
        anyhow::ensure!(head.size.get() == entries, "the {} log has {} entries", id.name(), head.size);
    }
    plain_inserts(entries.min(100_000))
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn line(size: u64, all: Duration, last: Duration, slice: u64) {
    println!(
        "{size:>9} {:>12.0} {:>12.1} {:>14.1}",
        size as f64 / all.as_secs_f64(),
        all.as_secs_f64() * 1e6 / size as f64,
        last.as_secs_f64() * 1e6 / slice as f64,
    );
}

fn found(number: u64) -> anyhow::Result<Found> {
    // Modules in no order, as people ask for them.
    let module = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    let text = format!("example.com/m{module}@v1.0.{number}/cmd/x/linux-amd64-go1.27.1/");
    let spec: Spec = text.parse()?;
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    let sum = Sum::of_sha256(&bytes);
    Ok(Found {
        claim: Claim {
            spec,
            finding: Finding::Built { size: 1_000_000, sum },
            at: jiff::Timestamp::from_second(1_790_000_000)?,
            host: "linux/amd64".to_owned(),
            toolchain: "h1:Q8bzRgwWHhsCz6+8Yx6xsfJPUkgrzbO2BVn9YuJkHY8=".to_owned(),
            sandbox: "bwrap".to_owned(),
        },
        binary: None,
        log_gz: Vec::new(),
    })
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
fn plain_inserts(count: u64) -> anyhow::Result<()> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut conn = rusqlite::Connection::open(folder.path().join("plain.db"))?;
    conn.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE t (number INTEGER PRIMARY KEY, text BLOB NOT NULL) STRICT;",
    )?;
    let start = Instant::now();
    let mut number = 0;
    while number < count {
        let tx = conn.transaction()?;
        for _ in 0..1024 {
            tx.prepare_cached("INSERT INTO t VALUES (?1, ?2)")?.execute((number.cast_signed(), vec![b'x'; 110]))?;
            number += 1;
        }
        tx.commit()?;
    }
    println!("for comparison, plain inserts into one table, 1024 a transaction:");
    line(number, start.elapsed(), start.elapsed(), number);
    Ok(())
}
