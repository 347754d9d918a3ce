//! Pages about what was found to differ: who said what, what that means, and what to do about it.

use askama::Template;
use axum::body::Body;
use axum::http::Response;
use serde_json::Value;

use super::compared::{self, Shown};
use super::{bundle, file_name, find, names, received};
use crate::alert::Advice;
use crate::store::{DivergenceRow, LogId, SaidRow};
use crate::tally::Names;
use crate::web::error::Error;
use crate::web::pages::{Base, bytes, grouped, origin, sentence, time};
use crate::web::{Call, State, alerts, html, paths};

/// Divergences on a page of the list.
const ROWS: usize = 100;

#[derive(Template)]
#[template(path = "divergences.html")]
struct List {
    base: Base,
    rows: Vec<Line>,
    /// Open ones of all pages.
    open: u64,
    older: String,
    /// What else holds.
    alerts: Vec<alerts::Line>,
}

struct Line {
    id: i64,
    path: String,
    title: &'static str,
    about: String,
    parties: String,
    seen: String,
    open: bool,
}

/// The list, newest first; `?before=` goes on with older ones.
pub(in crate::web) async fn list(call: &Call<'_>) -> Result<Response<Body>, Error> {
    let before = match call.query("before") {
        None => None,
        Some(text) => match paths::number(&text) {
            Some(number) => Some(number.cast_signed()),
            None => return Err(Error::Malformed("before is not a number".to_owned())),
        },
    };
    let state = call.state;
    let names = names(state);
    let known = names.clone();
    let read = state.store.read(move |reader| {
        let rows = reader.newest_divergences(before, ROWS + 1)?;
        Ok((rows, reader.count_open_divergences()?, alerts::lines(reader, &known)?))
    });
    let (mut rows, open, alerts) = read.await?;
    let more = rows.len() > ROWS;
    rows.truncate(ROWS);
    let older = rows.last().filter(|_| more).map(|row| format!("/divergences?before={}", row.id));
    let rows = rows.iter().map(|row| Line::of(row, &names)).collect();
    Ok(html(&List { base: Base::of(state), rows, open, older: older.unwrap_or_default(), alerts }))
}

impl Line {
    fn of(row: &DivergenceRow, names: &Names) -> Line {
        let mut parties: Vec<String> = row.words.iter().map(|said| names.of(&said.vkey)).collect();
        parties.extend(row.party.as_ref().filter(|_| row.words.is_empty()).map(|vkey| names.of(vkey)));
        parties.dedup();
        Line {
            id: row.id,
            path: format!("/divergences/{}", row.id),
            title: advice(&row.kind).title,
            about: row.spec.clone().unwrap_or_else(|| "the whole log".to_owned()),
            parties: parties.join(", "),
            seen: time(row.first_seen),
            open: row.open,
        }
    }
}

