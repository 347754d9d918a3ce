//! What is known of a spec, and what that means for whoever asked for it.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::settle::Voter;
use crate::model::{Class, Spec};
use crate::quorum::{self, Standing, Verdict, Word};
use crate::store::{LogId, RecordRow, Trouble, WordRow};

/// What the words on a spec come to, for people and the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There is a record.
    Accepted,
    /// Some voter has yet to name a sum.
    Waiting,
    /// Voters named different sums.
    Disputed,
    /// All voters found that it cannot be built.
    CannotBuild,
    /// Nobody has said anything.
    Unknown,
}

impl State {
    /// As the API spells it.
    pub fn name(self) -> &'static str {
        match self {
            State::Accepted => "accepted",
            State::Waiting => "waiting",
            State::Disputed => "disputed",
            State::CannotBuild => "cannot-build",
            State::Unknown => "unknown",
        }
    }
}

/// The latest word of a voter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartyWord {
    /// Who said it.
    pub voter: Voter,
    /// The log of that party in which it was said.
    pub log: LogId,
    /// Its entry there.
    pub number: u64,
    /// What was said.
    pub word: Word,
    /// When, in Unix seconds.
    pub at: i64,
}

/// All that is known of a spec.
#[derive(Clone, Debug)]
pub struct View {
    /// Of what.
    pub spec: Spec,
    /// What it comes to.
    pub state: State,
    /// The record, once there is one.
    pub record: Option<RecordRow>,
    /// What the voters said.
    pub words: Vec<PartyWord>,
    /// Voters that have yet to name a sum.
    pub waiting_for: Vec<String>,
    /// Why this node has not built it yet, if it tried.
    pub trouble: Option<Trouble>,
    /// Why there is no such module or version, while that is believed.
    pub absent: Option<String>,
    /// The newest divergence between parties on it, open or resolved.
    pub divergence: Option<i64>,
}

/// What the store and the builder have on a spec.
pub(super) struct Known {
    pub(super) record: Option<RecordRow>,
    pub(super) words: Vec<WordRow>,
    pub(super) trouble: Option<Trouble>,
    pub(super) absent: Option<String>,
    pub(super) divergence: Option<i64>,
}

impl View {
    pub(super) fn new(spec: Spec, known: Known, standings: &BTreeMap<String, Standing>, voters: &[Voter]) -> View {
        let Known { record, words, trouble, absent, divergence } = known;
        let (state, waiting_for) = match quorum::judge(&spec, standings) {
            _ if record.is_some() => (State::Accepted, Vec::new()),
            Verdict::Accepted(_) => (State::Waiting, Vec::new()),
            Verdict::Disputed => (State::Disputed, Vec::new()),
            Verdict::CannotBuild => (State::CannotBuild, Vec::new()),
            Verdict::Waiting(_) if words.is_empty() => (State::Unknown, Vec::new()),
            Verdict::Waiting(names) => (State::Waiting, names),
        };
        let words = voters
            .iter()
            .filter_map(|voter| {
                let row = words.iter().find(|row| row.vkey == voter.vkey)?;
                let (log, number, word) = (row.log, row.number, row.word.clone());
                Some(PartyWord { voter: voter.clone(), log, number, word, at: row.at })
            })
            .collect();
        View { spec, state, record, words, waiting_for, trouble, absent, divergence }
    }

    /// The answer to a wish for the record, if what is known is enough for one.
    pub fn answer(&self) -> Option<Answer> {
        if let Some(row) = &self.record {
            return Some(Answer::Record(Box::new(row.clone())));
        }
        if self.state == State::Disputed {
            return Some(Answer::Disputed { sentence: self.disagreement(), divergence: self.divergence });
        }
        if let Some(answer) = self.cannot_build() {
            return Some(answer);
        }
        if let Some(detail) = &self.absent {
            return Some(Answer::Absent(detail.clone()));
        }
        let trouble = self.trouble.as_ref()?;
        let retry_after = super::pause_left(trouble, Timestamp::now().as_second())?;
        Some(Answer::Waiting { names: self.waiting_for.clone(), detail: trouble.detail.clone(), retry_after })
    }

    /// Who found that it cannot be built, if nobody else is waited for.
    fn cannot_build(&self) -> Option<Answer> {
        let cannot: Vec<&PartyWord> =
            self.words.iter().filter(|word| matches!(word.word, Word::CannotBuild(_))).collect();
        let all = self.state == State::CannotBuild
            || self.state == State::Waiting
                && !self.waiting_for.is_empty()
                && self.waiting_for.iter().all(|name| cannot.iter().any(|word| word.voter.name == *name));
        let word = cannot.first().filter(|_| all)?;
        let Word::CannotBuild(class) = word.word else {
            return None;
        };
        let (party, log, number) = (word.voter.clone(), word.log, word.number);
        Some(Answer::CannotBuild { class, party, log, number })
    }

    /// The answer while it is still being worked on.
    pub fn waiting(&self) -> Answer {
        let detail =
            if self.words.is_empty() { "still being built; ask again" } else { "not agreed on yet; ask again" };
        Answer::waiting_for(self.waiting_for.clone(), detail)
    }

    fn disagreement(&self) -> String {
        let said: Vec<String> = self
            .words
            .iter()
            .filter_map(|word| match &word.word {
                Word::Sum { size, sum } => Some(format!("{} found {sum} ({size} bytes)", word.voter.name)),
                Word::CannotBuild(_) => None,
            })
            .collect();
        let mut text = format!("the voters disagree: {}", said.join(", "));
        if let Some(id) = self.divergence {
            text.push_str(&format!("; see /divergences/{id}"));
        }
        text
    }
}

/// What whoever asked for a record is told.
#[derive(Debug)]
pub enum Answer {
    /// Here it is.
    Record(Box<RecordRow>),
    /// The voters named different sums.
    Disputed {
        /// Who said what.
        sentence: String,
        /// The newest divergence between parties on it.
        divergence: Option<i64>,
    },
    /// It cannot be built.
    CannotBuild {
        /// Why.
        class: Class,
        /// Who found so.
        party: Voter,
        /// In which of its logs.
        log: LogId,
        /// In which entry there.
        number: u64,
    },
    /// There is no such module or version.
    Absent(String),
    /// Not yet.
    Waiting {
        /// Voters that have yet to name a sum; empty if this node is the one that is busy.
        names: Vec<String>,
        /// Why, in a sentence.
        detail: String,
        /// Seconds after which asking again makes sense.
        retry_after: u64,
    },
    /// The queue is full.
    Busy(String),
    /// Our own fault.
    Failed(anyhow::Error),
}

impl Answer {
    pub(super) fn waiting_for(names: Vec<String>, detail: &str) -> Answer {
        Answer::Waiting { names, detail: detail.to_owned(), retry_after: 10 }
    }
}

impl From<anyhow::Error> for Answer {
    fn from(error: anyhow::Error) -> Answer {
        Answer::Failed(error)
    }
}
