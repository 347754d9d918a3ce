//! The store from outside: what is committed is there again, what is not is gone, and doubt stops it.

use std::path::Path;

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::tlog::{CompactRange, SignerKey, leaf_hash};

fn key(name: &str) -> SignerKey {
    SignerKey::generate(name, [7; 32]).expect("a key")
}

fn open(data: &Path) -> anyhow::Result<Store> {
    Store::open(data, crate::log::forms(&key("node.example")), Metrics::new())
}

/// The writer thread of a dropped store ends a moment later.
async fn reopen(data: &Path) -> anyhow::Result<Store> {
    for _ in 0..200 {
        match open(data) {
            Err(error) if error.to_string().contains("another node") => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            other => return other,
        }
    }
    open(data)
}

fn text(number: u64) -> String {
    format!("entry {number}\n")
}

/// Appends entries up to a size, many to a transaction.
async fn grow(store: &Store, log: LogId, size: u64) {
    store
        .write(move |tx| {
            loop {
                let next = tx.trees.next_number(log);
                if next >= size {
                    return Ok(());
                }
                tx.append_entry(log, text(next).as_bytes())?;
            }
        })
        .await
        .expect("grown");
}

fn root_of(size: u64) -> crate::tlog::Hash {
    let mut range = CompactRange::new();
    (0..size).for_each(|number| range.push(leaf_hash(text(number).as_bytes())));
    range.root()
}

#[tokio::test]
async fn a_log_is_the_same_after_a_restart_at_any_size() {
    let data = TempDir::new().expect("a folder");
    let mut sizes = vec![0, 1, 2, 3, 255, 256, 257, 511, 512, 700, 65_535, 65_536, 65_537, 66_000];
    for size in sizes.drain(..) {
        let store = reopen(data.path()).await.expect("opened");
        grow(&store, LogId::Accepted, size).await;
        let published = store.heads(LogId::Accepted).borrow().clone();
        assert_eq!((published.size.get(), published.root), (size, root_of(size)), "at {size}");
        drop(store);
        let store = reopen(data.path()).await.expect("opened again");
        assert_eq!(*store.heads(LogId::Accepted).borrow(), published, "after a restart at {size}");
    }
}

#[tokio::test]
async fn a_failed_job_leaves_nothing_and_harms_no_other() {
    let data = TempDir::new().expect("a folder");
    let store = open(data.path()).expect("opened");
    let good = store.write(|tx| tx.append_entry(LogId::Claims, text(0).as_bytes()));
    let bad = store.write(|tx| {
        tx.append_entry(LogId::Claims, b"never\n")?;
        anyhow::bail!("changed my mind") as anyhow::Result<()>
    });
    let also_good = store.write(|tx| tx.append_entry(LogId::Claims, text(1).as_bytes()));
    let (good, bad, also_good) = tokio::join!(good, bad, also_good);
    assert_eq!((good.expect("appended"), also_good.expect("appended")), (0, 1));
    assert_eq!(bad.expect_err("refused").to_string(), "changed my mind");
    let head = store.heads(LogId::Claims).borrow().clone();
    assert_eq!((head.size.get(), head.root), (2, root_of(2)));
    let entries = store.read(|reader| reader.entries(LogId::Claims, 0, 10)).await.expect("read");
    assert_eq!(entries, [text(0).into_bytes(), text(1).into_bytes()]);
}

#[tokio::test]
async fn a_second_node_is_refused() {
    let data = TempDir::new().expect("a folder");
    let _store = open(data.path()).expect("opened");
    let error = open(data.path()).err().expect("locked");
    assert!(error.to_string().contains("another node is running"), "{error}");
}

#[tokio::test]
async fn another_key_is_refused() {
    let data = TempDir::new().expect("a folder");
    let store = open(data.path()).expect("opened");
    grow(&store, LogId::Claims, 3).await;
    drop(store);
    reopen(data.path()).await.expect("the same key");
    for other in [SignerKey::generate("node.example", [8; 32]).expect("a key"), key("other.example")] {
        let forms = crate::log::forms(&other);
        let error = loop {
            match Store::open(data.path(), crate::log::forms(&other), Metrics::new()).err() {
                Some(error) if error.to_string().contains("another node") => std::thread::yield_now(),
                other => break other.expect("refused"),
            }
        };
        let said = format!("{error:#}");
        assert!(said.contains("signed"), "{}: {said}", forms.accepted[0].signer.name());
    }
}

