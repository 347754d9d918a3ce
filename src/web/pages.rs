//! The home page, the page of an error, and what all pages share.
//!
//! A page is a struct with a template; everything it shows is made here, the template only writes it.

use askama::Template;
use axum::body::Body;
use axum::http::Response;
use axum::http::header::HOST;
use jiff::Timestamp;

use super::error::Error;
use super::peers::PeerLine;
use super::server::Encrypted;
use super::{Call, State, html, paths, peers, see_other};
use crate::model::{PackageQuery, Spec, Target, Variant};
use crate::store::{Reader, RecordRow};

/// Records on the home page.
const RECENT: usize = 20;

/// What every page needs.
#[derive(Clone)]
pub(super) struct Base {
    pub(super) style: String,
    pub(super) script: String,
    pub(super) icon: String,
    pub(super) name: String,
    pub(super) vkey: String,
}

impl Base {
    pub(super) fn of(state: &State) -> Base {
        let assets = state.assets().clone();
        Base {
            style: assets.style,
            script: assets.script,
            icon: assets.icon,
            name: state.node.key.name().to_owned(),
            vkey: state.node.key.to_string(),
        }
    }
}

/// An error, for a person.
#[derive(Template)]
#[template(path = "error.html")]
pub(super) struct Problem {
    base: Base,
    status: u16,
    title: &'static str,
    sentence: String,
    detail: String,
    advice: &'static str,
    /// The page that has more to say; empty if there is none.
    more: String,
}

impl Problem {
    pub(super) fn of(state: &State, error: &Error) -> Problem {
        let status = error.status();
        Problem {
            base: Base::of(state),
            status: status.as_u16(),
            title: status.canonical_reason().unwrap_or_default(),
            sentence: sentence(&error.to_string()),
            detail: error.detail().to_owned(),
            advice: error.advice(),
            more: error.more().unwrap_or_default(),
        }
    }
}

