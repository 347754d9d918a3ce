//! Programs of the operator that are run for each alert; docs/OPERATING.md has them as a manual page.
//!
//! An event that comes to this channel is put before each program that is in the folder at that moment; each has rows of
//! its own in the outbox from then on, so that one that fails does not make others run twice. Programs run one after the
//! other, in the order of their names. Out of scope: how one is run ([`run`]).

mod run;

use std::collections::{BTreeMap, HashSet};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{fs, io};

use anyhow::Context as _;
use tempfile::NamedTempFile;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Author;
use super::message::Told;
use super::outbox::{Next, Office, Pace, Queue, last_moment, rest};
use crate::store::Store;
pub use run::HookLimits;

/// The channel.
pub struct Hooks {
    folder: PathBuf,
    limits: HookLimits,
    proofs: Option<Proofs>,
    /// Files of which it was said that they are not run.
    skipped: Mutex<HashSet<String>>,
}

/// Where files of evidence come from, and where they are while programs run.
struct Proofs {
    folder: PathBuf,
    store: Store,
    author: Author,
}

impl Hooks {
    /// What the outbox calls what has yet to be put before the programs.
    pub const NAME: &str = "hooks";
    /// How the names begin by which the outbox calls the programs.
    pub const FAMILY: &str = "hook:";

    /// The programs in a folder. They get no evidence.
    ///
    /// # Errors
    /// There is no such folder.
    pub fn new(folder: &Path, limits: HookLimits) -> anyhow::Result<Hooks> {
        fs::read_dir(folder).with_context(|| format!("cannot read the folder {}", folder.display()))?;
        // Programs are started there, so it has to be found from there.
        let folder = fs::canonicalize(folder).with_context(|| format!("cannot find {}", folder.display()))?;
        Ok(Hooks { folder, limits, proofs: None, skipped: Mutex::default() })
    }

