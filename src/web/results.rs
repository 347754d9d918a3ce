//! The page of a result, and what lies below it. Its address names the sum, so it never changes
//! its meaning: either that is what everyone found, or there is no such page.

use std::io::Read;

use askama::Template;
use axum::body::Body;
use axum::http::Response;
use axum::http::header::{CACHE_CONTROL, HeaderValue};
use flate2::read::MultiGzDecoder;

use super::error::Error;
use super::others::{self, Group};
use super::pages::{self, Base, result_path};
use super::paths::ResultStep;
use super::words::Words;
use super::{Call, IMMUTABLE, events, files, html, immutable, redirect, text};
use crate::model::{Claim, Finding, Spec, SpecQuery, Sum, Variant};
use crate::store::RecordRow;
use crate::tally::Answer;

/// Bytes of a build's output that are unpacked. The builder keeps fewer.
const LOG_LIMIT_BYTES: u64 = 8 << 20;
/// Bytes of a build's output shown with a failure.
const TAIL_BYTES: usize = 4 << 10;

#[derive(Template)]
#[template(path = "result.html")]
struct Page {
    base: Base,
    program: String,
    version: String,
    target: String,
    goversion: String,
    stripped: bool,
    number: u64,
    at: String,
    path: String,
    file: String,
    file_path: String,
    size: String,
    gz_file: String,
    gz_path: String,
    gz_size: String,
    held: bool,
    has_log: bool,
    sum: String,
    lookup: String,
    record_json: String,
    latest: String,
    documentation: String,
    get: String,
    reproduce: String,
    flags: Vec<(String, &'static str)>,
    words: Words,
    others: Vec<Group>,
}

/// Answers for a result and a step below it.
pub(super) async fn serve(
    call: &Call<'_>,
    query: &SpecQuery,
    sum: Sum,
    step: ResultStep,
) -> Result<Response<Body>, Error> {
    let none = || Error::NotFound(format!("{sum} is not the accepted sum of {query}"));
    let spec = query.exact().ok_or_else(none)?;
    let row = call.state.tally.known(&spec).await?;
    let row = row.filter(|row| row.record.sum == sum).ok_or_else(none)?;
    match step {
        ResultStep::Page => page(call, &row).await,
        ResultStep::Events => Ok(events::success(&row)),
        ResultStep::Record => {
            let headers = &call.head.headers;
            Ok(immutable(headers, "text/plain; charset=utf-8", row.record.to_text().into_bytes()))
        }
        ResultStep::Log => log(call, &spec).await,
        ResultStep::Download => Ok(redirect(&format!("{}{}", result_path(&row), spec.file_name()))),
        ResultStep::File(name) => file(call, &row, &name).await,
    }
}

/// Whether this is what the file of a spec is called, plain or compressed; true if compressed.
pub(super) fn check_name(spec: &Spec, name: &str) -> Result<bool, Error> {
    let file = spec.file_name();
    match name.strip_prefix(file.as_str()) {
        Some("") => Ok(false),
        Some(".gz") => Ok(true),
        _ => Err(Error::NotFound(format!("the files here are {file} and {file}.gz"))),
    }
}

async fn file(call: &Call<'_>, row: &RecordRow, name: &str) -> Result<Response<Body>, Error> {
    let gz = check_name(&row.record.spec, name)?;
    let state = call.state;
    let stored = match state.binaries.find(&row.record.sum).await? {
        Some(stored) => stored,
        None => {
            call.charge_build()?;
            tokio::select! {
                stored = state.tally.binary(row, state.lookup_wait()) => stored?,
                () = state.stop.cancelled() => {
                    let message = "the node is being stopped".to_owned();
                    return Err(Error::Unavailable { message, retry_after: 30 });
                }
            }
        }
    };
    files::serve(call, &stored, name, gz, IMMUTABLE).await
}

async fn log(call: &Call<'_>, spec: &Spec) -> Result<Response<Body>, Error> {
    let output = build_log(call, spec).await?;
    let output = output.ok_or_else(|| Error::NotFound("this node has no output of this build".to_owned()))?;
    let mut response = text(output);
    // A rebuild may have other output.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn build_log(call: &Call<'_>, spec: &Spec) -> anyhow::Result<Option<String>> {
    let spec = spec.clone();
    let unpack = move |reader: &crate::store::Reader<'_>| {
        let Some(gz) = reader.build_log(&spec)? else {
            return Ok(None);
        };
        let mut output = Vec::new();
        MultiGzDecoder::new(gz.as_slice()).take(LOG_LIMIT_BYTES).read_to_end(&mut output)?;
        Ok(Some(String::from_utf8_lossy(&output).into_owned()))
    };
    call.state.store.read(unpack).await
}

