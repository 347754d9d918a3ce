//! How long it takes until somebody is told: from a peer's differing claim on disk to the webhook received and to the hook
//! run.
//!
//! `cargo bench --bench alerts -- [SPECS]`, by default 100. Two nodes on this machine, each with a store, followers and a
//! server of its own, as a real node has them, but without a builder: claims are put in by hand. One has claimed a spec;
//! then the other claims another sum of it, and the first tells a webhook on this machine and a shell script.

#[expect(dead_code, reason = "findings for others, too")]
mod made;
#[expect(dead_code, reason = "for tests, too")]
#[path = "../it/alerts/receiver.rs"]
mod receiver;
#[path = "../shared/small.rs"]
mod small;

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver as Lines};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use sumpeer::alert::{Author, Channel, Channels, HookLimits, Hooks, Office, Pace, Webhook, WebhookLimits};
use sumpeer::metrics::Metrics;
use sumpeer::model::{Claim, Finding, Sum};
use sumpeer::tasks::Tasks;
use sumpeer::tlog::SignerKey;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use receiver::{Mood, Receiver};
use small::Small;

/// When it is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How finely it is measured.
const LOOK: Duration = Duration::from_micros(200);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let specs = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(100);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let stop = CancellationToken::new();
    let keys = [SignerKey::generate("first.example", [1; 32])?, SignerKey::generate("second.example", [2; 32])?];
    let listeners = [TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?];
    let mut peers = Vec::new();
    for (key, listener) in keys.iter().zip(&listeners) {
        peers.push(small::peer(key.verifier(), format!("http://{}", listener.local_addr()?).parse()?));
    }
    let (mut nodes, mut tasks) = (Vec::new(), Vec::new());
    for (number, (key, listener)) in keys.iter().zip(listeners).enumerate() {
        let data = folder.path().join(number.to_string());
        std::fs::create_dir(&data)?;
        let (node, parts) = Small::new(&data, key, listener, vec![peers[1 - number].clone()], &stop).await?;
        nodes.push(node);
        tasks.push(parts);
    }
    let receiver = Receiver::at("127.0.0.1:0", Mood::Takes);
    let (hooks, runs) = hook(folder.path())?;
    let webhook = Webhook::new(receiver.url().parse()?, None, WebhookLimits::default())?;
    let channels =
        Channels::new(vec![Channel::Webhook(webhook), Channel::Hooks(hooks)], "first.example", "http://first");
    let author = Author {
        name_of: Arc::new(str::to_owned),
        evidence: Arc::new(|_, _| Ok(None)),
        base: "http://first.example".to_owned(),
    };
    let office = Office::new(nodes[0].store.clone(), author, Pace::default(), Metrics::new());
    channels.open(&office.store).await?;
    let mut telling = Tasks::new(stop.clone());
    channels.spawn(&office, &mut telling, &stop);
    let [first, second]: [Tasks; 2] = tasks.try_into().map_err(|_| anyhow::anyhow!("two nodes"))?;
    tokio::select! {
        result = measure(&nodes, &receiver, &runs, specs) => result,
        result = first.run() => result,
        result = second.run() => result,
        result = telling.run() => result,
    }
}

/// A script that says of what it was told, and what it says.
fn hook(folder: &Path) -> anyhow::Result<(Hooks, Lines<String>)> {
    let (hooks, pipe) = (folder.join("hooks"), folder.join("pipe"));
    std::fs::create_dir(&hooks)?;
    ensure!(Command::new("mkfifo").arg(&pipe).status()?.success(), "mkfifo");
    let script = hooks.join("say");
    std::fs::write(&script, format!("#!/bin/sh\necho \"$SUMPEER_ALERT_SPEC\" > {}\n", pipe.display()))?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    let (said, lines) = mpsc::channel();
    std::thread::spawn(move || {
        // Each run opens it, writes a line and closes it.
        while let Ok(pipe) = std::fs::File::open(&pipe) {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if said.send(line).is_err() {
                    return;
                }
            }
        }
    });
    Ok((Hooks::new(&hooks, HookLimits::default())?, lines))
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
async fn measure(nodes: &[Small], receiver: &Receiver, runs: &Lines<String>, specs: u64) -> anyhow::Result<()> {
    let (mut webhooks, mut hooks) = (Vec::new(), Vec::new());
    for number in 0..specs {
        let Claim { spec, finding, .. } = made::found(number)?.claim;
        nodes[0].claim(spec.clone(), finding).await?;
        let other = Finding::Built { size: 7, sum: Sum::of_sha256(&[7; 32]) };
        nodes[1].claim(spec.clone(), other).await?;
        let began = Instant::now();
        let (mut webhook, mut hook) = (None, None);
        while webhook.is_none() || hook.is_none() {
            if webhook.is_none() && receiver.taken().len() as u64 > number {
                webhook = Some(began.elapsed());
            }
            if hook.is_none()
                && let Ok(line) = runs.try_recv()
            {
                ensure!(line == spec.to_string(), "{line} instead of {spec}");
                hook = Some(began.elapsed());
            }
            ensure!(began.elapsed() < PATIENCE, "nobody was told of {spec}");
            tokio::time::sleep(LOOK).await;
        }
        webhooks.push(webhook.context("told")?);
        hooks.push(hook.context("run")?);
    }
    for (name, mut all) in [("webhook received", webhooks), ("hook run", hooks)] {
        all.sort_unstable();
        let at = |percent: usize| all[(all.len() - 1) * percent / 100].as_secs_f64() * 1e3;
        println!("{name}: {:.1} ms median, {:.1} ms at 90 %, {:.1} ms at most, of {specs}", at(50), at(90), at(100));
    }
    Ok(())
}
