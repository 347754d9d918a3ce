//! From a server's answer to a proof: the record is signed for, in the tree, and the tree is the one we know.
//!
//! In this order, and each step only on what the one before has proved: key → head → record → inclusion → consistency
//! with the last head → the new head is kept.

use url::Url;

use crate::model::{Record, SpecQuery};
use crate::tlog::{
    FetchedTiles, Head, HeadError, NoteError, ProofError, SUMDB_ORIGIN, Tile, TreeSize, VerifierKey, VerifyingTiles,
    check_inclusion, inclusion_proof, leaf_hash, open_head, parse_lookup, tree_hash,
};

use super::Refusal;
use super::ask::answers;
use super::heads::{Heads, Seen};
use super::talk::Talk;
use super::wire::{TileError, Wire};

/// A record and what proved it.
#[derive(Debug)]
pub(super) struct Proven {
    pub(super) url: Url,
    pub(super) key: VerifierKey,
    pub(super) record: Record,
    pub(super) number: u64,
    pub(super) head: Head,
    /// The head as it was signed.
    pub(super) note: String,
}

/// Asks a log for a record and proves it.
pub(super) async fn prove(
    wire: &Wire<'_>,
    key: &VerifierKey,
    heads: &Heads,
    query: &SpecQuery,
    talk: &Talk,
) -> Result<Proven, Refusal> {
    let answer = wire.lookup(query).await?;
    let name = &wire.name;
    let garbled = |error| Refusal::Failed(anyhow::Error::from(error).context(format!("{name} answered nonsense")));
    let (number, text, note) = parse_lookup(&answer).map_err(garbled)?;
    let head = open_head(note, key, SUMDB_ORIGIN).map_err(|error| match error {
        HeadError::Note(NoteError::InvalidSignature { .. } | NoteError::Unverified) => {
            Refusal::Tampering(format!("{name} shows a head that {key} did not sign: {error}"))
        }
        HeadError::Note(_) | HeadError::Malformed(_) | HeadError::OtherOrigin { .. } => garbled_head(name, error),
    })?;
    let record = Record::parse(text.as_bytes())
        .map_err(|error| Refusal::Tampering(format!("{name} has in its log what is no record: {error}")))?;
    if !answers(query, &record) {
        let found = &record.spec;
        return Err(Refusal::Tampering(format!("{name} was asked for {query} and answered with {found}")));
    }
    if number >= head.size.get() {
        let size = head.size;
        return Err(Refusal::Tampering(format!("{name} shows record {number} under a head of only {size} records")));
    }
    let proof = with_tiles(wire, head.size, &head, |tiles| inclusion_proof(tiles, head.size, number)).await;
    let proof = proof.map_err(|trouble| trouble.of_head(name))?;
    check_inclusion(&proof, head.size, &head.root, number, &leaf_hash(text.as_bytes()))
        .map_err(|_| Refusal::Tampering(format!("the record that {name} shows is not number {number} of its log")))?;

    let note = String::from_utf8_lossy(note).into_owned();
    let new = Seen { note, head };
    continue_history(wire, key, heads, &new, talk).await?;
    let Seen { note, head } = new;
    Ok(Proven { url: wire.url.clone(), key: key.clone(), record, number, head, note })
}

fn garbled_head(name: &str, error: HeadError) -> Refusal {
    Refusal::Failed(anyhow::Error::from(error).context(format!("{name} answered with a broken head")))
}

/// Proves that this head and the last one are of one log, and keeps the larger.
async fn continue_history(
    wire: &Wire<'_>,
    key: &VerifierKey,
    heads: &Heads,
    new: &Seen,
    talk: &Talk,
) -> Result<(), Refusal> {
    loop {
        let old = heads.last(key)?;
        if let Some(old) = &old {
            if !same_log(wire, old, new).await? {
                return Err(forked(key, old, new));
            }
            if old.head.size >= new.head.size {
                if old.head.size > new.head.size {
                    talk.say(&format!(
                        "warning: {} shows a log of {} records, smaller than the {} it had before; it fits, so it is used",
                        wire.name, new.head.size, old.head.size
                    ));
                }
                return Ok(());
            }
        }
        if heads.replace(key, old.as_ref(), new)? {
            return Ok(());
        }
        // Another run kept another head meanwhile: prove against that one.
    }
}

/// Whether the smaller of two signed heads is how the larger began, by the server's own tiles.
async fn same_log(wire: &Wire<'_>, old: &Seen, new: &Seen) -> Result<bool, Refusal> {
    let shrunk = new.head.size < old.head.size;
    let (small, large) = if shrunk { (&new.head, &old.head) } else { (&old.head, &new.head) };
    if small.size == large.size {
        return Ok(small.root == large.root);
    }
    let root = with_tiles(wire, large.size, large, |tiles| tree_hash(tiles, small.size)).await;
    match root {
        Ok(root) => Ok(root == small.root),
        // It signed the larger log once and has it no more, or has another in its place: gone back, however it came about.
        Err(Trouble::Gone(_) | Trouble::WrongHash(_)) if shrunk => Ok(false),
        Err(trouble) => Err(trouble.of_head(&wire.name)),
    }
}

fn forked(key: &VerifierKey, old: &Seen, new: &Seen) -> Refusal {
    let what = if new.head.size < old.head.size { "has gone back" } else { "has been forked" };
    let (before, now) = (&old.note, &new.note);
    Refusal::Tampering(format!(
        "the log of {key} {what}: no single log has both of these heads. Keep them, they are the evidence.\n\
         seen before:\n\n{before}\nshown now:\n\n{now}"
    ))
}

/// Why tiles proved nothing.
enum Trouble {
    Gone(String),
    /// The tiles do not lead to the signed root.
    WrongHash(String),
    Failed(anyhow::Error),
}

impl Trouble {
    /// In tiles of a head that the server itself has just shown.
    fn of_head(self, name: &str) -> Refusal {
        match self {
            Trouble::WrongHash(what) => {
                Refusal::Tampering(format!("the tiles of {name} do not fit the head it has signed: {what}"))
            }
            Trouble::Gone(what) => Refusal::Failed(anyhow::anyhow!("a tile of the log is missing: {what}")),
            Trouble::Failed(error) => Refusal::Failed(error),
        }
    }
}

/// Computes something from the server's tiles, each proved against the head before it is used.
async fn with_tiles<T>(
    wire: &Wire<'_>,
    size: TreeSize,
    head: &Head,
    compute: impl Fn(&mut VerifyingTiles<&mut FetchedTiles>) -> Result<T, ProofError<ProofError<Tile>>>,
) -> Result<T, Trouble> {
    let mut fetched = FetchedTiles::default();
    // Every round but the last brings one more of the few tiles that a proof needs.
    loop {
        let mut tiles = VerifyingTiles::new(&mut fetched, size, head.root);
        match compute(&mut tiles) {
            Ok(result) => return Ok(result),
            Err(ProofError::Read(ProofError::Read(missing))) => match wire.tile(missing).await {
                Ok(hashes) => fetched.insert(missing, hashes),
                Err(TileError::Gone(what)) => return Err(Trouble::Gone(what)),
                Err(TileError::Failed(error)) => return Err(Trouble::Failed(error)),
            },
            Err(ProofError::Read(wrong)) => return Err(Trouble::WrongHash(wrong.to_string())),
            Err(wrong) => return Err(Trouble::WrongHash(wrong.to_string())),
        }
    }
}
