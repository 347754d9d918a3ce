//! `sumpeer check`: validates a whole node, running or not, and changes nothing.
//!
//! Every record, claim, hash, tile, head signature, binary and link between them, also of the logs of peers and what came
//! of auditing them, and in both directions: what the logs say must be in the tables, and what the tables say must be in
//! the logs. What is compared with each other is read in one state of the database, so a running node may go on.

mod audits;
mod files;
mod logs;
mod peers;
mod tree;

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::Exit;
use crate::config::{Config, Overrides};
use crate::log;
use crate::node;
use crate::store::{LogId, ReadOnly};

/// Validate every record, hash, tile, head, claim and binary of a node, and the links between them.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The node's configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The node's data directory, if it is not the configured one.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What was looked at, and what was wrong with it.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// One line for each thing that was looked at as a whole.
    pub checked: Vec<String>,
    /// One sentence for each thing that is wrong; at most [`PROBLEMS`].
    pub problems: Vec<String>,
    /// All that is wrong, told or not.
    pub count: u64,
}

/// A broken node has more to tell than anybody reads.
const PROBLEMS: usize = 100;

impl Report {
    fn problem(&mut self, sentence: String) {
        self.count += 1;
        if self.problems.len() < PROBLEMS {
            self.problems.push(sentence);
        }
    }

    fn expect(&mut self, holds: bool, sentence: impl FnOnce() -> String) {
        if !holds {
            self.problem(sentence());
        }
    }
}

/// Runs the command.
///
/// # Errors
/// There is no node to check, or it cannot be read.
pub fn run(args: &CheckArgs) -> anyhow::Result<Exit> {
    let overrides = Overrides { data: args.data.clone(), ..Overrides::default() };
    let config = Config::load(args.config.as_deref(), overrides)?;
    let data = &config.data;
    let store = ReadOnly::open(data)?;
    let key = node::read_key(&config.key_file())?;
    let mut report = Report::default();

    let forms = log::forms(&key);
    store
        .read(|reader| {
            logs::check(reader, LogId::Accepted, &forms.accepted, &mut report)?;
            logs::check(reader, LogId::Claims, &forms.claims, &mut report)?;
            logs::check_words(reader, &key.verifier().to_string(), &mut report)
        })
        .context("cannot check the logs")?;
    store
        .read(|reader| peers::check(reader, &key.verifier(), &mut report))
        .context("cannot check the logs of peers")?;
    store
        .read(|reader| audits::check(reader, &key.verifier().to_string(), &mut report))
        .context("cannot check the audits")?;
    files::check_binaries(&store, data, &mut report).context("cannot check the binaries")?;
    files::check_modules(&store, data, &mut report).context("cannot check the module files")?;
    print(&report, args.json)
}

#[expect(clippy::print_stdout, reason = "the command's output")]
fn print(report: &Report, json: bool) -> anyhow::Result<Exit> {
    if json {
        println!("{}", serde_json::to_string(report)?);
    } else {
        for line in &report.checked {
            println!("checked {line}");
        }
        for sentence in &report.problems {
            println!("WRONG   {sentence}");
        }
        match report.count {
            0 => println!("all is well"),
            count => println!("{count} wrong"),
        }
    }
    Ok(if report.count == 0 { Exit::Ok } else { Exit::Divergence })
}
