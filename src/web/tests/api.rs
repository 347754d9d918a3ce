//! The API and what describes it, and the operator's side.

use super::world::{SPEC, World};
use crate::model::{Class, Finding, Sum};
use crate::store::{Chosen, LogId};
use crate::tlog::{Hash, SUMDB_ORIGIN, check_inclusion, leaf_hash, open_head};

#[tokio::test]
async fn every_described_path_answers_with_the_described_members() {
    let world = World::with_voters(&["beta"]).await;
    let sum = world.built(SPEC, b"a binary").await;
    world.says("beta", SPEC, Finding::Built { size: 8, sum }).await;
    world.says("beta", SPEC, Finding::Built { size: 9, sum }).await;
    world
        .state
        .builder
        .as_ref()
        .unwrap()
        .submit(&"a.example/b@v1.0.0/linux-amd64-go1.27.1/".parse().unwrap(), crate::builder::Priority::Person)
        .unwrap();
    audited(&world).await;
    assert!(world.get("/").await.text().contains("Audit: 0 of 1 reproduced, 1 differ"));
    let description = world.get("/api/openapi.json").await.json();
    let paths = description["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 13);
    for (path, item) in paths {
        let asked = path.replace("{number}", "0").replace("{spec}", SPEC).replace("{id}", "1");
        let answer = world.get(&asked).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"), "{asked}");
        let schema = &item["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        check(&description, schema, &answer.json(), path);
    }
}

/// An audit has found that beta's first word differs.
async fn audited(world: &World) {
    let vkey = world.key("beta").verifier().to_string();
    let write = move |tx: &mut crate::store::Tx<'_>| {
        tx.put_peer_program(&vkey, "sumpeer", LogId::Claims)?;
        let log = tx.audit_position(&vkey, LogId::Claims)?.unwrap().log;
        let spec = tx.make_spec_id(&SPEC.parse()?)?;
        let (sum, own) = (Sum::from_bytes([1; 20]), tx.words(spec)?.remove(0).word);
        tx.open_audit(log, "all", 0)?;
        tx.choose(log, &[Chosen { number: 0, spec, said: (8, sum), own: Some(own) }], 1)
    };
    world.state.store.write(write).await.unwrap();
    let metrics = world.admin("/metrics", "127.0.0.1:8001").await;
    let line = "sumpeer_audit_records{peer=\"beta\",state=\"differs\"} 1";
    assert!(metrics.text().contains(line), "{}", metrics.text());
}

/// As much of JSON Schema as the description uses.
fn check(root: &serde_json::Value, schema: &serde_json::Value, value: &serde_json::Value, place: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        let target = root.pointer(name.trim_start_matches('#'));
        return check(root, target.unwrap_or_else(|| panic!("{name} is not described")), value, place);
    }
    if let Some(one_of) = schema["oneOf"].as_array() {
        let index = usize::from(!value.is_null());
        return check(root, &one_of[index], value, place);
    }
    if let Some(allowed) = schema["enum"].as_array() {
        assert!(allowed.contains(value), "{place}: {value}");
    }
    if let (Some(properties), Some(object)) = (schema["properties"].as_object(), value.as_object()) {
        for name in schema["required"].as_array().unwrap() {
            assert!(object.contains_key(name.as_str().unwrap()), "{place}: {name} is missing");
        }
        for (name, member) in object {
            let described = properties.get(name).unwrap_or_else(|| panic!("{place}: {name} is not described"));
            check(root, described, member, &format!("{place}.{name}"));
        }
    }
    if let (Some(items), Some(values)) = (schema.get("items"), value.as_array()) {
        for value in values {
            check(root, items, value, place);
        }
    }
    let kind = match value {
        serde_json::Value::Null => "null",
        serde_json::Value::Bool(_) => "boolean",
        serde_json::Value::Number(_) => "integer",
        serde_json::Value::String(_) => "string",
        serde_json::Value::Array(_) => "array",
        serde_json::Value::Object(_) => "object",
    };
    match &schema["type"] {
        serde_json::Value::String(want) => assert_eq!(want, kind, "{place}"),
        serde_json::Value::Array(want) => {
            assert!(want.iter().any(|want| want == kind), "{place}: {kind}")
        }
        _ => {}
    }
}

#[tokio::test]
async fn records_are_paged_and_proven() {
    let world = World::new().await;
    for n in 0..5 {
        world.built(&format!("example.com/m@v1.0.{n}/linux-amd64-go1.27.1/"), format!("{n}").as_bytes()).await;
    }
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let page = world.get(&format!("/api/v1/records?limit=2{after}")).await.json();
        let items = page["items"].as_array().unwrap();
        assert!(!items.is_empty() && items.len() <= 2);
        seen.extend(items.iter().map(|item| item["number"].as_u64().unwrap()));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen, [0, 1, 2, 3, 4]);
    let record = world.get("/api/v1/records/3").await.json();
    let head = record["head"].as_str().unwrap();
    let head = open_head(head.as_bytes(), &world.state.node.key, SUMDB_ORIGIN).unwrap();
    let proof: Vec<Hash> =
        record["proof"].as_array().unwrap().iter().map(|hash| hash.as_str().unwrap().parse().unwrap()).collect();
    let text = record["record"].as_str().unwrap();
    check_inclusion(&proof, head.size, &head.root, 3, &leaf_hash(text.as_bytes())).unwrap();
    assert_eq!(world.get("/api/v1/records/5").await.status, 404);
    for bad in ["limit=x", "after=-1", "after=01", "limit="] {
        assert_eq!(world.get(&format!("/api/v1/records?{bad}")).await.status, 400, "{bad}");
    }
    let all = world.get("/api/v1/records?limit=999999").await.json();
    assert_eq!(all["items"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn verdicts() {
    let world = World::new().await;
    let path = format!("/api/v1/verdict/{SPEC}");
    assert_eq!(world.get(&path).await.json()["verdict"], "unknown");
    world.cannot_build(SPEC, Class::Cgo, "").await;
    let verdict = world.get(&path).await.json();
    assert_eq!((&verdict["verdict"], &verdict["words"][0]["cannot_build"]), (&"cannot-build".into(), &"cgo".into()));
    let sum = world.built(SPEC, b"x").await;
    let verdict = world.get(&path).await.json();
    assert_eq!((&verdict["verdict"], &verdict["record"]["sum"]), (&"accepted".into(), &sum.to_string().into()));
    assert!(!world.is_asked_for(SPEC));
    assert_eq!(world.get("/api/v1/verdict/x").await.status, 400);
}

#[tokio::test]
async fn the_admin_side_answers_under_its_own_name_only() {
    let world = World::new().await;
    world.get("/healthz").await;
    assert_eq!(world.get("/readyz").await.text(), "ready\n");
    let metrics = world.admin("/metrics", "127.0.0.1:8001").await;
    assert!(metrics.header("content-type").starts_with("application/openmetrics-text"));
    assert!(metrics.text().contains("sumpeer_requests_total{kind=\"2xx\"}"), "{}", metrics.text());
    assert_eq!(world.admin("/", "localhost:8001").await.status, 200);
    assert_eq!(world.admin("/metrics", "evil.example:8001").await.status, 403);
    assert_eq!(world.admin("/tlog/latest", "localhost:8001").await.status, 404);
    assert_eq!(world.get("/metrics").await.status, 400, "it is not for everyone");
}
