//! What this node claims: its latest word on a spec, the bytes behind a claim, and wants of peers.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode};
use serde_json::json;

use super::error::Error;
use super::paths::Form;
use super::{Call, files, fresh, read_body, tlog};
use crate::builder::{Priority, Progress};
use crate::model::{Claim, Finding, Spec, SpecQuery};
use crate::store::LogId;
use crate::tally::Answer;

/// A want is one spec.
const WANT_LIMIT_BYTES: usize = 4 << 10;

/// This node's latest claim on a spec, with its proof. It never starts a build.
pub(super) async fn lookup(call: &Call<'_>, query: &SpecQuery) -> Result<Response<Body>, Error> {
    let none = || Error::NotFound("this node has no claim on this spec".to_owned());
    let spec = query.exact().ok_or_else(none)?;
    let vkey = call.state.node.key.to_string();
    let word = call.state.store.read(move |reader| reader.word_on(&spec, &vkey)).await?;
    let number = word.ok_or_else(none)?.number;
    tlog::covered(call, LogId::Claims, number).await?;
    let log = &call.state.claims;
    // Size and note of one head: a newer one may come at any time.
    let published = log.published();
    let claim = entry(call, number).await?;
    let proof = log.inclusion_proof(number, published.size).await?;
    let proof: Vec<String> = proof.iter().map(ToString::to_string).collect();
    let checkpoint =
        published.notes.first().cloned().map_or_else(|| tlog::newest_note(call, LogId::Claims, Form::C2sp), Ok)?;
    let body = json!({"number": number, "claim": claim, "proof": proof, "checkpoint": checkpoint});
    Ok(fresh("application/json", format!("{body}\n")))
}

async fn entry(call: &Call<'_>, number: u64) -> Result<String, Error> {
    let entries = call.state.claims.entries(number, number + 1).await?;
    let entry = entries.into_iter().next().ok_or_else(Error::not_found)?;
    Ok(String::from_utf8(entry).map_err(anyhow::Error::from)?)
}

/// The bytes behind a claim, whatever the verdict on it.
pub(super) async fn file(call: &Call<'_>, number: u64, gz: bool) -> Result<Response<Body>, Error> {
    if number >= call.state.claims.size().get() {
        return Err(Error::NotFound("the claims log has no such entry".to_owned()));
    }
    let entry = entry(call, number).await?;
    let claim = Claim::parse(entry.as_bytes()).map_err(anyhow::Error::from)?;
    let Finding::Built { size, sum } = claim.finding else {
        return Err(Error::NotFound("this claim names no sum".to_owned()));
    };
    let stored = call.state.binaries.find(&sum).await?;
    let stored = stored.filter(|stored| stored.row().size == size).ok_or_else(|| {
        let message = "the bytes behind this claim are not on this node at the moment".to_owned();
        Error::Unavailable { message, retry_after: 60 }
    })?;
    let mut name = claim.spec.file_name();
    if gz {
        name.push_str(".gz");
    }
    let mut response = files::serve(call, &stored, &name, gz, "no-store").await?;
    response.headers_mut().insert("x-robots-tag", HeaderValue::from_static("noindex"));
    Ok(response)
}

/// A peer wants this node to build a spec.
pub(super) async fn want(call: &Call<'_>, body: Body) -> Result<Response<Body>, Error> {
    if call.state.builder.is_none() {
        return Err(Error::Forbidden("this node only verifies and builds nothing"));
    }
    let body = read_body(body, WANT_LIMIT_BYTES).await?;
    let spec: Spec = std::str::from_utf8(&body)
        .ok()
        .and_then(|text| text.strip_suffix('\n'))
        .ok_or_else(|| Error::Malformed("the body is not one line that ends with a newline".to_owned()))?
        .parse()
        .map_err(|error: crate::model::ParseError| Error::Malformed(error.to_string()))?;
    let known = call.state.tally.view(&spec).await?;
    let answer = match known.answer() {
        Some(answer) => Err(answer),
        None => {
            call.charge_build()?;
            call.state.tally.ask(&spec, Priority::Voter).await
        }
    };
    let (state, position) = match answer {
        Ok(Some(progress)) => position(&progress.borrow()),
        Ok(None) => ("waiting", None),
        Err(Answer::Record(_)) => ("accepted", None),
        Err(Answer::Disputed { .. }) => ("disputed", None),
        Err(Answer::Waiting { .. }) => ("waiting", None),
        Err(other) => return Err(other.into()),
    };
    let mut line = json!({"spec": spec.to_string(), "state": state});
    if let Some(position) = position {
        line["position"] = position.into();
    }
    let mut response = fresh("application/json", format!("{line}\n"));
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

/// A build's state in one word, and its place in the queue.
fn position(progress: &Progress) -> (&'static str, Option<usize>) {
    match progress {
        Progress::Queued { position } => ("queued", Some(*position)),
        Progress::Running { .. } => ("running", Some(0)),
        Progress::Done => ("done", None),
    }
}
