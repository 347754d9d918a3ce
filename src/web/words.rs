//! What each voter says about one program, for the pages of builds and results.

use super::State;
use super::pages::{bytes, time};
use crate::quorum::Word;
use crate::store::LogId;
use crate::tally::{PartyWord, View, Voter};

/// Everything that those pages say about words.
pub(super) struct Words {
    /// One a voter; empty if there is only this node, which has said nothing.
    pub(super) lines: Vec<WordLine>,
    /// Whose word is needed for a record.
    pub(super) waiting: String,
    /// The page of the newest divergence; empty if there was none.
    pub(super) divergence: String,
    /// Whether there is a record all the same.
    pub(super) recorded: bool,
}

/// A voter's word.
pub(super) struct WordLine {
    pub(super) party: String,
    pub(super) said: String,
    pub(super) at: String,
    /// Where the word can be read and checked.
    pub(super) link: String,
    pub(super) silent: bool,
}

impl Words {
    /// What each voter says, the silent ones included.
    pub(super) fn of(state: &State, view: &View) -> Words {
        let voters = state.tally.voters();
        let nothing = view.words.is_empty() && voters.len() < 2;
        let line = |voter: &Voter| {
            let word = view.words.iter().find(|word| word.voter.vkey == voter.vkey);
            WordLine {
                party: voter.name.clone(),
                said: word.map_or_else(|| "nothing yet".to_owned(), |word| said(&word.word)),
                // Records say no time.
                at: word.filter(|word| word.at != 0).map(|word| time(word.at)).unwrap_or_default(),
                link: word.and_then(|word| link(state, view, word)).unwrap_or_default(),
                silent: word.is_none(),
            }
        };
        Words {
            lines: if nothing { Vec::new() } else { voters.iter().map(line).collect() },
            waiting: if view.words.is_empty() { String::new() } else { view.waiting_for.join(", ") },
            divergence: view.divergence.map(|id| format!("/divergences/{id}")).unwrap_or_default(),
            recorded: view.record.is_some(),
        }
    }
}

/// Where a word stands with its proof: here, or at the peer.
fn link(state: &State, view: &View, word: &PartyWord) -> Option<String> {
    let base = if word.voter.own {
        String::new()
    } else {
        let mut peers = state.peers.iter();
        let (peer, _) = peers.find(|(peer, _)| peer.key.to_string() == word.voter.vkey)?;
        peer.url.as_str().trim_end_matches('/').to_owned()
    };
    Some(match word.log {
        LogId::Claims => format!("{base}/claims/lookup/{}", view.spec),
        LogId::Accepted => format!("{base}/tlog/lookup/{}", view.spec),
    })
}

fn said(word: &Word) -> String {
    match word {
        Word::Sum { size, sum } => format!("{sum}, {}", bytes(*size)),
        Word::CannotBuild(class) => format!("cannot be built: {class}"),
    }
}
