//! Alerts from outside: what the real program tells, to whom, how often, and in which order.

mod channels;
mod receiver;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use serde_json::json;
use sumpeer::model::AlertKind;
use sumpeer::store::{NewAlert, Store};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::liar;
use crate::world::{
    Module, Modules, Place, Setup, eventually, free_address, open, program, released, scratch, spec, words,
};
use receiver::{Mood, Receiver, signature};

const PATIENCE: Duration = Duration::from_secs(120);
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A node that does nothing, with these alerts.
fn idle(modules: &Modules, alerts: &str) -> Setup {
    Setup::empty(modules).with(&format!("[alerts]\nlongest-retry = \"1s\"\n{alerts}"))
}

/// Raises alerts about so many specs, and ends and raises some of them again: 200 events of 120 specs.
async fn trouble(store: &Store) {
    let written = store.write(|tx| {
        for round in 0..3 {
            for number in (0..120).filter(|number| round == 0 || number % 3 == 0) {
                let spec = format!("example.com/m@v1.0.{number}/linux-amd64-go1.27.1/").parse()?;
                let (kind, spec) = (AlertKind::CannotBuildHere, tx.make_spec_id(&spec)?);
                if round == 1 {
                    assert!(tx.end_alert(kind, None, Some(spec))?);
                } else {
                    let summary = format!("Number {number}, round {round}.");
                    tx.raise(&NewAlert { kind, spec: Some(spec), party: None, summary: &summary, divergence: None })?;
                }
            }
        }
        Ok(())
    });
    written.await.expect("written");
}

/// What was made by [`trouble`] was acknowledged: each event once, and those of a spec in their order.
fn each_once_and_in_order(receiver: &Receiver) {
    let taken = receiver.taken();
    assert_eq!(taken.len(), 200);
    let mut by_spec: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    let mut ids = Vec::new();
    for one in &taken {
        ids.push(one.id.clone());
        let text = |name: &str| one.body[name].as_str().expect("a text").to_owned();
        by_spec.entry(text("spec")).or_default().push((text("state"), text("summary")));
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 200, "each once");
    assert_eq!(by_spec.len(), 120);
    for (spec, events) in by_spec {
        let states: Vec<&str> = events.iter().map(|(state, _)| state.as_str()).collect();
        assert!(states == ["open"] || states == ["open", "resolved", "open"], "{spec}: {events:?}");
        if let [(_, first), (_, over), (_, again)] = &events[..] {
            assert!(
                first.ends_with("round 0.") && over.starts_with("Over: ") && again.ends_with("round 2."),
                "{events:?}"
            );
        }
    }
}

#[test]
fn an_outage_and_two_kills_lose_nothing_and_double_nothing() {
    let modules = Modules::start();
    let address = free_address();
    let url = format!("[[alerts.webhook]]\nurl = \"http://{address}/alerts\"\n");
    let setup = idle(&modules, &url);
    // Its channels are known from then on.
    assert_eq!(setup.start().terminate().0, Some(0));
    tokio::runtime::Runtime::new().expect("a runtime").block_on(trouble(&open(&setup.data)));
    released(&setup.data);

    let behind = |node: &crate::world::Node| {
        let answer = crate::world::request(&node.admin, "GET /channels", "", "", PATIENCE).expect("an answer");
        let all: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        let rows = all["items"].as_array().expect("a list").clone();
        rows.into_iter().find(|row| row["channel"].as_str().is_some_and(|name| name.starts_with("webhook:")))
    };
    // Nobody listens; then somebody who refuses.
    for mood in [None, Some(Mood::Refuses(503, "not now"))] {
        let receiver = mood.clone().map(|mood| Receiver::at(&address, mood));
        let node = setup.start();
        eventually(PATIENCE, "it has tried", || {
            let row = behind(&node).expect("it is behind");
            assert_eq!(row["pending"], 200);
            let why = row["error"].as_str().unwrap_or_default().to_owned();
            if mood.is_some() { why.contains("not now") } else { !why.is_empty() }
        });
        node.kill();
        drop(receiver);
    }
    let receiver = Receiver::at(&address, Mood::Takes);
    let node = setup.start();
    eventually(PATIENCE, "all is told", || behind(&node).is_none());
    each_once_and_in_order(&receiver);
    // Told is told: a restart tells nothing again.
    node.kill();
    let node = setup.start();
    eventually(PATIENCE, "it runs", || node.get("/readyz").status == 200);
    assert_eq!(receiver.received().len(), 200);
    assert!(setup.check().status.success());
}

