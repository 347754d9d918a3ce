//! Bytes of strangers to a judgement.
//!
//! What each kind must hold is in `heads` and `words`; here stands what a bundle of each kind has at all.

use jiff::Timestamp;

use super::encoding::Flaw;
use super::heads::{self, Signed};
use super::{Bundle, Comparison, Kind, words};
use crate::model::Spec;
use crate::tlog::VerifierKey;

/// What a file is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Whoever holds these keys signed what the statement says.
    Proven(Statement),
    /// What is signed is signed, but the rest has to be believed, or seen elsewhere.
    Shows(Statement),
    /// It is not as it was made, does not hold what it says, or is not of the demanded keys. The sentence says why.
    Tampered(String),
    /// It is no JSON, or too long. The sentence says why.
    Unreadable(String),
}

/// What a bundle says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// What it is about.
    pub kind: Kind,
    /// What was built, where that matters.
    pub spec: Option<Spec>,
    /// When the bundle was put together, by whoever did. Not proved.
    pub made_at: Timestamp,
    /// One sentence that rests on what was signed, and says what does not.
    pub sentence: String,
    /// The keys that signed, as they verify: each once, in the order of the bundle.
    pub keys: Vec<VerifierKey>,
    /// How the two binaries differ, by whoever put the bundle together. Not proved, but it is of these two.
    pub comparison: Option<Box<Comparison>>,
    /// What the two parties of that are called there.
    pub names: Vec<String>,
}

/// How far a bundle reaches.
pub(super) enum Outcome {
    Proven(String),
    Shown(String),
}

/// Judges a file, offline.
///
/// Keys that are demanded must be among those that signed, else the file counts as tampered with: a stranger's key proves
/// whatever the stranger likes. A node's key stands for those that it signs checkpoints with, and they for it.
pub fn verify(bytes: &[u8], demanded: &[VerifierKey]) -> Judgement {
    let bundle = match Bundle::decode(bytes) {
        Ok(bundle) => bundle,
        Err(Flaw::Unreadable(why)) => return Judgement::Unreadable(why),
        Err(Flaw::Tampered(why)) => return Judgement::Tampered(why),
    };
    match judge(&bundle, demanded) {
        Ok((Outcome::Proven(sentence), keys)) => Judgement::Proven(state(bundle, sentence, keys)),
        Ok((Outcome::Shown(sentence), keys)) => Judgement::Shows(state(bundle, sentence, keys)),
        Err(why) => Judgement::Tampered(why),
    }
}

fn state(bundle: Bundle, sentence: String, keys: Vec<VerifierKey>) -> Statement {
    let Bundle { kind, spec, made_at, parties, comparison, .. } = bundle;
    let comparison = comparison.filter(|_| matches!(kind, Kind::Divergence | Kind::Contradiction));
    let comparison = comparison.and_then(|value| Comparison::from_json(&value).ok()).map(Box::new);
    let names = parties.into_iter().map(|party| party.name).collect();
    Statement { kind, spec, made_at, sentence, keys, comparison, names }
}

/// What a bundle proves or shows, and by which keys; the error says why it does neither.
pub(super) fn judge(bundle: &Bundle, demanded: &[VerifierKey]) -> Result<(Outcome, Vec<VerifierKey>), String> {
    check_shape(bundle)?;
    let signed: Vec<Signed<'_>> = bundle.parties.iter().map(Signed::open).collect::<Result<_, _>>()?;
    if let Some(missing) = demanded.iter().find(|key| !signed.iter().any(|signed| is_key_of(key, signed))) {
        return Err(format!("the demanded key {missing} signed nothing in it"));
    }
    let outcome = match (bundle.kind, signed.as_slice(), &bundle.spec) {
        (Kind::Divergence | Kind::Contradiction, [one, other], Some(spec)) => {
            words::differ(bundle.kind, spec, [one, other], bundle.comparison.as_ref())
        }
        (Kind::MirrorMismatch, [one], Some(spec)) => words::mirror(spec, one),
        (Kind::Fork, [one, other], None) => heads::fork(bundle, [one, other]),
        (Kind::Rollback, [before, now], None) => heads::rollback([before, now]),
        (Kind::BadRoot, [one], None) => heads::bad_root(bundle, one),
        (kind, ..) => Err(format!("a {kind} has other heads, or a spec too many or too few")),
    }?;
    let mut keys: Vec<VerifierKey> = Vec::new();
    for party in &bundle.parties {
        if !keys.contains(&party.vkey) {
            keys.push(party.vkey.clone());
        }
    }
    Ok((outcome, keys))
}

/// Refuses what a bundle of its kind has no use for: it would look proved and not be.
fn check_shape(bundle: &Bundle) -> Result<(), String> {
    let kind = bundle.kind;
    let about_words = matches!(kind, Kind::Divergence | Kind::Contradiction | Kind::MirrorMismatch);
    if !about_words && bundle.parties.iter().any(|party| party.entry.is_some()) {
        return Err(format!("a {kind} has no entries under its heads"));
    }
    if !about_words && bundle.comparison.is_some() {
        return Err(format!("a {kind} has no binaries to compare"));
    }
    if !matches!(kind, Kind::Fork | Kind::BadRoot) && !bundle.tiles.is_empty() {
        return Err(format!("a {kind} has no tiles"));
    }
    Ok(())
}

fn is_key_of(key: &VerifierKey, signed: &Signed<'_>) -> bool {
    let names = ["", "/log", "/claims"].map(|suffix| format!("{}{suffix}", signed.holder.name()));
    *key == signed.party.vkey || names.iter().any(|name| *key == signed.holder.as_name(name))
}
