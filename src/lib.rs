//! sumpeer: an independent peer for Go binaries.

pub mod model;
pub mod tlog;
pub mod quorum;
pub mod tasks;
pub mod metrics;
pub mod store;
pub mod log;
pub mod binaries;
pub mod goproxy;
pub mod sumdb;
pub mod builder;
pub mod tally;
pub mod web;
pub mod config;
pub mod node;
pub mod cli;
