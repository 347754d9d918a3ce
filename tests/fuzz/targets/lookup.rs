//! Answers of lookups: what is read, put together again, is the answer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sumpeer::tlog::{format_entry, parse_lookup};

fuzz_target!(|bytes: &[u8]| {
    if let Ok((number, text, head)) = parse_lookup(bytes) {
        let mut again = format_entry(number, &text).into_bytes();
        again.extend_from_slice(head);
        assert_eq!(again, bytes);
    }
});
