//! The kinds of what an operator is told of.

use std::fmt;
use std::str::FromStr;

use super::{ParseError, quote};

/// What somebody has to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlertKind {
    /// Two parties have named different sums of one spec.
    Divergence,
    /// One party has named two sums of one spec.
    Contradiction,
    /// A party has signed two heads that no single log can have.
    Fork,
    /// A party keeps showing a log that is smaller than one it signed.
    Rollback,
    /// The entries that a party serves do not give the root it signed.
    BadRoot,
    /// A party served other bytes than its log names.
    MirrorMismatch,
    /// A party has not been heard of for too long.
    PeerSilent,
    /// A party is heard of again.
    PeerBack,
    /// This node cannot build what others have built.
    CannotBuildHere,
    /// Somebody has shown a head by this node's key that its log does not have.
    OwnLog,
    /// There is less room on the disk than a build needs.
    Disk,
    /// Nodes wait for each other's accepted logs in a ring.
    Ring,
}

impl AlertKind {
    /// Every kind.
    pub const ALL: [AlertKind; 12] = [
        AlertKind::Divergence,
        AlertKind::Contradiction,
        AlertKind::Fork,
        AlertKind::Rollback,
        AlertKind::BadRoot,
        AlertKind::MirrorMismatch,
        AlertKind::PeerSilent,
        AlertKind::PeerBack,
        AlertKind::CannotBuildHere,
        AlertKind::OwnLog,
        AlertKind::Disk,
        AlertKind::Ring,
    ];

    /// The kind as texts name it.
    pub fn as_str(self) -> &'static str {
        match self {
            AlertKind::Divergence => "divergence",
            AlertKind::Contradiction => "contradiction",
            AlertKind::Fork => "fork",
            AlertKind::Rollback => "rollback",
            AlertKind::BadRoot => "bad-root",
            AlertKind::MirrorMismatch => "mirror-mismatch",
            AlertKind::PeerSilent => "peer-silent",
            AlertKind::PeerBack => "peer-back",
            AlertKind::CannotBuildHere => "cannot-build-here",
            AlertKind::OwnLog => "own-log",
            AlertKind::Disk => "disk",
            AlertKind::Ring => "ring",
        }
    }
}

impl fmt::Display for AlertKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for AlertKind {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<AlertKind, ParseError> {
        let found = AlertKind::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| ParseError::new(format!("{} is not a kind of alert", quote(text))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_read_as_they_are_written() {
        for kind in AlertKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert!("Divergence".parse::<AlertKind>().is_err());
    }
}
