//! A program is asked for, and there it is: the record, the file in all its forms, and what leads to it.

use std::io::Read as _;
use std::time::{Duration, Instant};

use flate2::read::MultiGzDecoder;
use sumpeer::model::{Record, Sum};
use sumpeer::tlog::parse_lookup;

use crate::world::{Module, Node, Setup, Shared, request, shared, spec};

/// Publishes a command and has the shared node build it: the spec and its record.
fn built(world: &Shared, module: &str) -> (String, Record) {
    world.modules.publish(&Module::command(module, "v1.0.0"));
    let spec = spec(&format!("{module}@v1.0.0"));
    (spec.clone(), record(&world.node, &spec))
}

/// Looks a spec up, building it if need be.
fn record(node: &Node, spec: &str) -> Record {
    let answer = node.lookup(spec);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let (_, text, _) = parse_lookup(&answer.body).expect("a lookup's answer");
    let record = Record::parse(text.as_bytes()).expect("a record");
    assert_eq!(record.spec.to_string(), spec);
    record
}

fn result_path(record: &Record) -> String {
    format!("/{}{}/", record.spec, record.sum)
}

fn sum(bytes: &[u8]) -> Sum {
    use sha2::Digest as _;
    Sum::of_sha256(&sha2::Sha256::digest(bytes).into())
}

#[test]
fn a_lookup_builds_once_and_the_record_stays() {
    let world = shared();
    let (spec, record) = built(world, "lookup.example/x");
    let claim = world.node.claim(&spec).expect("a claim");
    assert_eq!(claim["sum"], record.sum.to_string());
    assert_eq!(claim["size"], record.size);
    assert!(claim["toolchain"].as_str().is_some_and(|h1| h1.starts_with("h1:")), "{claim}");

    let about = |path: &str| path.contains("lookup.example");
    let asked = world.modules.asked().iter().filter(|path| about(path)).count();
    let began = Instant::now();
    let again = world.node.lookup(&spec);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(parse_lookup(&again.body).expect("an answer").1, record.to_text());
    let asked_now = world.modules.asked().iter().filter(|path| about(path)).count();
    assert_eq!(asked_now, asked, "a record is answered from the store alone");

    let verdict = world.node.get(&format!("/api/v1/verdict/{spec}"));
    let verdict: serde_json::Value = serde_json::from_slice(&verdict.body).expect("JSON");
    assert_eq!(verdict["verdict"], "accepted");
    assert_eq!(verdict["record"]["sum"], record.sum.to_string());
}

#[test]
fn the_admin_listener_counts_and_the_public_one_does_not() {
    let world = shared();
    built(world, "counted.example/x");
    let metrics = request(&world.node.admin, "GET /metrics", "", "", Duration::from_secs(10)).expect("an answer");
    assert_eq!(metrics.status, 200);
    let sizes = metrics.text();
    let sizes: Vec<_> =
        sizes.lines().filter(|line| line.starts_with("sumpeer_") && line.contains("accepted")).collect();
    assert!(sizes.iter().any(|line| !line.ends_with(" 0")), "{sizes:?}");
    assert!(!metrics.text().contains("counted.example"), "labels never carry a spec");
    assert_eq!(world.node.get("/metrics").status, 400);
}

#[test]
fn looking_at_the_page_starts_nothing() {
    let world = shared();
    world.modules.publish(&Module::command("page.example/x", "v1.0.0"));
    let spec = spec("page.example/x@v1.0.0");
    let page = world.node.send(&format!("GET /{spec}"), "Accept: text/html\r\n", "");
    assert_eq!(page.status, 200, "{}", page.text());
    for (step, status) in [("log", 422), ("dl", 422), ("x-v9.9.9-go1.0", 404)] {
        assert_eq!(world.node.get(&format!("/{spec}{step}")).status, status, "{step}");
    }
    assert_eq!(world.node.get(&format!("/tlog/lookup/{spec}?wait=0")).status, 404);
    std::thread::sleep(Duration::from_millis(500));
    assert!(!world.modules.asked().contains(&"page.example/x/@v/v1.0.0.zip".to_owned()));
    assert!(world.node.claim(&spec).is_none());

    // The page's own script starts it, and follows it to its end.
    let events = world.node.get_within(&format!("/{spec}events"), Duration::from_secs(120));
    assert_eq!(events.header("content-type").as_deref(), Some("text/event-stream"));
    assert!(events.text().contains("\"Kind\":\"Success\""), "{}", events.text());
    let record = record(&world.node, &spec);
    assert_eq!(world.node.get(&format!("/{spec}")).location(), result_path(&record));
}