#[derive(Template)]
#[template(path = "home.html")]
struct Home {
    base: Base,
    builds: bool,
    targets: Vec<String>,
    recent: Vec<Recent>,
    voters: Vec<String>,
    peers: Vec<PeerLine>,
    open: u64,
    forms: Vec<(String, &'static str)>,
    size: u64,
    get: String,
    command: String,
    notes: String,
}

struct Recent {
    path: String,
    package: String,
    version: String,
    target: String,
    goversion: String,
    at: String,
}

/// The home page; or, if its form was sent, the way to what it names.
pub(super) async fn home(call: &Call<'_>) -> Result<Response<Body>, Error> {
    if let Some(package) = call.query("package") {
        return find(call, package.trim());
    }
    let state = call.state;
    let read = |reader: &Reader<'_>| Ok((reader.newest_records(RECENT)?, reader.count_open_divergences()?));
    let (recent, open) = state.store.read(read).await?;
    let example: Spec = match recent.first() {
        Some(row) => row.record.spec.clone(),
        None => "filippo.io/age@v1.2.1/cmd/age/linux-amd64-go1.27.1/".parse().expect("a spec"),
    };
    let page = Home {
        base: Base::of(state),
        builds: state.builder.is_some(),
        targets: Target::all().map(|target| target.to_string()).collect(),
        forms: forms(&example, recent.first()),
        recent: recent.into_iter().map(Recent::of).collect(),
        voters: state.tally.voters().iter().map(|voter| voter.name.clone()).collect(),
        peers: peers::lines(state).await?,
        open,
        size: state.accepted.size().get(),
        get: get_command(call, &example, None),
        command: build_command(&example),
        notes: state.notes().trim().to_owned(),
    };
    Ok(html(&page))
}

impl Recent {
    fn of(row: RecordRow) -> Recent {
        let spec = &row.record.spec;
        Recent {
            path: result_path(&row),
            package: spec.package(),
            version: spec.version.to_string(),
            target: format!("{}{}", spec.target, suffix(spec.variant)),
            goversion: spec.goversion.to_string(),
            at: time(row.at),
        }
    }
}

/// The form is a plain GET; its answer is the address that one could have typed.
fn find(call: &Call<'_>, package: &str) -> Result<Response<Body>, Error> {
    let package = package.trim_start_matches("https://").trim_matches('/');
    let query: PackageQuery = package.parse().map_err(|error: crate::model::ParseError| {
        Error::Malformed(format!("{error}; write something like filippo.io/age/cmd/age@latest"))
    })?;
    let mut choices = url::form_urlencoded::Serializer::new(String::new());
    for name in ["target", "go", "variant"] {
        if let Some(value) = call.query(name).filter(|value| !value.trim().is_empty()) {
            choices.append_pair(name, value.trim());
        }
    }
    let choices = choices.finish();
    let mut response = see_other(&format!("/{query}"));
    if !choices.is_empty() {
        let location = format!("{}?{choices}", paths::encode(&format!("/{query}")));
        response.headers_mut().insert(axum::http::header::LOCATION, super::header(&location));
    }
    Ok(response)
}

fn forms(spec: &Spec, row: Option<&RecordRow>) -> Vec<(String, &'static str)> {
    let target = format!("{}-{}", spec.target.goos(), spec.target.goarch());
    let dir = if spec.dir.is_root() { String::new() } else { format!("{}/", spec.dir.as_str()) };
    let mut forms = vec![
        (format!("/{}", spec.module), "the commands of a module's newest version"),
        (format!("/{}@{}", spec.module, spec.version), "the commands of that version"),
        (format!("/{}@latest/{dir}{target}-latest/", spec.module), "the newest version, with the newest Go"),
        (format!("/{spec}"), "exactly this; built if nobody asked before"),
        (format!("/{spec}dl"), "the binary, once it is built"),
    ];
    if let Some(row) = row {
        forms.push((result_path(row), "a result: its sum stands in the address"));
        forms.push((format!("/tlog/lookup/{spec}"), "its record with the signed head, for programs"));
    }
    forms
}

/// The path of a record's result page.
pub(super) fn result_path(row: &RecordRow) -> String {
    format!("/{}{}/", row.record.spec, row.record.sum)
}

pub(super) fn suffix(variant: Variant) -> &'static str {
    match variant {
        Variant::Plain => "",
        Variant::Stripped => ", stripped",
    }
}

/// How to get a program through the log with this node's key.
pub(super) fn get_command(call: &Call<'_>, spec: &Spec, sum: Option<String>) -> String {
    let dir = if spec.dir.is_root() { String::new() } else { format!("/{}", spec.dir.as_str()) };
    let mut command = "sumpeer get".to_owned();
    if let Some(sum) = sum {
        command.push_str(&format!(" --sum {sum}"));
    }
    command.push_str(&format!(" --target {} --goversion {}", spec.target, spec.goversion));
    if spec.variant == Variant::Stripped {
        command.push_str(" --stripped");
    }
    let (origin, key) = (origin(call), &call.state.node.key);
    command.push_str(&format!(" \\\n  --url {origin} \\\n  --key {key} \\\n  {}@{}{dir}", spec.module, spec.version));
    command
}

/// Scheme and host under which the client knows this node.
pub(super) fn origin(call: &Call<'_>) -> String {
    let authority = call.head.uri.authority().map(ToString::to_string);
    let host = authority.or_else(|| call.header(&HOST).map(str::to_owned)).unwrap_or_default();
    // It goes into a command that people copy into a shell.
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
    let host = if host.chars().all(plain) { host } else { String::new() };
    let forwarded = call.head.headers.get("x-forwarded-proto").is_some_and(|scheme| scheme == "https");
    let encrypted = call.head.extensions.get::<Encrypted>().is_some();
    let scheme = if encrypted || forwarded { "https" } else { "http" };
    format!("{scheme}://{host}")
}

