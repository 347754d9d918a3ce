//! Streams over sockets: cuts, stalls, lies and games with lines.

use std::time::{Duration, Instant};

use super::hostile::{Act, EVENTS, Hostile, until_close};
use super::{Event, Fault, SignerKey, Which, all, entry, head, kind, log_of, patient, signer};
use crate::peer::Timing;

/// A head as a frame, its lines with `end`.
fn head_frame(which: Which, size: u64, signer: &SignerKey) -> String {
    let note = head(which, size, signer).note;
    let data: String = note.lines().map(|line| format!("data: {line}\n")).collect();
    format!("id: {}\nevent: head\n{data}\n", size - 1)
}

fn good() -> String {
    let frames = "id: 40\nevent: entry\ndata: a b \n\nid: 41\nevent: entry\ndata: ☺ c\n\n";
    format!(":\n\n{frames}{}", head_frame(Which::Tlog, 42, &signer()))
}

async fn stream_of(acts: Vec<Act>, timing: Timing) -> (Hostile, Vec<Event>, Option<Fault>) {
    let server = Hostile::always(acts).await;
    let stream = log_of(&server, Which::Tlog, timing).stream(Some(39)).await.unwrap();
    let (events, fault) = all(stream).await;
    (server, events, fault)
}

async fn read(body: impl AsRef<[u8]>) -> (Vec<Event>, Option<&'static str>) {
    let (_, events, fault) = stream_of(vec![Act::Say(until_close(EVENTS, body.as_ref()))], patient()).await;
    (events, fault.as_ref().map(kind))
}

fn good_events() -> Vec<Event> {
    vec![entry(40, "a b "), entry(41, "☺ c"), Event::Head(head(Which::Tlog, 42, &signer()))]
}

#[tokio::test]
async fn entries_and_heads_arrive_as_they_were_sent() {
    assert_eq!(read(good()).await, (good_events(), None));
    // Byte by byte, and in chunks of HTTP.
    let mut chunked = format!("HTTP/1.1 200 OK\r\n{EVENTS}transfer-encoding: chunked\r\n\r\n");
    let text = good();
    let mut rest = text.as_str();
    while let Some(c) = rest.chars().next() {
        chunked.push_str(&format!("{:x}\r\n{c}\r\n", c.len_utf8()));
        rest = &rest[c.len_utf8()..];
    }
    let whole = format!("{chunked}0\r\n\r\n").into_bytes();
    let (_, events, fault) = stream_of(vec![Act::Say(whole)], patient()).await;
    assert_eq!((events, fault.as_ref().map(kind)), (good_events(), None));
    // The same, but the last chunk does not come: all was whole, yet the connection was cut.
    let (_, events, fault) = stream_of(vec![Act::Say(chunked.into_bytes())], patient()).await;
    assert_eq!((events, fault.as_ref().map(kind)), (good_events(), Some("network")));
}

#[tokio::test]
async fn a_cut_at_any_byte_gives_whole_frames_only() {
    let text = good();
    let ends: Vec<usize> = text.match_indices("\n\n").map(|(at, _)| at + 2).collect();
    // The comment's blank line ends nothing that counts.
    assert_eq!(ends.len(), 4);
    for cut in 0..=text.len() {
        let (events, fault) = read(&text.as_bytes()[..cut]).await;
        let whole = ends[1..].iter().filter(|end| **end <= cut).count();
        assert_eq!(events, good_events()[..whole], "cut at {cut}");
        // Between frames nobody can tell a cut from an end; a comment and its blank line are no frame.
        let between = cut == 0 || cut == 2 || ends.contains(&cut);
        assert_eq!(fault.is_none(), between, "cut at {cut}: {fault:?}");
        assert!(fault.is_none_or(|fault| fault == "network"), "cut at {cut}");
    }
}

#[tokio::test]
async fn numbers_are_passed_on_as_they_come() {
    let frame = |number: &str| format!("id: {number}\nevent: entry\ndata: x\n\n");
    let numbers = ["5", "5", "7", "6", "0", "1099511627775"];
    let (events, fault) = read(numbers.map(frame).concat()).await;
    let wanted: Vec<Event> = numbers.map(|number| entry(number.parse().unwrap(), "x")).into();
    assert_eq!((events, fault), (wanted, None));
    let bad = ["", "-1", "+1", "01", "1 ", " 1", "1\u{0}", "1.0", "x", "1099511627776", "18446744073709551616", "٣"];
    for number in bad {
        let (events, fault) = read(frame("5") + &frame(number) + &frame("6")).await;
        assert_eq!((events, fault), (vec![entry(5, "x")], Some("malformed")), "{number:?}");
    }
}