/// The error for an answer, with the compiler's words if this node found that it cannot be built.
pub(super) async fn explained(call: &Call<'_>, spec: &Spec, answer: Answer) -> Error {
    let entry = match &answer {
        Answer::CannotBuild { number, party, .. } if party.own => Some(*number),
        _ => None,
    };
    let error = Error::from(answer);
    let (Error::CannotBuild { class, explanation, .. }, Some(entry)) = (&error, entry) else {
        return error;
    };
    match words(call, spec, entry).await {
        Ok(detail) => Error::CannotBuild { class: class.clone(), explanation: explanation.clone(), detail },
        Err(cause) => Error::Internal(cause),
    }
}

/// The first line of the reason, then the end of the output.
async fn words(call: &Call<'_>, spec: &Spec, entry: u64) -> anyhow::Result<String> {
    let entries = call.state.claims.entries(entry, entry + 1).await?;
    let claim = entries.first().and_then(|claim| Claim::parse(claim).ok());
    let mut words = match claim.map(|claim| claim.finding) {
        Some(Finding::CannotBuild { detail, .. }) => detail,
        _ => String::new(),
    };
    if let Some(output) = build_log(call, spec).await? {
        let from = output.len().saturating_sub(TAIL_BYTES);
        let from = (from..=output.len()).find(|at| output.is_char_boundary(*at)).unwrap_or(output.len());
        words.push_str("\n\n");
        words.push_str(output[from..].trim());
    }
    Ok(words.trim().to_owned())
}

async fn page(call: &Call<'_>, row: &RecordRow) -> Result<Response<Body>, Error> {
    let state = call.state;
    let (spec, sum) = (&row.record.spec, row.record.sum);
    let view = state.tally.view(spec).await?;
    let log_of = spec.clone();
    let read = move |reader: &crate::store::Reader<'_>| Ok((reader.binary(&sum)?, reader.has_build_log(&log_of)?));
    let (binary, has_log) = state.store.read(read).await?;
    let path = result_path(row);
    let file = spec.file_name();
    let gz_file = format!("{file}.gz");
    let page = Page {
        base: Base::of(state),
        program: spec.program_name(),
        version: spec.version.to_string(),
        target: spec.target.to_string(),
        goversion: spec.goversion.to_string(),
        stripped: spec.variant == Variant::Stripped,
        number: row.number,
        at: pages::time(row.at),
        file_path: format!("{path}{file}"),
        size: pages::bytes(row.record.size),
        gz_path: format!("{path}{gz_file}"),
        gz_size: binary.as_ref().map(|binary| pages::bytes(binary.gz_size)).unwrap_or_default(),
        held: binary.is_some_and(|binary| binary.present),
        has_log,
        file,
        gz_file,
        path,
        sum: sum.to_string(),
        lookup: format!("/tlog/lookup/{spec}"),
        record_json: format!("/api/v1/records/{}", row.number),
        latest: latest(spec),
        documentation: documentation(spec),
        get: pages::get_command(call, spec, Some(sum.to_string())),
        reproduce: pages::build_command(spec),
        flags: pages::build_flags(spec),
        words: Words::of(state, &view),
        others: others::groups(state, spec).await?,
    };
    Ok(html(&page))
}

fn documentation(spec: &Spec) -> String {
    let dir = if spec.dir.is_root() { String::new() } else { format!("/{}", spec.dir.as_str()) };
    format!("https://pkg.go.dev/{}@{}{dir}", spec.module, spec.version)
}

/// The same program's newest version with the newest Go.
fn latest(spec: &Spec) -> String {
    let dir = if spec.dir.is_root() { String::new() } else { format!("{}/", spec.dir.as_str()) };
    let stripped = if spec.variant == Variant::Stripped { "-stripped" } else { "" };
    let Spec { module, target, .. } = spec;
    format!("/{module}@latest/{dir}{}-{}-latest{stripped}/", target.goos(), target.goarch())
}
