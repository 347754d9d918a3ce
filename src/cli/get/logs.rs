//! Which logs are asked: those of the command line, else those of the user's list.

use std::io::ErrorKind;
use std::path::Path;

use serde::Deserialize;
use url::Url;

use crate::tlog::VerifierKey;

use super::Refusal;

/// A log and the only key whose signature counts for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogServer {
    pub(super) url: Url,
    pub(super) key: VerifierKey,
}

/// `get.toml`: one `[[log]]` table, with `url` and `key`, for each log.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    log: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    url: String,
    key: String,
}

/// The logs to ask, at least one.
pub(super) fn choose(urls: &[Url], keys: &[VerifierKey], list: &Path) -> Result<Vec<LogServer>, Refusal> {
    if urls.len() != keys.len() {
        let (urls, keys) = (urls.len(), keys.len());
        return Err(Refusal::Usage(format!(
            "every --url needs its --key: there are {urls} of the one and {keys} of the other"
        )));
    }
    let logs = if urls.is_empty() {
        read(list)?
    } else {
        urls.iter().cloned().zip(keys.iter().cloned()).map(|(url, key)| LogServer { url, key }).collect()
    };
    for (at, log) in logs.iter().enumerate() {
        if !matches!(log.url.scheme(), "http" | "https") || log.url.cannot_be_a_base() {
            return Err(Refusal::Usage(format!("{} is no address of a web server", log.url)));
        }
        if logs[..at].iter().any(|other| other.key == log.key) {
            return Err(Refusal::Usage(format!("{} is given twice: it is one log", log.key)));
        }
    }
    Ok(logs)
}

fn read(list: &Path) -> Result<Vec<LogServer>, Refusal> {
    let shown = list.display();
    let text = match std::fs::read_to_string(list) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Refusal::Usage(format!(
                "no log to ask: give --url URL --key VKEY (a node shows both on its pages), or write {shown} with

[[log]]
url = \"https://node.example\"
key = \"node.example+…\""
            )));
        }
        Err(error) => {
            return Err(Refusal::Failed(anyhow::anyhow!("cannot read {shown}: {error}")));
        }
    };
    let wrong = |error: String| Refusal::Usage(format!("{shown}: {error}"));
    let List { log } = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if log.is_empty() {
        return Err(wrong("it lists no log".to_owned()));
    }
    log.into_iter()
        .map(|Entry { url, key }| {
            let url = url.parse().map_err(|error| wrong(format!("{url:?} is no URL: {error}")))?;
            let key = key.parse().map_err(|error| wrong(format!("{key:?} is no verifier key: {error}")))?;
            Ok(LogServer { url, key })
        })
        .collect()
}
