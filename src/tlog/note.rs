//! Signed notes: text, blank line, signature lines. As golang.org/x/mod/sumdb/note and C2SP signed-note.
//!
//! What the text says is left to others ([`super::checkpoint`]).

use std::sync::LazyLock;

use data_encoding::{BASE64, Encoding};

use super::key::{SignerKey, VerifierKey, is_name};

/// The longest note that is opened. Go takes 1 MB.
pub const NOTE_LIMIT_BYTES: usize = 16 << 10;
/// As Go. Repeats count.
const SIGNATURE_LIMIT: usize = 100;
const SIGNATURE_PREFIX: &str = "— ";

/// Standard base64 that ignores unused bits, as Go does: a strict reader would refuse a note that the rest of the world takes.
static LENIENT_BASE64: LazyLock<Encoding> = LazyLock::new(|| {
    let mut specification = BASE64.specification();
    specification.check_trailing_bits = false;
    specification
        .encoding()
        .expect("standard base64 with one check less")
});

pub(super) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    LENIENT_BASE64.decode(text.as_bytes()).ok()
}

/// A note of which at least one known key signed the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What was signed; ends with a newline.
    pub text: String,
    /// Verified, one a known key.
    pub signatures: Vec<Signature>,
    /// By keys that are not known, each line once. They prove nothing.
    pub unverified: Vec<Signature>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    pub name: String,
    pub key_id: u32,
    pub bytes: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    #[error("malformed note: {0}")]
    Malformed(&'static str),
    /// The note names a known key, but that key did not sign this text: a broken or forged note.
    #[error("the signature of {name}+{key_id:08x} is not valid")]
    InvalidSignature { name: String, key_id: u32 },
    #[error("two known keys have the name {name} and the number {key_id:08x}")]
    AmbiguousKey { name: String, key_id: u32 },
    /// Nothing wrong with it, but nobody we know signed it.
    #[error("the note has no signature of a known key")]
    Unverified,
}

/// Reads a note and verifies the signatures of known keys, by all rules of Go's `note.Open`.
///
/// Of several signatures by one known key only the first counts. A note is refused if that one is not valid, whatever
/// other keys signed.
pub fn open_note(message: &[u8], known: &[VerifierKey]) -> Result<Note, NoteError> {
    if message.len() > NOTE_LIMIT_BYTES {
        return Err(NoteError::Malformed("it is longer than 16 KiB"));
    }
    let message =
        std::str::from_utf8(message).map_err(|_| NoteError::Malformed("it is not UTF-8"))?;
    if message.bytes().any(|byte| byte < b' ' && byte != b'\n') {
        return Err(NoteError::Malformed("it has control characters"));
    }
    let blank = message.rfind("\n\n").ok_or(NoteError::Malformed(
        "no blank line separates text and signatures",
    ))?;
    let (text, lines) = (&message[..=blank], &message[blank + 2..]);
    let lines = lines
        .strip_suffix('\n')
        .ok_or(NoteError::Malformed("its last line is no signature line"))?;

    let mut note = Note {
        text: text.to_owned(),
        signatures: Vec::new(),
        unverified: Vec::new(),
    };
    let mut strangers = Vec::new();
    for (count, line) in lines.split('\n').enumerate() {
        if count == SIGNATURE_LIMIT {
            return Err(NoteError::Malformed("it has more than 100 signatures"));
        }
        let signature = parse_signature(line).ok_or(NoteError::Malformed(
            "a line after the blank one is no signature",
        ))?;
        let mut keys = known
            .iter()
            .filter(|key| key.key_id() == signature.key_id && key.name() == signature.name);
        match (keys.next(), keys.next()) {
            (None, _) => {
                if !strangers.contains(&line) {
                    strangers.push(line);
                    note.unverified.push(signature);
                }
            }
            (Some(_), Some(_)) => {
                return Err(NoteError::AmbiguousKey {
                    name: signature.name,
                    key_id: signature.key_id,
                });
            }
            (Some(key), None) => {
                if note
                    .signatures
                    .iter()
                    .any(|seen| (seen.key_id, &seen.name) == (signature.key_id, &signature.name))
                {
                    continue;
                }
                if !key.verify(text.as_bytes(), &signature.bytes) {
                    return Err(NoteError::InvalidSignature {
                        name: signature.name,
                        key_id: signature.key_id,
                    });
                }
                note.signatures.push(signature);
            }
        }
    }
    if note.signatures.is_empty() {
        Err(NoteError::Unverified)
    } else {
        Ok(note)
    }
}

/// Signs a text that ends with a newline. The signatures stand in the order of the signers.
pub fn sign_note(text: &str, signers: &[&SignerKey]) -> String {
    debug_assert!(
        text.ends_with('\n'),
        "the text of a note ends with a newline"
    );
    let mut note = String::with_capacity(text.len() + 1 + signers.len() * 160);
    note.push_str(text);
    note.push('\n');
    for signer in signers {
        let mut bytes = [0; 68];
        bytes[..4].copy_from_slice(&signer.key_id().to_be_bytes());
        bytes[4..].copy_from_slice(&signer.sign(text.as_bytes()));
        note.push_str(SIGNATURE_PREFIX);
        note.push_str(signer.name());
        note.push(' ');
        BASE64.encode_append(&bytes, &mut note);
        note.push('\n');
    }
    note
}

/// Reads `— name base64(key id || signature)`.
fn parse_signature(line: &str) -> Option<Signature> {
    let (name, encoded) = line.strip_prefix(SIGNATURE_PREFIX)?.split_once(' ')?;
    let bytes = decode_base64(encoded)?;
    let (key_id, signature) = bytes.split_first_chunk::<4>()?;
    (is_name(name) && !signature.is_empty()).then(|| Signature {
        name: name.to_owned(),
        key_id: u32::from_be_bytes(*key_id),
        bytes: signature.to_vec(),
    })
}
