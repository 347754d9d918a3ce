//! What a signed log says of a spec: divergences, contradictions, and copies that are not what was said.
//!
//! Signatures are checked in `heads`.

use serde_json::Value;

use super::heads::Signed;
use super::verify::Outcome;
use super::{Comparison, Kind, Source};
use crate::model::{Claim, Record, Spec};
use crate::quorum::Word;
use crate::tlog::{check_inclusion, leaf_hash};

/// What the kind of two words is: of two parties, or of one that took two names for its logs.
///
/// # Errors
/// One key pair under two unrelated names is neither: nothing says that they are one party, nor that they are two.
pub(super) fn kind([one, other]: [&Signed<'_>; 2]) -> Result<Kind, String> {
    if one.holder == other.holder {
        Ok(Kind::Contradiction)
    } else if one.holder.as_name(other.holder.name()) == other.holder {
        Err("one key pair under two names is neither one party nor two".to_owned())
    } else {
        Ok(Kind::Divergence)
    }
}

/// Two words on one spec that name different binaries, and the comparison of these, if there is one.
pub(super) fn differ(
    kind: Kind,
    spec: &Spec,
    signed: [&Signed<'_>; 2],
    comparison: Option<&Value>,
) -> Result<Outcome, String> {
    if self::kind(signed)? != kind {
        return Err(format!("whose heads it has makes it no {kind}"));
    }
    let [one, other] = [said(signed[0], spec)?, said(signed[1], spec)?];
    if one == other {
        return Err("both words are the same".to_owned());
    }
    if let Some(value) = comparison {
        let comparison = Comparison::from_json(value).map_err(|why| format!("its comparison: {why}"))?;
        if comparison.sums().map(|(size, sum)| Word::Sum { size, sum }) != [one.clone(), other.clone()] {
            return Err("its comparison is of other files than the words name".to_owned());
        }
    }
    let told = |signed: &Signed<'_>, word| format!("{} signed {}", signed.party.vkey.name(), show(word));
    Ok(Outcome::Proven(format!("of {spec} {}, and {}", told(signed[0], &one), told(signed[1], &other))))
}

/// A word, and bytes that are said to have come instead.
pub(super) fn mirror(spec: &Spec, signed: &Signed<'_>) -> Result<Outcome, String> {
    let word = said(signed, spec)?;
    let name = signed.party.vkey.name();
    Ok(Outcome::Shown(format!(
        "of {spec} {name} signed {}; that other bytes were served is not signed by anybody",
        show(&word)
    )))
}

/// The binary that a party's log names for a spec.
fn said(signed: &Signed<'_>, spec: &Spec) -> Result<Word, String> {
    let wrong =
        |why: &dyn std::fmt::Display| format!("the entry under the head of {}: {why}", signed.party.vkey.name());
    let entry = signed.party.entry.as_ref().ok_or_else(|| wrong(&"there is none"))?;
    let leaf = leaf_hash(entry.text.as_bytes());
    check_inclusion(&entry.inclusion_proof, signed.head.size, &signed.head.root, entry.number, &leaf)
        .map_err(|error| wrong(&error))?;
    let (of, word) = match signed.party.source {
        Source::Claims => {
            let claim = Claim::parse(entry.text.as_bytes()).map_err(|error| wrong(&error))?;
            let word = Word::from(&claim.finding);
            (claim.spec, word)
        }
        Source::Log => {
            let Record { spec, size, sum } = Record::parse(entry.text.as_bytes()).map_err(|error| wrong(&error))?;
            (spec, Word::Sum { size, sum })
        }
    };
    if of != *spec {
        return Err(wrong(&format!("it is of {of}")));
    }
    match word {
        Word::Sum { .. } => Ok(word),
        Word::CannotBuild(_) => Err(wrong(&"it names no sum, and that differs from none")),
    }
}

fn show(word: &Word) -> String {
    match word {
        Word::Sum { size, sum } => format!("{sum} of {size} bytes"),
        Word::CannotBuild(class) => format!("that it cannot be built ({class})"),
    }
}
