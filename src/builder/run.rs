//! One spec → one outcome: home, go command, and what came of it.
//!
//! Out of scope: walls and limits ([`super::sandbox`]), the meaning of words ([`super::classify`]),
//! where toolchain, seed and module proxy come from ([`super::work`]).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tokio_util::sync::CancellationToken;

use super::classify::{self, Reading};
use super::home::Home;
use super::sandbox::{Ended, Job, Limits, Rooms, Sandbox};
use super::transcript::Transcript;
use crate::model::{Class, GoVersion, Spec, Target, Variant};

/// What a run needs besides the spec.
pub struct Run<'a> {
    pub sandbox: &'a Sandbox,
    pub limits: &'a Limits,
    /// Bytes of the largest program that is kept.
    pub binary_limit: u64,
    /// The setting `gosumdb`, if the operator made it.
    pub gosumdb: Option<&'a str>,
    pub home: &'a Home,
    /// Folder of the Go distribution.
    pub toolchain: &'a Path,
    /// Its hash, for the log.
    pub toolchain_h1: &'a str,
    /// Folder of the compiled standard library.
    pub seed: Option<&'a Path>,
    pub transcript: &'a Transcript,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// The finished program, in the home.
    Program(PathBuf),
    /// No program, and why.
    Nothing(Reading),
    /// The time limit. Another try may be luckier.
    TimedOut,
    /// The node is stopping.
    Stopped,
}

impl Run<'_> {
    /// Runs the go command for `spec`. The module proxy listens on the home's
    /// socket already, and the seed has been lent to it.
    ///
    /// # Errors
    /// Trouble of ours: nothing is said about the spec.
    pub async fn build(&self, spec: &Spec, stop: &CancellationToken, mut said: impl FnMut()) -> anyhow::Result<Found> {
        let rooms = self.home.rooms(self.toolchain, self.seed, Some(&self.home.socket()));
        let inside = self.sandbox.inside(&rooms);
        let job = Job {
            args: install_arguments(spec),
            env: environment(&spec.goversion, spec.target, &inside, self.gosumdb),
            rooms,
        };
        self.introduce(spec, &job);
        let ended = self.sandbox.run(&job, self.limits, stop, |bytes| {
            self.transcript.output(bytes);
            said();
        });
        match ended.await? {
            Ended::Exited(0) => self.program(spec),
            Ended::Exited(status @ (1 | 2)) => {
                self.transcript.note(&format!("# the go command ended with status {status}"));
                Ok(Found::Nothing(classify::classify(spec, &self.transcript.words(), |path| {
                    self.on_host(&inside, path)
                })))
            }
            Ended::Exited(status) => Ok(Found::Nothing(Reading::Temporary {
                detail: format!("the go command crashed with status {status}"),
            })),
            Ended::OutOfMemory => Ok(Found::Nothing(Reading::Temporary {
                detail: format!("the build needed more memory than its limit of {} MiB", self.limits.memory >> 20),
            })),
            Ended::TimedOut => {
                self.transcript.note(&format!("# killed after {} s", self.limits.time.as_secs()));
                Ok(Found::TimedOut)
            }
            Ended::Stopped => Ok(Found::Stopped),
        }
    }

    /// The first lines of the log: how to do the same by hand.
    fn introduce(&self, spec: &Spec, job: &Job) {
        let env: Vec<String> = job.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        for line in [
            format!("# {spec}"),
            format!("# environment: {} GOPROXY=(this build's)", env.join(" ")),
            format!("# command: go {}", job.args.join(" ")),
            format!("# toolchain: {} {}", spec.goversion, self.toolchain_h1),
            format!("# sandbox: {} on {}", self.sandbox.name(), Target::host()),
        ] {
            self.transcript.note(&line);
        }
    }

    /// Finds what a successful go command made.
    fn program(&self, spec: &Spec) -> anyhow::Result<Found> {
        let bin = self.home.root().join("go/bin");
        let name = spec.program_name();
        let target = format!("{}_{}", spec.target.goos(), spec.target.goarch());
        for path in [bin.join(&name), bin.join(target).join(&name)] {
            match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_file() && meta.len() > self.binary_limit => {
                    return Ok(Found::Nothing(Reading::Cannot {
                        class: Class::TooLarge,
                        detail: format!(
                            "the program has {} bytes, more than the limit of {}",
                            meta.len(),
                            self.binary_limit
                        ),
                    }));
                }
                Ok(meta) if meta.is_file() => return Ok(Found::Program(path)),
                Ok(_) => bail!("the build made {} something that is no file", path.display()),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot look for {}", path.display()));
                }
            }
        }
        if spec.goversion.minor() < 18 {
            return Ok(Found::Nothing(classify::no_program(&self.package(spec))));
        }
        bail!("the go command succeeded, but left no program {name}")
    }

    /// The package's folder in the build's module cache.
    fn package(&self, spec: &Spec) -> PathBuf {
        let module = format!("{}@{}", spec.module.escaped(), spec.version.escaped());
        self.home.root().join("mod").join(module).join(spec.dir.as_str())
    }

    /// The host's path of a path below the home as the go command has it.
    fn on_host(&self, inside: &Rooms, path: &Path) -> Option<PathBuf> {
        let below = path.strip_prefix(&inside.home).ok()?;
        let normal = |part| matches!(part, std::path::Component::Normal(_));
        below.components().all(normal).then(|| self.home.root().join(below))
    }
}

