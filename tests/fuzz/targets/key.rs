//! Key texts: what is read, is read again the same from what we write.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sumpeer::tlog::{SignerKey, VerifierKey};

fuzz_target!(|text: &str| {
    if let Ok(key) = text.parse::<VerifierKey>() {
        assert_eq!(key.to_string().parse(), Ok(key));
    }
    if let Ok(key) = text.parse::<SignerKey>() {
        assert_eq!(key.to_text().parse::<SignerKey>().unwrap().verifier(), key.verifier());
    }
});
