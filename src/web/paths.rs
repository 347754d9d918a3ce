//! What a URL's path asks for: one strict parser for all of them, before anything is looked up.
//!
//! The path is taken as it came, decoded once, and then has to be exactly one of the forms below.
//! Nothing is cleaned or redirected: two paths for one thing are one too many for caches and for
//! whoever compares. Out of scope: methods, queries and answers.

use percent_encoding::percent_decode_str;

use crate::model::{PackageQuery, SpecQuery, Sum};
use crate::store::LogId;
use crate::tlog::{Tile, TileKind};

/// The longest path that is looked at, still encoded. Specs have at most 2048 bytes; every one of
/// them may come as three, and a file's name repeats some.
const PATH_LIMIT_BYTES: usize = 3 * 2048 + 1024;

/// In which of two layouts a log is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The Go checksum database's.
    Sumdb,
    /// C2SP tlog-tiles.
    C2sp,
}

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    Home,
    Robots,
    Health,
    Ready,
    Asset(String),
    Head(LogId, Form),
    Tile(LogId, Form, Tile),
    /// A log as it grows.
    Stream(LogId),
    /// The record of a spec, waiting for it.
    Lookup(SpecQuery),
    /// This node's claim on a spec.
    ClaimLookup(SpecQuery),
    /// The bytes behind a claim.
    ClaimFile {
        number: u64,
        gz: bool,
    },
    Want,
    Api(Api),
    Badge(SpecQuery),
    /// The list for people.
    Divergences,
    Divergence(u64),
    /// What differs and who is silent, for feed readers.
    Feed,
    Package(PackageQuery),
    Build(SpecQuery, BuildStep),
    Result(SpecQuery, Sum, ResultStep),
}

/// A part of the API.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Api {
    Node,
    Records,
    Record(u64),
    Verdict(SpecQuery),
    Queue,
    Audit,
    Peers,
    Divergences,
    Divergence(u64),
    Evidence(u64),
    Alerts,
    Alert(u64),
    Description,
}

/// Something below the page of a spec.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BuildStep {
    Page,
    Events,
    Record,
    Log,
    Download,
    Retry,
    File(String),
}

/// Something below the page of a result.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ResultStep {
    Page,
    Events,
    Record,
    Log,
    Download,
    File(String),
}

/// Why a path leads nowhere.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Nowhere {
    /// There is nothing of that name.
    Unknown,
    /// It is no text that could name anything; the sentence says why.
    Malformed(String),
}

/// Whether errors for this path are for programs: plain text below the logs, JSON below the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audience {
    Log,
    Api,
    Anyone,
}

/// Whom a path is for, by its beginning as it came.
pub(super) fn audience(path: &str) -> Audience {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    match first {
        "tlog" | "log" | "claims" => Audience::Log,
        "api" => Audience::Api,
        _ => Audience::Anyone,
    }
}

/// Reads a path, as it stands in the request.
pub(super) fn route(path: &str) -> Result<Route, Nowhere> {
    if path.len() > PATH_LIMIT_BYTES {
        let sentence = format!("the path is longer than {PATH_LIMIT_BYTES} bytes");
        return Err(Nowhere::Malformed(sentence));
    }
    let path =
        percent_decode_str(path).decode_utf8().map_err(|_| Nowhere::Malformed("the path is not UTF-8".to_owned()))?;
    if path.chars().any(char::is_control) {
        return Err(Nowhere::Malformed("the path has a control character".to_owned()));
    }
    let path = path.strip_prefix('/').ok_or(Nowhere::Unknown)?;
    let (first, rest) = match path.split_once('/') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    };
    match (first, rest) {
        ("", None) => Ok(Route::Home),
        ("robots.txt", None) => Ok(Route::Robots),
        ("healthz", None) => Ok(Route::Health),
        ("readyz", None) => Ok(Route::Ready),
        ("feed.atom", None) => Ok(Route::Feed),
        ("assets", Some(name)) => Ok(Route::Asset(name.to_owned())),
        ("tlog", Some(rest)) => tlog(rest).ok_or(Nowhere::Unknown)?,
        ("log", Some(rest)) => c2sp(LogId::Accepted, rest).ok_or(Nowhere::Unknown),
        ("claims", Some(rest)) => claims(rest).ok_or(Nowhere::Unknown)?,
        ("api", Some(rest)) => api(rest).ok_or(Nowhere::Unknown)?,
        ("badge", Some(rest)) => {
            let spec = rest.strip_suffix(".svg").ok_or(Nowhere::Unknown)?;
            Ok(Route::Badge(self::spec(spec)?))
        }
        ("divergences", None) => Ok(Route::Divergences),
        ("divergences", Some(id)) => number(id).map(Route::Divergence).ok_or(Nowhere::Unknown),
        ("tlog" | "log" | "claims" | "api" | "badge" | "assets", None) => Err(Nowhere::Unknown),
        _ => build(path),
    }
}

