//! Audits step by step, over a real store; the builder is whoever calls `built`.

use std::path::Path;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::binaries::Binaries;
use crate::log::forms;
use crate::metrics::Metrics;
use crate::model::{Claim, Class, Finding, Sum};
use crate::peer::{Entry, Peer, Proven, SignedHead};
use crate::store::{AuditOrder, AuditState, Errand};
use crate::tally::{Found, Voter, settle};
use crate::tlog::{CompactRange, Head, SignerKey, leaf_hash, sign_note};

/// A node, and one peer that it observes.
struct World {
    data: tempfile::TempDir,
    auditor: Auditor,
    own: Voter,
    range: CompactRange,
}

fn key(name: &str) -> SignerKey {
    SignerKey::generate(name, [name.as_bytes()[0]; 32]).unwrap()
}

fn spec(number: u8) -> Spec {
    format!("example.com/m@v1.0.{number}/linux-amd64-go1.27.1/").parse().unwrap()
}

/// `1`: a sum; `x`: cannot be built.
fn finding(what: &str) -> Finding {
    match what {
        "x" => Finding::CannotBuild { class: Class::Cgo, detail: String::new() },
        number => Finding::Built { size: 9, sum: Sum::from_bytes([number.parse().unwrap(); 20]) },
    }
}

fn claim(number: u8, what: &str) -> Claim {
    Claim {
        spec: spec(number),
        finding: finding(what),
        at: "2026-11-21T09:30:00Z".parse().unwrap(),
        host: "linux/amd64".to_owned(),
        toolchain: "h1:none".to_owned(),
        sandbox: "none".to_owned(),
    }
}