/// Every way in which the edge can be damaged keeps the node from signing on.
#[tokio::test]
async fn a_damaged_edge_is_refused() {
    for damage in [
        "UPDATE accepted_entry SET text = x'00' WHERE number = 599",
        "UPDATE accepted_entry SET text = x'00' WHERE number = 512",
        "DELETE FROM accepted_entry WHERE number = 599",
        "INSERT INTO accepted_entry VALUES (600, x'00')",
        "UPDATE tile SET hashes = zeroblob(8192) WHERE level = 0 AND idx = 1",
        "UPDATE tile SET hashes = zeroblob(64) WHERE level = 1",
        "UPDATE tile SET hashes = substr(hashes, 1, 32) WHERE level = 1",
        "DELETE FROM tile WHERE level = 1",
        "DELETE FROM tile WHERE level = 0 AND idx = 2",
        "UPDATE head SET size = 599 WHERE log = 0",
        "UPDATE head SET root = zeroblob(32) WHERE log = 0",
        "UPDATE head SET note = replace(note, '600', '601') WHERE log = 0",
        "DELETE FROM head WHERE log = 0",
        "DELETE FROM head WHERE log = 0 AND origin LIKE 'go.sum%'",
        "UPDATE head SET note = (SELECT note FROM head WHERE log = 1) WHERE log = 0",
    ] {
        let data = TempDir::new().expect("a folder");
        let store = open(data.path()).expect("opened");
        grow(&store, LogId::Accepted, 600).await;
        drop(store);
        drop(reopen(data.path()).await.expect("sound before"));
        let conn = Connection::open(data.path().join(DATABASE)).expect("opened");
        assert!(conn.execute(damage, []).expect("damaged") > 0, "{damage}");
        drop(conn);
        assert!(reopen(data.path()).await.is_err(), "started after {damage}");
    }
}

#[tokio::test]
async fn a_full_disk_ends_the_writer_and_loses_nothing() {
    let data = TempDir::new().expect("a folder");
    let store = open(data.path()).expect("opened");
    grow(&store, LogId::Claims, 10).await;
    store
        .write(|tx| {
            let pages: i64 = tx.reader.conn.query_row("PRAGMA page_count", [], |row| row.get(0))?;
            tx.reader.conn.pragma_update(None, "max_page_count", pages + 1)?;
            Ok(())
        })
        .await
        .expect("limited");
    let mut failed = None;
    for _ in 0..200 {
        if let Err(error) = store.write(|tx| tx.append_entry(LogId::Claims, &[b'x'; 4000])).await {
            failed = Some(error);
            break;
        }
    }
    let failed = failed.expect("the limit was reached").to_string();
    let told = store.failed().await.to_string();
    assert!(told.contains("cannot be written") && told.contains("full"), "{told}");
    // Either may be what the operator gets to read.
    assert_eq!(failed, told);
    let error = store.write(|_| Ok(())).await.expect_err("ended");
    assert!(error.to_string().contains("full"), "{error}");
    let announced = store.heads(LogId::Claims).borrow().size.get();
    drop(store);
    let store = reopen(data.path()).await.expect("sound");
    assert_eq!(store.heads(LogId::Claims).borrow().size.get(), announced);
}

#[tokio::test]
async fn logs_of_peers_lie_side_by_side() {
    let data = TempDir::new().expect("a folder");
    let store = open(data.path()).expect("a store");
    let sizes = [3, 1, 2];
    let counts = store.write(move |tx| {
        let mut logs = Vec::new();
        for (size, party) in sizes.into_iter().zip(["a", "b", "c"]) {
            let log = tx.open_peer_log(party, LogId::Claims)?.id;
            let texts: Vec<_> = (0..size).map(|number| text(number).into_bytes()).collect();
            tx.extend_peer_log(log, 0, &texts, &root_of(size), None)?;
            logs.push(log);
        }
        logs.into_iter()
            .map(|log| Ok((tx.count_peer_entries(log)?, tx.peer_entries(log, 0, u64::MAX)?.len() as u64)))
            .collect::<anyhow::Result<Vec<_>>>()
    });
    let counts = counts.await.expect("stored");
    assert_eq!(counts, sizes.map(|size| (size, size)), "each has its own entries, up to its end and no further");
}

