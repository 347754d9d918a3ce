//! Heads: the signed statement that a log of this size has this root. Go's tree note and the C2SP checkpoint are the same text.
//!
//! Whether two heads fit each other is asked of proofs ([`super::merkle`]); this room only reads and writes the text.

use super::key::VerifierKey;
use super::merkle::{Hash, TreeSize};
use super::note::{NOTE_LIMIT_BYTES, NoteError, decode_base64, open_note};
use crate::model::canonical_decimal;

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
        Err(HeadError::OtherOrigin { found: head.origin, wanted: origin.to_owned() })
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
        let (Some(origin), Some(size), Some(root), Some(_)) = (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return malformed("it has fewer than three lines");
        };
        if origin.is_empty() {
            return malformed("its first line is empty");
        }
        let Some(size) = canonical_decimal(size).and_then(TreeSize::new) else {
            return malformed("its second line is no size up to 2^40");
        };
        let Some(root) = decode_base64(root).and_then(|root| root.try_into().ok()).map(Hash) else {
            return malformed("its third line is no base64 of 32 bytes");
        };
        if size == TreeSize::ZERO && root != Hash::EMPTY_ROOT {
            return malformed("its size is 0, but its root is not that of an empty log");
        }
        Ok(Head { origin: origin.to_owned(), size, root })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::vectors::{hash, input, load, rows, text};
    use super::super::{SignerKey, sign_note};
    use super::*;

    #[test]
    fn heads_are_written_as_by_go() {
        for row in rows(&load("checkpoints"), "format_tree") {
            let Some(size) = row["size"].as_u64().and_then(TreeSize::new) else {
                continue;
            };
            let root = hash(&row["root"]);
            // Go signs a size of 0 with any root; ours cannot be read then.
            let sane = size > TreeSize::ZERO || root == Hash::EMPTY_ROOT;
            let head = Head { origin: SUMDB_ORIGIN.to_owned(), size, root };
            assert_eq!(head.to_text(), text(&row["text"]));
            assert_eq!(Head::parse(&head.to_text()).ok(), sane.then_some(head));
        }
    }

    #[test]
    fn heads_are_read_as_by_go_where_no_decision_says_otherwise() {
        let stricter = [
            "size 0 with any root",
            "largest size",
            "root line ends CR LF",
            "CR inside the root",
            // A note is UTF-8 throughout, so such text never gets here.
            "extra line that is not UTF-8",
            "1000000 bytes",
        ];
        for row in rows(&load("checkpoints"), "parse_tree") {
            let about = text(&row["about"]);
            let input = if row.get("in_rule").is_some() { vec![b'x'; 1_000_000] } else { input(row) };
            let head = String::from_utf8(input).ok().and_then(|text| Head::parse(&text).ok());
            let head = head.filter(|head| head.origin == SUMDB_ORIGIN);
            if stricter.contains(&about) {
                assert_eq!((head, &row["error"]), (None, &serde_json::Value::Null), "{about}");
                continue;
            }
            assert_eq!(head.is_some(), row["error"].is_null(), "{about}");
            if let Some(head) = head {
                // Compared as bytes: one root is written with unused bits.
                assert_eq!((Some(head.size.get()), head.root), (row["size"].as_u64(), hash(&row["root"])), "{about}");
            }
        }
    }

    #[test]
    fn a_head_counts_only_for_its_key_and_its_log() {
        let signer = SignerKey::generate("up.example", [3; 32]).unwrap();
        let head = Head { origin: SUMDB_ORIGIN.to_owned(), size: TreeSize::new(1).unwrap(), root: Hash([1; 32]) };
        let note = sign_note(&head.to_text(), &[&signer]);
        assert_eq!(open_head(note.as_bytes(), &signer.verifier(), SUMDB_ORIGIN), Ok(head));
        let other = open_head(note.as_bytes(), &signer.verifier(), "up.example/log");
        assert!(matches!(other, Err(HeadError::OtherOrigin { .. })));
        let stranger = SignerKey::generate("up.example", [4; 32]).unwrap().verifier();
        let unknown = open_head(note.as_bytes(), &stranger, SUMDB_ORIGIN);
        assert_eq!(unknown, Err(HeadError::Note(NoteError::Unverified)));
    }

    proptest! {
        #[test]
        fn heads_agree_with_another_implementation(origin in "[a-z0-9./ -]{1,40}", size in 1..=super::super::MAX_SIZE, root: [u8; 32]) {
            let head = Head { origin, size: TreeSize::new(size).unwrap(), root: Hash(root) };
            let theirs = tlog_tiles::Checkpoint::from_bytes(head.to_text().as_bytes()).unwrap();
            prop_assert_eq!((theirs.origin(), theirs.size(), theirs.hash().0), (head.origin.as_str(), size, root));
            prop_assert_eq!(Head::parse(&String::from_utf8(theirs.to_bytes()).unwrap()), Ok(head));
        }

        #[test]
        fn nothing_panics(text: String, lines in "[a-z0-9=\n]{0,80}") {
            let _ = (Head::parse(&text), Head::parse(&lines));
        }
    }
}
