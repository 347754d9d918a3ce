//! What people and programs see of other nodes: who is followed, who agrees, what differs, and what the operator can do.

use axum::http::Method;

use super::world::{SPEC, World, request};
use crate::evidence::{Judgement, Kind, verify};
use crate::model::{Class, Finding, Sum};
use crate::peer::{Program, State, Status};
use crate::store::LogId;

fn sum(number: u8) -> Sum {
    Sum::from_bytes([number; 20])
}

fn built(number: u8) -> Finding {
    Finding::Built { size: 9, sum: sum(number) }
}

fn cannot() -> Finding {
    Finding::CannotBuild { class: Class::Cgo, detail: String::new() }
}

fn spec(number: u32) -> String {
    format!("example.com/m@v1.0.{number}/linux-amd64-go1.27.1/")
}

/// A node that has found one sum, and a voter that has found another.
async fn divided() -> World {
    let world = World::with_voters(&["beta", "gamma"]).await;
    world.built(SPEC, b"a binary").await;
    world.says("beta", SPEC, built(1)).await;
    world
}

#[tokio::test]
async fn evidence_of_a_divergence_proves_itself() {
    let world = divided().await;
    let list = world.get("/api/v1/divergences").await.json();
    let item = &list["items"][0];
    assert_eq!((&item["id"], &item["kind"], &item["state"]), (&"1".into(), &"divergence".into(), &"open".into()));
    assert_eq!((&item["spec"], &item["party"]), (&SPEC.into(), &"beta".into()));
    let words = item["words"].as_array().unwrap();
    let parties: Vec<&str> = words.iter().map(|word| word["party"].as_str().unwrap()).collect();
    assert_eq!(parties, ["test.example", "beta"]);
    let mut one = world.get("/api/v1/divergences/1").await.json();
    one.as_object_mut().unwrap().shift_remove("comparisons").expect("only of one");
    assert_eq!(one, *item);

    let answer = world.get("/api/v1/divergences/1/evidence").await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"));
    assert_eq!(answer.header("content-disposition"), "attachment; filename=\"divergence-1.json\"");
    let keys = [world.own.vkey.parse().unwrap(), world.key("beta").verifier()];
    let Judgement::Proven(statement) = verify(&answer.body, &keys) else {
        panic!("{:?}", verify(&answer.body, &keys));
    };
    assert_eq!((statement.kind, statement.spec.unwrap().to_string().as_str()), (Kind::Divergence, SPEC));
    assert!(statement.sentence.contains(&sum(1).to_string()), "{}", statement.sentence);

    // Here the other two have one key pair under two names, of which nothing can be proven.
    world.says("gamma", SPEC, built(2)).await;
    let answer = world.get("/api/v1/divergences/1/evidence").await;
    assert!(matches!(verify(&answer.body, &keys[..1]), Judgement::Proven(_)), "{}", answer.text());
    assert_eq!(world.browse("/divergences/1").await.status, 200);

    for missing in ["/api/v1/divergences/2", "/api/v1/divergences/2/evidence", "/divergences/2"] {
        assert_eq!(world.get(missing).await.status, 404, "{missing}");
    }
}

