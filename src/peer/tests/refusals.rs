//! Answers that are none: other statuses, endless or slow bodies, closed doors.

use std::time::{Duration, Instant};

use super::hostile::{Act, BYTES, EVENTS, Hostile, JSON, TEXT, answer, until_close};
use super::{Which, hasty, kind, log_of, node_of, patient};
use crate::peer::{Contact, Fault};

/// Every way to ask the peer of this server; what comes back is what `check` must like.
async fn each_way(server: &Hostile, timing: crate::peer::Timing, check: impl Fn(&str, Fault)) {
    for which in [Which::Tlog, Which::Claims] {
        let log = log_of(server, which, timing);
        check("head", log.head(false).await.unwrap_err());
        check("entries", log.entries(0, 256, false).await.unwrap_err());
        check("hashes", log.hashes(0, 0, 256, true).await.unwrap_err());
        check("stream", log.stream(None).await.err().unwrap());
    }
    let node = node_of(server, timing);
    let spec = "filippo.io/age@v1.2.1/cmd/age/linux-amd64-go1.27.1/".parse().unwrap();
    match node.node_info().await {
        Ok(info) => assert_eq!(info, Contact::NotSumpeer),
        Err(fault) => check("node", fault),
    }
    check("peers", node.peers_heads().await.unwrap_err());
    check("want", node.want(&spec).await.unwrap_err());
    check("lookup", node.lookup(&spec).await.unwrap_err());
}

/// An answer of 200 as the request wants it: a want is taken with 202.
fn fitting(request: &str, answer: Vec<u8>) -> Vec<u8> {
    let answer = String::from_utf8(answer).unwrap();
    if request.starts_with("POST") { answer.replacen(" 200 ", " 202 ", 1).into() } else { answer.into() }
}

