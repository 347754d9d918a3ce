//! Compares the binaries behind the words of divergences, in the background.
//!
//! ```text
//! a word that differs ─▶ store: a pair is due ─▶ Comparer ─▶ both files: kept here, or fetched from who named them
//!                                                   └─ missing: tried again later      │
//!                             store ◀── how they differ ◀── evidence::compare ◀────────┘
//! ```
//!
//! Nothing waits for it: judging and following go on, and evidence proves without it. What it fetches is hashed whole
//! against the word that names it, and kept beside this node's own binaries, where an open divergence keeps it from
//! being evicted. Nobody gets it from here: only what was accepted, or claimed by this node, is served.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tracing::{info, instrument};

use super::accuse::accuse;
use super::evidence::Names;
use crate::binaries::{Binaries, Stored};
use crate::evidence::{COMPARED_LIMIT_BYTES, Comparison, compare};
use crate::model::{Spec, Sum};
use crate::peer::{BinaryClient, NotFetched, Peer, Transport};
use crate::store::{ComparisonRow, DivergenceRow, SaidRow, Store};

/// How often it is looked whether a pause has passed, and at least between two looks at what is new.
const TICK: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(50);
/// First pause before a binary is asked for again; doubles with each try.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
/// Longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 3600);
/// The part of the cache that binaries of open divergences may fill before no more are fetched: one half.
const SHARE: u64 = 2;
/// Characters of a reason that are kept.
const REASON_LIMIT_CHARS: usize = 500;

/// Compares what is due.
pub struct Comparer {
    store: Store,
    binaries: Binaries,
    names: Names,
    transport: Arc<dyn Transport>,
    pause: Duration,
}

impl Comparer {
    /// Of the divergences in a store; the peers in `names` are asked for what they named.
    pub fn new(store: Store, binaries: Binaries, names: Names, transport: Arc<dyn Transport>) -> Comparer {
        Comparer { store, binaries, names, transport, pause: FIRST_PAUSE }
    }

    /// The same with another first pause.
    #[must_use]
    pub fn with_pause(mut self, pause: Duration) -> Comparer {
        self.pause = pause;
        self
    }

