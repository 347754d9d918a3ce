//! Carries the go command's connections to the module proxy's unix socket.
//!
//! The go command speaks HTTP over TCP only, and a sandbox's network has nothing but a loopback of
//! its own; what it writes there comes out of a file.

use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::Context as _;

/// Listens on a random port of 127.0.0.1, for as long as this process lives. Returns the port, or
/// none where there is no socket to forward to.
///
/// # Errors
/// When nothing can be listened on.
pub(super) fn start(socket: Option<&Path>) -> anyhow::Result<Option<u16>> {
    let Some(socket) = socket else {
        return Ok(None);
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen for the go command")?;
    let port = listener.local_addr().context("cannot tell the port listened on")?.port();
    let socket = socket.to_owned();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let socket = socket.clone();
            // The proxy bounds its connections, and the go command makes about ten.
            thread::spawn(move || carry(client, socket));
        }
    });
    Ok(Some(port))
}

/// Copies both ways until each side has said all. Errors end a connection: the go command reports
/// them in its own words.
fn carry(client: TcpStream, socket: PathBuf) {
    let Ok(server) = UnixStream::connect(socket) else {
        return;
    };
    let (Ok(mut client_reader), Ok(mut server_writer)) = (client.try_clone(), server.try_clone()) else {
        return;
    };
    let requests = thread::spawn(move || {
        let _ = io::copy(&mut client_reader, &mut server_writer);
        let _ = server_writer.shutdown(Shutdown::Write);
    });
    let (mut server, mut client) = (server, client);
    let _ = io::copy(&mut server, &mut client);
    // Both: the proxy has gone, so requests have nowhere to go either.
    let _ = client.shutdown(Shutdown::Both);
    let _ = requests.join();
}
