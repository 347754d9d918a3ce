//! The proof of a stored divergence, from the store alone.
//!
//! Words stand in logs that are stored here with their tiles and signed heads, so who said what can be proven at any
//! time, years later too, without asking anybody. What stored logs cannot prove was kept with the divergence.
//! Out of scope: what makes a bundle good ([`crate::evidence`]).

use anyhow::Context as _;
use jiff::Timestamp;

use super::settle::whole_seconds;
use crate::evidence::{Bundle, Comparison, Kind, Party, Source};
use crate::log::StoredTiles;
use crate::model::Spec;
use crate::peer::Peers;
use crate::store::{ComparisonRow, DivergenceRow, LogId, PeerLogId, Reader, SaidRow, TreeId};
use crate::tlog::{SUMDB_ORIGIN, TreeSize, VerifierKey, inclusion_proof, open_head};

/// Pairs of words that are tried. Each but the first is there because somebody goes by two names.
const TRIES: usize = 20;

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum NoEvidence {
    /// It cannot be proven yet, or not at all; the sentence says why.
    #[error("not provable yet: {0}")]
    NotYet(String),
    /// The store failed, or what is in it does not fit together.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

/// What the parties of a node are called.
#[derive(Clone)]
pub struct Names {
    /// This node's own key.
    pub own: VerifierKey,
    /// The others.
    pub peers: Peers,
}

impl Names {
    /// The name of the party with this verifier key: as the operator calls it, or, for one that is not configured any
    /// more, as its key does.
    pub fn of(&self, vkey: &str) -> String {
        if self.own.to_string() == vkey {
            return self.own.name().to_owned();
        }
        let peer = self.peers.iter().find(|(peer, _)| peer.key.to_string() == vkey);
        match peer {
            Some((peer, _)) => peer.name.clone(),
            None => vkey.split('+').next().unwrap_or_default().to_owned(),
        }
    }
}

/// The bundle that proves a divergence, as text; `made_at` stands in it.
///
/// # Errors
/// [`NoEvidence::NotYet`] while no signed head covers two words that differ.
pub fn evidence(
    reader: &Reader<'_>,
    row: &DivergenceRow,
    names: &Names,
    made_at: Timestamp,
) -> Result<String, NoEvidence> {
    let one_party = match (row.kind.parse(), &row.evidence) {
        (Ok(_), Some(kept)) => return Ok(kept.clone()),
        (Ok(Kind::Divergence), None) => false,
        (Ok(Kind::Contradiction), None) => true,
        (Ok(kind), None) => return Err(NoEvidence::NotYet(format!("nothing was kept that shows this {kind}"))),
        // What this node noted of itself, in a sentence.
        (Err(_), why) => return Err(NoEvidence::NotYet(why.clone().unwrap_or_default())),
    };
    let spec = row.spec.as_deref().context("a divergence of words is of no spec")?;
    let spec: Spec = spec.parse().with_context(|| format!("the stored spec {spec} is malformed"))?;

    let comparisons = reader.comparisons(row.id)?;
    let mut covered = Vec::new();
    let mut missing = Vec::new();
    // The newest words are the ones that the verdict rests on.
    for said in row.words.iter().rev() {
        match Head::of(reader, names, said)? {
            Some(head) if said.number < head.size.get() => covered.push((said, head)),
            _ => missing.push(names.of(&said.vkey)),
        }
    }
    let differ = |one: &SaidRow, other: &SaidRow| {
        (one.size, one.sum) != (other.size, other.sum) && (one.vkey == other.vkey) == one_party
    };
    let mut refused = None;
    let pairs =
        covered.iter().enumerate().flat_map(|(at, one)| covered[at + 1..].iter().map(move |other| (other, one)));
    for ((one, head), (other, its)) in pairs.filter(|((one, _), (other, _))| differ(one, other)).take(TRIES) {
        let parties = [head.party(reader, names, one)?, its.party(reader, names, other)?];
        let comparison = comparison(&comparisons, [one, other]);
        match Bundle::words(whole_seconds(made_at), spec.clone(), parties, comparison.as_ref()) {
            Ok(bundle) => return Ok(bundle.encode()),
            // Two names with one key pair, for one, are neither one party nor two; others may have differed as well.
            Err(error) => refused = Some(format!("{error:#}")),
        }
    }
    missing.dedup();
    Err(NoEvidence::NotYet(match (missing.as_slice(), refused) {
        (_, Some(why)) => why,
        ([], None) => "the stored words do not differ".to_owned(),
        (names, None) => format!("no signed head covers the word of {}", names.join(", ")),
    }))
}

/// The bundle that shows that a party served other bytes than it signed for; `received` says which. None if its signed
/// head is not here, so that not even its word can be proven.
pub(super) fn mismatch_bundle(
    reader: &Reader<'_>,
    names: &Names,
    spec: Spec,
    said: &SaidRow,
    received: serde_json::Value,
    made_at: Timestamp,
) -> anyhow::Result<Option<String>> {
    let Some(head) = Head::of(reader, names, said)?.filter(|head| said.number < head.size.get()) else {
        return Ok(None);
    };
    let party = head.party(reader, names, said)?;
    Ok(Some(Bundle::mirror_mismatch(made_at, spec, party, received)?.encode()))
}

/// How the binaries behind two words differ, in their order, if that is known.
fn comparison(rows: &[ComparisonRow], words: [&SaidRow; 2]) -> Option<Comparison> {
    let wanted = words.map(|said| (said.size, said.sum));
    rows.iter().find_map(|row| {
        let value = serde_json::from_str(row.text.as_ref()?).ok()?;
        let comparison = Comparison::from_json(&value).ok()?;
        [comparison.clone(), comparison.reversed()].into_iter().find(|comparison| comparison.sums() == wanted)
    })
}

/// The stored signed head of a party's log.
struct Head {
    /// The key that signs heads of this log.
    key: VerifierKey,
    source: Source,
    note: String,
    size: TreeSize,
    tree: TreeId,
    /// Where its entries are; none: in this node's own log.
    peer: Option<PeerLogId>,
}

impl Head {
    /// Of the log in which something was said, if there is one.
    fn of(reader: &Reader<'_>, names: &Names, said: &SaidRow) -> anyhow::Result<Option<Head>> {
        let party: VerifierKey = said.vkey.parse().context("a stored verifier key is malformed")?;
        let (key, source) = match said.log {
            LogId::Claims => (party.as_name(&format!("{}/claims", party.name())), Source::Claims),
            LogId::Accepted => (party.clone(), Source::Log),
        };
        let origin = match said.log {
            LogId::Claims => key.name(),
            LogId::Accepted => SUMDB_ORIGIN,
        };
        let (note, tree, peer) = if party == names.own {
            (reader.head(said.log, origin)?.map(|(.., note)| note), said.log.into(), None)
        } else {
            match reader.peer_log(&said.vkey, said.log)? {
                Some(row) => (row.head, row.id.into(), Some(row.id)),
                None => return Ok(None),
            }
        };
        let Some(note) = note else {
            return Ok(None);
        };
        let head = open_head(note.as_bytes(), &key, origin).with_context(|| format!("a stored head of {origin}"))?;
        Ok(Some(Head { size: head.size, key, source, note, tree, peer }))
    }

    /// The party with what it said.
    fn party(&self, reader: &Reader<'_>, names: &Names, said: &SaidRow) -> anyhow::Result<Party> {
        let (first, end) = (said.number, said.number + 1);
        let entries = match self.peer {
            Some(log) => reader.peer_entries(log, first, end)?,
            None => reader.entries(said.log, first, end)?,
        };
        let text = entries.into_iter().next().context("the entry of a stored word is missing")?;
        let text = String::from_utf8(text).context("the entry of a stored word is no text")?;
        let proof = inclusion_proof(&mut StoredTiles { reader, tree: self.tree }, self.size, said.number)?;
        let party = Party::new(&names.of(&said.vkey), self.key.clone(), self.source, self.note.as_bytes())?;
        Ok(party.with_entry(said.number, text, proof))
    }
}
