//! `sumpeer get`: a program, downloaded through the log.
//!
//! The way of one program: ask each log for its record ([`wire`]) → the head is signed by the log's key, the record is
//! what we asked for and stands in the tree, the tree continues the one seen last time ([`prove`], [`heads`]) → all logs
//! name the same bytes → the bytes are downloaded, and only if size and sum are right do they appear under their
//! name ([`install`]).
//!
//! Out of scope: building, and everything that needs a node of one's own. Nothing a server sends is believed before it is
//! proved; nothing is left behind but a complete program and the head that proved it.

mod ask;
mod heads;
mod install;
mod logs;
mod prove;
mod talk;
mod wire;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use etcetera::BaseStrategy;
use futures_util::future::join_all;
use serde_json::json;

use url::Url;

use crate::model::{Record, Spec, SpecQuery, Sum};
use crate::tlog::VerifierKey;

pub use self::ask::GetArgs;
pub(super) use self::ask::parse_duration;
use self::heads::Heads;
use self::logs::LogServer;
use self::prove::Proven;
use self::talk::Talk;
use self::wire::Wire;
use super::Exit;

/// Longer than anyone waits, and short enough to be added to any clock.
const TIMEOUT_LIMIT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Why nothing was installed. Each is told as one sentence, evidence below it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("{0}")]
    Usage(String),
    /// The log says that there is nothing to get.
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Tampering(String),
    #[error("{0}")]
    Incomplete(String),
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

impl Refusal {
    /// The status that it ends with.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Refusal::Usage(_) => Exit::Usage,
            Refusal::Tampering(_) => Exit::Divergence,
            Refusal::Incomplete(_) => Exit::Incomplete,
            Refusal::NotFound(_) | Refusal::Failed(_) => Exit::Failure,
        }
    }
}

/// Where a user's settings and state are.
struct Places {
    config: PathBuf,
    heads: PathBuf,
}

impl Places {
    fn find() -> anyhow::Result<Places> {
        let base = etcetera::base_strategy::Xdg::new().context("no home directory")?;
        let state = base.state_dir().context("no state directory")?;
        Ok(Places { config: base.config_dir().join("sumpeer/get.toml"), heads: state.join("sumpeer/heads") })
    }
}

/// Logs that are asked for records, for other commands.
pub(super) struct Logs {
    servers: Vec<LogServer>,
    heads: Heads,
    talk: Talk,
    deadline: Instant,
}

impl Logs {
    /// Those of the command line, else those of the user's list.
    pub(super) fn choose(urls: &[Url], keys: &[VerifierKey], timeout: Duration) -> Result<Logs, Refusal> {
        let places = Places::find()?;
        let servers = logs::choose(urls, keys, &places.config)?;
        let deadline = Instant::now() + timeout.min(TIMEOUT_LIMIT);
        Ok(Logs { servers, heads: Heads::new(places.heads), talk: Talk::new(), deadline })
    }

    /// The record of a spec, which all of them have.
    pub(super) async fn record(&self, spec: &Spec) -> Result<Record, Refusal> {
        let wires = wires(&self.servers, self.deadline, &self.talk)?;
        let query = [spec.clone().into()];
        let proofs = prove_everywhere(&query, None, &self.servers, &wires, &self.heads, &self.talk).await?;
        agree(None, &proofs)
    }
}

fn wires<'t>(servers: &[LogServer], deadline: Instant, talk: &'t Talk) -> anyhow::Result<Vec<Wire<'t>>> {
    servers.iter().map(|server| Wire::new(server.url.clone(), deadline, talk)).collect()
}

/// Runs the command. Errors are told on stderr here; an `Err` is none of the user's making.
pub async fn run(args: GetArgs) -> anyhow::Result<Exit> {
    let (places, talk) = (Places::find()?, Talk::new());
    let got = tokio::select! {
        got = get(&args, &places, &talk) => got,
        // Returning drops the unfinished file; dying of the signal would leave it behind.
        stopped = stop_signal() => stopped.and_then(|()| Err(anyhow::anyhow!("interrupted").into())),
    };
    match got {
        Ok(installed) => {
            print_result(&args, &installed);
            Ok(Exit::Ok)
        }
        Err(refusal) => {
            talk.say(&format!("sumpeer get: {refusal}"));
            Ok(refusal.exit())
        }
    }
}

struct Installed {
    record: Record,
    file: PathBuf,
    proofs: Vec<Proven>,
}

