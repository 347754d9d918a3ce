//! Tries a toolchain: asks it for its targets, and builds the same programs twice in differently placed homes.
//!
//! Out of scope: builds of strangers' code, which have walls around them ([`super::super`]). What is built here is our
//! own, with a toolchain that the checksum database vouches for.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

use super::Toolchain;
use crate::model::{GoVersion, Sum, Target, Variant};

/// What `toolchain check` builds.
pub struct Corpus;

/// One program of the corpus, built twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorpusResult {
    /// Its name in the corpus.
    pub program: &'static str,
    /// What it was built for.
    pub target: Target,
    /// Plain or stripped.
    pub variant: Variant,
    /// Sums of the two binaries; equal, if the toolchain does what it is used for.
    pub sums: [Sum; 2],
}

/// A home of the go command, with the sources of one program.
struct Home {
    dir: PathBuf,
}

/// One run of the go command.
struct Run<'a> {
    root: &'a Path,
    goversion: &'a GoVersion,
    home: &'a Home,
    target: Option<Target>,
    args: &'a [&'a str],
}

/// The smallest program: it needs the runtime and no other package, so trying a toolchain costs seconds.
const HELLO: &str = "package main\n\nfunc main() { println(\"hello\") }\n";
/// `-mod=mod` and any language version since Go 1.12 can read this.
const GO_MOD: &str = "module sumpeer.example/corpus\n\ngo 1.12\n";
/// Programs of the corpus: the runtime alone; text; hashes, compression and reflection.
const PROGRAMS: &[(&str, &str)] =
    &[("hello", HELLO), ("text", include_str!("corpus/text.go")), ("digest", include_str!("corpus/digest.go"))];
/// Every run ends long before this, unless the toolchain hangs.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often and how long to wait for a go command's file to be closed by others.
const BUSY_TRIES: u32 = 50;
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// Bytes of output that are read.
const OUTPUT_LIMIT: u64 = 64 << 10;

/// What a toolchain can build for (`go tool dist list`); pairs that this program does not know are left out.
pub(super) async fn targets(root: &Path, goversion: &GoVersion, work: &Path) -> anyhow::Result<Vec<Target>> {
    let home = Home::make(work.join("list"), HELLO).await?;
    let args = ["tool", "dist", "list"];
    let run = Run { root, goversion, home: &home, target: None, args: &args };
    let list = run.output().await?;
    let targets: Vec<Target> = list.lines().filter_map(|line| line.trim().parse().ok()).collect();
    ensure!(!targets.is_empty(), "it lists no targets");
    Ok(targets)
}

/// Builds hello at once in two homes that share nothing, and compares.
pub(super) async fn hello_twice(root: &Path, goversion: &GoVersion, work: &Path) -> anyhow::Result<()> {
    let homes = two_homes(work, HELLO).await?;
    let [one, two] = build_twice((root, goversion), &homes, Target::host(), Variant::Plain).await?;
    ensure!(one == two, "a small program built twice has different sums: {one} and {two}");
    Ok(())
}

impl Corpus {
    /// The targets that are worth checking: three systems, two processors, as far as the toolchain has them.
    pub fn targets(toolchain: &Toolchain) -> Vec<Target> {
        let targets = ["linux/amd64", "linux/arm64", "darwin/arm64", "windows/amd64"];
        let targets = targets.iter().filter_map(|target| target.parse().ok());
        targets.filter(|target| toolchain.targets.contains(target)).collect()
    }

    /// Builds every program for every target, plain and stripped, twice; tells `each` result as it comes. `work` is an
    /// empty folder.
    ///
    /// # Errors
    /// If something cannot be built at all. Different sums are results.
    pub async fn check(
        toolchain: &Toolchain,
        targets: &[Target],
        work: &Path,
        mut each: impl FnMut(CorpusResult),
    ) -> anyhow::Result<()> {
        let homes = two_homes(work, HELLO).await?;
        for target in targets.iter().copied() {
            for (program, source) in PROGRAMS {
                for home in &homes {
                    home.put_source(source).await?;
                }
                for variant in [Variant::Plain, Variant::Stripped] {
                    let sums = build_twice((&toolchain.root, &toolchain.goversion), &homes, target, variant)
                        .await
                        .with_context(|| format!("cannot build {program} for {target}"))?;
                    each(CorpusResult { program, target, variant, sums });
                }
            }
        }
        Ok(())
    }
}

