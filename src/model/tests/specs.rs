//! Specs, queries and records: what they mean, and what is none.

use super::*;

const GOOD: &str = "filippo.io/age@v1.2.1/cmd/age/linux-amd64-go1.27.1/";

fn spec(text: &str) -> Spec {
    text.parse().expect(text)
}

#[test]
fn a_spec_knows_its_package_and_names() {
    let check = |text: &str, package: &str, file: &str, program: &str| {
        let spec = spec(text);
        let found = (spec.package(), spec.file_name(), spec.program_name());
        assert_eq!(found, (package.to_owned(), file.to_owned(), program.to_owned()), "{text}");
    };
    check(GOOD, "filippo.io/age/cmd/age", "age-v1.2.1-go1.27.1", "age");
    check(
        "github.com/mikefarah/yq/v4@v4.45.1/windows-amd64-go1.27.1-stripped/",
        "github.com/mikefarah/yq/v4",
        "v4-v4.45.1-go1.27.1-stripped.exe",
        "yq.exe",
    );
    check("example.com/m@v0.1.0/v2/js-wasm-go1.21.0/", "example.com/m/v2", "v2-v0.1.0-go1.21.0", "m");
    check("gopkg.in/x.v2@v2.0.0/linux-386-go1.5/", "gopkg.in/x.v2", "x.v2-v2.0.0-go1.5", "x.v2");
    check("v2.io@v0.1.0/linux-386-go1.5/", "v2.io", "v2.io-v0.1.0-go1.5", "v2.io");
    check("example.com/m@v0.1.0/v1/linux-386-go1.5/", "example.com/m/v1", "v1-v0.1.0-go1.5", "v1");
}

