//! A disk that is full: said in one sentence, and nothing that was committed is lost.
//!
//! The disk is a small one in memory, which takes the right to mount. Where that is missing the tests say so.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sumpeer::model::AlertKind;
use sumpeer::store::ReadOnly;
use tempfile::TempDir;

use crate::mirror::{Mirrored, made};
use crate::world::{Module, Modules, Setup, eventually, furnish, spec};

/// A file system of its own, gone when this is dropped or the test program dies.
struct Disk {
    folder: TempDir,
    /// Mounts, waits for its input to end, unmounts.
    shell: Child,
}

impl Disk {
    /// None, with a word on stderr, where this machine does not let us.
    fn new() -> Option<Disk> {
        // A node tries its walls with a copy of its own program, which is large where it was not optimized.
        let program = fs::metadata(env!("CARGO_BIN_EXE_sumpeer")).expect("the program").len();
        let mebibytes = 48 + (program >> 20);
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let place = folder.path().display();
        let script = format!(
            "mount -t tmpfs -o size={mebibytes}m,mode=700 tmpfs '{place}' && echo mounted && read end; umount -l '{place}'"
        );
        let mut shell = Command::new("/bin/sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let mut line = String::new();
        BufReader::new(shell.stdout.take().expect("piped")).read_line(&mut line).expect("a line or its end");
        if line != "mounted\n" {
            let _ = shell.wait();
            eprintln!("SKIPPED because a small disk cannot be mounted here (it takes root)");
            return None;
        }
        Some(Disk { folder, shell })
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Fills it up to this many bytes. Removing the file makes room again.
    fn fill_up_to(&self, left: u64) -> PathBuf {
        let path = self.folder.path().join("filler");
        let mut filler = fs::File::create(&path).expect("made");
        // Byte by byte at the end, so that nothing is left of the last block.
        for chunk in [1 << 20, 4096, 1] {
            while filler.write(&vec![0; chunk]).is_ok() {}
        }
        let size = filler.metadata().expect("there").len();
        filler.set_len(size.saturating_sub(left)).expect("cut");
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// A node on a disk of its own, with one record.
fn world(disk: &Disk) -> (Modules, Setup, String) {
    let modules = Modules::start();
    for version in ["v1.0.0", "v1.0.1"] {
        modules.publish(&Module::command("disk.example/x", version));
    }
    furnish(&disk.data());
    let setup = Setup::at(disk.data(), &modules);
    let node = setup.start();
    let answer = node.lookup(&spec("disk.example/x@v1.0.0"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(node.terminate().0, Some(0));
    (modules, setup, answer.text())
}

/// With room again everything is as it was told, and the second version can be had.
fn recovers(setup: &Setup, first: &str) {
    let node = setup.start();
    assert_eq!(node.lookup(&spec("disk.example/x@v1.0.0")).text(), first);
    let check = setup.check();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    let second = spec("disk.example/x@v1.0.1");
    let _ = node.send(&format!("POST /{second}retry"), "", "");
    let answer = node.lookup(&second);
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), setup.log());
    assert_eq!((node.claims(), node.records()), (2, 2));
}

fn free(folder: &Path) -> u64 {
    let output = Command::new("df").args(["--output=avail", "-B1"]).arg(folder).output().expect("df");
    String::from_utf8_lossy(&output.stdout).lines().nth(1).and_then(|free| free.trim().parse().ok()).expect("bytes")
}

#[test]
fn a_disk_that_fills_up_while_building() {
    let Some(disk) = Disk::new() else { return };
    let (_modules, setup, first) = world(&disk);
    let mut node = setup.start();
    // Room for a home and a few words, but not for the program.
    let filler = disk.fill_up_to(1 << 20);
    assert!((500_000..2_000_000).contains(&free(disk.folder.path())), "{}", free(disk.folder.path()));
    let second = spec("disk.example/x@v1.0.1");
    let answer = node.lookup(&second);
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.text().to_lowercase().contains("no space left on device"), "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    assert!(node.lives() && node.claim(&second).is_none());
    assert_eq!(node.get("/readyz").status, 200);
    fs::remove_file(filler).expect("removed");
    assert_eq!(node.terminate().0, Some(0));
    recovers(&setup, &first);
}

#[test]
fn a_disk_that_runs_short_is_told_once_until_it_has_room() {
    let Some(disk) = Disk::new() else { return };
    let (_modules, setup, _) = world(&disk);
    // Three programs of 4 MiB.
    let setup = setup.with("[build-limits]\nbinary = \"4MiB\"\n");
    let told = || {
        let rows = ReadOnly::open(&setup.data).and_then(|store| store.read(|reader| reader.alerts(0, false, 100)));
        let rows = rows.expect("alerts").into_iter().filter(|row| row.kind == AlertKind::Disk);
        rows.map(|row| if row.open { '+' } else { '-' }).collect::<String>()
    };
    let patience = Duration::from_secs(90);
    // What the first start told, with larger programs in mind, is over.
    let node = setup.start();
    eventually(patience, "there is room enough", || told() == "-");
    let filler = disk.fill_up_to(6 << 20);
    eventually(patience, "it is told", || told() == "-+");
    assert_eq!(node.get("/readyz").status, 200);
    fs::remove_file(filler).expect("removed");
    eventually(patience, "it is over", || told() == "--");
    // At the moment in which a build begins it is seen at once.
    let filler = disk.fill_up_to(6 << 20);
    let began = Instant::now();
    let _ = node.send(&format!("GET /tlog/lookup/{}?wait=1", spec("disk.example/x@v1.0.1")), "", "");
    eventually(patience, "it is told again", || told() == "--+");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    fs::remove_file(filler).expect("removed");
    assert_eq!(node.terminate().0, Some(0));
}

#[test]
fn a_disk_that_is_full_while_committing() {
    let Some(disk) = Disk::new() else { return };
    let (_modules, setup, first) = world(&disk);
    let node = setup.start();
    let filler = disk.fill_up_to(0);
    assert_eq!(free(disk.folder.path()), 0);
    // Even that it was not built for now cannot be written down.
    let _ = node.send(&format!("GET /tlog/lookup/{}?wait=60", spec("disk.example/x@v1.0.1")), "", "");
    assert_eq!(node.ends_within(Duration::from_secs(30)), Some(1));
    let log = setup.log();
    let sentence = log.lines().rfind(|line| line.starts_with("sumpeer: ")).unwrap_or_else(|| panic!("no word: {log}"));
    assert!(sentence.contains("the database cannot be written") && sentence.contains("full"), "{sentence}");
    fs::remove_file(filler).expect("removed");
    recovers(&setup, &first);
}

#[test]
fn a_full_disk_at_the_start() {
    let Some(disk) = Disk::new() else { return };
    let (_modules, setup, first) = world(&disk);
    setup.file();
    let filler = disk.fill_up_to(0);
    if let Err(said) = setup.try_start() {
        let sentence =
            said.lines().find(|line| line.starts_with("sumpeer: ")).unwrap_or_else(|| panic!("no word: {said}"));
        assert!(sentence.contains("full") || sentence.to_lowercase().contains("no space left"), "{sentence}");
    }
    fs::remove_file(filler).expect("removed");
    recovers(&setup, &first);
}

#[test]
fn a_disk_that_is_too_full_for_what_is_fetched() {
    let Some(disk) = Disk::new() else { return };
    let mut world = Mirrored::new(&["a.example", "b.example"], "");
    world.setup = world.setup.moved(disk.data());
    let mut node = world.setup.start();
    let published = world.publish("full", made(4 << 20, 1));
    assert_eq!(node.lookup(&published.spec).status, 200);
    let filler = disk.fill_up_to(1 << 20);
    let answer = node.get(&published.path);
    assert!(answer.status == 503 && answer.text().contains("no space left on device"), "{}", answer.text());
    assert!(answer.header("retry-after").is_some() && !answer.text().contains("/data"), "{}", answer.text());
    assert!(node.lives() && node.get("/readyz").status == 200);
    assert_eq!(world.downloads(), 1, "another voter is of no help");
    fs::remove_file(filler).expect("removed");
    assert!(node.get(&published.path).body == published.plain);
    world.is_whole();
}
