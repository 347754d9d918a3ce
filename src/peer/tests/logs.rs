//! Heads and tiles: what upstream really says, and what liars say.

use data_encoding::BASE64;
use serde_json::Value;

use super::hostile::{Act, BYTES, Hostile, TEXT, answer};
use super::{Which, head, http, kind, log_of, patient, signer};
use crate::peer::{Fault, LogClient, NodeClient};
use crate::tlog::{Hash, SignerKey, leaf_hash, push_bundle_entry, tile_root};

/// A server with the recorded answers of a real gobuild.
async fn upstream() -> (Hostile, LogClient, NodeClient) {
    let path = format!("{}/tests/data/gobuild-wire.json", env!("CARGO_MANIFEST_DIR"));
    let wire: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let key = wire["verifier_key"].as_str().unwrap().parse().unwrap();
    let responses = wire["responses"].clone();
    let server = Hostile::start(move |request| {
        let path = request.split(' ').nth(1).unwrap().split('?').next().unwrap();
        let found = responses.as_array().unwrap().iter().find(|response| response["path"] == path);
        let Some(found) = found else {
            return vec![Act::Say(answer(404, TEXT, b"404 page not found\n"))];
        };
        let body = BASE64.decode(found["body_base64"].as_str().unwrap().as_bytes()).unwrap();
        let headers = format!("content-type: {}\r\n", found["content_type"].as_str().unwrap());
        vec![Act::Say(answer(200, &headers, &body))]
    })
    .await;
    let transport = http();
    let log = LogClient::new(transport.clone(), server.base.clone(), Which::Tlog, &key).with_timing(patient());
    let node = NodeClient::new(transport, server.base.clone()).with_timing(patient());
    (server, log, node)
}

#[tokio::test]
async fn a_real_gobuild_is_understood() {
    let (_server, log, node) = upstream().await;
    let signed = log.head(false).await.unwrap();
    assert_eq!((signed.head.size.get(), log.check_head(&signed.note).unwrap()), (8, signed.clone()));
    for fresh in [false, true] {
        for width in 1..=8 {
            let entries = log.entries(0, width, fresh).await.unwrap();
            let hashes = log.hashes(0, 0, width, fresh).await.unwrap();
            let computed: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
            assert_eq!(hashes, computed);
        }
    }
    assert_eq!(tile_root(&log.hashes(0, 0, 8, false).await.unwrap()), signed.head.root);

    let spec = "github.com/mjl-/sherpa@v0.6.0/cmd/sherpaclient/linux-amd64-go1.27.1/".parse().unwrap();
    let found = node.lookup(&spec).await.unwrap();
    assert_eq!((found.number, &found.text.into_bytes()), (0, &log.entries(0, 1, false).await.unwrap()[0]));
    assert_eq!(log.check_head(&found.note).unwrap(), signed);
    assert_eq!(node.node_info().await.unwrap(), crate::peer::Contact::NotSumpeer);
    // It has no stream.
    assert!(matches!(log.stream(Some(3)).await, Err(Fault::Refused { status: 404, .. })));
}

#[tokio::test]
async fn a_head_counts_only_with_the_right_signature_for_the_right_log() {
    let stranger = SignerKey::generate("up.example", [8; 32]).unwrap();
    for which in [Which::Tlog, Which::Claims] {
        let other = if which == Which::Tlog { Which::Claims } else { Which::Tlog };
        let good = head(which, 5, &signer()).note;
        let altered = good.replace("\n5\n", "\n6\n");
        let cases = [
            (good.clone(), None),
            (good.replace('\n', "\r\n"), Some("malformed")),
            (good[..good.len() - 1].to_owned(), Some("malformed")),
            (good.replace("\n5\n", "\n05\n"), Some("unsigned")),
            (altered, Some("unsigned")),
            (head(which, 5, &stranger).note, Some("unsigned")),
            // Each log's heads are signed under a name of its own.
            (head(other, 5, &signer()).note, Some("unsigned")),
            (String::new(), Some("malformed")),
            ("not a note".to_owned(), Some("malformed")),
            (format!("{}{good}", "x\n".repeat(9 << 10)), Some("malformed")),
        ];
        for (note, wanted) in cases {
            let server = Hostile::always(vec![Act::Say(answer(200, TEXT, note.as_bytes()))]).await;
            let log = log_of(&server, which, patient());
            let found = log.head(false).await;
            assert_eq!(found.as_ref().err().map(kind), wanted, "{which:?} {note:?}");
            if let Ok(found) = found {
                assert_eq!(found, head(which, 5, &signer()));
            }
            let asked = server.requests()[0].lines().next().unwrap().to_owned();
            let path = if which == Which::Tlog { "/tlog/latest" } else { "/claims/checkpoint" };
            assert_eq!(asked, format!("GET {path} HTTP/1.1"));
        }
        let garbled = Hostile::always(vec![Act::Say(answer(200, TEXT, b"go.sum\xff\n\n"))]).await;
        assert_eq!(kind(&log_of(&garbled, which, patient()).head(false).await.unwrap_err()), "malformed");
    }
}

