//! Data tiles: bounded, and every entry is a text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sumpeer::tlog::parse_data_tile;

fuzz_target!(|input: (u64, &[u8])| {
    let (first, bytes) = input;
    if let Ok(entries) = parse_data_tile(bytes, first) {
        assert!(entries.len() <= 256);
        assert!(entries.iter().all(|entry| entry.ends_with(b"\n") && str::from_utf8(entry).is_ok()));
    }
});
