//! Making the auditor and the watcher of a node that builds, if its configuration wants them.

use crate::audit::{Auditor, Feed, Selection, Watcher};
use crate::builder::toolchain::Toolchains;
use crate::config::{Audit, Config};
use crate::goproxy::{self, ModuleCache};
use crate::model::GoRange;
use crate::peer::Peers;
use crate::store::Store;
use crate::tally::Tally;

/// The auditor that `[audit]` asks for.
pub(super) fn auditor(config: &Config, store: &Store, tally: &Tally, peers: &Peers) -> Option<Auditor> {
    let audit = config.audit.as_ref()?;
    let is_meant = |name: &str| audit.peers.is_empty() || audit.peers.iter().any(|meant| meant == name);
    let audited = peers.iter().filter(|(peer, _)| !peer.vote && is_meant(&peer.name));
    Some(Auditor {
        store: store.clone(),
        tally: tally.clone(),
        audited: audited.map(|(peer, _)| (peer.name.clone(), peer.key.to_string())).collect(),
        peers: peers.clone(),
        selection: selection(config, audit),
        per_day: audit.max_per_day,
    })
}

/// The watcher that `watch` and `index` ask for.
///
/// # Errors
/// The TLS roots cannot be read.
pub(super) fn watcher(
    config: &Config,
    store: &Store,
    tally: &Tally,
    cache: &ModuleCache,
    toolchains: &Toolchains,
) -> anyhow::Result<Option<Watcher>> {
    let Some(index) = config.index.clone().filter(|_| !config.watch.is_empty()) else {
        return Ok(None);
    };
    Ok(Some(Watcher {
        store: store.clone(),
        tally: tally.clone(),
        feed: Feed::new(goproxy::http_client()?, index),
        modules: config.watch.clone(),
        cache: cache.clone(),
        toolchains: toolchains.clone(),
    }))
}

/// What `[audit]` chooses. Go versions that this node does not build with are left out.
fn selection(config: &Config, audit: &Audit) -> Selection {
    Selection {
        sample: audit.sample,
        order: audit.order,
        go: vec![config.go_versions(), GoRange { oldest: audit.oldest_go, newest: audit.newest_go }],
        targets: audit.targets.clone(),
        history: audit.history,
        from: audit.from,
        limit: audit.limit,
    }
}
