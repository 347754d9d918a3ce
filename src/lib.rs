//! sumpeer: an independent peer for Go binaries.

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

// The outside.
pub mod goproxy;
pub mod sumdb;

pub mod builder;

pub mod tally;

// Edges.
pub mod web;

pub mod config;

pub mod node;

pub mod cli;
