//! Peers: what is asked of them over HTTP, what they may answer, and following what their logs prove.
//!
//! ```text
//! Follower ──▶ LogClient ── heads, tiles ─────────────▶ fetch ──▶ Transport ──▶ the peer
//!                 └── stream ──▶ frames ──▶ blocks ───────────────────┘
//! tally    ──▶ NodeClient ── node, peers, want, lookup ──▶ fetch
//! tally    ──▶ BinaryClient ── binaries ──▶ fetch
//! ```
//!
//! Two floors. Below, the clients: they compare no head with another, hash no entry, keep no cursor and never try again;
//! they say what one answer is, or which [`Fault`] it has. Above, the [`Follower`]: it remembers, compares, comes back,
//! and lets out only what is [`Proven`]. The [`Circle`] is where followers of one node tell each other what they saw, and
//! the [`Vigil`] tells the operator who has fallen silent.
//! Out of scope: what words mean together ([`crate::quorum`]), and storing them ([`crate::tally`]).
//!
//! Invariants: a [`SignedHead`] was signed by the peer's key; every answer has a limit of bytes and of time, counted
//! while it is read; no redirect is followed; nothing that a peer says makes this room panic; a word that leaves it is
//! proven.

mod ask;
mod blocks;
mod circle;
mod client;
mod fault;
mod fetch;
mod follow;
mod frames;
mod mirror;
mod proven;
mod ring;
mod silence;
mod transport;
mod vigil;
mod want;

#[cfg(test)]
mod tests;

pub use ask::{Contact, Mode, NodeClient, NodeInfo, ShownHead, ShownRecord, VoterInfo, WantState};
pub use circle::Circle;
pub use client::{LogClient, SignedHead, Which};
pub use fault::Fault;
pub use fetch::Timing;
pub use follow::{Follower, Pace};
pub use frames::{Event, EventStream};
pub use mirror::{BinaryClient, Mismatch, NotFetched};
pub use proven::{Entry, Peer, Peers, Program, Proven, Said, State, Status};
pub use ring::{Waits, ring};
pub use transport::{Answer, Ask, Http, Transport};
pub use vigil::Vigil;
pub use want::Asker;
