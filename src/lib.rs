//! sumpeer: an independent peer for Go binaries. It builds programs for itself, and keeps a log that anyone can check.
//!
//! # Two flows
//!
//! A wish becomes a record:
//!
//! ```text
//! request ─▶ web ─▶ tally ─▶ builder ─▶ report ─▶ tally ─▶ one transaction of the store's writer
//!             ▲       │                                      claim ─▶ claims log
//!             │       └─ known already: answered             all words ─▶ quorum::judge
//!             │          from the store                      Accepted ─▶ accepted log
//!             │                                              both heads signed, committed, announced
//!             └───────────── whoever waits reads the store ◀─┘
//! ```
//!
//! and the bytes of a binary go another way:
//!
//! ```text
//! go command ─▶ binaries: hashed, compressed, synced, in place ─▶ claim      (in this order, always)
//! download   ◀─ binaries, from the disk as the client takes them
//!                  ▲
//! voter ─▶ peer ─▶ tally: hashed whole, on a node that builds nothing
//! ```
//!
//! What a build needs comes in through one door: [`goproxy`] fetches, [`sumdb`] proves what was fetched, and the go
//! command, which has no network, talks to a module proxy on a unix socket.
//!
//! # The rooms
//!
//! A module imports only those above it; a test says so. What must go up goes through a channel or a return value.
//! The order is that of a first reading: begin with [`model`] and [`quorum`], and [`tally`] will hold no surprise.
//!
//! - [`model`]: specs, records, claims, versions: texts that are hashed and compared, parsed once and strictly.
//! - [`tlog`]: trees, tiles, proofs, signed notes, as values.
//! - [`quorum`]: when is a sum accepted? The only maker of `Accepted`.
//! - [`metrics`], [`tasks`]: counters; named tasks, of which the first to end stops the node.
//! - [`store`]: one database, one writer thread that commits in groups and signs with each commit.
//! - [`log`]: the one type of log, used twice; takes `Accepted` and nothing else for the accepted one.
//! - [`binaries`]: files named by their sum, and which of them go when there are too many.
//! - [`evidence`]: files that prove offline what somebody signed, and their check.
//! - [`alert`]: who is told of what needs a person, until it is acknowledged.
//! - [`goproxy`]: a client of module proxies by Go's rules, a cache of checked files, a proxy for each build.
//! - [`sumdb`]: what the checksum database says of a module, proven by its log.
//! - [`builder`]: a queue, toolchains, walls, one go command; one spec becomes one outcome.
//! - [`peer`]: what one peer answers: heads with good signatures, entries, streams; all with limits.
//! - [`tally`]: where wishes, builds and words meet; the one door to the accepted log.
//! - [`audit`]: what is built again of peers that do not vote, and what came of it.
//! - [`web`]: all of it as HTTP, for programs and for people.
//! - [`config`]: one TOML file; only the two below see it.
//! - [`node`]: makes the parts, connects them, stops them.
//! - [`cli`]: one command a file.
//!
//! docs/ARCHITECTURE.md has the reasons, what must always hold and which test says so, and what a crash leaves;
//! docs/PROTOCOL.md has every text byte for byte.

/// Half of what an open stream takes are buffers that are mostly empty. This allocator gives those pages of their own,
/// which the kernel never fills; glibc's puts them side by side. SQLite uses it as well.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

// Values and decisions: no tokio, no files, no clock.
pub mod model;
pub mod tlog;

pub mod quorum;

// State.
pub mod metrics;
pub mod tasks;

pub mod store;

pub mod log;

pub mod binaries;

pub mod evidence;

// The outside.
pub mod alert;

pub mod goproxy;
pub mod sumdb;

pub mod builder;

pub mod peer;

pub mod tally;

pub mod audit;

// Edges.
pub mod web;

pub mod config;

pub mod node;

pub mod cli;