async fn open(data: &Path) -> Store {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        // The writer of the node before lets go of the directory a moment after its last handle.
        match Store::open(data, forms(&key("own")), Metrics::new()) {
            Ok(store) => return store,
            Err(error) => assert!(Instant::now() < deadline, "{error:#}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl World {
    async fn new(selection: Selection) -> World {
        let data = tempfile::tempdir().unwrap();
        World::over(data, selection, CompactRange::new()).await
    }

    async fn over(data: tempfile::TempDir, selection: Selection, range: CompactRange) -> World {
        let store = open(data.path()).await;
        let binaries = Binaries::open(data.path(), u64::MAX, store.clone(), Metrics::new()).await.unwrap();
        let own = Voter { name: "own".to_owned(), vkey: key("own").verifier().to_string(), own: true };
        let tally = Tally::new(store.clone(), None, None, binaries, vec![own.clone()], Vec::new());
        let vkey = key("beta").verifier().to_string();
        let peer = vkey.clone();
        store.write(move |tx| tx.put_peer_program(&peer, "sumpeer", LogId::Claims)).await.unwrap();
        let audited = vec![("beta".to_owned(), vkey)];
        let auditor = Auditor { store, tally, peers: Peers::default(), audited, selection, per_day: None };
        World { data, auditor, own, range }
    }

    /// Ends the node, and starts it again with another selection.
    async fn restart(self, selection: Selection) -> World {
        let World { data, auditor, range, .. } = self;
        drop(auditor);
        World::over(data, selection, range).await
    }

    /// The peer claims `1=5 2=x`, in one batch.
    async fn says(&mut self, words: &str) {
        let first = self.range.size().get();
        let entries: Vec<Entry> = words
            .split_whitespace()
            .map(|word| {
                let (number, what) = word.split_once('=').unwrap();
                let text = claim(number.parse().unwrap(), what).to_text().into_bytes();
                self.range.push(leaf_hash(&text));
                Entry { said: Said::parse(LogId::Claims, &text), text }
            })
            .collect();
        let signer = key("beta").as_name("beta/claims");
        let head = Head { origin: signer.name().to_owned(), size: self.range.size(), root: self.range.root() };
        let head = SignedHead { note: sign_note(&head.to_text(), &[&signer]), head };
        let (taken, done) = oneshot::channel();
        let (send, proven) = mpsc::channel(1);
        let batch = Proven { log: LogId::Claims, first, entries, root: self.range.root(), head: Some(head), taken };
        send.send(batch).await.unwrap();
        let peer = Peer {
            name: "beta".to_owned(),
            key: key("beta").verifier(),
            url: "http://127.0.0.1:1/".parse().unwrap(),
            program: None,
            vote: false,
            build_on_claim: false,
        };
        let hear = self.auditor.tally.clone().hear(peer, proven, CancellationToken::new());
        tokio::select! {
            ended = hear => panic!("{ended:?}"),
            heard = done => heard.unwrap(),
        }
    }

    /// Looks at all there is, and begins what there is room for on this day.
    async fn step(&self, day: i64) {
        let seed = self.auditor.store.write(|tx| tx.audit_seed()).await.unwrap();
        while self.auditor.look("beta", &self.auditor.audited[0].1, seed).await.unwrap() {}
        self.auditor.begin(day).await.unwrap();
    }

    /// This node's builder has found `1=5 2=x`.
    async fn built(&self, words: &str) {
        for word in words.split_whitespace() {
            let (number, what) = word.split_once('=').unwrap();
            let found = Found { claim: claim(number.parse().unwrap(), what), binary: None, log_gz: Vec::new() };
            let (own, voters) = (self.own.clone(), vec![self.own.clone()]);
            self.auditor.store.write(move |tx| settle(tx, &own, &voters, &found)).await.unwrap();
        }
    }

    /// The builds that are due, and what came of each chosen entry: `+` reproduced, `-` differs, `x` not to be built here,
    /// `?` pending; `~` after what was reproduced before.
    async fn shows(&self) -> String {
        let vkey = self.auditor.audited[0].1.clone();
        let read = self.auditor.store.read(move |reader| {
            let mut text: Vec<String> = Vec::new();
            for (spec, errand) in reader.due(100)? {
                assert_eq!(errand, Errand::Audit);
                text.push(spec.split(['.', '/']).nth(4).unwrap().to_owned());
            }
            let mut text = format!("due {} of", text.join(" "));
            let Some(position) = reader.audit_position(&vkey, LogId::Claims)? else {
                return Ok(text);
            };
            let counts = position.audited.map(|audited| audited.counts).unwrap_or_default();
            let rows = reader.audit_rows(position.log, AuditOrder::OldestFirst, 100)?;
            let mut states = [0; 4];
            for row in rows {
                let (at, sign) = match row.state {
                    AuditState::Pending => (0, '?'),
                    AuditState::Reproduced => (1, '+'),
                    AuditState::Differs => (2, '-'),
                    AuditState::CannotBuild(_) => (3, 'x'),
                };
                states[at] += 1;
                text.push_str(&format!(" {}{sign}", row.number));
                if row.reproduced_at.is_some() && row.state != AuditState::Reproduced {
                    text.push('~');
                }
            }
            assert_eq!(states, [counts.pending(), counts.reproduced, counts.differs, counts.cannot_build]);
            Ok(text)
        });
        read.await.unwrap()
    }
}

#[tokio::test]
async fn each_entry_comes_to_what_both_words_say() {
    let mut world = World::new(Selection::all()).await;
    world.says("1=5 2=5 3=5 4=x").await;
    world.built("1=5").await;
    world.step(1).await;
    assert_eq!(world.shows().await, "due 2 3 of 0+ 1? 2?", "what was built already is not built again");
    world.built("2=6 3=x").await;
    assert_eq!(world.shows().await, "due  of 0+ 1- 2x");
    world.step(1).await;
    assert_eq!(world.shows().await, "due  of 0+ 1- 2x", "nothing is done twice");
    let open = world.auditor.store.read(|reader| reader.count_open_divergences()).await.unwrap();
    assert_eq!(open, 1, "what differs is a divergence");
}

#[tokio::test]
async fn what_reproduced_before_and_differs_now_is_told_as_such() {
    let mut world = World::new(Selection::all()).await;
    world.says("1=5 2=5").await;
    world.step(1).await;
    world.built("1=5 2=5").await;
    assert_eq!(world.shows().await, "due  of 0+ 1+");
    // The peer changes its mind about one, this node about the other.
    world.says("1=6").await;
    world.step(1).await;
    world.built("2=7").await;
    assert_eq!(world.shows().await, "due  of 0+ 1-~ 2-~");
}

#[tokio::test]
async fn history_order_and_budget_are_kept_over_restarts() {
    let newest = Selection { history: false, ..Selection::all() };
    let mut world = World::new(newest.clone()).await;
    world.auditor.per_day = NonZeroU32::new(2);
    world.says("1=5 2=5").await;
    world.says("3=5 4=5 5=5 6=5 7=5").await;
    world.step(1).await;
    assert_eq!(world.shows().await, "due 6 7 of 2? 3? 4? 5? 6?", "the newest, not before the first head");
    let mut world = world.restart(newest.clone()).await;
    world.auditor.per_day = NonZeroU32::new(2);
    world.built("6=5").await;
    world.step(1).await;
    assert_eq!(world.shows().await, "due 7 of 2? 3? 4? 5+ 6?", "the day's budget is spent");
    world.step(2).await;
    assert_eq!(world.shows().await, "due 4 5 7 of 2? 3? 4? 5+ 6?");
    let world = world.restart(Selection { order: AuditOrder::OldestFirst, ..newest }).await;
    world.step(2).await;
    assert_eq!(world.shows().await, "due 3 4 5 7 of 2? 3? 4? 5+ 6?");
}

#[tokio::test]
async fn another_selection_chooses_anew_and_keeps_what_was_found() {
    let mut world = World::new(Selection::all()).await;
    world.says("1=5 2=5 3=5").await;
    world.step(1).await;
    world.built("1=5 2=6").await;
    let world = world.restart(Selection { from: Some(1), ..Selection::all() }).await;
    world.step(1).await;
    assert_eq!(world.shows().await, "due 3 of 1- 2?");
    let world = world.restart(Selection { sample: 0.0, ..Selection::all() }).await;
    world.step(1).await;
    assert_eq!(world.shows().await, "due 3 of", "what was begun is still built");
    let world = world.restart(Selection::all()).await;
    world.step(1).await;
    assert_eq!(world.shows().await, "due 3 of 0+ 1- 2?");
}

#[tokio::test]
async fn a_limit_takes_the_first_of_the_order() {
    let mut world = World::new(Selection { limit: Some(2), ..Selection::all() }).await;
    world.says("1=5 2=5 3=5 4=5").await;
    world.step(1).await;
    assert_eq!(world.shows().await, "due  of 0? 1? 2? 3?", "a peer whose head is not known may have more");
    let log = |reader: &Reader<'_>, vkey: &str| reader.audit_position(vkey, LogId::Claims).map(|row| row.unwrap().log);
    let vkey = world.auditor.audited[0].1.clone();
    let begin = move |reader: &Reader<'_>| {
        let log = log(reader, &vkey)?;
        let numbers = |order| {
            let rows = reader.audit_to_begin(log, order, Some(2), 100)?;
            anyhow::Ok(rows.into_iter().map(|(number, _)| number).collect::<Vec<_>>())
        };
        Ok((numbers(AuditOrder::NewestFirst)?, numbers(AuditOrder::OldestFirst)?))
    };
    let (newest, oldest) = world.auditor.store.read(begin).await.unwrap();
    assert_eq!((newest, oldest), (vec![3, 2], vec![0, 1]));
}
