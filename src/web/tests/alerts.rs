//! What the operator is told of, for programs and for people.

use super::world::World;
use crate::model::AlertKind;
use crate::store::NewAlert;

const ADMIN: &str = "127.0.0.1:8001";

#[tokio::test]
async fn alerts_are_listed_in_pages_and_shown_while_they_hold() {
    let world = World::new().await;
    assert_eq!(world.get("/api/v1/alerts").await.json()["items"], serde_json::json!([]));
    let raised = world.state.store.write(|tx| {
        tx.set_channels(&["webhook:nowhere#1".to_owned()], &[])?;
        let alert = |kind, summary| NewAlert { kind, spec: None, party: Some("beta+1+x"), summary, divergence: None };
        tx.raise(&alert(AlertKind::PeerSilent, "beta is <b>silent</b>."))?;
        tx.raise(&alert(AlertKind::PeerBack, "beta is back."))?;
        tx.see_divergence("fork", None, "beta+1+x", None)?;
        tx.end_alert(AlertKind::PeerBack, Some("beta+1+x"), None)
    });
    assert!(raised.await.unwrap());

    let page = world.get("/api/v1/alerts?limit=2").await.json();
    let (items, next) = (page["items"].as_array().unwrap(), page["next"].as_str().unwrap());
    assert_eq!((items.len(), next), (2, "2"));
    let silent = &items[0];
    assert_eq!(
        (&silent["kind"], &silent["state"], &silent["party"]),
        (&"peer-silent".into(), &"open".into(), &"beta".into())
    );
    assert_eq!((&items[1]["state"], &items[1]["summary"]), (&"resolved".into(), &"Over: beta is back.".into()));
    let rest = world.get(&format!("/api/v1/alerts?after={next}")).await.json();
    assert_eq!((rest["items"].as_array().unwrap().len(), &rest["next"]), (1, &serde_json::Value::Null));
    assert!(rest["items"][0]["url"].as_str().unwrap().ends_with("/divergences/1"), "{rest}");
    let open = world.get("/api/v1/alerts?state=open").await.json();
    assert_eq!(open["items"].as_array().unwrap().len(), 2);
    assert_eq!(world.get("/api/v1/alerts/1").await.json(), *silent);
    for (path, status) in [("/api/v1/alerts?state=closed", 400), ("/api/v1/alerts/9", 404), ("/channels", 400)] {
        assert_eq!(world.get(path).await.status.as_u16(), status, "{path}");
    }

    let page = world.browse("/divergences").await.text().to_owned();
    assert!(page.contains("beta is &#60;b&#62;silent&#60;/b&#62;.") && !page.contains("beta is back"), "{page}");
    let behind = world.admin("/channels", ADMIN).await.json();
    assert_eq!(
        (&behind["items"][0]["channel"], &behind["items"][0]["pending"]),
        (&"webhook:nowhere#1".into(), &4.into())
    );
    let metrics = world.admin("/metrics", ADMIN).await.text().to_owned();
    for line in ["sumpeer_alerts_open 2", "sumpeer_alerts_pending{channel=\"webhook:nowhere#1\"} 4"] {
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
}
