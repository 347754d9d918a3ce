//! What the arguments ask for, as lookup keys, and whether a record is the answer.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use url::Url;

use crate::model::{GoVersionQuery, PackageQuery, Record, SpecQuery, Sum, Target, Variant, VersionQuery};
use crate::tlog::VerifierKey;

use super::Refusal;

/// Download a program through the log
#[derive(Debug, Clone, Args)]
pub struct GetArgs {
    /// What to get; without @VERSION the latest version
    #[arg(value_name = "MODULE[@VERSION][/DIR]")]
    pub package: PackageQuery,

    /// The sum that the program must have
    #[arg(long)]
    pub sum: Option<Sum>,

    /// The system and processor it is for, such as linux/amd64 [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub target: Option<Target>,

    /// The Go version to build with: go1.27.1, go1.27.latest or latest
    #[arg(long, value_name = "GOVERSION", default_value = "latest")]
    pub goversion: GoVersionQuery,

    /// The program without its symbol table
    #[arg(long)]
    pub stripped: bool,

    /// Address of a log to ask; each needs its --key. Several must all name the same sum
    #[arg(long, value_name = "URL")]
    pub url: Vec<Url>,

    /// Verifier key of the log at the --url in the same place
    #[arg(long, value_name = "VKEY")]
    pub key: Vec<VerifierKey>,

    /// File or folder to install to [default: the program's name, in this folder]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// How long to wait for all of it; a program that was never asked for is built first
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = parse_duration)]
    pub timeout: Duration,

    /// Print what was installed, and what proved it, as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// The lookup keys that the arguments can mean, most likely first; at least one.
pub(super) fn queries(args: &GetArgs) -> Result<Vec<SpecQuery>, Refusal> {
    let target = args.target.unwrap_or_else(Target::host);
    let variant = if args.stripped { Variant::Stripped } else { Variant::Plain };
    let mut queries = Vec::new();
    let mut senseless = None;
    for (module, dir) in args.package.candidates() {
        let version = args.package.version();
        let goversion = args.goversion;
        let query = SpecQuery { module, version, dir, target, goversion, variant };
        // Written and read again: parsing is what checks that the parts fit each other.
        match query.to_string().parse::<SpecQuery>() {
            Ok(query) => queries.push(query),
            Err(error) => senseless = senseless.or(Some(error.to_string())),
        }
    }
    match senseless {
        Some(error) if queries.is_empty() => Err(Refusal::Usage(error)),
        _ => Ok(queries),
    }
}

/// Whether a spec is an answer to a query.
pub(super) fn answers(query: &SpecQuery, record: &Record) -> bool {
    let spec = &record.spec;
    let version = match &query.version {
        VersionQuery::Latest => true,
        VersionQuery::Exact(version) => *version == spec.version,
    };
    let goversion = match query.goversion {
        GoVersionQuery::Latest => true,
        GoVersionQuery::LatestOf(minor) => minor == spec.goversion.minor(),
        GoVersionQuery::Exact(goversion) => goversion == spec.goversion,
    };
    let same = (&query.module, &query.dir, query.target, query.variant)
        == (&spec.module, &spec.dir, spec.target, spec.variant);
    version && goversion && same
}

pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration: jiff::SignedDuration = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    Duration::try_from(duration).map_err(|_| "a time to wait is not negative".to_owned())
}