/// The arguments that decide a sum: `go install -trimpath -ldflags=-buildid= -- <package>@<version>`.
fn install_arguments(spec: &Spec) -> Vec<String> {
    // `go install` takes a version since Go 1.16, but only `go get` did as upstream does before 1.18.
    let verb = if spec.goversion.minor() < 18 { "get" } else { "install" };
    let mut args = go_arguments(verb, spec.variant);
    args.push(format!("{}@{}", spec.package(), spec.version));
    args
}

/// A go command with the flags of all builds, up to the `--` before packages.
pub(super) fn go_arguments(verb: &str, variant: Variant) -> Vec<String> {
    let ldflags = match variant {
        Variant::Plain => "-ldflags=-buildid=",
        Variant::Stripped => "-ldflags=-buildid= -s",
    };
    [verb, "-trimpath", ldflags, "--"].map(str::to_owned).into()
}

/// The whole environment of a go command in the rooms `inside`, but for `GOPROXY`.
pub(super) fn environment(
    goversion: &GoVersion,
    target: Target,
    inside: &Rooms,
    gosumdb: Option<&str>,
) -> Vec<(String, String)> {
    let home = inside.home.to_string_lossy();
    let mut env: Vec<(String, String)> = [
        ("GO111MODULE", "on".to_owned()),
        ("CGO_ENABLED", "0".to_owned()),
        ("GOOS", target.goos().to_owned()),
        ("GOARCH", target.goarch().to_owned()),
        ("GOTOOLCHAIN", goversion.to_string()),
        ("HOME", home.to_string()),
        ("GOCACHE", format!("{home}/cache")),
        ("GOMODCACHE", format!("{home}/mod")),
        ("GOPATH", format!("{home}/go")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    let mut add = |name: &str, value: String| env.push((name.to_owned(), value));
    if goversion.minor() < 26 {
        // Concurrent compilation once made binaries differ; newer Go versions do not know the variable.
        add("GO19CONCURRENTCOMPILATION", "0".to_owned());
    }
    if let Some(gosumdb) = gosumdb {
        add("GOSUMDB", gosumdb.to_owned());
    }
    if !inside.is_fixed() {
        // The host's own folder for temporary files is not the build's.
        add("TMPDIR", format!("{home}/tmp"));
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(spec: &str) -> String {
        install_arguments(&spec.parse().unwrap()).join(" ")
    }

    #[test]
    fn the_command_is_what_decides_the_sum() {
        assert_eq!(
            command("filippo.io/age@v1.2.1/cmd/age/linux-amd64-go1.27.1/"),
            "install -trimpath -ldflags=-buildid= -- filippo.io/age/cmd/age@v1.2.1"
        );
        assert_eq!(
            command("rsc.io/2fa@v1.2.0/windows-amd64-go1.18-stripped/"),
            "install -trimpath -ldflags=-buildid= -s -- rsc.io/2fa@v1.2.0"
        );
        assert_eq!(
            command("rsc.io/2fa@v1.2.0/linux-amd64-go1.17.13/"),
            "get -trimpath -ldflags=-buildid= -- rsc.io/2fa@v1.2.0"
        );
    }

    #[test]
    fn the_environment_is_whole_and_nothing_else() {
        let rooms = Rooms { toolchain: "/data/toolchain".into(), seed: None, home: "/data/h1".into(), socket: None };
        let names = |goversion: &str, rooms: &Rooms, gosumdb| {
            let goversion = goversion.parse().unwrap();
            let env = environment(&goversion, "linux/amd64".parse().unwrap(), rooms, gosumdb);
            env.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            names("go1.27.1", &rooms.fixed(), None),
            "GO111MODULE=on CGO_ENABLED=0 GOOS=linux GOARCH=amd64 GOTOOLCHAIN=go1.27.1 HOME=/build \
             GOCACHE=/build/cache GOMODCACHE=/build/mod GOPATH=/build/go"
        );
        let old = names("go1.25.3", &rooms, Some("off"));
        assert!(
            old.ends_with("GOPATH=/data/h1/go GO19CONCURRENTCOMPILATION=0 GOSUMDB=off TMPDIR=/data/h1/tmp"),
            "{old}"
        );
    }
}
