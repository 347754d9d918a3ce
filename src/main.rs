//! The `sumpeer` binary: parse, set up logging, run, exit code. No logic.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::Parser;
use sumpeer::cli::{Cli, Exit, helper};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    if let Some(code) = helper::dispatch(std::env::args_os()) {
        return code;
    }
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(cli.log_filter())))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
    // Panics at the first TLS connection if nobody has chosen a provider.
    rustls::crypto::ring::default_provider().install_default().expect("nothing has chosen a TLS provider before");
    match cli.run() {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("sumpeer: {error:#}");
            Exit::Failure.into()
        }
    }
}
