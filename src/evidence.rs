//! Evidence: one file that proves, offline and with nothing but the keys inside it, what somebody signed.
//!
//! In scope: bundles as values, making them of parts that the caller has, their canonical encoding, and their check; and
//! how two binaries differ, which stands beside a proof. Out of scope: noticing that there is something to prove, keeping
//! bundles, and fetching what goes into them. No clock, and no I/O but reading files that the caller has opened; only
//! [`crate::model`], [`crate::tlog`] and [`crate::quorum`] are used, so a verifier needs no node.
//!
//! The rooms, in reading order:
//! - `encoding`: one text for each bundle, so that any other byte is noticed
//! - `heads`: who signed what of which log; forks, wrong roots, rollbacks
//! - `words`: what a signed log says of a spec; divergences, contradictions, wrong copies
//! - `make`: bundles from heads, entries and tiles; each is verified before anyone gets it
//! - `verify`: bytes of strangers to a [`Judgement`]
//! - [`image`], [`buildinfo`]: what is where in an executable, and what it says of its build
//! - [`compare`](mod@compare): how two executables differ, and what kind of difference that is
//!
//! What always holds: a judgement rests on signed text and on what hashes tie to it. Names of peers, times and comparisons
//! of binaries stand in a bundle for its readers, and prove nothing: the digest only tells damage from a whole file. A
//! comparison has to be of the two files that the words name.

pub mod buildinfo;
pub mod compare;
mod encoding;
mod heads;
pub mod image;
#[cfg(test)]
pub(crate) mod made;
mod make;
mod verify;
mod words;

#[cfg(test)]
mod tests;

pub use compare::{COMPARED_LIMIT_BYTES, Class, Comparison, Table, compare};
pub use encoding::{FILE_LIMIT_BYTES, Flaw};
pub use heads::fork_tiles;
pub use verify::{Judgement, Statement, verify};

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use crate::model::Spec;
use crate::tlog::{Hash, Tile, VerifierKey};

/// What a bundle is about, by the names that divergences have everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Two parties named different (sum, size) pairs for one spec.
    Divergence,
    /// One party named two.
    Contradiction,
    /// One key signed two heads that no single log can have.
    Fork,
    /// One key signed a head, and later showed a smaller one. Heads carry no time, so it cannot be proved.
    Rollback,
    /// The entries that were served do not give the signed root. Entries are not signed, so it cannot be proved.
    BadRoot,
    /// A party served other bytes than the log says. Downloads are not signed, so it cannot be proved.
    MirrorMismatch,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 6] =
        [Kind::Divergence, Kind::Contradiction, Kind::Fork, Kind::Rollback, Kind::BadRoot, Kind::MirrorMismatch];

    /// Its name in bundles, in the API and in alerts.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Divergence => "divergence",
            Kind::Contradiction => "contradiction",
            Kind::Fork => "fork",
            Kind::Rollback => "rollback",
            Kind::BadRoot => "bad-root",
            Kind::MirrorMismatch => "mirror-mismatch",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no kind or source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such {0}")]
pub struct UnknownName(&'static str);

impl FromStr for Kind {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Kind, UnknownName> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(UnknownName("kind of evidence"))
    }
}

/// Which log of a party a head is of. It says how entries read and which first lines a head may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Of what it found itself: entries are claims, the head is a checkpoint of `NAME/claims`.
    Claims,
    /// Of what it accepted: entries are records, the head is that of a Go checksum database signed by `NAME`, or a
    /// checkpoint of `NAME/log`.
    Log,
}

impl Source {
    /// Its name in bundles.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Claims => "claims",
            Source::Log => "log",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Source {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Source, UnknownName> {
        [Source::Claims, Source::Log].into_iter().find(|source| source.as_str() == text).ok_or(UnknownName("source"))
    }
}

/// One piece of evidence. Made by [`Bundle::words`], [`Bundle::fork`] and their like, or read by [`Bundle::decode`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// What it is about.
    pub kind: Kind,
    /// When it was put together, in whole seconds. Not proved.
    pub made_at: Timestamp,
    /// What was built, for the kinds that are about words.
    pub spec: Option<Spec>,
    /// Whose heads are in it: one or two, by kind.
    pub parties: Vec<Party>,
    /// For a fork: the tiles of hashes that both roots follow from. For a bad root: what was served.
    pub tiles: Vec<EvidenceTile>,
    /// How the binaries differ, for people: a [`Comparison`] beside two words; of a wrong copy, what came. Not proved.
    /// Numbers in it are integers.
    pub comparison: Option<serde_json::Value>,
}

/// A signed head, and maybe an entry under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// What whoever made the bundle calls it. Not proved.
    pub name: String,
    /// The key that verifies this head as it stands: for a checkpoint its name is the log's origin.
    pub vkey: VerifierKey,
    /// Which log the head is of.
    pub source: Source,
    /// The note, with this key's signature and no other.
    pub head: String,
    /// What the log says, for the kinds that are about words.
    pub entry: Option<Entry>,
}

/// An entry of a log, and the proof that a head covers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number, from 0.
    pub number: u64,
    /// Its exact text, the newline at its end included: this is what is hashed.
    pub text: String,
    /// From the leaf's sibling up to the root of the party's head.
    pub inclusion_proof: Vec<Hash>,
}

/// A tile as a peer served it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvidenceTile {
    /// Which one.
    pub tile: Tile,
    /// The path form that it was served under.
    pub form: PathForm,
    /// Its bytes: hashes, or entries as that path form has them.
    pub data: Vec<u8>,
}

/// The two families of paths that tiles stand under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathForm {
    /// `tile/8/…`, as Go's checksum database.
    Sumdb,
    /// `tile/…`, as C2SP tlog-tiles.
    C2sp,
}

impl EvidenceTile {
    /// Its path on the peer, below the log's own address.
    pub fn path(&self) -> String {
        match self.form {
            PathForm::Sumdb => self.tile.sumdb_path(),
            PathForm::C2sp => self.tile.c2sp_path(),
        }
    }

    /// Reads a path of either form; no path is of both.
    fn parse_path(path: &str) -> Option<(Tile, PathForm)> {
        let sumdb = Tile::parse_sumdb(path).map(|tile| (tile, PathForm::Sumdb));
        sumdb.or_else(|| Tile::parse_c2sp(path).map(|tile| (tile, PathForm::C2sp)))
    }
}

/// A stranger's text, fit for a terminal and a page: no control characters, none that reorder or hide others.
fn plain(text: &str, limit_chars: usize) -> String {
    let hidden = |c: char| {
        c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if hidden(c) { ' ' } else { c }).take(limit_chars).collect()
}
