//! What is asked of one peer over HTTP, and what it may answer.
//!
//! ```text
//! follower ──▶ LogClient ── heads, tiles ─────────────▶ fetch ──▶ Transport ──▶ the peer
//!                 └── stream ──▶ frames ──▶ blocks ───────────────────┘
//! tally    ──▶ NodeClient ── node, peers, want, lookup ──▶ fetch
//! ```
//!
//! Out of scope: what was heard before. This room compares no head with another, hashes no entry, keeps no cursor and
//! never tries again; it says what one answer is, or which [`Fault`] it has.
//!
//! Invariants: a [`SignedHead`] was signed by the peer's key; every answer has a limit of bytes and of time, counted
//! while it is read; no redirect is followed; nothing that a peer says makes this room panic.

mod ask;
mod blocks;
mod client;
mod fault;
mod fetch;
mod frames;
mod proven;
mod transport;
mod want;

#[cfg(test)]
mod tests;

pub use ask::{Contact, Mode, NodeClient, NodeInfo, ShownHead, ShownRecord, VoterInfo, WantState};
pub use client::{LogClient, SignedHead, Which};
pub use fault::Fault;
pub use fetch::Timing;
pub use frames::{Event, EventStream};
pub use proven::{Entry, Peer, Peers, Program, Proven, Said, State, Status};
pub use transport::{Answer, Ask, Http, Transport};
pub use want::Asker;
