//! Heads, tiles, lookups and claims, and everything that is none of these.

use axum::http::{Method, StatusCode};

use super::world::{SPEC, World, request};
use crate::model::{Class, Record, Spec};
use crate::store::LogId;
use crate::tlog::{
    Hash, SUMDB_ORIGIN, check_inclusion, leaf_hash, open_head, parse_data_tile, parse_entry_bundle, parse_lookup,
};

const NEVER_CHANGES: &str = "public, max-age=31536000, immutable";

fn spec(n: usize) -> String {
    format!("example.com/m@v1.0.{n}/linux-amd64-go1.27.1/")
}

/// A world with so many records.
async fn world(records: usize) -> World {
    let world = World::new().await;
    for n in 0..records {
        world.built(&spec(n), format!("binary {n}").as_bytes()).await;
    }
    world
}

#[tokio::test]
async fn an_empty_log_has_a_head_and_nothing_else() {
    let world = World::new().await;
    let key = &world.state.node.key;
    for (path, origin, name) in [
        ("/tlog/latest", SUMDB_ORIGIN.to_owned(), "test.example"),
        ("/log/checkpoint", "test.example/log".to_owned(), "test.example/log"),
        ("/claims/checkpoint", "test.example/claims".to_owned(), "test.example/claims"),
    ] {
        let answer = world.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("cache-control"), "no-store");
        let head = open_head(&answer.body, &key.as_name(name), &origin).unwrap();
        assert_eq!((head.size.get(), head.root), (0, Hash::EMPTY_ROOT), "{path}");
    }
    for path in ["/tlog/tile/8/0/000.p/1", "/log/tile/entries/000.p/1", "/claims/tile/0/000", "/claims/file/0"] {
        assert_eq!(world.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn every_width_of_a_tile_is_served_and_none_beyond() {
    let world = world(5).await;
    let entries = world.state.accepted.entries(0, 5).await.unwrap();
    for width in 1..=5 {
        let hashes = world.get(&format!("/tlog/tile/8/0/000.p/{width}")).await;
        assert_eq!(hashes.header("content-type"), "application/octet-stream");
        assert_eq!(hashes.header("cache-control"), NEVER_CHANGES);
        let want: Vec<u8> = entries[..width].iter().flat_map(|entry| leaf_hash(entry).0).collect();
        assert_eq!(hashes.body, want);
        assert_eq!(world.get(&format!("/log/tile/0/000.p/{width}")).await.body, want);

        let data = world.get(&format!("/tlog/tile/8/data/000.p/{width}")).await;
        assert_eq!(data.header("content-type"), "text/plain; charset=UTF-8");
        assert_eq!(parse_data_tile(&data.body, 0).unwrap(), entries[..width]);
        assert!(data.text().starts_with("0\nexample.com/m v1.0.0 / linux amd64 go1.27.1 8 "), "{}", data.text());
        let bundle = world.get(&format!("/log/tile/entries/000.p/{width}")).await;
        assert_eq!(bundle.header("content-type"), "application/octet-stream");
        assert_eq!(parse_entry_bundle(&bundle.body).unwrap(), entries[..width]);
    }
    for path in ["000.p/6", "000", "001.p/1"] {
        for root in ["/tlog/tile/8/0/", "/tlog/tile/8/data/", "/log/tile/0/", "/log/tile/entries/"] {
            assert_eq!(world.get(&format!("{root}{path}")).await.status, 404, "{root}{path}");
        }
    }
    let known = world.get("/tlog/tile/8/0/000.p/3").await.header("etag").to_owned();
    let again = world.get_with("/tlog/tile/8/0/000.p/3", &[("if-none-match", &known)]).await;
    assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0));
    assert_ne!(world.get("/tlog/tile/8/0/000.p/4").await.header("etag"), known);
}

#[tokio::test]
async fn a_lookup_is_number_record_and_a_head_that_covers_it() {
    let world = world(3).await;
    for path in [format!("/tlog/lookup/{}", spec(1)), format!("/tlog/lookup/{}?wait=0", spec(1).replace('@', "%40"))] {
        let answer = world.get(&path).await;
        assert_eq!((answer.status, answer.header("cache-control")), (StatusCode::OK, "no-store"));
        let (number, text, note) = parse_lookup(&answer.body).unwrap();
        assert_eq!(number, 1);
        assert_eq!(Record::parse(text.as_bytes()).unwrap().spec.to_string(), spec(1));
        let head = open_head(note, &world.state.node.key, SUMDB_ORIGIN).unwrap();
        let proof = world.state.accepted.inclusion_proof(1, head.size).await.unwrap();
        check_inclusion(&proof, head.size, &head.root, 1, &leaf_hash(text.as_bytes())).unwrap();
    }
    assert!(!world.is_asked_for(&spec(1)));
}

