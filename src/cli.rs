//! The command line.

pub mod get;
