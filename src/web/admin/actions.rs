//! What the operator can do while the node runs: end quarantines, settle divergences, try out who is told.
//!
//! Whoever acts shows the token of the running node, which only the owner of the data directory can read. Pages of other
//! sites cannot know it, and a browser sends it for nobody.

use axum::body::Body;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;
use tracing::info;
use zeroize::Zeroizing;

use crate::alert::Channels;
use crate::store::Quarantine;
use crate::web::error::Error;
use crate::web::{State, api, divergences, read_body};

/// Bytes of a body.
const BODY_LIMIT: usize = 64 << 10;
/// Characters of a note: what one needs to say why, not a report.
const NOTE_LIMIT: usize = 4000;

/// The secret of this start of the node.
pub struct Token(Zeroizing<String>);

impl Token {
    /// From its text.
    pub fn new(text: String) -> Token {
        Token(Zeroizing::new(text))
    }

    /// Whether a request shows it, as `Authorization: Bearer TOKEN`.
    pub(super) fn is_shown(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some((scheme, token)) = shown.and_then(|shown| shown.split_once(' ')) else {
            return false;
        };
        // How long it takes to refuse a guess must not tell how much of it is right.
        scheme.eq_ignore_ascii_case("bearer") && bool::from(token.as_bytes().ct_eq(self.0.as_bytes()))
    }
}

/// Something to do.
pub(super) enum Action {
    Release,
    Resolve,
    TestAlerts,
}

/// Whom to believe again, and why.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Release {
    /// Its name, or its whole verifier key: one that is not configured any more has no name.
    peer: String,
    note: String,
}

/// What is settled, and how.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resolve {
    divergence: String,
    note: String,
}

impl Action {
    /// What a path is for, if it is for any.
    pub(super) fn at(path: &str) -> Option<Action> {
        match path {
            "/actions/release" => Some(Action::Release),
            "/actions/resolve" => Some(Action::Resolve),
            "/actions/test-alerts" => Some(Action::TestAlerts),
            _ => None,
        }
    }

    /// Does it.
    pub(super) async fn run(self, state: &State, channels: &Channels, body: Body) -> Result<Response<Body>, Error> {
        let body = read_body(body, BODY_LIMIT).await?;
        match self {
            Action::Release => release(state, parse(&body)?).await,
            Action::Resolve => resolve(state, parse(&body)?).await,
            Action::TestAlerts => Ok(api::json(&json!({"channels": test_alerts(channels).await}))),
        }
    }
}

async fn release(state: &State, release: Release) -> Result<Response<Body>, Error> {
    let note = note(release.note)?;
    let Release { peer, .. } = release;
    let known = state.peers.iter().find(|(known, _)| known.name == peer || known.key.to_string() == peer);
    let (name, vkey) = match known {
        Some((known, _)) => (known.name.clone(), known.key.to_string()),
        None => (divergences::names(state).of(&peer), peer.clone()),
    };
    let asked = vkey.clone();
    let quarantine = state.store.read(move |reader| reader.quarantine(&asked)).await?;
    let Some(Quarantine { divergence, .. }) = quarantine else {
        return Err(match known {
            Some(_) => Error::Conflict(format!("{name} is not in quarantine")),
            None => Error::NotFound(format!("there is no peer {peer}")),
        });
    };
    let released = state.tally.release(vkey.clone(), note).await?;
    state.peers.wake(&vkey);
    if !released {
        return Err(Error::Conflict(format!("{name} is not in quarantine any more")));
    }
    info!(peer = name, divergence, "released by the operator");
    Ok(api::json(&json!({"released": name, "divergence": divergence.to_string()})))
}

async fn resolve(state: &State, resolve: Resolve) -> Result<Response<Body>, Error> {
    let note = note(resolve.note)?;
    let id = resolve.divergence.as_str();
    let id = super::paths::number(id).ok_or_else(|| Error::NotFound(format!("there is no divergence {id}")))?;
    let row = divergences::find(state, id).await?;
    if !row.open {
        return Err(Error::Conflict(format!("divergence {id} is settled already")));
    }
    if row.kind == "own-log" {
        let way = "this node's key is used up: begin again with an empty data directory and a new key".to_owned();
        return Err(Error::Conflict(way));
    }
    // Settling what a quarantine rests on would leave it without an end.
    if let Some(vkey) = row.party {
        let name = divergences::names(state).of(&vkey);
        let quarantine = state.store.read(move |reader| reader.quarantine(&vkey)).await?;
        if quarantine.is_some_and(|quarantine| quarantine.divergence == row.id) {
            let way =
                format!("divergence {id} is why {name} is in quarantine; `sumpeer peers release {name}` ends both");
            return Err(Error::Conflict(way));
        }
    }
    if !state.tally.resolve(row.id, note).await? {
        return Err(Error::Conflict(format!("divergence {id} is settled already")));
    }
    info!(divergence = id, "settled by the operator");
    Ok(api::json(&json!({"resolved": id.to_string()})))
}

/// Sends a test through each channel, and tells how each went.
async fn test_alerts(channels: &Channels) -> Vec<Value> {
    let object = |(channel, ended): (String, Result<(), String>)| json!({"channel": channel, "error": ended.err()});
    channels.test().await.into_iter().map(object).collect()
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body)
        .map_err(|error| Error::Malformed(format!("the body is not what it should be: {error}")))
}

/// A note without the space around it.
fn note(text: String) -> Result<String, Error> {
    let note = text.trim();
    if note.is_empty() {
        return Err(Error::Malformed("the note is empty: say why, for whoever reads it in a year".to_owned()));
    }
    if note.chars().count() > NOTE_LIMIT {
        return Err(Error::Malformed(format!("the note is longer than {NOTE_LIMIT} characters")));
    }
    Ok(note.to_owned())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_the_whole_token_counts() {
        let token = Token::new("sesame".to_owned());
        let check = |value: &str, want: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            assert_eq!(token.is_shown(&headers), want, "{value}");
        };
        check("Bearer sesame", true);
        check("bearer sesame", true);
        for wrong in
            ["", "sesame", "Bearer", "Bearer ", "Bearer sesam", "Bearer sesame2", "Bearer Sesame", "Basic sesame"]
        {
            check(wrong, false);
        }
        assert!(!token.is_shown(&HeaderMap::new()));
    }
}
