//! What is told of an alert: the same members for every channel and for the API, as docs/PROTOCOL.md has them.
//!
//! A message is made at the time of telling, from the rows: by then all words of a divergence are stored, and parties are
//! called as the operator calls them now.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Serialize;

use crate::model::AlertKind;
use crate::store::{AlertRow, DivergenceRow, EventId, LogId, Pending, Reader, SaidRow};

/// What the rooms above know of and messages need. Cloning gives another handle.
#[derive(Clone)]
pub struct Author {
    /// What the operator calls the party with a verifier key.
    pub name_of: Arc<dyn Fn(&str) -> String + Send + Sync>,
    /// The file that proves a divergence; none if there is none yet.
    pub evidence: Arc<Evidence>,
    /// Where this node's pages are, without a slash at the end.
    pub base: String,
}

/// Makes the file that proves a divergence.
pub type Evidence = dyn Fn(&Reader<'_>, &DivergenceRow) -> anyhow::Result<Option<String>> + Send + Sync;

/// An alert as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// The alert's number, or `test`.
    pub id: String,
    /// What it is; one of [`AlertKind`], or `test`. Receivers have to take others as well.
    pub kind: String,
    /// `open` or `resolved`.
    pub state: &'static str,
    /// Of what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<String>,
    /// Whom it is about, as the operator of this node calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub party: Option<String>,
    /// The verifier key of whom it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vkey: Option<String>,
    /// One sentence.
    pub summary: String,
    /// Who said what.
    pub words: Vec<Word>,
    /// When it was raised.
    pub first_seen: Timestamp,
    /// When it was last seen again, or ended.
    pub last_seen: Timestamp,
    /// The page that has more to say.
    pub url: String,
}

/// A sum that somebody has named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Word {
    /// Who, as the operator of this node calls it.
    pub party: String,
    /// Its verifier key.
    pub vkey: String,
    /// In which of its logs: `claims`, or `log` for the accepted one.
    pub source: &'static str,
    /// In which entry.
    pub number: u64,
    /// The sum.
    pub sum: String,
    /// Bytes of the program.
    pub size: u64,
    /// When, by its own clock; records say no time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

/// Something that happened to an alert, ready to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// In the outbox; none for a test.
    pub(super) pending: Option<Pending>,
    /// The same at every try, and like no other's.
    pub(super) uid: String,
    /// What to say.
    pub(super) message: Message,
    /// The divergence that it is about, if it is about one.
    pub(super) divergence: Option<i64>,
}

impl Message {
    /// Of an alert, in the state that it is or was in.
    ///
    /// # Errors
    /// The database failed.
    pub fn of(
        reader: &Reader<'_>,
        row: &AlertRow,
        open: bool,
        name_of: &dyn Fn(&str) -> String,
        base: &str,
    ) -> anyhow::Result<Message> {
        let divergence = row.divergence.map_or(Ok(None), |id| reader.divergence(id))?;
        let words: Vec<Word> =
            divergence.iter().flat_map(|row| &row.words).map(|said| Word::of(said, name_of)).collect();
        let party = row.party.as_deref().map(name_of);
        let summary = match &row.summary {
            Some(summary) => summary.clone(),
            None => {
                let kept = divergence.as_ref().and_then(|row| row.evidence.as_deref());
                summarize(row.kind, row.spec.as_deref(), party.as_deref(), &words, kept)
            }
        };
        let note = divergence.as_ref().and_then(|row| row.note.as_deref());
        let summary = match (open, note) {
            (true, _) => summary,
            (false, _) if row.kind == AlertKind::PeerSilent => {
                let who = party.as_deref().map_or("Peers answer".to_owned(), |party| format!("{party} answers"));
                format!("{who} again. Told before: {summary}")
            }
            (false, None) => format!("Over: {summary}"),
            (false, Some(note)) => format!("Settled ({note}): {summary}"),
        };
        let kind = match (row.kind, open) {
            // The end of a silence is what people wait for, so it has a name.
            (AlertKind::PeerSilent, false) => AlertKind::PeerBack,
            (kind, _) => kind,
        };
        let time = |at| Timestamp::from_second(at).context("a stored time is out of range");
        Ok(Message {
            id: row.id.0.to_string(),
            kind: kind.to_string(),
            state: state(open),
            spec: row.spec.clone(),
            party,
            vkey: row.party.clone(),
            summary,
            words,
            first_seen: time(row.first_seen)?,
            last_seen: time(row.last_seen)?,
            url: match row.divergence {
                Some(id) => format!("{base}/divergences/{id}"),
                None => format!("{base}/divergences"),
            },
        })
    }

    /// One that asks for nothing, from the node of this name.
    pub(super) fn test(node: &str, base: &str) -> Message {
        Message {
            id: "test".to_owned(),
            kind: "test".to_owned(),
            state: state(true),
            spec: None,
            party: None,
            vkey: None,
            summary: format!("This is a test of {node}: its alerts arrive here."),
            words: Vec::new(),
            first_seen: Timestamp::UNIX_EPOCH,
            last_seen: Timestamp::UNIX_EPOCH,
            url: format!("{base}/divergences"),
        }
    }

    /// Whether it tells that an alert was raised; otherwise it has ended.
    pub fn is_open(&self) -> bool {
        self.state == state(true)
    }
}

impl Word {
    /// As a row has it.
    pub fn of(said: &SaidRow, name_of: &dyn Fn(&str) -> String) -> Word {
        Word {
            party: name_of(&said.vkey),
            vkey: said.vkey.clone(),
            source: match said.log {
                LogId::Claims => "claims",
                LogId::Accepted => "log",
            },
            number: said.number,
            sum: said.sum.to_string(),
            size: said.size,
            at: Timestamp::from_second(said.at).ok().filter(|_| said.at != 0),
        }
    }
}

