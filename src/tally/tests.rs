//! What peers say, from proven batches to the accepted log, through a real store.

use std::collections::HashMap;
use std::path::Path;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::log::forms;
use crate::metrics::Metrics;
use crate::model::{AlertKind, Class, Record, Sum};
use crate::peer::{Entry, Peer, Proven, Said, SignedHead};
use crate::quorum::Word;
use crate::store::{AlertRow, LogId};
use crate::tlog::{CompactRange, Head, SignerKey, TreeSize, leaf_hash, sign_note};

/// A node that only verifies, and what its peers have said so far.
struct Court {
    data: tempfile::TempDir,
    voters: Vec<&'static str>,
    tally: Tally,
    store: Store,
    said: HashMap<&'static str, (CompactRange, mpsc::Sender<Proven>)>,
    stop: CancellationToken,
    tasks: tokio_util::task::TaskTracker,
}

fn spec(number: u8) -> Spec {
    format!("example.com/m@v1.0.{number}/linux-amd64-go1.27.1/").parse().expect("a spec")
}

fn key(name: &str) -> SignerKey {
    SignerKey::generate(name, [name.as_bytes()[0]; 32]).expect("a name")
}

/// `1`: a sum; `x`: cannot be built.
fn word(text: &str) -> Word {
    match text {
        "x" => Word::CannotBuild(Class::Cgo),
        number => Word::Sum { size: 9, sum: Sum::from_bytes([number.parse().expect("a number"); 20]) },
    }
}

