//! What cannot be built, does not exist, or is no spec at all: the right status, the reason in the body, and a claim
//! only where it is a finding for ever.

use crate::world::{Module, Node, Setup, Shared, shared, spec};

const GO_MOD: &str = "module refused.example/x\n\ngo 1.21\n";
const MAIN: &str = "package main\n\nfunc main() {}\n";

/// Publishes version `version` of `refused.example/x` with these files, asks for the package, and expects a finding.
fn check(world: &Shared, version: &str, files: &[(&str, &str)], dir: &str, class: &str) {
    let module = Module::new("refused.example/x", version);
    let module = files.iter().fold(module, |module, (name, text)| module.file(name, text));
    world.modules.publish(&module);
    refused(&world.node, &world.setup, &spec(&format!("refused.example/x@{version}{dir}")), class);
}

/// Expects that a spec is found to be impossible, and that everything says so.
pub(crate) fn refused(node: &Node, setup: &Setup, spec: &str, class: &str) {
    let answer = node.lookup(spec);
    assert_eq!(answer.status, 404, "{class}: {}\n{}", answer.text(), setup.log());
    assert!(answer.text().starts_with(&format!("cannot be built: {class}: ")), "{class}: {}", answer.text());
    assert_eq!(answer.header("content-type").as_deref(), Some("text/plain; charset=UTF-8"));
    let claim = node.claim(spec).unwrap_or_else(|| panic!("{class}: no claim"));
    assert_eq!(claim["cannot_build"], class);
    assert!(claim["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{claim}");

    // Once found, it is known: nothing is built or claimed again.
    let number = |path: &str| {
        let answer = node.get(path);
        serde_json::from_slice::<serde_json::Value>(&answer.body).expect("JSON")["number"].clone()
    };
    let before = number(&format!("/claims/lookup/{spec}"));
    assert_eq!(node.lookup(spec).status, 404);
    assert_eq!(number(&format!("/claims/lookup/{spec}")), before);
    let verdict = node.get(&format!("/api/v1/verdict/{spec}"));
    assert!(verdict.text().contains("\"cannot-build\""), "{}", verdict.text());
    let page = node.send(&format!("GET /{spec}"), "Accept: text/html\r\n", "");
    assert_eq!(page.status, 404);
    assert!(page.text().contains("<html") && page.text().contains(class), "{}", page.text());
    let events = node.get(&format!("/{spec}events"));
    assert!(events.text().contains("\"Kind\":\"PermFailed\""), "{}", events.text());
}

#[test]
fn a_library_instead_of_a_command() {
    check(shared(), "v1.0.0", &[("go.mod", GO_MOD), ("x.go", "package x\n")], "", "not-main");
}

#[test]
fn a_package_that_is_not_in_the_module() {
    check(shared(), "v1.0.1", &[("go.mod", GO_MOD), ("main.go", MAIN)], "/cmd/none", "no-such-package");
}

#[test]
fn a_command_that_needs_cgo() {
    let main = "package main\n\n// int one(void) { return 1; }\nimport \"C\"\n\nfunc main() { println(C.one()) }\n";
    check(shared(), "v1.0.2", &[("go.mod", GO_MOD), ("main.go", main)], "", "cgo");
}

#[test]
fn a_module_that_needs_a_newer_go() {
    let go_mod = "module refused.example/x\n\ngo 1.99\n";
    check(shared(), "v1.0.3", &[("go.mod", go_mod), ("main.go", MAIN)], "", "needs-newer-go");
}

#[test]
fn an_import_that_needs_a_newer_go() {
    let world = shared();
    let import = Module::new("newer.example/lib", "v1.0.0")
        .file("go.mod", "module newer.example/lib\n\ngo 1.99\n")
        .file("lib.go", "package lib\n");
    world.modules.publish(&import);
    let go_mod = format!("{GO_MOD}\nrequire newer.example/lib v1.0.0\n");
    let main = "package main\n\nimport _ \"newer.example/lib\"\n\nfunc main() {}\n";
    check(world, "v1.0.4", &[("go.mod", &go_mod), ("main.go", main)], "", "import-needs-newer-go");
}

#[test]
fn a_module_with_a_replace_directive() {
    let go_mod = format!("{GO_MOD}\nreplace other.example/x => ./other\n");
    check(shared(), "v1.0.5", &[("go.mod", &go_mod), ("main.go", MAIN)], "", "replace-directive");
}

#[test]
fn a_module_of_another_name() {
    let go_mod = "module other.example/name\n\ngo 1.21\n";
    check(shared(), "v1.0.6", &[("go.mod", go_mod), ("main.go", MAIN)], "", "module-path-mismatch");
}

#[test]
fn a_package_that_two_required_modules_have() {
    let world = shared();
    let outer = Module::new("twice.example/lib", "v1.0.0")
        .file("go.mod", "module twice.example/lib\n\ngo 1.21\n")
        .file("part/part.go", "package part\n");
    let inner = Module::new("twice.example/lib/part", "v1.0.0")
        .file("go.mod", "module twice.example/lib/part\n\ngo 1.21\n")
        .file("part.go", "package part\n");
    world.modules.publish(&outer);
    world.modules.publish(&inner);
    let go_mod = format!("{GO_MOD}\nrequire (\n\ttwice.example/lib v1.0.0\n\ttwice.example/lib/part v1.0.0\n)\n");
    let main = "package main\n\nimport _ \"twice.example/lib/part\"\n\nfunc main() {}\n";
    check(world, "v1.0.10", &[("go.mod", &go_mod), ("main.go", main)], "", "version-conflict");
}

#[test]
fn source_that_does_not_compile() {
    check(
        shared(),
        "v1.0.7",
        &[("go.mod", GO_MOD), ("main.go", "package main\n\nfunc main() { undefined() }\n")],
        "",
        "source-error",
    );
    check(shared(), "v1.0.8", &[("go.mod", GO_MOD), ("main.go", "package main\n\nfunc {\n")], "", "source-error");
}

#[test]
fn a_command_for_other_systems_only() {
    let main = "//go:build plan9\n\npackage main\n\nfunc main() {}\n";
    check(shared(), "v1.0.9", &[("go.mod", GO_MOD), ("main.go", main)], "", "build-constraints");
}

#[test]
fn what_does_not_exist_is_no_claim() {
    let world = shared();
    world.modules.publish(&Module::command("exists.example/x", "v1.0.0"));
    for package in ["absent.example/x@v1.0.0", "exists.example/x@v1.0.7"] {
        let spec = spec(package);
        let answer = world.node.lookup(&spec);
        assert_eq!(answer.status, 404, "{package}: {}\n{}", answer.text(), world.setup.log());
        assert!(!answer.text().contains("cannot be built"), "{}", answer.text());
        assert!(world.node.claim(&spec).is_none(), "it may exist tomorrow");

        // Believed for a while, so that nobody makes us ask again and again.
        let asked = world.modules.asked().len();
        let _ = world.node.lookup(&spec);
        let module = package.split('@').next().expect("a module");
        let again = world.modules.asked().into_iter().skip(asked).filter(|path| path.contains(module)).count();
        assert_eq!(again, 0, "{package}");
    }
    assert_eq!(world.node.get("/absent.example/other").status, 404);
    // Published at last: whoever knows better can say so.
    world.modules.publish(&Module::command("exists.example/x", "v1.0.7"));
    let spec = spec("exists.example/x@v1.0.7");
    assert_eq!(world.node.send(&format!("POST /{spec}retry"), "", "").status, 303);
    assert_eq!(world.node.lookup(&spec).status, 200);
}

#[test]
fn a_go_version_that_does_not_exist_is_no_claim() {
    let world = shared();
    world.modules.publish(&Module::command("future.example/x", "v1.0.0"));
    let spec = "future.example/x@v1.0.0/linux-amd64-go1.27.99/";
    let answer = world.node.lookup(spec);
    assert_eq!(answer.status, 404, "{}", answer.text());
    assert!(answer.text().contains("go1.27.99"), "{}", answer.text());
    assert!(world.node.claim(spec).is_none());
}

#[test]
fn malformed_specs_are_refused_before_anything_is_asked() {
    let world = shared();
    let module = "malformed.example/x";
    let long = format!("malformed.example/{}@v1.0.0/linux-amd64-go1.27.1/", "x".repeat(2100));
    for (spec, why) in [
        ("malformed.example/x@v1.0.0/linux-amd64-go1.27.1", "no slash at the end"),
        ("malformed.example/x@v1.0.0/linux-amd64/", "no Go version"),
        ("malformed.example/x@v1.0.0/", "no target"),
        ("malformed.example/x/linux-amd64-go1.27.1/", "no version"),
        ("malformed.example/x@/linux-amd64-go1.27.1/", "empty version"),
        ("@v1.0.0/linux-amd64-go1.27.1/", "no module"),
        ("malformed/x@v1.0.0/linux-amd64-go1.27.1/", "no dot in the first element"),
        ("malformed.example/../x@v1.0.0/linux-amd64-go1.27.1/", "two dots"),
        ("malformed.example//x@v1.0.0/linux-amd64-go1.27.1/", "an empty element"),
        ("malformed.example/x@v1.0.0//linux-amd64-go1.27.1/", "an empty directory"),
        ("malformed.example/x@v1.0.0/../linux-amd64-go1.27.1/", "two dots in the directory"),
        ("malformed.example/x@v1/linux-amd64-go1.27.1/", "a short version"),
        ("malformed.example/x@1.0.0/linux-amd64-go1.27.1/", "a version without v"),
        ("malformed.example/x@v01.0.0/linux-amd64-go1.27.1/", "a leading zero"),
        ("malformed.example/x@v1.0.0+meta/linux-amd64-go1.27.1/", "build metadata"),
        ("malformed.example/x@master/linux-amd64-go1.27.1/", "a branch"),
        ("malformed.example/x@v2.0.0/linux-amd64-go1.27.1/", "major version 2 without /v2"),
        ("malformed.example/x@v1.0.0/linux-amd64-1.27.1/", "a Go version without go"),
        ("malformed.example/x@v1.0.0/linux-amd64-go1.27.01/", "a leading zero in it"),
        ("malformed.example/x@v1.0.0/linux-amd64-go2/", "a Go version of another kind"),
        ("malformed.example/x@v1.0.0/linux-vax-go1.27.1/", "an unknown processor"),
        ("malformed.example/x@v1.0.0/darwin-386-go1.27.1/", "a target that this Go does not have any more"),
        ("malformed.example/x@v1.0.0/linux-amd64-go1.27.1-striped/", "an unknown variant"),
        ("malformed.example/x@v1.0.0/linux-amd64-go1.27.1-/", "an empty variant"),
        ("malformed.example/%21x@v1.0.0/linux-amd64-go1.27.1/", "the module proxies' escape"),
        ("malformed.example/x%00@v1.0.0/linux-amd64-go1.27.1/", "a zero byte"),
        ("malformed.example/x%ff@v1.0.0/linux-amd64-go1.27.1/", "no UTF-8"),
        ("malformed.example/x%20y@v1.0.0/linux-amd64-go1.27.1/", "a space"),
        (long.as_str(), "too long"),
    ] {
        let answer = world.node.lookup(spec);
        assert_eq!(answer.status, 404, "{why}: {}", answer.text());
        let text = answer.text();
        assert!(text.ends_with('\n') && text.lines().count() == 1 && text.len() > 10, "{why}: {text:?}");
        let verdict = world.node.get(&format!("/api/v1/verdict/{spec}"));
        assert!(matches!(verdict.status, 400 | 404), "{why}: {}", verdict.text());
        assert!(verdict.text().starts_with("{\"error\":"), "{why}: {}", verdict.text());
    }
    assert!(!world.modules.asked().iter().any(|path| path.starts_with(module)), "nobody is asked");

    for page in ["malformed.example/x@v1.0.0/linux-vax-go1.27.1/", "malformed.example/../x@v1.0.0/", "malformed/x"] {
        let answer = world.node.send(&format!("GET /{page}"), "Accept: text/html\r\n", "");
        assert_eq!(answer.status, 400, "{page}");
        assert!(answer.text().contains("<html"), "{page}: a page with a way back");
    }
}
