//! The page of a spec that has no record yet, and what lies below it.
//!
//! Looking at it starts nothing: a build starts by the page's own `events`, by its button, or by
//! asking for the record or the file. Once there is a record everything leads to the result.

use askama::Template;
use axum::body::Body;
use axum::http::{Response, StatusCode};

use super::error::{Error, accepts_html};
use super::others::{self, Group};
use super::pages::{Base, result_path, sentence, time};
use super::paths::BuildStep;
use super::words::Words;
use super::{Call, events, html, redirect, results, see_other, tlog};
use crate::builder::{Phase, Progress};
use crate::model::{Spec, SpecQuery};
use crate::tally::{Answer, View};

#[derive(Template)]
#[template(path = "build.html")]
struct Build {
    base: Base,
    program: String,
    version: String,
    spec: String,
    path: String,
    heading: &'static str,
    sentence: String,
    /// Whether the script should follow the build, which also starts it.
    live: bool,
    busy: bool,
    failed: bool,
    startable: bool,
    button: &'static str,
    done: u64,
    total: Option<u64>,
    lines: String,
    advice: &'static str,
    words: Words,
    others: Vec<Group>,
}

/// Answers for a spec, maybe with `latest` in it, and a step below it.
pub(super) async fn serve(call: &Call<'_>, query: SpecQuery, step: BuildStep) -> Result<Response<Body>, Error> {
    let (spec, moved) = match query.exact() {
        Some(spec) => (spec, false),
        None => (call.state.resolver().spec(&query).await?, true),
    };
    let record = call.state.tally.known(&spec).await?;
    let result = record.as_ref().map(result_path);
    match step {
        BuildStep::Page => match result {
            Some(result) => Ok(redirect(&result)),
            None if moved => Ok(redirect(&format!("/{spec}"))),
            None => page(call, &spec).await,
        },
        BuildStep::Events => events::follow(call, &spec).await,
        BuildStep::Retry => retry(call, &spec).await,
        BuildStep::Log | BuildStep::Download => {
            let name = if step == BuildStep::Log { "log" } else { "dl" };
            match result {
                Some(result) => Ok(redirect(&format!("{result}{name}"))),
                None => Err(Error::Unprocessable(format!("there is no result for {spec} yet"))),
            }
        }
        BuildStep::Record => when_recorded(call, &spec, "record").await,
        BuildStep::File(name) => {
            results::check_name(&spec, &name)?;
            when_recorded(call, &spec, &name).await
        }
    }
}

async fn when_recorded(call: &Call<'_>, spec: &Spec, name: &str) -> Result<Response<Body>, Error> {
    let row = tlog::record(call, spec, call.state.lookup_wait()).await?;
    Ok(redirect(&format!("{}{name}", result_path(&row))))
}

async fn retry(call: &Call<'_>, spec: &Spec) -> Result<Response<Body>, Error> {
    if let Some(row) = call.state.tally.known(spec).await? {
        return Ok(see_other(&result_path(&row)));
    }
    call.charge_build()?;
    match call.state.tally.retry(spec).await {
        Ok(_) => Ok(see_other(&format!("/{spec}"))),
        Err(Answer::Record(row)) => Ok(see_other(&result_path(&row))),
        Err(answer) => Err(answer.into()),
    }
}

async fn page(call: &Call<'_>, spec: &Spec) -> Result<Response<Body>, Error> {
    let state = call.state;
    let view = state.tally.view(spec).await?;
    let progress = state.builder.as_ref().and_then(|builder| builder.find(spec));
    let mut progress = progress.map(|ticket| ticket.progress.borrow().clone());
    let failure = match view.answer() {
        // Building again settles no dispute; it may settle everything else.
        Some(answer) if progress.is_none() || matches!(answer, Answer::Disputed { .. }) => {
            progress = None;
            Some(results::explained(call, spec, answer).await)
        }
        _ => None,
    };
    let status = match &failure {
        // For now: the page itself is fine and says when it is tried again.
        Some(Error::Unavailable { .. }) | None => StatusCode::OK,
        Some(error) => error.status(),
    };
    match failure {
        Some(error) if status != StatusCode::OK && !accepts_html(&call.head.headers) => Err(error),
        failure => {
            let others = others::groups(state, spec).await?;
            let page = Build::new(call, spec, &view, progress.as_ref(), failure.as_ref(), others);
            let mut response = html(&page);
            *response.status_mut() = status;
            Ok(response)
        }
    }
}

impl Build {
    fn new(
        call: &Call<'_>,
        spec: &Spec,
        view: &View,
        progress: Option<&Progress>,
        failure: Option<&Error>,
        others: Vec<Group>,
    ) -> Build {
        let (heading, text) = match (progress, failure, &view.trouble) {
            (Some(Progress::Queued { position }), ..) => ("Waiting", queued(*position)),
            (Some(Progress::Running { phase, .. }), ..) => ("Being built", phase_text(*phase).to_owned()),
            (Some(Progress::Done), ..) => ("Being built", "the result is being written down".to_owned()),
            (None, Some(error @ Error::Unavailable { .. }), Some(trouble)) => {
                ("Not built for now", format!("{error}; it is tried again at {}", time(trouble.next_at)))
            }
            (None, Some(error @ Error::Disputed { .. }), _) => ("The voters disagree", error.to_string()),
            (None, Some(error), _) => ("Not built", error.to_string()),
            (None, None, _) if !view.waiting_for.is_empty() && !view.words.is_empty() => {
                ("Waiting", format!("waiting for {}", view.waiting_for.join(", ")))
            }
            (None, None, _) => ("Not built yet", "nobody has asked for this build".to_owned()),
        };
        let (done, total, lines) = match progress {
            Some(Progress::Running { done, total, lines, .. }) => (*done, *total, lines.join("\n")),
            _ => (0, None, failure.map(|error| error.detail().to_owned()).unwrap_or_default()),
        };
        let busy = progress.is_some();
        Build {
            base: Base::of(call.state),
            program: spec.program_name(),
            version: spec.version.to_string(),
            spec: spec.to_string(),
            path: format!("/{spec}"),
            heading,
            sentence: sentence(&text),
            live: failure.is_none(),
            busy,
            failed: failure.is_some(),
            startable: !busy && !matches!(failure, Some(Error::Disputed { .. })),
            button: if failure.is_some() { "Try again" } else { "Build it" },
            done,
            total,
            lines,
            advice: failure.map(Error::advice).unwrap_or_default(),
            words: Words::of(call.state, view),
            others,
        }
    }
}

fn queued(position: usize) -> String {
    match position {
        0 => "next to be built".to_owned(),
        1 => "one build comes before this one".to_owned(),
        position => format!("{position} builds come before this one"),
    }
}

/// What a build does, for people.
fn phase_text(phase: Phase) -> &'static str {
    match phase {
        Phase::Toolchain => "fetching the Go toolchain",
        Phase::Modules => "fetching modules",
        Phase::Compile => "compiling",
        Phase::Voters => "waiting for the other voters",
    }
}