impl Told {
    /// A test at this time, like no other.
    pub(super) fn test(message: Message, now: Timestamp) -> Told {
        let message = Message { first_seen: now, last_seen: now, ..message };
        let uid = data_encoding::HEXLOWER.encode(&rand::random::<[u8; 16]>());
        Told { pending: None, uid, message, divergence: None }
    }

    /// A pending event.
    pub(super) fn of(reader: &Reader<'_>, pending: Pending, author: &Author) -> anyhow::Result<Told> {
        let EventId(number) = pending.event;
        let event = reader.alert_event(pending.event).with_context(|| format!("the event {number} of an alert"))?;
        let row = reader.alert(event.alert)?.context("an event is of no alert")?;
        let message = Message::of(reader, &row, event.open, &*author.name_of, &author.base)?;
        Ok(Told { pending: Some(pending), uid: event.uid, message, divergence: row.divergence })
    }
}

fn state(open: bool) -> &'static str {
    if open { "open" } else { "resolved" }
}

/// One sentence about a divergence. `kept` is what came with it.
fn summarize(kind: AlertKind, spec: Option<&str>, party: Option<&str>, words: &[Word], kept: Option<&str>) -> String {
    let spec = spec.unwrap_or("a whole log");
    let party = party.unwrap_or("somebody");
    match kind {
        AlertKind::Divergence => format!("Different programs of {spec}: {}.", who_says_what(words)),
        AlertKind::Contradiction => match words {
            [.., was, is] => format!("{party} has named two sums of {spec}: {}, and now {}.", sum(was), sum(is)),
            _ => format!("{party} has named two sums of {spec}."),
        },
        AlertKind::Fork => {
            format!("{party} has signed two logs that cannot be one, and is in quarantine until you release it.")
        }
        AlertKind::BadRoot => format!(
            "{party} serves entries that do not give the root it signed, and is in quarantine until you release it."
        ),
        AlertKind::Rollback => format!("{party} keeps showing a log that is smaller than one it signed before."),
        AlertKind::MirrorMismatch => format!("{party} has served other bytes of {spec} than its log names."),
        AlertKind::OwnLog => match kept {
            Some(why) => format!("This node signs nothing any more: {}.", why.trim_end_matches('.')),
            None => "This node signs nothing any more: its own log is in doubt.".to_owned(),
        },
        AlertKind::PeerSilent
        | AlertKind::PeerBack
        | AlertKind::CannotBuildHere
        | AlertKind::Disk
        | AlertKind::Ring => format!("{kind}: {party}, {spec}."),
    }
}

/// The latest word of each party; those that say the same together, in the order of their words.
fn who_says_what(words: &[Word]) -> String {
    let latest: BTreeMap<&str, &Word> = words.iter().map(|word| (word.vkey.as_str(), word)).collect();
    let mut groups: Vec<(&Word, Vec<&str>)> = Vec::new();
    for word in words.iter().filter(|word| latest.get(word.vkey.as_str()) == Some(word)) {
        match groups.iter_mut().find(|(first, _)| (first.size, &first.sum) == (word.size, &word.sum)) {
            Some((_, names)) => names.push(&word.party),
            None => groups.push((word, vec![&word.party])),
        }
    }
    let says = |(word, names): &(&Word, Vec<&str>)| {
        let verb = if names.len() == 1 { "says" } else { "say" };
        format!("{} {verb} {}", names.join(" and "), sum(word))
    };
    groups.iter().map(says).collect::<Vec<_>>().join(", ")
}

fn sum(word: &Word) -> String {
    format!("{} ({} bytes)", word.sum, word.size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(party: &str, sum: &str) -> Word {
        let (party, sum) = (party.to_owned(), sum.to_owned());
        Word { vkey: format!("{party}+1+x"), party, source: "claims", number: 0, sum, size: 9, at: None }
    }

    #[test]
    fn sentences_name_who_says_what() {
        let check = |kind, words: &[(&str, &str)], want: &str| {
            let words: Vec<Word> = words.iter().map(|(party, sum)| word(party, sum)).collect();
            assert_eq!(summarize(kind, Some("m@v1/"), Some("beta"), &words, None), want);
        };
        check(
            AlertKind::Divergence,
            &[("alpha", "0a"), ("beta", "0b"), ("gamma", "0a")],
            "Different programs of m@v1/: alpha and gamma say 0a (9 bytes), beta says 0b (9 bytes).",
        );
        check(
            AlertKind::Divergence,
            &[("alpha", "0a"), ("beta", "0b"), ("beta", "0c")],
            "Different programs of m@v1/: alpha says 0a (9 bytes), beta says 0c (9 bytes).",
        );
        check(
            AlertKind::Contradiction,
            &[("beta", "0b"), ("beta", "0c")],
            "beta has named two sums of m@v1/: 0b (9 bytes), and now 0c (9 bytes).",
        );
        check(AlertKind::MirrorMismatch, &[], "beta has served other bytes of m@v1/ than its log names.");
        let own = summarize(AlertKind::OwnLog, None, None, &[], Some("beta shows a head."));
        assert_eq!(own, "This node signs nothing any more: beta shows a head.");
    }

    #[test]
    fn what_does_not_apply_is_left_out() {
        let message = Message::test("a.example", "http://a.example");
        let json = serde_json::to_string(&message).expect("JSON");
        let want = "{\"id\":\"test\",\"kind\":\"test\",\"state\":\"open\",\
            \"summary\":\"This is a test of a.example: its alerts arrive here.\",\"words\":[],\
            \"first_seen\":\"1970-01-01T00:00:00Z\",\"last_seen\":\"1970-01-01T00:00:00Z\",\
            \"url\":\"http://a.example/divergences\"}";
        assert_eq!(json, want);
    }
}