#[derive(Template)]
#[template(path = "divergence.html")]
struct Page {
    base: Base,
    id: i64,
    kind: String,
    open: bool,
    spec: String,
    /// Whose word or head opened it.
    party: String,
    first_seen: String,
    last_seen: String,
    note: String,
    words: Vec<Said>,
    /// What came instead, for the kind that is about that: names and values.
    received: Vec<(&'static str, String)>,
    /// How the binaries differ.
    compared: Vec<Shown>,
    advice: Advice,
    settle: String,
    /// Why there is no evidence yet; empty if there is.
    unproven: String,
    file: String,
    verify: String,
}

struct Said {
    party: String,
    sum: String,
    size: String,
    log: &'static str,
    number: String,
    at: String,
    /// The bytes behind it.
    binary: String,
}

/// One divergence.
pub(in crate::web) async fn page(call: &Call<'_>, id: u64) -> Result<Response<Body>, Error> {
    let state = call.state;
    let row = find(state, id).await?;
    let names = names(state);
    let unproven = match bundle(state, row.clone()).await? {
        Ok(_) => String::new(),
        Err(why) => sentence(&why.to_string()),
    };
    let compared = compared::pairs(state, &row).await?.iter().map(compared::Pair::shown).collect();
    let party = row.party.as_deref().map(|vkey| names.of(vkey)).unwrap_or_default();
    let file = file_name(row.id);
    let page = Page {
        base: Base::of(state),
        id: row.id,
        words: row.words.iter().map(|said| Said::of(state, row.spec.as_deref(), said, &names)).collect(),
        received: received(&row).map(|came| served(&came)).unwrap_or_default(),
        compared,
        advice: advice(&row.kind),
        settle: settle_command(&row, &party),
        verify: verify_command(call, &row, &file),
        kind: row.kind,
        open: row.open,
        spec: row.spec.unwrap_or_default(),
        party,
        first_seen: time(row.first_seen),
        last_seen: time(row.last_seen),
        note: row.note.unwrap_or_default(),
        unproven,
        file,
    };
    Ok(html(&page))
}

impl Said {
    fn of(state: &State, spec: Option<&str>, said: &SaidRow, names: &Names) -> Said {
        let own = said.vkey == state.node.key.to_string();
        let peer = state.peers.iter().find(|(peer, _)| peer.key.to_string() == said.vkey);
        let base = match peer {
            Some((peer, _)) => Some(peer.url.as_str().trim_end_matches('/').to_owned()),
            None => own.then(String::new),
        };
        let path = match said.log {
            LogId::Claims => format!("/claims/file/{}", said.number),
            LogId::Accepted => format!("/{}{}/", spec.unwrap_or_default(), said.sum),
        };
        Said {
            party: names.of(&said.vkey),
            sum: said.sum.to_string(),
            size: bytes(said.size),
            log: match said.log {
                LogId::Claims => "claims",
                LogId::Accepted => "accepted log",
            },
            number: grouped(said.number),
            at: if said.at == 0 { String::new() } else { time(said.at) },
            binary: base.map(|base| format!("{base}{path}")).unwrap_or_default(),
        }
    }
}

/// What came instead of what was signed for, for people.
fn served(came: &Value) -> Vec<(&'static str, String)> {
    let text = |name: &str| came[name].as_str().unwrap_or_default().to_owned();
    let number = |name: &str| bytes(came[name].as_u64().unwrap_or_default());
    let kept =
        if came["kept"] == true { "in the folder evidence of the data directory" } else { "no, there was no room" };
    vec![
        ("From", text("url")),
        ("What is wrong", sentence(&text("flaw"))),
        ("Bytes", format!("{}, of which {} could be unpacked", number("size"), number("unpacked"))),
        ("SHA-256", text("sha256")),
        ("Sum of what was unpacked", text("sum")),
        ("Kept", kept.to_owned()),
    ]
}

/// How the operator settles it.
fn settle_command(row: &DivergenceRow, party: &str) -> String {
    match row.kind.as_str() {
        "fork" | "bad-root" => format!("sumpeer peers release {} --note \"…\"", shell(party)),
        "own-log" => "sumpeer serve --data NEW-FOLDER".to_owned(),
        _ => format!("sumpeer divergences resolve {} --note \"…\"", row.id),
    }
}

/// How anybody checks the evidence.
fn verify_command(call: &Call<'_>, row: &DivergenceRow, file: &str) -> String {
    let mut keys: Vec<&str> = row.words.iter().map(|said| said.vkey.as_str()).collect();
    if row.words.is_empty() {
        keys.extend(row.party.as_deref());
    }
    keys.dedup();
    // A bundle holds two words; with more parties than that, the reader chooses whose keys to demand.
    let keys: String =
        if keys.len() > 2 { String::new() } else { keys.iter().map(|key| format!(" \\\n  --key {key}")).collect() };
    let origin = origin(call);
    format!("curl -o {file} {origin}/api/v1/divergences/{}/evidence\nsumpeer evidence verify {file}{keys}", row.id)
}

/// What a kind means, and what to do about it.
fn advice(kind: &str) -> Advice {
    kind.parse().map_or(
        Advice {
            title: "Something differs",
            meaning: "A newer version of this program noted it.",
            todo: "Use the newer version to read it.",
        },
        Advice::of,
    )
}

/// A name as an argument that people copy into a shell.
fn shell(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.chars().all(plain) { name.to_owned() } else { format!("'{}'", name.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_argument() {
        assert_eq!((shell("beta-1.x"), shell("b $(x)'")), ("beta-1.x".to_owned(), "'b $(x)'\\'''".to_owned()));
    }
}
