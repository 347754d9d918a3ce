//! Claims: what is read, is read again the same from what we write, and fits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sumpeer::model::{Claim, Finding, MAX_CLAIM_BYTES};

fuzz_target!(|bytes: &[u8]| {
    let Ok(claim) = Claim::parse(bytes) else { return };
    let text = claim.to_text();
    assert!(text.len() <= MAX_CLAIM_BYTES);
    let again = Claim::parse(text.as_bytes()).unwrap();
    assert_eq!((&again.spec, again.at), (&claim.spec, claim.at));
    if let Finding::Built { .. } = claim.finding {
        assert_eq!(again.finding, claim.finding);
    }
});
