//! Both logs as streams: positions, refusals, growth, limits, time.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use http_body_util::BodyExt;

use super::world::{World, request};
use crate::metrics::Label;
use crate::store::LogId;
use crate::tlog::{SUMDB_ORIGIN, open_head};
use crate::web::limits::Settings;
use crate::web::stream::Pace;

const PATIENCE: Duration = Duration::from_secs(20);

/// One stream, as a client reads it.
struct Stream {
    body: Body,
    text: String,
}

#[derive(Debug, PartialEq)]
enum Frame {
    Comment,
    Data { id: u64, event: String, data: String },
}

impl Stream {
    async fn open(world: &World, path: &str, last: Option<&str>) -> Stream {
        let mut request = Request::builder().uri(path);
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let response = world.send_open(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), 200, "{path} {last:?}");
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), "text/event-stream");
        assert_eq!(header("cache-control"), "no-store");
        assert_eq!(header("x-accel-buffering"), "no");
        assert!(!response.headers().contains_key("content-encoding"));
        let mut stream = Stream { body: response.into_body(), text: String::new() };
        assert_eq!(stream.next().await, Some(Frame::Comment), "first of all");
        stream
    }

    /// The next frame; none at the end, which only comes after a whole one.
    async fn next(&mut self) -> Option<Frame> {
        while !self.text.contains("\n\n") {
            let more = tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("something comes");
            let Some(more) = more else {
                assert!(self.text.is_empty(), "it ends within {:?}", self.text);
                return None;
            };
            let more = more.unwrap().into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&more).unwrap());
        }
        let (frame, rest) =
            self.text.split_once("\n\n").map(|(frame, rest)| (frame.to_owned(), rest.to_owned())).unwrap();
        self.text = rest;
        if frame == ":" {
            return Some(Frame::Comment);
        }
        let mut lines = frame.lines();
        let id = lines.next().unwrap().strip_prefix("id: ").unwrap().parse().unwrap();
        let event = lines.next().unwrap().strip_prefix("event: ").unwrap().to_owned();
        let data: Vec<&str> =
            lines.map(|line| if line == "data:" { "" } else { line.strip_prefix("data: ").unwrap() }).collect();
        Some(Frame::Data { id, event, data: data.join("\n") })
    }

    /// Reads up to the head of this size and says what came, each checked against the log: `2-4 head 5`.
    async fn until_head(&mut self, world: &World, id: LogId, size: u64) -> String {
        let (mut said, mut first, mut last) = (String::new(), None, None);
        loop {
            let Some(Frame::Data { id: number, event, data }) = self.next().await else { continue };
            if event == "entry" {
                assert!(last.is_none_or(|last| number == last + 1), "{number} after {last:?}");
                let entry = world.state.log(id).entries(number, number + 1).await.unwrap().remove(0);
                assert_eq!(format!("{data}\n").into_bytes(), entry);
                first = first.or(Some(number));
                last = Some(number);
                continue;
            }
            assert_eq!(event, "head");
            let (key, origin) = match id {
                LogId::Accepted => (world.state.node.key.clone(), SUMDB_ORIGIN),
                LogId::Claims => (world.state.node.key.as_name("test.example/claims"), "test.example/claims"),
            };
            let head = open_head(format!("{data}\n").as_bytes(), &key, origin).unwrap();
            assert_eq!(head.size.get(), number + 1);
            assert!(last.is_none_or(|last| last == number), "a head before its entries");
            if let (Some(first), Some(last)) = (first.take(), last) {
                said.push_str(&format!("{first}-{last} "));
            }
            said.push_str(&format!("head {}", head.size));
            if head.size.get() >= size {
                return said;
            }
            said.push(' ');
        }
    }
}

fn open_streams(world: &World, id: LogId) -> i64 {
    world.state.metrics.streams.get_or_create(&Label { kind: id.name() }).get()
}

