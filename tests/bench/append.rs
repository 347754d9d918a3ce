//! How many findings a second become records: claim, word, judgement, record, commit with one fsync a batch.
//!
//! `cargo bench --bench append -- [ENTRIES] [IN FLIGHT] [--keep FOLDER]` prints a line for each tenfold size, and some
//! plain SQLite inserts (one table, no trees, same durability, same batches) for comparison in the same run. With
//! `--keep` the folder becomes a data directory that `sumpeer serve` takes.

mod made;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use sumpeer::log;
use sumpeer::metrics::Metrics;
use sumpeer::store::{LogId, Store};
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
    let own = made::own(&key);
    println!("{in_flight} in flight, {} processors", std::thread::available_parallelism()?);
    println!("{:>9} {:>12} {:>12} {:>14}", "records", "a second", "us a record", "us, last slice");
    let start = Instant::now();
    let mut size = 0;
    while size < entries {
        // Up to 10,000, to 100,000, then 100,000 at a time.
        let slice = [10_000, 100_000].into_iter().find(|end| *end > size).unwrap_or(size + 100_000).min(entries) - size;
        let began = Instant::now();
        made::append(&store, &own, size..size + slice, in_flight).await?;
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
