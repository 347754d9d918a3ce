//! Which bytes of a file a request asks for: `Range` and `If-Range` (RFC 9110, section 14).
//!
//! Only a single range of bytes is honoured; anything else gets the whole file, as the RFC allows.

/// What to answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// 200 and everything.
    Whole,
    /// 206 and the bytes from `first` to `last`, both included.
    Bytes { first: u64, last: u64 },
    /// 416.
    Unsatisfiable,
}

/// Decides by the headers' values, for a file of `size` bytes with the strong entity tag `etag`
/// (quotes included).
pub(super) fn part(range: Option<&str>, if_range: Option<&str>, etag: &str, size: u64) -> Part {
    let Some(range) = range else {
        return Part::Whole;
    };
    // A date or another tag: the client has another file, a part of this one would spoil it.
    if if_range.is_some_and(|tag| tag.trim() != etag) {
        return Part::Whole;
    }
    let Some((unit, range)) = range.split_once('=') else {
        return Part::Whole;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") || range.contains(',') {
        return Part::Whole;
    }
    match range.trim().split_once('-') {
        Some(("", suffix)) => match number(suffix) {
            Some(0) => Part::Unsatisfiable,
            Some(_) if size == 0 => Part::Unsatisfiable,
            Some(length) => Part::Bytes { first: size.saturating_sub(length), last: size - 1 },
            None => Part::Whole,
        },
        Some((first, last)) => {
            let Some(first) = number(first) else {
                return Part::Whole;
            };
            let last = if last.is_empty() { Some(u64::MAX) } else { number(last) };
            match last {
                None => Part::Whole,
                Some(last) if last < first => Part::Whole,
                Some(_) if first >= size => Part::Unsatisfiable,
                Some(last) => Part::Bytes { first, last: last.min(size - 1) },
            }
        }
        None => Part::Whole,
    }
}

/// Digits only; a number beyond 64 bits is beyond every file.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

/// Whether an `If-None-Match` header names this entity tag.
pub(super) fn matches(if_none_match: Option<&str>, etag: &str) -> bool {
    if_none_match.is_some_and(|tags| {
        tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts() {
        let check = |range: &str, want: Part| assert_eq!(part(Some(range), None, "\"a\"", 10), want);
        let bytes = |first, last| Part::Bytes { first, last };
        check("bytes=0-0", bytes(0, 0));
        check("bytes=2-", bytes(2, 9));
        check("bytes=2-99", bytes(2, 9));
        check("bytes=-3", bytes(7, 9));
        check("bytes=-99", bytes(0, 9));
        check("Bytes= 2-3", bytes(2, 3));
        check("bytes=0-18446744073709551616", bytes(0, 9));
        check("bytes=10-", Part::Unsatisfiable);
        check("bytes=99999999999999999999-", Part::Unsatisfiable);
        check("bytes=-0", Part::Unsatisfiable);
        for odd in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-2",
            "bytes=a-b",
            "lines=1-2",
            "bytes=1-2,4-5",
            "bytes=+1-2",
            "bytes=1-2-3",
        ] {
            check(odd, Part::Whole);
        }
        assert_eq!(part(None, None, "\"a\"", 10), Part::Whole);
        assert_eq!(part(Some("bytes=1-2"), Some("\"a\""), "\"a\"", 10), bytes(1, 2));
        assert_eq!(part(Some("bytes=1-2"), Some("\"b\""), "\"a\"", 10), Part::Whole);
        assert_eq!(part(Some("bytes=1-2"), Some("W/\"a\""), "\"a\"", 10), Part::Whole);
        assert_eq!(part(Some("bytes=-1"), None, "\"a\"", 0), Part::Unsatisfiable);
    }

    #[test]
    fn tags() {
        assert!(matches(Some("\"a\""), "\"a\""));
        assert!(matches(Some("\"b\", W/\"a\""), "\"a\""));
        assert!(matches(Some("*"), "\"a\""));
        assert!(!matches(Some("\"b\""), "\"a\""));
        assert!(!matches(None, "\"a\""));
    }

    proptest! {
        #[test]
        fn a_part_lies_inside(range in ".{0,40}", first: u64, last: u64, size in 0..1000u64) {
            for text in [range, format!("bytes={first}-{last}"), format!("bytes={}-", first % 1000)] {
                if let Part::Bytes { first, last } = part(Some(&text), None, "\"a\"", size) {
                    prop_assert!(first <= last && last < size);
                }
            }
        }
    }
}
