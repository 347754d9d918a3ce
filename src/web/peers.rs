//! The other nodes: how following them goes, and how often they agree, for programs, people and metrics.
//!
//! What a follower knows comes from its status, what is proven from the store. Out of scope: the node itself
//! (`node` in [`super::api`]).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::api::{Page, rfc3339, source_name};
use super::error::Error;
use super::{Call, State, audits, pages};
use crate::peer::{self, Peer, Program, Status};
use crate::store::{LogId, PeerLogRow, Quarantine, WordCounts};
use crate::tlog::Head;

/// How long counts are shown again before they are made anew.
const COUNTS_FOR: Duration = Duration::from_secs(10);
/// Counts take the longer the more there is to count; they are made anew only after this many times as long.
const COUNTS_REST: u32 = 20;

/// How often each party agrees with this node, as counted a short while ago.
#[derive(Clone, Default)]
pub(super) struct Counts(Arc<Mutex<Option<Counted>>>);

struct Counted {
    by_vkey: Arc<HashMap<String, WordCounts>>,
    /// Of whoever has said nothing.
    silent: WordCounts,
    good_until: Instant,
}

impl Counts {
    /// Of all parties that have spoken, and of one that has not.
    async fn of(&self, state: &State) -> anyhow::Result<(Arc<HashMap<String, WordCounts>>, WordCounts)> {
        // Whoever comes while it is counted waits for the same result.
        let mut known = self.0.lock().await;
        if let Some(counted) = known.as_ref().filter(|counted| Instant::now() < counted.good_until) {
            return Ok((counted.by_vkey.clone(), counted.silent));
        }
        let began = Instant::now();
        let own = state.node.key.to_string();
        let (by_vkey, silent) = state.store.read(move |reader| reader.count_words(&own)).await?;
        let rest = COUNTS_FOR.max(began.elapsed() * COUNTS_REST);
        let counted = Counted { by_vkey: Arc::new(by_vkey), silent, good_until: Instant::now() + rest };
        let result = (counted.by_vkey.clone(), counted.silent);
        *known = Some(counted);
        Ok(result)
    }
}

/// What the store has on a peer.
struct Stored {
    logs: Vec<(LogId, PeerLogRow)>,
    quarantine: Option<Quarantine>,
}

async fn stored(state: &State, peer: &Peer) -> anyhow::Result<Stored> {
    let vkey = peer.key.to_string();
    let read = state.store.read(move |reader| {
        let mut logs = Vec::new();
        for log in LogId::ALL {
            logs.extend(reader.peer_log(&vkey, log)?.map(|row| (log, row)));
        }
        Ok(Stored { logs, quarantine: reader.quarantine(&vkey)? })
    });
    read.await
}

/// A page of the list of peers.
pub(super) async fn list(call: &Call<'_>) -> Result<Value, Error> {
    let page = Page::of(call)?;
    let state = call.state;
    let first = page.after.map_or(0, |after| usize::try_from(after).unwrap_or(usize::MAX));
    let (by_vkey, silent) = state.counts().of(state).await?;
    let mut items = Vec::new();
    let mut more = false;
    for (peer, status) in state.peers.iter().skip(first) {
        if items.len() == page.limit {
            more = true;
            break;
        }
        let counts = by_vkey.get(&peer.key.to_string()).copied().unwrap_or(silent);
        items.push(object(peer, &status, &stored(state, peer).await?, counts));
    }
    let next = more.then(|| first.saturating_add(items.len()).to_string());
    Ok(json!({"items": items, "next": next}))
}

fn object(peer: &Peer, status: &Status, stored: &Stored, counts: WordCounts) -> Value {
    let mut object = json!({"name": peer.name, "vkey": peer.key.to_string(), "url": peer.url.as_str()});
    if let Some(program) = status.program.or(peer.program) {
        object["kind"] = program_name(program).into();
    }
    object["vote"] = peer.vote.into();
    object["state"] = state_name(status, stored.quarantine.is_some()).into();
    object["quarantine"] = match &stored.quarantine {
        Some(row) => json!({
            "since": rfc3339(row.since), "reason": row.reason, "divergence": row.divergence.to_string(),
        }),
        None => Value::Null,
    };
    if let Some(since) = status.connected_since {
        object["connected_since"] = rfc3339(since).into();
    }
    object["logs"] = logs(status, stored).into();
    object["counts"] = json!({
        "agree": counts.agree, "differ": counts.differ, "missing": counts.missing, "cannot_build": counts.cannot_build,
    });
    object["gaps"] = status.gaps.into();
    object["not_words"] = status.not_words.into();
    if !status.ring.is_empty() {
        object["ring"] = status.ring.clone().into();
    }
    if let Some(error) = &status.last_error {
        object["last_error"] = error.clone().into();
    }
    object
}

