//! Made-up findings, judged and appended as a node that is its only voter does it.

use std::ops::Range;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use sumpeer::model::{Claim, Finding, Spec, Sum};
use sumpeer::store::Store;
use sumpeer::tally::{Found, Settled, Voter, settle};
use sumpeer::tlog::SignerKey;

/// The one voter of a node with this key.
pub(crate) fn own(key: &SignerKey) -> Voter {
    Voter { name: key.name().to_owned(), vkey: key.verifier().to_string(), own: true }
}

/// Appends the findings of these numbers to both logs, so many of them at the same time.
///
/// # Errors
/// The store failed, or one was not accepted.
pub(crate) async fn append(store: &Store, own: &Voter, numbers: Range<u64>, in_flight: usize) -> anyhow::Result<()> {
    stream::iter(numbers)
        .map(|number| {
            let (store, own) = (store.clone(), own.clone());
            async move {
                let found = found(number)?;
                let voters = [own.clone()];
                let settled = store.write(move |tx| settle(tx, &own, &voters, &found)).await?;
                anyhow::ensure!(matches!(settled, Settled::Accepted(_)), "not accepted: {settled:?}");
                Ok(())
            }
        })
        .buffer_unordered(in_flight)
        .try_collect()
        .await
}

/// The finding of a number.
///
/// # Errors
/// Its spec cannot be parsed.
pub(crate) fn found(number: u64) -> anyhow::Result<Found> {
    // Modules in no order, as people ask for them.
    let module = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    let text = format!("example.com/m{module}@v1.0.{number}/cmd/x/linux-amd64-go1.27.1/");
    let spec: Spec = text.parse()?;
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    let sum = Sum::of_sha256(&bytes);
    Ok(Found {
        claim: Claim {
            spec,
            finding: Finding::Built { size: 1_000_000, sum },
            at: jiff::Timestamp::from_second(1_790_000_000)?,
            host: "linux/amd64".to_owned(),
            toolchain: "h1:Q8bzRgwWHhsCz6+8Yx6xsfJPUkgrzbO2BVn9YuJkHY8=".to_owned(),
            sandbox: "bwrap".to_owned(),
        },
        binary: None,
        log_gz: Vec::new(),
    })
}
