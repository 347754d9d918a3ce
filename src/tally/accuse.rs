//! A peer that serves other bytes than its log names.

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::json;
use tracing::{error, warn};

use super::evidence::{Names, mismatch_bundle};
use super::settle::whole_seconds;
use crate::binaries::Binaries;
use crate::evidence::Kind;
use crate::model::{Spec, Sum};
use crate::peer::Mismatch;
use crate::store::{SaidRow, Store};

/// Stores that whoever said something about a spec has served other bytes than that, and the bytes if that is new. Returns
/// why these are none to be used.
///
/// # Errors
/// The store failed.
pub(super) async fn accuse(
    store: &Store,
    binaries: &Binaries,
    names: &Names,
    spec: &Spec,
    said: SaidRow,
    mismatch: Mismatch,
) -> anyhow::Result<String> {
    let Mismatch { url, what, received } = mismatch;
    warn!(peer = names.of(&said.vkey), "other bytes than recorded were served: {what}");
    let kind = Kind::MirrorMismatch.as_str();
    let (spec_of, vkey) = (spec.clone(), said.vkey.clone());
    let known = store.read(move |reader| {
        let id = reader.spec_id(&spec_of)?.context("a spec that somebody named has no row")?;
        Ok((id, reader.has_open_divergence(kind, id, &vkey)?))
    });
    let (id, is_known) = known.await?;
    let mut came = json!({
        "url": url.as_str(),
        "flaw": &what,
        "size": received.gz_size,
        "sha256": data_encoding::HEXLOWER.encode(&received.gz_sha256),
        "unpacked": received.size,
        "sum": Sum::of_sha256(&received.sha256).to_string(),
        "kept": false,
    });
    if !is_known {
        // Bytes first: what is told of has to be there.
        match binaries.exhibit(received).await {
            Ok(true) => came["kept"] = true.into(),
            Ok(false) => warn!("the bytes are not kept as evidence: there are too many already"),
            Err(error) => error!("the bytes cannot be kept as evidence: {error:#}"),
        }
    }
    let (spec, names) = (spec.clone(), names.clone());
    let accused = store.write(move |tx| {
        let at = whole_seconds(Timestamp::now());
        // The operator may have resolved the one that was open just now.
        let is_known = tx.has_open_divergence(kind, id, &said.vkey)?;
        let bundle = if is_known { None } else { mismatch_bundle(tx, &names, spec, &said, came, at)? };
        let (divergence, _) = tx.see_divergence(kind, Some(id), &said.vkey, bundle.as_deref())?;
        tx.add_said(divergence, &said)?;
        Ok(divergence)
    });
    let divergence = accused.await?;
    warn!(divergence, "see `sumpeer divergences`");
    Ok(format!("other bytes than it signed for: {what}"))
}
