//! What happens to one finding of this node: word, judgement, record, in one transaction.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::log;
use crate::model::{Claim, Spec};
use crate::quorum::{self, Standing, Verdict, Word};
use crate::store::{BinaryRow, LogId, RecordRow, SpecId, Tx, WordRow};

/// A party whose word is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voter {
    /// As the operator calls it; for this node the name of its key.
    pub name: String,
    /// Its whole verifier key.
    pub vkey: String,
    /// Where its word comes from: `self`, `claims` or `log`.
    pub source: &'static str,
}

/// A finding of this node, and what came with it.
pub struct Found {
    /// What was found.
    pub claim: Claim,
    /// The binary, in place and synced, if there is one.
    pub binary: Option<BinaryRow>,
    /// Output of the build, as gzip.
    pub log_gz: Vec<u8>,
}

/// What a finding came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Settled {
    /// All voters agree: there is a record now.
    Accepted(u64),
    /// There was a record already, and the finding agrees with it or names no sum.
    Known(u64),
    /// There was a record already, and the finding names another sum. The record stands.
    Contradicts(u64),
    /// Others have to speak first.
    Waiting(Vec<String>),
    /// Voters disagree.
    Disputed,
    /// All voters found that it cannot be built.
    CannotBuild,
}

/// Stores a finding of `own`, judges the spec, and appends the record if all voters agree.
///
/// A finding equal to the node's latest claim is not claimed again. A crash before the commit leaves nothing of
/// it but a binary without a row, which the next start removes; after it, everything.
///
/// # Errors
/// The database failed; nothing of the finding remains.
pub fn settle(tx: &mut Tx<'_>, own: &Voter, voters: &[Voter], found: &Found) -> anyhow::Result<Settled> {
    let spec = tx.make_spec_id(&found.claim.spec)?;
    if let Some(binary) = &found.binary {
        tx.put_binary(binary)?;
    }
    if !found.log_gz.is_empty() {
        tx.put_build_log(spec, &found.log_gz)?;
    }
    tx.clear_trouble(&found.claim.spec)?;

    let word = Word::from(&found.claim.finding);
    let mut words = tx.words(spec)?;
    let latest = words.iter_mut().find(|row| row.vkey == own.vkey);
    if latest.as_ref().is_none_or(|latest| latest.word != word) {
        let number = log::append_claim(tx, &found.claim)?;
        let row = WordRow {
            vkey: own.vkey.clone(),
            log: LogId::Claims,
            number,
            word: word.clone(),
            at: found.claim.at.as_second(),
        };
        tx.put_word(spec, &row)?;
        match latest {
            Some(latest) => *latest = row,
            None => words.push(row),
        }
    }
    match tx.record_by_id(spec)? {
        Some(row) => Ok(beside(&row, &word)),
        None => judge(tx, spec, &found.claim.spec, &words, voters),
    }
}

/// Judges a spec that has no record, from the words as they stand in this transaction.
fn judge(tx: &mut Tx<'_>, id: SpecId, spec: &Spec, words: &[WordRow], voters: &[Voter]) -> anyhow::Result<Settled> {
    Ok(match quorum::judge(spec, &standings(words, voters)) {
        Verdict::Accepted(accepted) => Settled::Accepted(log::append_record(tx, id, accepted)?),
        Verdict::Waiting(names) => Settled::Waiting(names),
        Verdict::Disputed => Settled::Disputed,
        Verdict::CannotBuild => Settled::CannotBuild,
    })
}

/// Where each voter stands, by name.
pub fn standings(words: &[WordRow], voters: &[Voter]) -> BTreeMap<String, Standing> {
    voters
        .iter()
        .map(|voter| {
            let word = words.iter().find(|row| row.vkey == voter.vkey).map(|row| row.word.clone());
            let standing = Standing { word, quarantined: false };
            (voter.name.clone(), standing)
        })
        .collect()
}

fn beside(row: &RecordRow, word: &Word) -> Settled {
    match word {
        Word::Sum { size, sum } if (*size, *sum) != (row.record.size, row.record.sum) => {
            Settled::Contradicts(row.number)
        }
        _ => Settled::Known(row.number),
    }
}

/// The time that claims carry: whole seconds.
pub(super) fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
