//! The example file, and what a file can get wrong.

use std::path::PathBuf;

use serde_json::Value;

use super::*;

/// The example with its defaults, and maybe its examples, taken out of their comments.
fn uncommented(examples: bool) -> String {
    let line = |line: &'static str| match line.strip_prefix("#: ") {
        Some(example) if examples => example,
        Some(_) => "",
        None => match line.strip_prefix('#') {
            Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase()) => setting,
            _ => line,
        },
    };
    EXAMPLE.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn parse(text: &str) -> Result<Config, String> {
    let path = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(path.path(), text).expect("written");
    Config::load(Some(path.path()), Overrides::default()).map_err(|errors| errors.to_string())
}

#[test]
fn the_example_shows_the_defaults() {
    assert_eq!(parse(EXAMPLE), Ok(Config::default()));
    let defaults = uncommented(false);
    assert!(defaults.lines().filter(|line| line.contains(" = ")).count() > 20, "{defaults}");
    assert_eq!(parse(&defaults), Ok(Config::default()));

    let (all, errors) = parse::parse(&uncommented(true));
    assert_eq!(errors, [""; 0]);
    // Defaults within tables that are not there by default.
    let (alerts, audit) = (all.alerts.expect("alerts"), all.audit.expect("audit"));
    let default = Alerts::default();
    assert_eq!((alerts.peer_silence, alerts.longest_retry), (default.peer_silence, default.longest_retry));
    assert_eq!((audit.sample, audit.order), (Audit::default().sample, Audit::default().order));
    assert_eq!((audit.history, audit.peers), (Audit::default().history, Audit::default().peers));
    let (peer, default) = (&all.peer[0], Peer::default());
    assert_eq!((peer.kind, peer.vote, peer.build_on_claim), (default.kind, default.vote, Some(default.vote)));
    assert_eq!(all.gosumdb, Some(gosumdb(None).expect("the default")));
    assert_eq!(all.key_file, Some(PathBuf::from("./data/key")));
}

#[test]
fn the_example_shows_every_setting() {
    let text = uncommented(true);
    let shown: toml::Table = text.parse().expect("TOML");
    let config: Config = toml::from_str(&text).expect("settings");
    let shown = serde_json::to_value(shown).expect("JSON");
    compare_names("", &shown, &serde_json::to_value(config).expect("JSON"));
}

/// Both trees have the same tables with the same settings.
fn compare_names(place: &str, shown: &Value, known: &Value) {
    match (shown, known) {
        (Value::Object(shown), Value::Object(known)) => {
            let names = |table: &serde_json::Map<String, Value>| {
                let mut names: Vec<String> = table.keys().cloned().collect();
                names.sort();
                names
            };
            assert_eq!(names(shown), names(known), "in {place}");
            for (name, shown) in shown {
                compare_names(&format!("{place}.{name}"), shown, &known[name]);
            }
        }
        (Value::Array(shown), Value::Array(known)) => {
            for (shown, known) in shown.iter().zip(known) {
                compare_names(place, shown, known);
            }
        }
        (_, known) => assert!(!known.is_null(), "{place} is shown"),
    }
}

#[test]
fn the_command_line_wins_over_the_file() {
    let overrides = Overrides {
        data: Some("elsewhere".into()),
        listen: Some("[::1]:0".parse().expect("an address")),
        admin_listen: None,
    };
    let config = Config::load(None, overrides).expect("good");
    assert_eq!(config.listen.to_string(), "[::1]:0");
    assert_eq!(config.admin_listen, Config::default().admin_listen);
    assert_eq!(config.key_file(), PathBuf::from("elsewhere/key"));
}

#[test]
fn an_error_names_its_line_and_points_at_it() {
    let error = parse("max-builds = 2\nmax-biulds = 3\n").expect_err("a typo");
    assert!(error.contains("line 2, column 1") && error.contains("2 | max-biulds = 3"), "{error}");
    assert!(error.contains("^^^^^^^^^^\nunknown field `max-biulds`"), "{error}");
}

