//! `/feed.atom`: what was found to differ and who fell silent, for feed readers. What stands in it is
//! [`crate::alert`]'s.

use axum::body::Body;
use axum::http::Response;

use super::error::Error;
use super::pages::origin;
use super::{Call, divergences, tagged};
use crate::alert::{ENTRIES, KINDS, Message, feed};

/// How long it may be shown again without asking: feed readers ask far less often.
const CACHE: &str = "public, max-age=60";

pub(super) async fn serve(call: &Call<'_>) -> Result<Response<Body>, Error> {
    let (names, origin) = (divergences::names(call.state), origin(call));
    let base = origin.clone();
    let messages = call.state.store.read(move |reader| {
        let rows = reader.newest_alerts_of(&KINDS, ENTRIES)?;
        let message = |row| Message::of(reader, row, row.open, &|vkey: &str| names.of(vkey).to_owned(), &base);
        rows.iter().map(message).collect::<anyhow::Result<Vec<_>>>()
    });
    let key = &call.state.node.key;
    let feed = feed(key.name(), &key.to_string(), &origin, &messages.await?)?;
    Ok(tagged(&call.head.headers, "application/atom+xml; charset=utf-8", feed.into_bytes(), CACHE))
}
