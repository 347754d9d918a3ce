//! One log of one peer: heads, tiles, and where its stream begins.
//!
//! Whether a head fits those before it, and whether entries give its root, is the follower's to find out.

use std::sync::Arc;

use reqwest::StatusCode;
use reqwest::header::{ACCEPT, HeaderValue};
use url::Url;

use super::fetch::{self, Line, Wanted};
use super::frames::EventStream;
use super::{Fault, Timing, Transport};
use crate::model::canonical_decimal;
use crate::tlog::{
    BUNDLE_LIMIT_BYTES, Hash, Head, HeadError, MAX_SIZE, NOTE_LIMIT_BYTES, NoteError, SUMDB_ORIGIN, TILE_WIDTH, Tile,
    TileKind, VerifierKey, open_head, parse_data_tile, parse_entry_bundle, parse_hash_tile,
};

/// Which log of a peer, and so in which form it is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Which {
    /// What it accepted: `/tlog`, in the form of Go's checksum database. Upstream gobuild has this one only.
    Tlog,
    /// What it found itself: `/claims`, as C2SP tlog-tiles.
    Claims,
}

/// A head that the peer's key signed, and the note that proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHead {
    pub head: Head,
    /// Exactly as it came.
    pub note: String,
}

/// Asks for one log of one peer.
#[derive(Clone)]
pub struct LogClient {
    line: Line,
    which: Which,
    /// The key that signs this log's heads: the node's own, for claims under the name of their origin.
    key: VerifierKey,
}

impl LogClient {
    /// The log `which` of the node with the key `key` at the address `base`.
    pub fn new(transport: Arc<dyn Transport>, base: Url, which: Which, key: &VerifierKey) -> LogClient {
        let key = match which {
            Which::Tlog => key.clone(),
            Which::Claims => key.as_name(&format!("{}/claims", key.name())),
        };
        LogClient { line: Line { transport, base, timing: Timing::default() }, which, key }
    }

    /// The same with other waits.
    #[must_use]
    pub fn with_timing(mut self, timing: Timing) -> LogClient {
        self.line.timing = timing;
        self
    }

    /// Which log it asks for.
    pub fn which(&self) -> Which {
        self.which
    }

    /// The key that must have signed every head of this log.
    pub fn key(&self) -> &VerifierKey {
        &self.key
    }

    /// The newest head that the peer shows.
    pub async fn head(&self, fresh: bool) -> Result<SignedHead, Fault> {
        let path = match self.which {
            Which::Tlog => "/tlog/latest",
            Which::Claims => "/claims/checkpoint",
        };
        let wanted = wanted("text/plain", NOTE_LIMIT_BYTES);
        let note = self.line.fetch(self.line.ask(path, fresh), &wanted).await?;
        let note = String::from_utf8(note).map_err(|_| Fault::Malformed(format!("{path}: the note is not UTF-8")))?;
        self.check_head(&note)
    }

    /// The texts of the entries `256 × index` to `256 × index + width`, exclusive, each as it is hashed: with its final
    /// newline. They are unsigned. A `width` of 256 asks for the full tile, which caches keep.
    pub async fn entries(&self, index: u64, width: u16, fresh: bool) -> Result<Vec<Vec<u8>>, Fault> {
        let path = self.tile_path(TileKind::Entries, index, width);
        let content_type = match self.which {
            Which::Tlog => "text/plain",
            Which::Claims => "application/octet-stream",
        };
        let bytes = self.line.fetch(self.line.ask(&path, fresh), &wanted(content_type, BUNDLE_LIMIT_BYTES)).await?;
        let entries = match self.which {
            Which::Tlog => parse_data_tile(&bytes, index.saturating_mul(TILE_WIDTH)),
            Which::Claims => parse_entry_bundle(&bytes),
        };
        let entries = entries.map_err(|error| Fault::Malformed(format!("{path}: {error}")))?;
        if entries.len() != usize::from(width) {
            let found = entries.len();
            return Err(Fault::Malformed(format!("{path}: the tile has {found} entries, not {width}")));
        }
        Ok(entries.into_iter().map(<[u8]>::to_vec).collect())
    }

    /// The hashes of one tile, level 0 being those of entries. They are unsigned.
    pub async fn hashes(&self, level: u8, index: u64, width: u16, fresh: bool) -> Result<Vec<Hash>, Fault> {
        let path = self.tile_path(TileKind::Hashes(level), index, width);
        let wanted = wanted("application/octet-stream", usize::from(width) * size_of::<Hash>());
        let bytes = self.line.fetch(self.line.ask(&path, fresh), &wanted).await?;
        parse_hash_tile(&bytes, width).ok_or_else(|| {
            Fault::Malformed(format!("{path}: the tile has {} bytes, not 32 for each of {width} hashes", bytes.len()))
        })
    }

    /// Follows the log from the entry after `last`, the last one held; from its first entry if none is.
    ///
    /// # Errors
    /// [`Fault::Beyond`] if the peer has no entry `last`.
    pub async fn stream(&self, last: Option<u64>) -> Result<EventStream, Fault> {
        let path = match self.which {
            Which::Tlog => "/tlog/stream",
            Which::Claims => "/claims/stream",
        };
        let mut ask = self.line.ask(path, false);
        ask.headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        match last {
            Some(last) => {
                ask.headers.insert("last-event-id", HeaderValue::from(last));
            }
            // No position at all would mean "from now on".
            None => ask.url.set_query(Some("from=0")),
        }
        let answer = self.line.transport.send(ask).await.map_err(|error| Fault::Network(error.context(path)))?;
        match answer.status {
            StatusCode::OK => {
                fetch::check_type(path, &answer.headers, "text/event-stream")?;
                Ok(EventStream::new(answer.body, self.clone(), self.line.timing.silence))
            }
            StatusCode::CONFLICT => Err(match self.line.refusal(answer).await {
                Fault::Refused { body, .. } => {
                    Fault::Beyond { size: canonical_decimal(&body).filter(|size| *size <= MAX_SIZE) }
                }
                other => other,
            }),
            _ => Err(self.line.refusal(answer).await),
        }
    }

    /// Verifies a head of this log, wherever it comes from.
    pub fn check_head(&self, note: &str) -> Result<SignedHead, Fault> {
        let origin = match self.which {
            Which::Tlog => SUMDB_ORIGIN,
            Which::Claims => self.key.name(),
        };
        match open_head(note.as_bytes(), &self.key, origin) {
            Ok(head) => Ok(SignedHead { head, note: note.to_owned() }),
            Err(HeadError::Note(
                error @ (NoteError::Unverified | NoteError::InvalidSignature { .. } | NoteError::AmbiguousKey { .. }),
            )) => Err(Fault::Unsigned(error.to_string())),
            Err(error) => Err(Fault::Malformed(error.to_string())),
        }
    }

    fn tile_path(&self, kind: TileKind, index: u64, width: u16) -> String {
        let tile = Tile { kind, index, width };
        match self.which {
            Which::Tlog => format!("/tlog/{}", tile.sumdb_path()),
            Which::Claims => format!("/claims/{}", tile.c2sp_path()),
        }
    }
}

fn wanted(content_type: &'static str, limit_bytes: usize) -> Wanted {
    Wanted { status: StatusCode::OK, content_type, limit_bytes }
}