#[test]
fn all_errors_are_told_at_once() {
    let key = "beta.gobuilds.org+3979319f+AReBl47t6/Zl24/pmarcKhJtsfAU2c1F5Wtu4hrOgOQQ";
    let text = format!(
        r#"
name = "a b"
listen = "127.0.0.1:8001"
max-builds = 0
lookup-wait = 15
oldest-go = "go1.26"
newest-go = "go1.21.5"
sandbox = "jail"
recheck = [
    "1m",
    "soon",
]
watch = ["no-module"]
[build-limits]
time = "20 minutes"
memory = "4GB"
cores = 3
[limits]
max-streams = -1
exempt = ["300.0.0.0/8"]
[tls]
cert = "c.pem"
[alerts]
peer-silence = "1s"
longest-retry = "0s"
url = "mailto:x@example.org"
[[alerts.webhook]]
url = "ftp://example.org"
[audit]
sample = 1.5
peers = ["nobody"]
[[peer]]
key = "{key}"
[[peer]]
name = "beta"
key = "{key}"
url = "beta"
[[peer]]
name = "beta"
"#
    );
    let error = parse(&text).expect_err("errors");
    for part in [
        "name: \"a b\"",
        "admin-listen: 127.0.0.1:8001",
        "4 | max-builds",
        "5 | lookup-wait = 15",
        "a length of time in quotes, such as \"15s\"",
        "newest-go: it is older than oldest-go, go1.26",
        "unknown variant `jail`, expected one of `auto`",
        "11 |     \"soon\"",
        "its first element \"no-module\" has no dot",
        "15 | time = \"20 minutes\"",
        "(units: B, KiB, MiB, GiB, TiB)",
        "unknown field `cores`",
        "19 | max-streams = -1",
        "20 | exempt",
        "tls: cert and key belong together",
        "alerts.peer-silence",
        "alerts.webhook number 1: ftp://example.org",
        "alerts.longest-retry: it must be at least 1s",
        "alerts.url: mailto:x@example.org",
        "audit.sample: 1.5",
        "there is no peer \"nobody\"",
        "peer beta: another peer has the same key",
        "37 | url = \"beta\"",
        "peer beta: key is missing",
        "peer beta: another peer has the same name",
    ] {
        assert!(error.contains(part), "{part} is in\n{error}");
    }
    assert_eq!(error.matches("peer beta: another peer has the same name").count(), 1);
}

#[test]
fn what_is_no_configuration_is_refused() {
    for (text, part) in [
        ("a = ", "line 1"),
        ("data = \"x\"\n[limits\n", "2 | [limits"),
        ("data = 7", "expected"),
        ("data = \"\"", "data: it is empty"),
        ("listen = \"localhost\"", "invalid socket address"),
        ("mode = \"verify-only\"", "needs a peer that votes"),
        ("recheck = []", "at least one pause"),
        ("binary-cache = \"1MiB\"", "at least one binary"),
        ("goproxy = \" \"", "goproxy: it is empty"),
        ("gosumdb = \"sum.example\"", "verifier key"),
        ("limits = 3", "expected struct Limits"),
        ("[limit]", "unknown field `limit`"),
        ("[tls]", "tls: set acme"),
        ("[tls.acme]", "name at least one host"),
        ("[tls.acme]\ndomains = [\"a.example\"]\ncontact = \"me\"", "write mailto:me"),
        ("[tls.acme]\ndomains = [\"a.example\"]\ndirectory = \"http://b.example\"", "is not an address of https"),
        ("[[peer]]\nkey = \"x\"", "2 | key"),
        ("[[peer]]", "peer number 1: key is missing"),
        ("poll-interval = \"0s\"", "at least 1s"),
        ("[alerts]\nhooks-dir = \"\"", "alerts.hooks-dir: it is empty"),
        ("[[alerts.webhook]]", "alerts.webhook number 1: url is missing"),
        ("[[alerts.webhook]]\nurl = \"http://a\"\n[[alerts.webhook]]\nurl = \"http://a\"", "number 2: another one"),
        ("watch = [\"filippo.io/age\"]", "watch: set index"),
        ("index = \"ftp://example.org\"", "index: ftp://example.org"),
        ("[audit]\norder = \"random\"", "expected `newest-first` or `oldest-first`"),
        ("[audit]\ntargets = [\"linux\"]", "no pattern of targets"),
        ("[audit]\noldest-go = \"go1.27\"\nnewest-go = \"go1.26\"", "older than audit.oldest-go"),
        ("mode = \"verify-only\"\n[audit]", "builds nothing again"),
    ] {
        let error = parse(text).expect_err(text);
        assert!(error.contains(part), "{part} is in\n{error}");
    }
    let load = |path: &str| Config::load(Some(Path::new(path)), Overrides::default());
    let error = load("/no/such/file.toml").expect_err("no file").to_string();
    assert!(error.starts_with("cannot read /no/such/file.toml: "), "{error}");
    assert!(load("/dev/zero").expect_err("no end").to_string().contains("more than"));
}

#[test]
fn a_node_is_no_peer_of_itself() {
    let (all, _) = parse::parse(&uncommented(true));
    let own = all.peer[0].key.clone().expect("a key");
    assert!(all.check_own_key(&own).expect_err("itself").contains("beta"));
    assert!(all.check_own_key(&own.as_name("other")).is_ok());
}

#[test]
fn a_reload_tells_what_needs_a_restart() {
    let old = Config::default();
    let (new, errors) = parse::parse(
        "listen = \"[::1]:80\"\nnotes = \"hello\"\n[build-limits]\ntime = \"1m\"\n[limits]\nmax-streams = 7\n",
    );
    assert_eq!(errors, [""; 0]);
    assert!(old.differences(&old).is_empty());
    let differences = old.differences(&new);
    assert_eq!(differences.reloadable, ["notes"]);
    assert_eq!(differences.needs_restart, ["listen", "build-limits.time", "limits.max-streams"]);
}
