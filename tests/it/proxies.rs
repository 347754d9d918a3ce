//! Module proxies that fail in every way: never a claim, never the end of the node, and all is well once they are.

use std::time::{Duration, Instant};

use crate::world::{Fault, Module, Modules, Node, Setup, spec};

/// What a module proxy does with one file of one module, and the status that a lookup then has.
struct Case {
    module: &'static str,
    file: &'static str,
    fault: Fault,
    status: u16,
    /// What the answer must say.
    says: &'static str,
}

fn cases() -> Vec<Case> {
    let case = |module, file, fault, status, says| Case { module, file, fault, status, says };
    let zip = |module| Module::command(module, "v1.0.0").zip();
    let forged = Module::command("forged.example/x", "v1.0.0").file("more.go", "package main\n").zip();
    let cut = zip("torn.example/x");
    vec![
        case("s403.example/x", "zip", Fault::Status(403), 503, "403"),
        case("s404.example/x", "zip", Fault::Status(404), 404, "s404.example/x"),
        case("s410.example/x", "info", Fault::Status(410), 404, "s410.example/x"),
        case("s500.example/x", "zip", Fault::Status(500), 503, "500"),
        case("i500.example/x", "info", Fault::Status(500), 503, "500"),
        case("m500.example/x", "mod", Fault::Status(500), 503, "500"),
        case("garbage.example/x", "zip", Fault::Bytes(b"<html>hello</html>".to_vec()), 503, ""),
        case("nonsense.example/x", "info", Fault::Bytes(b"<html>hello</html>".to_vec()), 503, ""),
        case("broken.example/x", "zip", Fault::Cut(100), 503, ""),
        case("torn.example/x", "zip", Fault::Bytes(cut[..cut.len() / 2].to_vec()), 503, ""),
        case("forged.example/x", "zip", Fault::Bytes(forged), 503, "security error"),
        case("other.example/x", "mod", Fault::Bytes(b"module other.example/x\n".to_vec()), 503, ""),
    ]
}

/// Looks a spec up until the answer has this status: the build queue is shared by all cases.
fn expect(node: &Node, case: &Case, setup: &Setup) {
    let spec = spec(&format!("{}@v1.0.0", case.module));
    let answer = node.lookup(&spec);
    let text = answer.text();
    let shown = format!("{} {:?}: {} {text}", case.module, case.file, answer.status);
    assert_eq!(answer.status, case.status, "{shown}\n{}", setup.log());
    assert!(text.contains(case.says) && text.len() > 20, "{shown}");
    assert!(!text.contains("cannot be built"), "{shown}");
    if case.status == 503 {
        let after: u64 = answer.header("retry-after").and_then(|after| after.parse().ok()).expect("a number");
        assert!((1..=600).contains(&after), "{shown}: {after}");
    }
    assert!(node.claim(&spec).is_none(), "{shown}: claimed");
}

#[test]
fn no_fault_of_a_proxy_is_ever_a_claim() {
    let modules = Modules::start();
    let cases = cases();
    for case in &cases {
        modules.publish(&Module::command(case.module, "v1.0.0"));
        modules.fault(&format!("{}/@v/v1.0.0.{}", case.module, case.file), case.fault.clone());
    }
    let setup = Setup::warm(&modules);
    let node = setup.start();
    std::thread::scope(|scope| {
        for case in &cases {
            scope.spawn(|| expect(&node, case, &setup));
        }
    });
    assert_eq!((node.claims(), node.records()), (0, 0));
    assert_eq!(node.get("/readyz").status, 200);

    // The node would try again by itself after a pause; nobody has to wait for that.
    for case in &cases {
        modules.mend(&format!("{}/@v/v1.0.0.{}", case.module, case.file));
    }
    for case in
        cases.iter().filter(|case| matches!(case.module, "s404.example/x" | "s500.example/x" | "forged.example/x"))
    {
        let spec = spec(&format!("{}@v1.0.0", case.module));
        let again = node.lookup(&spec);
        assert_eq!(again.status, case.status, "believed for a while, or waiting for its next try");
        assert_eq!(node.send(&format!("POST /{spec}retry"), "", "").status, 303);
        let answer = node.lookup(&spec);
        assert_eq!(answer.status, 200, "{}: {}\n{}", case.module, answer.text(), setup.log());
    }
    assert!(setup.check().status.success());
}

