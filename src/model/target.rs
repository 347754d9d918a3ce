//! Targets that Go can build for, and in which of its versions.

use std::fmt;
use std::str::FromStr;

use super::{GoVersion, ParseError, quote};

/// An operating system and a processor architecture as Go calls them, such as `linux/amd64`: a pair that
/// some Go release since 1.5 could build for. [`Target::exists_in`] tells which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    goos: &'static str,
    goarch: &'static str,
}

impl Target {
    /// The target called `goos` and `goarch`, if any Go release knew it.
    pub fn new(goos: &str, goarch: &str) -> Result<Target, ParseError> {
        let found = Target::all().find(|target| target.goos == goos && target.goarch == goarch);
        found.ok_or_else(|| {
            let (goos, goarch) = (quote(goos), quote(goarch));
            ParseError::new(format!("no Go version builds for system {goos} on architecture {goarch}"))
        })
    }

    /// The operating system, such as `linux`.
    pub fn goos(&self) -> &'static str {
        self.goos
    }

    /// The architecture, such as `amd64`.
    pub fn goarch(&self) -> &'static str {
        self.goarch
    }

    /// Whether that Go version builds for this target. Of versions newer than the table every known target
    /// is believed: their own toolchain has the last word.
    pub fn exists_in(&self, goversion: &GoVersion) -> bool {
        self.exists_in_minor(goversion.minor())
    }

    /// The same by minor version, the N of `go1.N`.
    pub(super) fn exists_in_minor(&self, minor: u32) -> bool {
        minor > LAST_KNOWN_MINOR
            || TABLE.iter().any(|&(goos, goarch, first, last)| {
                goos == self.goos && goarch == self.goarch && (first..=last).contains(&minor)
            })
    }

    /// Every target that some Go release knew, by name.
    pub fn all() -> impl Iterator<Item = Target> {
        TABLE.iter().map(|&(goos, goarch, ..)| Target { goos, goarch })
    }

    /// The target that this program itself was built for.
    pub fn host() -> Target {
        let goos = match std::env::consts::OS {
            "macos" => "darwin",
            other => other,
        };
        let little = cfg!(target_endian = "little");
        let goarch = match std::env::consts::ARCH {
            "x86" => "386",
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "loongarch64" => "loong64",
            "powerpc64" if little => "ppc64le",
            "powerpc64" => "ppc64",
            other => other,
        };
        Target::new(goos, goarch).expect("this program is only built for systems that Go knows too")
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.goos, self.goarch)
    }
}

impl FromStr for Target {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Target, ParseError> {
        let Some((goos, goarch)) = text.split_once('/') else {
            let shown = quote(text);
            return Err(ParseError::new(format!("{shown} is not a target: it must be like linux/amd64")));
        };
        Target::new(goos, goarch)
    }
}

/// The newest Go minor version whose targets the table holds.
const LAST_KNOWN_MINOR: u32 = 27;

/// No Go version so far dropped it.
const NOW: u32 = LAST_KNOWN_MINOR;

/// System, architecture, first and last minor version of Go that builds for it, as `go tool dist list` of
/// the toolchains and the release notes tell. Ports that Go marks as broken count as gone.
#[rustfmt::skip]
const TABLE: &[(&str, &str, u32, u32)] = &[
    ("aix",       "ppc64",    12, NOW),
    ("android",   "386",       6, NOW),
    ("android",   "amd64",     6, NOW),
    ("android",   "arm",       5, NOW),
    ("android",   "arm64",     6, NOW),
    ("darwin",    "386",       5, 14),
    ("darwin",    "amd64",     5, NOW),
    ("darwin",    "arm",       5, 14),
    ("darwin",    "arm64",     5, NOW),
    ("dragonfly", "amd64",     5, NOW),
    ("freebsd",   "386",       5, NOW),
    ("freebsd",   "amd64",     5, NOW),
    ("freebsd",   "arm",       5, NOW),
    ("freebsd",   "arm64",    14, NOW),
    ("freebsd",   "riscv64",  20, 25),
    ("illumos",   "amd64",    13, NOW),
    ("ios",       "amd64",    16, NOW),
    ("ios",       "arm64",    16, NOW),
    ("js",        "wasm",     11, NOW),
    ("linux",     "386",       5, NOW),
    ("linux",     "amd64",     5, NOW),
    ("linux",     "arm",       5, NOW),
    ("linux",     "arm64",     5, NOW),
    ("linux",     "loong64",  19, NOW),
    ("linux",     "mips",      8, NOW),
    ("linux",     "mips64",    6, NOW),
    ("linux",     "mips64le",  6, NOW),
    ("linux",     "mipsle",    8, NOW),
    ("linux",     "ppc64",     5, NOW),
    ("linux",     "ppc64le",   5, NOW),
    ("linux",     "riscv64",  14, NOW),
    ("linux",     "s390x",     7, NOW),
    ("nacl",      "386",       5, 13),
    ("nacl",      "amd64p32",  5, 13),
    ("nacl",      "arm",       5, 13),
    ("netbsd",    "386",       5, NOW),
    ("netbsd",    "amd64",     5, NOW),
    ("netbsd",    "arm",       5, NOW),
    ("netbsd",    "arm64",    13, NOW),
    ("openbsd",   "386",       5, NOW),
    ("openbsd",   "amd64",     5, NOW),
    ("openbsd",   "arm",       5, NOW),
    ("openbsd",   "arm64",    13, NOW),
    ("openbsd",   "mips64",   16, 20),
    ("openbsd",   "ppc64",    22, NOW),
    ("openbsd",   "riscv64",  23, NOW),
    ("plan9",     "386",       5, NOW),
    ("plan9",     "amd64",     5, NOW),
    ("plan9",     "arm",       7, NOW),
    ("solaris",   "amd64",     5, NOW),
    ("wasip1",    "wasm",     21, NOW),
    ("windows",   "386",       5, NOW),
    ("windows",   "amd64",     5, NOW),
    ("windows",   "arm",      12, 23),
    ("windows",   "arm64",    17, NOW),
];