#[tokio::test]
async fn a_lookup_of_something_new_asks_for_it_and_waits_no_longer_than_allowed() {
    let world = World::new().await;
    let answer = world.get(&format!("/tlog/lookup/{SPEC}?wait=0")).await;
    assert_eq!(answer.status, 404);
    assert!(!world.is_asked_for(SPEC));
    let answer = world.get(&format!("/tlog/lookup/{SPEC}")).await;
    assert_eq!(answer.status, 503);
    assert!(!answer.header("retry-after").is_empty());
    assert!(world.is_asked_for(SPEC));
}

#[tokio::test]
async fn what_cannot_be_built_is_told_with_class_and_reason() {
    let world = World::new().await;
    world.cannot_build(SPEC, Class::Cgo, "it imports \"C\"").await;
    let answer = world.get(&format!("/tlog/lookup/{SPEC}")).await;
    assert_eq!(answer.status, 404);
    assert!(answer.text().contains("cgo") && answer.text().contains("it imports \"C\""), "{}", answer.text());
}

#[tokio::test]
async fn latest_is_resolved_first() {
    let world = World::new().await;
    world.built("example.com/one@v1.1.0/x/linux-amd64-go1.27.1/", b"x").await;
    let answer = world.get("/tlog/lookup/example.com/one@latest/x/linux-amd64-latest/").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("example.com/one v1.1.0 /x linux amd64 go1.27.1 "), "{}", answer.text());
    let none = world.get("/tlog/lookup/example.com/absent@latest/linux-amd64-latest/").await;
    assert_eq!(none.status, 404, "{}", none.text());
}

#[tokio::test]
async fn a_claim_comes_with_its_proof() {
    let world = world(3).await;
    world.cannot_build(SPEC, Class::Cgo, "it imports \"C\"").await;
    for (number, spec) in [(1, spec(1)), (3, SPEC.to_owned())] {
        let answer = world.get(&format!("/claims/lookup/{spec}")).await.json();
        assert_eq!(answer["number"], number);
        let claim = answer["claim"].as_str().unwrap();
        assert!(claim.contains(&spec), "{claim}");
        let note = answer["checkpoint"].as_str().unwrap();
        let key = world.state.node.key.as_name("test.example/claims");
        let head = open_head(note.as_bytes(), &key, "test.example/claims").unwrap();
        let proof = answer["proof"].as_array().unwrap();
        let proof: Vec<Hash> = proof.iter().map(|hash| hash.as_str().unwrap().parse().unwrap()).collect();
        check_inclusion(&proof, head.size, &head.root, number, &leaf_hash(claim.as_bytes())).unwrap();
    }
    assert_eq!(world.get("/claims/lookup/example.com/m@v9.0.0/linux-amd64-go1.27.1/").await.status, 404);
    let file = world.get("/claims/file/1").await;
    assert_eq!(
        (file.status, &file.body[..], file.header("cache-control")),
        (StatusCode::OK, &b"binary 1"[..], "no-store")
    );
    assert_eq!(file.header("x-robots-tag"), "noindex");
    assert_eq!(world.get("/claims/file/1.gz").await.header("content-type"), "application/gzip");
    assert_eq!(world.get("/claims/file/3").await.status, 404, "it names no sum");
    assert_eq!(world.get("/claims/file/4").await.status, 404);
}

#[tokio::test]
async fn a_want_never_waits() {
    let world = World::new().await;
    world.built(&spec(0), b"x").await;
    world.cannot_build(&spec(1), Class::Cgo, "").await;
    let answer = world.post("/claims/want", &format!("{SPEC}\n")).await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.json()["state"], "queued");
    assert!(world.is_asked_for(SPEC));
    assert_eq!(world.post("/claims/want", &format!("{}\n", spec(0))).await.json()["state"], "accepted");
    assert_eq!(world.post("/claims/want", &format!("{}\n", spec(1))).await.status, 404);
    for body in ["", SPEC, "x\n", "example.com/m@latest/linux-amd64-go1.27.1/\n", &format!("{SPEC}\n\n")] {
        assert_eq!(world.post("/claims/want", body).await.status, 400, "{body:?}");
    }
    assert_eq!(world.post("/claims/want", &"x".repeat(5000)).await.status, 413);
    let get = world.get("/claims/want").await;
    assert_eq!((get.status, get.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "POST"));
}