#[test]
fn what_is_in_trouble_outlives_a_restart() {
    let modules = Modules::start();
    modules.publish(&Module::command("later.example/x", "v1.0.0"));
    let zip = "later.example/x/@v/v1.0.0.zip";
    modules.fault(zip, Fault::Status(500));
    let setup = Setup::warm(&modules);
    let spec = spec("later.example/x@v1.0.0");
    let node = setup.start();
    assert_eq!(node.lookup(&spec).status, 503);
    assert_eq!(node.terminate().0, Some(0));
    let node = setup.start();
    let queue = node.get("/api/v1/queue").text();
    assert!(queue.contains("later.example/x"), "{queue}");
    modules.mend(zip);
    assert_eq!(node.send(&format!("POST /{spec}retry"), "", "").status, 303);
    assert_eq!(node.lookup(&spec).status, 200);
    let queue = node.get("/api/v1/queue").text();
    assert!(!queue.contains("later.example/x"), "{queue}");
}

#[test]
fn a_proxy_that_never_answers_holds_up_nobody_else() {
    let modules = Modules::start();
    for module in ["silent.example/x", "lively.example/x"] {
        modules.publish(&Module::command(module, "v1.0.0"));
    }
    modules.fault("silent.example/x/@v/v1.0.0.zip", Fault::Silence);
    let setup = Setup::warm(&modules).with("max-builds = 2\n");
    let node = setup.start();
    let silent = spec("silent.example/x@v1.0.0");
    let began = Instant::now();
    let answer = node.get(&format!("/tlog/lookup/{silent}?wait=3"));
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(node.lookup(&spec("lively.example/x@v1.0.0")).status, 200);
    assert!(node.claim(&silent).is_none());
    let (code, took) = node.terminate();
    assert!(code == Some(0) && took < Duration::from_secs(10), "{code:?} after {took:?}");
}

#[test]
fn a_toolchain_that_is_not_what_it_should_be_is_never_used() {
    let modules = Modules::start();
    modules.publish(&Module::command("tool.example/x", "v1.0.0"));
    let setup = Setup::empty(&modules);
    let node = setup.start();
    let host = sumpeer::model::Target::host();
    let base = format!("golang.org/toolchain/@v/v0.0.1-{}.{}-{}", crate::world::GO, host.goos(), host.goarch());
    let spec = spec("tool.example/x@v1.0.0");
    let fake = Module::new("golang.org/toolchain", base.rsplit('/').next().expect("a version"))
        .file("bin/go", "#!/bin/sh\necho hello\n");
    for (fault, says) in [
        (Fault::Bytes(fake.zip()), "security error"),
        (Fault::Bytes(b"garbage".to_vec()), "cannot be unpacked"),
        (Fault::Cut(1 << 20), ""),
        (Fault::Status(500), "500"),
    ] {
        modules.fault(&format!("{base}.zip"), fault.clone());
        let _ = node.send(&format!("POST /{spec}retry"), "", "");
        let answer = node.lookup(&spec);
        let text = answer.text();
        assert_eq!(answer.status, 503, "{fault:?}: {text}");
        assert!(text.contains(says) && text.contains(crate::world::GO), "{says}: {text}");
        let left: Vec<_> = std::fs::read_dir(setup.data.join("toolchains")).expect("there").flatten().collect();
        assert!(left.is_empty(), "half unpacked: {left:?}");
    }
    assert_eq!(node.claims(), 0);
}
