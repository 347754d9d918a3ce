//! Checks what is stored of peers: their logs against tiles and signed heads, words and divergences against entries, and
//! the index by which specs are found.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Report;
use super::tree::{Rebuilt, compare_tile};
use crate::evidence::{Judgement, Kind, verify};
use crate::model::{Claim, Record};
use crate::quorum::Word;
use crate::store::{LogId, PeerLogId, PeerLogRow, Reader};
use crate::tlog::{Hash, SUMDB_ORIGIN, TILE_WIDTH, VerifierKey, leaf_hash, open_head};

/// Signed heads that are looked at of one log: all that are kept.
const HEADS: usize = 20_000;

/// The latest word on each spec in each log of a peer.
type Latest = HashMap<(String, LogId), HashMap<String, Word>>;

/// Checks everything that is stored of peers. `own` is this node's key.
pub(super) fn check(reader: &Reader<'_>, own: &VerifierKey, report: &mut Report) -> anyhow::Result<()> {
    let mut wrong = Vec::new();
    let specs = reader.check_spec_index(|sentence| wrong.push(sentence))?;
    wrong.into_iter().for_each(|sentence| report.problem(sentence));
    report.checked.push(format!("index of specs: {specs}"));

    let logs = match reader.peer_logs() {
        Ok(logs) => logs,
        Err(error) => {
            report.problem(format!("the logs of peers cannot be read: {error:#}"));
            return Ok(());
        }
    };
    let mut latest = Latest::new();
    let mut ids = HashMap::new();
    for (vkey, log, row) in &logs {
        ids.insert((vkey.clone(), *log), row.id);
        latest.insert((vkey.clone(), *log), check_log(reader, vkey, *log, row, report)?);
    }
    let own = own.to_string();
    for vkey in reader.parties()?.iter().filter(|vkey| **vkey != own) {
        check_words(reader, vkey, &ids, &mut latest, report)?;
    }
    for ((vkey, log), words) in latest {
        for spec in words.keys() {
            let name = name(&vkey, log);
            report.problem(format!("the {name} log speaks of {spec}, but the party has no word on it"));
        }
    }
    check_divergences(reader, &own, &ids, report)
}

/// As people call a log of a peer.
pub(super) fn name(vkey: &str, log: LogId) -> String {
    format!("{}'s {}", vkey.split('+').next().unwrap_or_default(), log.name())
}

/// Hashes every entry again, and compares tiles and heads. Returns the latest word on each spec.
fn check_log(
    reader: &Reader<'_>,
    vkey: &str,
    log: LogId,
    row: &PeerLogRow,
    report: &mut Report,
) -> anyhow::Result<HashMap<String, Word>> {
    let name = name(vkey, log);
    let Ok(party) = vkey.parse::<VerifierKey>() else {
        report.problem(format!("the key of the {name} log is malformed: {vkey}"));
        return Ok(HashMap::new());
    };
    let (key, origin) = match log {
        LogId::Claims => {
            let origin = format!("{}/claims", party.name());
            (party.as_name(&origin), origin)
        }
        LogId::Accepted => (party, SUMDB_ORIGIN.to_owned()),
    };
    let heads = reader.peer_heads(row.id, HEADS)?;
    // What the root after an entry has to be, by the heads; none yet.
    let mut roots: BTreeMap<u64, Option<Hash>> = heads.iter().map(|head| (head.size, None)).collect();
    let newest = row.head.as_ref().map(|note| open_head(note.as_bytes(), &key, &origin));
    if let Some(Ok(head)) = &newest {
        roots.insert(head.size.get(), None);
    }

    let size = row.range.size().get();
    let count = reader.count_peer_entries(row.id)?;
    report.expect(count == size, || format!("the {name} log has {count} entries stored, and {size} noted"));
    let mut tree = Rebuilt::default();
    let mut latest = HashMap::new();
    let mut first = 0;
    if let Some(root) = roots.get_mut(&0) {
        *root = Some(tree.range.root());
    }
    while first < count {
        let texts = reader.peer_entries(row.id, first, first + TILE_WIDTH)?;
        if texts.is_empty() {
            report.problem(format!("the {name} log has a gap at entry {first}"));
            break;
        }
        for text in &texts {
            if let Some((spec, word)) = said(log, text) {
                latest.insert(spec, word);
            }
            tree.push(leaf_hash(text), &mut |level, index, hashes| {
                compare_tile(reader, (row.id.into(), &name), level, index, hashes, report)
            })?;
            if let Some(root) = roots.get_mut(&tree.range.size().get()) {
                *root = Some(tree.range.root());
            }
        }
        first += TILE_WIDTH;
    }
    tree.edges(&mut |level, index, hashes| compare_tile(reader, (row.id.into(), &name), level, index, hashes, report))?;
    let stored = reader.count_tiles(row.id)?;
    report.expect(stored == tree.tiles, || {
        format!("the {name} log has {stored} tiles stored, but {count} entries make {}", tree.tiles)
    });

    match &newest {
        None => {}
        Some(Err(error)) => report.problem(format!("the newest head of the {name} log is not good: {error}")),
        Some(Ok(head)) => {
            let root = roots.get(&head.size.get()).copied().flatten();
            report.expect(root == Some(head.root), || {
                format!("the newest head of the {name} log, of size {}, is not what the entries give", head.size)
            });
        }
    }
    // A peer that contradicted itself has heads here that do not fit: they are why it is told of.
    let convicted = is_convicted(reader, vkey)?;
    for kept in &heads {
        match open_head(kept.note.as_bytes(), &key, &origin) {
            Err(error) => report.problem(format!("a kept head of the {name} log is not good: {error}")),
            Ok(head) => {
                report.expect((head.size.get(), head.root) == (kept.size, kept.root), || {
                    format!("a kept head of the {name} log is noted with another size or root than it says")
                });
                let root = roots.get(&kept.size).copied().flatten();
                report.expect(convicted || root.is_none_or(|root| root == head.root), || {
                    format!("a kept head of the {name} log, of size {}, is not what the entries give", head.size)
                });
            }
        }
    }
    report.checked.push(format!("{name} log: {count} entries, {} tiles, {} heads", tree.tiles, heads.len()));
    Ok(latest)
}

