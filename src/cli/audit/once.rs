//! One audit as a command: a node in this process, on the data directory, until what was asked for is built again.
//!
//! The node is the same as that of `serve`, on ports of loopback that nobody knows. This file only watches it: over its
//! admin listener for the peer, and in its database for what came of each entry. So a run that is stopped, however, is
//! gone on with by the next.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Args;
use crate::cli::Exit;
use crate::cli::admin::{Admin, plain};
use crate::config::{Audit, Config, Mode};
use crate::node;
use crate::quorum::Word;
use crate::store::{AuditOrder, AuditPosition, AuditRow, AuditState, PeerLogId, ReadOnly, Reader};

/// How often the node is looked at.
const LOOK: Duration = Duration::from_millis(300);
/// How long following the peer may go without progress.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is asked for.
struct Task {
    peer: String,
    vkey: String,
    order: AuditOrder,
    limit: Option<u64>,
    json: bool,
    began: i64,
}

/// Runs the audit.
///
/// # Errors
/// The configuration has no such observed peer, a node runs on the data directory, or the peer cannot be followed.
pub(super) async fn run(args: Args) -> anyhow::Result<Exit> {
    let (config, task) = prepare(args)?;
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let data = config.data.clone();
    // What a node that ran before has left there is not this one's.
    let left = fs::read_to_string(data.join("admin")).ok();
    let (configs, running) = watch::channel(config);
    let node = node::run(running, stop.clone());
    tokio::pin!(node);
    let watching = async {
        while fs::read_to_string(data.join("admin")).ok() == left {
            sleep(LOOK).await;
        }
        task.watch(&Admin::of(data.clone())?, &ReadOnly::open(&data)?).await
    };
    let outcome = tokio::select! {
        ended = &mut node => {
            ended.context("cannot audit")?;
            bail!("the node has ended before the audit");
        }
        outcome = watching => outcome,
        _ = terminate.recv() => Ok(Exit::Incomplete),
        _ = interrupt.recv() => Ok(Exit::Incomplete),
    };
    stop.cancel();
    node.await?;
    drop(configs);
    outcome
}

/// The configuration of a node that does nothing but this.
fn prepare(args: Args) -> anyhow::Result<(Config, Task)> {
    let mut config = args.node.load()?;
    let name = args.peer.context("--once needs --peer")?;
    let known = config.peer.iter().find(|peer| peer.shown_name() == name);
    let Some(peer) = known else {
        bail!("the configuration has no peer called {name}: give it a [[peer]] with its key and vote = false");
    };
    ensure!(!peer.vote, "{name} votes, and only observed peers are audited: set vote = false for it");
    ensure!(config.mode == Mode::Build, "this node is verify-only and builds nothing: mode = \"build\" is needed");
    let vkey = peer.key.as_ref().map(ToString::to_string).unwrap_or_default();
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    (config.listen, config.admin_listen, config.tls) = (loopback, loopback, None);
    config.watch.clear();
    let audit = config.audit.unwrap_or_default();
    let task = Task {
        peer: name.clone(),
        vkey,
        order: audit.order,
        limit: args.limit,
        json: args.node.json,
        began: Timestamp::now().as_second(),
    };
    config.audit = Some(Audit {
        // Who names one run means all of it.
        sample: args.sample.unwrap_or(1.0),
        max_per_day: None,
        peers: vec![name],
        from: Some(args.from.unwrap_or(0)),
        limit: args.limit,
        ..audit
    });
    Ok((config, task))
}

impl Task {
    async fn watch(&self, admin: &Admin, store: &ReadOnly) -> anyhow::Result<Exit> {
        let size = self.follow(admin).await?;
        let log = loop {
            let position = store.read(|reader| self.position(reader))?;
            match position {
                Some(AuditPosition { log, audited: Some(audited), .. }) if audited.next >= size => break log,
                _ => sleep(LOOK).await,
            }
        };
        let own = plain(&admin.get("/api/v1/node").await?["vkey"]);
        let mut report = Report { task: self, told: HashSet::new(), records: Vec::new(), counts: [0; 4], own, size };
        loop {
            let began = Instant::now();
            if let Some(why) = admin.get("/api/v1/audit").await?["stopped"].as_str() {
                bail!("nothing is built any more: {why}");
            }
            let rows = store.read(|reader| self.rows(reader, log, size))?;
            for row in rows.iter().filter(|row| row.state != AuditState::Pending) {
                report.tell(row, store)?;
            }
            let now = Timestamp::now().as_second();
            // What failed for now is the next run's, unless its time comes while others are still built.
            let waits = |row: &&AuditRow| row.trouble.as_ref().is_none_or(|trouble| trouble.next_at <= now + 1);
            let left: Vec<&AuditRow> = rows.iter().filter(|row| row.state == AuditState::Pending).collect();
            if !left.iter().any(waits) {
                for row in left {
                    report.tell(row, store)?;
                }
                return report.finish();
            }
            // Reading a long list often would cost more than building.
            sleep(LOOK.max(began.elapsed() * 10)).await;
        }
    }

