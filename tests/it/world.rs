//! A world for tests: a module proxy with made-up modules and real toolchains, a checksum database
//! that vouches for them, and nodes that are real processes.
//!
//! What takes long is done once and kept below `target/`: a toolchain that a real node has fetched and
//! checked, and its compiled standard library ([`warm`]). Every test gets a world of its own, or shares the one node
//! of [`shared`] if what it does there cannot be seen by others.

mod database;
mod heads;
mod http;
mod modules;
mod node;
mod place;
mod shared;
mod sse;
mod tamper;
mod tls;
mod warm;

pub(crate) use heads::{Heads, is_consistent};
pub(crate) use http::request;
pub(crate) use modules::{Fault, Module, Modules};
pub(crate) use node::{Node, Setup, program, words};
pub(crate) use place::{Place, free_address};
pub(crate) use shared::{Shared, shared};
pub(crate) use sse::{Frame, Sse};
pub(crate) use tamper::{Act, Tamper, announced, whole};
pub(crate) use tls::Authority;
pub(crate) use warm::{furnish, furnish_as, furnish_seed, furnish_stub, furnish_without};

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sumpeer::log::forms;
use sumpeer::metrics::Metrics;
use sumpeer::model::Target;
use sumpeer::store::Store;
use tempfile::TempDir;

/// The Go release that tests build with.
pub(crate) const GO: &str = "go1.27.1";

/// A folder that outlives a test run, for what takes long to fetch.
pub(crate) fn kept(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).expect("a folder below target/");
    folder
}

/// A folder for the data of one test, gone with the value.
///
/// In memory where there is a file system for that, because every build makes and removes some thousand links, for
/// which some disks need seconds.
pub(crate) fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let roomy = rustix::fs::statvfs(memory).is_ok_and(|fs| fs.f_bavail * fs.f_frsize > 2 << 30);
    let folder = if roomy { memory } else { Path::new(env!("CARGO_TARGET_TMPDIR")) };
    tempfile::Builder::new().prefix("sumpeer-test-").tempdir_in(folder).expect("a folder")
}

/// The spec of a package (`module@version` or `module@version/dir`) for this machine.
pub(crate) fn spec(package: &str) -> String {
    let host = Target::host();
    format!("{package}/{}-{}-{GO}/", host.goos(), host.goarch())
}

/// Waits until something holds.
///
/// # Panics
/// If it does not within `patience`.
pub(crate) fn eventually(patience: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < patience, "not within {patience:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until nobody has a data directory open: a store is closed some moments after its last handle is gone.
pub(crate) fn released(data: &Path) {
    let lock = std::fs::File::options().write(true).open(data.join("lock")).expect("there was a node");
    eventually(Duration::from_secs(120), "the store is closed", || lock.try_lock().is_ok());
}

/// Opens the store of a node that has just ended.
pub(crate) fn open(data: &Path) -> Store {
    released(data);
    let own = sumpeer::node::read_key(&data.join("key")).expect("the node made one");
    Store::open(data, forms(&own), Metrics::new()).expect("a store")
}

/// Runs `sumpeer check` on a database that was damaged by a statement, and mends it again.
pub(crate) fn check_tells(setup: &Setup, damage: &str, finding: &str) {
    let database = setup.data.join("sumpeer.db");
    let conn = rusqlite::Connection::open(&database).expect("opened");
    conn.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").expect("in one file");
    drop(conn);
    let whole = std::fs::read(&database).expect("read");
    let conn = rusqlite::Connection::open(&database).expect("opened");
    assert!(conn.execute(damage, []).expect("damaged") > 0, "{damage}");
    drop(conn);
    let output = setup.check();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{damage}: {said}");
    let told = said.lines().any(|line| line.starts_with("WRONG") && line.contains(finding));
    assert!(told, "{damage}: {said}");
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(setup.data.join(format!("sumpeer.db{suffix}")));
    }
    std::fs::write(&database, whole).expect("as it was");
}
