//! What the node knows, as JSON for programs. The members are those of docs/PROTOCOL.md; what does
//! not apply is left out.

use axum::body::Body;
use axum::http::Response;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::error::Error;
use super::paths::{Api, Form};
use super::{Call, alerts, audits, divergences, events, fresh, peers, text, tlog};
use crate::builder::{Progress, RunningBuild, WaitingBuild};
use crate::model::SpecQuery;
use crate::peer::Peers;
use crate::quorum::Word;
use crate::store::{LogId, RecordRow};
use crate::tally::{PartyWord, Voter};

/// Items of a list, if the client does not say, and at most.
const LIMIT: usize = 100;
const LONGEST: usize = 1000;

/// Answers for a part of the API.
pub(super) async fn serve(call: &Call<'_>, api: Api) -> Result<Response<Body>, Error> {
    let value = match api {
        Api::Node => node(call).await?,
        Api::Records => records(call).await?,
        Api::Record(number) => record(call, number).await?,
        Api::Verdict(query) => verdict(call, query).await?,
        Api::Queue => queue(call).await?,
        Api::Audit => audits::list(call).await?,
        Api::Peers => peers::list(call).await?,
        Api::Divergences => divergences::list(call).await?,
        Api::Divergence(id) => divergences::one(call, id).await?,
        Api::Alerts => alerts::list(call).await?,
        Api::Alert(id) => alerts::one(call, id).await?,
        Api::Evidence(id) => return divergences::download(call, id).await,
        Api::Description => super::openapi::description(),
    };
    Ok(json(&value))
}

pub(super) fn json(value: &Value) -> Response<Body> {
    fresh("application/json", format!("{value}\n"))
}

/// Whether the node can do its work: its logs were checked at start and are not in doubt, and the database answers.
pub(super) async fn ready(call: &Call<'_>) -> Result<Response<Body>, Error> {
    if let Some(message) = call.state.tally.frozen() {
        return Err(Error::Unavailable { message, retry_after: 600 });
    }
    call.state.store.read(|reader| reader.newest_records(1)).await.map_err(|error| {
        tracing::error!("not ready: {error:#}");
        Error::Unavailable { message: "the database does not answer".to_owned(), retry_after: 10 }
    })?;
    Ok(text("ready\n"))
}

async fn node(call: &Call<'_>) -> Result<Value, Error> {
    let state = call.state;
    let node = &state.node;
    let toolchains = state.store.read(|reader| reader.toolchains()).await?;
    let toolchains: Vec<String> = toolchains.iter().map(ToString::to_string).collect();
    let builder = node
        .sandbox
        .as_ref()
        .map(|sandbox| json!({"host": node.host.to_string(), "sandbox": sandbox, "toolchains": toolchains}));
    Ok(json!({
        "name": node.key.name(),
        "vkey": node.key.to_string(),
        "mode": node.mode,
        "version": env!("CARGO_PKG_VERSION"),
        "size": state.accepted.size().get(),
        "claims": state.claims.size().get(),
        "voters": state.tally.voters().iter().map(|one| voter(one, &state.peers)).collect::<Vec<_>>(),
        "builder": builder,
        "notes": call.state.notes(),
    }))
}

fn voter(voter: &Voter, peers: &Peers) -> Value {
    let source = if voter.own { "self" } else { source_name(peers.log_of(&voter.vkey).unwrap_or(LogId::Claims)) };
    json!({"name": voter.name, "vkey": voter.vkey, "source": source})
}

/// The log of a peer that its words are taken from, as the API spells it.
pub(super) fn source_name(log: LogId) -> &'static str {
    match log {
        LogId::Accepted => "log",
        LogId::Claims => "claims",
    }
}

/// Which part of a list is asked for.
pub(super) struct Page {
    /// The cursor of the last item seen, as the list before said it.
    pub(super) after: Option<u64>,
    pub(super) limit: usize,
}

impl Page {
    pub(super) fn of(call: &Call<'_>) -> Result<Page, Error> {
        let number = |name: &str| match call.query(name) {
            None => Ok(None),
            Some(text) => match super::paths::number(&text) {
                Some(number) => Ok(Some(number)),
                None => Err(Error::Malformed(format!("{name} is not a number"))),
            },
        };
        let limit = number("limit")?.map_or(LIMIT, |limit| usize::try_from(limit).unwrap_or(LONGEST));
        Ok(Page { after: number("after")?, limit: limit.clamp(1, LONGEST) })
    }
}

