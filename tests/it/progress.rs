//! Whoever waits is told how far it is: in the queue, with the toolchain, with the modules, and how it ended.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::world::{Fault, GO, Module, Modules, Node, Setup, spec};

/// The updates of a build as they come.
struct Events {
    lines: BufReader<TcpStream>,
}

impl Events {
    fn of(node: &Node, spec: &str) -> Events {
        let mut stream = TcpStream::connect(&node.address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        write!(stream, "GET /{spec}events HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
        Events { lines: BufReader::new(stream) }
    }

    /// The first update that fits.
    ///
    /// # Panics
    /// If none does within a minute.
    fn wait_for(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        let mut seen = Vec::new();
        while began.elapsed() < Duration::from_secs(60) {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap_or(0) == 0 {
                break;
            }
            if let Some(data) = line.strip_prefix("data: ") {
                let update: Value = serde_json::from_str(data).expect("JSON");
                if fits(&update) {
                    return update;
                }
                seen.push(update);
            }
        }
        panic!("no {what} in {seen:?}");
    }
}

#[test]
fn the_download_of_a_toolchain_is_told_and_can_be_called_off() {
    let modules = Modules::start();
    modules.publish(&Module::command("first.example/x", "v1.0.0"));
    let host = sumpeer::model::Target::host();
    let zip = format!("golang.org/toolchain/@v/v0.0.1-{GO}.{}-{}.zip", host.goos(), host.goarch());
    modules.fault(&zip, Fault::Stall(3 << 20));
    let setup = Setup::empty(&modules);
    let node = setup.start();
    let spec = spec("first.example/x@v1.0.0");
    let mut events = Events::of(&node, &spec);
    let update = events.wait_for("progress", |update| {
        update["Phase"] == "toolchain" && update["Done"].as_u64().is_some_and(|done| done >= 3 << 20)
    });
    assert!(update["Total"].as_u64().is_some_and(|total| total > 30 << 20), "{update}");
    let queue = node.get("/api/v1/queue").text();
    assert!(queue.contains("first.example/x"), "{queue}");

    let (code, took) = node.terminate();
    assert!(code == Some(0) && took < Duration::from_secs(10), "{code:?} after {took:?}");
    let node = setup.start();
    let left: Vec<_> = std::fs::read_dir(setup.data.join("toolchains")).expect("there").flatten().collect();
    assert!(left.is_empty(), "half a toolchain: {left:?}");
    assert_eq!(node.claims(), 0);
}

#[test]
fn places_in_the_queue_and_modules_on_their_way_are_told() {
    let modules = Modules::start();
    for module in ["stalled.example/x", "second.example/x", "third.example/x"] {
        modules.publish(&Module::command(module, "v1.0.0"));
    }
    let zip = "stalled.example/x/@v/v1.0.0.zip";
    modules.fault(zip, Fault::Stall(100));
    let setup = Setup::warm(&modules).with("max-builds = 1\n");
    let node = setup.start();
    let name = |module: &str| spec(&format!("{module}@v1.0.0"));
    let mut first = Events::of(&node, &name("stalled.example/x"));
    first.wait_for("module", |update| update["Phase"] == "modules");
    let mut second = Events::of(&node, &name("second.example/x"));
    second.wait_for("place", |update| update["QueuePosition"] == 0 && update.get("Phase").is_none());
    let mut third = Events::of(&node, &name("third.example/x"));
    third.wait_for("place", |update| update["QueuePosition"] == 1);
    let page = node.send(&format!("GET /{}", name("third.example/x")), "Accept: text/html\r\n", "");
    assert!(page.status == 200 && page.text().contains("Waiting"), "{}", page.text());
    let (code, took) = node.terminate();
    assert!(code == Some(0) && took < Duration::from_secs(10), "{code:?} after {took:?}");
}

#[test]
fn every_end_is_told() {
    let modules = Modules::start();
    modules.publish(&Module::command("good.example/x", "v1.0.0"));
    modules.publish(&Module::command("bad.example/x", "v1.0.0").file("main.go", "package main\n\nfunc main() { x }\n"));
    modules.publish(&Module::command("ugly.example/x", "v1.0.0"));
    modules.fault("ugly.example/x/@v/v1.0.0.zip", Fault::Status(500));
    let setup = Setup::warm(&modules);
    let node = setup.start();
    for (module, kind, says) in [
        ("good.example/x", "Success", "Filesize"),
        ("bad.example/x", "PermFailed", "source-error"),
        ("ugly.example/x", "TempFailed", "500"),
        ("none.example/x", "PermFailed", "none.example/x"),
    ] {
        let mut events = Events::of(&node, &spec(&format!("{module}@v1.0.0")));
        let end = events.wait_for(kind, |update| update["Kind"] != "QueuePosition");
        assert!(end["Kind"] == kind && end.to_string().contains(says), "{module}: {end}");
    }
}
