//! How a go command is run: walls around it, limits on it, and nothing of it left behind.
//!
//! ```text
//! node ──pipe──▶ supervisor ──▶ bwrap ──▶ inside (forwarder) ──▶ confine ─exec─▶ go     bwrap
//!      ◀─output─     (forwarder) ─────────────────────────────▶ confine ─exec─▶ go     landlock, none
//! ```
//!
//! All stages but `bwrap` and `go` are this program, executed again ([`crate::cli`] has the hidden
//! subcommands; they read the [`Order`] made here). The supervisor lives as long as the pipe from
//! the node is open: a process group does not die with a killed node, the supervisor's does.
//!
//! Out of scope: which command is run, in which home, and what its output means ([`super::run`]).
//!
//! Invariant: when [`Sandbox::run`] returns, no process of that run is alive.

mod cgroup;
pub mod order;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use cgroup::{Cgroup, Cgroups};
pub use order::{Order, Rooms, Wall};

/// What the operator asked for: the setting `sandbox`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// bubblewrap where it works, else landlock; neither is an error.
    #[default]
    Auto,
    Bwrap,
    Landlock,
    /// Limits only. Never chosen by [`Choice::Auto`].
    None,
}

/// How long the supervisor may take to kill what it started. It sends SIGKILL at once; the rest is
/// the kernel tearing down address spaces.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// How long a trial run at start may take.
const TRIAL_TIME: Duration = Duration::from_secs(20);

/// The exit status of a helper stage that could not do its part, as opposed to the go command's
/// own (0, 1 or 2). Its words are in the output.
pub const SETUP_FAILED: i32 = 120;

/// Limits on one run of a go command.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Wall-clock time.
    pub time: Duration,
    /// Bytes of memory: of all processes together where a control group can be made, else of the
    /// data of each process.
    pub memory: u64,
    /// Bytes of the largest file that may be written.
    pub file: u64,
}

/// One command to run: the go command of a toolchain with arguments and environment.
#[derive(Clone, Debug)]
pub struct Job {
    /// Folders and socket, as the host names them.
    pub rooms: Rooms,
    /// Arguments of the go command, without the program's name.
    pub args: Vec<String>,
    /// The whole environment, but for `GOPROXY` where the rooms have a socket: its port is known
    /// only inside.
    pub env: Vec<(String, String)>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The go command came to an end, with this status.
    Exited(i32),
    /// It took longer than [`Limits::time`] and was killed.
    TimedOut,
    /// The kernel killed a process of it for the memory limit.
    OutOfMemory,
    /// The node is stopping, and so it was killed.
    Stopped,
}

/// A way to run go commands that was tried and works.
#[derive(Clone, Debug)]
pub struct Sandbox {
    wall: Wall,
    /// This program.
    helper: PathBuf,
    cgroups: Option<Cgroups>,
    /// One sentence: what was chosen and why.
    reason: String,
}

impl Sandbox {
    /// Tries what `choice` names, by running this program (`helper`) in it, and takes the first
    /// that works. `scratch` is an existing folder of our own for the trial.
    ///
    /// # Errors
    /// Says for each wall why it does not work here, and what can be done.
    pub async fn detect(choice: Choice, helper: PathBuf, scratch: &Path) -> anyhow::Result<Sandbox> {
        let candidates = match choice {
            Choice::Auto => vec![bwrap(), Ok(Wall::Landlock)],
            Choice::Bwrap => vec![bwrap()],
            Choice::Landlock => vec![Ok(Wall::Landlock)],
            Choice::None => vec![Ok(Wall::None)],
        };
        let cgroups = Cgroups::detect();
        let mut failures = Vec::new();
        for candidate in candidates {
            let tried = match candidate {
                Ok(wall) => {
                    let mut sandbox =
                        Sandbox { wall, helper: helper.clone(), cgroups: cgroups.clone(), reason: String::new() };
                    sandbox.trial(scratch).await.map(|()| {
                        sandbox.reason = sandbox.describe(&failures);
                        sandbox
                    })
                }
                Err(reason) => Err(reason),
            };
            match tried {
                Ok(sandbox) => {
                    info!(sandbox = sandbox.name(), reason = sandbox.reason, "builds are confined");
                    return Ok(sandbox);
                }
                // A full disk says nothing about walls.
                Err(reason) if is_full(&reason) => return Err(reason.context("cannot try the walls around builds")),
                Err(reason) => failures.push(format!("{reason:#}")),
            }
        }
        bail!(
            "builds cannot be confined on this machine: {}. Install bubblewrap, allow user \
             namespaces, or use a kernel with landlock (6.7 or newer); sandbox = \"none\" builds \
             without walls",
            failures.join("; ")
        )
    }

