//! The process that outlives a killed node just long enough to kill its build.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, stdin};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::thread;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use super::{code, forward};
use crate::builder::sandbox::{Order, Wall, order};

/// Longest order. Environment and arguments are short, paths have an end.
const ORDER_LIMIT_BYTES: u64 = 1 << 20;

/// Reads the order from stdin, runs it, and returns its exit status. When stdin closes before, the
/// node has died or wants no more of it: the whole group is killed.
pub(super) fn run() -> anyhow::Result<u8> {
    let mut lines = BufReader::new(stdin()).take(ORDER_LIMIT_BYTES);
    let mut line = String::new();
    lines.read_line(&mut line).context("cannot read the order")?;
    let mut order: Order = serde_json::from_str(&line).context("cannot read the order")?;
    if let Some(procs) = &order.cgroup {
        let pid = std::process::id().to_string();
        fs::write(procs, pid).context("cannot enter the control group")?;
    }
    // Children whose parents are gone come to us, where they can be found and killed.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .context("cannot adopt what a build leaves behind")?;

    // From this thread and no other: bubblewrap dies with the *thread* that started it, and this
    // one lives as long as the process.
    let mut child = command(&mut order)?.process_group(0).spawn().context("cannot start the sandbox")?;
    let group = Pid::from_child(&child);
    thread::spawn(move || {
        // Bytes mean nothing, only the end does.
        let _ = std::io::copy(&mut lines.into_inner(), &mut std::io::sink());
        kill_group(group);
    });
    wait_unreaped(&child)?;
    // Not reaped yet, so its number cannot belong to another group.
    kill_group(group);
    let status = child.wait().context("cannot wait for the sandbox")?;
    kill_adopted();
    Ok(code(status))
}

/// The first stage behind the wall.
fn command(order: &mut Order) -> anyhow::Result<Command> {
    let mut command = match &order.wall {
        Wall::Bwrap { program } => {
            let json = serde_json::to_string(&order).context("cannot write the order")?;
            let mut command = Command::new(program);
            command.args(order::bwrap_args(order, &json));
            command
        }
        Wall::Landlock | Wall::None => {
            // Outside of the wall: behind it there are no unix sockets.
            order.port = forward::start(order.host.socket.as_deref())?;
            let mut command = Command::new(&order.helper);
            command
                .arg(order::CONFINE)
                .arg(serde_json::to_string(&order).context("cannot write the order")?)
                .current_dir(&order.host.home);
            command
        }
    };
    command.env_clear().stdin(std::process::Stdio::null());
    Ok(command)
}

/// Waits for the end of a child, but leaves it to be reaped.
fn wait_unreaped(child: &Child) -> anyhow::Result<()> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    loop {
        match rustix::process::waitid(WaitId::Pid(Pid::from_child(child)), options) {
            Ok(Some(_)) => return Ok(()),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => bail!("cannot wait for the sandbox: {error}"),
        }
    }
}

/// An error means that there is nobody left.
fn kill_group(group: Pid) {
    let _ = rustix::process::kill_process_group(group, Signal::KILL);
}

/// Kills what left the group and was given to us, until there is nothing left.
fn kill_adopted() {
    let list = format!("/proc/self/task/{}/children", std::process::id());
    while let Ok(children) = fs::read_to_string(&list) {
        let mut any = false;
        for pid in children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
            any = true;
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
        }
        if !any {
            return;
        }
    }
}