    /// The same with files of evidence, which are in `scratch` for as long as a program runs. What is there already is
    /// removed: programs that ran when the node was killed.
    ///
    /// # Errors
    /// The folder is not to be had.
    pub fn with_evidence(self, scratch: &Path, store: Store, author: Author) -> anyhow::Result<Hooks> {
        match fs::remove_dir_all(scratch) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot empty {}", scratch.display()));
            }
            _ => fs::create_dir_all(scratch).with_context(|| format!("cannot make {}", scratch.display()))?,
        }
        let folder = fs::canonicalize(scratch).with_context(|| format!("cannot find {}", scratch.display()))?;
        Ok(Hooks { proofs: Some(Proofs { folder, store, author }), ..self })
    }

    /// Runs programs for what is in the outbox, until it is stopped.
    ///
    /// # Errors
    /// The store failed: the node must stop.
    pub(super) async fn run(&self, office: &Office, stop: &CancellationToken) -> anyhow::Result<()> {
        let mut news = office.store.told();
        let mut arrivals = Queue::new(Hooks::NAME, &office.metrics);
        let mut queues: BTreeMap<String, Queue> = BTreeMap::new();
        // A program that fails needs a person before it needs another try.
        let patient = Office { pace: Pace { longest: office.pace.longest_hook, ..office.pace }, ..office.clone() };
        loop {
            news.mark_unchanged();
            let mut wait = self.spread(office, &mut arrivals).await?;
            let pending = office.store.read(|reader| reader.backlogs()).await?;
            let names: Vec<String> = pending.into_iter().map(|row| row.channel).collect();
            queues.retain(|name, _| names.contains(name));
            for name in names.into_iter().filter(|name| name.starts_with(Hooks::FAMILY)) {
                queues.entry(name).or_insert_with_key(|name| Queue::new(name, &office.metrics));
            }
            let mut has_run = false;
            for (channel, queue) in &mut queues {
                match queue.next(&patient, 1).await? {
                    Next::Deliver(told) => {
                        has_run = true;
                        tokio::select! {
                            ended = self.serve(channel, queue, &patient, &told) => ended?,
                            () = last_moment(stop) => return Ok(()),
                        }
                    }
                    Next::Wait(pause) => wait = shorter(wait, pause),
                }
            }
            if has_run && !stop.is_cancelled() {
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                changed = news.changed() => if changed.is_err() { stop.cancelled().await },
                () = rest(wait) => {}
            }
        }
    }

    /// Puts what has come before the programs that there are now. How long to wait before trying again, if that failed.
    async fn spread(&self, office: &Office, arrivals: &mut Queue) -> anyhow::Result<Option<Duration>> {
        loop {
            let told = match arrivals.next(office, 1).await? {
                Next::Deliver(told) => told,
                Next::Wait(wait) => return Ok(wait),
            };
            let programs = match self.programs() {
                Ok(programs) => programs,
                Err(why) => {
                    arrivals.failed(office, &told, &why, None).await?;
                    continue;
                }
            };
            let programs: Vec<String> = programs.iter().map(|name| format!("{}{name}", Hooks::FAMILY)).collect();
            let events: Vec<_> = told.iter().filter_map(|told| told.pending).map(|pending| pending.event).collect();
            let write = office
                .store
                .write(move |tx| events.into_iter().try_for_each(|event| tx.spread(Hooks::NAME, event, &programs)));
            write.await?;
        }
    }

    /// Runs one program for one event, and notes how that went.
    async fn serve(&self, channel: &str, queue: &mut Queue, office: &Office, told: &[Told]) -> anyhow::Result<()> {
        let name = channel.strip_prefix(Hooks::FAMILY).unwrap_or(channel);
        if !self.folder.join(name).exists() {
            let gone = channel.to_owned();
            let alerts = office.store.write(move |tx| tx.drop_outbox(&gone)).await?;
            warn!(hook = name, alerts, "a hook is gone: alerts that it has yet to be run for are dropped");
            return Ok(());
        }
        for told in told {
            match self.run_one(name, told).await {
                Ok(()) => queue.delivered(office, std::slice::from_ref(told)).await?,
                Err(why) => queue.failed(office, std::slice::from_ref(told), &why, Some(office.pace.give_up)).await?,
            }
        }
        Ok(())
    }

    /// Runs all programs that there are, in order, and tells how each went.
    pub(super) async fn run_all(&self, told: &Told) -> Vec<(String, Result<(), String>)> {
        let programs = match self.programs() {
            Ok(programs) => programs,
            Err(why) => return vec![(Hooks::NAME.to_owned(), Err(why))],
        };
        let mut results = Vec::new();
        for name in programs {
            let ended = self.run_one(&name, told).await;
            results.push((format!("{}{name}", Hooks::FAMILY), ended));
        }
        results
    }

    async fn run_one(&self, name: &str, told: &Told) -> Result<(), String> {
        let file = match &self.proofs {
            Some(proofs) => proofs.file(told).await.unwrap_or_else(|error| {
                // A full disk is worth an alert, and must not keep it from being told.
                warn!(hook = name, "a hook is run without evidence: {error:#}");
                None
            }),
            None => None,
        };
        let evidence = file.as_ref().map_or(Path::new(""), |file| file.path());
        let said = run::run(&self.folder, name, told, evidence, &self.limits).await?;
        info!(hook = name, alert = told.message.id, said, "a hook has run");
        Ok(())
    }

    /// The names of the programs that there are, in order. Says once of each other file that it is not run.
    fn programs(&self) -> Result<Vec<String>, String> {
        let failed = |error: io::Error| format!("cannot read the folder {}: {error}", self.folder.display());
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            // What editors leave behind.
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            // Links are followed; a file that is gone by now is none.
            let Ok(meta) = fs::metadata(entry.path()) else { continue };
            let shown = name.to_string_lossy().into_owned();
            let mut skipped = self.skipped.lock().unwrap_or_else(PoisonError::into_inner);
            let why = if !meta.is_file() {
                "it is no file"
            } else if meta.permissions().mode() & 0o111 == 0 {
                "it is not executable"
            } else if name.to_str().is_none_or(|name| name.chars().any(char::is_control)) {
                "its name is no text"
            } else {
                skipped.remove(&shown);
                names.push(shown);
                continue;
            };
            if skipped.insert(shown.clone()) {
                warn!(hook = shown, why, "a file in the folder of hooks is not run");
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

impl Proofs {
    /// The file that proves what an event is about, for as long as the value lives; none if there is none.
    async fn file(&self, told: &Told) -> anyhow::Result<Option<NamedTempFile>> {
        let Some(id) = told.divergence else {
            return Ok(None);
        };
        let author = self.author.clone();
        let bundle = self.store.read(move |reader| match reader.divergence(id)? {
            Some(row) => (author.evidence)(reader, &row),
            None => Ok(None),
        });
        let Some(bundle) = bundle.await? else {
            return Ok(None);
        };
        let write = || {
            let prefix = format!("divergence-{id}-");
            let mut file = tempfile::Builder::new().prefix(&prefix).suffix(".json").tempfile_in(&self.folder)?;
            file.write_all(bundle.as_bytes())?;
            io::Result::Ok(file)
        };
        write().map(Some).context("cannot write the evidence to a file")
    }
}

fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
