//! Binaries as peers may serve them.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::hostile::{Act, Hostile, answer, until_close};
use super::{hasty, http, kind, patient};
use crate::binaries::Received;
use crate::model::Sum;
use crate::peer::{BinaryClient, NotFetched, Timing};
use crate::store::{LogId, SaidRow};

const SPEC: &str = "example.com/m/v2@v2.1.0/linux-amd64-go1.27.1/";

/// A made-up program; it compresses to a third.
fn plain() -> Vec<u8> {
    (0..200_000u32).map(|i| u8::try_from((i % 7) * (i % 13)).expect("below 73")).collect()
}

fn gz(plain: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(plain).unwrap();
    gz.finish().unwrap()
}

fn said(log: LogId) -> SaidRow {
    let plain = plain();
    let sum = Sum::of_sha256(&Sha256::digest(&plain).into());
    SaidRow { vkey: String::new(), log, number: 41, size: plain.len() as u64, sum, at: 0 }
}

async fn fetch(server: &Hostile, timing: Timing, folder: &Path) -> Result<Received, NotFetched> {
    let client = BinaryClient::new(http(), server.base.clone()).with_timing(timing);
    client.fetch(&SPEC.parse().unwrap(), &said(LogId::Claims), folder).await
}

/// What is fetched when the peer does this, and that nothing is left of it.
async fn fault(acts: Vec<Act>, timing: Timing) -> (NotFetched, Hostile) {
    let folder = tempfile::tempdir().unwrap();
    let server = Hostile::always(acts).await;
    let error = match fetch(&server, timing, folder.path()).await {
        Ok(_) => panic!("it was taken"),
        Err(error) => error,
    };
    if !matches!(error, NotFetched::Differs(_)) {
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{error}");
    }
    (error, server)
}

/// The kind of fault, or what is told of bytes that differ.
fn told(error: &NotFetched) -> String {
    match error {
        NotFetched::Fault(fault) => kind(fault).to_owned(),
        NotFetched::Differs(mismatch) => format!("differs: {}", mismatch.what),
        NotFetched::Own(error) => format!("own: {error:#}"),
    }
}

#[tokio::test]
async fn it_is_fetched_from_where_the_word_stands() {
    let folder = tempfile::tempdir().unwrap();
    let server = Hostile::always(vec![Act::Say(answer(200, "", &gz(&plain())))]).await;
    let client = BinaryClient::new(http(), server.base.clone()).with_timing(patient());
    for log in [LogId::Claims, LogId::Accepted] {
        let received = client.fetch(&SPEC.parse().unwrap(), &said(log), folder.path()).await.unwrap();
        let mut bytes = Vec::new();
        std::fs::File::open(received.gz_path()).unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!((received.size, bytes), (200_000, gz(&plain())));
    }
    let sum = said(LogId::Claims).sum;
    let lines: Vec<String> =
        server.requests().iter().map(|request| request.lines().next().unwrap().to_owned()).collect();
    assert_eq!(
        lines,
        ["GET /claims/file/41.gz HTTP/1.1".to_owned(), format!("GET /{SPEC}{sum}/v2-v2.1.0-go1.27.1.gz HTTP/1.1")]
    );
}

#[tokio::test]
async fn bytes_that_came_whole_and_are_others_are_told_apart_from_faults() {
    let (plain, right) = (plain(), gz(&plain()));
    let whole = |bytes: &[u8]| vec![Act::Say(answer(200, "", bytes))];
    let flipped = |at: usize| {
        let mut plain = plain.clone();
        plain[at] ^= 1;
        gz(&plain)
    };
    for (what, bytes) in [
        ("of 200000 bytes", flipped(0)),
        ("of 200000 bytes", flipped(100_000)),
        ("of 200000 bytes", flipped(199_999)),
        ("of 199999 bytes", gz(&plain[1..])),
        ("more than its size", gz(&[&plain[..], b"x"].concat())),
        ("after the end", [&right[..], b"x"].concat()),
        ("ends before", right[..right.len() - 1].to_vec()),
        ("ends before", Vec::new()),
        ("no gzip", plain[..1000].to_vec()),
        ("more than its size", gz(&vec![0; 20 << 20])),
    ] {
        let (error, server) = fault(whole(&bytes), patient()).await;
        let NotFetched::Differs(mismatch) = error else { panic!("{what}: {}", told(&error)) };
        assert!(mismatch.what.contains(what), "{} is not {what}", mismatch.what);
        assert_eq!(mismatch.url.as_str(), format!("{}claims/file/41.gz", server.base));
        assert_eq!(mismatch.received.gz_sha256, <[u8; 32]>::from(Sha256::digest(&bytes)));
    }
    // Cut off, or nothing says that it is all: proves nothing.
    let cut = |bytes: &[u8], length: usize| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").into_bytes();
        vec![Act::Say([head.as_slice(), bytes].concat())]
    };
    assert_eq!(told(&fault(cut(&right, right.len() + 1), patient()).await.0), "network");
    assert_eq!(told(&fault(cut(&right[..500], right.len()), patient()).await.0), "network");
    assert_eq!(told(&fault(vec![Act::Say(until_close("", &right[..500]))], patient()).await.0), "malformed");
    assert_eq!(told(&fault(vec![Act::Say(until_close("", &flipped(7)))], patient()).await.0), "malformed");
    let coded = answer(200, "content-encoding: gzip\r\n", &right);
    assert_eq!(told(&fault(vec![Act::Say(coded)], patient()).await.0), "malformed");
    for status in [204, 206, 302, 404, 500, 503] {
        let said = answer(status, "location: /elsewhere\r\n", if status == 204 { b"" } else { &right });
        let (error, server) = fault(vec![Act::Say(said)], patient()).await;
        assert_eq!((told(&error).as_str(), server.requests().len()), ("refused", 1));
    }
}

#[tokio::test]
async fn no_more_is_taken_than_the_word_allows() {
    let head = |length: u64| format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").into_bytes();
    let flood = |bytes: u64| Act::Flood(vec![0; 64 << 10], bytes);
    let begun = Instant::now();
    for acts in [
        vec![Act::Say(head(10 << 30)), flood(10 << 30)],
        vec![Act::Say(until_close("", b"")), flood(10 << 30)],
        vec![Act::Say(until_close("transfer-encoding: chunked\r\n", b"ffffffffff\r\n")), flood(10 << 30)],
    ] {
        let (error, server) = fault(acts, patient()).await;
        assert_eq!(told(&error), "malformed", "{error}");
        // What the sockets hold, and no more than that.
        assert!(server.sent() < 16 << 20, "{} bytes were taken", server.sent());
    }
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn a_peer_that_dawdles_is_left() {
    let right = gz(&plain());
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", right.len()).into_bytes();
    let begun = Instant::now();
    for acts in [
        vec![Act::Hold],
        vec![Act::Say(head.clone()), Act::Hold],
        vec![Act::Say(head.clone()), Act::Say(right[..1000].to_vec()), Act::Hold],
        vec![Act::Say(head), Act::Drip(right, Duration::from_millis(20))],
    ] {
        let (error, _) = fault(acts, hasty()).await;
        assert_eq!(told(&error), "network", "{error}");
    }
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn no_room_is_no_fault_of_the_peer() {
    let server = Hostile::always(vec![Act::Say(answer(200, "", &gz(&plain())))]).await;
    let error = fetch(&server, patient(), Path::new("/no/such/folder")).await.err().expect("nowhere to put it");
    assert!(told(&error).starts_with("own: cannot keep a binary"), "{error}");
}
