//! Questions beside the logs, and what a node may answer.

use super::hostile::{Act, Hostile, JSON, TEXT, answer};
use super::{Which, head, kind, log_of, node_of, patient, signer};
use crate::peer::{Contact, Mode};

const SPEC: &str = "filippo.io/age@v1.2.1/cmd/age/linux-amd64-go1.27.1/";

async fn says(status: u16, headers: &str, body: &str) -> Hostile {
    Hostile::always(vec![Act::Say(answer(status, headers, body.as_bytes()))]).await
}

fn node_json(mode: &str, vkey: &str) -> String {
    format!(
        r#"{{"name":"a\u001bb","vkey":"{vkey}","mode":"{mode}","size":3,"claims":4,"new":[{{}}],
        "voters":[{{"name":"c","vkey":"k","source":"log"}},{{"name":"d","vkey":"l","source":"later","x":1}}]}}"#
    )
}

#[tokio::test]
async fn a_sumpeer_says_who_it_is() {
    let vkey = signer().verifier().to_string();
    for (mode, wanted) in [("build", Mode::Build), ("verify-only", Mode::VerifyOnly)] {
        let server = says(200, "content-type: application/json; charset=utf-8\r\n", &node_json(mode, &vkey)).await;
        let Contact::Sumpeer(info) = node_of(&server, patient()).node_info().await.unwrap() else {
            panic!("it is a sumpeer");
        };
        assert_eq!((info.mode, info.vkey, info.size, info.claims), (wanted, signer().verifier(), 3, 4));
        assert_eq!(info.name, "ab");
        let voters: Vec<_> =
            info.voters.iter().map(|v| (v.name.as_str(), v.vkey.as_str(), v.source.as_str())).collect();
        assert_eq!(voters, [("c", "k", "log"), ("d", "l", "later")]);
    }
    let broken = [
        (JSON, node_json("both", &vkey)),
        (JSON, node_json("build", "up.example+00000000+AAAA")),
        (JSON, node_json("build", &vkey).replace("\"size\":3", "\"size\":-3")),
        (JSON, node_json("build", &vkey).replace("\"size\":3,", "")),
        (JSON, "[".repeat(100_000)),
        (JSON, String::new()),
        (TEXT, node_json("build", &vkey)),
        ("content-type: text/html\r\n", "<html>".to_owned()),
    ];
    for (headers, body) in broken {
        let server = says(200, headers, &body).await;
        assert_eq!(kind(&node_of(&server, patient()).node_info().await.unwrap_err()), "malformed", "{body:.100}");
    }
    let server = says(404, TEXT, "404 page not found\n").await;
    assert_eq!(node_of(&server, patient()).node_info().await.unwrap(), Contact::NotSumpeer);
    // A proxy before it that is out of order makes no gobuild of it.
    let server = says(502, TEXT, "bad gateway").await;
    assert_eq!(kind(&node_of(&server, patient()).node_info().await.unwrap_err()), "refused");
}

#[tokio::test]
async fn heads_that_others_show_are_handed_on_unverified() {
    let note = head(Which::Tlog, 9, &signer()).note;
    let vkey = signer().verifier().to_string();
    let page = move |number: u32| {
        let next = if number < 3 { format!("\"c&{number}\"") } else { "null".to_owned() };
        let long = "x".repeat(20_000);
        let logs =
            serde_json::json!([{"log": "accepted", "head": note}, {"log": "claims"}, {"head": null}, {"head": long}]);
        format!(r#"{{"items":[{{"vkey":"{vkey}","logs":{logs}}},{{"vkey":"other"}}],"next":{next}}}"#)
    };
    let server = Hostile::start(move |request| {
        let after = request.split("after=c%26").nth(1).map_or(0, |rest| rest[..1].parse::<u32>().unwrap());
        vec![Act::Say(answer(200, JSON, page(after + 1).as_bytes()))]
    })
    .await;
    let heads = node_of(&server, patient()).peers_heads().await.unwrap();
    assert_eq!((heads.len(), server.requests().len()), (3, 3));
    let log = log_of(&server, Which::Tlog, patient());
    for shown in heads {
        assert_eq!(shown.vkey, signer().verifier().to_string());
        assert_eq!(log.check_head(&shown.note).unwrap(), head(Which::Tlog, 9, &signer()));
    }
    // A list without an end is left in the middle.
    let server = says(200, JSON, r#"{"items":[],"next":"more"}"#).await;
    assert_eq!(node_of(&server, patient()).peers_heads().await.unwrap(), []);
    assert_eq!(server.requests().len(), 8);
    for broken in [r#"{"items":{}}"#, r#"{"items":[{"logs":[]}],"next":null}"#, "{", "[]"] {
        let server = says(200, JSON, broken).await;
        assert_eq!(kind(&node_of(&server, patient()).peers_heads().await.unwrap_err()), "malformed");
    }
}

#[tokio::test]
async fn a_want_is_one_line_and_is_answered_with_one() {
    let spec = SPEC.parse().unwrap();
    let server = says(202, JSON, "{\"spec\":\"…\",\"state\":\"queued\",\"position\":3}\n").await;
    let state = node_of(&server, patient()).want(&spec).await.unwrap();
    assert_eq!((state.state.as_str(), state.position), ("queued", Some(3)));
    let request = &server.requests()[0];
    assert!(request.starts_with("POST /claims/want HTTP/1.1\r\n"), "{request}");
    assert!(request.ends_with(&format!("\r\n\r\n{SPEC}\n")), "{request}");

    let server = says(202, JSON, "{\"state\":\"accepted\"}\n").await;
    assert_eq!(node_of(&server, patient()).want(&spec).await.unwrap().position, None);
    for (status, body, wanted) in
        [(200, "{\"state\":\"queued\"}", "refused"), (202, "{}", "malformed"), (202, "", "malformed")]
    {
        let server = says(status, JSON, body).await;
        assert_eq!(kind(&node_of(&server, patient()).want(&spec).await.unwrap_err()), wanted);
    }
}

#[tokio::test]
async fn a_lookup_waits_as_long_as_a_build_and_can_be_given_up() {
    let spec = SPEC.parse().unwrap();
    let note = head(Which::Tlog, 1, &signer()).note;
    let body = format!("0\na b c \n\n{note}");
    let server = says(200, TEXT, &body).await;
    // Slower than a head may be, but a lookup.
    let timing = crate::peer::Timing { first_byte: std::time::Duration::ZERO, ..patient() };
    let found = node_of(&server, timing).lookup(&spec).await.unwrap();
    assert_eq!((found.number, found.text.as_str(), found.note), (0, "a b c \n", note.clone()));
    assert!(server.requests()[0].starts_with(&format!("GET /tlog/lookup/{SPEC} HTTP/1.1\r\n")));

    for broken in ["", "0\n", "0\na", "x\na\n\n", "00\na\n\n", "0\na\r\n\r\n"] {
        let server = says(200, TEXT, broken).await;
        assert_eq!(kind(&node_of(&server, patient()).lookup(&spec).await.unwrap_err()), "malformed", "{broken:?}");
    }
    let server = Hostile::always(vec![Act::Hold]).await;
    let node = node_of(&server, patient());
    let given_up = tokio::time::timeout(std::time::Duration::from_millis(100), node.lookup(&spec)).await;
    assert!(given_up.is_err());
}
