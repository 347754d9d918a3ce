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
    specification.encoding().expect("standard base64 with one check less")
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
    let message = std::str::from_utf8(message).map_err(|_| NoteError::Malformed("it is not UTF-8"))?;
    if message.bytes().any(|byte| byte < b' ' && byte != b'\n') {
        return Err(NoteError::Malformed("it has control characters"));
    }
    let blank = message.rfind("\n\n").ok_or(NoteError::Malformed("no blank line separates text and signatures"))?;
    let (text, lines) = (&message[..=blank], &message[blank + 2..]);
    let lines = lines.strip_suffix('\n').ok_or(NoteError::Malformed("its last line is no signature line"))?;

    let mut note = Note { text: text.to_owned(), signatures: Vec::new(), unverified: Vec::new() };
    let mut strangers = Vec::new();
    for (count, line) in lines.split('\n').enumerate() {
        if count == SIGNATURE_LIMIT {
            return Err(NoteError::Malformed("it has more than 100 signatures"));
        }
        let signature =
            parse_signature(line).ok_or(NoteError::Malformed("a line after the blank one is no signature"))?;
        let mut keys = known.iter().filter(|key| key.key_id() == signature.key_id && key.name() == signature.name);
        match (keys.next(), keys.next()) {
            (None, _) => {
                if !strangers.contains(&line) {
                    strangers.push(line);
                    note.unverified.push(signature);
                }
            }
            (Some(_), Some(_)) => {
                return Err(NoteError::AmbiguousKey { name: signature.name, key_id: signature.key_id });
            }
            (Some(key), None) => {
                if note.signatures.iter().any(|seen| (seen.key_id, &seen.name) == (signature.key_id, &signature.name)) {
                    continue;
                }
                if !key.verify(text.as_bytes(), &signature.bytes) {
                    return Err(NoteError::InvalidSignature { name: signature.name, key_id: signature.key_id });
                }
                note.signatures.push(signature);
            }
        }
    }
    if note.signatures.is_empty() { Err(NoteError::Unverified) } else { Ok(note) }
}

/// Signs a text that ends with a newline. The signatures stand in the order of the signers.
pub fn sign_note(text: &str, signers: &[&SignerKey]) -> String {
    debug_assert!(text.ends_with('\n'), "the text of a note ends with a newline");
    let mut note = String::with_capacity(text.len() + 1 + signers.len() * 160);
    note.push_str(text);
    note.push('\n');
    for signer in signers {
        push_signature(&mut note, signer.name(), signer.key_id(), &signer.sign(text.as_bytes()));
    }
    note
}

impl Note {
    /// The note with its verified signatures alone, in the one form that base64 should have: what strangers added is
    /// gone, and so is any choice of whoever passed the note on.
    pub fn to_message(&self) -> String {
        let mut note = format!("{}\n", self.text);
        for Signature { name, key_id, bytes } in &self.signatures {
            push_signature(&mut note, name, *key_id, bytes);
        }
        note
    }
}

