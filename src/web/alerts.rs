//! What the operator is told of, as JSON and for the page of divergences; and, for the operator, how the telling goes.

use serde_json::{Value, json};

use super::api::{Page, rfc3339};
use super::divergences::names;
use super::error::Error;
use super::pages::{origin, time};
use super::{Call, State};
use crate::alert::Message;
use crate::store::{AlertId, AlertRow, Reader};
use crate::tally::Names;

/// Alerts on the page of divergences.
const SHOWN: usize = 100;

/// A page of the list, in the order in which they were raised; with `state=open` only those that hold.
pub(super) async fn list(call: &Call<'_>) -> Result<Value, Error> {
    let page = Page::of(call)?;
    let only_open = match call.query("state").as_deref() {
        None => false,
        Some("open") => true,
        Some(_) => return Err(Error::Malformed("state can only be open".to_owned())),
    };
    let after = page.after.unwrap_or(0).cast_signed();
    let (names, origin) = (names(call.state), origin(call));
    let read = call.state.store.read(move |reader| {
        let mut rows = reader.alerts(after, only_open, page.limit + 1)?;
        let more = rows.len() > page.limit;
        rows.truncate(page.limit);
        let next = rows.last().filter(|_| more).map(|row| row.id.0.to_string());
        let items = rows.iter().map(|row| object(reader, row, &names, &origin));
        Ok(json!({"items": items.collect::<anyhow::Result<Vec<_>>>()?, "next": next}))
    });
    Ok(read.await?)
}

/// One of them.
pub(super) async fn one(call: &Call<'_>, id: u64) -> Result<Value, Error> {
    let (names, origin) = (names(call.state), origin(call));
    let read = call.state.store.read(move |reader| {
        let row = reader.alert(AlertId(id.cast_signed()))?;
        row.map(|row| object(reader, &row, &names, &origin)).transpose()
    });
    read.await?.ok_or_else(|| Error::NotFound(format!("there is no alert {id}")))
}

fn object(reader: &Reader<'_>, row: &AlertRow, names: &Names, origin: &str) -> anyhow::Result<Value> {
    let message = Message::of(reader, row, row.open, &|vkey| names.of(vkey), origin)?;
    Ok(serde_json::to_value(message)?)
}

/// How far each channel is behind that is behind.
pub(super) async fn channels(state: &State) -> Result<Value, Error> {
    let backlogs = state.store.read(|reader| reader.backlogs()).await?;
    let items: Vec<Value> = backlogs
        .into_iter()
        .map(|row| {
            let since = rfc3339(row.since);
            json!({"channel": row.channel, "pending": row.pending, "since": since, "error": row.error})
        })
        .collect();
    Ok(json!({"items": items, "next": null}))
}

/// An alert that holds, for a person.
pub(super) struct Line {
    pub(super) kind: String,
    pub(super) summary: String,
    pub(super) since: String,
}

/// The newest alerts that hold and are about no divergence: those have pages of their own.
pub(super) fn lines(reader: &Reader<'_>, names: &Names) -> anyhow::Result<Vec<Line>> {
    let rows = reader.open_notices(SHOWN)?;
    let line = |row: &AlertRow| {
        let message = Message::of(reader, row, row.open, &|vkey| names.of(vkey), "")?;
        Ok(Line { kind: message.kind, summary: message.summary, since: time(row.first_seen) })
    };
    rows.iter().map(line).collect()
}