#[test]
fn malformed_specs_are_refused() {
    let too_long = format!("example.com/{}@v1.0.0/linux-amd64-go1.27.1/", "a/".repeat(1100));
    let long_together = format!("example.com/{}@v1.0.0/{}/linux-amd64-go1.27.1/", "a".repeat(1000), "b".repeat(1020));
    let bad = [
        "",
        "/",
        "@",
        "@//",
        "filippo.io/age",
        "filippo.io/age@v1.2.1",
        "filippo.io/age@v1.2.1/",
        "filippo.io/age@v1.2.1/cmd/age/",
        // slashes
        "/filippo.io/age@v1.2.1/cmd/age/linux-amd64-go1.27.1/",
        "filippo.io/age@v1.2.1/cmd/age/linux-amd64-go1.27.1",
        "filippo.io/age@v1.2.1/cmd/age/linux-amd64-go1.27.1//",
        "filippo.io/age@v1.2.1//cmd/age/linux-amd64-go1.27.1/",
        "filippo.io/age@v1.2.1//linux-amd64-go1.27.1/",
        "filippo.io/age@v1.2.1/cmd//age/linux-amd64-go1.27.1/",
        "filippo.io//age@v1.2.1/cmd/age/linux-amd64-go1.27.1/",
        "filippo.io/age/@v1.2.1/cmd/age/linux-amd64-go1.27.1/",
        "filippo.io\\age@v1.2.1/cmd/age/linux-amd64-go1.27.1/",
        // dots
        "filippo.io/../age@v1.2.1/cmd/age/linux-amd64-go1.27.1/",
        "filippo.io/age@v1.2.1/../age/linux-amd64-go1.27.1/",
        "filippo.io/age@v1.2.1/./age/linux-amd64-go1.27.1/",
        "filippo.io/age@v1.2.1/cmd/age./linux-amd64-go1.27.1/",
        "filippo/age@v1.2.1/cmd/age/linux-amd64-go1.27.1/",
        // escapes
        "filippo.io/!age@v1.2.1/cmd/age/linux-amd64-go1.27.1/",
        "filippo.io/age@v1.2.1/cmd/!age/linux-amd64-go1.27.1/",
        "filippo.io%2Fage@v1.2.1/cmd/age/linux-amd64-go1.27.1/",
        "filippo.io/age%40v1.2.1/cmd/age/linux-amd64-go1.27.1/",
        "filippo.io/age@v1.2.1/cmd%2fage/linux-amd64-go1.27.1/",
        "filippo.io/age@v1.2.1/%2e%2e/linux-amd64-go1.27.1/",
        // characters
        "filippo.io/age@v1.2.1/cmd/age/linux-amd64-go1.27.1/\n",
        "filippo.io/age@v1.2.1/cmd/a\0ge/linux-amd64-go1.27.1/",
        "filippo.io/age@v1.2.1/cmd/a ge/linux-amd64-go1.27.1/",
        " filippo.io/age@v1.2.1/cmd/age/linux-amd64-go1.27.1/",
        "filippo.io/âge@v1.2.1/cmd/age/linux-amd64-go1.27.1/",
        "filippo.io/age@v1.2.1/cmd/аge/linux-amd64-go1.27.1/",
        "filippo.io/age@v１.2.1/cmd/age/linux-amd64-go1.27.1/",
        "Filippo.io/age@v1.2.1/cmd/age/linux-amd64-go1.27.1/",
        "filippo.io/age@v1.2.1/cmd/age?x=1/linux-amd64-go1.27.1/",
        "filippo.io/con@v1.2.1/linux-amd64-go1.27.1/",
        "filippo.io/age@v1.2.1/age~1/linux-amd64-go1.27.1/",
        // versions
        "filippo.io/age@@v1.2.1/cmd/age/linux-amd64-go1.27.1/",
        "filippo.io/age@v1.2.1@v1.2.1/cmd/age/linux-amd64-go1.27.1/",
        "filippo.io/age@1.2.1/cmd/age/linux-amd64-go1.27.1/",
        "filippo.io/age@v1.2/cmd/age/linux-amd64-go1.27.1/",
        "filippo.io/age@v01.2.1/cmd/age/linux-amd64-go1.27.1/",
        "filippo.io/age@v1.2.1+meta/cmd/age/linux-amd64-go1.27.1/",
        "filippo.io/age@v2.0.0/cmd/age/linux-amd64-go1.27.1/",
        "filippo.io/age/v1@v1.2.1/cmd/age/linux-amd64-go1.27.1/",
        "filippo.io/age/v3@v2.2.1/cmd/age/linux-amd64-go1.27.1/",
        "filippo.io/age@latest/cmd/age/linux-amd64-go1.27.1/",
        "filippo.io/age@master/cmd/age/linux-amd64-go1.27.1/",
        // targets and Go versions
        "filippo.io/age@v1.2.1/cmd/age/linux-amd64-latest/",
        "filippo.io/age@v1.2.1/cmd/age/linux-amd64-go1.27.latest/",
        "filippo.io/age@v1.2.1/cmd/age/linux-amd64-go1.027.1/",
        "filippo.io/age@v1.2.1/cmd/age/linux-amd64-1.27.1/",
        "filippo.io/age@v1.2.1/cmd/age/linux-amd64-go1.27.1-custom/",
        "filippo.io/age@v1.2.1/cmd/age/linux-amd64-go1.27.1-Stripped/",
        "filippo.io/age@v1.2.1/cmd/age/linux-amd64-go1.27.1-stripped-stripped/",
        "filippo.io/age@v1.2.1/cmd/age/linux-amd64-go1.27.1-/",
        "filippo.io/age@v1.2.1/cmd/age/linux-amd65-go1.27.1/",
        "filippo.io/age@v1.2.1/cmd/age/Linux-amd64-go1.27.1/",
        "filippo.io/age@v1.2.1/cmd/age/windows-s390x-go1.27.1/",
        "filippo.io/age@v1.2.1/cmd/age/wasip1-wasm-go1.20.1/",
        "filippo.io/age@v1.2.1/cmd/age/windows-arm-go1.26.0/",
        "filippo.io/age@v1.2.1/cmd/age/linux-amd64-go1.4.3/",
        &too_long,
        &long_together,
    ];
    assert!(GOOD.parse::<Spec>().is_ok());
    for text in bad {
        let error = text.parse::<Spec>().expect_err(text).to_string();
        assert!(error.len() < 1000 && !error.contains(char::is_control), "{text}: {error}");
    }
}

#[test]
fn a_target_that_newer_go_may_know_is_believed() {
    spec("filippo.io/age@v1.2.1/cmd/age/windows-arm-go1.90.0/");
    assert!("filippo.io/age@v1.2.1/cmd/age/windows-mips-go1.90.0/".parse::<Spec>().is_err());
}

