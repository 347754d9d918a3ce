//! Texts of heads: what is read, is read again the same from what we write.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sumpeer::tlog::Head;

fuzz_target!(|text: &str| {
    if let Ok(head) = Head::parse(text) {
        assert_eq!(Head::parse(&head.to_text()), Ok(head));
    }
});
