//! Hidden subcommands: the processes between the node and a go command.
//!
//! The node executes this program again as `helper-supervise`, which starts the rest
//! ([`crate::builder::sandbox`] has the picture). They run without the async runtime and without
//! logging: what they have to say goes to stderr, which ends in the build's log.
//!
//! Out of scope: what is run and with which limits; that is in the order they are given.

mod confine;
mod forward;
mod probe;
mod supervise;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail};

use crate::builder::sandbox::{Order, SETUP_FAILED, order};

/// Runs a hidden subcommand, if these arguments (with the program's name in front) name one.
///
/// To be called first of all in `main`: a helper wants no runtime and no threads.
pub fn dispatch(mut args: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let name = args.nth(1)?;
    let result = match name.to_str()? {
        order::SUPERVISE => supervise::run(),
        order::INSIDE => argument(args).and_then(inside),
        order::CONFINE => argument(args).and_then(|order| confine::run(&order)),
        order::PROBE => probe::run(args),
        _ => return None,
    };
    Some(match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "sumpeer: {error:#}");
            ExitCode::from(u8::try_from(SETUP_FAILED).expect("the status is below 128"))
        }
    })
}

/// The order a stage got as its only argument.
fn argument(mut args: impl Iterator<Item = OsString>) -> anyhow::Result<Order> {
    let (Some(json), None) = (args.next(), args.next()) else {
        bail!("a helper takes one argument; it is not meant to be called by hand");
    };
    let json = json.to_str().context("the order is not UTF-8")?;
    serde_json::from_str(json).context("cannot read the order")
}

/// The first stage within bubblewrap: forwards to the module proxy's socket, and waits for the go
/// command. When it ends, the process id namespace ends, and all that is in it.
fn inside(mut order: Order) -> anyhow::Result<u8> {
    order.port = forward::start(order.inside.socket.as_deref())?;
    // Not `order.helper`: that is its name on the host.
    let program = std::env::current_exe().context("cannot find this program")?;
    let status = Command::new(program)
        .arg(order::CONFINE)
        .arg(serde_json::to_string(&order).context("cannot write the order")?)
        .env_clear()
        .status()
        .context("cannot start the next stage")?;
    Ok(code(status))
}

/// The exit status to pass on: the process's own, or 128 + the signal that ended it, as shells say.
fn code(status: std::process::ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