fn tlog(rest: &str) -> Option<Result<Route, Nowhere>> {
    if rest == "latest" {
        return Some(Ok(Route::Head(LogId::Accepted, Form::Sumdb)));
    }
    if rest == "stream" {
        return Some(Ok(Route::Stream(LogId::Accepted)));
    }
    if let Some(key) = rest.strip_prefix("lookup/") {
        return Some(spec(key).map(Route::Lookup));
    }
    let tile = Tile::parse_sumdb(rest)?;
    Some(Ok(Route::Tile(LogId::Accepted, Form::Sumdb, tile)))
}

fn c2sp(log: LogId, rest: &str) -> Option<Route> {
    if rest == "checkpoint" {
        return Some(Route::Head(log, Form::C2sp));
    }
    Some(Route::Tile(log, Form::C2sp, Tile::parse_c2sp(rest)?))
}

fn claims(rest: &str) -> Option<Result<Route, Nowhere>> {
    if rest == "want" {
        return Some(Ok(Route::Want));
    }
    if rest == "stream" {
        return Some(Ok(Route::Stream(LogId::Claims)));
    }
    if let Some(key) = rest.strip_prefix("lookup/") {
        return Some(spec(key).map(Route::ClaimLookup));
    }
    if let Some(name) = rest.strip_prefix("file/") {
        let (digits, gz) = match name.strip_suffix(".gz") {
            Some(digits) => (digits, true),
            None => (name, false),
        };
        return Some(Ok(Route::ClaimFile { number: number(digits)?, gz }));
    }
    c2sp(LogId::Claims, rest).map(Ok)
}

fn api(rest: &str) -> Option<Result<Route, Nowhere>> {
    let api = match rest {
        "openapi.json" => Api::Description,
        "v1/node" => Api::Node,
        "v1/records" => Api::Records,
        "v1/queue" => Api::Queue,
        "v1/audit" => Api::Audit,
        "v1/peers" => Api::Peers,
        "v1/divergences" => Api::Divergences,
        "v1/alerts" => Api::Alerts,
        _ => {
            if let Some(key) = rest.strip_prefix("v1/verdict/") {
                return Some(spec(key).map(|spec| Route::Api(Api::Verdict(spec))));
            }
            if let Some(rest) = rest.strip_prefix("v1/divergences/") {
                return Some(Ok(Route::Api(match rest.strip_suffix("/evidence") {
                    Some(id) => Api::Evidence(number(id)?),
                    None => Api::Divergence(number(rest)?),
                })));
            }
            if let Some(id) = rest.strip_prefix("v1/alerts/") {
                return Some(Ok(Route::Api(Api::Alert(number(id)?))));
            }
            Api::Record(number(rest.strip_prefix("v1/records/")?)?)
        }
    };
    Some(Ok(Route::Api(api)))
}

