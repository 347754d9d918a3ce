//! What happens to one word: stored, compared with all others, judged, recorded, in one transaction.
//!
//! The same for a finding of this node and for an entry of a peer's log that was proven. A divergence is stored in
//! the transaction that stores the word, so nothing can be told of it before.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tracing::warn;

use crate::log;
use crate::model::{AlertKind, Claim, Spec};
use crate::quorum::{self, Standing, Verdict, Word};
use crate::store::{BinaryRow, LogId, NewAlert, RecordRow, SaidRow, SpecId, Tx, WordRow};

/// A party whose word is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voter {
    /// As the operator calls it; for this node the name of its key.
    pub name: String,
    /// Its whole verifier key.
    pub vkey: String,
    /// Whether it is this node.
    pub own: bool,
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

/// What a word came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Settled {
    /// All voters agree: there is a record now.
    Accepted(u64),
    /// There was a record already, and the word agrees with it or names no sum.
    Known(u64),
    /// There was a record already, and the word names another sum. The record stands.
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
    let spec = &found.claim.spec;
    let id = tx.make_spec_id(spec)?;
    if let Some(binary) = &found.binary {
        tx.put_binary(binary)?;
    }
    if !found.log_gz.is_empty() {
        tx.put_build_log(id, &found.log_gz)?;
    }
    tx.clear_trouble(spec)?;
    tx.clear_due(id)?;

    let word = Word::from(&found.claim.finding);
    let words = tx.words(id)?;
    let latest = words.iter().find(|row| row.vkey == own.vkey);
    let row = match latest {
        Some(latest) if latest.word == word => latest.clone(),
        _ => WordRow {
            vkey: own.vkey.clone(),
            log: LogId::Claims,
            number: log::append_claim(tx, &found.claim)?,
            word,
            at: found.claim.at.as_second(),
        },
    };
    let undone = tx.note_audited(id, &row.word)?;
    if undone > 0 {
        warn!(%spec, undone, "what was reproduced before differs now: see `sumpeer audit`");
    }
    let quarantined = tx.quarantined()?;
    take_word(tx, id, spec, words, &row, &Court { voters, quarantined: &quarantined })
}

/// Who judges.
pub(super) struct Court<'a> {
    /// Whose words are needed.
    pub(super) voters: &'a [Voter],
    /// Verifier keys of those that contradicted their own signed log.
    pub(super) quarantined: &'a [String],
}

/// Makes `row` the latest word of its party on a spec, notes what differs, and judges. `words` are those so far.
pub(super) fn take_word(
    tx: &mut Tx<'_>,
    id: SpecId,
    spec: &Spec,
    mut words: Vec<WordRow>,
    row: &WordRow,
    court: &Court<'_>,
) -> anyhow::Result<Settled> {
    let before = words.iter_mut().find(|before| before.vkey == row.vkey);
    let is_new = before.as_ref().is_none_or(|before| before.word != row.word);
    if is_new {
        tx.put_word(id, row)?;
        match before {
            Some(before) => {
                let before = std::mem::replace(before, row.clone());
                let was = match (said(&before), said(row)) {
                    (Some(was), None) => {
                        // It may come back with another sum, which contradicts this one all the same.
                        tx.put_withdrawn(id, &was)?;
                        None
                    }
                    (None, Some(is)) => tx.withdrawn(id, &row.vkey)?.filter(|was| pair(was) != pair(&is)),
                    (was, _) => was,
                };
                if let (Some(was), Some(is)) = (was, said(row)) {
                    diverge(tx, "contradiction", id, &row.vkey, &[was, is])?;
                }
            }
            None => words.push(row.clone()),
        }
    }
    let record = tx.record_by_id(id)?;
    if is_new && let Some(said) = said(row) {
        compare(tx, id, &said, &words, record.as_ref(), court)?;
    }
    if is_new {
        tell_whether_built(tx, id, spec, &words, row, record.is_some(), court)?;
    }
    match record {
        Some(record) => Ok(beside(&record, &row.word)),
        None => judge(tx, id, spec, &words, court),
    }
}

/// Judges a spec that has no record, from the words as they stand in this transaction.
pub(super) fn judge(
    tx: &mut Tx<'_>,
    id: SpecId,
    spec: &Spec,
    words: &[WordRow],
    court: &Court<'_>,
) -> anyhow::Result<Settled> {
    Ok(match quorum::judge(spec, &standings(words, court.voters, court.quarantined)) {
        Verdict::Accepted(accepted) => {
            let number = log::append_record(tx, id, accepted)?;
            if words.iter().any(|word| matches!(word.word, Word::CannotBuild(_))) {
                // Whoever could not build it has no vote any more, and it may have been this node.
                tx.end_alert(AlertKind::CannotBuildHere, None, Some(id))?;
            }
            Settled::Accepted(number)
        }
        Verdict::Waiting(names) => Settled::Waiting(names),
        Verdict::Disputed => Settled::Disputed,
        Verdict::CannotBuild => Settled::CannotBuild,
    })
}