/// Two homes whose paths differ in depth and length.
async fn two_homes(work: &Path, source: &str) -> anyhow::Result<[Home; 2]> {
    Ok([Home::make(work.join("a"), source).await?, Home::make(work.join("another/place/further/down"), source).await?])
}

async fn build_twice(
    toolchain: (&Path, &GoVersion),
    homes: &[Home; 2],
    target: Target,
    variant: Variant,
) -> anyhow::Result<[Sum; 2]> {
    let [one, two] = homes;
    let (one, two) = tokio::try_join!(one.build(toolchain, target, variant), two.build(toolchain, target, variant))?;
    Ok([one, two])
}

impl Home {
    async fn make(dir: PathBuf, source: &str) -> anyhow::Result<Home> {
        let home = Home { dir };
        tokio::fs::create_dir_all(home.dir.join("src")).await?;
        tokio::fs::write(home.dir.join("src/go.mod"), GO_MOD).await?;
        home.put_source(source).await?;
        Ok(home)
    }

    async fn put_source(&self, source: &str) -> anyhow::Result<()> {
        Ok(tokio::fs::write(self.dir.join("src/main.go"), source).await?)
    }

    /// Builds the program in this home, with the flags of real builds.
    async fn build(
        &self,
        (root, goversion): (&Path, &GoVersion),
        target: Target,
        variant: Variant,
    ) -> anyhow::Result<Sum> {
        let flags = match variant {
            Variant::Plain => "-ldflags=-buildid=",
            Variant::Stripped => "-ldflags=-buildid= -s",
        };
        let args = ["build", "-trimpath", flags, "-o", "../out", "."];
        let run = Run { root, goversion, home: self, target: Some(target), args: &args };
        run.output().await?;
        let binary = tokio::fs::read(self.dir.join("out")).await.context("the build left no binary")?;
        Ok(Sum::of_sha256(&Sha256::digest(binary).into()))
    }
}

impl Run<'_> {
    /// What the command prints; its error output is the error if it fails.
    async fn output(&self) -> anyhow::Result<String> {
        let dir = &self.home.dir;
        let mut command = Command::new(self.root.join("bin/go"));
        command
            .args(self.args)
            .current_dir(dir.join("src"))
            .env_clear()
            .env("HOME", dir)
            .env("GOCACHE", dir.join("cache"))
            .env("GOPATH", dir.join("path"))
            .envs([
                ("GO111MODULE", "on"),
                ("CGO_ENABLED", "0"),
                ("GOFLAGS", "-mod=mod"),
                ("GOPROXY", "off"),
                ("GOTOOLCHAIN", "local"),
                ("GOENV", "off"),
                ("GOTELEMETRY", "off"),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if self.goversion.minor() < 26 {
            // Until then the compiler's own threads could change what it writes.
            command.env("GO19CONCURRENTCOMPILATION", "0");
        }
        if let Some(target) = self.target {
            command.env("GOOS", target.goos()).env("GOARCH", target.goarch());
        } else if let Some(path) = std::env::var_os("PATH") {
            // Asked for its targets, an old toolchain runs `uname`.
            command.env("PATH", path);
        }
        let mut child = spawn(&mut command).await.context("its go command cannot be run")?;
        let mut group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let done =
            tokio::time::timeout(PATIENCE, async { tokio::join!(read_some(stdout), read_some(stderr), child.wait()) });
        let Ok((stdout, stderr, status)) = done.await else {
            bail!("go {} did not end within {PATIENCE:?}", self.args.join(" "));
        };
        let status = status?;
        // Reaped: its number may belong to someone else from now on.
        group.0 = None;
        ensure!(
            status.success(),
            "go {} failed ({status}): {}",
            self.args.join(" "),
            stderr.trim().chars().take(1000).collect::<String>()
        );
        Ok(stdout)
    }
}

/// Starts a go command that was written a moment ago. A process that another thread is starting right now may still hold
/// the file open for writing, as a copy of ours, and then the kernel says "text file busy" until it has got going.
async fn spawn(command: &mut Command) -> std::io::Result<Child> {
    let mut tries = 0;
    loop {
        match command.spawn() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES => {
                tries += 1;
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

/// Kills what a go command that was given up on has started: `compile` and `link` do not end with it.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended by itself.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

async fn read_some(from: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        // What cannot be read is missing from a message; the exit status decides.
        let _ = from.take(OUTPUT_LIMIT).read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