const BOTH: [(&str, LogId); 2] = [("/tlog/stream", LogId::Accepted), ("/claims/stream", LogId::Claims)];

#[tokio::test]
async fn a_position_is_what_a_client_says_it_is() {
    let world = World::new().await;
    world.many(0..5).await;
    for (path, id) in BOTH {
        let check = async |query: &str, last: Option<&str>, want: &str| {
            let mut stream = Stream::open(&world, &format!("{path}{query}"), last).await;
            assert_eq!(stream.until_head(&world, id, 5).await, want, "{path}{query} {last:?}");
            // A head of one size is sent once.
            let silent = tokio::time::timeout(Duration::from_millis(30), stream.next()).await;
            assert!(silent.is_err(), "{silent:?}");
        };
        check("", None, "head 5").await;
        check("?from=0", None, "0-4 head 5").await;
        check("?from=3", None, "3-4 head 5").await;
        check("?from=5", None, "head 5").await;
        check("", Some("0"), "1-4 head 5").await;
        check("", Some("3"), "4-4 head 5").await;
        check("", Some("4"), "head 5").await;
        check("?from=0", Some("2"), "3-4 head 5").await;
        check("?from=x", Some("2"), "3-4 head 5").await;
        check("?from=2", Some(""), "2-4 head 5").await;
        check("", Some(""), "head 5").await;
    }
    assert_eq!(open_streams(&world, LogId::Accepted), 0, "all are gone");
}

#[tokio::test]
async fn positions_that_cannot_be_are_refused() {
    let world = World::new().await;
    for size in [0, 5] {
        if size > 0 {
            world.many(0..size).await;
        }
        for (path, _) in BOTH {
            let at = async |query: &str, last: Option<&str>| {
                let header: Vec<_> = last.map(|last| ("Last-Event-ID", last)).into_iter().collect();
                world.get_with(&format!("{path}{query}"), &header).await
            };
            let (first, big) = (format!("?from={}", size + 1), "99999999999999999999999");
            let answers = [
                at(&first, None).await,
                at("?from=99", None).await,
                at(&format!("?from={big}"), None).await,
                at("", Some(&size.to_string())).await,
                at("?from=0", Some("99")).await,
                at("", Some(big)).await,
                at("", Some("18446744073709551615")).await,
            ];
            for answer in answers {
                assert_eq!((answer.status, answer.text()), (StatusCode::CONFLICT, &*format!("{size}\n")));
                assert_eq!(answer.header("content-type"), "text/plain; charset=UTF-8");
                assert_eq!(answer.header("cache-control"), "no-store");
            }
            for bad in ["-1", "+1", "01", "00", "abc", "1e3", "1.0", "0x1", "1 2", "\u{661}"] {
                assert_eq!(at("", Some(bad)).await.status, 400, "header {bad:?}");
                let query =
                    format!("?from={}", url::form_urlencoded::byte_serialize(bad.as_bytes()).collect::<String>());
                assert_eq!(at(&query, None).await.status, 400, "{query}");
                assert_eq!(at("?from=0", Some(bad)).await.status, 400, "a bad header wins as well");
            }
            assert_eq!(at("?from=", None).await.status, 400);
            assert_eq!(at("?from=", Some("")).await.status, 400);
            for method in [Method::HEAD, Method::POST, Method::OPTIONS] {
                let answer = world.send(request(method, path, &[], "")).await;
                assert_eq!((answer.status, answer.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "GET"));
            }
        }
    }
    let ahead = world.state.metrics.ahead.get_or_create(&Label { kind: "claims" }).get();
    assert_eq!(ahead, 14, "counted");
}

