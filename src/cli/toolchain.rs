//! `sumpeer toolchain check`: does a Go toolchain give the same bytes wherever it builds?

use std::io::Write as _;

use anyhow::Context as _;

use super::Exit;
use crate::builder::toolchain::{Corpus, Toolchains};
use crate::config::{GoSumDb, goproxy, gosumdb};
use crate::goproxy::{Client, ProxyList, http_client};
use crate::metrics::Metrics;
use crate::model::{GoRange, GoVersion, Variant};
use crate::store::Store;
use crate::sumdb::{Database, SumDb};
use crate::tlog::SignerKey;

/// Things to do with Go toolchains.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Downloads a Go toolchain, checks it against the checksum database, and builds a small corpus of programs twice,
    /// in two differently placed homes. Prints both sums of each. Nothing of it is kept.
    Check {
        /// For example go1.27.1
        goversion: GoVersion,
    },
}

/// Runs the check, in a temporary folder of its own: a node that is running is not touched.
///
/// # Errors
/// If the toolchain cannot be had, is not the right one, or cannot build the corpus.
pub async fn run(args: &Args) -> anyhow::Result<Exit> {
    let Command::Check { goversion } = &args.command;
    let scratch = tempfile::Builder::new().prefix("sumpeer-toolchain-").tempdir()?;
    let toolchains = toolchains(scratch.path()).await?;
    eprintln!("downloading {goversion}");
    let toolchain = toolchains.ensure(goversion, |_, _| ()).await?;
    eprintln!("{goversion} is what the checksum database vouches for: {}", toolchain.h1);
    let mut exit = Exit::Ok;
    let mut out = std::io::stdout();
    let mut written = Ok(());
    let targets = Corpus::targets(&toolchain);
    Corpus::check(&toolchain, &targets, &scratch.path().join("corpus"), |result| {
        let [one, two] = &result.sums;
        let verdict = if one == two { "equal" } else { "differs" };
        if one != two {
            exit = Exit::Failure;
        }
        let variant = match result.variant {
            Variant::Plain => "plain",
            Variant::Stripped => "stripped",
        };
        let line = writeln!(out, "{} {} {variant} {one} {two} {verdict}", result.program, result.target);
        if written.is_ok() {
            written = line.and_then(|()| out.flush());
        }
    })
    .await?;
    written.context("cannot write to standard output")?;
    Ok(exit)
}

/// Toolchains in an empty data directory, with a key that signs nothing anyone sees.
async fn toolchains(data: &std::path::Path) -> anyhow::Result<Toolchains> {
    let list: ProxyList = tokio::task::spawn_blocking(|| goproxy(None)).await??.parse()?;
    let client = Client::new(list, http_client()?);
    let key = SignerKey::generate("toolchain-check", rand::random())?;
    let store = Store::open(data, crate::log::forms(&key), Metrics::new())?;
    let sumdb = match gosumdb(None)? {
        GoSumDb::Off => None,
        GoSumDb::Key(key) => Some(SumDb::new(Database::of_key(*key)?, client.clone(), store.clone())),
    };
    Toolchains::open(data, store, client, sumdb, GoRange::default()).await
}
