//! What a node must have come to, from all that was said to it. Pure, and written without a look at how the tally does
//! it.

use std::collections::BTreeSet;

use sumpeer::tally::State;

use crate::plan::Said;

/// Somebody whom a node hears: itself, or a peer.
pub(crate) struct Party {
    pub(crate) name: String,
    pub(crate) votes: bool,
    /// What it said on one spec, in order. Never the same twice in a row.
    pub(crate) said: Vec<Said>,
}

/// What a node may say of one spec.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    /// The verdicts that are right. There are two where the last word came after an agreement that not everybody saw.
    pub(crate) states: Vec<(State, Option<u8>)>,
    /// For whom it waits, if it waits.
    pub(crate) waiting_for: BTreeSet<String>,
    /// Whether it has a divergence.
    pub(crate) divergence: Must,
    /// By party: whether it has contradicted itself.
    pub(crate) contradictions: Vec<Must>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Must {
    Be,
    /// It depends on what came first.
    MayBe,
    NotBe,
}

impl Must {
    pub(crate) fn is_met_by(self, there: bool) -> bool {
        self == Must::MayBe || (self == Must::Be) == there
    }
}

/// What all these words come to.
pub(crate) fn expected(parties: &[Party]) -> Expected {
    let voters: Vec<&Party> = parties.iter().filter(|party| party.votes).collect();
    let latest: Vec<Option<Said>> = voters.iter().map(|voter| voter.said.last().copied()).collect();
    let named: BTreeSet<u8> = latest.iter().flatten().filter_map(|said| sum(*said)).collect();
    let all_named = latest.iter().all(|said| said.and_then(sum).is_some());

    // A record is never withdrawn, so what all voters have said at some time may have become one.
    let mut states: Vec<(State, Option<u8>)> = (0..=2)
        .filter(|which| voters.iter().all(|voter| voter.said.contains(&Said::Sum(*which))))
        .map(|which| (State::Accepted, Some(which)))
        .collect();
    let now = if named.len() > 1 {
        Some(State::Disputed)
    } else if latest.iter().all(|said| matches!(said, Some(Said::Cannot(_)))) {
        Some(State::CannotBuild)
    } else if all_named {
        // One of those above: all that is said now was said at some time.
        None
    } else if parties.iter().all(|party| party.said.is_empty()) {
        Some(State::Unknown)
    } else {
        Some(State::Waiting)
    };
    states.extend(now.map(|state| (state, None)));
    let silent = voters.iter().zip(&latest).filter(|(_, said)| said.and_then(sum).is_none());
    Expected {
        states,
        waiting_for: silent.map(|(voter, _)| voter.name.clone()).collect(),
        divergence: divergence(parties),
        contradictions: parties.iter().map(contradiction).collect(),
    }
}

fn divergence(parties: &[Party]) -> Must {
    let differ = |words: &dyn Fn(&Party) -> Vec<u8>| {
        parties.iter().enumerate().any(|(at, one)| {
            let others = parties[at + 1..].iter().flat_map(words).collect::<Vec<_>>();
            words(one).iter().any(|mine| others.iter().any(|other| other != mine))
        })
    };
    let last = |party: &Party| party.said.last().and_then(|said| sum(*said)).into_iter().collect();
    let ever = |party: &Party| party.said.iter().filter_map(|said| sum(*said)).collect();
    if differ(&last) {
        Must::Be
    } else if differ(&ever) {
        Must::MayBe
    } else {
        Must::NotBe
    }
}

/// One party at two times named different sums.
fn contradiction(party: &Party) -> Must {
    let sums: BTreeSet<u8> = party.said.iter().filter_map(|said| sum(*said)).collect();
    if sums.len() > 1 { Must::Be } else { Must::NotBe }
}

fn sum(said: Said) -> Option<u8> {
    match said {
        Said::Sum(which) => Some(which),
        Said::Cannot(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use sumpeer::model::Class;

    use super::*;

    /// `a=01 b=x o?2`: what each said in order, `x` for what cannot be built; `?` for somebody who has no vote.
    fn check(text: &str, wanted: &str) {
        let parties: Vec<Party> = text
            .split_whitespace()
            .map(|word| {
                let (name, said) = word.split_at(1);
                let said = said.chars().filter(|c| !"=?".contains(*c));
                let said = said.map(|c| match c {
                    'x' => Said::Cannot(Class::Cgo),
                    digit => Said::Sum(digit.to_string().parse().unwrap()),
                });
                Party { name: name.to_owned(), votes: word.contains('='), said: said.collect() }
            })
            .collect();
        let expected = expected(&parties);
        let states: Vec<String> = expected
            .states
            .iter()
            .map(|(state, which)| format!("{}{}", state.name(), which.map(|n| n.to_string()).unwrap_or_default()))
            .collect();
        let waits: String = expected.waiting_for.into_iter().collect();
        let contradictions = expected.contradictions.iter().filter(|must| **must == Must::Be).count();
        assert_eq!(
            format!("{} {waits} {:?} {contradictions}", states.join("/"), expected.divergence),
            wanted,
            "{text}"
        );
    }

    #[test]
    fn what_words_come_to() {
        check("a=0 b=0", "accepted0  NotBe 0");
        check("a=0 b=", "waiting b NotBe 0");
        check("a= b=", "unknown ab NotBe 0");
        check("a=0 b=1", "disputed  Be 0");
        check("a=x b=x", "cannot-build ab NotBe 0");
        check("a=0 b=x", "waiting b NotBe 0");
        check("a=0 b=01", "accepted0/disputed  Be 1");
        check("a=0 b=10", "accepted0  MayBe 1");
        check("a=0 b=0x1", "accepted0/disputed  Be 1");
        check("a=0 b=0x", "accepted0/waiting b NotBe 0");
        check("a=0 b=0 o?1", "accepted0  Be 0");
        check("a=0 b= o?1", "waiting b Be 0");
        check("a=01 b=01", "accepted0/accepted1  MayBe 2");
    }
}
