//! Records: what is read, is what we write, but for the space before an empty last field.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sumpeer::model::Record;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(record) = Record::parse(bytes) {
        let text = record.to_text();
        assert!(text.as_bytes() == bytes || text.replace(" \n", "\n").as_bytes() == bytes);
        assert_eq!(Record::parse(text.as_bytes()), Ok(record));
    }
});
