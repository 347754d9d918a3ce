//! Versions of modules: canonical semantic versions, by the rules of `golang.org/x/mod/{semver,module}`.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use super::path::escape;
use super::{ModulePath, ParseError, quote};

/// The longest version that is accepted; Go sets no limit, and its numbers may have any length.
pub const MAX_VERSION_BYTES: usize = 512;

/// The one kind of build metadata that a canonical version may have: a v2 or later without a `go.mod`.
const INCOMPATIBLE: &str = "+incompatible";

/// The version of a module, such as `v1.2.1`: what Go's `module.CanonicalVersion` leaves as it is.
///
/// Ordered by semver precedence. Versions that only differ in `+incompatible`, equal for Go, are ordered
/// by their text, so that order and equality agree.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Version(String);

impl Version {
    /// The version as `go.mod` writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The version as a module proxy wants it (Go's `module.EscapeVersion`).
    pub fn escaped(&self) -> String {
        escape(&self.0)
    }

    /// The major version with its `v`: `v0`, `v1`, `v12`.
    pub fn major(&self) -> &str {
        self.0.split('.').next().unwrap_or(&self.0)
    }

    /// Whether it is older than the release of the same numbers: `v1.2.3-rc1`, pseudo-versions included.
    pub fn is_prerelease(&self) -> bool {
        !self.parts().prerelease.is_empty()
    }

    /// Whether it names a commit and not a tag: `v0.0.0-20191109021931-daa7c04131f5`
    /// (Go's `module.IsPseudoVersion`).
    pub fn is_pseudo(&self) -> bool {
        let Parts { numbers, prerelease, .. } = self.parts();
        let Some((before, commit)) = prerelease.rsplit_once('-') else {
            return false;
        };
        let (joint, time) = before.split_at(before.len().saturating_sub(14));
        let joined = match joint {
            "" => numbers[1..] == ["0", "0"],
            joint => joint == "0." || joint.ends_with(".0."),
        };
        joined
            && time.len() == 14
            && time.bytes().all(|b| b.is_ascii_digit())
            && !commit.is_empty()
            && commit.bytes().all(|b| b.is_ascii_alphanumeric())
    }

    /// Whether it marks a v2 or later without a `go.mod`.
    pub fn is_incompatible(&self) -> bool {
        self.0.ends_with(INCOMPATIBLE)
    }

    /// Whether a module at `path` can have this version: Go's `module.Check`, for a path and a version that
    /// are valid by themselves.
    pub(super) fn check_fits(&self, path: &ModulePath) -> Result<(), ParseError> {
        let (_, path_major) = path.split_major();
        let major = self.major();
        let wanted = match path_major.get(1..) {
            None if matches!(major, "v0" | "v1") || self.is_incompatible() => return Ok(()),
            None => "v0 or v1",
            Some(wanted) => wanted.strip_suffix("-unstable").unwrap_or(wanted),
        };
        // A pseudo-version that old versions of the go command made for gopkg.in paths.
        let old_bug =
            self.0.starts_with("v0.0.0-") && path_major.strip_suffix("-unstable").unwrap_or(path_major) == ".v1";
        if major == wanted || old_bug {
            return Ok(());
        }
        Err(ParseError::new(format!("module {path} has versions of {wanted}, not {self}")))
    }

    /// The parts of the text.
    fn parts(&self) -> Parts<'_> {
        split(&self.0).expect("a version that is not canonical does not parse")
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Version {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Version, ParseError> {
        let wrong = |why: &str| {
            let shown = quote(text);
            ParseError::new(format!("{shown} is not a version of a module: {why}"))
        };
        if text.len() > MAX_VERSION_BYTES {
            return Err(wrong("it is too long"));
        }
        let parts = split(text).map_err(|why| wrong(&why))?;
        if !matches!(parts.build, "" | INCOMPATIBLE) {
            return Err(wrong("the only build metadata it may have is +incompatible"));
        }
        Ok(Version(text.to_owned()))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Version) -> Ordering {
        let (a, b) = (self.parts(), other.parts());
        let numbers = a.numbers.iter().zip(b.numbers).map(|(x, y)| compare_numbers(x, y));
        numbers
            .fold(Ordering::Equal, Ordering::then)
            .then_with(|| compare_prereleases(a.prerelease, b.prerelease))
            .then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Version) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A version taken apart. `build` keeps its `+`; `prerelease` is without its dash.
struct Parts<'a> {
    numbers: [&'a str; 3],
    prerelease: &'a str,
    build: &'a str,
}

/// Takes a version apart; all three numbers must be there. The error completes "… is not a version: ".
fn split(text: &str) -> Result<Parts<'_>, String> {
    let rest = text.strip_prefix('v').ok_or("it does not start with v")?;
    let (rest, build) = rest.split_at(rest.find('+').unwrap_or(rest.len()));
    let (release, prerelease) = rest.split_at(rest.find('-').unwrap_or(rest.len()));
    let mut numbers = release.split('.');
    let numbers = match [numbers.next(), numbers.next(), numbers.next(), numbers.next()] {
        [Some(major), Some(minor), Some(patch), None] => [major, minor, patch],
        _ => return Err("it must have three numbers, as in v1.2.3".to_owned()),
    };
    for number in numbers {
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("{} is not a number", quote(number)));
        }
        check_leading_zero(number)?;
    }
    if let Some(prerelease) = prerelease.strip_prefix('-') {
        for identifier in prerelease.split('.') {
            check_identifier(identifier)?;
            if identifier.bytes().all(|b| b.is_ascii_digit()) {
                check_leading_zero(identifier)?;
            }
        }
    }
    if let Some(build) = build.strip_prefix('+') {
        build.split('.').try_for_each(check_identifier)?;
    }
    Ok(Parts { numbers, prerelease: prerelease.strip_prefix('-').unwrap_or(""), build })
}

/// One of the identifiers between the dots of a prerelease or of build metadata.
fn check_identifier(identifier: &str) -> Result<(), String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if identifier.is_empty() || !identifier.bytes().all(allowed) {
        return Err(format!("{} may not stand after its numbers", quote(identifier)));
    }
    Ok(())
}

/// Numbers have one text each.
fn check_leading_zero(number: &str) -> Result<(), String> {
    if number.len() > 1 && number.starts_with('0') {
        return Err(format!("the number {} starts with a zero", quote(number)));
    }
    Ok(())
}

/// Compares decimal numbers of any length without leading zeros.
fn compare_numbers(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// Semver's precedence of prereleases: none is the highest; numbers stand below words; more identifiers
/// stand above fewer.
fn compare_prereleases(a: &str, b: &str) -> Ordering {
    match (a.is_empty(), b.is_empty()) {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let order = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(x), Some(y)) => match (is_number(x), is_number(y)) {
                (true, true) => compare_numbers(x, y),
                (true, false) => Ordering::Less,
                (false, true) => Ordering::Greater,
                (false, false) => x.cmp(y),
            },
        };
        if order.is_ne() {
            return order;
        }
    }
}
