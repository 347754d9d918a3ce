//! When is a sum accepted? Only when every voter has named the same one.
//!
//! A pure function over the voters' latest words; it knows no time, no store and no network. The
//! order of judging is fixed: a dissent is told even while others are silent.
//!
//! Invariant: [`Accepted`] is made in [`judge`] alone, and the accepted log takes nothing else.

use std::collections::BTreeMap;

use crate::model::{Class, Finding, Record, Spec, Sum};

/// The latest proven statement of one party on one spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// It built a binary of this many bytes and this sum.
    Sum {
        /// Uncompressed bytes.
        size: u64,
        /// Of the uncompressed bytes.
        sum: Sum,
    },
    /// It found that the spec cannot be built.
    CannotBuild(Class),
}

impl From<&Finding> for Word {
    fn from(finding: &Finding) -> Word {
        match finding {
            Finding::Built { size, sum } => Word::Sum { size: *size, sum: *sum },
            Finding::CannotBuild { class, .. } => Word::CannotBuild(*class),
        }
    }
}

/// Where one voter stands on a spec.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Its latest word, if it has spoken.
    pub word: Option<Word>,
    /// Whether it contradicted its own signed log: what it said before still vetoes, but never agrees.
    pub quarantined: bool,
}

/// What the words of all voters come to.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All named the same sum and size.
    Accepted(Accepted),
    /// For the voters named: silent, unable to build, or quarantined.
    Waiting(Vec<String>),
    /// At least two voters named different pairs.
    Disputed,
    /// All voters found that it cannot be built; their classes may differ.
    CannotBuild,
}

/// Proof that every voter named the same sum and size.
///
/// Not `Clone`, and only [`judge`] makes one: the accepted log cannot grow without agreement.
#[derive(Debug, PartialEq, Eq)]
pub struct Accepted {
    record: Record,
}

impl Accepted {
    /// What was agreed on.
    pub fn record(&self) -> &Record {
        &self.record
    }
}

/// Judges the words of all voters, by name, on one spec.
///
/// Without any voter nothing is ever accepted.
pub fn judge(spec: &Spec, voters: &BTreeMap<String, Standing>) -> Verdict {
    let mut named = None;
    for standing in voters.values() {
        let Some(Word::Sum { size, sum }) = &standing.word else {
            continue;
        };
        match named {
            None => named = Some((*size, *sum)),
            Some(pair) if pair != (*size, *sum) => return Verdict::Disputed,
            Some(_) => {}
        }
    }
    let cannot = |s: &Standing| matches!(s.word, Some(Word::CannotBuild(_))) && !s.quarantined;
    if !voters.is_empty() && voters.values().all(cannot) {
        return Verdict::CannotBuild;
    }
    let agrees = |s: &Standing| matches!(s.word, Some(Word::Sum { .. })) && !s.quarantined;
    match named {
        Some((size, sum)) if voters.values().all(agrees) => {
            Verdict::Accepted(Accepted { record: Record { spec: spec.clone(), size, sum } })
        }
        _ => Verdict::Waiting(
            voters.iter().filter(|(_, standing)| !agrees(standing)).map(|(name, _)| name.clone()).collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spec() -> Spec {
        "example.com/m@v1.0.0/linux-amd64-go1.27.1/".parse().expect("a spec")
    }

    /// `a=1` a sum and the size 1, `a=1/2` sum 1 and size 2, `a=?` silent, `a=x` cannot build,
    /// `a=1!` quarantined.
    fn voters(text: &str) -> BTreeMap<String, Standing> {
        text.split_whitespace()
            .map(|voter| {
                let (name, said) = voter.split_once('=').expect("name=word");
                let quarantined = said.ends_with('!');
                let word = match said.trim_end_matches('!') {
                    "?" => None,
                    "x" => Some(Word::CannotBuild(Class::Cgo)),
                    pair => {
                        let (sum, size) = pair.split_once('/').unwrap_or((pair, "1"));
                        let sum: u8 = sum.parse().expect("a number");
                        Some(Word::Sum { size: size.parse().expect("a number"), sum: Sum::from_bytes([sum; 20]) })
                    }
                };
                (name.to_owned(), Standing { word, quarantined })
            })
            .collect()
    }

    fn verdict(text: &str) -> String {
        match judge(&spec(), &voters(text)) {
            Verdict::Accepted(accepted) => {
                format!("accepted {}", accepted.record.sum.as_bytes()[0])
            }
            Verdict::Waiting(names) => format!("waiting for {}", names.join(" ")),
            Verdict::Disputed => "disputed".to_owned(),
            Verdict::CannotBuild => "cannot build".to_owned(),
        }
    }

    #[test]
    fn verdicts() {
        for (voters, expected) in [
            ("", "waiting for "),
            ("a=?", "waiting for a"),
            ("a=1", "accepted 1"),
            ("a=1 b=?", "waiting for b"),
            ("a=1 b=1", "accepted 1"),
            ("a=1 b=1 c=2", "disputed"),
            ("a=1 b=? c=2", "disputed"),
            ("a=1 b=1/2", "disputed"),
            ("a=x", "cannot build"),
            ("a=x b=x", "cannot build"),
            ("a=x b=?", "waiting for a b"),
            ("a=1 b=x", "waiting for b"),
            ("a=1 b=x c=2", "disputed"),
            ("a=1 b=1!", "waiting for b"),
            ("a=1 b=2!", "disputed"),
            ("a=x b=x!", "waiting for a b"),
            ("a=1!", "waiting for a"),
        ] {
            assert_eq!(verdict(voters), expected, "{voters}");
        }
    }

    fn any_standing() -> impl Strategy<Value = Standing> {
        let word = prop_oneof![
            Just(None),
            Just(Some(Word::CannotBuild(Class::NotMain))),
            (1u64..3, 0u8..3).prop_map(|(size, sum)| Some(Word::Sum { size, sum: Sum::from_bytes([sum; 20]) })),
        ];
        (word, prop::bool::weighted(0.1)).prop_map(|(word, quarantined)| Standing { word, quarantined })
    }

    proptest! {
        #[test]
        fn accepted_means_unanimous(voters in prop::collection::btree_map("[a-e]", any_standing(), 0..5)) {
            let verdict = judge(&spec(), &voters);
            let unanimous = voters.values().next().is_some_and(|first| {
                matches!(first.word, Some(Word::Sum { .. }))
                    && voters.values().all(|s| s.word == first.word && !s.quarantined)
            });
            prop_assert_eq!(matches!(verdict, Verdict::Accepted(_)), unanimous);
        }
    }
}
