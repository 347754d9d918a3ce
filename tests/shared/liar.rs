//! A node that names another sum for whatever one other node claims. It proves what it reads, and signs what it says,
//! as everybody does: only what it says is wrong.

use std::path::Path;

use sumpeer::model::{Claim, Finding, Sum};
use sumpeer::peer::Peer;
use sumpeer::store::LogId;
use sumpeer::tlog::SignerKey;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::small::Small;

/// Lies until it is stopped.
///
/// # Errors
/// One of its parts failed.
pub(crate) async fn run(
    data: &Path,
    key: &SignerKey,
    listener: TcpListener,
    honest: Peer,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let (node, mut tasks) = Small::new(data, key, listener, vec![honest.clone()], &stop).await?;
    tasks.spawn("lie", lie(node, honest, stop.clone()));
    tasks.run().await
}

async fn lie(node: Small, honest: Peer, stop: CancellationToken) -> anyhow::Result<()> {
    let mut news = node.tally.news();
    let mut next = 0;
    loop {
        let vkey = honest.key.to_string();
        let texts = node.store.read(move |reader| match reader.peer_log(&vkey, LogId::Claims)? {
            Some(log) => reader.peer_entries(log.id, next, log.range.size().get()),
            None => Ok(Vec::new()),
        });
        for text in texts.await? {
            next += 1;
            if let Ok(Claim { spec, finding: Finding::Built { size, .. }, .. }) = Claim::parse(&text) {
                let sum = Sum::of_sha256(&[next.to_le_bytes()[0]; 32]);
                node.claim(spec, Finding::Built { size, sum }).await?;
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = news.changed() => changed?,
        }
    }
}
