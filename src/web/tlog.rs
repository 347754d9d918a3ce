//! Heads, tiles and lookups: what programs that check the logs read, byte for byte.
//!
//! Both logs in both layouts come from the same few functions. A record that exists is answered
//! from the store alone. Nothing here trusts a number of a path before it is compared with the size.

use std::time::Duration;

use axum::body::Body;
use axum::http::Response;

use super::error::Error;
use super::paths::{Form, is_entries};
use super::{Call, TEXT, fresh, immutable, text};
use crate::model::{Spec, SpecQuery};
use crate::store::{LogId, RecordRow};
use crate::tally::Answer;
use crate::tlog::{Tile, TileKind, TreeSize, format_entry, push_bundle_entry};

const BYTES: &str = "application/octet-stream";
const C2SP_TEXT: &str = "text/plain; charset=utf-8";
/// The layouts number entries in tiles of this width.
const WIDTH: u64 = crate::tlog::TILE_WIDTH;

/// The newest signed head.
pub(super) fn head(call: &Call<'_>, log: LogId, form: Form) -> Result<Response<Body>, Error> {
    let content_type = match form {
        Form::Sumdb => TEXT,
        Form::C2sp => C2SP_TEXT,
    };
    Ok(fresh(content_type, newest_note(call, log, form)?))
}

/// The newest signed note of a log in one of its forms.
pub(super) fn newest_note(call: &Call<'_>, log: LogId, form: Form) -> Result<String, Error> {
    let published = call.state.log(log).published();
    // The order is that of `log::forms`.
    let place = usize::from(log == LogId::Accepted && form == Form::C2sp);
    let note = published.notes.get(place).cloned();
    note.ok_or_else(|| Error::Internal(anyhow::anyhow!("the {} log has no head", log.name())))
}

/// A tile of hashes or entries.
pub(super) async fn tile(call: &Call<'_>, log: LogId, form: Form, tile: Tile) -> Result<Response<Body>, Error> {
    let handle = call.state.log(log);
    if tile.width > Tile::widest_at(tile.kind, tile.index, handle.size()) {
        return Err(Error::NotFound("the log has no such tile".to_owned()));
    }
    let headers = &call.head.headers;
    let TileKind::Hashes(level) = tile.kind else {
        debug_assert!(is_entries(&tile));
        let first = tile.index * WIDTH;
        let entries = handle.entries(first, first + u64::from(tile.width)).await?;
        return match form {
            Form::Sumdb => Ok(immutable(headers, TEXT, data_tile(first, &entries)?)),
            Form::C2sp => Ok(immutable(headers, BYTES, bundle(&entries)?)),
        };
    };
    let hashes = handle.tile(level, tile.index, tile.width).await?;
    let hashes = hashes.ok_or_else(|| anyhow::anyhow!("a tile below the size of the {} log is missing", log.name()))?;
    Ok(immutable(headers, BYTES, hashes))
}

fn data_tile(first: u64, entries: &[Vec<u8>]) -> anyhow::Result<Vec<u8>> {
    let mut tile = String::new();
    for (number, entry) in (first..).zip(entries) {
        tile.push_str(&format_entry(number, std::str::from_utf8(entry)?));
    }
    Ok(tile.into_bytes())
}

fn bundle(entries: &[Vec<u8>]) -> anyhow::Result<Vec<u8>> {
    let mut bundle = Vec::new();
    for entry in entries {
        push_bundle_entry(&mut bundle, entry)?;
    }
    Ok(bundle)
}

/// The record of a spec with a head that covers it, built first if need be.
pub(super) async fn lookup(call: &Call<'_>, query: SpecQuery) -> Result<Response<Body>, Error> {
    let wait = wait(call)?;
    let spec = match query.exact() {
        Some(spec) => spec,
        None => call.state.resolver().spec(&query).await.map_err(to_lookup)?,
    };
    let row = record(call, &spec, wait).await.map_err(to_lookup)?;
    let head = covering_head(call, row.number).await?;
    Ok(text(format!("{}{head}", format_entry(row.number, &row.record.to_text()))))
}

/// Below the logs, what is malformed is not there.
fn to_lookup(error: Error) -> Error {
    match error {
        Error::Malformed(sentence) => Error::NotFound(sentence),
        other => other,
    }
}

/// The record of a spec: what is there, else what comes of asking for it within `wait`.
pub(super) async fn record(call: &Call<'_>, spec: &Spec, wait: Duration) -> Result<RecordRow, Error> {
    let tally = &call.state.tally;
    if let Some(row) = tally.known(spec).await? {
        return Ok(row);
    }
    if wait.is_zero() {
        return match tally.view(spec).await?.answer() {
            Some(Answer::Record(row)) => Ok(*row),
            Some(answer @ (Answer::Disputed { .. } | Answer::CannotBuild { .. } | Answer::Absent(_))) => {
                Err(answer.into())
            }
            _ => Err(Error::NotFound("there is no record of this spec yet".to_owned())),
        };
    }
    call.charge_build()?;
    let answer = tokio::select! {
        answer = tally.record(spec, wait) => answer,
        () = call.state.stop.cancelled() => {
            let message = "the node is being stopped".to_owned();
            return Err(Error::Unavailable { message, retry_after: 30 });
        }
    };
    match answer {
        Answer::Record(row) => Ok(*row),
        other => Err(super::results::explained(call, spec, other).await),
    }
}

/// How long to wait: `?wait=<seconds>`, at most and by default what the operator allows.
fn wait(call: &Call<'_>) -> Result<Duration, Error> {
    let longest = call.state.lookup_wait();
    let Some(seconds) = call.query("wait") else {
        return Ok(longest);
    };
    let seconds =
        super::paths::number(&seconds).ok_or_else(|| Error::NotFound("wait is not a number of seconds".to_owned()))?;
    Ok(Duration::from_secs(seconds).min(longest))
}

/// The newest head, once it covers an entry. A record is readable a moment before its head is told.
async fn covering_head(call: &Call<'_>, number: u64) -> Result<String, Error> {
    covered(call, LogId::Accepted, number).await?;
    newest_note(call, LogId::Accepted, Form::Sumdb)
}

/// Waits until a log's newest head covers an entry that is known to be committed; gives its size.
pub(super) async fn covered(call: &Call<'_>, log: LogId, number: u64) -> Result<TreeSize, Error> {
    let mut heads = call.state.log(log).subscribe();
    let reached = heads.wait_for(|head| head.size.get() > number);
    match tokio::time::timeout(Duration::from_secs(5), reached).await {
        Ok(Ok(head)) => Ok(head.size),
        _ => Err(Error::Internal(anyhow::anyhow!("no head covers entry {number}"))),
    }
}
