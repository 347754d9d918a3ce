//! Client of a Go checksum database: which hash a module version has, proven by the database's signed log.
//!
//! Out of scope: fetching ([`crate::goproxy`]) and the tree's arithmetic ([`crate::tlog`]).

pub mod dirhash;

pub use dirhash::{hash_zip, hash1};
