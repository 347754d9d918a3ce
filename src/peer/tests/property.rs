//! Streams cut into pieces at random, and a second reader of the standard to compare with.

use std::io;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use proptest::prelude::*;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use tokio::runtime::Runtime;

use super::{Event, Fault, Which, all, entry, head, http, kind, patient, signer};
use crate::model::canonical_decimal;
use crate::peer::{EventStream, LogClient, fetch};

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());

/// Reads `bytes`, which come in pieces of these lengths, again and again.
fn read(bytes: &[u8], lengths: &[usize]) -> (Vec<Event>, Option<Fault>) {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    for length in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*length).clamp(1, rest.len()));
        pieces.push(io::Result::Ok(Bytes::copy_from_slice(piece)));
        rest = after;
    }
    let log = LogClient::new(http(), "http://peer/".parse().unwrap(), Which::Tlog, &signer().verifier());
    RUNTIME.block_on(all(EventStream::new(stream::iter(pieces).boxed(), log, patient().silence)))
}

#[derive(Clone, Debug)]
enum Frame {
    Entry(u64, String),
    Head(u64),
    Noise(&'static str),
}

fn frame() -> impl Strategy<Value = Frame> {
    let noise =
        [":\n", ": beat\n\n", "\n", "new: x\n\n", "event: entry\n\n", "id: 3\n\n", "id: 3\ndata: x\nevent: y\n\n"];
    prop_oneof![
        (0..1_u64 << 40, "[ -~é☺:]{0,40}").prop_map(|(number, text)| Frame::Entry(number, text)),
        (1..300_u64).prop_map(Frame::Head),
        proptest::sample::select(noise.to_vec()).prop_map(Frame::Noise),
    ]
}

fn written(frame: &Frame) -> (String, Option<Event>) {
    match frame {
        Frame::Entry(number, text) => {
            (format!("id: {number}\nevent: entry\ndata: {text}\n\n"), Some(entry(*number, text)))
        }
        Frame::Head(size) => {
            let signed = head(Which::Tlog, *size, &signer());
            let data: String = signed.note.lines().map(|line| format!("data: {line}\n")).collect();
            (format!("event: head\n{data}id: {}\n\n", size - 1), Some(Event::Head(signed)))
        }
        Frame::Noise(text) => ((*text).to_owned(), None),
    }
}

/// What the HTML standard makes of a stream (9.2.6), with our rules on top, in the plainest way: the whole text at
/// once. Entries up to the first fault, and whether there is one.
fn standard(bytes: &[u8]) -> (Vec<Event>, Option<&'static str>) {
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'\r' {
            if bytes.get(at + 1) == Some(&b'\n') {
                bytes.remove(at);
            } else {
                bytes[at] = b'\n';
            }
        }
        at += 1;
    }
    let (mut events, mut fields, mut pending) = (Vec::new(), Vec::<(String, String)>::new(), false);
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let last = lines.pop().unwrap();
    if let Some(first) = lines.first_mut() {
        *first = first.strip_prefix(b"\xef\xbb\xbf").unwrap_or(first);
    }
    for line in lines {
        let Ok(line) = std::str::from_utf8(line) else {
            return (events, Some("malformed"));
        };
        if !line.is_empty() {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            pending |= !line.starts_with(':');
            let value = value.strip_prefix(' ').unwrap_or(value);
            if name == "retry" && !value.bytes().all(|byte| byte.is_ascii_digit()) {
                continue;
            }
            if ["id", "event", "retry"].contains(&name) && fields.iter().any(|(seen, _)| seen == name) {
                return (events, Some("malformed"));
            }
            if name == "id" && canonical_decimal(value).is_none() {
                return (events, Some("malformed"));
            }
            fields.push((name.to_owned(), value.to_owned()));
            continue;
        }
        let of = |name: &str| fields.iter().find(|field| field.0 == name).map(|field| field.1.clone());
        let data: Vec<&str> = fields.iter().filter(|field| field.0 == "data").map(|field| field.1.as_str()).collect();
        if !data.is_empty() {
            let Some(number) = of("id").and_then(|id| canonical_decimal(&id)).filter(|number| *number < 1 << 40) else {
                return (events, Some("malformed"));
            };
            if let Some(retry) = of("retry").and_then(|retry| canonical_decimal(&retry)) {
                events.push(Event::Retry(
                    Duration::from_millis(retry).clamp(Duration::from_secs(1), Duration::from_secs(600)),
                ));
            }
            match of("event").as_deref() {
                Some("entry") => events.push(entry(number, &data.join("\n"))),
                Some("head") => return (events, Some("malformed")),
                _ => {}
            }
        }
        fields.clear();
        pending = false;
    }
    let fault = (pending || !last.is_empty()).then_some("network");
    (events, fault)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_stream_says_the_same_however_it_is_cut(
        frames in prop::collection::vec(frame(), 0..8),
        lengths in prop::collection::vec(1..200_usize, 1..12),
        end in prop::sample::select(vec!["\n", "\r", "\r\n"]),
        mark: bool,
    ) {
        let (texts, events): (Vec<String>, Vec<Option<Event>>) = frames.iter().map(written).unzip();
        let mark = if mark { "\u{feff}" } else { "" };
        let text = format!("{mark}:\n\n{}", texts.concat()).replace('\n', end);
        let (found, fault) = read(text.as_bytes(), &lengths);
        prop_assert_eq!(fault.as_ref().map(kind), None);
        prop_assert_eq!(found, events.into_iter().flatten().collect::<Vec<_>>());
    }