#[test]
fn everything_about_a_spec_leads_to_its_result() {
    let world = shared();
    let (spec, record) = built(world, "leads.example/x");
    let result = result_path(&record);
    let file = record.spec.file_name();
    for step in ["", "record", "log", "dl", &file, &format!("{file}.gz")] {
        let answer = world.node.get(&format!("/{spec}{step}"));
        assert_eq!((answer.status, answer.location()), (307, format!("{result}{step}")), "{step}");
    }
    assert_eq!(world.node.get(&format!("{result}dl")).location(), format!("{result}{file}"));
    assert_eq!(world.node.get(&format!("{result}record")).text(), record.to_text());
    let log = world.node.get(&format!("{result}log"));
    assert!(log.status == 200 && log.text().contains("leads.example/x/@v/v1.0.0.zip"), "{}", log.text());

    let page = world.node.send(&format!("GET {result}"), "Accept: text/html\r\n", "").text();
    for needed in [record.sum.to_string(), world.node.vkey.replace('+', "&#43;"), file.clone()] {
        let plain = needed.replace("&#43;", "+");
        assert!(page.contains(&needed) || page.contains(&plain), "the page lacks {plain}:\n{page}");
    }
    let other = result.replace(&record.sum.to_string(), &Sum::of_sha256(&[0; 32]).to_string());
    assert_eq!(world.node.get(&other).status, 404, "that is not the accepted sum");

    // `latest` of both kinds is one redirect away.
    let latest = spec.replace("v1.0.0", "latest").replace(crate::world::GO, "latest");
    let answer = world.node.get(&format!("/{latest}"));
    assert_eq!((answer.status, answer.location()), (307, result));
    let answer = world.node.lookup(&latest);
    assert_eq!(parse_lookup(&answer.body).expect("an answer").1, record.to_text());
    assert_eq!(world.node.get("/leads.example/x").status, 307);
}

#[test]
fn the_file_is_what_the_record_says_in_every_form() {
    let world = shared();
    let (_, record) = built(world, "file.example/x");
    let path = format!("{}{}", result_path(&record), record.spec.file_name());
    let whole = world.node.get(&path);
    assert_eq!(whole.status, 200);
    assert_eq!((whole.body.len() as u64, sum(&whole.body)), (record.size, record.sum));
    let packed = world.node.get(&format!("{path}.gz"));
    let mut plain = Vec::new();
    MultiGzDecoder::new(packed.body.as_slice()).read_to_end(&mut plain).expect("gzip");
    assert!(plain == whole.body, "the compressed form unpacks to the same bytes");
    assert!(packed.header("content-encoding").is_none(), "it is what it is");

    let disposition = whole.header("content-disposition").expect("there");
    assert!(disposition.contains(&format!("filename=\"{}\"", record.spec.file_name())), "{disposition}");
    assert!(whole.header("cache-control").is_some_and(|caching| caching.contains("immutable")));
    let etag = whole.header("etag").expect("there");
    let size = record.size;
    for (header, status, range, bytes) in [
        ("Range: bytes=10-19".to_owned(), 206, Some(format!("bytes 10-19/{size}")), &whole.body[10..20]),
        ("Range: bytes=-5".to_owned(), 206, Some(format!("bytes {}-{}/{size}", size - 5, size - 1)), {
            &whole.body[whole.body.len() - 5..]
        }),
        (format!("Range: bytes={size}-"), 416, Some(format!("bytes */{size}")), &[]),
        (format!("If-None-Match: {etag}"), 304, None, &[]),
        ("Range: bytes=0-9\r\nIf-Range: \"other\"".to_owned(), 200, None, &whole.body[..]),
    ] {
        let answer = world.node.send(&format!("GET {path}"), &format!("{header}\r\n"), "");
        assert_eq!((answer.status, answer.header("content-range")), (status, range), "{header}");
        if status != 416 {
            assert!(answer.body == bytes, "{header}: {} bytes", answer.body.len());
        }
    }
    let head = world.node.send(&format!("HEAD {path}"), "", "");
    assert_eq!((head.status, head.header("content-length")), (200, Some(size.to_string())));
    assert!(head.body.is_empty());
    assert_eq!(world.node.send(&format!("DELETE {path}"), "", "").status, 405);
}

