//! The style sheet, the script and the icon of the pages.
//!
//! Each is served under a name with a part of its hash in it, so that it may be kept for ever and a
//! new release never meets an old copy.

use axum::body::Body;
use axum::http::Response;

use super::error::Error;
use super::{Call, etag, immutable};

const STYLE: &[u8] = include_bytes!("assets/style.css");
const SCRIPT: &[u8] = include_bytes!("assets/build.js");
const ICON: &[u8] = include_bytes!("assets/icon.svg");

/// Where the assets are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assets {
    pub(super) style: String,
    pub(super) script: String,
    pub(super) icon: String,
}

impl Assets {
    pub(super) fn new() -> Assets {
        Assets {
            style: path("style", STYLE, "css"),
            script: path("build", SCRIPT, "js"),
            icon: path("icon", ICON, "svg"),
        }
    }

    pub(super) fn serve(&self, call: &Call<'_>, name: &str) -> Result<Response<Body>, Error> {
        let path = format!("/assets/{name}");
        let (content_type, bytes) = match path {
            _ if path == self.style => ("text/css; charset=utf-8", STYLE),
            _ if path == self.script => ("text/javascript; charset=utf-8", SCRIPT),
            _ if path == self.icon => ("image/svg+xml", ICON),
            _ => return Err(Error::not_found()),
        };
        Ok(immutable(&call.head.headers, content_type, bytes.to_vec()))
    }
}

fn path(name: &str, bytes: &[u8], extension: &str) -> String {
    let hash = etag(bytes);
    format!("/assets/{name}-{}.{extension}", &hash[1..13])
}
