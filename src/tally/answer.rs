//! What is known of a spec, and what that means for whoever asked for it.

use jiff::Timestamp;

use super::settle::{Voter, standings};
use crate::model::{Class, Spec};
use crate::quorum::{self, Verdict, Word};
use crate::store::{RecordRow, Trouble, WordRow};

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
    /// Its entry in that party's log.
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
}

impl View {
    pub(super) fn new(
        spec: Spec,
        record: Option<RecordRow>,
        words: &[WordRow],
        trouble: Option<Trouble>,
        absent: Option<String>,
        voters: &[Voter],
    ) -> View {
        let standings = standings(words, voters);
        let (state, waiting_for) = match quorum::judge(&spec, &standings) {
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
                Some(PartyWord { voter: voter.clone(), number: row.number, word: row.word.clone(), at: row.at })
            })
            .collect();
        View { spec, state, record, words, waiting_for, trouble, absent }
    }

    /// The answer to a wish for the record, if what is known is enough for one.
    pub fn answer(&self) -> Option<Answer> {
        if let Some(row) = &self.record {
            return Some(Answer::Record(Box::new(row.clone())));
        }
        if self.state == State::Disputed {
            return Some(Answer::Disputed(self.disagreement()));
        }
        if self.state == State::CannotBuild {
            let cannot = self.words.iter().find_map(|word| match word.word {
                Word::CannotBuild(class) => Some((class, word.voter.name.clone(), word.number)),
                Word::Sum { .. } => None,
            });
            let (class, party, number) = cannot?;
            return Some(Answer::CannotBuild { class, party, number });
        }
        if let Some(detail) = &self.absent {
            return Some(Answer::Absent(detail.clone()));
        }
        let trouble = self.trouble.as_ref()?;
        let pause = trouble.next_at - Timestamp::now().as_second();
        (pause > 0).then(|| Answer::Waiting {
            names: self.waiting_for.clone(),
            detail: trouble.detail.clone(),
            retry_after: u64::try_from(pause).unwrap_or(0),
        })
    }

    /// The answer while it is still being worked on.
    pub fn waiting(&self) -> Answer {
        Answer::waiting_for(self.waiting_for.clone(), "still being built; ask again")
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
        format!("the voters disagree: {}", said.join(", "))
    }
}

/// What whoever asked for a record is told.
#[derive(Debug)]
pub enum Answer {
    /// Here it is.
    Record(Box<RecordRow>),
    /// The voters named different sums.
    Disputed(String),
    /// It cannot be built.
    CannotBuild {
        /// Why.
        class: Class,
        /// Who found so.
        party: String,
        /// In which entry of that party's log.
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