#[tokio::test]
async fn what_a_frame_may_not_be() {
    let good = "id: 5\nevent: entry\ndata: x\n\n";
    for bad in [
        // Without an id of its own; the standard would give it that of the frame before.
        "event: entry\ndata: y\n\n",
        "data: y\n\n",
        "id\nevent: entry\ndata: y\n\n",
        "ID: 6\nevent: entry\ndata: y\n\n",
        "id : 6\nevent: entry\ndata: y\n\n",
        "id: 6\n\nevent: entry\ndata: y\n\n",
        // With two.
        "id: 6\nid: 7\nevent: entry\ndata: y\n\n",
        "id: 6\nid: 6\nevent: entry\ndata: y\n\n",
        "id: 6\nevent: entry\nevent: head\ndata: y\n\n",
        "id: 6\nretry: 1\nretry: 1\nevent: entry\ndata: y\n\n",
    ] {
        let (events, fault) = read(format!("{good}{bad}{good}")).await;
        assert_eq!((events, fault), (vec![entry(5, "x")], Some("malformed")), "{bad:?}");
    }
    // What the standard has ignored, or leaves to clients.
    for odd in [
        ": comment\n\n",
        "\n\n\n",
        "event: entry\n\n",
        "id: 9\n\n",
        "retry: 5\n\n",
        "new: thing\n\n",
        "id: 6\nevent: news\ndata: of a later version\n\n",
        "id: 6\ndata: without a type\n\n",
    ] {
        let (events, fault) = read(format!("{good}{odd}{good}")).await;
        assert_eq!((events, fault), (vec![entry(5, "x"), entry(5, "x")], None), "{odd:?}");
    }
    let odd = "id:6\n:\nevent:entry\nnew\ndata:  y\ndata\ndata: \ndata: z: \n\n";
    let (events, fault) = read(format!("\u{feff}{odd}")).await;
    assert_eq!((events, fault), (vec![entry(6, " y\n\n\nz: ")], None));
    // Only in the first place is it a mark; elsewhere it belongs to the name of a field nobody knows.
    let (events, fault) = read(format!("{good}\u{feff}{odd}")).await;
    assert_eq!((events, fault), (vec![entry(5, "x")], Some("malformed")));
    for bad in [
        b"id: 6\ndata: \xff\n\n".as_slice(),
        b"id: 6\ndata: \xe2\x98\ndata: \xba\n\n",
        b"\xc0\xaf: x\n\n",
        b": \xff\n\n",
    ] {
        let (events, fault) = read([good.as_bytes(), bad, good.as_bytes()].concat()).await;
        assert_eq!((events, fault), (vec![entry(5, "x")], Some("malformed")), "{bad:?}");
    }
}

#[tokio::test]
async fn lines_may_end_in_three_ways() {
    for end in ["\n", "\r", "\r\n"] {
        assert_eq!(read(good().replace('\n', end)).await, (good_events(), None), "{end:?}");
    }
    let mixed = "id: 5\revent: entry\r\ndata: x\n\r\nid: 6\r\nevent: entry\ndata: y\r\r\r\n\n\rid: 7\ndata: z\revent: entry\n\r";
    assert_eq!(read(mixed).await, (vec![entry(5, "x"), entry(6, "y"), entry(7, "z")], None));
}

#[tokio::test]
async fn a_head_in_a_stream_is_signed_and_stands_at_its_end() {
    let stranger = SignerKey::generate("up.example", [8; 32]).unwrap();
    let frame = head_frame(Which::Tlog, 42, &signer());
    let first = "id: 41\nevent: entry\ndata: x\n\n";
    for (head, wanted) in [
        (frame.clone(), None),
        (frame.replace("data: 42", "data: 43"), Some("unsigned")),
        (head_frame(Which::Tlog, 42, &stranger), Some("unsigned")),
        (head_frame(Which::Claims, 42, &signer()), Some("unsigned")),
        (frame.replace("id: 41", "id: 42"), Some("malformed")),
        (frame.replace("id: 41", "id: 40"), Some("malformed")),
        (frame.replace("data: 42\n", ""), Some("unsigned")),
        (frame.replace("data: —", "data:  —"), Some("malformed")),
        ("id: 41\nevent: head\ndata: x\n\n".to_owned(), Some("malformed")),
    ] {
        let (events, fault) = read(format!("{first}{head}")).await;
        assert_eq!((events.len(), fault), (1 + usize::from(wanted.is_none()), wanted), "{head}");
    }
}

#[tokio::test]
async fn the_pause_a_peer_asks_for_is_kept_in_bounds() {
    let frame = |retry: &str| format!("id: 5\nevent: entry\nretry: {retry}\ndata: x\n\n");
    for (retry, wanted) in [("0", 1), ("1500", 1), ("86400000", 600), ("18446744073709551615", 600), ("7000", 7)] {
        let (events, fault) = read(frame(retry)).await;
        assert_eq!((events.len(), fault, &events[1]), (2, None, &entry(5, "x")));
        let Event::Retry(pause) = events[0] else { panic!("{events:?}") };
        assert_eq!(pause.as_secs(), wanted);
    }
    for retry in ["-1", "+1", "1.5", "", "18446744073709551616", "soon"] {
        assert_eq!(read(frame(retry)).await, (vec![entry(5, "x")], None), "{retry}");
    }
}

