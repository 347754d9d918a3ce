//! Build addresses: where they lead, what they start, and downloads.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use http_body_util::BodyExt;

use super::world::{SPEC, World, request};
use crate::builder::Priority;
use crate::model::Class;
use crate::web::server::Client;

#[tokio::test]
async fn a_page_starts_nothing_but_its_button_does() {
    let world = World::new().await;
    let page = world.browse(&format!("/{SPEC}")).await;
    assert_eq!(page.status, 200);
    assert!(page.text().contains("data-live=\"true\"") && page.text().contains("Build it"), "{}", page.text());
    assert!(!world.is_asked_for(SPEC));
    let posted = world.post(&format!("/{SPEC}retry"), "").await;
    assert_eq!((posted.status, posted.header("location")), (StatusCode::SEE_OTHER, format!("/{SPEC}").as_str()));
    assert!(world.is_asked_for(SPEC));
    let page = world.browse(&format!("/{SPEC}")).await;
    assert!(page.text().contains("http-equiv=\"refresh\""), "it goes on without a script");
    let get = world.get(&format!("/{SPEC}retry")).await;
    assert_eq!((get.status, get.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "POST"));
}

#[tokio::test]
async fn everything_leads_to_the_result_once_there_is_one() {
    let world = World::new().await;
    for name in ["log", "dl"] {
        assert_eq!(world.get(&format!("/{SPEC}{name}")).await.status, 422, "{name}");
    }
    let sum = world.built(SPEC, b"a binary").await;
    let file = "age-v1.2.1-go1.27.1";
    for name in ["", "log", "dl", "record", file, &format!("{file}.gz")] {
        let answer = world.get(&format!("/{SPEC}{name}")).await;
        assert_eq!(answer.status, 307, "{name}");
        assert_eq!(answer.header("location"), format!("/{SPEC}{sum}/{name}"));
        assert_eq!(answer.header("cache-control"), "no-store");
    }
    assert_eq!(world.get(&format!("/{SPEC}{sum}/dl")).await.header("location"), format!("/{SPEC}{sum}/{file}"));
    assert!(world.get(&format!("/{SPEC}{sum}/record")).await.text().ends_with(&format!("8 {sum} \n")));
    assert_eq!(world.get(&format!("/{SPEC}{sum}/log")).await.text(), "output <of> the build\n");
    for path in [
        format!("/{SPEC}0mmzT7CUbKD22iFGQ8mKMjy1eYoo/"),
        format!("/{SPEC}{sum}/age-v1.2.2-go1.27.1"),
        format!("/{SPEC}{sum}/{file}.exe"),
        format!("/{SPEC}{sum}/{file}.gz.gz"),
        format!("/{SPEC}age"),
        format!("/{SPEC}{sum}/x/y"),
    ] {
        assert_eq!(world.get(&path).await.status, 404, "{path}");
    }
    assert!(!world.is_asked_for(SPEC));
}

#[tokio::test]
async fn latest_is_one_redirect() {
    let world = World::new().await;
    let path = "/example.com/one@latest/x/linux-amd64-latest/";
    let spec = "/example.com/one@v1.1.0/x/linux-amd64-go1.27.1/";
    assert_eq!(world.get(path).await.header("location"), spec);
    let sum = world.built(&spec[1..], b"x").await;
    for path in [path, "/example.com/one@v1.1.0/x/linux-amd64-go1.27.latest/"] {
        let answer = world.get(path).await;
        assert_eq!(
            (answer.status, answer.header("location")),
            (StatusCode::TEMPORARY_REDIRECT, format!("{spec}{sum}/").as_str())
        );
    }
    assert_eq!(world.get(&format!("{path}dl")).await.header("location"), format!("{spec}{sum}/dl"));
    assert_eq!(world.get("/example.com/one@latest/x/linux-amd64-go1.99.latest/").await.status, 404);
}

#[tokio::test]
async fn downloads() {
    let world = World::new().await;
    let bytes: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let sum = world.built(SPEC, &bytes).await;
    let path = format!("/{SPEC}{sum}/age-v1.2.1-go1.27.1");
    let whole = world.get(&path).await;
    assert_eq!(whole.body, bytes);
    assert_eq!(whole.header("content-length"), bytes.len().to_string());
    assert_eq!(whole.header("content-type"), "application/octet-stream");
    assert_eq!(whole.header("content-disposition"), "attachment; filename=\"age-v1.2.1-go1.27.1\"");
    assert_eq!(whole.header("cache-control"), "public, max-age=31536000, immutable");
    assert_eq!(whole.header("accept-ranges"), "bytes");
    let etag = whole.header("etag").to_owned();

    let part = world.get_with(&path, &[("range", "bytes=100000-100009"), ("if-range", &etag)]).await;
    assert_eq!((part.status, &part.body[..]), (StatusCode::PARTIAL_CONTENT, &bytes[100_000..100_010]));
    assert_eq!(part.header("content-range"), "bytes 100000-100009/400000");
    assert_eq!(part.header("content-length"), "10");
    let past = world.get_with(&path, &[("range", "bytes=400000-")]).await;
    assert_eq!((past.status, past.header("content-range")), (StatusCode::RANGE_NOT_SATISFIABLE, "bytes */400000"));
    let known = world.get_with(&path, &[("if-none-match", &etag)]).await;
    assert_eq!((known.status, known.body.len()), (StatusCode::NOT_MODIFIED, 0));
    let head = world.send(request(Method::HEAD, &path, &[], "")).await;
    assert_eq!((head.header("content-length"), head.body.len()), ("400000", 0));

    let gz = world.get(&format!("{path}.gz")).await;
    assert_eq!((gz.header("content-type"), gz.header("content-encoding")), ("application/gzip", ""));
    assert_eq!(gz.header("content-length"), gz.body.len().to_string());
    assert_ne!(gz.header("etag"), etag);
    let mut unpacked = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&gz.body[..]), &mut unpacked).unwrap();
    assert_eq!(unpacked, bytes);
}