    #[test]
    fn any_lines_are_read_as_the_standard_says_and_no_further_than_the_first_fault(
        parts in prop::collection::vec(prop::sample::select(vec![
            "id: 1", "id: 2", "id:3", "id", "id: 01", "id: 1\0", "data: x", "data", "data:  ", "datax: y", "event: entry",
            "event: head", "event", "retry: 7000", "retry: 0", "retry: x", ":", ": c", "new: x", "\u{feff}", "é",
            "\n", "\n", "\n", "\n", "\n\n", "\n\n", "\r", "\r\n", "\r\n\r\n", "id: 1\nevent: entry\ndata: y\n\n",
        ]), 0..40),
        garbage in prop::option::of((0..200_usize, any::<u8>())),
        lengths in prop::collection::vec(1..20_usize, 1..12),
    ) {
        let mut bytes = parts.concat().into_bytes();
        if let Some((at, byte)) = garbage && !bytes.is_empty() {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let (found, fault) = read(&bytes, &lengths);
        let fault = fault.as_ref().map(kind);
        prop_assert_eq!((found, fault), standard(&bytes));
    }

    #[test]
    fn no_header_and_no_note_panics(text: String, value in "[ -~]{0,60}", note in "[a-z0-9=\n —+]{0,80}") {
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(RETRY_AFTER, value.clone());
            headers.insert(CONTENT_TYPE, value.clone());
            headers.insert(CONTENT_ENCODING, value);
        }
        if let Some(pause) = fetch::retry_after(&headers) {
            prop_assert!((1..=600).contains(&pause.as_secs()));
        }
        prop_assert!(fetch::check_type("/x", &headers, "text/plain").is_err());
        let shown = fetch::shown(&text, 20);
        prop_assert!(shown.chars().count() <= 20 && !shown.contains(char::is_control));
        let log = LogClient::new(http(), "http://peer/".parse().unwrap(), Which::Claims, &signer().verifier());
        prop_assert!(log.check_head(&text).is_err() && log.check_head(&note).is_err());
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>, lengths in prop::collection::vec(1..20_usize, 1..4)) {
        let (whole, cut) = (read(&bytes, &[usize::MAX]), read(&bytes, &lengths));
        prop_assert_eq!(whole.0, cut.0);
    }
}