#[tokio::test]
async fn a_disputed_spec_is_a_conflict() {
    let world = World::with_voters(&["peer.example"]).await;
    let sum = world.built(SPEC, b"one").await;
    assert_eq!(world.get(&format!("/tlog/lookup/{SPEC}")).await.status, 503);
    let (spec, vkey): (Spec, _) = (SPEC.parse().unwrap(), world.voters[1].vkey.clone());
    let other = crate::model::Sum::from_bytes([3; 20]);
    let word = crate::quorum::Word::Sum { size: 3, sum: other };
    let row = crate::store::WordRow { vkey, log: LogId::Claims, number: 0, word, at: 0 };
    let write = move |tx: &mut crate::store::Tx<'_>| tx.make_spec_id(&spec).and_then(|id| tx.put_word(id, &row));
    world.state.store.write(write).await.unwrap();
    for path in [format!("/tlog/lookup/{SPEC}"), format!("/tlog/lookup/{SPEC}?wait=0"), format!("/{SPEC}")] {
        let answer = world.get(&path).await;
        assert_eq!(answer.status, 409, "{path}");
        assert!(answer.text().contains(&sum.to_string()) && answer.text().contains(&other.to_string()));
    }
}

#[tokio::test]
async fn methods() {
    let world = world(1).await;
    for path in ["/tlog/latest", "/log/checkpoint", "/tlog/tile/8/0/000.p/1", "/api/v1/node", "/", "/robots.txt"] {
        let get = world.get(path).await;
        let head = world.send(request(Method::HEAD, path, &[], "")).await;
        assert_eq!(head.status, get.status, "{path}");
        assert!(head.body.is_empty());
        assert_eq!(head.header("content-length"), get.body.len().to_string(), "{path}");
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
            let answer = world.send(request(method, path, &[], "")).await;
            assert_eq!(
                (answer.status, answer.header("allow")),
                (StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD"),
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn hostile_paths_are_not_there_and_never_our_fault() {
    let world = world(2).await;
    let long = "a".repeat(8192);
    let huge = "x999/".repeat(60);
    let mut paths: Vec<String> = vec![
        "/tlog/%zz".into(),
        format!("/tlog/{long}"),
        format!("/tlog/tile/8/0/{huge}999"),
        "/tlog/tile/8/0/x999/x999/x999/x999/x999/x999/999".into(),
        "/claims/lookup/".into(),
        "/claims/file/".into(),
        "/claims/file/18446744073709551616".into(),
        "/claims/file/9223372036854775807".into(),
        "/log/checkpoint/".into(),
        "/log/tile/data/000.p/1".into(),
        format!("/tlog/lookup/{SPEC}?wait=-1"),
    ];
    for rest in [
        "",
        "/",
        "tile",
        "tile/",
        "tile/8/0/000.p/0",
        "tile/8/0/000.p/256",
        "tile/8/0/000.p/01",
        "tile/8/64/000",
        "tile/8/63/000",
        "tile/7/0/000.p/1",
        "tile/8/4294967296/000.p/1",
        "tile/8/0/000%00",
        "tile/8/0/%ff",
        "tile/8/0/../0/000.p/1",
        "lookup",
        "lookup/",
        "lookup/x",
        "../tlog/latest",
        "%2e%2e/tlog/latest",
        "latest/",
        "latest%00",
        "lookup/example.com/m@v1.0.0/linux-amd64-go1.27.1",
        "lookup/example.com/!m@v1.0.0/linux-amd64-go1.27.1/",
        "lookup/example.com/m@v1/linux-amd64-go1.27.1/",
        "lookup/example.com/m@v1.0.0/../x/linux-amd64-go1.27.1/",
        "lookup/%ff%fe@v1.0.0/linux-amd64-go1.27.1/",
        "lookup/example.com/m%20m@v1.0.0/linux-amd64-go1.27.1/",
    ] {
        for root in ["/tlog/", "/log/", "/claims/"] {
            paths.push(format!("{root}{rest}"));
        }
    }
    for path in &paths {
        let answer = world.get_with(path, &[("accept", "text/html")]).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.header("content-type"), "text/plain; charset=UTF-8", "{path}");
        assert!(!answer.text().trim().is_empty() && !answer.text().contains('\0'), "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
    }
    assert_eq!(world.state.log(LogId::Claims).size().get(), 2);
    assert!(world.builder.snapshot().waiting.is_empty(), "none of these starts a build");
}