    /// `bwrap`, `landlock` or `none`, as claims say it.
    pub fn name(&self) -> &'static str {
        match self.wall {
            Wall::Bwrap { .. } => "bwrap",
            Wall::Landlock => "landlock",
            Wall::None => "none",
        }
    }

    /// One sentence for the operator: what was chosen and why.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The rooms as the go command sees them: fixed paths where it has a file system of its own.
    pub fn inside(&self, rooms: &Rooms) -> Rooms {
        match self.wall {
            Wall::Bwrap { .. } => rooms.fixed(),
            Wall::Landlock | Wall::None => rooms.clone(),
        }
    }

    /// A seed's folder as the go command sees it.
    pub fn seed_inside(&self, seed: &Path) -> PathBuf {
        match self.wall {
            Wall::Bwrap { .. } => PathBuf::from(order::FIXED_SEED),
            Wall::Landlock | Wall::None => seed.to_owned(),
        }
    }

    /// Runs one command to its end, handing its output over as it comes.
    ///
    /// Dropping the future kills the command too, but does not wait for it to be gone.
    ///
    /// # Errors
    /// When the command could not be started or watched: trouble of ours, never a finding.
    pub async fn run(
        &self,
        job: &Job,
        limits: &Limits,
        stop: &CancellationToken,
        mut said: impl FnMut(&[u8]),
    ) -> anyhow::Result<Ended> {
        let deadline = Instant::now() + limits.time;
        let cgroup = match &self.cgroups {
            Some(cgroups) => Some(cgroups.make(limits.memory)?),
            None => None,
        };
        let (mut child, mut output) = self.start(job, limits, cgroup.as_ref()).await?;
        let mut buffer = vec![0; 16 << 10];
        let cut = loop {
            tokio::select! {
                read = output.read(&mut buffer) => match read.context("cannot read the build's output")? {
                    0 => break None,
                    n => said(&buffer[..n]),
                },
                () = sleep_until(deadline) => break Some(Ended::TimedOut),
                () = stop.cancelled() => break Some(Ended::Stopped),
            }
        };
        if cut.is_some() {
            // Closing the pipe tells the supervisor to kill the group.
            drop(child.stdin.take());
        }
        let status = timeout(KILL_GRACE, child.wait())
            .await
            .context("the build's processes do not end")?
            .context("cannot wait for the build")?;
        let starved = cgroup.as_ref().is_some_and(Cgroup::starved);
        drop(cgroup);
        debug!(?cut, ?status, starved, "go command ended");
        if let Some(cut) = cut {
            return Ok(cut);
        }
        if starved {
            return Ok(Ended::OutOfMemory);
        }
        match status.code() {
            Some(SETUP_FAILED) => bail!("the sandbox could not be set up"),
            Some(code) => Ok(Ended::Exited(code)),
            None => bail!("the build's supervisor was killed: {status}"),
        }
    }

    /// Starts the supervisor and gives it its order.
    async fn start(
        &self,
        job: &Job,
        limits: &Limits,
        cgroup: Option<&Cgroup>,
    ) -> anyhow::Result<(Child, pipe::Receiver)> {
        let order = Order {
            wall: self.wall.clone(),
            helper: self.helper.clone(),
            host: job.rooms.clone(),
            inside: self.inside(&job.rooms),
            args: job.args.clone(),
            env: job.env.clone(),
            data_limit: cgroup.is_none().then_some(limits.memory),
            file_limit: limits.file,
            cgroup: cgroup.map(|cgroup| cgroup.procs()),
            port: None,
        };
        let mut line = serde_json::to_vec(&order).context("a path of the build is not UTF-8")?;
        line.push(b'\n');
        let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
        let mut child = Command::new(&self.helper)
            .arg(order::SUPERVISE)
            .env_clear()
            .stdin(Stdio::piped())
            // One pipe for both, so that lines stay in the order they were written in.
            .stdout(writer.try_clone().context("cannot make a pipe")?)
            .stderr(writer)
            // A Ctrl-C on the node's terminal must reach the node alone: it ends builds in order.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", self.helper.display()))?;
        let stdin = child.stdin.as_mut().expect("stdin was asked for as a pipe");
        stdin.write_all(&line).await.context("the build's supervisor does not listen")?;
        let output = pipe::Receiver::from_owned_fd(reader.into()).context("cannot read a pipe")?;
        Ok((child, output))
    }

    /// Runs this program behind the wall, where it checks that the wall stands.
    async fn trial(&self, scratch: &Path) -> anyhow::Result<()> {
        let root = tempfile::tempdir_in(scratch).context("cannot make a folder for a trial")?;
        let root = fs::canonicalize(root.path()).context("cannot find a folder just made")?;
        let rooms = Rooms { toolchain: root.join("toolchain"), seed: None, home: root.join("home"), socket: None };
        // A file beside the rooms: what the host has and a build must not see.
        let mut secret = fs::File::create(root.join("secret")).context("cannot write for a trial")?;
        secret.write_all(b"unseen").context("cannot write for a trial")?;
        let bin = rooms.toolchain.join("bin");
        fs::create_dir_all(&bin).context("cannot make a folder for a trial")?;
        fs::create_dir_all(rooms.home.join("tmp")).context("cannot make a folder for a trial")?;
        fs::copy(&self.helper, bin.join("go")).context("cannot copy this program for a trial")?;
        let job = Job {
            args: vec![
                order::PROBE.to_owned(),
                root.join("secret").to_string_lossy().into_owned(),
                self.name().to_owned(),
            ],
            env: Vec::new(),
            rooms,
        };
        let limits = Limits { time: TRIAL_TIME, memory: 1 << 30, file: 1 << 20 };
        let mut output = Vec::new();
        let never = CancellationToken::new();
        let ended = self
            .run(&job, &limits, &never, |bytes| {
                output.extend_from_slice(&bytes[..bytes.len().min(4096)]);
            })
            .await;
        let words = String::from_utf8_lossy(&output);
        let words = words.trim();
        let ended = ended.with_context(|| format!("{} does not work: {words}", self.name()))?;
        ensure!(ended == Ended::Exited(0), "{} does not work: {words} ({ended:?})", self.name());
        Ok(())
    }

    /// The sentence of [`Sandbox::reason`].
    fn describe(&self, failures: &[String]) -> String {
        let mut text = match self.wall {
            Wall::Bwrap { .. } => "bubblewrap works".to_owned(),
            Wall::Landlock => "landlock and seccomp work".to_owned(),
            Wall::None => "the settings say \"none\"".to_owned(),
        };
        text.push_str(match self.cgroups {
            Some(_) => "; memory is limited by a control group",
            None => "; memory is limited for each process, no control group can be made",
        });
        for failure in failures {
            text.push_str("; ");
            text.push_str(failure);
        }
        text
    }
}

/// The wall of bubblewrap, if the program is installed.
fn is_full(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref::<io::Error>();
    cause.is_some_and(|cause| matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
}

fn bwrap() -> anyhow::Result<Wall> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join("bwrap"))
        .find(|program| program.is_file())
        .map(|program| Wall::Bwrap { program })
        .context("bwrap is not installed")
}
