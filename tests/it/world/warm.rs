//! A toolchain with its compiled standard library, made once by a real node on an empty data directory and kept
//! below `target/`; and data directories that begin with it.
//!
//! Only what a build never writes to is shared, by links. The database of every data directory is made anew, by the
//! code under test, so nothing depends on what an older version of it wrote.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use sumpeer::log::forms;
use sumpeer::metrics::Metrics;
use sumpeer::model::Target;
use sumpeer::store::{ReadOnly, Store, ToolchainRow};
use sumpeer::tlog::SignerKey;

use super::{GO, Module, Modules, Setup, kept, spec};

/// Makes a data directory whose node needs to fetch and compile nothing before its first build.
pub(crate) fn furnish(data: &Path) {
    furnish_as(data, &key());
}

/// The same for a node with this key.
pub(crate) fn furnish_as(data: &Path, key: &SignerKey) {
    let warm = warm();
    fs::create_dir_all(data).expect("a folder");
    for folder in ["toolchains", "seeds"] {
        symlink(warm.folder.join(folder), data.join(folder)).expect("a link");
    }
    fs::write(data.join("key"), format!("{}\n", key.to_text().as_str())).expect("written");
    note(data, key, GO, warm.row.clone());
}

/// Makes it seem to a furnished data directory as if this release were installed too, one that does not build for a
/// target. It is for specs that are not built: the toolchain is that of [`GO`].
pub(crate) fn furnish_without(data: &Path, go: &str, target: &str) {
    let warm = warm();
    let toolchains = data.join("toolchains");
    fs::remove_file(&toolchains).expect("a link");
    fs::create_dir(&toolchains).expect("a folder");
    for name in [GO, go] {
        symlink(warm.folder.join("toolchains").join(GO), toolchains.join(name)).expect("a link");
    }
    let mut row = warm.row.clone();
    row.targets.retain(|known| known.to_string() != target);
    note(data, &key(), go, row);
}

/// Gives a data directory a compiled standard library for another target, by name only: its files are those of the
/// host's. It is for builds that end before anything is compiled, and would else wait for it.
pub(crate) fn furnish_seed(data: &Path, target: &str) {
    let host = Target::host();
    let warm = warm().folder.join("seeds").join(GO).join(format!("{}-{}", host.goos(), host.goarch()));
    let seeds = data.join("seeds");
    if seeds.is_symlink() {
        fs::remove_file(&seeds).expect("a link");
    }
    fs::create_dir_all(seeds.join(GO)).expect("a folder");
    symlink(warm, seeds.join(GO).join(target.replace('/', "-"))).expect("a link");
}

fn key() -> SignerKey {
    SignerKey::generate("node.example", [7; 32]).expect("a key")
}

/// Writes the row of an installed toolchain.
fn note(data: &Path, key: &SignerKey, go: &str, row: ToolchainRow) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let store = Store::open(data, forms(key), Metrics::new()).expect("a database");
        let go = go.parse().expect("a version");
        store.write(move |tx| tx.put_toolchain(&go, &row)).await.expect("written");
    });
    // The writer thread lets go of the directory a moment after its last handle is gone.
    let lock = fs::File::open(data.join("lock")).expect("there");
    lock.lock().expect("free in a moment");
}

struct Warm {
    folder: PathBuf,
    row: ToolchainRow,
}

fn warm() -> &'static Warm {
    static WARM: OnceLock<Warm> = OnceLock::new();
    WARM.get_or_init(|| {
        let folder = kept("warm");
        // Another run of the tests may be at it.
        let lock = fs::File::create(folder.join("in-work")).expect("written");
        lock.lock().expect("free in a while");
        let data = folder.join(GO);
        let ready = folder.join(format!("{GO}-row"));
        if !ready.exists() {
            make(&data, &ready);
        }
        let text = fs::read_to_string(&ready).expect("just made");
        let mut lines = text.lines();
        let h1 = lines.next().expect("the hash").to_owned();
        let targets = lines.map(|target| target.parse().expect("a target")).collect();
        Warm { folder: data, row: ToolchainRow { h1, targets } }
    })
}

fn make(data: &Path, ready: &Path) {
    eprintln!("fetching {GO} and compiling its standard library, once");
    let _ = fs::remove_dir_all(data);
    let modules = Modules::start();
    modules.publish(&Module::command("warm.example/up", "v1.0.0"));
    let setup = Setup::at(data.to_owned(), &modules);
    let node = setup.start();
    let answer = node.lookup(&spec("warm.example/up@v1.0.0"));
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), setup.log());
    let (code, took) = node.terminate();
    assert!(code == Some(0) && took < Duration::from_secs(10), "{code:?} after {took:?}");
    let store = ReadOnly::open(data).expect("its database");
    let go = GO.parse().expect("a version");
    let row = store.read(|reader| reader.toolchain(&go)).expect("readable").expect("installed");
    let targets: String = row.targets.iter().map(|target| format!("{target}\n")).collect();
    let new = ready.with_extension("new");
    fs::write(&new, format!("{}\n{targets}", row.h1)).expect("written");
    fs::rename(&new, ready).expect("renamed");
}

/// Makes a data directory whose go command is a script: it stands in for the toolchain where a test needs many builds.
pub(crate) fn furnish_stub(data: &Path, script: &str) {
    let go = data.join("toolchains").join(GO).join("bin/go");
    fs::create_dir_all(go.parent().expect("a folder")).expect("made");
    fs::write(&go, script).expect("written");
    fs::set_permissions(&go, fs::Permissions::from_mode(0o755)).expect("executable");
    fs::write(data.join("key"), format!("{}\n", key().to_text().as_str())).expect("written");
    note(data, &key(), GO, ToolchainRow { h1: "h1:stub".to_owned(), targets: vec![Target::host()] });
}