#[test]
fn queries_resolve_only_what_they_leave_open() {
    let resolve = |query: &str, version: &str, goversion: &str| {
        let query: SpecQuery = query.parse().expect(query);
        let resolved = query.resolve(version.parse().expect(version), goversion.parse().expect(goversion));
        resolved.map(|spec| spec.to_string()).unwrap_or_default()
    };
    let exact = "example.com/m@v1.0.0/linux-amd64-go1.26.1/";
    assert_eq!(resolve(exact, "v1.9.0", "go1.27.1"), exact);
    assert_eq!(
        resolve("example.com/m@latest/c/linux-amd64-go1.26.1-stripped/", "v1.9.0", "go1.27.1"),
        "example.com/m@v1.9.0/c/linux-amd64-go1.26.1-stripped/"
    );
    assert_eq!(
        resolve("example.com/m@v1.0.0/linux-amd64-go1.26.latest/", "v1.9.0", "go1.26.8"),
        "example.com/m@v1.0.0/linux-amd64-go1.26.8/"
    );
    assert_eq!(resolve("example.com/m@v1.0.0/linux-amd64-go1.26.latest/", "v1.9.0", "go1.27.1"), "");
    assert_eq!(resolve("example.com/m@latest/linux-amd64-latest/", "v2.0.0", "go1.27.1"), "");
    assert_eq!(resolve("example.com/m@v1.0.0/windows-arm-latest/", "v1.0.0", "go1.27.1"), "");

    let query: SpecQuery = exact.parse().expect("a query");
    assert_eq!(query.exact(), Some(spec(exact)));
    assert_eq!(SpecQuery::from(spec(exact)), query);
    for open in ["example.com/m@latest/linux-amd64-go1.26.1/", "example.com/m@v1.0.0/linux-amd64-latest/"] {
        let query: SpecQuery = open.parse().expect(open);
        assert_eq!((query.to_string().as_str(), query.exact()), (open, None));
    }
}

#[test]
fn a_spec_put_together_is_no_longer_than_one_that_is_read() {
    let (module, dir) = ("a".repeat(900), "b".repeat(900));
    let query: SpecQuery = format!("example.com/{module}@latest/{dir}/linux-amd64-latest/").parse().expect("a query");
    let resolve = |version: String| {
        let version = version.parse().expect("a version");
        query.resolve(version, "go1.27.1".parse().expect("a Go version"))
    };
    assert!(resolve("v1.0.0".to_owned()).is_ok());
    let error = resolve(format!("v1.0.{}", "7".repeat(300))).expect_err("too long");
    assert!(error.to_string().contains("longer than 2048"), "{error}");
}

#[test]
fn malformed_queries_are_refused() {
    for text in [
        "example.com/m@Latest/linux-amd64-go1.26.1/",
        "example.com/m@latest/linux-amd64-Latest/",
        "example.com/m@latest/linux-amd64-go1.latest/",
        "example.com/m@latest/linux-amd64-go1.26.1.latest/",
        "example.com/m@latest/linux-amd64-go1.26rc1.latest/",
        "example.com/m@latest/linux-amd64-.latest/",
        "example.com/m@latest/linux-amd64-go1.026.latest/",
        "example.com/m@latest/windows-arm-go1.26.latest/",
        "example.com/m@v2.0.0/linux-amd64-latest/",
        "example.com/m@upgrade/linux-amd64-latest/",
    ] {
        assert!(text.parse::<SpecQuery>().is_err(), "{text}");
    }
}