#[test]
fn a_differing_claim_is_told_with_its_proof() {
    let modules = Modules::start();
    let [honest, liar] = ["honest.example", "liar.example"].map(Place::new);
    let receiver = Receiver::at("127.0.0.1:0", Mood::Takes);
    let folder = scratch();
    let (hooks, out) = (folder.path().join("hooks"), folder.path().join("out"));
    fs::create_dir(&hooks).expect("a folder");
    let hook = hooks.join("keep");
    let text = format!(
        "#!/bin/sh\nset -eu\nif [ $SUMPEER_ALERT_STATE = open ]; then cp \"$SUMPEER_EVIDENCE\" {0}.json; fi\n\
         echo \"$SUMPEER_ALERT_STATE $SUMPEER_ALERT_KIND $SUMPEER_ALERT_SPEC\" >> {0}\n",
        out.display()
    );
    fs::write(&hook, text).expect("written");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("executable");
    let secret = folder.path().join("secret");
    fs::write(&secret, format!("{SECRET}\n")).expect("written");
    let alerts = format!(
        "[alerts]\nhooks-dir = {hooks:?}\n[[alerts.webhook]]\nurl = {:?}\nsecret-file = {secret:?}\n",
        receiver.url()
    );
    let setup = honest.builds(&modules, "", &[&liar]).with(&alerts);
    let node = setup.start();
    let data = scratch();
    let stop = CancellationToken::new();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::bind(&liar.address).await.expect("free");
                let lies = liar::run(data.path(), &liar.key, listener, honest.as_small_peer(), stop.clone());
                lies.await.expect("it lies until it is stopped");
            });
        });
        let _stop = stop.clone().drop_guard();
        modules.publish(&Module::command("told.example/x", "v1.0.0"));
        let x = spec("told.example/x@v1.0.0");
        assert_eq!(node.lookup(&x).status, 409, "{}", setup.log());
        eventually(PATIENCE, "the webhook and the hook", || receiver.taken().len() == 1 && out.exists());

        let [told] = &receiver.taken()[..] else { panic!("one") };
        let secret = data_encoding::BASE64.decode(SECRET.trim_start_matches("whsec_").as_bytes()).expect("base64");
        assert_eq!(told.signature.as_deref(), Some(signature(&secret, told).as_str()));
        let body = &told.body;
        assert_eq!((&body["id"], &body["kind"], &body["state"]), (&json!("1"), &json!("divergence"), &json!("open")));
        assert_eq!((&body["spec"], &body["party"]), (&json!(x), &json!("liar.example")));
        assert_eq!(body["url"], format!("http://{}/divergences/1", node.address));
        let summary = body["summary"].as_str().expect("a sentence");
        for part in ["honest.example says 0", "liar.example says 0", x.as_str()] {
            assert!(summary.contains(part), "{part} is in: {summary}");
        }
        assert_eq!(body["words"], node.json("/api/v1/divergences/1")["words"]);
        assert_eq!(body["words"].as_array().expect("words").len(), 2);
        let shown = node.json("/api/v1/alerts?state=open");
        assert_eq!(shown["items"].as_array().expect("a list").len(), 1);
        assert_eq!(shown["items"][0], node.json("/api/v1/alerts/1"));
        assert_eq!(shown["items"][0]["summary"], *summary);
        assert_eq!(fs::read_to_string(&out).expect("it has run"), format!("open divergence {x}\n"));
        let (code, said, _) = words(program().args(["evidence", "verify"]).arg(out.with_extension("json")));
        assert!(code == Some(0) && said.contains("liar.example"), "{said}");
        let log = setup.log();
        assert!(
            log.lines().any(|line| line.contains("ERROR") && line.contains("alert") && line.contains(summary)),
            "{log}"
        );

        let (code, said, _) = words(program().args(["alerts", "--config"]).arg(setup.file()));
        assert!(code == Some(3) && said.contains(summary), "{said}");
        let resolve = ["divergences", "resolve", "1", "--note", "bad memory", "--config"];
        assert_eq!(words(program().args(resolve).arg(setup.file())).0, Some(0));
        eventually(PATIENCE, "the end is told, too", || {
            let lines = fs::read_to_string(&out).unwrap_or_default();
            receiver.taken().len() == 2 && lines.lines().any(|line| line.starts_with("resolved"))
        });
        let end = &receiver.taken()[1].body;
        assert_eq!((&end["id"], &end["state"]), (&json!("1"), &json!("resolved")));
        assert!(end["summary"].as_str().expect("a sentence").starts_with("Settled (bad memory): "), "{end}");
        assert_eq!(words(program().args(["alerts", "--config"]).arg(setup.file())).0, Some(0));
    });
}

