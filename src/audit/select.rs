//! Which entries of a peer's log are built again: a pure function of the settings, a seed and the spec.
//!
//! The sample is drawn by a hash of the seed and the spec, so a restart draws the same, a larger sample holds the smaller
//! one, and who writes the log cannot know what will be looked at.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::model::{GoRange, GoVersion, ParseError, Spec, Target};
use crate::store::AuditOrder;

/// Targets by system, architecture or both: `linux/amd64`, `linux/*`, `*/arm64`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetPattern {
    goos: Option<String>,
    goarch: Option<String>,
}

/// What of a peer's log is built again, and in which order.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// The part of the entries, from 0 to 1.
    pub sample: f64,
    /// Which come first.
    pub order: AuditOrder,
    /// Go versions; those that are in all of these ranges.
    pub go: Vec<GoRange>,
    /// Targets; empty: all.
    pub targets: Vec<TargetPattern>,
    /// Whether what the peer's log had when it was first followed counts.
    pub history: bool,
    /// The first entry that counts; takes the place of `history`.
    pub from: Option<u64>,
    /// Only so many of those that are chosen, the first in that order.
    pub limit: Option<u64>,
}

impl Selection {
    /// Whether an entry about this spec is built again.
    pub fn chooses(&self, seed: &[u8; 16], spec: &Spec) -> bool {
        self.go.iter().all(|range| range.contains(&spec.goversion))
            && (self.targets.is_empty() || self.targets.iter().any(|pattern| pattern.contains(spec.target)))
            && draw(seed, spec) < self.sample
    }

    /// The first entry that counts, of a log whose first proven head covered `met_at` entries.
    pub fn first(&self, met_at: u64) -> u64 {
        self.from.unwrap_or(if self.history { 0 } else { met_at })
    }

    /// The settings that decide what is chosen, as text: another text means that choosing starts again.
    pub fn fingerprint(&self) -> String {
        let end = |end: Option<GoVersion>| end.map_or(String::new(), |go| go.to_string());
        let bounded = self.go.iter().filter(|range| **range != GoRange::default());
        let go: Vec<String> = bounded.map(|range| format!("{}..{}", end(range.oldest), end(range.newest))).collect();
        let targets: Vec<String> = self.targets.iter().map(ToString::to_string).collect();
        let all = |list: Vec<String>| if list.is_empty() { "all".to_owned() } else { list.join(" ") };
        format!("sample {}, Go {}, targets {}", self.sample, all(go), all(targets))
    }
}

/// A number from 0 to below 1.
fn draw(seed: &[u8; 16], spec: &Spec) -> f64 {
    let hash = Sha256::new().chain_update(seed).chain_update(spec.to_string()).finalize();
    let bits = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

impl TargetPattern {
    /// Whether it takes in this target.
    pub fn contains(&self, target: Target) -> bool {
        let fits = |part: &Option<String>, name: &str| part.as_ref().is_none_or(|part| part == name);
        fits(&self.goos, target.goos()) && fits(&self.goarch, target.goarch())
    }
}

impl fmt::Display for TargetPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |part: &Option<String>| part.clone().unwrap_or_else(|| "*".to_owned());
        write!(f, "{}/{}", part(&self.goos), part(&self.goarch))
    }
}

impl FromStr for TargetPattern {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<TargetPattern, ParseError> {
        let wrong = |why: &str| {
            ParseError::new(format!(
                "{text:?} is no pattern of targets, such as linux/amd64, linux/* or */arm64: {why}"
            ))
        };
        let (goos, goarch) = text.split_once('/').ok_or_else(|| wrong("it has no slash"))?;
        let part = |part: &str| (part != "*").then(|| part.to_owned());
        let pattern = TargetPattern { goos: part(goos), goarch: part(goarch) };
        if Target::all().any(|target| pattern.contains(target)) {
            Ok(pattern)
        } else {
            Err(wrong("no Go version builds for such a target"))
        }
    }
}

impl<'de> Deserialize<'de> for TargetPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TargetPattern, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for TargetPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
impl Selection {
    /// Everything, from the first entry on.
    pub(super) fn all() -> Selection {
        Selection {
            sample: 1.0,
            order: AuditOrder::NewestFirst,
            go: Vec::new(),
            targets: Vec::new(),
            history: true,
            from: None,
            limit: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spec(number: u32) -> Spec {
        format!("example.com/m@v1.0.{number}/linux-amd64-go1.27.1/").parse().unwrap()
    }

    #[test]
    fn settings_narrow_what_is_chosen() {
        let range = |oldest: &str, newest: &str| GoRange { oldest: oldest.parse().ok(), newest: newest.parse().ok() };
        let pattern = |text: &str| -> TargetPattern { text.parse().unwrap() };
        let check = |selection: Selection, want: bool| {
            assert_eq!(selection.chooses(&[7; 16], &spec(1)), want, "{}", selection.fingerprint());
        };
        check(Selection::all(), true);
        check(Selection { sample: 0.0, ..Selection::all() }, false);
        check(Selection { go: vec![range("go1.27", "go1.27")], ..Selection::all() }, true);
        check(Selection { go: vec![range("go1.27", ""), range("", "go1.26")], ..Selection::all() }, false);
        check(Selection { targets: vec![pattern("windows/*"), pattern("*/amd64")], ..Selection::all() }, true);
        check(Selection { targets: vec![pattern("linux/arm64"), pattern("windows/*")], ..Selection::all() }, false);
        for bad in ["", "linux", "linux/", "/amd64", "linux/riscv", "linux/*/x", "Linux/*"] {
            assert!(bad.parse::<TargetPattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn history_ends_where_the_peer_was_met() {
        let first = |history, from| Selection { history, from, ..Selection::all() }.first(40);
        let firsts = [first(true, None), first(false, None), first(false, Some(7)), first(true, Some(50))];
        assert_eq!(firsts, [0, 40, 7, 50]);
    }

    proptest! {
        #[test]
        fn a_sample_is_about_as_large_as_asked_and_grows(seed: [u8; 16], part in 0.0f64..=1.0) {
            let small = Selection { sample: part, ..Selection::all() };
            let large = Selection { sample: (part + 0.1).min(1.0), ..Selection::all() };
            let mut count = 0.0;
            for number in 0..1000 {
                let spec = spec(number);
                let chosen = small.chooses(&seed, &spec);
                prop_assert!(!chosen || large.chooses(&seed, &spec), "the larger sample holds the smaller");
                prop_assert_eq!(chosen, small.clone().chooses(&seed, &spec), "drawn again, it is the same");
                count += f64::from(u8::from(chosen));
            }
            prop_assert!((count / 1000.0 - part).abs() < 0.1, "{count} of 1000 for {part}");
        }

        #[test]
        fn patterns_come_back(text in "[*a-z0-9/]{0,14}") {
            if let Ok(pattern) = text.parse::<TargetPattern>() {
                prop_assert_eq!(pattern.to_string(), text);
            }
        }
    }
}
