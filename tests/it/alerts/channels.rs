//! Channels over a store, with pauses and limits that a test can wait for.

use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use sumpeer::alert::{Author, Channel, Channels, HookLimits, Hooks, Journal, Office, Pace, Webhook, WebhookLimits};
use sumpeer::log::forms;
use sumpeer::metrics::Metrics;
use sumpeer::model::AlertKind;
use sumpeer::store::{Backlog, NewAlert, Store};
use sumpeer::tasks::Tasks;
use sumpeer::tlog::SignerKey;
use tempfile::TempDir;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::receiver::{Mood, Receiver};
use super::{each_once_and_in_order, trouble};
use crate::world::{free_address, released, scratch};

const PATIENCE: Duration = Duration::from_secs(60);
const LIMITS: WebhookLimits = WebhookLimits { first_byte: Duration::from_secs(2), body: Duration::from_millis(500) };
const PACE: Pace = Pace {
    first: Duration::from_millis(20),
    longest: Duration::from_millis(100),
    longest_hook: Duration::from_millis(100),
    give_up: Duration::from_secs(3600),
};

/// A store, and what channels need.
struct Rig {
    folder: TempDir,
    office: Office,
}

impl Rig {
    fn new(pace: Pace) -> Rig {
        Rig::at(scratch(), pace)
    }

    fn at(folder: TempDir, pace: Pace) -> Rig {
        let key = SignerKey::generate("node.example", [7; 32]).expect("a key");
        let store = Store::open(folder.path(), forms(&key), Metrics::new()).expect("a store");
        let author = Author {
            name_of: Arc::new(|vkey| vkey.split('+').next().unwrap_or_default().to_owned()),
            evidence: Arc::new(|_, row| Ok(row.evidence.clone())),
            base: "http://node.example".to_owned(),
        };
        Rig { folder, office: Office::new(store, author, pace, Metrics::new()) }
    }

    /// An empty folder for hooks.
    fn hooks(&self, limits: HookLimits) -> (Channel, std::path::PathBuf) {
        let folder = self.folder.path().join("hooks");
        fs::create_dir(&folder).expect("a folder");
        let hooks = Hooks::new(&folder, limits).expect("hooks");
        let (scratch, author) = (self.folder.path().join("alerts"), self.office.author.clone());
        let hooks = hooks.with_evidence(&scratch, self.office.store.clone(), author).expect("a folder");
        (Channel::Hooks(hooks), folder)
    }

    /// Runs the channels while something happens.
    async fn run(&self, list: Vec<Channel>, story: impl Future<Output = ()>) {
        let stop = CancellationToken::new();
        let channels = Channels::new(list, "node.example", "http://node.example");
        channels.open(&self.office.store).await.expect("opened");
        let mut tasks = Tasks::new(stop.clone());
        channels.spawn(&self.office, &mut tasks, &stop);
        let running = tasks.run();
        tokio::pin!(running);
        tokio::select! {
            ended = &mut running => panic!("{ended:?}"),
            () = story => {}
        }
        stop.cancel();
        running.await.expect("stopped");
    }

    /// Raises an alert about one spec.
    async fn raise(&self, number: u32) {
        let raised = self.office.store.write(move |tx| {
            let spec = format!("example.com/m@v1.0.{number}/linux-amd64-go1.27.1/").parse()?;
            let spec = Some(tx.make_spec_id(&spec)?);
            let summary = format!("Number {number}.");
            let kind = AlertKind::CannotBuildHere;
            tx.raise(&NewAlert { kind, spec, party: None, summary: &summary, divergence: None })
        });
        assert!(raised.await.expect("raised").1);
    }

    async fn backlogs(&self) -> Vec<Backlog> {
        self.office.store.read(|reader| reader.backlogs()).await.expect("read")
    }

