//! `sumpeer serve`: the node.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

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
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let node = node::run(config.clone(), stop.clone());
    tokio::pin!(node);
    loop {
        tokio::select! {
            ended = &mut node => return ended.map(|()| Exit::Ok),
            _ = terminate.recv() => stop.cancel(),
            _ = interrupt.recv() => stop.cancel(),
            _ = hangup.recv() => compare(&args, &config),
        }
        if stop.is_cancelled() {
            info!("stopping");
            return node.await.map(|()| Exit::Ok);
        }
    }
}

/// Says what a changed configuration would need to take effect.
fn compare(args: &ServeArgs, running: &Config) {
    match args.load() {
        Ok(new) => {
            let differences = running.differences(&new);
            if differences.is_empty() {
                info!("the configuration has not changed");
            } else {
                info!("settings that changed take effect at the next start: {}", differences.needs_restart.join(", "));
            }
        }
        Err(error) => tracing::error!("the configuration is kept as it was: {error:#}"),
    }
}