fn is_convicted(reader: &Reader<'_>, vkey: &str) -> anyhow::Result<bool> {
    let mut after = 0;
    loop {
        let rows = reader.divergences(after, 1000)?;
        let Some(last) = rows.last() else {
            return Ok(false);
        };
        after = last.id;
        if rows.iter().any(|row| row.party.as_deref() == Some(vkey) && matches!(row.kind.as_str(), "fork" | "bad-root"))
        {
            return Ok(true);
        }
    }
}

/// What an entry of a peer's log says; none if it is not stored, or says nothing of a spec.
pub(super) fn entry(
    reader: &Reader<'_>,
    log: LogId,
    id: PeerLogId,
    number: u64,
) -> anyhow::Result<Option<(String, Word)>> {
    let texts = reader.peer_entries(id, number, number + 1)?;
    Ok(texts.first().and_then(|text| said(log, text)))
}

/// What an entry says, as followers read it.
fn said(log: LogId, text: &[u8]) -> Option<(String, Word)> {
    match log {
        LogId::Claims => {
            let claim = Claim::parse(text).ok()?;
            Some((claim.spec.to_string(), Word::from(&claim.finding)))
        }
        LogId::Accepted => {
            let Record { spec, size, sum } = Record::parse(text).ok()?;
            Some((spec.to_string(), Word::Sum { size, sum }))
        }
    }
}

/// Compares the words of a party with the entries that they point at, and takes those it has from `latest`.
fn check_words(
    reader: &Reader<'_>,
    vkey: &str,
    ids: &HashMap<(String, LogId), PeerLogId>,
    latest: &mut Latest,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut count = 0;
    let mut spoken: HashSet<String> = HashSet::new();
    reader.each_word(vkey, |spec, row| {
        count += 1;
        let name = name(vkey, row.log);
        let here = (vkey.to_owned(), row.log);
        let found = match ids.get(&here) {
            Some(id) => entry(reader, row.log, *id, row.number)?,
            None => None,
        };
        report.expect(found.as_ref().is_some_and(|(of, word)| of == spec && *word == row.word), || {
            format!("the word on {spec} is not what entry {} of the {name} log says", row.number)
        });
        if let Some(words) = latest.get(&here) {
            report.expect(words.get(spec).is_some_and(|word| *word == row.word), || {
                format!("the word on {spec} is not the latest of the {name} log")
            });
        }
        spoken.insert(spec.to_owned());
        Ok(())
    })?;
    for ((party, _), words) in latest.iter_mut() {
        if party == vkey {
            words.retain(|spec, _| !spoken.contains(spec));
        }
    }
    if count > 0 {
        report.checked.push(format!("words of {}: {count}", vkey.split('+').next().unwrap_or_default()));
    }
    Ok(())
}

/// Compares the words of divergences with the entries that they point at, and verifies the evidence that was kept.
fn check_divergences(
    reader: &Reader<'_>,
    own: &str,
    ids: &HashMap<(String, LogId), PeerLogId>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (mut after, mut count) = (0, 0u64);
    loop {
        let rows = reader.divergences(after, 1000)?;
        let Some(last) = rows.last() else {
            break;
        };
        after = last.id;
        count += rows.len() as u64;
        for row in &rows {
            for said_row in &row.words {
                let (first, end) = (said_row.number, said_row.number + 1);
                let texts = match ids.get(&(said_row.vkey.clone(), said_row.log)) {
                    _ if said_row.vkey == own => reader.entries(said_row.log, first, end)?,
                    Some(id) => reader.peer_entries(*id, first, end)?,
                    None => Vec::new(),
                };
                let word = Word::Sum { size: said_row.size, sum: said_row.sum };
                let found = texts.first().and_then(|text| said(said_row.log, text));
                let right = found.is_some_and(|(spec, found)| Some(spec) == row.spec && found == word);
                report.expect(right, || {
                    let name = name(&said_row.vkey, said_row.log);
                    format!("divergence {} has a word that entry {first} of the {name} log does not say", row.id)
                });
            }
            if let (Ok(_), Some(text)) = (row.kind.parse::<Kind>(), &row.evidence)
                && let Judgement::Tampered(why) | Judgement::Unreadable(why) = verify(text.as_bytes(), &[])
            {
                report.problem(format!("the evidence of divergence {} does not hold: {why}", row.id));
            }
        }
    }
    report.checked.push(format!("divergences: {count}"));
    Ok(())
}
