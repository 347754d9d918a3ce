//! What each kind of alert means, and what to do about it: the same words on pages, in mails and in the feed.
//!
//! docs/OPERATING.md has a table of them.

use super::Message;
use crate::model::AlertKind;

/// What a kind means, and what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advice {
    /// A few words.
    pub title: &'static str,
    /// Some sentences.
    pub meaning: &'static str,
    /// Some sentences.
    pub todo: &'static str,
}

impl Advice {
    /// About a kind.
    pub fn of(kind: AlertKind) -> Advice {
        let (title, meaning, todo) = match kind {
            AlertKind::Divergence => (
                "Different sums",
                "These parties signed that the same source, built the same way, gives different programs. At least one of \
                 them is wrong: its machine is broken, somebody changed what it builds, or that Go release does not \
                 give the same program everywhere. While voters differ nothing is accepted; a record that was accepted \
                 before stands.",
                "Trust neither program until it is known why they differ. Fetch both, build it by hand as the page of the \
                 program says, and see whom the result agrees with. Then talk to the other operator. Settling it closes \
                 this page with a note; a voter that was wrong has to claim the right sum in its own log before \
                 anything is accepted.",
            ),
            AlertKind::Contradiction => (
                "One party, two sums",
                "This party signed two different sums for the same source at two times. Both stand in its log for good. \
                 Its latest word counts.",
                "Ask its operator what changed between the two builds: memory that forgets, a disk that lies, a machine \
                 that somebody else uses. If it is this node, test its memory and run sumpeer check.",
            ),
            AlertKind::Fork => (
                "Two logs under one key",
                "This party signed two heads that no single log can have: it shows one history to some and another one \
                 to others, or it lost entries that it had signed for. It is in quarantine: what it said before still \
                 vetoes, and nothing it says counts as agreement.",
                "Ask its operator. If it was restored from a backup or lost its log, it needs a new key and a new [[peer]] \
                 entry here. Releasing it changes nothing that was verified: it must go on with exactly the log that is \
                 stored here, or its next head convicts it again.",
            ),
            AlertKind::BadRoot => (
                "Entries that do not give the signed head",
                "However often they were fetched, the entries that this party serves do not give the root that it signed. \
                 Entries are not signed, so the file below shows this but cannot prove it alone. The party is in \
                 quarantine: what it said before still vetoes, and nothing it says counts as agreement.",
                "Ask its operator, and look at what stands between you and them: a cache that keeps old entries does this \
                 too. Releasing the party makes this node read on from where it was.",
            ),
            AlertKind::Rollback => (
                "A log that went back",
                "This party keeps showing a head that is smaller than one it signed before, though both fit one log. Heads \
                 carry no time, so nobody else can be convinced by this alone. It is no quarantine.",
                "Ask its operator: a node restored from a backup does this, and will fork with its next entry.",
            ),
            AlertKind::MirrorMismatch => (
                "Other bytes than its log names",
                "A program came whole from this party and was not what its log names. Downloads are not signed, so nobody \
                 else can be convinced by this alone. They were given to nobody: who had asked for a download got it from \
                 another voter, or not at all. The first ones are kept under their SHA-256 in the folder evidence of the \
                 data directory.",
                "Ask its operator to check the disk; look at what stands between you and them.",
            ),
            AlertKind::OwnLog => (
                "This node's own log is in doubt",
                "A peer has shown a head that this node's key signed and that its log does not have. Somebody else has the \
                 key, or the log was restored from a backup and has lost entries. This node signs nothing any more; what \
                 it has is still served.",
                "Find out which of the two it is. Either way the key is used up: begin again with an empty data directory \
                 and a new key, tell your users and peers both keys, and keep the old data as evidence.",
            ),
            AlertKind::PeerSilent => (
                "A silent peer",
                "It has not answered with a head that its key signed for as long as alerts.peer-silence allows. What waits \
                 for its word goes on waiting; nothing that is known is lost. If none of the peers answers, it is most \
                 likely the network of this node.",
                "See what `sumpeer peers` shows as its last error. If it is the network, mend it: following goes on by \
                 itself from where it was. If the peer is gone for good, take it out of the configuration, and what \
                 waits for it is judged without it.",
            ),
            AlertKind::PeerBack => (
                "A peer is back",
                "A peer that was silent answers again. What it has said meanwhile is being read.",
                "Nothing.",
            ),
            AlertKind::CannotBuildHere => (
                "Others can build what this node cannot",
                "This node found that it cannot build a program, for a reason that does not pass, and another party has \
                 built it. Where this node votes, the program is accepted by nobody who needs its word.",
                "Read the build's output on its page. If this machine is the reason (a limit of [build-limits], an older \
                 Go as newest-go), change that and ask for a retry on the page. If the program really needs what a build \
                 here must not have, such as cgo, the other party builds in another way than agreed: ask its operator.",
            ),
            AlertKind::Disk => (
                "Too little room on the disk",
                "The disk of the data directory has less room than a large build needs. Builds that find no room are tried \
                 again later; if the database finds none, the node stops, and nothing that was committed is lost.",
                "Make room, or make binary-cache smaller. The alert ends by itself.",
            ),
            AlertKind::Ring => (
                "Nodes wait for each other",
                "These nodes take each other's word from the accepted log, which says nothing before everybody that it \
                 waits for has spoken. So none of them ever accepts what needs the others. Everything else goes on.",
                "One of them has to stop waiting for the next: let it build for itself, or set vote = false for that peer.",
            ),
        };
        Advice { title, meaning, todo }
    }

    /// About what is told; none for a test.
    pub(super) fn about(message: &Message) -> Option<Advice> {
        message.kind.parse().ok().map(Advice::of)
    }
}

/// A few words and the sentence.
pub(super) fn headline(message: &Message) -> String {
    let title = Advice::about(message).map_or("Alert", |advice| advice.title);
    let is_back = message.kind == AlertKind::PeerBack.as_str();
    let ended = if message.is_open() || is_back { "" } else { " (over)" };
    format!("{title}{ended}: {}", message.summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_in_the_table_for_operators() {
        let table = include_str!("../../docs/OPERATING.md");
        for kind in AlertKind::ALL {
            assert!(table.contains(&format!("| `{kind}` |")), "docs/OPERATING.md does not explain {kind}");
        }
    }
}
