//! A build as it goes, as server-sent events.
//!
//! Frames are written by hand: the content is one line of JSON each, and between them come comments
//! so that neither side takes the other for dead. What happened is read from the store; the builder only says when to
//! look. The stream ends with the build, with the node, or after a while; a client comes back by itself.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Response};
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::error::Error;
use super::{Call, State, fresh, results};
use crate::builder::{Phase, Priority, Progress};
use crate::model::Spec;
use crate::store::RecordRow;
use crate::tally::{Answer, View};

/// Silence is broken by a comment this often.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The shortest time between two updates: a download tells of every few kilobytes.
const PACE: Duration = Duration::from_millis(250);
/// How often the store is asked while others' words are awaited.
const LOOK: Duration = Duration::from_secs(3);
/// A client that is still there after this connects again.
const LIFE: Duration = Duration::from_secs(1800);

/// Follows the build of a spec, starting it if need be.
pub(super) async fn follow(call: &Call<'_>, spec: &Spec) -> Result<Response<Body>, Error> {
    let state = call.state;
    let view = state.tally.view(spec).await?;
    let running = state.builder.as_ref().and_then(|builder| builder.find(spec)).map(|ticket| ticket.progress);
    let progress = match (view.answer(), running) {
        (Some(Answer::Record(row)), _) => return Ok(success(&row)),
        (None | Some(Answer::Waiting { .. } | Answer::CannotBuild { .. } | Answer::Absent(_)), Some(progress)) => {
            Some(progress)
        }
        (Some(answer), _) => {
            let error = results::explained(call, spec, answer).await;
            return Ok(response(Body::from(frame(&failure(&error)))));
        }
        (None, None) => {
            call.charge_build()?;
            match state.tally.ask(spec, Priority::Person).await {
                Ok(progress) => progress,
                Err(Answer::Record(row)) => return Ok(success(&row)),
                Err(answer) => return Err(answer.into()),
            }
        }
    };
    let following = Following {
        state: state.clone(),
        spec: spec.clone(),
        progress,
        news: state.tally.news(),
        grown: false,
        sent: None,
        ends: Instant::now() + LIFE,
        over: false,
    };
    let frames = stream::unfold(following, |mut following| async move {
        let frame = following.next().await?;
        Some((Ok::<_, Infallible>(frame), following))
    });
    Ok(response(Body::from_stream(frames)))
}

/// The one event of a build that is done.
pub(super) fn success(row: &RecordRow) -> Response<Body> {
    response(Body::from(frame(&succeeded(row))))
}