#[tokio::test]
async fn a_log_is_streamed_as_it_grows_from_nothing() {
    let world = World::new().await;
    let mut streams = Vec::new();
    for (path, id) in BOTH {
        for query in ["", "?from=0"] {
            streams.push((Stream::open(&world, &format!("{path}{query}"), None).await, id));
        }
    }
    let silent = tokio::time::timeout(Duration::from_millis(50), streams[0].0.next()).await;
    assert!(silent.is_err(), "an empty log has nothing but comments: {silent:?}");
    let mut size = 0;
    // Less than a batch, its end, several.
    for more in [1, 2, 252, 1, 1, 700] {
        world.many(size..size + more).await;
        for (stream, id) in &mut streams {
            let want = format!("{size}-{} head {}", size + more - 1, size + more);
            assert_eq!(stream.until_head(&world, *id, size + more).await, want);
        }
        size += more;
    }
}

#[tokio::test]
async fn readers_at_all_positions_miss_nothing_of_a_log_that_grows() {
    let world = World::new().await;
    world.many(0..600).await;
    let read = async |first: u64| {
        let mut stream = Stream::open(&world, &format!("/tlog/stream?from={first}"), None).await;
        // Every entry is checked to be the one after the last.
        let said = stream.until_head(&world, LogId::Accepted, 900).await;
        assert!(said.starts_with(&format!("{first}-")) || first == 600, "{first}: {said}");
    };
    let grow = async {
        for first in (600..900).step_by(50) {
            world.many(first..first + 50).await;
            tokio::task::yield_now().await;
        }
    };
    let readers = futures_util::future::join_all([0, 1, 100, 255, 256, 257, 511, 512, 513, 599, 600].map(read));
    tokio::join!(readers, grow);
}

#[tokio::test]
async fn there_are_so_many_streams_and_no_more() {
    let three = NonZeroU32::new(3).unwrap();
    let limits = Settings { max_streams: three, ..Settings::default() };
    let world = World::with(&[], limits, Pace::default()).await;
    let mut open = Vec::new();
    for path in ["/tlog/stream", "/claims/stream", "/tlog/stream"] {
        open.push(Stream::open(&world, path, None).await);
    }
    assert_eq!((open_streams(&world, LogId::Accepted), open_streams(&world, LogId::Claims)), (2, 1));
    let answer = world.get("/tlog/stream").await;
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").parse::<u64>().unwrap() > 0);
    open.pop();
    open.push(Stream::open(&world, "/claims/stream", None).await);
    assert_eq!((open_streams(&world, LogId::Accepted), open_streams(&world, LogId::Claims)), (1, 2));
}

#[tokio::test]
async fn silence_is_broken_and_a_stream_has_an_end() {
    let (heartbeat, max_age) = (Duration::from_millis(150), Duration::from_secs(2));
    let world = World::with(&[], Settings::default(), Pace { heartbeat, max_age }).await;
    world.many(0..3).await;
    let began = Instant::now();
    let mut stream = Stream::open(&world, "/tlog/stream", None).await;
    stream.until_head(&world, LogId::Accepted, 3).await;
    let mut comments = 0;
    while let Some(frame) = stream.next().await {
        assert_eq!(frame, Frame::Comment);
        comments += 1;
    }
    let lived = began.elapsed();
    assert!(lived > max_age.mul_f64(0.79), "{lived:?}");
    assert!((2..=13).contains(&comments), "{comments} in {lived:?}");
    assert_eq!(open_streams(&world, LogId::Accepted), 0);
}

#[tokio::test]
async fn a_stop_ends_all_streams() {
    let world = World::new().await;
    world.many(0..600).await;
    let mut idle = Stream::open(&world, "/tlog/stream", None).await;
    let mut busy = Stream::open(&world, "/claims/stream?from=0", None).await;
    idle.until_head(&world, LogId::Accepted, 600).await;
    assert!(matches!(busy.next().await, Some(Frame::Data { id: 0, .. })));
    world.state.stop.cancel();
    assert_eq!(idle.next().await, None);
    let mut frames = 0;
    while busy.next().await.is_some() {
        frames += 1;
    }
    assert!(frames < 256, "the rest of a batch at most: {frames}");
}