#[test]
fn channels_can_be_tried_out_with_and_without_a_node() {
    let modules = Modules::start();
    let (good, bad) = (Receiver::at("127.0.0.1:0", Mood::Takes), Receiver::at("127.0.0.1:0", Mood::Refuses(500, "no")));
    let folder = scratch();
    for (name, status) in [("fails", 7), ("works", 0)] {
        let path = folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\necho said by $SUMPEER_ALERT_KIND\nexit {status}\n")).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    }
    let urls = format!("[[alerts.webhook]]\nurl = {:?}\n[[alerts.webhook]]\nurl = {:?}\n", good.url(), bad.url());
    let setup = idle(&modules, &format!("hooks-dir = {:?}\n{urls}", folder.path()));
    let test = || words(program().args(["alerts", "test", "--config"]).arg(setup.file()));
    let check = |(code, out, said): (Option<i32>, String, String)| {
        assert_eq!(code, Some(1), "{said}");
        let line = |name: &str| out.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
        assert!(line("journal").ends_with(" ok") && line("hook:works").ends_with(" ok"), "{out}");
        assert!(line("hook:fails").ends_with("failed: it ended with exit status: 7: said by test"), "{out}");
        assert!(out.contains(" failed: it answers 500 Internal Server Error: no\n"), "{out}");
        said
    };
    let said = check(test());
    assert!(said.contains("no node runs") && said.contains("tried out from here"), "{said}");
    let node = setup.start();
    let said = check(test());
    assert!(!said.contains("no node runs"), "{said}");
    assert!(setup.log().contains("This is a test of node.example"), "{}", setup.log());
    assert_eq!((good.taken().len(), bad.received().len()), (2, 2));
    assert_eq!(good.taken()[1].body["kind"], "test");
    bad.becomes(Mood::Takes);
    fs::remove_file(folder.path().join("fails")).expect("removed");
    assert_eq!(test().0, Some(0));
    let refused =
        crate::world::request(&node.admin, "POST /actions/test-alerts", "", "{}", PATIENCE).expect("an answer");
    assert_eq!(refused.status, 401, "only with the token");
    assert_eq!(good.taken().len(), 3);
}

#[test]
fn what_cannot_work_is_refused_at_start() {
    let modules = Modules::start();
    let folder = scratch();
    let secret = folder.path().join("secret");
    let hook = "[[alerts.webhook]]\nurl = \"http://127.0.0.1:1/\"\n";
    let with_secret = format!("{hook}secret-file = {secret:?}\n");
    let refused = |alerts: &str, says: &[&str]| {
        let said = idle(&modules, alerts).try_start().err().expect("refused");
        assert!(says.iter().all(|part| said.contains(part)), "{said}");
        assert!(!said.contains("MfKQ"), "{said}");
    };
    refused(&with_secret, &["alerts.webhook number 1: secret-file: cannot read", "secret"]);
    for (text, why) in [
        ("", "holds no secret: it must be whsec_ and base64"),
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "it must be whsec_ and base64"),
        ("whsec_MfKQ9r8G", "it must have 24 to 64"),
        ("whsec_MfKQ!", "no base64"),
    ] {
        fs::write(&secret, text).expect("written");
        refused(&with_secret, &["alerts.webhook number 1", why]);
    }
    fs::write(&secret, [b'x'; 9000]).expect("written");
    refused(&with_secret, &["too long for a secret"]);
    refused(&format!("hooks-dir = {:?}\n", folder.path().join("none")), &["alerts.hooks-dir: cannot read the folder"]);
}
