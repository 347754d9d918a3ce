//! What goes into the builder and what comes out, as plain values.

use std::time::Duration;

use jiff::Timestamp;

use super::{Finished, Priority, Progress};
use crate::model::{Class, Spec};
use crate::store::BinaryRow;

/// Limits on one build (`[build-limits]`).
#[derive(Clone, Debug)]
pub struct BuildLimits {
    /// Wall-clock time of the go command.
    pub time: Duration,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes kept of the output, at most [`super::transcript::LIMIT_BYTES`].
    pub output: usize,
    /// Bytes of the finished program.
    pub binary: u64,
}

impl BuildLimits {
    /// Bytes of the largest file a build may write: the program, or a module's zip, which may have
    /// 500 MB by the go command's own rules.
    pub(super) fn file(&self) -> u64 {
        self.binary.max(512 << 20)
    }
}

/// What came of one build.
#[derive(Debug)]
pub struct BuildReport {
    pub spec: Spec,
    pub outcome: Outcome,
    /// The build's log, compressed.
    pub log_gz: Vec<u8>,
    /// Hash of the toolchain; empty if it could not be had.
    pub toolchain_h1: String,
    pub sandbox: &'static str,
    pub host: String,
    /// From leaving the queue to this report.
    pub took: Duration,
    /// To be dropped when the report's effects are stored.
    pub finished: Finished,
}

/// How a build ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The binary is in place, synced; its row is to be written with the claim.
    Built(BinaryRow),
    /// It cannot be built, today or ever: a claim.
    CannotBuild { class: Class, detail: String },
    /// The module, version or Go version does not exist, or not yet: never a claim.
    NotFound { detail: String },
    /// Trouble that may pass: never a claim.
    Temporary { detail: String },
}

impl Outcome {
    /// The label it is counted under.
    pub fn kind(&self) -> &'static str {
        match self {
            Outcome::Built(_) => "built",
            Outcome::CannotBuild { .. } => "cannot-build",
            Outcome::NotFound { .. } => "not-found",
            Outcome::Temporary { .. } => "temporary",
        }
    }
}

/// What the queue holds at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub running: Vec<RunningBuild>,
    /// The next first.
    pub waiting: Vec<WaitingBuild>,
}

#[derive(Clone, Debug)]
pub struct RunningBuild {
    pub spec: Spec,
    pub progress: Progress,
    /// When it was asked for.
    pub since: Timestamp,
}

#[derive(Clone, Debug)]
pub struct WaitingBuild {
    pub spec: Spec,
    pub priority: Priority,
    /// 0 is next.
    pub position: usize,
    /// When it was asked for.
    pub since: Timestamp,
}