#[tokio::test]
async fn alerts_are_stored_once_and_put_before_the_channels_there_are() {
    use crate::model::AlertKind;

    let data = TempDir::new().expect("a folder");
    let store = open(data.path()).expect("a store");
    let silent = |kind| NewAlert { kind, spec: None, party: Some("b+1+x"), summary: "b is silent.", divergence: None };
    let done = store.write(move |tx| {
        let nobody = tx.raise(&silent(AlertKind::Disk))?;
        tx.set_channels(&["one".to_owned(), "two".to_owned()], &[])?;
        let first = tx.raise(&silent(AlertKind::PeerSilent))?;
        let again = tx.raise(&silent(AlertKind::PeerSilent))?;
        let (fork, _) = tx.see_divergence("fork", None, "b+1+x", Some("{}"))?;
        tx.see_divergence("fork", None, "b+1+x", Some("{}"))?;
        assert!(tx.see_divergence("no-such-kind", None, "b+1+x", None).is_err());
        assert!(tx.end_alert(AlertKind::PeerSilent, Some("b+1+x"), None)?);
        assert!(!tx.end_alert(AlertKind::PeerSilent, Some("b+1+x"), None)?);
        assert!(!tx.end_alert(AlertKind::Disk, None, None)?, "that one is about a party");
        assert!(tx.resolve_divergence(fork, "restored")?);
        assert!(!tx.resolve_divergence(fork, "again")?);
        Ok((nobody.1, first, again))
    });
    let told = store.told();
    let (nobody, first, again) = done.await.expect("stored");
    assert!(nobody && first.1 && !again.1 && first.0 == again.0);
    assert!(told.has_changed().expect("open"), "whoever delivers is woken");
    let (open, all, one, event) = store
        .read(|reader| {
            let one = reader.pending("one", 10)?;
            let event = reader.alert_event(one[0].event)?;
            Ok((reader.alerts(0, true, 10)?, reader.newest_alerts(None, 10)?, one, event))
        })
        .await
        .expect("read");
    let kinds = |rows: &[AlertRow]| rows.iter().map(|row| row.kind.as_str()).collect::<Vec<_>>();
    assert_eq!((kinds(&open), kinds(&all)), (vec!["disk"], vec!["fork", "peer-silent", "disk"]));
    assert_eq!(one.len(), 4, "two alerts, raised and ended; nothing of what was before the channel");
    assert_eq!((event.alert, event.open, event.uid.len()), (first.0, true, 32));

    let dropped = store.write(|tx| tx.set_channels(&["two".to_owned()], &[])).await.expect("stored");
    assert_eq!(dropped, [("one".to_owned(), 4)]);
}

#[tokio::test]
async fn a_divergence_found_before_there_were_alerts_has_one_that_nobody_is_told_of() {
    let data = TempDir::new().expect("a folder");
    schema::make_old(
        &data.path().join(DATABASE),
        2,
        "
        INSERT INTO party (id, vkey) VALUES (1, 'b+1+x');
        INSERT INTO divergence (id, kind, party, open, first_seen, last_seen) VALUES (7, 'fork', 1, 1, 5, 6);
        INSERT INTO divergence (id, kind, party, open, first_seen, last_seen) VALUES (8, 'bad-root', 1, 0, 5, 6);
    ",
    );
    let store = open(data.path()).expect("brought up to date");
    let rows = store.read(|reader| reader.alerts(0, false, 10)).await.expect("read");
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!((row.divergence, row.open, row.first_seen, row.last_seen), (Some(7), true, 5, 6));
    assert!(store.write(|tx| tx.resolve_divergence(7, "settled")).await.expect("stored"));
    assert_eq!(store.read(|reader| reader.count_open_alerts()).await.expect("read"), 0);
}