fn response(body: Body) -> Response<Body> {
    let mut response = fresh("text/event-stream", body);
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// One open stream.
struct Following {
    state: State,
    spec: Spec,
    /// None once the build has ended and only others are awaited.
    progress: Option<watch::Receiver<Progress>>,
    /// Others' words may come at any time.
    news: watch::Receiver<u64>,
    /// Some have come since the last look.
    grown: bool,
    sent: Option<Value>,
    ends: Instant,
    over: bool,
}

impl Following {
    /// The next frame; none at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        let mut silent_until = Instant::now() + HEARTBEAT;
        if self.sent.is_some() {
            let stop = self.state.stop.clone();
            stop.run_until_cancelled(tokio::time::sleep(PACE)).await?;
        }
        loop {
            match self.look().await {
                Some(update) if self.sent.as_ref() != Some(&update) => {
                    self.sent = Some(update.clone());
                    return Some(frame(&update).into());
                }
                Some(_) => {}
                None => {
                    self.over = true;
                    return None;
                }
            }
            let now = Instant::now();
            if now >= self.ends {
                return None;
            }
            if now >= silent_until {
                return Some(Bytes::from_static(b":\n\n"));
            }
            let until = silent_until.min(self.ends);
            let stop = self.state.stop.clone();
            stop.run_until_cancelled(self.news(until)).await?;
            silent_until = silent_until.max(Instant::now());
        }
    }

    /// Waits for something to look at.
    async fn news(&mut self, until: Instant) {
        let until = if self.progress.is_some() { until } else { until.min(Instant::now() + LOOK) };
        let progress = async {
            match &mut self.progress {
                Some(progress) => progress.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            Ok(()) = self.news.changed() => self.grown = true,
            // An end of the channel is news as well: the build is over.
            changed = progress => if changed.is_err() { self.progress = None },
        }
    }

    /// What to tell now; none if the store cannot say.
    async fn look(&mut self) -> Option<Value> {
        let progress = self.progress.as_mut().map(|progress| progress.borrow_and_update().clone());
        let progress = progress.filter(|progress| *progress != Progress::Done);
        if let (Some(progress), false) = (&progress, self.grown) {
            return Some(update(progress));
        }
        self.grown = false;
        if progress.is_none() {
            self.progress = None;
        }
        let view = match self.state.tally.view(&self.spec).await {
            Ok(view) => view,
            Err(error) => {
                tracing::error!("cannot follow a build: {error:#}");
                return None;
            }
        };
        Some(match (view.answer(), &progress) {
            (Some(Answer::Record(row)), _) => {
                self.over = true;
                succeeded(&row)
            }
            (_, Some(progress)) => update(progress),
            (Some(answer), None) => {
                self.over = true;
                failure(&answer.into())
            }
            (None, None) => awaited(&view),
        })
    }
}

/// One event. JSON has no line breaks outside of strings, and escapes them inside.
fn frame(update: &Value) -> String {
    format!("event: update\ndata: {update}\n\n")
}

fn succeeded(row: &RecordRow) -> Value {
    json!({"Kind": "Success", "Sum": row.record.sum.to_string(), "Filesize": row.record.size})
}

fn failure(error: &Error) -> Value {
    let kind = match error {
        Error::CannotBuild { .. } | Error::Disputed { .. } | Error::NotFound(_) => "PermFailed",
        _ => "TempFailed",
    };
    let text = match error.detail() {
        "" => error.to_string(),
        detail => format!("{error}\n\n{detail}"),
    };
    json!({"Kind": kind, "Error": text})
}

/// Other servers of this kind know four kinds of events; what is ours stands beside theirs.
fn update(progress: &Progress) -> Value {
    match progress {
        Progress::Queued { position } => {
            json!({"Kind": "QueuePosition", "QueuePosition": position})
        }
        Progress::Running { phase, done, total, lines } => {
            let mut update = json!({
                "Kind": "QueuePosition", "QueuePosition": 0, "Phase": phase_name(*phase), "Done": done,
            });
            if let Some(total) = total {
                update["Total"] = (*total).into();
            }
            if !lines.is_empty() {
                update["Lines"] = lines.clone().into();
            }
            update
        }
        Progress::Done => json!({"Kind": "QueuePosition", "QueuePosition": 0}),
    }
}

fn awaited(view: &View) -> Value {
    json!({"Kind": "QueuePosition", "QueuePosition": 0, "Phase": "voters", "Done": 0, "Voters": view.waiting_for})
}

/// As events spell it.
pub(super) fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Toolchain => "toolchain",
        Phase::Modules => "modules",
        Phase::Compile => "compile",
        Phase::Voters => "voters",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates() {
        let check = |progress: Progress, want: &str| assert_eq!(frame(&update(&progress)), want);
        check(
            Progress::Queued { position: 3 },
            "event: update\ndata: {\"Kind\":\"QueuePosition\",\"QueuePosition\":3}\n\n",
        );
        let lines = vec!["a\nline".to_owned()];
        check(
            Progress::Running { phase: Phase::Toolchain, done: 5, total: Some(10), lines },
            "event: update\ndata: {\"Kind\":\"QueuePosition\",\"QueuePosition\":0,\"Phase\":\"toolchain\",\"Done\":5,\
             \"Total\":10,\"Lines\":[\"a\\nline\"]}\n\n",
        );
    }
}
