//! `sumpeer evidence verify`: does a file prove what it says? Offline, with nothing but the keys inside it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::Exit;
use super::admin::columns;
use crate::evidence::{self, Comparison, FILE_LIMIT_BYTES, Judgement, Statement};
use crate::tlog::VerifierKey;

/// Things to do with evidence.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Says whether a file of evidence proves what it says, offline. Status 0: it does; 3: it does not, or was tampered
    /// with; 4: it shows but cannot prove alone; 1: it cannot be read.
    Verify {
        /// The file, as a node serves it; `-` is standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Demand that this verifier key signed; repeatable. Keys inside the file prove nothing about who holds them
        #[arg(long = "key", value_name = "VKEY")]
        keys: Vec<VerifierKey>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command.
///
/// # Errors
/// The file cannot be read, or is no JSON.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let Command::Verify { file, keys, json } = &args.command;
    let shown = file.display();
    let bytes = read(file).with_context(|| format!("cannot read {shown}"))?;
    let (judgement, exit) = match evidence::verify(&bytes, keys) {
        Judgement::Unreadable(why) => bail!("{shown} is no evidence: {why}"),
        judgement @ Judgement::Proven(_) => (judgement, Exit::Ok),
        judgement @ Judgement::Tampered(_) => (judgement, Exit::Divergence),
        judgement @ Judgement::Shows(_) => (judgement, Exit::Incomplete),
    };
    let mut out = io::stdout().lock();
    if *json {
        writeln!(out, "{}", serde_json::to_string(&to_json(&judgement))?)?
    } else {
        print(&mut out, &judgement)?
    }
    Ok(exit)
}

/// At most a byte more than what is looked at: a pipe may never end.
fn read(file: &Path) -> io::Result<Vec<u8>> {
    let from: Box<dyn Read> = if file == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(file)?) };
    let mut bytes = Vec::new();
    from.take(FILE_LIMIT_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn print(out: &mut impl Write, judgement: &Judgement) -> io::Result<()> {
    let (word, statement, end) = match judgement {
        Judgement::Proven(statement) => ("proven", statement, "proven for whoever holds these keys"),
        Judgement::Shows(statement) => {
            ("shown", statement, "what is signed is proven for whoever holds these keys; the rest is not")
        }
        Judgement::Tampered(why) | Judgement::Unreadable(why) => return writeln!(out, "not proven: {why}"),
    };
    writeln!(out, "{word} {}: {}", statement.kind, statement.sentence)?;
    for key in &statement.keys {
        writeln!(out, "key {key}")?;
    }
    writeln!(out, "{end}")?;
    if let (Some(comparison), [one, other]) = (&statement.comparison, statement.names.as_slice()) {
        writeln!(out, "\ncomparison of the two files, which nobody signed: {}", comparison.summary())?;
        write!(out, "{}", tables(comparison, [one, other]))?;
    }
    Ok(())
}

/// How two binaries differ, and what to do about it, as text.
pub(super) fn tables(comparison: &Comparison, names: [&str; 2]) -> String {
    let mut text = format!("{}\n{}\n", comparison.class.meaning(), comparison.class.advice());
    for table in comparison.tables(names) {
        let head: Vec<&str> = table.head.iter().map(String::as_str).collect();
        text.push_str(&format!("\n{}\n{}", table.title, columns(&head, &table.rows)));
    }
    text
}

/// The answer as one object; members that do not apply are left out.
#[derive(Default, Serialize)]
struct Answer {
    judgement: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spec: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    made_at: Option<String>,
    /// What is proven or shown, or why nothing is.
    sentence: String,
    /// The verifier keys for whose holders it is proven.
    keys: Vec<String>,
    /// How the two binaries differ, which nobody signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<Comparison>,
}

fn to_json(judgement: &Judgement) -> Answer {
    let says = |judgement, statement: &Statement| Answer {
        judgement,
        kind: Some(statement.kind.to_string()),
        spec: statement.spec.as_ref().map(ToString::to_string),
        made_at: Some(statement.made_at.to_string()),
        sentence: statement.sentence.clone(),
        keys: statement.keys.iter().map(ToString::to_string).collect(),
        comparison: statement.comparison.as_deref().cloned(),
    };
    match judgement {
        Judgement::Proven(statement) => says("proven", statement),
        Judgement::Shows(statement) => says("shown", statement),
        Judgement::Tampered(why) | Judgement::Unreadable(why) => {
            Answer { judgement: "not-proven", sentence: why.clone(), ..Answer::default() }
        }
    }
}
