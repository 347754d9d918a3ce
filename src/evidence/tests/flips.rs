//! No change of a file goes unnoticed, and no change of what is signed helps who makes a fitting digest.

use std::ops::Range;

use proptest::prelude::*;

use super::*;

/// Expects `3` for what is still JSON, and `1` or `3` for what is not.
#[track_caller]
fn worthless(file: &[u8], about: &dyn Fn() -> String) {
    let word = word(file);
    let json = || serde_json::from_slice::<serde_json::Value>(file).is_ok();
    assert!(word == "tampered" || (word == "unreadable" && !json()), "{word}: {}", about());
}

#[test]
fn a_flipped_bit_is_noticed_wherever_it_is() {
    for bundle in all() {
        let file = bundle.encode().into_bytes();
        assert!(matches!(word(&file).as_str(), "proven" | "shown"));
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut changed = file.clone();
                changed[at] ^= 1 << bit;
                worthless(&changed, &|| format!("{} byte {at} bit {bit}", bundle.kind));
            }
        }
    }
}

#[test]
fn a_byte_more_or_less_is_noticed_wherever_it_is() {
    for bundle in all() {
        let file = bundle.encode().into_bytes();
        for at in 0..file.len() {
            let mut less = file.clone();
            let byte = less.remove(at);
            let mut doubled = file.clone();
            doubled.insert(at, byte);
            let mut spaced = file.clone();
            spaced.insert(at, b' ');
            for changed in [less, doubled, spaced, file[..at].to_vec()] {
                // Of two equal bytes it makes no difference which one is removed: the file is another all the same.
                worthless(&changed, &|| format!("{} at {at}", bundle.kind));
            }
        }
        worthless(&[&file[..], b"\n"].concat(), &|| "a line more".to_owned());
        worthless(&[&file[..], &file[..]].concat(), &|| "twice".to_owned());
    }
}

/// Where a file holds what nobody signs: its time, the names its maker uses, the comparison, and what was served.
fn unsigned(file: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let ends = [
        ("\"made_at\":\"", "\""),
        ("\"name\":\"", "\""),
        ("\"comparison\":", ",\"digest\""),
        (",\"digest\":", "\n"),
        ("\"path\":\"tile/8/data", "}]"),
        ("\"path\":\"tile/entries", "}]"),
    ];
    for (start, end) in ends {
        for (at, _) in file.match_indices(start) {
            let from = at + start.len();
            // The whole of the digest's member, which is made anew.
            let begin = if start.contains("digest") { at } else { from };
            found.push(begin..from + file[from..].find(end).unwrap() + usize::from(end == "\n"));
        }
    }
    found
}

#[test]
fn a_forger_who_makes_the_digest_fit_gains_nothing() {
    for bundle in all() {
        let file = bundle.encode();
        let free = unsigned(&file);
        for at in (0..file.len()).filter(|at| !free.iter().any(|range| range.contains(at))) {
            for bit in [0, 2, 5] {
                let mut changed = file.clone().into_bytes();
                changed[at] ^= 1 << bit;
                let changed = reseal(&changed);
                worthless(&changed, &|| {
                    format!("{} byte {at} bit {bit}: {}", bundle.kind, String::from_utf8_lossy(&changed))
                });
            }
        }
    }
}

#[test]
fn what_nobody_signs_may_be_anything_that_is_well_written() {
    let file = divergence().encode();
    for (from, to) in [
        ("2026-11-21T10:00:00Z\",\"spec", "1999-01-01T00:00:00Z\",\"spec"),
        ("\"differing_bytes\":5", "\"differing_bytes\":9"),
    ] {
        assert!(file.contains(from));
        assert_eq!(word(&reseal(file.replacen(from, to, 1).as_bytes())), "proven");
    }
}

#[test]
fn tiles_of_many_hashes_are_covered_as_well() {
    let file = fork(300, 900).encode();
    assert!(file.len() > 15_000 && word(file.as_bytes()) == "proven");
    let tiles = file.find("\"tiles\":").unwrap();
    for at in (0..tiles).step_by(7).chain((tiles..file.len() - 80).step_by(97)) {
        for bit in [0, 3] {
            let mut changed = file.clone().into_bytes();
            changed[at] ^= 1 << bit;
            worthless(&changed, &|| format!("byte {at} bit {bit}"));
            let free = unsigned(&file);
            if !free.iter().any(|range| range.contains(&at)) {
                worthless(&reseal(&changed), &|| format!("resealed, byte {at} bit {bit}"));
            }
        }
    }
}

proptest! {
    #[test]
    fn nothing_panics(bytes: Vec<u8>, text in "[{}\\[\\]\",:a-z0-9]{0,60}", which in 0_usize..8, cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..4)) {
        prop_assert!(word(&bytes) != "proven");
        prop_assert!(word(text.as_bytes()) != "proven");
        // Pieces of a real one in another order.
        let mut file = all()[which].encode().into_bytes();
        let whole = file.clone();
        for (one, other) in cuts {
            let (one, other) = (one.index(file.len()), other.index(file.len()));
            let (from, to) = (one.min(other), one.max(other));
            file[from..to].rotate_left((to - from) / 2);
        }
        if file != whole {
            prop_assert!(matches!(word(&file).as_str(), "tampered" | "unreadable"));
            let _ = word(&reseal(&file));
        }
    }
}
