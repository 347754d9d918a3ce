//! What went wrong, told to whoever asked: the one place where errors become HTTP.
//!
//! The same error is plain text below the logs, JSON below the API, a page for browsers and plain
//! text for everyone else. Our own faults go to the journal; the client learns only that there was
//! one.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, Response, StatusCode};
use serde_json::json;
use tracing::error;

use super::paths::{Audience, Nowhere};
use super::{State, TEXT, html, pages};
use crate::builder::toolchain::ToolchainError;
use crate::goproxy::FetchError;
use crate::tally::Answer;

/// Why a request is not answered with what it asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// What was asked for is no text that could name anything.
    #[error("{0}")]
    Malformed(String),
    #[error("{0}")]
    NotFound(String),
    /// A finding, not a fault: what it takes to be told so by a person or a program.
    #[error("cannot be built: {class}: {explanation}")]
    CannotBuild { class: String, explanation: String, detail: String },
    #[error("{sentence}")]
    Disputed { sentence: String, divergence: Option<i64> },
    /// What was to be ended is not there any more, or is ended in another way.
    #[error("{0}")]
    Conflict(String),
    #[error("this needs the token from the file `admin` in the data directory, as Authorization: Bearer TOKEN")]
    Unauthorized,
    /// There is no result yet that this could belong to.
    #[error("{0}")]
    Unprocessable(String),
    #[error("too many requests from your network")]
    TooMany(Duration),
    #[error("{message}")]
    Unavailable { message: String, retry_after: u64 },
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the body did not come in time")]
    TooSlow,
    #[error("this method is not allowed here")]
    Method(&'static str),
    #[error("{0}")]
    Forbidden(&'static str),
    /// Our fault. The cause goes to the journal, never to the client.
    #[error("internal error")]
    Internal(#[from] anyhow::Error),
}

impl Error {
    pub(super) fn not_found() -> Error {
        Error::NotFound("there is nothing here".to_owned())
    }

    pub(super) fn status(&self) -> StatusCode {
        match self {
            Error::Malformed(_) => StatusCode::BAD_REQUEST,
            Error::NotFound(_) | Error::CannotBuild { .. } => StatusCode::NOT_FOUND,
            Error::Disputed { .. } | Error::Conflict(_) => StatusCode::CONFLICT,
            Error::Unauthorized => StatusCode::UNAUTHORIZED,
            Error::Unprocessable(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Error::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Error::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Error::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Error::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Error::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Error::Forbidden(_) => StatusCode::FORBIDDEN,
            Error::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// One word for programs.
    pub(super) fn class(&self) -> &str {
        match self {
            Error::Malformed(_) => "malformed",
            Error::NotFound(_) => "not-found",
            Error::CannotBuild { class, .. } => class,
            Error::Disputed { .. } => "disputed",
            Error::Conflict(_) => "conflict",
            Error::Unauthorized => "unauthorized",
            Error::Unprocessable(_) => "no-result",
            Error::TooMany(_) => "too-many",
            Error::Unavailable { .. } => "unavailable",
            Error::TooLarge(_) => "too-large",
            Error::TooSlow => "too-slow",
            Error::Method(_) => "method-not-allowed",
            Error::Forbidden(_) => "forbidden",
            Error::Internal(_) => "internal",
        }
    }

    /// What the person in front of it can do.
    pub(super) fn advice(&self) -> &'static str {
        match self {
            Error::Malformed(_) => "Check the address. The forms that addresses can have are on the home page.",
            Error::NotFound(_) => "Check the spelling, or look for the module on pkg.go.dev.",
            Error::CannotBuild { .. } => {
                "Nothing is wrong with this node: the program cannot be built this way. \
                 Another version, target or Go version may do."
            }
            Error::Disputed { .. } => "Nobody should trust either binary until it is known why they differ.",
            Error::Unprocessable(_) => "Start the build first and come back when it is done.",
            Error::TooMany(_) => "Wait a little and try again.",
            Error::Unavailable { .. } => "Try again in a moment.",
            Error::Internal(_) => "The operator finds the cause in the node's journal. Try again later.",
            Error::TooLarge(_)
            | Error::TooSlow
            | Error::Method(_)
            | Error::Forbidden(_)
            | Error::Conflict(_)
            | Error::Unauthorized => "",
        }
    }

    /// The compiler's words, where there are any.
    pub(super) fn detail(&self) -> &str {
        match self {
            Error::CannotBuild { detail, .. } => detail,
            _ => "",
        }
    }

    /// The page that has more to say.
    pub(super) fn more(&self) -> Option<String> {
        match self {
            Error::Disputed { divergence: Some(id), .. } => Some(format!("/divergences/{id}")),
            _ => None,
        }
    }

    fn retry_after(&self) -> Option<u64> {
        match self {
            // Rounded up, or it would be too early.
            Error::TooMany(wait) => Some(wait.as_secs() + 1),
            Error::Unavailable { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }

    /// The answer, in the form that fits the path and what the client accepts.
    pub(super) fn respond(self, state: &State, audience: Audience, request: &HeaderMap) -> Response<Body> {
        if let Error::Internal(cause) = &self {
            error!("request failed: {cause:#}");
        }
        let mut response = match audience {
            Audience::Api => {
                let body = json!({"error": self.to_string(), "class": self.class()});
                let mut response = Response::new(Body::from(format!("{body}\n")));
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                response
            }
            Audience::Anyone if accepts_html(request) => html(&pages::Problem::of(state, &self)),
            Audience::Anyone | Audience::Log => self.text(),
        };
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after() {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if let Error::Method(allowed) = self {
            headers.insert(ALLOW, HeaderValue::from_static(allowed));
        } else if let Error::Unauthorized = self {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }

    fn text(&self) -> Response<Body> {
        let mut text = format!("{self}\n");
        let detail = self.detail();
        if !detail.is_empty() {
            text.push('\n');
            text.push_str(detail.trim_end());
            text.push('\n');
        }
        let mut response = Response::new(Body::from(text));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
        response
    }
}

/// Whether this is a browser: programs do not ask for HTML by name.
pub(super) fn accepts_html(request: &HeaderMap) -> bool {
    let accept = request.get(axum::http::header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

impl Nowhere {
    /// The error for this path: below the logs everything malformed is simply not there.
    pub(super) fn into_error(self, audience: Audience) -> Error {
        match (self, audience) {
            (Nowhere::Unknown, _) => Error::not_found(),
            (Nowhere::Malformed(sentence), Audience::Log) => Error::NotFound(sentence),
            (Nowhere::Malformed(sentence), _) => Error::Malformed(sentence),
        }
    }
}

/// An answer of the tally that is no record.
impl From<Answer> for Error {
    fn from(answer: Answer) -> Error {
        match answer {
            Answer::Disputed { sentence, divergence } => Error::Disputed { sentence, divergence },
            Answer::CannotBuild { class, party, .. } => Error::CannotBuild {
                class: class.to_string(),
                explanation: format!("{} (found by {})", class.explain(), party.name),
                detail: String::new(),
            },
            Answer::Absent(sentence) => Error::NotFound(sentence),
            Answer::Waiting { names, detail, retry_after } => {
                let message = match names.as_slice() {
                    [] => detail,
                    names => format!("{detail} (waiting for {})", names.join(", ")),
                };
                Error::Unavailable { message, retry_after }
            }
            Answer::Busy(message) => Error::Unavailable { message, retry_after: 30 },
            Answer::Failed(cause) => Error::Internal(cause),
            Answer::Record(row) => Error::Internal(anyhow::anyhow!("the record {} was taken for an error", row.number)),
        }
    }
}

/// What the module proxies say when this node asks for something to show.
impl From<FetchError> for Error {
    fn from(error: FetchError) -> Error {
        match error {
            FetchError::NotFound(sentence) | FetchError::Unsupported(sentence) => Error::NotFound(sentence),
            FetchError::Refused { detail, .. } => Error::NotFound(detail),
            FetchError::TooLarge { .. } | FetchError::Off => Error::NotFound(error.to_string()),
            FetchError::Security(_) | FetchError::Temporary(_) => {
                Error::Unavailable { message: error.to_string(), retry_after: 30 }
            }
        }
    }
}

/// Which Go versions there are.
impl From<ToolchainError> for Error {
    fn from(error: ToolchainError) -> Error {
        match error {
            ToolchainError::NotListed(sentence) => Error::NotFound(sentence),
            ToolchainError::Corrupt(message) | ToolchainError::Temporary(message) => {
                Error::Unavailable { message, retry_after: 30 }
            }
        }
    }
}
