//! Everything Go fetches: a client of module proxies, and the caching proxy that builds talk to.
//!
//! ```text
//! go command ── unix socket ──▶ BuildProxy ──▶ ModuleCache ──▶ Client ──▶ proxies of the list
//!                                                  │ checked before it is kept or handed on
//!                                                  └──▶ Verify (the checksum database, `sumdb`)
//! ```
//!
//! Out of scope: knowing what a right hash is ([`crate::sumdb`]), and unpacking anything.
//!
//! Invariants: every body has a limit and a time; what is kept never changes and was checked first; nothing a
//! build sends reaches a proxy but the path of a GET.

mod build;
mod cache;
mod client;
mod commands;
mod database;
mod error;
#[cfg(test)]
pub(crate) mod fake;
mod fetch;
mod files;
pub(crate) mod flights;
mod list;
mod path;
mod retry;
mod versions;

pub use build::BuildProxy;
pub use cache::{ModuleCache, Verify};
pub use client::Client;
pub use commands::commands;
pub use database::DatabaseSource;
pub use error::FetchError;
pub(crate) use fetch::causes;
pub use fetch::http_client;
pub use files::kept_path;
pub use list::{ListError, ProxyList};
pub use path::{FileKind, VersionFile};
pub use retry::Timing;
pub use versions::ModuleInfo;

/// Bytes of a list of versions. The longest public ones are below 1 MiB.
pub const LIST_LIMIT: u64 = 16 << 20;
/// Bytes of a `.info` answer: a version, a time, and where it came from.
pub const INFO_LIMIT: u64 = 1 << 20;
/// Bytes of a go.mod file, as in Go's `module/zip` (`MaxGoMod`).
pub const MOD_LIMIT: u64 = 16 << 20;
/// Bytes of a module's zip, as in Go's `module/zip` (`MaxZipFile`).
pub const ZIP_LIMIT: u64 = 500 << 20;
/// Bytes of one answer of a checksum database: a full tile of records, generously.
pub const SUMDB_LIMIT: u64 = 1 << 20;

#[cfg(test)]
mod tests;