/// Where each voter stands, by name.
pub fn standings(words: &[WordRow], voters: &[Voter], quarantined: &[String]) -> BTreeMap<String, Standing> {
    voters
        .iter()
        .map(|voter| {
            let word = words.iter().find(|row| row.vkey == voter.vkey).map(|row| row.word.clone());
            (voter.name.clone(), Standing { word, quarantined: quarantined.contains(&voter.vkey) })
        })
        .collect()
}

/// Stores that a new word names another sum than a party or the record, if it does.
fn compare(
    tx: &mut Tx<'_>,
    id: SpecId,
    new: &SaidRow,
    words: &[WordRow],
    record: Option<&RecordRow>,
    court: &Court<'_>,
) -> anyhow::Result<()> {
    let mut all: Vec<SaidRow> = words.iter().filter_map(said).collect();
    if let Some(row) = record
        && let Some(own) = court.voters.iter().find(|voter| voter.own)
        && !all.iter().any(|said| said.vkey == own.vkey && pair(said) == (row.record.size, row.record.sum))
    {
        all.push(SaidRow {
            vkey: own.vkey.clone(),
            log: LogId::Accepted,
            number: row.number,
            size: row.record.size,
            sum: row.record.sum,
            at: row.at,
        });
    }
    // What a party said before is told as its contradiction.
    if all.iter().any(|said| said.vkey != new.vkey && pair(said) != pair(new)) {
        diverge(tx, "divergence", id, &new.vkey, &all)?;
    }
    Ok(())
}

/// Raises that this node cannot build what another party has built, or ends it. `row` is the word that is new.
fn tell_whether_built(
    tx: &mut Tx<'_>,
    id: SpecId,
    spec: &Spec,
    words: &[WordRow],
    row: &WordRow,
    recorded: bool,
    court: &Court<'_>,
) -> anyhow::Result<()> {
    let Some(own) = court.voters.iter().find(|voter| voter.own) else {
        return Ok(());
    };
    let Some(mine) = words.iter().find(|word| word.vkey == own.vkey) else {
        return Ok(());
    };
    let builders: Vec<&WordRow> = words.iter().filter(|word| matches!(word.word, Word::Sum { .. })).collect();
    match (&mine.word, builders.as_slice()) {
        (Word::CannotBuild(class), [_, ..]) if !recorded => {
            let names: Vec<&str> = builders.iter().map(|word| shown_name(&word.vkey, court)).collect();
            let summary =
                format!("This node cannot build {spec} ({class}), of which {} named a sum.", names.join(", "));
            let alert = NewAlert {
                kind: AlertKind::CannotBuildHere,
                spec: Some(id),
                party: None,
                summary: &summary,
                divergence: None,
            };
            tx.raise(&alert).map(drop)
        }
        // A sum of somebody else ends nothing.
        _ if row.vkey == own.vkey || matches!(row.word, Word::CannotBuild(_)) => {
            tx.end_alert(AlertKind::CannotBuildHere, None, Some(id)).map(drop)
        }
        _ => Ok(()),
    }
}

/// What the operator calls a voter; of others the name of the key.
fn shown_name<'a>(vkey: &'a str, court: &Court<'a>) -> &'a str {
    let voter = court.voters.iter().find(|voter| voter.vkey == vkey);
    voter.map_or(vkey.split('+').next().unwrap_or_default(), |voter| voter.name.as_str())
}

fn diverge(tx: &mut Tx<'_>, kind: &str, id: SpecId, vkey: &str, words: &[SaidRow]) -> anyhow::Result<()> {
    let (divergence, _) = tx.see_divergence(kind, Some(id), vkey, None)?;
    for said in words {
        tx.add_said(divergence, said)?;
    }
    Ok(())
}

/// The sum that a word names, if it names one.
pub(super) fn said(row: &WordRow) -> Option<SaidRow> {
    match row.word {
        Word::Sum { size, sum } => {
            Some(SaidRow { vkey: row.vkey.clone(), log: row.log, number: row.number, size, sum, at: row.at })
        }
        Word::CannotBuild(_) => None,
    }
}

fn pair(said: &SaidRow) -> (u64, crate::model::Sum) {
    (said.size, said.sum)
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
