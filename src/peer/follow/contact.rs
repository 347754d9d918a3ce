//! What program a peer runs, and so which of its logs has its words.
//!
//! Pure: an answer goes in, a finding comes out. Asking is left to `watch` and to the follower's first contact.

use crate::peer::{Contact, Mode, Peer, Program};
use crate::store::LogId;

/// What was found out about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) program: Program,
    /// Where its words are.
    pub(super) log: LogId,
}

impl Finding {
    pub(super) fn from_row(program: &str, log: LogId) -> Option<Finding> {
        let program = match program {
            "sumpeer" => Program::Sumpeer,
            "gobuild" => Program::Gobuild,
            _ => return None,
        };
        Some(Finding { program, log })
    }

    pub(super) fn to_row(self) -> &'static str {
        match self.program {
            Program::Sumpeer => "sumpeer",
            Program::Gobuild => "gobuild",
        }
    }
}

/// What an answer says of a peer.
///
/// # Errors
/// It is not this peer that answers, or not the program that the operator says it is; in a sentence.
pub(super) fn read(peer: &Peer, contact: &Contact) -> Result<Finding, String> {
    match contact {
        Contact::Sumpeer(info) if info.vkey != peer.key => {
            Err(format!("the node there has the key {}, not {}", info.vkey, peer.key))
        }
        Contact::Sumpeer(info) => {
            let log = match info.mode {
                Mode::Build => LogId::Claims,
                Mode::VerifyOnly => LogId::Accepted,
            };
            Ok(Finding { program: Program::Sumpeer, log })
        }
        Contact::NotSumpeer if peer.program == Some(Program::Sumpeer) => {
            Err("it answers 404 where a sumpeer says who it is".to_owned())
        }
        Contact::NotSumpeer => Ok(Finding { program: Program::Gobuild, log: LogId::Accepted }),
    }
}

/// What is believed of a peer, and what it would have to say once more to change that.
pub(super) struct Belief {
    known: Finding,
    /// Said once, a poll ago.
    said: Option<Finding>,
}

impl Belief {
    pub(super) fn new(known: Finding) -> Belief {
        Belief { known, said: None }
    }

    /// Takes the next answer. A change counts when it is said twice in a row, so that one odd answer, of a proxy in
    /// between or of a node that is just starting, moves nothing.
    ///
    /// # Errors
    /// A sumpeer does not become a gobuild: words would silently come from another log.
    pub(super) fn hear(&mut self, found: Finding) -> Result<Option<Finding>, String> {
        if found == self.known {
            self.said = None;
            return Ok(None);
        }
        if self.known.program == Program::Sumpeer && found.program == Program::Gobuild {
            self.said = None;
            return Err("it was a sumpeer, and now answers 404 where one says who it is".to_owned());
        }
        if self.said == Some(found) {
            return Ok(Some(found));
        }
        self.said = Some(found);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILDS: Finding = Finding { program: Program::Sumpeer, log: LogId::Claims };
    const VERIFIES: Finding = Finding { program: Program::Sumpeer, log: LogId::Accepted };
    const GOBUILD: Finding = Finding { program: Program::Gobuild, log: LogId::Accepted };

    #[test]
    fn a_change_counts_when_it_was_said_twice_in_a_row() {
        // What is known, what is heard, and after which of these it counts.
        let table: [(Finding, &[Finding], Option<usize>); 6] = [
            (BUILDS, &[BUILDS, BUILDS], None),
            (BUILDS, &[VERIFIES, VERIFIES], Some(1)),
            (BUILDS, &[VERIFIES, BUILDS, VERIFIES], None),
            (BUILDS, &[VERIFIES, GOBUILD, VERIFIES], None),
            (GOBUILD, &[BUILDS, VERIFIES, VERIFIES], Some(2)),
            (BUILDS, &[GOBUILD, GOBUILD, GOBUILD], None),
        ];
        for (known, heard, counts) in table {
            let mut belief = Belief::new(known);
            let at = heard.iter().position(|found| matches!(belief.hear(*found), Ok(Some(new)) if new == *found));
            assert_eq!(at, counts, "{known:?} then {heard:?}");
        }
        assert!(Belief::new(BUILDS).hear(GOBUILD).is_err());
    }

    #[test]
    fn rows_come_back() {
        for finding in [BUILDS, VERIFIES, GOBUILD] {
            assert_eq!(Finding::from_row(finding.to_row(), finding.log), Some(finding));
        }
        assert_eq!(Finding::from_row("other", LogId::Claims), None);
    }
}