async fn open(data: &Path) -> (Store, Binaries) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let store = loop {
        // The writer of the node before lets go of the directory a moment after its last handle.
        match Store::open(data, forms(&key("own")), Metrics::new()) {
            Ok(store) => break store,
            Err(error) => assert!(Instant::now() < deadline, "{error:#}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let binaries = Binaries::open(data, u64::MAX, store.clone(), Metrics::new()).await.unwrap();
    (store, binaries)
}

impl Court {
    async fn new(voters: &[&'static str], observed: &[&'static str]) -> Court {
        Court::over(tempfile::tempdir().unwrap(), voters, observed).await
    }

    async fn over(data: tempfile::TempDir, voters: &[&'static str], observed: &[&'static str]) -> Court {
        let (store, binaries) = open(data.path()).await;
        let voter = |name: &&str| Voter {
            name: (*name).to_owned(),
            vkey: key(name).verifier().to_string(),
            own: *name == "own",
        };
        let tally = Tally::new(store.clone(), None, None, binaries, voters.iter().map(voter).collect(), Vec::new());
        let (stop, tasks) = (CancellationToken::new(), tokio_util::task::TaskTracker::new());
        let mut said = HashMap::new();
        for name in voters.iter().chain(observed) {
            let peer = Peer {
                name: (*name).to_owned(),
                key: key(name).verifier(),
                url: "http://127.0.0.1:1/".parse().unwrap(),
                program: None,
                vote: voters.contains(name),
                build_on_claim: true,
            };
            let (send, proven) = mpsc::channel(2);
            let vkey = peer.key.to_string();
            let range = store.read(move |reader| reader.peer_log(&vkey, LogId::Claims)).await.unwrap();
            said.insert(*name, (range.map(|row| row.range).unwrap_or_default(), send));
            tasks.spawn(tally.clone().hear(peer, proven, stop.clone()));
        }
        tasks.spawn(tally.clone().judge_again(stop.clone()));
        Court { data, voters: voters.to_vec(), tally, store, said, stop, tasks }
    }

    /// Ends the node and starts it again with these peers.
    async fn restart(self, voters: &[&'static str], observed: &[&'static str]) -> Court {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        let Court { data, tally, store, said, .. } = self;
        // The last handles to the store.
        drop((tally, store, said));
        Court::over(data, voters, observed).await
    }

    /// `a=1 b=x`: entries of one batch each, all on the spec of this number.
    async fn say(&mut self, number: u8, text: &str) {
        for word in text.split_whitespace() {
            let (name, what) = word.split_once('=').unwrap();
            self.entry(name, spec(number), what).await;
        }
    }

    async fn entry(&mut self, name: &str, spec: Spec, what: &str) {
        let (name, (range, send)) = self.said.iter_mut().find(|(known, _)| **known == name).unwrap();
        let first = range.size().get();
        let text = format!("{name} {first} {spec} {what}\n").into_bytes();
        range.push(leaf_hash(&text));
        let signer = key(name).as_name(&format!("{name}/claims"));
        let head = Head { origin: signer.name().to_owned(), size: range.size(), root: range.root() };
        let note = sign_note(&head.to_text(), &[&signer]);
        let (taken, done) = oneshot::channel();
        let entries = vec![Entry { text, said: Some(Said { spec, word: word(what), at: 1 }) }];
        let (log, root) = (LogId::Claims, range.root());
        send.send(Proven { log, first, entries, root, head: Some(SignedHead { head, note }), taken }).await.unwrap();
        done.await.unwrap();
    }

    /// The verdict on a spec and the kinds of what differs, `!` before those that are open.
    async fn verdict(&self, number: u8) -> String {
        let view = self.tally.view(&spec(number)).await.unwrap();
        let mut text = match (view.state, &view.record) {
            (State::Accepted, Some(row)) => format!("accepted {}", row.record.sum.as_bytes()[0]),
            (State::Waiting, _) => format!("waiting for {}", view.waiting_for.join(" ")),
            (state, _) => state.name().to_owned(),
        };
        let spec = spec(number).to_string();
        for row in self.store.read(|reader| reader.divergences(0, 100)).await.unwrap() {
            if row.spec.as_deref() == Some(&spec) {
                text.push_str(if row.open { " !" } else { " " });
                text.push_str(&row.kind);
            }
        }
        self.check().await;
        text
    }

    /// Whether it is told at the moment that this node cannot build a spec, and how often it was.
    async fn cannot_build(&self, number: u8) -> (bool, usize) {
        let rows = self.store.read(|reader| reader.alerts(0, false, 100)).await.unwrap();
        let spec = spec(number).to_string();
        let about = |row: &&AlertRow| row.kind == AlertKind::CannotBuildHere && row.spec.as_ref() == Some(&spec);
        let rows: Vec<_> = rows.iter().filter(about).collect();
        (rows.iter().any(|row| row.open), rows.len())
    }

    /// What must hold at any time: the accepted log has each spec once, and is what its tree says.
    async fn check(&self) {
        let size = self.store.heads(LogId::Accepted).borrow().size;
        let root = self.store.heads(LogId::Accepted).borrow().root;
        let entries = self.store.read(move |reader| reader.entries(LogId::Accepted, 0, size.get())).await.unwrap();
        let mut range = CompactRange::new();
        let mut specs = std::collections::HashSet::new();
        for entry in &entries {
            range.push(leaf_hash(entry));
            let record = Record::parse(entry).unwrap();
            assert!(specs.insert(record.spec.to_string()), "{} is there twice", record.spec);
        }
        assert_eq!((range.size(), range.root()), (size, root));
        assert_eq!(TreeSize::new(entries.len() as u64), Some(size), "{:?}", self.voters);
    }

    async fn wait_for(&self, number: u8, expected: &str) {
        let mut news = self.tally.news();
        let reached = async {
            while self.verdict(number).await != expected {
                news.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(20), reached)
            .await
            .unwrap_or_else(|_| panic!("it never became {expected}"));
    }
}

#[tokio::test]
async fn verdicts_of_peers() {
    let mut court = Court::new(&["a", "b"], &["o"]).await;
    for (number, (said, expected)) in (0..).zip([
        ("a=1", "waiting for b"),
        ("a=1 b=1", "accepted 1"),
        ("b=1 a=1", "accepted 1"),
        ("a=1 b=2", "disputed !divergence"),
        ("a=1 b=2 b=1", "accepted 1 !divergence !contradiction"),
        ("a=x b=x", "cannot-build"),
        ("a=x b=1", "waiting for a"),
        ("a=x b=1 a=1", "accepted 1"),
        // A record is never withdrawn.
        ("a=1 b=1 b=2", "accepted 1 !contradiction !divergence"),
        ("a=1 b=1 b=x", "accepted 1"),
        // Who only observes blocks nothing, and is not overheard.
        ("o=1", "waiting for a b"),
        ("a=1 b=1 o=1", "accepted 1"),
        ("a=1 b=1 o=2", "accepted 1 !divergence"),
        ("o=2 a=1 b=1", "accepted 1 !divergence"),
        // Nor is that it once named another sum, whatever it said in between.
        ("a=1 b=1 b=x b=2", "accepted 1 !contradiction !divergence"),
        ("a=2 a=x a=x b=1 a=1", "accepted 1 !contradiction"),
        ("a=1 a=x a=1", "waiting for b"),
        // The same again is no news.
        ("a=1 a=1 b=1 b=1", "accepted 1"),
    ]) {
        court.say(number, said).await;
        assert_eq!(court.verdict(number).await, expected, "{said}");
    }
}

#[tokio::test]
async fn what_was_said_stays_over_restarts_and_is_judged_once() {
    let mut court = Court::new(&["a", "b"], &[]).await;
    court.say(1, "a=1 b=1").await;
    court.say(2, "a=1").await;
    let mut court = court.restart(&["a", "b"], &[]).await;
    assert_eq!(court.verdict(1).await, "accepted 1");
    court.say(2, "b=1").await;
    court.say(1, "a=1").await;
    assert_eq!((court.verdict(1).await, court.verdict(2).await), ("accepted 1".into(), "accepted 1".into()));
    assert_eq!(court.tally.known(&spec(2)).await.unwrap().unwrap().number, 1);
}

#[tokio::test]
async fn all_is_judged_anew_when_voters_change() {
    let mut court = Court::new(&["a", "b"], &["o"]).await;
    for number in 0..20 {
        court.say(number, "a=1 o=1").await;
    }
    // Whoever is voter now has spoken already.
    let court = court.restart(&["a"], &["b", "o"]).await;
    for number in 0..20 {
        court.wait_for(number, "accepted 1").await;
    }
    let mut court = court.restart(&["a", "o", "b"], &[]).await;
    court.say(30, "a=1 o=1").await;
    assert_eq!(court.verdict(30).await, "waiting for b");
    let court = court.restart(&["a", "o"], &["b"]).await;
    court.wait_for(30, "accepted 1").await;
}

#[tokio::test]
async fn a_clock_that_was_far_ahead_delays_nothing() {
    let court = Court::new(&["a"], &[]).await;
    let now = Timestamp::now().as_second();
    for (number, next_at, waits) in [(1, now + 1000, true), (2, now - 1, false), (3, now + 10 * 365 * 86_400, false)] {
        let trouble = Trouble { spec: spec(number).to_string(), detail: "no network".to_owned(), tries: 1, next_at };
        court.store.write(move |tx| tx.put_trouble(&trouble)).await.unwrap();
        let answer = court.tally.view(&spec(number)).await.unwrap().answer();
        assert_eq!(matches!(answer, Some(Answer::Waiting { .. })), waits, "{number}: {answer:?}");
    }
    let due = court.store.read(move |reader| reader.due_troubles(now, now + 6 * 3600, 10)).await.unwrap();
    assert_eq!(due.iter().map(|row| row.spec.clone()).collect::<Vec<_>>(), [2, 3].map(|n| spec(n).to_string()));
}

#[tokio::test]
async fn a_quarantined_voter_vetoes_and_never_agrees_until_it_is_released() {
    let mut court = Court::new(&["a", "b"], &[]).await;
    court.say(1, "b=1").await;
    court.say(2, "b=2").await;
    let vkey = key("b").verifier().to_string();
    let convicted = vkey.clone();
    let quarantine = move |tx: &mut crate::store::Tx<'_>| {
        let (id, _) = tx.see_divergence("fork", None, &convicted, Some("{}"))?;
        tx.put_quarantine(&convicted, "it showed two logs", id)
    };
    court.store.write(quarantine).await.unwrap();
    court.say(1, "a=1").await;
    court.say(2, "a=1").await;
    assert_eq!(court.verdict(1).await, "waiting for b");
    assert_eq!(court.verdict(2).await, "disputed !divergence");
    assert!(court.tally.release(vkey.clone(), "a bad disk".to_owned()).await.unwrap());
    court.wait_for(1, "accepted 1").await;
    assert_eq!(court.verdict(2).await, "disputed !divergence");
    assert!(!court.tally.release(vkey, "again".to_owned()).await.unwrap());
    let rows = court.store.read(|reader| reader.divergences(0, 10)).await.unwrap();
    let fork = rows.iter().find(|row| row.kind == "fork").unwrap();
    assert_eq!((fork.open, fork.note.as_deref()), (false, Some("a bad disk")));
}

#[tokio::test]
async fn what_only_others_can_build_is_told_once_until_it_is_built_here() {
    let mut court = Court::new(&["own", "a"], &["o"]).await;
    // What is said, whether it is told then, and how often it was.
    for (number, (said, open, times)) in (0..).zip([
        ("own=x", false, 0),
        ("own=x a=x o=x", false, 0),
        ("own=x a=1", true, 1),
        ("a=1 own=x", true, 1),
        ("own=x o=1", true, 1),
        ("own=x a=1 o=1", true, 1),
        ("own=x a=1 a=2", true, 1),
        ("own=x a=1 own=1", false, 1),
        ("own=x a=1 a=x", false, 1),
        ("own=x a=1 o=1 a=x", true, 1),
        ("own=x a=1 own=1 own=x", false, 1),
        ("own=x o=1 own=1 own=x", true, 2),
        ("own=1 a=1 a=x o=2", false, 0),
    ]) {
        court.say(number, said).await;
        assert_eq!(court.cannot_build(number).await, (open, times), "{said}");
    }
    // A record by those who still vote ends it.
    court.say(20, "own=x a=1").await;
    assert_eq!(court.cannot_build(20).await, (true, 1));
    let court = court.restart(&["a"], &[]).await;
    court.wait_for(20, "accepted 1").await;
    assert_eq!(court.cannot_build(20).await, (false, 1));
}

#[tokio::test]
async fn a_resolved_divergence_opens_again_on_a_new_word_only() {
    let mut court = Court::new(&["a", "b"], &[]).await;
    court.say(1, "a=1 b=2").await;
    assert!(court.tally.resolve(1, "looked at".to_owned()).await.unwrap());
    assert_eq!(court.verdict(1).await, "disputed divergence");
    court.say(1, "a=1 b=2").await;
    assert_eq!(court.verdict(1).await, "disputed divergence");
    court.say(1, "b=3").await;
    assert_eq!(court.verdict(1).await, "disputed divergence !contradiction !divergence");
    let answer = court.tally.record(&spec(1), Duration::from_millis(10)).await;
    assert!(matches!(&answer, Answer::Disputed { sentence, .. } if sentence.contains("/divergences/3")), "{answer:?}");
}

#[tokio::test]
async fn whoever_waits_is_told_the_verdict() {
    let mut court = Court::new(&["a", "b"], &[]).await;
    court.say(1, "a=1").await;
    let tally = court.tally.clone();
    let waiting = court.tasks.spawn(async move { tally.record(&spec(1), Duration::from_secs(30)).await });
    let answer = court.tally.record(&spec(1), Duration::from_millis(20)).await;
    assert!(matches!(&answer, Answer::Waiting { names, .. } if names == &["b"]), "{answer:?}");
    court.say(1, "b=1").await;
    let answer = waiting.await.unwrap();
    assert!(matches!(&answer, Answer::Record(row) if row.number == 0), "{answer:?}");
    // All that are waited for cannot build it.
    court.say(2, "a=1 b=x").await;
    let answer = court.tally.record(&spec(2), Duration::from_secs(30)).await;
    assert!(matches!(&answer, Answer::CannotBuild { party, .. } if party.name == "b"), "{answer:?}");
}
