//! `sumpeer serve`: the node.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::Exit;
use crate::config::{Config, Overrides};
use crate::node;

/// Run a node. Without a configuration file: a node of its own, with its data in ./data.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data directory.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Address to serve on; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Address of the admin pages and metrics.
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<SocketAddr>,
}

impl ServeArgs {
    fn load(&self) -> anyhow::Result<Config> {
        let overrides = Overrides { data: self.data.clone(), listen: self.listen, admin_listen: self.admin_listen };
        Ok(Config::load(self.config.as_deref(), overrides)?)
    }
}

/// Runs the node until it is asked to stop.
///
/// # Errors
/// It could not start, or one of its parts failed.
pub async fn run(args: ServeArgs) -> anyhow::Result<Exit> {
    let config = args.load()?;
    // The allocator by itself gives memory back only where more is asked for: a node that has done its work would keep
    // what it took.
    if let Err(error) = tikv_jemalloc_ctl::background_thread::write(true) {
        warn!("memory no longer needed is given back late: {error}");
    }
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (configs, running) = watch::channel(config);
    let node = node::run(running, stop.clone());
    tokio::pin!(node);
    loop {
        tokio::select! {
            ended = &mut node => return ended.map(|()| Exit::Ok),
            _ = terminate.recv() => stop.cancel(),
            _ = interrupt.recv() => stop.cancel(),
            _ = hangup.recv() => reload(&args, &configs),
        }
        if stop.is_cancelled() {
            info!("stopping");
            return node.await.map(|()| Exit::Ok);
        }
    }
}

/// Reads the configuration again, and says what of it takes effect when.
fn reload(args: &ServeArgs, configs: &watch::Sender<Config>) {
    let new = match args.load() {
        Ok(new) => new,
        Err(error) => return error!("the configuration is kept as it was: {error:#}"),
    };
    let differences = configs.borrow().differences(&new);
    if differences.is_empty() {
        info!("the configuration has not changed");
    }
    if !differences.reloadable.is_empty() {
        info!("in effect now: {}", differences.reloadable.join(", "));
    }
    if !differences.needs_restart.is_empty() {
        warn!("in effect after the next start: {}", differences.needs_restart.join(", "));
    }
    configs.send_replace(new);
}
