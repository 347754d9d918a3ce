//! Serves a kept binary: whole or a range of it, plain or as kept.
//!
//! A download reads small pieces from the disk as the client takes them, so that its size does not
//! matter for the memory of the node.

use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderValue,
    IF_NONE_MATCH, IF_RANGE, RANGE,
};
use axum::http::{Method, Response, StatusCode};

use super::error::Error;
use super::range::{self, Part};
use super::{Call, header};
use crate::binaries::Stored;

/// The file under this name, for as long as `caching` says.
pub(super) async fn serve(
    call: &Call<'_>,
    stored: &Stored,
    name: &str,
    gz: bool,
    caching: &'static str,
) -> Result<Response<Body>, Error> {
    let row = stored.row();
    let (size, hash) = if gz { (row.gz_size, row.gz_sha256) } else { (row.size, row.sha256) };
    let etag = format!("\"{}\"", data_encoding::HEXLOWER.encode(&hash));
    let mut response = Response::new(Body::empty());
    let part = if range::matches(call.header(&IF_NONE_MATCH), &etag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        None
    } else {
        Some(range::part(call.header(&RANGE), call.header(&IF_RANGE), &etag, size))
    };
    let headers = response.headers_mut();
    headers.insert(ETAG, header(&etag));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let Some(part) = part else {
        return Ok(response);
    };
    let (first, length) = match part {
        Part::Whole => (0, size),
        Part::Bytes { first, last } => {
            headers.insert(CONTENT_RANGE, header(&format!("bytes {first}-{last}/{size}")));
            (first, last - first + 1)
        }
        Part::Unsatisfiable => {
            headers.insert(CONTENT_RANGE, header(&format!("bytes */{size}")));
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            return Ok(response);
        }
    };
    // The compressed file is what it is: saying Content-Encoding would make clients unpack it.
    let content_type = if gz { "application/gzip" } else { "application/octet-stream" };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_LENGTH, length.into());
    headers.insert(CONTENT_DISPOSITION, header(&format!("attachment; filename=\"{name}\"")));
    if matches!(part, Part::Bytes { .. }) {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    if call.head.method != Method::HEAD {
        *response.body_mut() = if gz {
            Body::from_stream(stored.gz(first, length))
        } else {
            Body::from_stream(stored.plain(first, length))
        };
    }
    Ok(response)
}
