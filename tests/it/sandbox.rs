//! Walls stand, and nothing that a build starts outlives it: real processes, real kernel.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sumpeer::builder::sandbox::{Choice, Ended, Job, Limits, Rooms, Sandbox};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// A shell in the place of the go command: what it is told to do stands for a hostile compiler.
struct World {
    _data: TempDir,
    rooms: Rooms,
    sandbox: Sandbox,
}

const LIMITS: Limits = Limits { time: Duration::from_secs(20), memory: 1 << 30, file: 10 << 20 };

impl World {
    /// None, with a word on stderr, where this machine cannot have that wall.
    async fn new(choice: Choice) -> Option<World> {
        let data = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(data.path()).unwrap();
        let sandbox = match Sandbox::detect(choice, env!("CARGO_BIN_EXE_sumpeer").into(), &root).await {
            Ok(sandbox) => sandbox,
            Err(error) => {
                eprintln!("not tested here: {error:#}");
                return None;
            }
        };
        let rooms = Rooms {
            toolchain: root.join("toolchain"),
            seed: Some(root.join("seed")),
            home: root.join("home"),
            socket: None,
        };
        let bin = rooms.toolchain.join("bin");
        for folder in [&bin, &root.join("seed"), &root.join("home/tmp")] {
            fs::create_dir_all(folder).unwrap();
        }
        for (from, to) in [("/bin/sh", "go"), ("/bin/sleep", "sleep"), ("/bin/cat", "cat")] {
            fs::copy(from, bin.join(to)).unwrap();
        }
        fs::write(root.join("seed/entry"), "seed").unwrap();
        Some(World { _data: data, rooms, sandbox })
    }

    fn job(&self, script: &str) -> Job {
        let inside = self.sandbox.inside(&self.rooms);
        let script = script
            .replace("BIN", &inside.toolchain.join("bin").to_string_lossy())
            .replace("SEED", &inside.seed.as_ref().unwrap().to_string_lossy());
        Job { rooms: self.rooms.clone(), args: vec!["-c".into(), script], env: vec![("A".into(), "b c".into())] }
    }

    async fn run(&self, script: &str) -> (Ended, String) {
        self.run_with(script, LIMITS, &CancellationToken::new()).await
    }

    async fn run_with(&self, script: &str, limits: Limits, stop: &CancellationToken) -> (Ended, String) {
        let mut output = Vec::new();
        let job = self.job(script);
        let ended = self.sandbox.run(&job, &limits, stop, |bytes| output.extend_from_slice(bytes));
        let ended = ended.await.unwrap();
        (ended, String::from_utf8_lossy(&output).into_owned())
    }
}

/// Ids of processes with this text in their command line.
fn alive(text: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if pid != std::process::id() && String::from_utf8_lossy(&line).contains(text) {
            found.push(pid);
        }
    }
    found
}