    async fn until(&self, what: &str, holds: impl Fn(&[Backlog]) -> bool) {
        let began = Instant::now();
        loop {
            let backlogs = self.backlogs().await;
            if holds(&backlogs) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{what}: {backlogs:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn webhook(url: &str) -> Channel {
    Channel::Webhook(Webhook::new(url.parse().expect("an address"), None, LIMITS).expect("a client"))
}

#[tokio::test]
async fn whatever_a_receiver_does_it_is_said_and_tried_again_until_it_takes_it() {
    let rig = Rig::new(PACE);
    let elsewhere = Receiver::at("127.0.0.1:0", Mood::Takes);
    let receiver = Receiver::at("127.0.0.1:0", Mood::Takes);
    let story = async {
        let moods = [
            (Mood::Refuses(500, "out of\nmemory"), "it answers 500 Internal Server Error: out of memory"),
            (Mood::Refuses(404, ""), "it answers 404 Not Found"),
            (Mood::Redirects(elsewhere.url()), "it answers 302 Found and leads to http://127.0.0.1"),
            (Mood::Hangs, "no answer within 2s"),
            (Mood::RefusesWithoutEnd, "it answers 500 Internal Server Error: xxx"),
        ];
        for (number, (mood, why)) in (0..).zip(moods) {
            receiver.becomes(mood);
            rig.raise(number).await;
            rig.until(why, |backlogs| {
                backlogs.iter().any(|row| row.error.as_ref().is_some_and(|error| error.starts_with(why)))
            })
            .await;
            receiver.becomes(if number % 2 == 0 { Mood::Takes } else { Mood::TakesWithoutEnd });
            rig.until("taken", <[Backlog]>::is_empty).await;
        }
    };
    rig.run(vec![webhook(&receiver.url())], story).await;
    let taken = receiver.taken();
    let summaries: Vec<&str> = taken.iter().filter_map(|one| one.body["summary"].as_str()).collect();
    assert_eq!(summaries, ["Number 0.", "Number 1.", "Number 2.", "Number 3.", "Number 4."]);
    for one in receiver.received() {
        let same = taken.iter().find(|taken| taken.id == one.id).expect("the same id at every try");
        assert_eq!((&one.body, &one.signature), (&same.body, &None));
    }
    assert!(elsewhere.received().is_empty(), "a redirect is not followed");
}

#[tokio::test]
async fn one_that_is_down_holds_up_no_other() {
    let rig = Rig::new(PACE);
    let receiver = Receiver::at("127.0.0.1:0", Mood::Takes);
    let down = format!("http://{}/alerts", free_address());
    let list = || vec![Channel::Journal(Journal), webhook(&down), webhook(&receiver.url())];
    let story = async {
        for number in 0..20 {
            rig.raise(number).await;
        }
        rig.until("all but one have been told", |backlogs| backlogs.len() == 1 && backlogs[0].pending == 20).await;
        rig.until("it is said why", |backlogs| backlogs[0].error.is_some()).await;
        rig.until("they are counted", |_| {
            let metrics = rig.office.metrics.to_text();
            let mut counts = metrics.lines().filter(|line| line.starts_with("sumpeer_alert_deliveries_total"));
            counts.any(|line| line.contains("journal") && line.contains("delivered") && line.ends_with(" 20"))
        })
        .await;
    };
    rig.run(list(), story).await;
    assert_eq!(receiver.taken().len(), 20);
    // A channel that goes takes what it has yet to be told with it; one that comes is told nothing old.
    let late = Receiver::at("127.0.0.1:0", Mood::Takes);
    let story = async {
        assert!(rig.backlogs().await.is_empty());
        rig.raise(99).await;
        rig.until("taken", <[Backlog]>::is_empty).await;
    };
    rig.run(vec![webhook(&receiver.url()), webhook(&late.url())], story).await;
    assert_eq!((receiver.taken().len(), late.taken().len()), (21, 1));
}

/// Writes an executable script.
fn script(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    // Whole before it has its name: it may be run at once.
    let new = folder.join(".new");
    fs::write(&new, format!("#!/bin/sh\n{text}\n")).expect("written");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("executable");
    fs::rename(new, path).expect("renamed");
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

#[tokio::test]
async fn each_hook_runs_once_an_event_whatever_the_others_do() {
    let rig = Rig::new(PACE);
    let (channel, folder) = rig.hooks(HookLimits { time: Duration::from_millis(700), output: 100 });
    let at = |name: &str| rig.folder.path().join(name);
    let out = rig.folder.path().display().to_string();
    script(&folder, "10-good", &format!("echo $SUMPEER_ALERT_SUMMARY >> {out}/good"));
    script(&folder, "20-hangs", &format!("sleep 1000 & echo $! > {out}/child; wait"));
    script(&folder, "30-floods", &format!("yes | head -c 3000000; echo x >> {out}/flood"));
    script(
        &folder,
        "40-fails",
        &format!("echo x >> {out}/fails; test -e {out}/mended || {{ echo broken >&2; exit 3; }}"),
    );
    fs::write(folder.join("50-plain"), "no program").expect("written");
    fs::create_dir(folder.join("60-folder")).expect("a folder");
    let error = |backlogs: &[Backlog], name: &str| {
        backlogs.iter().find(|row| row.channel == name).and_then(|row| row.error.clone()).unwrap_or_default()
    };
    let story = async {
        rig.raise(0).await;
        rig.until("the one that hangs is killed", |backlogs| {
            error(backlogs, "hook:20-hangs") == "it was killed after 700ms"
        })
        .await;
        let child = fs::read_to_string(at("child")).expect("it has begun");
        assert!(
            !Path::new(&format!("/proc/{}", child.trim())).exists() || is_dead(child.trim()),
            "its child is killed"
        );
        rig.until("the one that fails is tried again", |backlogs| {
            error(backlogs, "hook:40-fails") == "it ended with exit status: 3: broken" && lines(&at("fails")) > 1
        })
        .await;
        assert_eq!((lines(&at("good")), lines(&at("flood"))), (1, 1), "the others have run once");
        fs::write(at("mended"), "").expect("written");
        rig.until("it is mended", |backlogs| backlogs.len() == 1).await;
        // One that is taken away.
        fs::remove_file(folder.join("20-hangs")).expect("removed");
        rig.until("it is gone", <[Backlog]>::is_empty).await;
        // One that is added.
        script(&folder, "05-new", &format!("echo $SUMPEER_ALERT_SUMMARY >> {out}/new"));
        rig.raise(1).await;
        rig.until("all have run", |backlogs| backlogs.is_empty() && lines(&at("new")) > 0).await;
        assert_eq!(fs::read_to_string(at("new")).expect("it has run"), "Number 1.\n", "nothing old");
        assert_eq!(fs::read_to_string(at("good")).expect("it has run"), "Number 0.\nNumber 1.\n");
        // The folder itself goes, and comes back.
        fs::rename(&folder, at("away")).expect("renamed");
        rig.raise(2).await;
        rig.until("it is missed", |backlogs| error(backlogs, "hooks").contains("cannot read the folder")).await;
        fs::rename(at("away"), &folder).expect("renamed");
        rig.until("all have run", <[Backlog]>::is_empty).await;
        assert_eq!(lines(&at("good")), 3);
    };
    rig.run(vec![channel], story).await;
}

/// Whether a process has ended, and only its parent has yet to look.
fn is_dead(id: &str) -> bool {
    fs::read_to_string(format!("/proc/{id}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

#[tokio::test]
async fn a_hook_gets_what_there_is_to_know_and_is_given_up_in_the_end() {
    let rig = Rig::new(Pace { give_up: Duration::ZERO, ..PACE });
    let (channel, folder) = rig.hooks(HookLimits::default());
    let out = rig.folder.path().display().to_string();
    script(
        &folder,
        "knows",
        &format!("env | sort | grep ^SUMPEER >> {out}/env; cat $SUMPEER_EVIDENCE > {out}/proof; pwd >> {out}/env"),
    );
    script(&folder, "never", &format!("echo x >> {out}/never; exit 1"));
    let story = async {
        let seen = rig.office.store.write(|tx| tx.see_divergence("fork", None, "beta+1+x", Some("{\"a\": 1}")));
        let (id, _) = seen.await.expect("stored");
        rig.until("it has run", |_| Path::new(&format!("{out}/proof")).exists()).await;
        rig.until("the other is given up", |backlogs| backlogs.is_empty()).await;
        let resolved = rig.office.store.write(move |tx| tx.resolve_divergence(id, "it\0was restored"));
        assert!(resolved.await.expect("stored"));
        rig.until("all have run", |backlogs| {
            backlogs.is_empty() && fs::read_to_string(format!("{out}/env")).is_ok_and(|env| env.contains("=resolved"))
        })
        .await;
    };
    rig.run(vec![channel], story).await;
    let env = fs::read_to_string(format!("{out}/env")).expect("it has run");
    for line in [
        "SUMPEER_ALERT_ID=1\n",
        "SUMPEER_ALERT_KIND=fork\n",
        "SUMPEER_ALERT_STATE=open\n",
        "SUMPEER_ALERT_STATE=resolved\n",
        "SUMPEER_ALERT_SPEC=\n",
        "SUMPEER_ALERT_PARTY=beta\n",
        "SUMPEER_ALERT_SUMMARY=beta has signed two logs that cannot be one, and is in quarantine until you release it.\n",
        "SUMPEER_ALERT_SUMMARY=Settled (it was restored): beta has signed",
        "SUMPEER_ALERT_URL=http://node.example/divergences/1\n",
        "SUMPEER_ALERT_FIRST_SEEN=20",
        "SUMPEER_ALERT_LAST_SEEN=20",
        "SUMPEER_EVENT_ID=",
        "SUMPEER_EVIDENCE=/",
        "/hooks\n",
    ] {
        assert!(env.contains(line), "{line} is in\n{env}");
    }
    assert_eq!(fs::read_to_string(format!("{out}/proof")).expect("it has run"), "{\"a\": 1}");
    assert_eq!(fs::read_dir(format!("{out}/alerts")).expect("a folder").count(), 0, "files are gone with the run");
    assert_eq!(lines(Path::new(&format!("{out}/never"))), 10, "five times an event");
    let metrics = rig.office.metrics.to_text();
    assert!(metrics.lines().any(|line| line.contains("given-up") && line.ends_with(" 2")), "{metrics}");
}

/// What time it is where the clock stands still until it is moved.
fn simulated() -> Timestamp {
    static BEGAN: OnceLock<(Timestamp, tokio::time::Instant)> = OnceLock::new();
    let (time, began) = BEGAN.get_or_init(|| (Timestamp::now(), tokio::time::Instant::now()));
    *time + began.elapsed()
}

/// Lets simulated seconds pass, one after the other, with a moment of real time for what each brings.
async fn pass(seconds: u32) {
    for _ in 0..seconds {
        tokio::time::advance(Duration::from_secs(1)).await;
        spawn_blocking(|| std::thread::sleep(Duration::from_millis(5))).await.expect("slept");
    }
}

/// Ten minutes with the pauses that a node has: nobody listens, then somebody refuses; and in each half everything that
/// runs is cut off and begun again from what is stored.
#[tokio::test(start_paused = true)]
async fn ten_minutes_of_outage_lose_nothing_and_double_nothing() {
    // Time would jump whenever all are waiting, even for a socket, unless something runs on a thread.
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let held = spawn_blocking(move || ended.recv());

    let address = free_address();
    let patient = WebhookLimits { first_byte: Duration::from_secs(3600), body: Duration::from_secs(3600) };
    let channels = || {
        let url = format!("http://{address}/alerts").parse().expect("an address");
        let webhook = Webhook::new(url, None, patient).expect("a client");
        Channels::new(vec![Channel::Webhook(webhook)], "node.example", "http://node.example")
    };
    let mut rig = Rig::new(Pace::default());
    channels().open(&rig.office.store).await.expect("opened");
    trouble(&rig.office.store).await;

    let mut receiver: Option<Receiver> = None;
    let mut refused = 0;
    // Of each life: how long it lasts, and how those who listen meanwhile behave.
    for (seconds, mood) in [(180, None), (120, None), (120, Some(Mood::Refuses(503, "not now"))), (180, None)] {
        if let Some(mood) = mood {
            receiver = Some(Receiver::at(&address, mood));
        }
        rig.office.now = simulated;
        let (stop, channels) = (CancellationToken::new(), channels());
        channels.open(&rig.office.store).await.expect("opened");
        let mut tasks = Tasks::new(stop.clone());
        channels.spawn(&rig.office, &mut tasks, &stop);
        pass(seconds).await;
        // The machine may be busy: time has passed, and nothing was tried yet.
        let tried = async || {
            let backlog = rig.backlogs().await;
            assert!(backlog.len() == 1 && backlog[0].pending == 200, "{backlog:?}");
            let metrics = rig.office.metrics.to_text();
            let failed = |line: &str| line.contains("alert_deliveries") && line.contains("\"failed\"");
            metrics.lines().any(|line| failed(line) && !line.ends_with(" 0"))
        };
        let began = Instant::now();
        while !tried().await {
            assert!(began.elapsed() < PATIENCE, "nothing was tried");
            pass(1).await;
        }
        // Not asked to stop: its tasks end wherever they are.
        drop(tasks);
        refused = receiver.as_ref().map_or(0, |receiver| receiver.received().len());
        let Rig { folder, office } = rig;
        drop((office, channels));
        let path = folder.path().to_owned();
        spawn_blocking(move || released(&path)).await.expect("the store is closed");
        rig = Rig::at(folder, Pace::default());
    }
    // With pauses that double there is no room for more.
    assert!(refused <= 20, "{refused} tries in five minutes");

    let receiver = receiver.expect("it has listened");
    receiver.becomes(Mood::Takes);
    rig.office.now = simulated;
    let stop = CancellationToken::new();
    let mut tasks = Tasks::new(stop.clone());
    channels().spawn(&rig.office, &mut tasks, &stop);
    let began = Instant::now();
    while !rig.backlogs().await.is_empty() {
        assert!(began.elapsed() < PATIENCE, "{:?}", rig.backlogs().await);
        pass(1).await;
    }
    each_once_and_in_order(&receiver);
    drop((tasks, end));
    assert!(held.await.expect("held").is_err());
}