#[tokio::test]
async fn evidence_of_contradictions_and_of_later_words_proves_itself() {
    let world = divided().await;
    for number in 0..300 {
        world.says("beta", &spec(number), built(3)).await;
    }
    world.says("beta", SPEC, built(2)).await;
    let rows = world.get("/api/v1/divergences").await.json();
    let kinds: Vec<&str> = rows["items"].as_array().unwrap().iter().map(|row| row["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["divergence", "contradiction"]);
    for (id, kind) in [(1, Kind::Divergence), (2, Kind::Contradiction)] {
        let answer = world.get(&format!("/api/v1/divergences/{id}/evidence")).await;
        let Judgement::Proven(statement) = verify(&answer.body, &[world.key("beta").verifier()]) else {
            panic!("{}", answer.text());
        };
        assert_eq!(statement.kind, kind);
        // The newest word is the one that counts.
        assert!(statement.sentence.contains(&sum(2).to_string()), "{}", statement.sentence);
    }
}

#[tokio::test]
async fn a_record_and_a_later_word_are_proven_too() {
    let world = World::with_voters(&["beta"]).await;
    let sum = world.built(SPEC, b"a binary").await;
    world.says("beta", SPEC, Finding::Built { size: 8, sum }).await;
    assert_eq!(world.get("/api/v1/divergences").await.json()["items"].as_array().unwrap().len(), 0);
    world.says("beta", SPEC, built(2)).await;
    let list = world.get("/api/v1/divergences").await.json();
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    for item in items {
        let id = item["id"].as_str().unwrap();
        let answer = world.get(&format!("/api/v1/divergences/{id}/evidence")).await;
        assert!(matches!(verify(&answer.body, &[]), Judgement::Proven(_)), "{}", answer.text());
    }
    let page = world.browse(&format!("/{SPEC}{sum}/")).await;
    assert!(page.status == 200 && page.text().contains("The record stands"), "{}", page.text());
    assert!(page.text().contains("href=\"/divergences/"));
}

#[tokio::test]
async fn evidence_waits_for_a_head_and_says_so() {
    let world = World::with_voters(&["beta"]).await;
    world.built(SPEC, b"a binary").await;
    world.says_without_head("beta", SPEC, built(1)).await;
    let answer = world.get("/api/v1/divergences/1/evidence").await;
    assert_eq!((answer.status.as_u16(), &answer.json()["class"]), (503, &"unavailable".into()));
    let sentence = "not provable yet: no signed head covers the word of beta";
    assert_eq!(answer.json()["error"], sentence);
    assert!(!answer.header("retry-after").is_empty());
    let page = world.browse("/divergences/1").await;
    assert!(page.status == 200 && page.text().contains("no signed head covers the word of beta"), "{}", page.text());
    world.says("beta", &spec(1), built(1)).await;
    let answer = world.get("/api/v1/divergences/1/evidence").await;
    assert!(matches!(verify(&answer.body, &[]), Judgement::Proven(_)), "{}", answer.text());
}

#[tokio::test]
async fn peers_are_told_with_their_logs_and_how_often_they_agree() {
    let world = World::with_voters(&["beta", "gamma"]).await;
    // A spec each: agree, differ, silent, the peer cannot, only the peer has spoken, this node cannot.
    for number in 0..4 {
        world.found(&spec(number), built(1), None).await;
    }
    world.found(&spec(5), cannot(), None).await;
    for (number, finding) in [(0, built(1)), (1, built(2)), (3, cannot()), (4, built(1)), (5, built(1))] {
        world.says("beta", &spec(number), finding).await;
    }
    world.status("beta", |status| {
        status.state = State::Following;
        status.program = Some(Program::Sumpeer);
        status.log = Some(LogId::Claims);
        status.downloaded = 7;
        status.last_error = Some("connection reset".to_owned());
    });
    let peers = world.get("/api/v1/peers").await.json();
    let [beta, gamma] = peers["items"].as_array().unwrap().as_slice() else {
        panic!("{peers}");
    };
    let counts = serde_json::json!({"agree": 1, "differ": 1, "missing": 1, "cannot_build": 1});
    assert_eq!(
        (&beta["name"], &beta["state"], &beta["kind"]),
        (&"beta".into(), &"following".into(), &"sumpeer".into())
    );
    assert_eq!(
        (&beta["counts"], &beta["quarantine"], &beta["vote"]),
        (&counts, &serde_json::Value::Null, &true.into())
    );
    let log = &beta["logs"][0];
    assert_eq!((&log["log"], &log["size"], &log["verified"]), (&"claims".into(), &5.into(), &5.into()));
    assert_eq!((&log["downloaded"], &log["lag"]), (&7.into(), &0.into()));
    let key = world.key("beta").as_name("beta/claims").verifier();
    assert!(crate::tlog::open_head(log["head"].as_str().unwrap().as_bytes(), &key, "beta/claims").is_ok());
    assert_eq!(beta["last_error"], "connection reset");
    let silent = serde_json::json!({"agree": 0, "differ": 0, "missing": 4, "cannot_build": 0});
    assert_eq!((&gamma["counts"], &gamma["state"]), (&silent, &"backoff".into()));
    assert!(gamma.get("kind").is_none() && gamma.get("last_error").is_none());

    let first = world.get("/api/v1/peers?limit=1").await.json();
    assert_eq!((first["items"].as_array().unwrap().len(), &first["next"]), (1, &"1".into()));
    let second = world.get("/api/v1/peers?limit=1&after=1").await.json();
    assert_eq!((&second["items"][0]["name"], &second["next"]), (&"gamma".into(), &serde_json::Value::Null));

    let home = world.browse("/").await;
    for part in ["beta", "followed", "connection reset", "gamma", "not reached", "Divergences open: 1"] {
        assert!(home.text().contains(part), "{part}: {}", home.text());
    }
    let metrics = world.admin("/metrics", "127.0.0.1:8001").await;
    for line in [
        "sumpeer_divergences_open 1",
        "sumpeer_peer_words{peer=\"beta\",kind=\"differ\"} 1",
        "sumpeer_peer_words{peer=\"gamma\",kind=\"missing\"} 4",
    ] {
        assert!(metrics.text().contains(line), "{line}: {}", metrics.text());
    }
}

#[tokio::test]
async fn pages_say_who_said_what_and_whom_is_waited_for() {
    let world = divided().await;
    let page = world.browse("/divergences/1").await;
    assert_eq!(page.status, 200);
    for part in [
        "Different sums",
        "test.example",
        "beta",
        &sum(1).to_string(),
        "/claims/file/0",
        "/api/v1/divergences/1/evidence",
        "sumpeer evidence verify divergence-1.json",
        "sumpeer divergences resolve 1",
        "What it means",
        "What to do",
        "curl -o divergence-1.json http://test.example:8000/api/v1/divergences/1/evidence",
    ] {
        assert!(page.text().contains(part), "{part} is missing in {}", page.text());
    }
    let list = world.browse("/divergences").await;
    assert!(list.text().contains("href=\"/divergences/1\"") && list.text().contains("Open: 1"), "{}", list.text());
    assert_eq!(world.get("/divergences?before=x").await.status, 400);
    assert!(!world.get("/divergences?before=1").await.text().contains("href=\"/divergences/1\""));

    let disputed = world.browse(&format!("/{SPEC}")).await;
    assert_eq!(disputed.status, 409);
    for part in ["href=\"/divergences/1\"", "beta", "gamma", "nothing yet", "http://beta.example/claims/lookup/"] {
        assert!(disputed.text().contains(part), "{part} is missing in {}", disputed.text());
    }
    let lookup = world.browse(&format!("/{SPEC}record")).await;
    assert_eq!(lookup.status, 409);
    assert!(lookup.text().contains("href=\"/divergences/1\""), "{}", lookup.text());

    world.found(&spec(1), built(1), None).await;
    let waiting = world.browse(&format!("/{}", spec(1))).await;
    assert!(waiting.text().contains("Waiting for <strong>beta, gamma</strong>"), "{}", waiting.text());
}

#[tokio::test]
async fn the_operator_settles_and_releases_with_the_token_only() {
    let world = divided().await;
    let beta = world.key("beta").verifier().to_string();
    let vkey = beta.clone();
    let convict = move |tx: &mut crate::store::Tx<'_>| {
        let (id, _) = tx.see_divergence("fork", None, &vkey, Some("{}"))?;
        tx.put_quarantine(&vkey, "it signed <two> logs", id)
    };
    world.state.store.write(convict).await.unwrap();
    let peers = world.get("/api/v1/peers").await.json();
    let quarantine = &peers["items"][0]["quarantine"];
    assert_eq!((&peers["items"][0]["state"], &quarantine["divergence"]), (&"quarantined".into(), &"2".into()));
    let home = world.browse("/").await;
    assert!(home.text().contains("it signed &#60;two&#62; logs") && home.text().contains("in quarantine"));
    let page = world.browse("/divergences/2").await;
    assert!(page.text().contains("sumpeer peers release beta"), "{}", page.text());

    let post = async |path: &str, token: &str, host: &str, body: &str| {
        let headers = [("host", host), ("authorization", token)];
        world.operate(request(Method::POST, path, &headers, body)).await
    };
    let (ours, token) = ("127.0.0.1:8001", "Bearer sesame");
    let release = r#"{"peer":"beta","note":"a bad disk"}"#;
    let resolve = r#"{"divergence":"1","note":" talked to beta \n"}"#;
    for (path, body) in [("/actions/release", release), ("/actions/resolve", resolve)] {
        assert_eq!(post(path, token, "evil.example:8001", body).await.status, 403);
        for wrong in ["", "Bearer", "Bearer sesam", "Bearer sesame2", "Basic sesame"] {
            let answer = post(path, wrong, ours, body).await;
            assert_eq!((answer.status.as_u16(), answer.header("www-authenticate")), (401, "Bearer"), "{wrong}");
        }
        let get = world.operate(request(Method::GET, path, &[("host", ours), ("authorization", token)], "")).await;
        assert_eq!((get.status.as_u16(), get.header("allow")), (405, "POST"));
        assert_eq!(world.post(path, body).await.status, 400, "it is not for everyone");
        for bad in ["", "{}", r#"{"peer":"beta","divergence":"1","note":" "}"#, r#"{"peer":"beta","note":"  "}"#] {
            assert_eq!(post(path, token, ours, bad).await.status, 400, "{bad}");
        }
    }
    assert_eq!(world.get("/api/v1/divergences/1").await.json()["state"], "open", "nothing has happened so far");

    // What a quarantine rests on is settled with it, and not apart.
    let answer = post("/actions/resolve", token, ours, r#"{"divergence":"2","note":"x"}"#).await;
    assert!(answer.status == 409 && answer.text().contains("sumpeer peers release beta"), "{}", answer.text());
    let answer = post("/actions/resolve", token, ours, resolve).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "{\"resolved\":\"1\"}\n"));
    let row = world.get("/api/v1/divergences/1").await.json();
    assert_eq!((&row["state"], &row["note"]), (&"resolved".into(), &"talked to beta".into()));
    assert_eq!(post("/actions/resolve", token, ours, resolve).await.status, 409);
    assert_eq!(post("/actions/resolve", token, ours, r#"{"divergence":"9","note":"x"}"#).await.status, 404);

    let answer = post("/actions/release", token, ours, release).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "{\"released\":\"beta\",\"divergence\":\"2\"}\n"));
    assert_eq!(world.get("/api/v1/divergences/2").await.json()["state"], "resolved");
    assert_eq!(post("/actions/release", token, ours, release).await.status, 409);
    assert_eq!(post("/actions/release", token, ours, r#"{"peer":"nobody","note":"x"}"#).await.status, 404);
    assert!(world.get("/api/v1/peers").await.json()["items"][0]["quarantine"].is_null());
}

#[tokio::test]
async fn the_admin_side_shows_what_the_commands_need() {
    let world = divided().await;
    for path in
        ["/", "/divergences", "/divergences/1", "/api/v1/peers", "/api/v1/queue", "/api/v1/divergences/1/evidence"]
    {
        let answer = world.admin(path, "127.0.0.1:8001").await;
        assert_eq!(answer.status, 200, "{path}");
    }
    let answer = world.admin("/api/v1/divergences/7", "127.0.0.1:8001").await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (404, "application/json"));
    assert_eq!(world.admin(&format!("/{SPEC}"), "127.0.0.1:8001").await.status, 404);
    assert!(world.admin("/", "127.0.0.1:8001").await.text().contains("Divergences open: 1"));
}

#[tokio::test]
async fn one_that_changes_its_mind_all_the_time_does_not_fill_the_pages() {
    let world = divided().await;
    for number in 0..100 {
        world.says("beta", SPEC, built(number % 2 + 2)).await;
    }
    let row = world.get("/api/v1/divergences/1").await.json();
    let words = row["words"].as_array().unwrap();
    assert!(words.len() <= 21 && words[0]["party"] == "test.example", "{}", words.len());
    let last = words.last().unwrap();
    assert_eq!(last["number"], 100);
}

#[tokio::test]
async fn statuses_that_say_nothing_are_no_trouble() {
    let world = World::with_voters(&["beta"]).await;
    world.status("beta", |status| *status = Status { ring: vec!["beta".to_owned()], gaps: 3, ..Status::default() });
    let peers = world.get("/api/v1/peers").await.json();
    assert_eq!((&peers["items"][0]["ring"][0], &peers["items"][0]["gaps"]), (&"beta".into(), &3.into()));
    assert_eq!(peers["items"][0]["logs"].as_array().unwrap().len(), 0);
}
