//! Checks what is stored of audits against the entries of peers and this node's own words.

use anyhow::Context as _;

use super::Report;
use super::peers::{entry, name};
use crate::quorum::Word;
use crate::store::{AuditCounts, AuditOrder, AuditState, Reader};

/// Compares every entry that was chosen with the peer's log, what came of it with this node's word, and the counts with
/// both.
pub(super) fn check(reader: &Reader<'_>, own: &str, report: &mut Report) -> anyhow::Result<()> {
    for (vkey, log, position) in reader.audits()? {
        let name = name(&vkey, log);
        let audited = position.audited.context("an audited log is listed without its row")?;
        let (first, next) = (audited.first, audited.next);
        report.expect(next <= position.size, || {
            format!("the {name} log was audited up to entry {next}, but has {} entries", position.size)
        });
        let rows = match reader.audit_rows(position.log, AuditOrder::OldestFirst, usize::MAX) {
            Ok(rows) => rows,
            Err(error) => {
                report.problem(format!("what was audited of the {name} log cannot be read: {error:#}"));
                continue;
            }
        };
        let mut counts = AuditCounts::default();
        for row in rows {
            let (number, spec) = (row.number, &row.spec);
            counts.chosen += 1;
            match row.state {
                AuditState::Pending => {}
                AuditState::Reproduced => counts.reproduced += 1,
                AuditState::Differs => counts.differs += 1,
                AuditState::CannotBuild(_) => counts.cannot_build += 1,
            }
            report.expect((first..next).contains(&number), || {
                format!("entry {number} of the {name} log is audited, but only {first} to {next} were looked at")
            });
            let word = Word::Sum { size: row.size, sum: row.sum };
            let found = entry(reader, log, position.log, number)?;
            report.expect(found.is_some_and(|(of, found)| of == *spec && found == word), || {
                format!("what is audited of {spec} is not what entry {number} of the {name} log says")
            });
            // One that is malformed is what no entry says.
            let id = spec.parse().ok().map(|spec| reader.spec_id(&spec)).transpose()?.flatten();
            let own = id.map(|id| reader.word(id, own)).transpose()?.flatten().map(|row| row.word);
            let state = AuditState::of((row.size, row.sum), own.as_ref());
            report.expect(state == row.state, || {
                let (noted, is) = (row.state.name(), state.name());
                format!("entry {number} of the {name} log is noted as {noted}; by this node's own word it is {is}")
            });
        }
        report.expect(counts == audited.counts, || {
            format!("the counts of the audit of the {name} log are not those of its entries")
        });
        report.checked.push(format!(
            "audit of the {name} log: {} of {} entries",
            counts.chosen,
            next.saturating_sub(first)
        ));
    }
    Ok(())
}