#[test]
fn pages_of_modules_tell_what_they_can_mean() {
    let candidates = |text: &str| {
        let query: PackageQuery = text.parse().expect(text);
        assert_eq!(query.to_string(), text);
        let all = query.candidates().into_iter().map(|(module, dir)| format!("{module} {dir}"));
        (query.version().to_string(), all.collect::<Vec<_>>().join(", "))
    };
    let check = |text: &str, version: &str, splits: &str| {
        assert_eq!(candidates(text), (version.to_owned(), splits.to_owned()), "{text}");
    };
    check("filippo.io/age@v1.2.1/cmd/age", "v1.2.1", "filippo.io/age /cmd/age");
    check("filippo.io/age@latest", "latest", "filippo.io/age /");
    check("filippo.io/age/cmd", "latest", "filippo.io/age/cmd /, filippo.io/age /cmd, filippo.io /age/cmd");
    // Not a module path, but a directory: v1, a leading dot, a plus sign.
    check("example.com/m/v1", "latest", "example.com/m /v1, example.com /m/v1");
    check("example.com/c++", "latest", "example.com /c++");
    check("gopkg.in/x.v2/cmd", "latest", "gopkg.in/x.v2 /cmd, gopkg.in /x.v2/cmd");
    for bad in [
        "",
        "/",
        "age",
        "cmd/age",
        "example.com/",
        "/example.com",
        "example.com//m",
        "example.com/m@",
        "example.com/m@/cmd",
        "example.com/m@v1.0.0/",
        "example.com/m@v1.0.0/cmd/",
        "example.com/m@v2.0.0",
        "example.com/m@v1.0.0@v1.0.0",
        "example.com/../m",
        "example.com/%6d",
        "robots.txt/ä",
    ] {
        assert!(bad.parse::<PackageQuery>().is_err(), "{bad}");
    }
}

#[test]
fn malformed_records_are_refused() {
    let good = "example.com/m v1.0.0 /cmd/x linux amd64 go1.27.1 1000000 0X-zrZv_IbzjZUnhsbWlsecLbwjk \n";
    assert!(Record::parse(good.as_bytes()).is_ok());
    let stripped = good.replace(" \n", " stripped\n");
    assert_eq!(Record::parse(stripped.as_bytes()).expect("stripped").to_text(), stripped);
    let change = |from: &str, to: &str| good.replace(from, to);
    for bad in [
        String::new(),
        change("\n", ""),
        change("\n", "\n\n"),
        change(" \n", "  \n"),
        change(" \n", "\r\n"),
        change(" \n", " plain\n"),
        change(" \n", " stripped \n"),
        change(" linux", "  linux"),
        change(" linux", "\tlinux"),
        change("/cmd/x", "cmd/x"),
        change("/cmd/x", "/cmd/x/"),
        change("/cmd/x", ""),
        change("1000000", "0"),
        change("1000000", "-1"),
        change("1000000", "+5"),
        change("1000000", "007"),
        change("1000000", "9223372036854775808"),
        change("1000000", "1e6"),
        change("0X-zr", "1X-zr"),
        change("0X-zr", "0X+zr"),
        change("bwjk", "bwj"),
        change("bwjk", "bwjl"),
        change("bwjk", "bwjk="),
        change("v1.0.0", "latest"),
        change("go1.27.1", "latest"),
        change("example.com/m", "example.com/!m"),
        " ".repeat(8) + "\n",
        good.repeat(2),
        "x".repeat(MAX_RECORD_BYTES) + good,
    ] {
        assert!(Record::parse(bad.as_bytes()).is_err(), "{bad:?}");
    }
    assert!(Record::parse(b"\xff\n").is_err());
}

#[test]
fn targets_are_those_of_each_go_version() {
    let exists = |target: &str, goversion: &str| {
        let target: Target = target.parse().expect(target);
        target.exists_in(&goversion.parse().expect(goversion))
    };
    for (target, first, before) in [
        ("windows/arm64", "go1.17.0", "go1.16.9"),
        ("wasip1/wasm", "go1.21rc1", "go1.20.14"),
        ("linux/loong64", "go1.19", "go1.18.10"),
        ("openbsd/riscv64", "go1.23.0", "go1.22.0"),
    ] {
        assert!(exists(target, first) && !exists(target, before), "{target}");
    }
    assert!(exists("windows/arm", "go1.23.0") && !exists("windows/arm", "go1.24.0"));
    assert!(exists("darwin/386", "go1.14") && !exists("darwin/386", "go1.15"));
    assert!(Target::all().count() > 50 && Target::all().is_sorted());
    assert!(Target::all().any(|target| target == Target::host()));
    for bad in ["", "/", "linux", "linux/", "linux/amd64/", "linux-amd64", "Linux/amd64", "linux/amd64 "] {
        assert!(bad.parse::<Target>().is_err(), "{bad}");
    }
}
