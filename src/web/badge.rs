//! A small picture that says whether a spec has a record.

use axum::body::Body;
use axum::http::Response;

use super::error::Error;
use super::{Call, fresh};
use crate::model::SpecQuery;

/// The badge of a spec. It starts nothing.
pub(super) async fn serve(call: &Call<'_>, query: &SpecQuery) -> Result<Response<Body>, Error> {
    let spec = match query.exact() {
        Some(spec) => spec,
        None => call.state.resolver().spec(query).await?,
    };
    let state = call.state.tally.view(&spec).await?.state;
    let colour = match state.name() {
        "accepted" => "#1a7f37",
        "disputed" => "#b3261e",
        _ => "#57606a",
    };
    let word = state.name();
    let svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"170\" height=\"20\" role=\"img\" aria-label=\"reproduced: {word}\">\
         <rect width=\"170\" height=\"20\" rx=\"4\" fill=\"#24292f\"/><rect x=\"80\" width=\"90\" height=\"20\" rx=\"4\" fill=\"{colour}\"/>\
         <g fill=\"#fff\" font-family=\"sans-serif\" font-size=\"11\" text-anchor=\"middle\">\
         <text x=\"40\" y=\"14\">reproduced</text><text x=\"125\" y=\"14\">{word}</text></g></svg>\n"
    );
    Ok(fresh("image/svg+xml", svg))
}
