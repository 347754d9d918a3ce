//! A federation of three nodes on one machine: `cargo run --release --example three-nodes`.
//!
//! It starts three nodes, each with a data directory, a key and a configuration that names the other two; asks the first for
//! one real program; tells what each finds; and shows that all three have the same record. With `--liar` the third is a
//! node that names another sum for whatever the first one finds: nothing is recorded, and the divergence is stored with
//! its evidence. It ends by itself, or stays up with `--keep`.
//!
//! The nodes are processes of the whole program, which is this file once more, so nothing else has to be built. They
//! share nothing but the machine. The configurations stay in the data directory, to be read and tried by hand.

#[expect(dead_code, reason = "a client that has more than is needed here")]
#[path = "../it/world/http.rs"]
mod http;
#[path = "../shared/liar.rs"]
mod liar;
#[path = "three_nodes/nodes.rs"]
mod nodes;
#[path = "../shared/small.rs"]
mod small;
#[path = "three_nodes/story.rs"]
mod story;

use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Context as _;
use clap::Parser;
use sumpeer::cli::{Cli, helper};
use sumpeer::model::{Spec, Target};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use nodes::{Node, Place};

/// Three nodes on this machine that need each other's word.
#[derive(Debug, Parser)]
#[command(name = "three-nodes")]
struct Args {
    /// The third node names wrong sums.
    #[arg(long)]
    liar: bool,
    /// Where data directories and configurations are kept, for further runs too. Default: below target/
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Leave the nodes running until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// What to ask for: module@version/[dir/]goos-goarch-goversion/. Default: rsc.io/2fa for this machine, with --liar the stripped one
    #[arg(long)]
    spec: Option<Spec>,
}

fn main() -> ExitCode {
    // What the nodes' builds run, and the nodes themselves.
    if let Some(code) = helper::dispatch(std::env::args_os()) {
        return code;
    }
    rustls::crypto::ring::default_provider().install_default().expect("nothing has chosen a TLS provider before");
    let is_command = std::env::args().nth(1).is_some_and(|arg| !arg.starts_with('-'));
    let result = if is_command { program() } else { run(&Args::parse()) };
    result.unwrap_or_else(|error| {
        eprintln!("three-nodes: {error:#}");
        ExitCode::FAILURE
    })
}

/// The whole program, as `sumpeer` itself. A node ends in order when whoever started it is gone.
fn program() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(cli.log_filter()))
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_target(false)
        .init();
    if std::env::args().nth(1).is_some_and(|command| command == "serve") {
        std::thread::spawn(|| {
            let _ = io::copy(&mut io::stdin(), &mut io::sink());
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM);
        });
    }
    Ok(cli.run()?.into())
}

fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let spec = match &args.spec {
        Some(spec) => spec.clone(),
        None => {
            let host = Target::host();
            // Of another program than the honest three have asked for: what is accepted once stays accepted.
            let variant = if args.liar { "-stripped" } else { "" };
            format!("rsc.io/2fa@v1.2.0/{}-{}-go1.27.1{variant}/", host.goos(), host.goarch()).parse()?
        }
    };
    let data = match &args.data {
        Some(data) => data.clone(),
        None => default_data()?,
    };
    let [one, two, three] = Place::three(&data, ["one", "two", if args.liar { "liar" } else { "three" }])?;
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let mut nodes = vec![Node::start(&one, &[&two, &three])?, Node::start(&two, &[&one, &three])?];
    if args.liar {
        let (data, key, listener) = (three.data.clone(), three.key()?, three.listen()?);
        let honest = small::peer(one.key()?.verifier(), one.url.parse()?);
        // It ends with the process.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                liar::run(&data, &key, listener, honest, stop).await
            })
        });
    } else {
        nodes.push(Node::start(&three, &[&one, &two])?);
    }
    for node in &mut nodes {
        node.listens()?;
    }
    story::begin(&nodes, args.liar.then_some(&three), &data);
    let pages = if args.liar { story::refused(&nodes, &spec, &data)? } else { story::accepted(&nodes, &spec)? };
    if args.keep {
        story::say("\nThe nodes stay up until Ctrl-C. To look at:");
        pages.iter().for_each(|page| story::say(&format!("  {page}")));
        nodes.iter_mut().for_each(Node::wait);
    } else {
        story::say("\nThe nodes stop. With --keep they stay up, to be looked at.");
    }
    Ok(ExitCode::SUCCESS)
}

/// Beside what was built: it goes with `cargo clean`, and needs no other place.
fn default_data() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.ancestors().nth(2).context("this program is in no folder")?.join("three-nodes"))
}

/// This program as `sumpeer`.
fn sumpeer() -> anyhow::Result<Command> {
    Ok(Command::new(std::env::current_exe().context("cannot find this program")?))
}