async fn get(args: &GetArgs, places: &Places, talk: &Talk) -> Result<Installed, Refusal> {
    let deadline = Instant::now() + args.timeout.min(TIMEOUT_LIMIT);
    let servers = logs::choose(&args.url, &args.key, &places.config)?;
    let heads = Heads::new(places.heads.clone());
    let wires = wires(&servers, deadline, talk)?;

    let proofs = prove_everywhere(&ask::queries(args)?, args.sum, &servers, &wires, &heads, talk).await?;
    let record = agree(args.sum, &proofs)?;
    let file = install::destination(args.output.as_deref(), &record.spec)?;
    install::install(&wires, &record, &file, talk).await?;
    for proven in &proofs {
        talk.say(&format!(
            "record {} of {} in the log of {} says {}",
            proven.number,
            proven.head.size,
            proven.key.name(),
            record.sum
        ));
    }
    Ok(Installed { record, file, proofs })
}

/// A proof from every log that what was asked for is in it.
async fn prove_everywhere(
    queries: &[SpecQuery],
    pinned: Option<Sum>,
    servers: &[LogServer],
    wires: &[Wire<'_>],
    heads: &Heads,
    talk: &Talk,
) -> Result<Vec<Proven>, Refusal> {
    let prove = |at: usize, query: SpecQuery| async move {
        prove::prove(&wires[at], &servers[at].key, heads, &query, talk).await
    };
    // What says it exactly is asked for everywhere at once, so that all who have to build do so side by side.
    // Else the first log decides what the latest is, or where the module ends, and the others are asked for just that.
    let mut results = Vec::new();
    let query = match queries {
        [query] if query.exact().is_some() => query.clone(),
        _ => {
            let first = prove_first(queries, prove).await?;
            let spec = first.record.spec.clone();
            results.push(Ok(first));
            spec.into()
        }
    };
    results.extend(join_all((results.len()..wires.len()).map(|at| prove(at, query.clone()))).await);

    // Tampering is told before anything else: who cannot be reached may be kept from us by the same hand.
    let mut proofs = Vec::new();
    let mut missing = None;
    for result in results {
        match result {
            Ok(proven) => proofs.push(proven),
            Err(tampering @ Refusal::Tampering(_)) => return Err(tampering),
            Err(other) => missing = missing.or(Some(other)),
        }
    }
    match missing {
        None => Ok(proofs),
        Some(missing) if proofs.is_empty() => Err(missing),
        Some(missing) => {
            // Those that did answer may already disagree.
            agree(pinned, &proofs)?;
            Err(Refusal::Incomplete(format!("not every log has answered: {missing}")))
        }
    }
}

/// Asks one log for each query until it knows one.
async fn prove_first<F>(queries: &[SpecQuery], prove: impl Fn(usize, SpecQuery) -> F) -> Result<Proven, Refusal>
where
    F: Future<Output = Result<Proven, Refusal>>,
{
    let mut reasons = Vec::new();
    for query in queries {
        match prove(0, query.clone()).await {
            Err(Refusal::NotFound(reason)) => reasons.push(reason),
            other => return other,
        }
    }
    Err(Refusal::NotFound(reasons.join("\n")))
}

/// The one record that all proofs are of.
fn agree(pinned: Option<Sum>, proofs: &[Proven]) -> Result<Record, Refusal> {
    let Some(first) = proofs.first() else {
        return Err(Refusal::Usage("no log was asked".to_owned()));
    };
    let said = |proven: &Proven| {
        let Record { size, sum, .. } = proven.record;
        format!("{sum}, {size} bytes: says {} at {}", proven.key, proven.url)
    };
    if proofs.iter().any(|proven| proven.record != first.record) {
        let all: Vec<_> = proofs.iter().map(said).collect();
        let spec = &first.record.spec;
        return Err(Refusal::Tampering(format!("the logs do not agree on {spec}\n{}", all.join("\n"))));
    }
    match pinned {
        Some(sum) if sum != first.record.sum => {
            Err(Refusal::Tampering(format!("the sum should be {sum}, but the log has another\n{}", said(first))))
        }
        _ => Ok(first.record.clone()),
    }
}

#[expect(clippy::print_stdout, reason = "what was installed is the data of this command")]
fn print_result(args: &GetArgs, installed: &Installed) {
    if args.json {
        println!("{}", describe(installed));
    } else {
        println!("{}", installed.file.display());
    }
}

/// The object that `--json` prints. Number and head at its top are those of the first log.
fn describe(installed: &Installed) -> serde_json::Value {
    let Installed { record, file, proofs } = installed;
    let logs = proofs.iter().map(|proven| {
        json!({
            "url": proven.url.as_str(),
            "key": proven.key.to_string(),
            "number": proven.number,
            "head": proven.note,
        })
    });
    json!({
        "spec": record.spec.to_string(),
        "size": record.size,
        "sum": record.sum.to_string(),
        "file": file.to_string_lossy(),
        "number": proofs[0].number,
        "head": proofs[0].note,
        "logs": logs.collect::<Vec<_>>(),
    })
}

async fn stop_signal() -> Result<(), Refusal> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed.context("cannot listen for signals")?,
        _ = terminate.recv() => {}
    }
    Ok(())
}