/// Each log of a peer that something is known of.
fn logs(status: &Status, stored: &Stored) -> Vec<Value> {
    let mut logs = Vec::new();
    for log in LogId::ALL {
        let row = stored.logs.iter().find(|(id, _)| *id == log).map(|(_, row)| row);
        let followed = status.log == Some(log);
        // What the follower was shown last; before it was shown anything, what was proven before the last start.
        let shown = status.head.as_ref().filter(|_| followed).map(|(head, at)| (head.head.clone(), &head.note, *at));
        let kept = || {
            let row = row?;
            let note = row.head.as_ref()?;
            Some((Head::parse(note).ok()?, note, row.head_at))
        };
        let head = shown.or_else(kept);
        if row.is_none() && head.is_none() {
            continue;
        }
        let proven = row.map_or(0, |row| row.range.size().get());
        let mut object = json!({"log": source_name(log)});
        if let Some((head, note, at)) = &head {
            object["size"] = head.size.get().into();
            object["root"] = head.root.to_string().into();
            object["head"] = note.as_str().into();
            object["head_at"] = rfc3339(*at).into();
        }
        object["downloaded"] = if followed { status.downloaded.max(proven) } else { proven }.into();
        object["verified"] = proven.into();
        let size = head.as_ref().map_or(proven, |(head, ..)| head.size.get());
        object["lag"] = size.saturating_sub(proven).into();
        logs.push(object);
    }
    logs
}

fn program_name(program: Program) -> &'static str {
    match program {
        Program::Sumpeer => "sumpeer",
        Program::Gobuild => "gobuild",
    }
}

/// A quarantine is the store's to tell: the follower may not have got to it yet, or be gone.
fn state_name(status: &Status, quarantined: bool) -> &'static str {
    if quarantined { peer::State::Quarantined.name() } else { status.state.name() }
}

/// A peer at a glance, for people.
pub(super) struct PeerLine {
    pub(super) name: String,
    pub(super) url: String,
    /// What its follower does, in words.
    pub(super) state: &'static str,
    pub(super) bad: bool,
    /// How far its log is proven, in words.
    pub(super) position: String,
    pub(super) error: String,
    /// The page that says why it is in quarantine.
    pub(super) divergence: String,
    pub(super) votes: bool,
    /// How its audit stands, in words.
    pub(super) audit: String,
}

/// All peers at a glance.
pub(super) async fn lines(state: &State) -> anyhow::Result<Vec<PeerLine>> {
    let mut lines = Vec::new();
    for (peer, status) in state.peers.iter() {
        let vkey = peer.key.to_string();
        let quarantine = state.store.read(move |reader| reader.quarantine(&vkey)).await?;
        let audit = audits::line(state, peer).await?;
        lines.push(line(peer, &status, quarantine.as_ref(), audit));
    }
    Ok(lines)
}

fn line(peer: &Peer, status: &Status, quarantine: Option<&Quarantine>, audit: String) -> PeerLine {
    let state = if quarantine.is_some() { peer::State::Quarantined } else { status.state };
    let lag = status.head.as_ref().map(|(head, _)| head.head.size.get().saturating_sub(status.verified));
    PeerLine {
        name: peer.name.clone(),
        url: peer.url.to_string(),
        state: match state {
            peer::State::Backoff => "not reached",
            peer::State::Following => "followed",
            peer::State::Polling => "asked now and then",
            peer::State::CatchingUp => "catching up",
            peer::State::Quarantined => "in quarantine",
        },
        bad: matches!(state, peer::State::Quarantined | peer::State::Backoff),
        position: match lag {
            None => String::new(),
            Some(0) => format!("all {} entries", pages::grouped(status.verified)),
            Some(lag) => format!("{} entries, {} to go", pages::grouped(status.verified), pages::grouped(lag)),
        },
        error: match quarantine {
            Some(row) => row.reason.clone(),
            None => status.last_error.clone().unwrap_or_default(),
        },
        divergence: quarantine.map(|row| format!("/divergences/{}", row.divergence)).unwrap_or_default(),
        votes: peer.vote,
        audit,
    }
}

/// Brings the metrics that are read from the store up to date.
///
/// # Errors
/// The store failed.
pub(super) async fn measure(state: &State) -> anyhow::Result<()> {
    let read = state.store.read(|reader| {
        let counts = (reader.count_open_divergences()?, reader.count_open_alerts()?);
        Ok((counts, reader.channels()?, reader.backlogs()?))
    });
    let ((open, alerts), channels, backlogs) = read.await?;
    state.metrics.set_open_divergences(open);
    let told = channels.into_iter().map(|channel| (channel, 0, 0));
    let behind = backlogs.into_iter().map(|row| (row.channel, row.pending, row.since));
    state.metrics.set_alerts(alerts, told.chain(behind));
    let (by_vkey, silent) = state.counts().of(state).await?;
    for (peer, status) in state.peers.iter() {
        let counts = by_vkey.get(&peer.key.to_string()).copied().unwrap_or(silent);
        let kinds = [
            ("agree", counts.agree),
            ("differ", counts.differ),
            ("missing", counts.missing),
            ("cannot-build", counts.cannot_build),
        ];
        state.metrics.set_peer_words(&peer.name, kinds);
        if let Some((_, at)) = status.head {
            state.metrics.set_peer_head_time(&peer.name, at);
        }
    }
    Ok(())
}