    /// Compares until it is stopped. `news` tells that words were stored.
    ///
    /// # Errors
    /// The store failed: the node must stop.
    pub async fn run(self, mut news: watch::Receiver<u64>, stop: CancellationToken) -> anyhow::Result<()> {
        loop {
            news.mark_unchanged();
            let now = Timestamp::now().as_second();
            let due = self.store.read(move |reader| reader.due_comparison(now)).await?;
            let work = async {
                match due {
                    Some(row) => self.take(row).await,
                    None => {
                        // The end of the channel is that of the node, which is told by the token.
                        let _ = tokio::time::timeout(TICK.min(self.pause), news.changed()).await;
                        tokio::time::sleep(LOOK).await;
                        Ok(())
                    }
                }
            };
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                done = work => done?,
            }
        }
    }

    /// Compares a pair, or notes what is missing. The error is a store that failed.
    #[instrument(skip_all, fields(divergence = row.divergence))]
    async fn take(&self, mut row: ComparisonRow) -> anyhow::Result<()> {
        let id = row.divergence;
        let divergence = self.store.read(move |reader| reader.divergence(id)).await?;
        let divergence = divergence.context("a comparison is of no divergence")?;
        match self.compare(&row, &divergence).await {
            Ok(comparison) => {
                info!("the binaries were compared: {}", comparison.summary());
                (row.text, row.missing) = (Some(comparison.to_json().to_string()), None);
            }
            Err(error) => {
                info!("the binaries were not compared: {error:#}");
                row.missing = Some(format!("{error:#}").chars().take(REASON_LIMIT_CHARS).collect());
                let pause = self.pause.saturating_mul(1 << row.tries.min(16)).min(LONGEST_PAUSE);
                row.tries += 1;
                row.next_at = Timestamp::now().as_second() + i64::try_from(pause.as_secs()).unwrap_or(i64::MAX / 2);
            }
        }
        self.store.write(move |tx| tx.put_comparison(&row)).await
    }

    async fn compare(&self, row: &ComparisonRow, divergence: &DivergenceRow) -> anyhow::Result<Comparison> {
        let spec = divergence.spec.as_deref().context("it is of no spec")?;
        let spec: Spec = spec.parse().with_context(|| format!("the stored spec {spec} is malformed"))?;
        let one = self.file(&spec, &row.one, divergence).await?;
        let other = self.file(&spec, &row.other, divergence).await?;
        let compared = spawn_blocking(move || compare(&one, &other)).await.context("comparing panicked")?;
        compared?.context("both files are the same")
    }

    /// The binary with a sum, unpacked: as it is kept here, else as somebody who named it serves it.
    async fn file(&self, spec: &Spec, sum: &Sum, divergence: &DivergenceRow) -> anyhow::Result<File> {
        if let Some(stored) = self.binaries.find(sum).await? {
            return self.unpack(&stored).await;
        }
        let mut missing = Vec::new();
        for said in divergence.words.iter().filter(|said| said.sum == *sum) {
            let name = self.names.of(&said.vkey);
            let mut peers = self.names.peers.iter();
            let why = match peers.find(|(peer, _)| peer.key.to_string() == said.vkey) {
                Some((peer, _)) => match self.fetch(spec, said, peer).await {
                    Ok(file) => return Ok(file),
                    Err(error) => format!("{name}: {error:#}"),
                },
                None if said.vkey == self.names.own.to_string() => {
                    format!("{name}: this node has it no more; a retry on the page of the program builds it again")
                }
                None => format!("{name}: it is no peer of this node any more"),
            };
            missing.push(why);
        }
        bail!("{sum} is not at hand ({})", missing.join("; "))
    }

    async fn fetch(&self, spec: &Spec, said: &SaidRow, peer: &Peer) -> anyhow::Result<File> {
        check_size(said.size)?;
        let (limit, kept) = (self.binaries.limit(), self.store.read(|reader| reader.disputed_bytes()).await?);
        ensure!(
            kept.saturating_add(said.size) <= limit / SHARE,
            "it is not fetched: binaries of open divergences take half of what this node may keep (binary-cache)"
        );
        let client = BinaryClient::new(self.transport.clone(), peer.url.clone());
        let received = match client.fetch(spec, said, self.binaries.staging_dir()).await {
            Ok(received) => received,
            Err(NotFetched::Differs(mismatch)) => {
                bail!(accuse(&self.store, &self.binaries, &self.names, spec, said.clone(), *mismatch).await?)
            }
            Err(error) => return Err(error.into()),
        };
        let file = received.plain().try_clone().context("cannot read what was fetched")?;
        self.binaries.keep_received(received).await.context("it was fetched and cannot be kept")?;
        Ok(file)
    }

    async fn unpack(&self, stored: &Stored) -> anyhow::Result<File> {
        let size = stored.row().size;
        check_size(size)?;
        let file = tempfile::tempfile_in(self.binaries.staging_dir()).context("cannot unpack a binary")?;
        let mut file = tokio::fs::File::from_std(file);
        let mut pieces = Box::pin(stored.plain(0, size));
        while let Some(piece) = pieces.next().await {
            let piece = piece.context("a kept binary cannot be read")?;
            file.write_all(&piece).await.context("cannot unpack a binary")?;
        }
        file.flush().await.context("cannot unpack a binary")?;
        Ok(file.into_std().await)
    }
}

fn check_size(size: u64) -> anyhow::Result<()> {
    ensure!(size <= COMPARED_LIMIT_BYTES, "it has {size} bytes, and at most {COMPARED_LIMIT_BYTES} are compared");
    Ok(())
}
