//! Signed notes: nothing panics, and no signature of a key that nobody has is believed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sumpeer::tlog::{SignerKey, open_note, sign_note};

fuzz_target!(|bytes: &[u8]| {
    let signer = SignerKey::generate("up.example", [3; 32]).unwrap();
    if let Ok(note) = open_note(bytes, &[signer.verifier()]) {
        // The seed stands above, so only a note that we could have signed ourselves may pass.
        assert!(sign_note(&note.text, &[&signer]).starts_with(&note.text));
        assert_eq!(note.signatures.len(), 1);
    }
});
