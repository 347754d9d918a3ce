//! What a node says beside its logs: who it is, whose heads it shows, and whether it will build something.
//!
//! All of it is unsigned, so hints: an answer here never counts as a word, and a head shown counts only after
//! [`super::LogClient::check_head`]. Upstream gobuild knows lookups only.

use std::sync::Arc;

use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::fetch::{Line, Wanted, shown};
use super::{Fault, Timing, Transport};
use crate::model::Spec;
use crate::tlog::{NOTE_LIMIT_BYTES, VerifierKey, parse_lookup};

/// Bytes of a node's own description: names of toolchains and the operator's notes are the longest parts.
const NODE_LIMIT_BYTES: usize = 256 << 10;
/// Bytes of one page of a node's peers, and how many pages are read.
const PEERS_LIMIT_BYTES: usize = 1 << 20;
const PEERS_PAGES: usize = 8;
/// Bytes of the answer to a want: one line.
const WANT_LIMIT_BYTES: usize = 4 << 10;
/// Bytes of a lookup's answer, as in [`parse_lookup`].
const LOOKUP_LIMIT_BYTES: usize = 64 << 10;
/// Characters of a name or state that are kept.
const WORD_CHARS: usize = 200;

/// Asks one node for what is not in its logs.
#[derive(Clone)]
pub struct NodeClient {
    line: Line,
}

/// What kind of program answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contact {
    Sumpeer(Box<NodeInfo>),
    /// It has no such API (404), so it is a gobuild.
    NotSumpeer,
}

/// `/api/v1/node`, as far as a peer needs it. Members it does not know are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct NodeInfo {
    pub name: String,
    #[serde(deserialize_with = "vkey")]
    pub vkey: VerifierKey,
    pub mode: Mode,
    /// Entries of the accepted log.
    pub size: u64,
    /// Entries of the claims log.
    pub claims: u64,
    /// Whose words it needs, itself included.
    pub voters: Vec<VoterInfo>,
}

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Its word is its claims log.
    Build,
    /// Its word is its accepted log.
    VerifyOnly,
}

/// A voter of a node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct VoterInfo {
    pub name: String,
    /// The text of its verifier key, as the node wrote it.
    pub vkey: String,
    /// Where its words come from: `self`, `claims`, `log`; others in later versions.
    pub source: String,
}

/// A head of somebody's log that a peer shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownHead {
    /// The text of the verifier key of the node whose log it is, as the peer wrote it.
    pub vkey: String,
    /// The signed note. Nothing was verified.
    pub note: String,
}

/// What a node says to a want.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct WantState {
    /// `queued`, `running`, `done`, `accepted`, `waiting`, `disputed`; others in later versions.
    pub state: String,
    /// Its place in the queue.
    pub position: Option<u64>,
}

/// A lookup's answer: that the log has such a record. Nothing was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownRecord {
    /// From 0.
    pub number: u64,
    /// The record's text, with its final newline.
    pub text: String,
    /// The signed note of the head that came with it.
    pub note: String,
}

impl NodeClient {
    pub fn new(transport: Arc<dyn Transport>, base: Url) -> NodeClient {
        NodeClient { line: Line { transport, base, timing: Timing::default() } }
    }

    /// The same with other waits.
    #[must_use]
    pub fn with_timing(mut self, timing: Timing) -> NodeClient {
        self.line.timing = timing;
        self
    }

    /// Who answers there.
    pub async fn node_info(&self) -> Result<Contact, Fault> {
        let path = "/api/v1/node";
        let wanted = json_wanted(NODE_LIMIT_BYTES);
        let body = match self.line.fetch(self.line.ask(path, false), &wanted).await {
            Err(Fault::Refused { status: 404, .. }) => return Ok(Contact::NotSumpeer),
            other => other?,
        };
        let mut info: Box<NodeInfo> = parse(path, &body)?;
        info.name = shown(&info.name, WORD_CHARS);
        for voter in &mut info.voters {
            voter.name = shown(&voter.name, WORD_CHARS);
        }
        Ok(Contact::Sumpeer(info))
    }

