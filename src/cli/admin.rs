//! Talking to the node that runs on a data directory, for the commands of its operator.
//!
//! The node keeps the address of its admin listener and a token in its data directory; see docs/PROTOCOL.md. Out of
//! scope: what the commands ask for, and how they show it, but for columns.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use reqwest::{Client, RequestBuilder};
use serde_json::Value;

use crate::config::{Config, Overrides};

/// For a connection, and for an answer. The node answers from its database.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// Bytes of an answer. A page of 1000 divergences with all their words is shorter.
const ANSWER_LIMIT_BYTES: usize = 64 << 20;
/// Items of all pages of a list together.
const ITEMS_LIMIT: usize = 100_000;

/// Which node.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// The node's configuration file.
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) config: Option<PathBuf>,
    /// The node's data directory, if it is not the configured one.
    #[arg(long, value_name = "FOLDER", global = true)]
    pub(super) data: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long, global = true)]
    pub(super) json: bool,
}

/// Nobody answers for the data directory; the sentence says which.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoNode(String);
impl NodeArgs {
    /// Its configuration.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(super) fn load(&self) -> anyhow::Result<Config> {
        let overrides = Overrides { data: self.data.clone(), ..Overrides::default() };
        Ok(Config::load(self.config.as_deref(), overrides)?)
    }

    /// Prints an answer to standard output: as an object with `--json`, else as text, which ends its own lines.
    ///
    /// # Errors
    /// Standard output takes no more.
    pub(super) fn print(&self, value: &Value, text: &str) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{value}")?;
        } else {
            write!(out, "{text}")?;
        }
        Ok(())
    }
}

/// A running node.
pub(super) struct Admin {
    data: PathBuf,
    address: String,
    token: String,
    client: Client,
}

impl Admin {
    /// Finds the node that runs on the configured data directory.
    ///
    /// # Errors
    /// None has run there since the directory was made, or its address cannot be read.
    pub(super) fn find(args: &NodeArgs) -> anyhow::Result<Admin> {
        Admin::of(args.load()?.data)
    }

    /// Finds the node that runs on a data directory.
    ///
    /// # Errors
    /// As of [`Admin::find`].
    pub(super) fn of(data: PathBuf) -> anyhow::Result<Admin> {
        let path = data.join("admin");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let data = data.display();
                bail!(NoNode(format!("no node runs on the data directory {data}: start it with `sumpeer serve`")))
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let mut lines = text.lines();
        let (Some(address), Some(token)) = (lines.next(), lines.next()) else {
            bail!("{} is not what a node writes there: restart the node", path.display());
        };
        // No proxy: the node is on this machine, whatever the environment says.
        let client = Client::builder().no_proxy().timeout(ANSWER_TIME).build().context("cannot make an HTTP client")?;
        Ok(Admin { address: address.to_owned(), token: token.to_owned(), data, client })
    }

    /// All items of a list.
    ///
    /// # Errors
    /// No node answers there, or not as it should.
    pub(super) async fn list(&self, path: &str) -> anyhow::Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut after = String::new();
        let more = if path.contains('?') { '&' } else { '?' };
        loop {
            let mut page = self.get(&format!("{path}{more}limit=1000{after}")).await?;
            match page["items"].take() {
                Value::Array(more) => items.extend(more),
                _ => bail!("{}{path} did not answer with a list", self.address),
            }
            match page["next"].as_str() {
                Some(next) if items.len() < ITEMS_LIMIT => after = format!("&after={next}"),
                _ => return Ok(items),
            }
        }
    }

    /// One object.
    ///
    /// # Errors
    /// No node answers there, or it says why there is no such object.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.send(self.client.get(format!("{}{path}", self.address))).await
    }

    /// Has something done.
    ///
    /// # Errors
    /// No node answers there, or it says why not.
    pub(super) async fn act(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.act_within(path, body, ANSWER_TIME).await
    }

    /// Has something done that may take so long.
    ///
    /// # Errors
    /// No node answers there, or it says why not.
    pub(super) async fn act_within(&self, path: &str, body: &Value, time: Duration) -> anyhow::Result<Value> {
        let request = self.client.post(format!("{}{path}", self.address)).bearer_auth(&self.token);
        self.send(request.timeout(time).body(body.to_string())).await
    }

    async fn send(&self, request: RequestBuilder) -> anyhow::Result<Value> {
        let mut answer = request.send().await.map_err(|error| {
            let data = self.data.display();
            if error.is_connect() {
                let address = &self.address;
                return anyhow!(NoNode(format!(
                    "no node runs on the data directory {data}: nobody listens on {address}"
                )));
            }
            anyhow::Error::new(error).context(format!("the node on {data} does not answer"))
        })?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.context("the node's answer was cut off")? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_LIMIT_BYTES {
                bail!("the node's answer is longer than {ANSWER_LIMIT_BYTES} bytes");
            }
        }
        let value: Option<Value> = serde_json::from_slice(&body).ok();
        match value {
            Some(value) if status.is_success() => Ok(value),
            Some(value) if value["error"].is_string() => bail!("{}", plain(&value["error"])),
            _ => bail!("{} answers {status}: is that a sumpeer of the same version?", self.address),
        }
    }
}

/// A member as text that does nothing to a terminal; empty if there is none.
pub(super) fn plain(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A time as `2026-11-21 09:30:00`, in UTC as all of them.
pub(super) fn time(value: &Value) -> String {
    plain(value).trim_end_matches('Z').replacen('T', " ", 1)
}

/// Rows with columns of equal width. The last column takes what it needs.
pub(super) fn columns(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|name| name.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (cell, width) in cells.zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    };
    line(&mut head.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let rows = [vec!["beta".to_owned(), "x".to_owned()], vec!["ä".to_owned(), "longer".to_owned()]];
        assert_eq!(columns(&["PEER", "STATE"], &rows), "PEER  STATE\nbeta  x\nä     longer\n");
    }

    #[test]
    fn nothing_reaches_the_terminal_but_text() {
        assert_eq!(plain(&Value::from("a\u{1b}[2J\nb")), "a [2J b");
        assert_eq!((plain(&Value::Null), plain(&Value::from(7))), (String::new(), "7".to_owned()));
        assert_eq!(time(&Value::from("2026-11-21T09:30:00Z")), "2026-11-21 09:30:00");
    }
}