#[tokio::test]
async fn a_tile_has_what_its_address_says() {
    // Path, content type, body, and whether it is taken.
    let bundle = |entries: &[&str]| {
        let mut bundle = Vec::new();
        for entry in entries {
            push_bundle_entry(&mut bundle, entry.as_bytes()).unwrap();
        }
        bundle
    };
    let cases: Vec<(Which, &str, Vec<u8>, bool)> = vec![
        (Which::Tlog, TEXT, b"256\na \n\n257\nb\n\n".to_vec(), true),
        (Which::Tlog, TEXT, b"a \n\nb\n\n".to_vec(), true),
        (Which::Tlog, "Content-Type: TEXT/Plain\r\n", b"a \n\nb\n\n".to_vec(), true),
        (Which::Tlog, BYTES, b"a \n\nb\n\n".to_vec(), false),
        (Which::Tlog, "", b"a \n\nb\n\n".to_vec(), false),
        (Which::Tlog, "content-type: text/plain\r\ncontent-encoding: gzip\r\n", b"a \n\nb\n\n".to_vec(), false),
        (Which::Tlog, TEXT, b"a \n\n".to_vec(), false),
        (Which::Tlog, TEXT, b"a \n\nb\n\nc\n\n".to_vec(), false),
        (Which::Tlog, TEXT, b"256\na \n\n258\nb\n\n".to_vec(), false),
        (Which::Tlog, TEXT, b"a \n\n\xff\n\n".to_vec(), false),
        (Which::Tlog, TEXT, b"a \r\n\r\nb\r\n\r\n".to_vec(), false),
        (Which::Claims, BYTES, bundle(&["a \n", "b\n"]), true),
        (Which::Claims, BYTES, bundle(&["a \n"]), false),
        (Which::Claims, BYTES, [bundle(&["a \n", "b\n"]), vec![0]].concat(), false),
        (Which::Claims, TEXT, bundle(&["a \n", "b\n"]), false),
    ];
    for (which, headers, body, taken) in cases {
        let server = Hostile::always(vec![Act::Say(answer(200, headers, &body))]).await;
        let entries = log_of(&server, which, patient()).entries(1, 2, false).await;
        let shown = String::from_utf8_lossy(&body);
        if taken {
            assert_eq!(entries.unwrap(), [b"a \n".to_vec(), b"b\n".to_vec()], "{shown:?}");
        } else {
            assert_eq!(kind(&entries.unwrap_err()), "malformed", "{headers} {shown:?}");
        }
        let wanted = if which == Which::Tlog { "/tlog/tile/8/data/001.p/2 " } else { "/claims/tile/entries/001.p/2 " };
        assert!(server.requests()[0].starts_with(&format!("GET {wanted}")));
    }
    for (length, taken) in [(64, true), (63, false), (65, false), (32, false), (0, false)] {
        let server = Hostile::always(vec![Act::Say(answer(200, BYTES, &vec![9; length]))]).await;
        let hashes = log_of(&server, Which::Claims, patient()).hashes(2, 1_234_067, 2, false).await;
        match hashes {
            Ok(hashes) => assert_eq!((hashes, taken), (vec![Hash([9; 32]); 2], true)),
            Err(fault) => assert_eq!((kind(&fault), taken), ("malformed", false)),
        }
        assert!(server.requests()[0].starts_with("GET /claims/tile/2/x001/x234/067.p/2 "));
    }
}

#[tokio::test]
async fn full_tiles_have_one_address_and_fresh_ones_another_each_time() {
    let tile = answer(200, BYTES, &vec![1; 256 * 32]);
    let server = Hostile::always(vec![Act::Say(tile), Act::Again]).await;
    let log = log_of(&server, Which::Tlog, patient());
    for _ in 0..3 {
        log.hashes(1, 2, 256, false).await.unwrap();
    }
    assert_eq!(server.connections(), 1);
    for fresh in 1..=3 {
        log.hashes(1, 2, 256, true).await.unwrap();
        assert_eq!(server.connections(), 1 + fresh);
    }
    let requests = server.requests();
    let (usual, fresh) = requests.split_at(3);
    for request in usual {
        assert!(request.starts_with("GET /tlog/tile/8/1/002 "), "{request}");
        assert!(!request.contains("cache-control"), "{request}");
    }
    let mut addresses: Vec<&str> = fresh.iter().map(|request| request.split(' ').nth(1).unwrap()).collect();
    for (request, address) in fresh.iter().zip(&addresses) {
        assert!(address.starts_with("/tlog/tile/8/1/002?"), "{address}");
        assert!(request.contains("cache-control: no-cache\r\n"), "{request}");
    }
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), 3);
}

#[tokio::test]
async fn a_node_may_live_below_a_path() {
    let note = head(Which::Tlog, 5, &signer()).note;
    let server = Hostile::always(vec![Act::Say(answer(200, TEXT, note.as_bytes()))]).await;
    for base in ["a/b", "a/b/", "a/b?x=y#z"] {
        let base = server.base.join(base).unwrap();
        let log = LogClient::new(http(), base, Which::Tlog, &signer().verifier());
        log.head(false).await.unwrap();
    }
    assert!(server.requests().iter().all(|request| request.starts_with("GET /a/b/tlog/latest HTTP")));
}
