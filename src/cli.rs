//! The command line: one command a file.
//!
//! Out of scope: what the commands do, which the modules below know; this one reads arguments and prints.

pub mod completions;
pub mod config;
pub mod keygen;
pub mod man;
pub mod sum;

/// How a command ended, as its exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It did what was asked.
    Ok = 0,
    /// It failed.
    Failure = 1,
    /// It was called wrongly.
    Usage = 2,
    /// It found a divergence or tampering.
    Divergence = 3,
    /// Somebody's word is missing.
    Incomplete = 4,
}