fn push_signature(note: &mut String, name: &str, key_id: u32, signature: &[u8]) {
    note.push_str(SIGNATURE_PREFIX);
    note.push_str(name);
    note.push(' ');
    BASE64.encode_append(&[&key_id.to_be_bytes(), signature].concat(), note);
    note.push('\n');
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::super::vectors::{input, load, rows, text};
    use super::*;

    fn signatures(list: &Value) -> Vec<Signature> {
        let list = list.as_array().into_iter().flatten();
        list.map(|row| {
            let bytes = decode_base64(text(&row["base64"])).unwrap();
            let (key_id, bytes) = bytes.split_first_chunk().unwrap();
            let (name, bytes) = (text(&row["name"]).to_owned(), bytes.to_vec());
            Signature { name, key_id: u32::from_be_bytes(*key_id), bytes }
        })
        .collect()
    }

    #[test]
    fn notes_are_opened_as_by_go() {
        for row in rows(&load("note"), "open") {
            let known: Result<Vec<VerifierKey>, _> = rows(row, "known").iter().map(|key| text(key).parse()).collect();
            let Ok(known) = known else {
                assert_eq!(text(&row["about"]), "key that is not a point of the curve");
                continue;
            };
            let opened = open_note(&input(row), &known);
            assert_eq!(opened.is_ok(), row["error"].is_null(), "{row} {opened:?}");
            match opened {
                Ok(note) => {
                    assert_eq!(note.text, text(&row["text"]));
                    assert_eq!(note.signatures, signatures(&row["sigs"]), "{row}");
                    assert_eq!(note.unverified, signatures(&row["unverified"]), "{row}");
                }
                Err(NoteError::InvalidSignature { .. }) => {
                    assert_eq!(row["kind"], "InvalidSignatureError")
                }
                Err(NoteError::Unverified) => assert_eq!(row["kind"], "UnverifiedNoteError"),
                Err(error) => assert!(row["kind"].is_null(), "{row} {error}"),
            }
        }
    }

    #[test]
    fn notes_are_signed_as_by_go() {
        for row in rows(&load("note"), "sign") {
            // We add no signature to the notes of others, and no text of ours lacks its newline.
            if row.get("have").is_some() || !text(&row["in"]).ends_with('\n') {
                continue;
            }
            let signers: Vec<SignerKey> = rows(row, "signers").iter().map(|key| text(key).parse().unwrap()).collect();
            // Go drops the second signature by one key; we have no use for that either.
            if text(&row["about"]) == "one key twice" {
                continue;
            }
            assert_eq!(sign_note(text(&row["in"]), &signers.iter().collect::<Vec<_>>()), text(&row["out"]), "{row}");
        }
    }

    #[test]
    fn a_note_of_more_than_16_kib_is_refused() {
        let signer = SignerKey::generate("up.example", [3; 32]).unwrap();
        for (length, fits) in [(16_000, true), (17_000, false)] {
            let note = sign_note(&format!("{}\n", "x".repeat(length)), &[&signer]);
            assert_eq!(open_note(note.as_bytes(), &[signer.verifier()]).is_ok(), fits);
        }
    }

    #[test]
    fn a_note_without_what_strangers_added_is_as_its_signer_made_it() {
        let signer = SignerKey::generate("up.example", [3; 32]).unwrap();
        let other = SignerKey::generate("other.example", [4; 32]).unwrap();
        let known = [signer.verifier()];
        let note = sign_note("text\n\nmore\n", &[&other, &signer, &signer]);
        // 68 bytes leave four bits unused in the last character before the padding.
        let padded = note.rfind("=\n").unwrap();
        let last = note.as_bytes()[padded - 1];
        let sloppy = format!("{}{}=\n", &note[..padded - 1], char::from(last + 1));
        assert_ne!(sloppy, note);
        for note in [note, sloppy] {
            let opened = open_note(note.as_bytes(), &known).unwrap();
            assert_eq!(opened.to_message(), sign_note("text\n\nmore\n", &[&signer]));
        }
    }

    proptest! {
        #[test]
        fn notes_agree_with_another_implementation(
            text in "([ -~é☺]{0,20}\n){1,5}",
            seed: [u8; 32],
            flip in prop::option::of(0_usize..400),
        ) {
            let signer = SignerKey::generate("up.example", seed).unwrap();
            let other = SignerKey::generate("other.example/log", [9; 32]).unwrap();
            let mut note = sign_note(&text, &[&signer, &other]).into_bytes();
            if let Some(at) = flip {
                let at = at % note.len();
                note[at] ^= 1;
            }
            let ours = open_note(&note, &[signer.verifier()]);
            let verifier = signed_note::StandardVerifier::new(&signer.verifier().to_string()).unwrap();
            let known = signed_note::VerifierList::new(vec![Box::new(verifier)]);
            let theirs = signed_note::Note::from_bytes(&note).and_then(|note| Ok((note.verify(&known)?, note)));
            match (ours, theirs) {
                (Ok(ours), Ok(((verified, unverified), theirs))) => {
                    prop_assert_eq!(ours.text.as_bytes(), theirs.text());
                    prop_assert_eq!((ours.signatures.len(), ours.unverified.len()), (verified.len(), unverified.len()));
                    prop_assert!(flip.is_some() || ours.text == text);
                }
                // That crate is strict about the unused bits of base64, where we decide as Go does.
                (Ok(_), Err(_)) => prop_assert!(flip.is_some()),
                (Err(_), theirs) => prop_assert!(theirs.is_err()),
            }
        }

        #[test]
        fn no_bytes_panic_and_no_text_is_believed(text: String, bytes: Vec<u8>) {
            let key = SignerKey::generate("up.example", [3; 32]).unwrap().verifier();
            prop_assert!(open_note(&bytes, std::slice::from_ref(&key)).is_err());
            let note = format!("{text}\n\n— up.example {text}\n");
            let opened = open_note(note.as_bytes(), &[key]);
            prop_assert!(opened.is_err());
        }
    }
}