#[tokio::test]
async fn a_binary_that_is_gone_is_built_again_or_awaited() {
    let world = World::new().await;
    let sum = world.built(SPEC, b"a binary").await;
    let row = world.state.store.read(move |reader| reader.binary(&sum)).await.unwrap().unwrap();
    world.state.store.write(move |tx| tx.evict_binary(&row.sum)).await.unwrap();
    let answer = world.get(&format!("/{SPEC}{sum}/age-v1.2.1-go1.27.1")).await;
    assert_eq!(answer.status, 503);
    assert!(!answer.header("retry-after").is_empty());
    assert!(world.is_asked_for(SPEC));
    assert_eq!(world.browse(&format!("/{SPEC}{sum}/")).await.status, 200, "its page stays");
}

#[tokio::test]
async fn events_tell_a_build_from_queue_to_end() {
    let world = World::new().await;
    let response = world.open(&format!("/{SPEC}events")).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    assert!(world.is_asked_for(SPEC));
    let mut body = response.into_body();
    let mut next = async || {
        let frame = tokio::time::timeout(Duration::from_secs(5), body.frame()).await.unwrap()?;
        Some(String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap())
    };
    assert!(next().await.unwrap().contains("\"Kind\":\"QueuePosition\""));
    let sum = world.built(SPEC, b"a binary").await;
    let frame = next().await.unwrap();
    assert!(frame.contains(&format!("\"Kind\":\"Success\",\"Sum\":\"{sum}\"")), "{frame}");
    assert_eq!(next().await, None);
    for path in [format!("/{SPEC}events"), format!("/{SPEC}{sum}/events")] {
        assert!(world.get(&path).await.text().contains("Success"), "{path}");
    }
}

#[tokio::test]
async fn events_end_when_the_node_stops() {
    let world = World::new().await;
    let response = world.open(&format!("/{SPEC}events")).await;
    let stop = world.state.stop.clone();
    let read = tokio::time::timeout(Duration::from_secs(2), async {
        let collect = response.into_body().collect();
        let (body, ()) = tokio::join!(collect, async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            stop.cancel();
        });
        body.unwrap()
    });
    assert!(!read.await.unwrap().to_bytes().is_empty());
}

#[tokio::test]
async fn what_cannot_be_built_has_a_page_with_the_compilers_words() {
    let world = World::new().await;
    world.cannot_build(SPEC, Class::SourceError, "age.go:1: <syntax> error").await;
    let page = world.browse(&format!("/{SPEC}")).await;
    assert_eq!(page.status, 404);
    assert!(page.text().contains("age.go:1: &#60;syntax&#62; error"), "{}", page.text());
    assert!(page.text().contains("source-error") && page.text().contains("Try again"));
    assert!(page.text().contains("data-live=\"false\""));
    let plain = world.get(&format!("/{SPEC}")).await;
    assert_eq!(plain.status, 404);
    assert!(plain.text().contains("age.go:1: <syntax> error"), "{}", plain.text());
    let events = world.get(&format!("/{SPEC}events")).await;
    assert!(events.text().contains("PermFailed"), "{}", events.text());
}

#[tokio::test]
async fn starting_builds_has_a_budget_of_its_own() {
    let world = World::made(&[], 2).await;
    let ask = async |n: u32, peer: &str| {
        let mut request =
            request(Method::GET, &format!("/example.com/m@v1.0.{n}/linux-amd64-go1.27.1/record"), &[], "");
        request.extensions_mut().insert(Client(format!("{peer}:9").parse().unwrap()));
        world.send(request).await
    };
    assert_eq!(ask(1, "192.0.2.1").await.status, 503);
    assert_eq!(ask(2, "192.0.2.2").await.status, 503);
    let refused = ask(3, "192.0.2.3").await;
    assert_eq!(refused.status, 429);
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 60);
    assert_eq!(ask(3, "192.0.3.3").await.status, 503, "another network");
    for n in 4..10 {
        assert_eq!(ask(n, "127.0.0.1").await.status, 503, "this machine");
    }
    world.built("example.com/m@v1.0.3/linux-amd64-go1.27.1/", b"x").await;
    assert_eq!(ask(3, "192.0.2.3").await.status, 307, "what is there costs nothing");
}

#[tokio::test]
async fn a_queue_is_joined() {
    let world = World::new().await;
    world.builder.submit(&SPEC.parse().unwrap(), Priority::Voter).unwrap();
    let page = world.browse(&format!("/{SPEC}")).await;
    assert!(page.text().contains("Waiting"), "{}", page.text());
    assert_eq!(world.builder.snapshot().waiting.len(), 1);
}