#[tokio::test]
async fn no_frame_is_longer_than_64_kib() {
    let frame = |length: usize| {
        let rest = "id: 5\nevent: entry\ndata: \n".len();
        format!("id: 5\nevent: entry\ndata: {}\n\n", "x".repeat(length - rest))
    };
    let (events, fault) = read(frame(64 << 10)).await;
    assert_eq!((events.len(), fault), (1, None));
    let (events, fault) = read(format!("{}{}", frame(64 << 10), frame((64 << 10) + 1))).await;
    assert_eq!((events.len(), fault), (1, Some("malformed")));

    const HUGE: u64 = 400 << 20;
    for endless in
        ["x", "data: x\n", "id: 1\n", "new: x\n", "event", ":x", "\r\ndata: x", "id: 5\ndata: x\n: comment\n"]
    {
        let flood = endless.repeat((64 << 10) / endless.len());
        let acts =
            vec![Act::Say(until_close(EVENTS, b"id: 5\nevent: entry\ndata: x\n\n")), Act::Flood(flood.into(), HUGE)];
        let (server, events, fault) = stream_of(acts, patient()).await;
        assert_eq!((events, fault.as_ref().map(kind)), (vec![entry(5, "x")], Some("malformed")), "{endless:?}");
        // The client's memory is not seen from here, but what it took off the network is: no more than sockets hold.
        assert!(server.sent() < 16 << 20, "{endless:?}: {} bytes were taken", server.sent());
    }
    // Comments and frames without data cost nothing, however many there are.
    for endless in [": x\n", "\n", "event: entry\n\n", "id: 7\r\n\r\n"] {
        let flood = endless.repeat(10_000);
        let acts = vec![Act::Say(until_close(EVENTS, b"")), Act::Flood(flood.into(), 8 << 20), Act::Say(good().into())];
        let (_, events, fault) = stream_of(acts, patient()).await;
        assert_eq!((events, fault.as_ref().map(kind)), (good_events(), None), "{endless:?}");
    }
}

#[tokio::test]
async fn a_stream_that_says_nothing_whole_ends() {
    let pause = Duration::from_millis(20);
    let short = Timing { silence: Duration::from_millis(1500), ..patient() };
    let frame = "id: 5\nevent: entry\ndata: x\n\n";
    let endless = format!("id: 6\nevent: entry\ndata: {}", "x".repeat(10_000));
    for (name, act) in [
        ("stalls after the headers", Act::Hold),
        ("one byte at a time", Act::Drip(endless.into(), pause)),
        ("nothing but blank lines", Act::Drip("\n".repeat(10_000).into(), pause)),
        ("comments inside a frame", Act::Drip(format!("id: 6\n{}", ":\n".repeat(10_000)).into(), pause)),
    ] {
        let before = Instant::now();
        let (_, events, fault) = stream_of(vec![Act::Say(until_close(EVENTS, frame.as_bytes())), act], short).await;
        assert_eq!((events, fault.as_ref().map(kind)), (vec![entry(5, "x")], Some("network")), "{name}");
        assert!(before.elapsed() < Duration::from_secs(30), "{name}");
    }
    // Heartbeats keep it, for longer than the silence that would end it.
    let silence = Duration::from_secs(3);
    let beats = Act::Drip(":\n\n".repeat(40).into(), silence / 80);
    let last = Act::Say(frame.as_bytes().to_vec());
    let timing = Timing { silence, ..patient() };
    let (_, events, fault) = stream_of(vec![Act::Say(until_close(EVENTS, b"")), beats, last], timing).await;
    assert_eq!((events, fault.as_ref().map(kind)), (vec![entry(5, "x")], None));
}

/// A follower is a task, which may move from thread to thread.
#[tokio::test]
async fn what_is_waited_for_can_move_to_another_thread() {
    fn movable<T: Send>(_: &T) {}
    let server = Hostile::always(vec![Act::Say(until_close(EVENTS, good().as_bytes()))]).await;
    let log = log_of(&server, Which::Tlog, patient());
    movable(&log.head(true));
    movable(&log.entries(0, 1, true));
    movable(&log.hashes(0, 0, 1, true));
    let opening = log.stream(None);
    movable(&opening);
    let mut stream = opening.await.unwrap();
    let next = stream.next();
    movable(&next);
    assert_eq!(next.await.unwrap(), Some(good_events().remove(0)));
    movable(&stream);
}

#[tokio::test]
async fn waiting_for_an_event_can_be_interrupted() {
    let server =
        Hostile::always(vec![Act::Say(until_close(EVENTS, b"")), Act::Drip(good().into(), Duration::from_millis(1))])
            .await;
    let mut stream = log_of(&server, Which::Tlog, patient()).stream(None).await.unwrap();
    let mut events = Vec::new();
    loop {
        // Given up and taken up again many times within each frame.
        match tokio::time::timeout(Duration::from_millis(3), stream.next()).await {
            Err(_) => {}
            Ok(Ok(Some(event))) => events.push(event),
            Ok(Ok(None)) => break,
            Ok(Err(fault)) => panic!("{fault}"),
        }
    }
    assert_eq!(events, good_events());
}