/// Everything else is a module path and what follows it.
fn build(path: &str) -> Result<Route, Nowhere> {
    // A path without a dot in its first element can be no module; most of these are crawlers'.
    let Some((spec, rest)) = split_spec(path) else {
        return path.parse().map(Route::Package).map_err(malformed);
    };
    let spec = self::spec(spec)?;
    let step = match rest {
        "" => BuildStep::Page,
        "events" => BuildStep::Events,
        "record" => BuildStep::Record,
        "log" => BuildStep::Log,
        "dl" => BuildStep::Download,
        "retry" => BuildStep::Retry,
        _ => match rest.split_once('/') {
            None => BuildStep::File(rest.to_owned()),
            Some((sum, rest)) => {
                let sum = sum.parse().map_err(malformed)?;
                return Ok(Route::Result(spec, sum, result_step(rest)?));
            }
        },
    };
    Ok(Route::Build(spec, step))
}

fn result_step(rest: &str) -> Result<ResultStep, Nowhere> {
    Ok(match rest {
        "" => ResultStep::Page,
        "events" => ResultStep::Events,
        "record" => ResultStep::Record,
        "log" => ResultStep::Log,
        "dl" => ResultStep::Download,
        _ if rest.contains('/') => return Err(Nowhere::Unknown),
        _ => ResultStep::File(rest.to_owned()),
    })
}

/// Cuts after the last element that has the form of a target; none if there is no such element.
fn split_spec(path: &str) -> Option<(&str, &str)> {
    let version = path.find('@')?;
    let mut end = path.len();
    let mut found = None;
    // What follows a target is at most a sum and a name.
    for (start, _) in path.rmatch_indices('/').take(4) {
        if start < version {
            break;
        }
        if looks_like_target(&path[start + 1..end]) {
            found = Some((start + 1, end));
            break;
        }
        end = start;
    }
    let (_, end) = found?;
    match path[end..].strip_prefix('/') {
        Some(rest) => Some((&path[..=end], rest)),
        // Without the slash at its end it is no spec, and its own error says so.
        None => Some((path, "")),
    }
}

fn looks_like_target(element: &str) -> bool {
    let mut parts = element.split('-');
    let (Some(os), Some(arch), Some(go)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    // A file's name has a version there: `x-v1.0.0-go1.27.1`.
    !os.is_empty() && !arch.contains('.') && (go == "latest" || go.starts_with("go1"))
}

fn spec(text: &str) -> Result<SpecQuery, Nowhere> {
    text.parse().map_err(malformed)
}

fn malformed(error: crate::model::ParseError) -> Nowhere {
    Nowhere::Malformed(error.to_string())
}

/// Digits without a leading zero, at most 2^63.
pub(super) fn number(digits: &str) -> Option<u64> {
    let canonical = digits == "0" || !digits.starts_with('0');
    if !canonical || digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|number| i64::try_from(*number).is_ok())
}

/// A text as part of a URL's path: everything that could end or change the path is encoded.
pub(super) fn encode(text: &str) -> String {
    use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
    const UNSAFE: &AsciiSet = &CONTROLS
        .add(b' ')
        .add(b'"')
        .add(b'#')
        .add(b'<')
        .add(b'>')
        .add(b'?')
        .add(b'`')
        .add(b'{')
        .add(b'}')
        .add(b'%')
        .add(b'\\')
        .add(b'^')
        .add(b'|');
    utf8_percent_encode(text, UNSAFE).to_string()
}