#[test]
fn a_stripped_command_below_the_root_is_another_program() {
    let world = shared();
    let module = Module::command("deep.example/x", "v1.0.0")
        .file("cmd/tool/main.go", "package main\n\nfunc main() { println(\"tool\") }\n");
    world.modules.publish(&module);
    let plain = spec("deep.example/x@v1.0.0/cmd/tool");
    let stripped = format!("{}-stripped/", plain.trim_end_matches('/'));
    let (plain, stripped) = (record(&world.node, &plain), record(&world.node, &stripped));
    assert!(stripped.size < plain.size);
    assert_eq!(stripped.spec.file_name(), format!("tool-v1.0.0-{}-stripped", crate::world::GO));
    let page = world.node.send("GET /deep.example/x@v1.0.0", "Accept: text/html\r\n", "");
    assert!(page.status == 200 && page.text().contains("cmd/tool"), "{}", page.text());
}

#[test]
fn who_asks_while_it_is_built_joins() {
    let world = shared();
    world.modules.publish(&Module::command("joined.example/x", "v1.0.0"));
    let spec = spec("joined.example/x@v1.0.0");
    std::thread::scope(|scope| {
        let ask = || scope.spawn(|| record(&world.node, &spec));
        let asked: Vec<_> = (0..4).map(|_| ask()).collect();
        let records: Vec<_> = asked.into_iter().map(|asked| asked.join().expect("answered")).collect();
        assert!(records.iter().all(|record| *record == records[0]));
    });
    let log = world.setup.log();
    let built = |line: &&str| line.contains("build ended") && line.contains("joined.example/x");
    assert_eq!(log.lines().filter(built).count(), 1);
}

#[test]
fn an_evicted_binary_is_built_again_and_compared() {
    let world = shared();
    let (spec, record) = built(world, "evicted.example/x");
    let name = record.sum.to_string();
    let kept = world.setup.data.join("binaries").join(&name[1..3]).join(format!("{name}.gz"));
    std::fs::remove_file(&kept).expect("the binary");
    let answer = world
        .node
        .get_within(&format!("{}{}", result_path(&record), record.spec.file_name()), Duration::from_secs(120));
    assert_eq!((answer.status, sum(&answer.body)), (200, record.sum));
    assert!(kept.exists());
    let log = world.setup.log();
    let compared = |line: &str| line.contains("built again, as recorded") && line.contains(&spec);
    assert!(log.lines().any(compared), "{log}");
}

#[test]
fn the_size_limit_evicts_and_nothing_is_lost() {
    let modules = crate::world::Modules::start();
    let specs: Vec<String> = (0..3).map(|n| spec(&format!("limit.example/x@v1.0.{n}"))).collect();
    let setup = Setup::warm(&modules);
    let node = setup.start();
    let records: Vec<Record> = (0..3)
        .map(|n| {
            modules.publish(&Module::command("limit.example/x", &format!("v1.0.{n}")));
            record(&node, &specs[n])
        })
        .collect();
    assert_eq!(node.terminate().0, Some(0));

    let setup = setup.with("binary-cache = \"2MiB\"\nbuild-limits.binary = \"2MiB\"\n");
    let node = setup.start();
    let bytes = walk(&setup.data.join("binaries"));
    assert!(bytes <= 2 << 20, "{bytes} bytes are kept");
    let check = setup.check();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    for record in &records {
        let path = format!("{}{}", result_path(record), record.spec.file_name());
        let answer = node.get_within(&path, Duration::from_secs(120));
        assert_eq!((answer.status, sum(&answer.body)), (200, record.sum), "{}", record.spec);
    }
    assert_eq!((node.records(), node.claims()), (3, 3), "what is built again equally is not claimed again");
}

/// Bytes of all files below a folder.
fn walk(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("readable");
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => walk(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}
