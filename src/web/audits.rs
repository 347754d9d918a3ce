//! How far the logs of observed peers are audited, for programs, people and metrics. All of it is read from the store.

use serde_json::{Value, json};

use super::api::{rfc3339, source_name};
use super::error::Error;
use super::{Call, State, pages};
use crate::audit;
use crate::peer::Peer;
use crate::store::{AuditCounts, AuditRow, AuditedLog, LogId, Reader};

/// Entries that differ, of each log: those found first are in the list of divergences.
const DIFFERING: usize = 20;

/// The audit of one log.
struct Audit {
    peer: Peer,
    log: LogId,
    /// Entries that are proven and stored.
    size: u64,
    audited: AuditedLog,
    differing: Vec<AuditRow>,
}

/// The audits of all peers that are configured, and how many builds were begun today.
async fn audits(state: &State) -> anyhow::Result<(Vec<Audit>, u64)> {
    let peers: Vec<Peer> = state.peers.iter().map(|(peer, _)| peer.clone()).collect();
    let read = move |reader: &Reader<'_>| {
        let mut audits = Vec::new();
        for (vkey, log, position) in reader.audits()? {
            let peer = peers.iter().find(|peer| peer.key.to_string() == vkey).cloned();
            if let (Some(peer), Some(audited)) = (peer, position.audited) {
                let differing = reader.audit_differing(position.log, DIFFERING)?;
                audits.push(Audit { peer, log, size: position.size, audited, differing });
            }
        }
        Ok((audits, reader.audits_begun(audit::today())?))
    };
    state.store.read(read).await
}

/// The coverage of each audited peer. As many as there are peers, so it is one page.
pub(super) async fn list(call: &Call<'_>) -> Result<Value, Error> {
    let (audits, begun) = audits(call.state).await?;
    let items: Vec<Value> = audits.iter().map(object).collect();
    let mut list = json!({"items": items, "next": null, "begun_today": begun});
    if let Some(why) = call.state.tally.frozen() {
        list["stopped"] = why.into();
    }
    Ok(list)
}

fn object(audit: &Audit) -> Value {
    let Audit { peer, log, size, audited, differing } = audit;
    let counts = &audited.counts;
    json!({
        "peer": peer.name,
        "vkey": peer.key.to_string(),
        "log": source_name(*log),
        "size": size,
        "from": audited.first,
        "looked_at": audited.next,
        "since": rfc3339(audited.since),
        "selection": audited.selection,
        "chosen": counts.chosen,
        "reproduced": counts.reproduced,
        "differs": counts.differs,
        "cannot_build": counts.cannot_build,
        "pending": counts.pending(),
        "differing": differing.iter().map(row).collect::<Vec<_>>(),
    })
}

fn row(row: &AuditRow) -> Value {
    let mut object = json!({"number": row.number, "spec": row.spec, "size": row.size, "sum": row.sum.to_string()});
    if let Some(at) = row.at {
        object["at"] = rfc3339(at).into();
    }
    if let Some(at) = row.reproduced_at {
        object["reproduced_at"] = rfc3339(at).into();
    }
    object
}

/// How the audit of a peer stands, in words; empty if there is none.
pub(super) async fn line(state: &State, peer: &Peer) -> anyhow::Result<String> {
    let vkey = peer.key.to_string();
    let followed = state.peers.log_of(&vkey);
    let read = state.store.read(move |reader| {
        let log = followed.or(reader.peer_program(&vkey)?.map(|(_, log)| log));
        log.map_or(Ok(None), |log| reader.audit_position(&vkey, log))
    });
    let audited = read.await?.and_then(|position| position.audited);
    Ok(audited.map(|audited| in_words(&audited.counts)).unwrap_or_default())
}

fn in_words(counts: &AuditCounts) -> String {
    let mut words = format!("{} of {} reproduced", pages::grouped(counts.reproduced), pages::grouped(counts.chosen));
    for (count, what) in [(counts.differs, "differ"), (counts.cannot_build, "cannot be built here")] {
        if count > 0 {
            words.push_str(&format!(", {} {what}", pages::grouped(count)));
        }
    }
    words
}

/// Brings the metrics up to date.
///
/// # Errors
/// The store failed.
pub(super) async fn measure(state: &State) -> anyhow::Result<()> {
    let (audits, begun) = audits(state).await?;
    state.metrics.audit_builds_today.set(i64::try_from(begun).unwrap_or(i64::MAX));
    for Audit { peer, log, audited, .. } in audits {
        // A peer that has changed its mode has two logs; the one that is followed counts.
        if state.peers.log_of(&peer.key.to_string()).is_some_and(|followed| followed != log) {
            continue;
        }
        let AuditCounts { reproduced, differs, cannot_build, .. } = audited.counts;
        let states = [
            ("pending", audited.counts.pending()),
            ("reproduced", reproduced),
            ("differs", differs),
            ("cannot-build", cannot_build),
        ];
        state.metrics.set_audit(&peer.name, audited.next, states);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_leave_out_what_there_is_none_of() {
        let counts = AuditCounts { chosen: 1200, reproduced: 1000, differs: 0, cannot_build: 0 };
        assert_eq!(in_words(&counts), "1,000 of 1,200 reproduced");
        let counts = AuditCounts { differs: 2, cannot_build: 3, ..counts };
        assert_eq!(in_words(&counts), "1,000 of 1,200 reproduced, 2 differ, 3 cannot be built here");
        assert_eq!(counts.pending(), 195);
    }
}