    /// The heads of other nodes' logs as this one last saw them, for whoever follows the same logs: a log that shows
    /// different heads to different readers is found out so.
    pub async fn peers_heads(&self) -> Result<Vec<ShownHead>, Fault> {
        let path = "/api/v1/peers";
        let mut heads = Vec::new();
        let mut after: Option<String> = None;
        for _ in 0..PEERS_PAGES {
            let mut ask = self.line.ask(path, false);
            ask.url.query_pairs_mut().append_pair("limit", "1000");
            if let Some(after) = &after {
                ask.url.query_pairs_mut().append_pair("after", after);
            }
            let page: Page = parse(path, &self.line.fetch(ask, &json_wanted(PEERS_LIMIT_BYTES)).await?)?;
            for peer in page.items {
                let notes = peer.logs.into_iter().filter_map(|log| log.head);
                let notes = notes.filter(|note| note.len() <= NOTE_LIMIT_BYTES);
                heads.extend(notes.map(|note| ShownHead { vkey: peer.vkey.clone(), note }));
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(heads)
    }

    /// Asks the node to build something. It answers at once; the outcome is read from its log.
    ///
    /// # Errors
    /// [`Fault::Refused`]: 403 it does not build, 404 it knows that it cannot be built, 429 and 503 not now.
    pub async fn want(&self, spec: &Spec) -> Result<WantState, Fault> {
        let path = "/claims/want";
        let mut ask = self.line.ask(path, false);
        ask.headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        ask.post = Some(format!("{spec}\n").into_bytes());
        let wanted = Wanted { status: StatusCode::ACCEPTED, ..json_wanted(WANT_LIMIT_BYTES) };
        let mut state: WantState = parse(path, &self.line.fetch(ask, &wanted).await?)?;
        state.state = shown(&state.state, WORD_CHARS);
        Ok(state)
    }

    /// Looks a record up, which may make the node build or ask others first: waits as long as nodes wait for that.
    /// May be cancelled at any time.
    ///
    /// # Errors
    /// [`Fault::Refused`]: 404 there can be no such record, 409 it is disputed there, 429 and 503 not now.
    pub async fn lookup(&self, spec: &Spec) -> Result<ShownRecord, Fault> {
        let path = format!("/tlog/lookup/{spec}");
        let mut ask = self.line.ask(&path, false);
        ask.first_byte = self.line.timing.lookup;
        let wanted = Wanted { status: StatusCode::OK, content_type: "text/plain", limit_bytes: LOOKUP_LIMIT_BYTES };
        let body = self.line.fetch(ask, &wanted).await?;
        let malformed = |what: String| Fault::Malformed(format!("{path}: {what}"));
        let (number, text, note) = parse_lookup(&body).map_err(|error| malformed(error.to_string()))?;
        let note = std::str::from_utf8(note).map_err(|_| malformed("the head is not UTF-8".to_owned()))?;
        Ok(ShownRecord { number, text, note: note.to_owned() })
    }
}

/// One page of `/api/v1/peers`.
#[derive(Deserialize)]
struct Page {
    items: Vec<PeerItem>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct PeerItem {
    vkey: String,
    #[serde(default)]
    logs: Vec<LogItem>,
}

#[derive(Deserialize)]
struct LogItem {
    head: Option<String>,
}

fn json_wanted(limit_bytes: usize) -> Wanted {
    Wanted { status: StatusCode::OK, content_type: "application/json", limit_bytes }
}

fn parse<T: DeserializeOwned>(path: &str, body: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(body)
        .map_err(|error| Fault::Malformed(format!("{path}: {}", shown(&error.to_string(), WORD_CHARS))))
}

fn vkey<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<VerifierKey, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}
