//! Names of Go releases, strictly: what a toolchain is called, not what `go.mod` may say.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use super::{ParseError, canonical_decimal, quote};

/// A Go release: `go1.N`, `go1.N.P`, `go1.NrcK` or `go1.NbetaK`, numbers without leading zeros.
///
/// Ordered as Go's `go/version` does: until 1.20 the name without a patch number is the first release, from
/// 1.21 on it stands for the language and below its own betas. Names that are equal for Go (`go1.20` and
/// `go1.20.0`) are told apart here and ordered by their text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GoVersion {
    minor: u32,
    stage: Stage,
}

/// What follows the minor version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Bare,
    Beta(u32),
    Candidate(u32),
    Patch(u32),
}

/// From this minor version on the first release is called `go1.N.0`.
const FIRST_WITH_PATCH_ZERO: u32 = 21;

/// The longest name that is looked at: `go1.` with two ten-digit numbers and `beta` between.
const MAX_BYTES: usize = 32;

impl GoVersion {
    /// The N of `go1.N`.
    pub fn minor(&self) -> u32 {
        self.minor
    }

    /// The language version, such as `go1.21`.
    pub fn lang(&self) -> String {
        format!("go1.{}", self.minor)
    }

    /// Whether it is a release and neither a beta, a candidate, nor the name of a language version.
    pub fn is_release(&self) -> bool {
        match self.stage {
            Stage::Patch(_) => true,
            Stage::Bare => self.minor < FIRST_WITH_PATCH_ZERO,
            Stage::Beta(_) | Stage::Candidate(_) => false,
        }
    }

    /// What decides the order, most important first; the last one only tells `go1.20` from `go1.20.0`.
    fn rank(&self) -> (u32, u8, u32, u8) {
        let (stage, number, tie) = match self.stage {
            Stage::Bare if self.minor < FIRST_WITH_PATCH_ZERO => (3, 0, 0),
            Stage::Bare => (0, 0, 0),
            Stage::Beta(number) => (1, number, 0),
            Stage::Candidate(number) => (2, number, 0),
            Stage::Patch(number) => (3, number, 1),
        };
        (self.minor, stage, number, tie)
    }
}

impl Ord for GoVersion {
    fn cmp(&self, other: &GoVersion) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for GoVersion {
    fn partial_cmp(&self, other: &GoVersion) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for GoVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "go1.{}", self.minor)?;
        match self.stage {
            Stage::Bare => Ok(()),
            Stage::Beta(number) => write!(f, "beta{number}"),
            Stage::Candidate(number) => write!(f, "rc{number}"),
            Stage::Patch(number) => write!(f, ".{number}"),
        }
    }
}

impl FromStr for GoVersion {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<GoVersion, ParseError> {
        parse(text).ok_or_else(|| {
            let shown = quote(text);
            ParseError::new(format!("{shown} is not a Go version: it must be like go1.27.1, go1.27rc1 or go1.27beta1"))
        })
    }
}

/// Go versions from one to another, both included; by default all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct GoRange {
    /// The oldest one, if there is any.
    pub oldest: Option<GoVersion>,
    /// The newest one, if there is any. A bare `go1.26` takes in every `go1.26.P`.
    pub newest: Option<GoVersion>,
}

impl GoRange {
    /// Whether the range holds that version.
    pub fn contains(&self, goversion: &GoVersion) -> bool {
        let new_enough = self.oldest.is_none_or(|oldest| oldest <= *goversion);
        let old_enough = self.newest.is_none_or(|newest| match newest.stage {
            Stage::Bare => goversion.minor <= newest.minor,
            _ => *goversion <= newest,
        });
        new_enough && old_enough
    }
}

fn parse(text: &str) -> Option<GoVersion> {
    let rest = text.strip_prefix("go1.").filter(|_| text.len() <= MAX_BYTES)?;
    let (minor, stage) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
    let number = |prefix| stage.strip_prefix(prefix).and_then(decimal);
    let stage = match stage.as_bytes().first() {
        None => Stage::Bare,
        Some(b'.') => Stage::Patch(number(".")?),
        Some(b'r') => Stage::Candidate(number("rc")?),
        _ => Stage::Beta(number("beta")?),
    };
    Some(GoVersion { minor: decimal(minor)?, stage })
}

/// A canonical decimal of 32 bits.
fn decimal(digits: &str) -> Option<u32> {
    canonical_decimal(digits).and_then(|number| u32::try_from(number).ok())
}