    /// Waits until all that the peer has signed is proven and stored; how many entries that is.
    async fn follow(&self, admin: &Admin) -> anyhow::Result<u64> {
        let mut moved = (0, Instant::now());
        loop {
            let peers = admin.list("/api/v1/peers").await?;
            let name = self.peer.as_str();
            let peer = peers.iter().find(|peer| peer["name"] == name).context("the node does not know the peer")?;
            if let Some(reason) = peer["quarantine"]["reason"].as_str() {
                bail!("{name} contradicts its own signed log: {reason}; see `sumpeer divergences`");
            }
            let logs = peer["logs"].as_array().into_iter().flatten();
            let seen = |log: &&Value| {
                let at = log["head_at"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
                at.is_some_and(|at| at.as_second() >= self.began)
            };
            let verified = |log: &Value| log["verified"].as_u64().unwrap_or(0);
            let mut position = 0;
            for log in logs.filter(seen) {
                if log["lag"] == 0 {
                    return Ok(verified(log));
                }
                position = position.max(verified(log));
            }
            if position > moved.0 {
                moved = (position, Instant::now());
            }
            if moved.1.elapsed() > PATIENCE {
                let error = plain(&peer["last_error"]);
                bail!("{name} cannot be followed: {}", if error.is_empty() { "it does not answer" } else { &error });
            }
            sleep(LOOK).await;
        }
    }

    fn position(&self, reader: &Reader<'_>) -> anyhow::Result<Option<AuditPosition>> {
        match reader.peer_program(&self.vkey)? {
            Some((_, log)) => reader.audit_position(&self.vkey, log),
            None => Ok(None),
        }
    }

    fn rows(&self, reader: &Reader<'_>, log: PeerLogId, size: u64) -> anyhow::Result<Vec<AuditRow>> {
        let limit = self.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        let mut rows = reader.audit_rows(log, self.order, limit)?;
        rows.retain(|row| row.number < size);
        Ok(rows)
    }
}

/// What was told so far.
struct Report<'t> {
    task: &'t Task,
    told: HashSet<u64>,
    /// For the one object at the end.
    records: Vec<Value>,
    /// Reproduced, differing, not to be built here, pending.
    counts: [u64; 4],
    /// This node's key.
    own: String,
    size: u64,
}

impl Report<'_> {
    /// Tells of an entry, once.
    fn tell(&mut self, row: &AuditRow, store: &ReadOnly) -> anyhow::Result<()> {
        if !self.told.insert(row.number) {
            return Ok(());
        }
        let at = match row.state {
            AuditState::Reproduced => 0,
            AuditState::Differs => 1,
            AuditState::CannotBuild(_) => 2,
            AuditState::Pending => 3,
        };
        self.counts[at] += 1;
        let mut details = self.details(row, store)?;
        let (state, number, spec) = (row.state.name(), row.number, &row.spec);
        if self.task.json {
            let mut record = json!({"state": state, "number": number, "spec": spec});
            if !details.is_empty() {
                record["details"] = details.into();
            }
            self.records.push(record);
            return Ok(());
        }
        if !details.is_empty() {
            details.insert_str(0, ": ");
        }
        writeln!(io::stdout(), "{state:<12} {number:>8} {spec}{}", plain(&details.into()))?;
        Ok(())
    }

    fn details(&self, row: &AuditRow, store: &ReadOnly) -> anyhow::Result<String> {
        Ok(match row.state {
            AuditState::Reproduced => String::new(),
            AuditState::CannotBuild(class) => class.to_string(),
            AuditState::Pending => match &row.trouble {
                Some(trouble) => {
                    let at = Timestamp::from_second(trouble.next_at)?;
                    format!("tried {} times, next at {at}: {}", trouble.tries, trouble.detail)
                }
                None => "not built yet".to_owned(),
            },
            AuditState::Differs => {
                let spec = row.spec.parse().map_err(|error| anyhow::anyhow!("a stored spec is malformed: {error}"))?;
                let (own, divergence) = store.read(|reader| {
                    let divergence = reader.spec_id(&spec)?.map_or(Ok(None), |id| reader.divergence_on(id))?;
                    Ok((reader.word_on(&spec, &self.own)?, divergence))
                })?;
                let mut text = format!("{} has {} ({} bytes)", self.task.peer, row.sum, row.size);
                if let Some(Word::Sum { size, sum }) = own.map(|row| row.word) {
                    text.push_str(&format!(", here it is {sum} ({size} bytes)"));
                }
                if let Some(at) = row.reproduced_at {
                    text.push_str(&format!("; reproduced on {}, differs now", Timestamp::from_second(at)?));
                }
                if let Some(row) = divergence {
                    text.push_str(&format!("; divergence {}", row.id));
                }
                text
            }
        })
    }

    /// Tells the sum of it.
    fn finish(self) -> anyhow::Result<Exit> {
        let [reproduced, differs, cannot_build, pending] = self.counts;
        let (peer, size) = (&self.task.peer, self.size);
        let mut out = io::stdout().lock();
        if self.task.json {
            let summary = json!({
                "peer": peer, "size": size, "reproduced": reproduced, "differs": differs,
                "cannot_build": cannot_build, "pending": pending,
            });
            writeln!(out, "{}", json!({"records": self.records, "summary": summary}))?;
        } else {
            writeln!(
                out,
                "{peer}, {size} entries: {reproduced} reproduced, {differs} differ, {cannot_build} cannot be built \
                 here, {pending} pending"
            )?;
        }
        Ok(match (differs, cannot_build + pending) {
            (0, 0) => Exit::Ok,
            (0, _) => Exit::Incomplete,
            _ => Exit::Divergence,
        })
    }
}
