//! Alerts in this program's own log. It takes whatever comes.

use tracing::{error, info, warn};

use super::message::Told;
use crate::model::AlertKind;

/// The channel. Every node has it.
pub struct Journal;

impl Journal {
    /// What the outbox calls it.
    pub const NAME: &str = "journal";
    /// Events written at one time: a commit each would cost more than the lines.
    pub(super) const BATCH: usize = 100;

    pub(super) fn write(&self, told: &[Told]) {
        for Told { message, .. } in told {
            let (alert, kind, state) = (message.id.as_str(), message.kind.as_str(), message.state);
            let (spec, party) = (message.spec.as_deref(), message.party.as_deref());
            let (summary, url) = (message.summary.as_str(), message.url.as_str());
            if !message.is_open() {
                info!(alert, kind, state, spec, party, url, summary, "alert");
            } else if is_somebodys_mistake(kind) {
                error!(alert, kind, state, spec, party, url, summary, "alert");
            } else {
                warn!(alert, kind, state, spec, party, url, summary, "alert");
            }
        }
    }
}

/// Whether somebody has signed or served what cannot be right; the others may pass by themselves.
fn is_somebodys_mistake(kind: &str) -> bool {
    use AlertKind::{CannotBuildHere, Disk, PeerBack, PeerSilent, Ring};
    kind.parse().is_ok_and(|kind: AlertKind| !matches!(kind, PeerSilent | PeerBack | CannotBuildHere | Disk | Ring))
}
