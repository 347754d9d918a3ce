//! The command line: one command a file, each a struct of arguments and a function that runs it.
//!
//! stdout is data, stderr is talk. Exit codes are [`Exit`], and documented.

pub mod admin;
pub mod alerts;
pub mod audit;
pub mod check;
pub mod completions;
pub mod config;
pub mod divergences;
pub mod evidence;
pub mod get;
pub mod helper;
pub mod keygen;
pub mod man;
pub mod peers;
pub mod queue;
pub mod serve;
pub mod sum;
pub mod toolchain;
pub mod verify;

use std::future::Future;
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};

/// How a command ended, for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Ok = 0,
    /// It could not be done.
    Failure = 1,
    /// It was asked for wrongly.
    Usage = 2,
    /// A divergence or tampering was found.
    Divergence = 3,
    /// It shows, but something is missing to prove it.
    Incomplete = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// An independent peer for Go binaries: it builds for itself, and keeps a log that anyone can check.
#[derive(Debug, Parser)]
#[command(name = "sumpeer", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    Get(get::GetArgs),
    Verify(verify::Args),
    Check(check::CheckArgs),
    Peers(peers::Args),
    Divergences(divergences::Args),
    Alerts(alerts::Args),
    Queue(queue::Args),
    Audit(audit::Args),
    Sum(sum::Args),
    Keygen(keygen::Args),
    Config(config::Args),
    Evidence(evidence::Args),
    Toolchain(toolchain::Args),
    Completions(completions::Args),
    Man(man::Args),
}

impl Cli {
    /// What is logged unless `RUST_LOG` says otherwise: the node tells its story, commands only their trouble.
    pub fn log_filter(&self) -> &'static str {
        match self.command {
            Command::Serve(_) => "info",
            _ => "warn",
        }
    }

    /// Runs the command.
    ///
    /// # Errors
    /// What kept it from being done, as a sentence.
    pub fn run(self) -> anyhow::Result<Exit> {
        match self.command {
            Command::Serve(args) => wait(serve::run(args)),
            Command::Get(args) => wait(get::run(args)),
            Command::Verify(args) => wait(verify::run(args)),
            Command::Check(args) => check::run(&args),
            Command::Peers(args) => wait(peers::run(args)),
            Command::Divergences(args) => wait(divergences::run(args)),
            Command::Alerts(args) => wait(alerts::run(args)),
            Command::Queue(args) => wait(queue::run(args)),
            Command::Audit(args) => wait(audit::run(args)),
            Command::Sum(args) => sum::run(&args),
            Command::Keygen(args) => keygen::run(&args),
            Command::Config(args) => config::run(&args),
            Command::Evidence(args) => evidence::run(&args),
            Command::Toolchain(args) => wait(toolchain::run(&args)),
            Command::Completions(args) => completions::run(&args, Cli::command()),
            Command::Man(args) => man::run(&args, Cli::command()),
        }
    }
}

fn wait(command: impl Future<Output = anyhow::Result<Exit>>) -> anyhow::Result<Exit> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(command)
}
