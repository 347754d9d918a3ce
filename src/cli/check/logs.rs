//! Checks a log against its own tiles, heads and rows.

use std::collections::HashMap;

use super::Report;
use super::tree::{Rebuilt, compare_tile};
use crate::model::{Claim, Finding, Record};
use crate::quorum::Word;
use crate::store::{HeadForm, LogId, Reader, RecordRow};
use crate::tlog::{self, Hash, TILE_WIDTH, leaf_hash};

/// Hashes every entry again and compares all tiles and heads with what comes out; the accepted log's entries
/// also with the rows made from them.
pub(super) fn check(reader: &Reader<'_>, log: LogId, forms: &[HeadForm], report: &mut Report) -> anyhow::Result<()> {
    let name = log.name();
    let count = reader.count_entries(log)?;
    let mut tree = Rebuilt::default();
    let mut first = 0;
    while first < count {
        let texts = reader.entries(log, first, first + TILE_WIDTH)?;
        if texts.is_empty() {
            report.problem(format!("the {name} log has a gap at entry {first}"));
            break;
        }
        if log == LogId::Accepted {
            check_records(reader, first, &texts, report)?;
        }
        for text in &texts {
            tree.push(leaf_hash(text), &mut |level, index, hashes| {
                compare_tile(reader, (log.into(), name), level, index, hashes, report)
            })?;
        }
        first += TILE_WIDTH;
    }
    tree.edges(&mut |level, index, hashes| compare_tile(reader, (log.into(), name), level, index, hashes, report))?;
    let stored = reader.count_tiles(log)?;
    report.expect(stored == tree.tiles, || {
        format!("the {name} log has {stored} tiles stored, but {count} entries make {}", tree.tiles)
    });

    let root = tree.range.root();
    for form in forms {
        check_head(reader, log, form, tree.range.size(), root, report)?;
    }
    if log == LogId::Accepted {
        let rows = reader.count_records()?;
        report.expect(rows == count, || format!("{count} records are logged, but {rows} are known by spec"));
    }
    report.checked.push(format!("{name} log: {count} entries, {} tiles, root {root}", tree.tiles));
    Ok(())
}

/// Compares the latest claims with this node's words, both ways, and looks at every claim's text.
pub(super) fn check_words(reader: &Reader<'_>, vkey: &str, report: &mut Report) -> anyhow::Result<()> {
    let count = reader.count_entries(LogId::Claims)?;
    let mut latest: HashMap<String, u64> = HashMap::new();
    let mut first = 0;
    while first < count {
        for (number, text) in (first..).zip(reader.entries(LogId::Claims, first, first + TILE_WIDTH)?) {
            match Claim::parse(&text) {
                Ok(claim) => {
                    check_binary_row(reader, number, &claim, report)?;
                    latest.insert(claim.spec.to_string(), number);
                }
                Err(error) => report.problem(format!("claim {number} is none: {error}")),
            }
        }
        first += TILE_WIDTH;
    }
    let specs = latest.len();
    reader.each_word(vkey, |spec, row| {
        if latest.remove(spec) != Some(row.number) {
            report.problem(format!("the word on {spec} is of claim {}, which is not the latest on it", row.number));
            return Ok(());
        }
        let texts = reader.entries(LogId::Claims, row.number, row.number + 1)?;
        let claim = texts.first().and_then(|text| Claim::parse(text).ok());
        let claimed = claim.map(|claim| Word::from(&claim.finding));
        report.expect(claimed.as_ref() == Some(&row.word), || {
            format!("the word on {spec} is not what claim {} says", row.number)
        });
        Ok(())
    })?;
    for (spec, number) in latest {
        report.problem(format!("claim {number} on {spec} has no word"));
    }
    report.checked.push(format!("claims: {count}, latest words on {specs} specs"));
    Ok(())
}

fn check_binary_row(reader: &Reader<'_>, number: u64, claim: &Claim, report: &mut Report) -> anyhow::Result<()> {
    let Finding::Built { size, sum } = &claim.finding else {
        return Ok(());
    };
    let row = reader.binary(sum)?;
    report.expect(row.as_ref().is_some_and(|row| row.size == *size), || {
        format!("claim {number} names the sum {sum} of {size} bytes, but no such binary is known, present or evicted")
    });
    Ok(())
}

fn check_records(reader: &Reader<'_>, first: u64, texts: &[Vec<u8>], report: &mut Report) -> anyhow::Result<()> {
    let rows = reader.records_from(first, texts.len())?;
    let by_number: HashMap<u64, &RecordRow> = rows.iter().map(|row| (row.number, row)).collect();
    for (number, text) in (first..).zip(texts) {
        let record = match Record::parse(text) {
            Ok(record) => record,
            Err(error) => {
                report.problem(format!("entry {number} of the accepted log is no record: {error}"));
                continue;
            }
        };
        report.expect(record.to_text().as_bytes() == text, || {
            format!("entry {number} of the accepted log is not written as records are")
        });
        report.expect(by_number.get(&number).is_some_and(|row| row.record == record), || {
            format!("entry {number} of the accepted log is not what is known of its spec")
        });
        let found = reader.binary(&record.sum)?;
        report.expect(found.is_none_or(|row| row.size == record.size), || {
            format!("record {number} names another size than its binary has")
        });
    }
    Ok(())
}

fn check_head(
    reader: &Reader<'_>,
    log: LogId,
    form: &HeadForm,
    size: tlog::TreeSize,
    root: Hash,
    report: &mut Report,
) -> anyhow::Result<()> {
    let name = log.name();
    let origin = &form.origin;
    let Some((row_size, row_root, note)) = reader.head(log, origin)? else {
        report.problem(format!("the {name} log has no head of {origin}"));
        return Ok(());
    };
    match tlog::open_head(note.as_bytes(), &form.signer.verifier(), origin) {
        Ok(head) => {
            report.expect((head.size, head.root) == (size, root), || {
                format!(
                    "the head of {origin} is of {} entries with root {}, but the log's {size} entries give {root}",
                    head.size, head.root
                )
            });
            report.expect((row_size, row_root) == (head.size, head.root), || {
                format!("the head of {origin} is noted with another size or root than it says")
            });
        }
        Err(error) => report.problem(format!("the head of {origin} is not good: {error}")),
    }
    Ok(())
}
