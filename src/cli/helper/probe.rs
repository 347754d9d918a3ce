//! Checks from within whether a wall stands, before the first build trusts it.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::net::{TcpStream, UdpSocket};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};

/// Arguments: a file that must not be seen, and the name of the wall. With `none` nothing is hidden
/// and only starting is tried.
pub(super) fn run(mut args: impl Iterator<Item = OsString>) -> anyhow::Result<u8> {
    let (Some(hidden), Some(wall)) = (args.next(), args.next()) else {
        bail!("a probe takes a file and the name of a wall");
    };
    let home = std::env::current_dir().context("a build cannot find its home")?;
    fs::write(home.join("probe"), "probe").context("a build cannot write to its home")?;
    OpenOptions::new().write(true).open("/dev/null").context("a build cannot write to /dev/null")?;
    if wall == "none" {
        return Ok(0);
    }
    ensure!(fs::read(Path::new(&hidden)).is_err(), "a build can read files of the host");
    ensure!(fs::write("/usr/lib/sumpeer-probe", "").is_err(), "a build can write outside of its home");
    // A documentation address: nothing answers there, and a wall refuses before anything is sent.
    let refused = match TcpStream::connect_timeout(
        &"192.0.2.1:443".parse().expect("this is an address"),
        std::time::Duration::from_millis(200),
    ) {
        Ok(_) => false,
        Err(error) => error.kind() != std::io::ErrorKind::TimedOut,
    };
    ensure!(refused, "a build can reach the network");
    ensure!(UdpSocket::bind("127.0.0.1:0").is_err(), "a build can open datagram sockets");
    ensure!(std::env::vars_os().next().is_none(), "a build sees the node's environment");
    Ok(0)
}
