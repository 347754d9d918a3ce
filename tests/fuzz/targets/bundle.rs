//! Entry bundles: what is read, put together again, is the bundle.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sumpeer::tlog::{parse_entry_bundle, push_bundle_entry};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(entries) = parse_entry_bundle(bytes) {
        let mut again = Vec::new();
        for entry in entries {
            push_bundle_entry(&mut again, entry).unwrap();
        }
        assert_eq!(again, bytes);
    }
});