/// The exact command of a build, as a shell takes it.
pub(super) fn build_command(spec: &Spec) -> String {
    let verb = if spec.goversion.minor() < 18 { "get" } else { "install" };
    let concurrency = if spec.goversion.minor() < 26 { " GO19CONCURRENTCOMPILATION=0" } else { "" };
    format!(
        "dir=$(mktemp -d)\nenv -i HOME=\"$dir\" GOPROXY=\"$(go env GOPROXY)\" \\\n  GO111MODULE=on CGO_ENABLED=0 GOOS={} GOARCH={} GOTOOLCHAIN={}{concurrency} \\\n  \
         \"$(command -v go)\" {verb} -trimpath -ldflags={} -- {}@{}",
        spec.target.goos(),
        spec.target.goarch(),
        spec.goversion,
        ldflags(spec.variant),
        spec.package(),
        spec.version,
    )
}

fn ldflags(variant: Variant) -> &'static str {
    match variant {
        Variant::Plain => "-buildid=",
        Variant::Stripped => "\"-buildid= -s\"",
    }
}

/// Each part of [`build_command`], explained.
pub(super) fn build_flags(spec: &Spec) -> Vec<(String, &'static str)> {
    let mut flags = vec![
        ("env -i".to_owned(), "nothing else of your environment: GOFLAGS, GOAMD64 and their like change the result"),
        (
            "HOME=\"$dir\"".to_owned(),
            "an empty home; afterwards the program is in go/bin below it, for another system in a folder there",
        ),
        ("CGO_ENABLED=0".to_owned(), "no C compiler: its version would be part of the result"),
        (
            format!("GOTOOLCHAIN={}", spec.goversion),
            "exactly this release of Go, which the go command fetches and checks",
        ),
        ("-trimpath".to_owned(), "no names of your folders in the program"),
        (
            format!("-ldflags={}", ldflags(spec.variant)),
            match spec.variant {
                Variant::Plain => "no build id: it differs between machines",
                Variant::Stripped => "no build id, which differs between machines, and no symbol table",
            },
        ),
    ];
    if spec.goversion.minor() < 26 {
        let why = "the compiler of older releases was not sure to be repeatable otherwise";
        flags.push(("GO19CONCURRENTCOMPILATION=0".to_owned(), why));
    }
    flags
}

/// `5,283,840`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `5,283,840 bytes (5.0 MiB)`.
pub(super) fn bytes(size: u64) -> String {
    let grouped = grouped(size);
    let tenths = u128::from(size) * 10 / (1 << 20);
    if tenths == 0 {
        return format!("{grouped} bytes");
    }
    format!("{grouped} bytes ({}.{} MiB)", tenths / 10, tenths % 10)
}

/// Unix seconds as `2026-11-21 09:30 UTC`.
pub(super) fn time(at: i64) -> String {
    match Timestamp::from_second(at) {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        Err(_) => String::new(),
    }
}

/// Begins with a capital and ends with a full stop.
pub(super) fn sentence(text: &str) -> String {
    let mut chars = text.trim_end_matches('.').chars();
    let first = chars.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(chars).chain(['.']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(bytes(0), "0 bytes");
        assert_eq!(bytes(999), "999 bytes");
        assert_eq!(bytes(5_283_840), "5,283,840 bytes (5.0 MiB)");
        assert_eq!(time(1_795_253_400), "2026-11-21 09:30 UTC");
        assert_eq!(sentence("no such thing"), "No such thing.");
    }

    #[test]
    fn the_command_is_that_of_builds() {
        let command = |spec: &str| build_command(&spec.parse().unwrap());
        let plain = command("filippo.io/age@v1.2.1/cmd/age/linux-arm64-go1.27.1/");
        assert!(plain.ends_with("install -trimpath -ldflags=-buildid= -- filippo.io/age/cmd/age@v1.2.1"), "{plain}");
        assert!(!plain.contains("CONCURRENT"), "{plain}");
        let old = command("rsc.io/2fa@v1.2.0/linux-amd64-go1.17.13-stripped/");
        assert!(old.ends_with("get -trimpath -ldflags=\"-buildid= -s\" -- rsc.io/2fa@v1.2.0"), "{old}");
        assert!(old.contains("GO19CONCURRENTCOMPILATION=0"), "{old}");
    }
}
