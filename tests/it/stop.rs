//! However a node ends, nothing it started outlives it; asked to stop, it does so soon and says goodbye with 0.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::world::{Module, Modules, Node, Setup, eventually, request, spec};

/// Processes that were started for this data directory: its path is in their command line, or among their mounts.
fn processes(data: &Path) -> Vec<(u32, String)> {
    let data = data.to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("procfs").flatten() {
        let Ok(id) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let read = |name: &str| {
            String::from_utf8_lossy(&std::fs::read(entry.path().join(name)).unwrap_or_default()).into_owned()
        };
        let line = read("cmdline").replace('\0', " ");
        if id != std::process::id() && (line.contains(&data) || read("mountinfo").contains(&data)) {
            found.push((id, line));
        }
    }
    found
}

/// Two builds, begun and far from done: a large program, as far as that can be had from nothing.
fn start_builds(modules: &Modules, node: &Node, setup: &Setup) -> Vec<std::thread::JoinHandle<std::io::Result<u16>>> {
    let asked = (0..3).map(|number| {
        let version = format!("v1.0.{number}");
        // The compiler sorts, inlines and optimizes all these for some seconds.
        let functions: String = (0..4000)
            .map(|n| {
                format!(
                    "func f{n}(a, b []int) int {{ for i := range a {{ b[i%len(b)] += a[i]*{n} }}; return len(b) }}\n"
                )
            })
            .collect();
        let calls: String = (0..4000).map(|n| format!("\tprintln(f{n}(nil, nil))\n")).collect();
        let main = format!("package main\n\n{functions}\nfunc main() {{\n{calls}}}\n");
        modules.publish(&Module::command("slow.example/x", &version).file("main.go", &main));
        let (address, spec) = (node.address.clone(), spec(&format!("slow.example/x@{version}")));
        std::thread::spawn(move || {
            let line = format!("GET /tlog/lookup/{spec}");
            Ok(request(&address, &line, "", "", Duration::from_secs(60))?.status)
        })
    });
    let asked = asked.collect();
    eventually(Duration::from_secs(60), "a compiler runs", || {
        processes(&setup.data).iter().any(|(_, line)| line.contains("compile") || line.contains("install"))
    });
    asked
}

#[test]
fn asked_to_stop_it_stops_with_requests_and_builds_running() {
    let modules = Modules::start();
    let setup = Setup::warm(&modules).with("max-builds = 2\n");
    let node = setup.start();
    let asked = start_builds(&modules, &node, &setup);
    let mut half = TcpStream::connect(&node.address).expect("a connection");
    half.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").expect("sent");
    let idle = TcpStream::connect(&node.address).expect("a connection");
    let events = TcpStream::connect(&node.address).and_then(|mut stream| {
        let path = spec("slow.example/x@v1.0.2");
        write!(stream, "GET /{path}events HTTP/1.1\r\nHost: x\r\n\r\n")?;
        Ok(stream)
    });
    let mut events = events.expect("a connection");
    events.read_exact(&mut [0; 12]).expect("it follows a build");

    let (code, took) = node.terminate();
    assert_eq!(code, Some(0), "{}", setup.log());
    assert!(took < Duration::from_secs(10), "{took:?}\n{}", setup.log());
    eventually(Duration::from_secs(2), "its processes end", || processes(&setup.data).is_empty());
    for asked in asked {
        // Told to come back, or cut off; never an answer that means something.
        if let Ok(status) = asked.join().expect("no panic") {
            assert_eq!(status, 503);
        }
    }
    drop((half, idle));
    let check = setup.check();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    let node = setup.start();
    assert_eq!((node.claims(), node.records()), (0, 0), "an ended build is no finding");
    let homes = std::fs::read_dir(setup.data.join("homes")).expect("there").flatten();
    // The links to seeds belong to no build.
    let left: Vec<_> = homes.map(|entry| entry.file_name()).filter(|name| name != "links").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn killed_it_takes_its_builds_along() {
    let modules = Modules::start();
    let setup = Setup::warm(&modules).with("max-builds = 2\n");
    let node = setup.start();
    let asked = start_builds(&modules, &node, &setup);
    node.kill();
    eventually(Duration::from_secs(5), "its processes end", || processes(&setup.data).is_empty());
    for asked in asked {
        assert!(asked.join().expect("no panic").is_err(), "nobody was answered");
    }
    assert_eq!(setup.start().claims(), 0);
}

#[test]
fn an_idle_node_stops_at_once() {
    let modules = Modules::start();
    let setup = Setup::warm(&modules);
    let node = setup.start();
    assert_eq!(node.get("/healthz").status, 200);
    let began = Instant::now();
    assert_eq!(node.terminate().0, Some(0));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}\n{}", began.elapsed(), setup.log());
}
