//! What was found to differ, as JSON and as the file that proves it; [`pages`] has it for people.

mod compared;
pub(super) mod pages;

use axum::body::Body;
use axum::http::Response;
use axum::http::header::CONTENT_DISPOSITION;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::api::{Page, rfc3339};
use super::error::Error;
use super::{Call, State, fresh, header};
use crate::alert::Word;
use crate::evidence::Kind;
use crate::store::{DivergenceRow, SaidRow};
use crate::tally::{Names, NoEvidence, evidence};

/// When to ask again for evidence that cannot be made yet: heads come at least this often.
const RETRY_SECONDS: u64 = 60;

pub(super) fn names(state: &State) -> Names {
    Names { own: state.node.key.clone(), peers: state.peers.clone() }
}

/// One divergence.
///
/// # Errors
/// There is none of that number.
pub(super) async fn find(state: &State, id: u64) -> Result<DivergenceRow, Error> {
    let row = state.store.read(move |reader| reader.divergence(id.cast_signed())).await?;
    row.ok_or_else(|| Error::NotFound(format!("there is no divergence {id}")))
}

/// A page of the list, in the order in which they were found.
pub(super) async fn list(call: &Call<'_>) -> Result<Value, Error> {
    let page = Page::of(call)?;
    let after = page.after.unwrap_or(0).cast_signed();
    let mut rows = call.state.store.read(move |reader| reader.divergences(after, page.limit + 1)).await?;
    let more = rows.len() > page.limit;
    rows.truncate(page.limit);
    let next = rows.last().filter(|_| more).map(|row| row.id.to_string());
    let names = names(call.state);
    let items: Vec<Value> = rows.iter().map(|row| object(row, &names)).collect();
    Ok(json!({"items": items, "next": next}))
}

/// One of them, with how its binaries differ.
pub(super) async fn one(call: &Call<'_>, id: u64) -> Result<Value, Error> {
    let row = find(call.state, id).await?;
    let mut object = object(&row, &names(call.state));
    let pairs = compared::pairs(call.state, &row).await?;
    object["comparisons"] = pairs.iter().map(compared::Pair::object).collect();
    Ok(object)
}

fn object(row: &DivergenceRow, names: &Names) -> Value {
    let mut object = json!({
        "id": row.id.to_string(),
        "kind": row.kind,
        "state": if row.open { "open" } else { "resolved" },
        "spec": row.spec,
    });
    if let Some(vkey) = &row.party {
        object["party"] = names.of(vkey).into();
        object["vkey"] = vkey.as_str().into();
    }
    object["words"] = row.words.iter().map(|said| word(said, names)).collect();
    if let Some(received) = received(row) {
        object["received"] = received;
    }
    object["first_seen"] = rfc3339(row.first_seen).into();
    object["last_seen"] = rfc3339(row.last_seen).into();
    if let Some(note) = &row.note {
        object["note"] = note.as_str().into();
    }
    object
}

/// What a party served instead of what it signed for, as the bundle says it.
fn received(row: &DivergenceRow) -> Option<Value> {
    let Ok(Kind::MirrorMismatch) = row.kind.parse() else {
        return None;
    };
    let mut bundle: Value = serde_json::from_str(row.evidence.as_deref()?).ok()?;
    Some(bundle["comparison"].take())
}

fn word(said: &SaidRow, names: &Names) -> Value {
    json!(Word::of(said, &|vkey| names.of(vkey)))
}

/// The file that proves one.
pub(super) async fn download(call: &Call<'_>, id: u64) -> Result<Response<Body>, Error> {
    let row = find(call.state, id).await?;
    let bundle = bundle(call.state, row)
        .await?
        .map_err(|why| Error::Unavailable { message: why.to_string(), retry_after: RETRY_SECONDS })?;
    let mut response = fresh("application/json", bundle);
    let name = format!("attachment; filename=\"{}\"", file_name(id.cast_signed()));
    response.headers_mut().insert(CONTENT_DISPOSITION, header(&name));
    Ok(response)
}

fn file_name(id: i64) -> String {
    format!("divergence-{id}.json")
}

/// The bundle, or why there is none yet.
async fn bundle(state: &State, row: DivergenceRow) -> anyhow::Result<Result<String, NoEvidence>> {
    let names = names(state);
    let made = state.store.read(move |reader| match evidence(reader, &row, &names, Timestamp::now()) {
        Err(NoEvidence::Failed(error)) => Err(error),
        result => Ok(result),
    });
    made.await
}