#[tokio::test]
async fn other_statuses_are_told_with_their_first_words() {
    for status in [204, 206, 400, 401, 403, 404, 410, 429, 500, 503, 599] {
        let body = b"no\x1b[31m \xe2\x80\xaeway\x07\nsecond line\n";
        let said = answer(status, TEXT, if status == 204 { b"" } else { body });
        let server = Hostile::always(vec![Act::Say(said)]).await;
        each_way(&server, patient(), |way, fault| match fault {
            Fault::Refused { status: found, retry_after: None, body } => {
                let wanted = if status == 204 { "" } else { "no[31m way" };
                assert_eq!((found, body.as_str()), (status, wanted), "{way}");
            }
            other => panic!("{way}: {other:?}"),
        })
        .await;
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let other = Hostile::always(vec![Act::Say(answer(200, TEXT, b""))]).await;
    for to in ["/elsewhere", other.base.as_str(), "file:///etc/hostname", "//", "http://[", "data:text/plain,x"] {
        for status in [301, 302, 303, 307, 308] {
            let said = answer(status, &format!("location: {to}\r\n"), b"");
            let server = Hostile::always(vec![Act::Say(said)]).await;
            let mut ways = 0;
            each_way(&server, patient(), |_, _| {}).await;
            for request in server.requests() {
                assert!(!request.contains("elsewhere"));
                ways += 1;
            }
            assert_eq!(ways, 12, "each way asks once");
            let fault = log_of(&server, Which::Tlog, patient()).head(false).await.unwrap_err();
            assert!(matches!(fault, Fault::Refused { status: found, .. } if found == status), "{fault:?}");
        }
    }
    assert_eq!(other.connections(), 0);
}

#[tokio::test]
async fn pauses_are_taken_between_a_second_and_ten_minutes() {
    let second = |number| Some(Duration::from_secs(number));
    let soon = jiff::Timestamp::now() + Duration::from_secs(120);
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&soon).unwrap();
    let cases = [
        ("", None),
        ("retry-after: 0\r\n", second(1)),
        ("Retry-After: 7\r\n", second(7)),
        ("retry-after: 601\r\n", second(600)),
        ("retry-after: 18446744073709551616\r\n", second(600)),
        ("retry-after: -1\r\n", None),
        ("retry-after: soon\r\n", None),
        ("retry-after: \r\n", None),
        ("retry-after: Sun, 06 Nov 1994 08:49:37 GMT\r\n", second(1)),
        ("retry-after: Thu, 31 Dec 9998 23:59:59 GMT\r\n", second(600)),
    ];
    for (header, wanted) in cases {
        let server = Hostile::always(vec![Act::Say(answer(429, header, b""))]).await;
        match log_of(&server, Which::Tlog, patient()).stream(None).await.err().unwrap() {
            Fault::Refused { status: 429, retry_after, .. } => assert_eq!(retry_after, wanted, "{header}"),
            other => panic!("{other:?}"),
        }
    }
    let server = Hostile::always(vec![Act::Say(answer(503, &format!("retry-after: {date}\r\n"), b""))]).await;
    match log_of(&server, Which::Tlog, patient()).head(false).await.unwrap_err() {
        Fault::Refused { status: 503, retry_after: Some(pause), .. } => {
            assert!((100..=120).contains(&pause.as_secs()), "{pause:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_stream_behind_the_end_says_how_much_there_is() {
    for (body, wanted) in [
        ("17\n", Some(17)),
        ("17", Some(17)),
        ("0\n", Some(0)),
        ("017\n", None),
        ("-1\n", None),
        ("1099511627776\n", Some(1 << 40)),
        ("1099511627777\n", None),
        ("99999999999999999999999\n", None),
        ("", None),
        ("gone\n", None),
    ] {
        let server = Hostile::always(vec![Act::Say(answer(409, TEXT, body.as_bytes()))]).await;
        match log_of(&server, Which::Claims, patient()).stream(Some(41)).await.err().unwrap() {
            Fault::Beyond { size } => assert_eq!(size, wanted, "{body:?}"),
            other => panic!("{other:?}"),
        }
        assert!(server.requests()[0].contains("last-event-id: 41\r\n"));
    }
}

#[tokio::test]
async fn no_body_is_read_beyond_its_limit() {
    const HUGE: u64 = 400 << 20;
    for headers in [TEXT, BYTES, JSON] {
        let server = Hostile::start(move |request| {
            let head = fitting(request, until_close(headers, b""));
            vec![Act::Say(head), Act::Flood(vec![b'a'; 64 << 10], HUGE)]
        })
        .await;
        each_way(&server, patient(), |way, fault| assert_eq!(kind(&fault), "malformed", "{way}: {fault}")).await;
        // What was sent beyond the limits is what the sockets hold, and no answer was read for its length.
        assert!(server.sent() < 12 * (16 << 20), "{} bytes were taken", server.sent());
    }
    let refusal = vec![Act::Say(b"HTTP/1.1 500 No\r\n\r\n".to_vec()), Act::Flood(vec![b'a'; 64 << 10], HUGE)];
    let server = Hostile::always(refusal).await;
    each_way(&server, patient(), |_, fault| match fault {
        Fault::Refused { body, .. } => assert_eq!(body, "a".repeat(200)),
        other => panic!("{other:?}"),
    })
    .await;
    assert!(server.sent() < 12 * (16 << 20), "{} bytes were taken", server.sent());
}

#[tokio::test]
async fn waiting_has_an_end() {
    let drip = |headers: &str| {
        vec![Act::Say(until_close(headers, b"")), Act::Drip(b"abcdefgh".repeat(1000), Duration::from_millis(50))]
    };
    let cases = [
        ("no answer", vec![Act::Hold]),
        ("half a header", vec![Act::Say(b"HTTP/1.1 200 OK\r\ncontent-".to_vec()), Act::Hold]),
        ("a header that drips", vec![Act::Drip(answer(200, &"x: y\r\n".repeat(100), b""), Duration::from_millis(50))]),
        (
            "no body",
            vec![
                Act::Say(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 9\r\n\r\n".to_vec()),
                Act::Hold,
            ],
        ),
        ("a body that drips", drip(TEXT)),
    ];
    for (name, acts) in cases {
        let server = Hostile::always(acts).await;
        let before = Instant::now();
        let fault = log_of(&server, Which::Tlog, hasty()).head(false).await.unwrap_err();
        assert_eq!(kind(&fault), "network", "{name}: {fault}");
        let spec = "filippo.io/age@v1.2.1/cmd/age/linux-amd64-go1.27.1/".parse().unwrap();
        let fault = node_of(&server, hasty()).lookup(&spec).await.unwrap_err();
        assert_eq!(kind(&fault), "network", "{name}: {fault}");
        assert!(before.elapsed() < Duration::from_secs(30), "{name}");
    }
    // A refusal whose body never ends is a refusal all the same.
    let server = Hostile::always(vec![Act::Say(b"HTTP/1.1 404 No\r\n\r\nno such".to_vec()), Act::Hold]).await;
    let timing = crate::peer::Timing { first_byte: Duration::from_secs(3), ..patient() };
    let fault = log_of(&server, Which::Tlog, timing).head(false).await.unwrap_err();
    assert!(matches!(fault, Fault::Refused { status: 404, .. }), "{fault:?}");
}

#[tokio::test]
async fn answers_that_are_no_answers_are_told_as_such() {
    let cases: [&[u8]; 6] = [
        b"",
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 7\r\n\r\n",
        b"HTTP/1.1 99999 OK\r\n\r\n",
        b"\x00\xff\xfe",
    ];
    for said in cases {
        let server = Hostile::always(vec![Act::Say(said.to_vec())]).await;
        each_way(&server, patient(), |way, fault| {
            assert_eq!(kind(&fault), "network", "{way}: {fault}");
            let told = fault.to_string();
            assert!(!told.contains("127.0.0.1") && !told.contains('\n') && told.len() < 400, "{told:?}");
        })
        .await;
    }
    // Announced longer than it is.
    for headers in [TEXT, BYTES, JSON] {
        let cut = format!("HTTP/1.1 200 OK\r\n{headers}content-length: 100\r\n\r\nabc");
        let server = Hostile::start(move |request| vec![Act::Say(fitting(request, cut.clone().into_bytes()))]).await;
        each_way(&server, patient(), |way, fault| {
            assert!(matches!(kind(&fault), "network" | "malformed"), "{way}: {fault}");
        })
        .await;
    }
    // Nobody there.
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", closed.local_addr().unwrap()).parse().unwrap();
    drop(closed);
    let transport = super::http();
    let node = crate::peer::NodeClient::new(transport, base);
    assert_eq!(kind(&node.node_info().await.unwrap_err()), "network");
    // No stream without its type.
    for headers in [TEXT, "content-type: text/html\r\n", "", "content-type: \r\n"] {
        let server = Hostile::always(vec![Act::Say(answer(200, headers, b"id: 0\ndata: x\n\n"))]).await;
        let fault = log_of(&server, Which::Tlog, patient()).stream(None).await.err().unwrap();
        assert_eq!(kind(&fault), "malformed");
        assert!(server.requests()[0].starts_with("GET /tlog/stream?from=0 HTTP"), "{}", server.requests()[0]);
    }
    let server = Hostile::always(vec![Act::Say(answer(200, EVENTS, b""))]).await;
    assert!(log_of(&server, Which::Tlog, patient()).stream(None).await.is_ok());
}
