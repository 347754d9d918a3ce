//! What can be wrong with an answer, as far as a caller branches.
//!
//! What follows from it (a pause, a vote not counted, a quarantine) is the caller's to decide.

use std::time::Duration;

/// Why there is no answer to believe. None of these convicts a peer: all of them can happen to an honest one.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Another status than the one that brings an answer; redirects are among them.
    #[error("the peer answers {status}{}", said(.body))]
    Refused {
        status: u16,
        /// From `Retry-After`, between a second and ten minutes.
        retry_after: Option<Duration>,
        /// The first line of what it said, short and printable; may be empty.
        body: String,
    },
    /// A stream was asked to go on behind the end of the peer's log (409): one of the two logs went back.
    #[error("the peer's log ends before the entry to go on from{}", size_said(*.size))]
    Beyond {
        /// How many entries the peer says it has. Unsigned, so a hint.
        size: Option<u64>,
    },
    /// A note that the peer's key did not sign, or that it signed for something else. Proves nothing.
    #[error("{0}")]
    Unsigned(String),
    /// Not what the protocol says: where, and what was wrong.
    #[error("{0}")]
    Malformed(String),
    /// No connection, no answer in time, or an answer that was cut off.
    #[error("{0:#}")]
    Network(anyhow::Error),
}

fn said(body: &str) -> String {
    if body.is_empty() { String::new() } else { format!(": {body}") }
}

fn size_said(size: Option<u64>) -> String {
    size.map(|size| format!(": it has {size}")).unwrap_or_default()
}