/// Waits until `count` processes have the text; fails after 10 s.
fn wait_for(text: &str, wanted: impl Fn(usize) -> bool) {
    let begin = Instant::now();
    while !wanted(alive(text).len()) {
        assert!(begin.elapsed() < Duration::from_secs(10), "still alive: {:?}", alive(text));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A number of seconds that no other process sleeps: it marks what a test started.
fn mark(number: u32) -> String {
    format!("{}{number:02}", 1_000_000 + std::process::id())
}

const WALLS: [Choice; 2] = [Choice::Bwrap, Choice::Landlock];
const ALL: [Choice; 3] = [Choice::Bwrap, Choice::Landlock, Choice::None];

#[tokio::test]
async fn a_build_sees_its_rooms_and_nothing_else() {
    for choice in WALLS {
        let Some(world) = World::new(choice).await else {
            continue;
        };
        let secret = world.rooms.home.with_file_name("secret");
        fs::write(&secret, "unseen").unwrap();
        for (script, expected) in [
            ("echo out; echo err >&2; exit 3".to_owned(), (3, "out\nerr\n")),
            ("echo $A-$HOME-$GOPROXY".to_owned(), (0, "b c--\n")),
            ("BIN/cat SEED/entry".to_owned(), (0, "seed")),
            ("echo more > file && BIN/cat file".to_owned(), (0, "more\n")),
            (format!("BIN/cat {} 2>/dev/null", secret.display()), (1, "")),
            ("(echo x > SEED/entry) 2>/dev/null".to_owned(), (2, "")),
            ("(echo x > BIN/new) 2>/dev/null".to_owned(), (2, "")),
            ("BIN/cat /etc/passwd 2>/dev/null".to_owned(), (1, "")),
            ("(echo x > /usr/lib/x) 2>/dev/null".to_owned(), (2, "")),
        ] {
            let (ended, output) = world.run(&script).await;
            assert_eq!((ended, output.as_str()), (Ended::Exited(expected.0), expected.1), "{choice:?}: {script}");
        }
        assert_eq!(fs::read_to_string(world.rooms.seed.as_ref().unwrap().join("entry")).unwrap(), "seed");
    }
}

#[tokio::test]
async fn nothing_outlives_the_end_of_a_command() {
    for (number, choice) in ALL.into_iter().enumerate() {
        let Some(world) = World::new(choice).await else {
            continue;
        };
        let mark = mark(u32::try_from(number).unwrap());
        let (ended, _) = world.run(&format!("BIN/sleep {mark} & (BIN/sleep {mark} &) ; exit 0")).await;
        assert_eq!(ended, Ended::Exited(0));
        wait_for(&mark, |count| count == 0);
    }
}

#[tokio::test]
async fn nothing_outlives_its_time_a_stop_or_a_drop() {
    for (number, choice) in ALL.into_iter().enumerate() {
        let Some(world) = World::new(choice).await else {
            continue;
        };
        let mark = mark(10 + u32::try_from(number).unwrap());
        let script = format!("(BIN/sleep {mark} &); BIN/sleep {mark}; exit 0");

        let short = Limits { time: Duration::from_millis(700), ..LIMITS };
        let begin = Instant::now();
        let (ended, _) = world.run_with(&script, short, &CancellationToken::new()).await;
        assert_eq!(ended, Ended::TimedOut);
        assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
        wait_for(&mark, |count| count == 0);

        let stop = CancellationToken::new();
        let run = world.run_with(&script, LIMITS, &stop);
        let (ended, ()) = tokio::join!(run, async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert!(!alive(&mark).is_empty(), "it runs");
            stop.cancel();
        });
        assert_eq!(ended.0, Ended::Stopped);
        wait_for(&mark, |count| count == 0);

        let run = world.run(&script);
        let dropped = tokio::time::timeout(Duration::from_millis(500), run).await;
        assert!(dropped.is_err(), "it was still running");
        wait_for(&mark, |count| count == 0);
    }
}

/// The node of this test is this test's own program, run again with a variable that makes the test
/// [`node_to_be_killed`] do something.
#[tokio::test]
async fn nothing_outlives_a_killed_node() {
    for (number, choice) in ["bwrap", "landlock", "none"].into_iter().enumerate() {
        let mark = mark(20 + u32::try_from(number).unwrap());
        let mut node = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sandbox::node_to_be_killed", "--nocapture"])
            .env("SUMPEER_TEST_NODE", format!("{choice} {mark}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begin = Instant::now();
        while alive(&mark).len() < 2 && node.try_wait().unwrap().is_none() {
            assert!(begin.elapsed() < Duration::from_secs(10), "the node starts nothing");
            std::thread::sleep(Duration::from_millis(20));
        }
        node.kill().unwrap();
        node.wait().unwrap();
        wait_for(&mark, |count| count == 0);
    }
}

#[tokio::test]
async fn node_to_be_killed() {
    let Ok(order) = std::env::var("SUMPEER_TEST_NODE") else {
        return;
    };
    let (choice, mark) = order.split_once(' ').unwrap();
    let choice = match choice {
        "bwrap" => Choice::Bwrap,
        "landlock" => Choice::Landlock,
        _ => Choice::None,
    };
    if let Some(world) = World::new(choice).await {
        world.run(&format!("(BIN/sleep {mark} &); BIN/sleep {mark}; exit 0")).await;
    }
}

#[tokio::test]
async fn a_killed_supervisor_takes_its_build_along() {
    for (number, choice) in WALLS.into_iter().enumerate() {
        let Some(world) = World::new(choice).await else {
            continue;
        };
        let mark = mark(30 + u32::try_from(number).unwrap());
        let script = format!("exec BIN/sleep {mark}");
        let job = world.job(&script);
        let stop = CancellationToken::new();
        let run = world.sandbox.run(&job, &LIMITS, &stop, |_| ());
        let kill = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let sleeper = alive(&mark);
            assert!(!sleeper.is_empty(), "it runs");
            for pid in children_of(std::process::id()) {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                // Other tests of this process have supervisors too: ours is above the sleeper.
                if String::from_utf8_lossy(&line).contains("helper-supervise")
                    && descendants(pid).iter().any(|pid| sleeper.contains(pid))
                {
                    Command::new("/bin/kill").args(["-9", &pid.to_string()]).status().unwrap();
                }
            }
        };
        let (ended, ()) = tokio::join!(run, kill);
        assert!(ended.is_err(), "{ended:?}");
        wait_for(&mark, |count| count == 0);
    }
}

fn children_of(pid: u32) -> Vec<u32> {
    let mut children = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let list = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        children.extend(list.split_whitespace().map(|pid| pid.parse::<u32>().unwrap()));
    }
    children
}

fn descendants(pid: u32) -> Vec<u32> {
    let mut all = children_of(pid);
    let mut at = 0;
    while at < all.len() {
        all.extend(children_of(all[at]));
        at += 1;
    }
    all
}

#[tokio::test]
async fn limits_hold() {
    for choice in ALL {
        let Some(world) = World::new(choice).await else {
            continue;
        };
        // A shell that doubles a variable until there is no memory left.
        let small = Limits { memory: 64 << 20, ..LIMITS };
        let (ended, output) =
            world.run_with("x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done", small, &CancellationToken::new()).await;
        assert!(
            ended == Ended::OutOfMemory || matches!(ended, Ended::Exited(status) if status != 0),
            "{choice:?}: {ended:?} {output}"
        );
        let (ended, _) = world.run("while :; do echo 0123456789012345678901234567890123456789; done > big").await;
        assert_ne!(ended, Ended::Exited(0));
        let size = fs::metadata(world.rooms.home.join("big")).unwrap().len();
        assert!(size <= LIMITS.file, "{size} bytes");
        fs::remove_file(world.rooms.home.join("big")).unwrap();
    }
}

#[tokio::test]
async fn a_helper_that_cannot_do_its_part_is_no_finding() {
    let Some(world) = World::new(Choice::None).await else {
        return;
    };
    let mut job = world.job("exit 0");
    job.rooms.toolchain = PathBuf::from("/nonexistent");
    let mut words = Vec::new();
    let ended =
        world.sandbox.run(&job, &LIMITS, &CancellationToken::new(), |bytes| words.extend_from_slice(bytes)).await;
    assert!(ended.is_err());
    let words = String::from_utf8_lossy(&words).into_owned();
    assert!(words.contains("cannot run /nonexistent/bin/go"), "{words}");
}

#[tokio::test]
async fn a_program_that_is_no_helper_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let fake = data.path().join("fake");
    fs::write(&fake, "#!/bin/sh\nexit 7\n").unwrap();
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
    let error = Sandbox::detect(Choice::Auto, fake, Path::new(data.path())).await.unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("bwrap") && text.contains("landlock") && text.contains("sandbox = \"none\""), "{text}");
}
