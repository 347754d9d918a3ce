//! Specs and what URLs may ask: what is read, is exactly what we write.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sumpeer::model::{PackageQuery, Spec, SpecQuery};

fuzz_target!(|text: &str| {
    if let Ok(spec) = text.parse::<Spec>() {
        assert_eq!(spec.to_string(), text);
        assert_eq!(text.parse::<SpecQuery>().unwrap().exact(), Some(spec));
    }
    if let Ok(query) = text.parse::<SpecQuery>() {
        assert_eq!(query.to_string(), text);
    }
    if let Ok(query) = text.parse::<PackageQuery>() {
        assert_eq!(query.to_string(), text);
        assert!(!query.candidates().is_empty());
    }
});