/// Whether tiles of this kind are text.
pub(super) fn is_entries(tile: &Tile) -> bool {
    tile.kind == TileKind::Entries
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPEC: &str = "filippo.io/age@v1.2.1/cmd/age/linux-amd64-go1.27.1/";
    const SUM: &str = "0mmzT7CUbKD22iFGQ8mKMjy1eYoo";

    #[test]
    fn builds() {
        let check = |path: &str, want: BuildStep| {
            assert_eq!(route(path), Ok(Route::Build(SPEC.parse().unwrap(), want)), "{path}");
        };
        check(&format!("/{SPEC}"), BuildStep::Page);
        check(&format!("/{}", SPEC.replace('@', "%40")), BuildStep::Page);
        check(&format!("/{SPEC}events"), BuildStep::Events);
        check(&format!("/{SPEC}retry"), BuildStep::Retry);
        check(&format!("/{SPEC}dl"), BuildStep::Download);
        let file = "age-v1.2.1-go1.27.1.gz";
        check(&format!("/{SPEC}{file}"), BuildStep::File(file.to_owned()));
        let check = |rest: &str, want: ResultStep| {
            let got = route(&format!("/{SPEC}{SUM}/{rest}"));
            assert_eq!(got, Ok(Route::Result(SPEC.parse().unwrap(), SUM.parse().unwrap(), want)), "{rest}");
        };
        check("", ResultStep::Page);
        check("log", ResultStep::Log);
        check(file, ResultStep::File(file.to_owned()));
        for text in ["a.example/m@latest/linux-amd64-latest/", "a.example/m@v1.0.0/linux-amd64-go1.27.latest-stripped/"]
        {
            let want = Route::Build(text.parse().unwrap(), BuildStep::Page);
            assert_eq!(route(&format!("/{text}")), Ok(want), "{text}");
        }
    }

    #[test]
    fn packages() {
        for text in
            ["filippo.io/age", "filippo.io/age@v1.2.1", "filippo.io/age@latest/cmd/age", "filippo.io/age/cmd/age"]
        {
            let want = Route::Package(text.parse().unwrap());
            assert_eq!(route(&format!("/{text}")), Ok(want), "{text}");
        }
    }

    #[test]
    fn nowhere() {
        for path in [
            "",
            "//",
            "/nodot",
            "//tlog/latest",
            "/tlog",
            "/tlog/",
            "/tlog/latest/",
            "/tlog//latest",
            "/tlog/../tlog/latest",
            "/tlog/%2e%2e/tlog/latest",
            "/tlog/latest%00",
            "/tlog/%zz",
            "/tlog/tile/8/0/000.p/0",
            "/tlog/tile/9/0/000",
            "/tlog/stream/",
            "/log/stream",
            "/claims/stream/0",
            "/log/latest",
            "/claims/file/01",
            "/claims/file/-1",
            "/claims/file/x.gz",
            "/api",
            "/api/v2/node",
            "/api/v1/records/00",
            "/api/v1/divergences/",
            "/api/v1/divergences/01",
            "/api/v1/divergences/1/",
            "/api/v1/divergences/1/evidence/",
            "/api/v1/alerts/",
            "/api/v1/alerts/01",
            "/divergences/",
            "/divergences/x",
            "/divergences/1/2",
            "/wp-login.php/",
            "/%ff",
            "/filippo.io/age@v1.2.1/linux-amd64-go1.27.1",
            "/filippo.io/!age@v1.2.1/linux-amd64-go1.27.1/",
            "/filippo.io/age@v1.2.1/linux-amd64-go1.27.1/nosum/x",
            "/filippo.io/age@v1.2.1/linux-amd64-go1.27.1//",
            "/filippo.io/age%2540v1.2.1/linux-amd64-go1.27.1/",
            "/filippo.io/age@v1.2.1/plan10-amd64-go1.27.1/",
        ] {
            assert!(route(path).is_err(), "{path} {:?}", route(path));
        }
        assert!(route(&format!("/{}", "a".repeat(8192))).is_err());
    }

    #[test]
    fn audiences() {
        assert_eq!(audience("/tlog/%zz"), Audience::Log);
        assert_eq!(audience("//tlog/latest"), Audience::Log);
        assert_eq!(audience("/api/v1/x"), Audience::Api);
        assert_eq!(audience("/filippo.io/age"), Audience::Anyone);
    }

    proptest! {
        #[test]
        fn no_path_panics(path in ".{0,80}", deep in "(/[a-z@.%0-9-]{0,20}){0,8}") {
            let _ = route(&path);
            let _ = route(&deep);
            let _ = route(&format!("/tlog/{deep}"));
            let _ = route(&format!("/{SPEC}{deep}"));
        }

        #[test]
        fn encoding_comes_back(text in "[ -~]{0,40}") {
            let decoded = percent_decode_str(&encode(&text)).decode_utf8().unwrap().into_owned();
            prop_assert_eq!(decoded, text);
        }
    }
}