async fn records(call: &Call<'_>) -> Result<Value, Error> {
    let page = Page::of(call)?;
    let first = page.after.map_or(0, |after| after + 1);
    // One more than asked for tells whether there is a next page.
    let mut rows = call.state.store.read(move |reader| reader.records_from(first, page.limit + 1)).await?;
    let more = rows.len() > page.limit;
    rows.truncate(page.limit);
    let next = rows.last().filter(|_| more).map(|row| row.number.to_string());
    let items: Vec<Value> = rows.iter().map(record_object).collect();
    Ok(json!({"items": items, "next": next}))
}

fn record_object(row: &RecordRow) -> Value {
    json!({
        "number": row.number,
        "spec": row.record.spec.to_string(),
        "size": row.record.size,
        "sum": row.record.sum.to_string(),
        "record": row.record.to_text(),
        "at": rfc3339(row.at),
    })
}

async fn record(call: &Call<'_>, number: u64) -> Result<Value, Error> {
    let rows = call.state.store.read(move |reader| reader.records_from(number, 1)).await?;
    let row = rows.into_iter().find(|row| row.number == number);
    let row = row.ok_or_else(|| Error::NotFound("the log has no such record".to_owned()))?;
    tlog::covered(call, LogId::Accepted, number).await?;
    let published = call.state.accepted.published();
    let proof = call.state.accepted.inclusion_proof(number, published.size).await?;
    let mut object = record_object(&row);
    object["proof"] = proof.iter().map(ToString::to_string).collect::<Vec<_>>().into();
    object["head"] = match published.notes.first() {
        Some(note) => note.clone(),
        None => tlog::newest_note(call, LogId::Accepted, Form::Sumdb)?,
    }
    .into();
    Ok(object)
}

async fn verdict(call: &Call<'_>, query: SpecQuery) -> Result<Value, Error> {
    let spec = match query.exact() {
        Some(spec) => spec,
        None => call.state.resolver().spec(&query).await?,
    };
    let view = call.state.tally.view(&spec).await?;
    let record = view
        .record
        .as_ref()
        .map(|row| json!({"number": row.number, "size": row.record.size, "sum": row.record.sum.to_string()}));
    Ok(json!({
        "spec": spec.to_string(),
        "verdict": view.state.name(),
        "record": record,
        "waiting_for": view.waiting_for,
        "words": view.words.iter().map(word).collect::<Vec<_>>(),
    }))
}

fn word(word: &PartyWord) -> Value {
    let mut object = json!({
        "party": word.voter.name,
        "vkey": word.voter.vkey,
        "source": if word.voter.own { "self" } else { source_name(word.log) },
        "number": word.number,
    });
    match &word.word {
        Word::Sum { size, sum } => {
            object["sum"] = sum.to_string().into();
            object["size"] = (*size).into();
        }
        Word::CannotBuild(class) => object["cannot_build"] = class.to_string().into(),
    }
    object["at"] = rfc3339(word.at).into();
    object
}

/// What is building, waiting and backing off, in this order. Short enough for one page, but the
/// backing off: of those the ones that are due first.
async fn queue(call: &Call<'_>) -> Result<Value, Error> {
    let page = Page::of(call)?;
    let troubles = call.state.store.read(|reader| reader.troubles(LONGEST)).await?;
    let mut items = Vec::new();
    if let Some(builder) = &call.state.builder {
        let now = builder.snapshot();
        items.extend(now.running.iter().map(running));
        items.extend(now.waiting.iter().map(waiting));
    }
    items.extend(troubles.iter().map(|trouble| {
        json!({
            "spec": trouble.spec, "state": "backoff", "detail": trouble.detail, "tries": trouble.tries,
            "until": rfc3339(trouble.next_at),
        })
    }));
    let skip = page.after.map_or(0, |after| usize::try_from(after).unwrap_or(usize::MAX));
    let end = skip.saturating_add(page.limit);
    let next = (items.len() > end).then(|| end.to_string());
    let items: Vec<Value> = items.into_iter().skip(skip).take(page.limit).collect();
    Ok(json!({"items": items, "next": next}))
}

fn waiting(build: &WaitingBuild) -> Value {
    let (spec, since) = (build.spec.to_string(), build.since.as_second());
    json!({"spec": spec, "state": "queued", "since": rfc3339(since), "position": build.position})
}

fn running(build: &RunningBuild) -> Value {
    let (spec, since) = (build.spec.to_string(), build.since.as_second());
    let mut object = json!({"spec": spec, "state": "running", "since": rfc3339(since)});
    if let Progress::Running { phase, done, total, .. } = &build.progress {
        object["phase"] = events::phase_name(*phase).into();
        object["done"] = (*done).into();
        if let Some(total) = total {
            object["total"] = (*total).into();
        }
    }
    object
}

/// Unix seconds as RFC 3339 in UTC.
pub(super) fn rfc3339(at: i64) -> String {
    Timestamp::from_second(at).map(|at| at.to_string()).unwrap_or_default()
}
