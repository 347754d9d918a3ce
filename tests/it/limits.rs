//! Findings that depend on the node as well: its limits, and what its Go releases build for. A limit is a finding only
//! the third time.

use std::fmt::Write as _;

use crate::refusals::refused;
use crate::world::{Fault, GO, Module, Modules, Node, Setup, furnish_seed, furnish_without, spec};

/// Tries until a limit is a finding.
const ENOUGH: usize = 3;
/// Statements in one function that keep the compiler busy for about a minute.
const SLOW: usize = 20_000;

/// Asks for a spec again and again, and expects `class` after the third try that hit the limit, and no claim before.
fn third_time(node: &Node, setup: &Setup, spec: &str, class: &str) {
    let mut tries = 0;
    // Where the machine is so busy that a try did not even get its modules in time, the try does not count.
    for _ in 0..10 {
        let answer = node.lookup(spec);
        let text = answer.text();
        if answer.status == 404 {
            assert_eq!(tries, ENOUGH - 1, "too early: {text}");
            return refused(node, setup, spec, class);
        }
        assert_eq!(answer.status, 503, "{text}\n{}", setup.log());
        assert!(node.claim(spec).is_none(), "a claim after try {tries}: {text}");
        assert_eq!(node.claims(), 0);
        if !text.contains(", waiting for ") {
            tries += 1;
            assert!(text.contains(&format!("(try {tries} of {ENOUGH})")), "{text}");
        }
        again(node, spec);
    }
    panic!("no three tries got as far as the limit:\n{}", setup.log());
}

/// Has a spec tried again now, and not after the pause that is usual.
fn again(node: &Node, spec: &str) {
    assert_eq!(node.send(&format!("POST /{spec}retry"), "", "").status, 303);
}

#[test]
fn a_program_above_the_limit_is_too_large_the_third_time() {
    let modules = Modules::start();
    modules.publish(&Module::command("large.example/x", "v1.0.0"));
    let spec = spec("large.example/x@v1.0.0");
    let mut setup = Setup::warm(&modules).with("build-limits.binary = \"64KiB\"\n");
    let node = setup.start();
    third_time(&node, &setup, &spec, "too-large");
    let kept = std::fs::read_dir(setup.data.join("binaries")).expect("there").flatten().count();
    assert_eq!(kept, 0, "what is too large is not kept");
    assert_eq!(node.terminate().0, Some(0));

    // It is a finding, but of this node and for now: with more room, whoever asks again gets the program.
    setup.config = setup.config.replace("64KiB", "64MiB");
    let node = setup.start();
    assert_eq!(node.lookup(&spec).status, 404, "known from before");
    again(&node, &spec);
    let built = |node: &Node| node.claim(&spec).is_some_and(|claim| claim["sum"].is_string());
    crate::world::eventually(std::time::Duration::from_secs(120), "it is built", || built(&node));
    assert_eq!(node.lookup(&spec).status, 200);
    assert_eq!((node.claims(), node.records()), (2, 1));
    assert!(setup.check().status.success());
}

#[test]
fn a_build_beyond_the_time_limit_is_a_timeout_the_third_time() {
    let modules = Modules::start();
    let mut main = "package main\n\nfunc main() {\n\tvar a, b, c int\n".to_owned();
    for n in 0..SLOW {
        write!(main, "\tif a > {n} {{\n\t\tb, c = c*{n}+a, b-a\n\t}}\n\ta += b ^ c\n").expect("a text");
    }
    main.push_str("\tprintln(a, b, c)\n}\n");
    modules.publish(&Module::command("slow.example/x", "v1.0.0").file("main.go", &main));
    let setup = Setup::warm(&modules).with("build-limits.time = \"3s\"\n");
    let node = setup.start();
    third_time(&node, &setup, &spec("slow.example/x@v1.0.0"), "timeout");
}

#[test]
fn waiting_for_a_module_proxy_is_never_a_timeout() {
    let modules = Modules::start();
    modules.publish(&Module::command("waiting.example/x", "v1.0.0"));
    let zip = "waiting.example/x/@v/v1.0.0.zip";
    modules.fault(zip, Fault::Stall(100));
    let setup = Setup::warm(&modules).with("build-limits.time = \"3s\"\n");
    let node = setup.start();
    let spec = spec("waiting.example/x@v1.0.0");
    for _ in 0..ENOUGH + 1 {
        let answer = node.lookup(&spec);
        let text = answer.text();
        assert_eq!(answer.status, 503, "{text}\n{}", setup.log());
        assert!(text.contains("longer than 3 s, waiting for "), "{text}");
        assert_eq!(node.claims(), 0);
        again(&node, &spec);
    }
}

#[test]
fn a_target_that_needs_another_linker() {
    let modules = Modules::start();
    modules.publish(&Module::command("linker.example/x", "v1.0.0"));
    let setup = Setup::warm(&modules);
    for target in ["ios/arm64", "android/amd64"] {
        furnish_seed(&setup.data, target);
    }
    let node = setup.start();
    for target in ["ios-arm64", "android-amd64"] {
        refused(&node, &setup, &format!("linker.example/x@v1.0.0/{target}-{GO}/"), "external-linker");
    }
}

#[test]
fn a_target_that_a_later_go_does_not_have() {
    let modules = Modules::start();
    modules.publish(&Module::command("target.example/x", "v1.0.0"));
    let setup = Setup::warm(&modules);
    // Later than what this program knows of targets, so the toolchain has the last word.
    let later = "go1.999.1";
    furnish_without(&setup.data, later, "plan9/386");
    let node = setup.start();
    refused(&node, &setup, &format!("target.example/x@v1.0.0/plan9-386-{later}/"), "unsupported-target");
    // What it does not know at all is no spec, and so nothing to claim.
    assert_eq!(node.lookup(&format!("target.example/x@v1.0.0/plan9-vax-{later}/")).status, 404);
    assert_eq!(node.lookup(&format!("target.example/x@v1.0.0/darwin-386-{GO}/")).status, 404);
    assert_eq!(node.claims(), 1);
    assert!(!modules.asked().contains(&"target.example/x/@v/v1.0.0.zip".to_owned()), "nothing is fetched for it");
}
