//! Heads: the signed statement that a log of this size has this root. Go's tree note and the C2SP checkpoint are the same text.
//!
//! Whether two heads fit each other is asked of proofs ([`super::merkle`]); this room only reads and writes the text.

use super::key::VerifierKey;
use super::merkle::{Hash, TreeSize};
use super::note::{NOTE_LIMIT_BYTES, NoteError, decode_base64, open_note};
use super::tile::canonical_decimal;

/// The first line of every tree head in the protocol of Go's checksum database. All gobuild logs share it,
/// so it identifies nobody: the key does.
pub const SUMDB_ORIGIN: &str = "go.sum database tree";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub origin: String,
    pub size: TreeSize,
    pub root: Hash,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    #[error(transparent)]
    Note(#[from] NoteError),
    #[error("malformed tree head: {0}")]
    Malformed(&'static str),
    #[error("the head is of the log {found:?}, not of {wanted:?}")]
    OtherOrigin { found: String, wanted: String },
}

/// Opens a signed head: `key` must have signed it, and it must be of the log `origin`.
pub fn open_head(message: &[u8], key: &VerifierKey, origin: &str) -> Result<Head, HeadError> {
    let note = open_note(message, std::slice::from_ref(key))?;
    let head = Head::parse(&note.text)?;
    if head.origin == origin {
        Ok(head)
    } else {
        Err(HeadError::OtherOrigin {
            found: head.origin,
            wanted: origin.to_owned(),
        })
    }
}

impl Head {
    /// The text to sign: origin, size and root, a line each.
    pub fn to_text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, self.root)
    }

    /// Reads the text of a head. As Go's `tlog.ParseTree` it ignores what follows the three lines (C2SP extension lines)
    /// and unused bits of the root; unlike it no carriage return passes, size 0 has the empty root only, and sizes end
    /// at [`super::MAX_SIZE`].
    pub fn parse(text: &str) -> Result<Head, HeadError> {
        let malformed = |reason| Err(HeadError::Malformed(reason));
        if text.len() > NOTE_LIMIT_BYTES {
            return malformed("it is longer than 16 KiB");
        }
        let mut lines = text.splitn(4, '\n');
        let (Some(origin), Some(size), Some(root), Some(_)) =
            (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return malformed("it has fewer than three lines");
        };
        if origin.is_empty() {
            return malformed("its first line is empty");
        }
        let Some(size) = canonical_decimal(size).and_then(TreeSize::new) else {
            return malformed("its second line is no size up to 2^40");
        };
        let Some(root) = decode_base64(root)
            .and_then(|root| root.try_into().ok())
            .map(Hash)
        else {
            return malformed("its third line is no base64 of 32 bytes");
        };
        if size == TreeSize::ZERO && root != Hash::EMPTY_ROOT {
            return malformed("its size is 0, but its root is not that of an empty log");
        }
        Ok(Head {
            origin: origin.to_owned(),
            size,
            root,
        })
    }
}
