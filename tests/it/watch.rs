//! New versions of watched modules, from an index to claims.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{Timestamp, ToSpan as _};

use crate::world::{Module, Modules, Setup, eventually, spec};

/// Some builds on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// An index that answers the same to everyone, until the test program ends.
fn index(rows: &Arc<Mutex<String>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let rows = rows.clone();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.expect("accepted");
            let _ = connection.read(&mut [0; 4096]);
            let body = rows.lock().expect("no panic").clone();
            let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = connection.write_all((head + &body).as_bytes());
        }
    });
    format!("http://{address}/index")
}

fn row(path: &str, version: &str) -> String {
    let at = Timestamp::now().checked_add(10.seconds()).expect("a time");
    format!("{{\"Path\":\"{path}\",\"Version\":\"{version}\",\"Timestamp\":\"{at}\"}}\n")
}

#[test]
fn new_versions_are_built_as_what_was_built_of_earlier_ones() {
    let rows = Arc::new(Mutex::new(String::new()));
    let modules = Modules::start();
    let watched = ["watch.example/known", "watch.example/new", "watch.example/library"];
    let setup = Setup::warm(&modules).with(&format!("index = {:?}\nwatch = {watched:?}\n", index(&rows)));
    for version in ["v1.0.0", "v1.1.0"] {
        let known = Module::command(watched[0], version);
        modules.publish(&known.file("cmd/other/main.go", "package main\n\nfunc main() {}\n"));
        modules.publish(&Module::command("watch.example/unwatched", version));
    }
    let main = "package main\n\nfunc main() {}\n";
    let new = Module::new(watched[1], "v2.0.0+incompatible");
    modules.publish(&new.file("cmd/a/main.go", main).file("cmd/b/main.go", main).file("lib.go", "package lib\n"));
    let go_mod = format!("module {}\n", watched[2]);
    modules.publish(&Module::new(watched[2], "v1.0.0").file("go.mod", &go_mod).file("lib.go", "package lib\n"));

    let stripped =
        |version: &str| format!("{}-stripped/", spec(&format!("{}@{version}", watched[0])).trim_end_matches('/'));
    let node = setup.start();
    assert_eq!(node.lookup(&stripped("v1.0.0")).status, 200, "{}", setup.log());
    node.kill();
    *rows.lock().expect("no panic") = [
        "<html>not a row</html>\n".to_owned(),
        row(watched[0], "v1.0.0"),
        row(watched[0], "v1.1.0"),
        row(watched[0], "v1.1.1-0.20260101000000-abcdefabcdef"),
        row(watched[0], "master"),
        row("watch.example/unwatched", "v1.1.0"),
        row(watched[1], "v2.0.0+incompatible"),
        row(watched[2], "v1.0.0"),
    ]
    .concat();
    // It looks at the index at once when it starts.
    let node = setup.start();
    let wanted = [
        stripped("v1.1.0"),
        spec(&format!("{}@v2.0.0+incompatible/cmd/a", watched[1])),
        spec(&format!("{}@v2.0.0+incompatible/cmd/b", watched[1])),
    ];
    eventually(PATIENCE, "new versions are built", || wanted.iter().all(|spec| node.claim(spec).is_some()));
    let others = node.json("/api/v1/records");
    assert_eq!(others["items"].as_array().map(Vec::len), Some(4), "{others}");
    assert!(setup.log().contains("lines are no rows of a module index"), "{}", setup.log());
    node.kill();

    // What was seen is not built again, and nothing else is.
    let node = setup.start();
    eventually(PATIENCE, "it has looked again", || setup.log().matches("no rows of a module index").count() >= 2);
    assert_eq!(node.claims(), 4);
}
