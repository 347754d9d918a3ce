//! A world for tests: a module proxy with made-up modules and real toolchains, a checksum database
//! that vouches for them, and nodes that are real processes.

mod database;
mod modules;
mod node;

pub use modules::{Fault, Module, Modules};
pub use node::{Answer, Node, Setup};

use std::path::PathBuf;

/// The Go release that tests build with.
pub const GO: &str = "go1.27.1";

/// A folder that outlives a test run, for what takes long to fetch.
pub fn kept(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).expect("a folder below target/");
    folder
}
