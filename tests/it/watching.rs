//! What is shipped for those who watch nodes speaks of what nodes say: rules, dashboard, the table of the manual.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::world::{Module, Modules, Node, Place, eventually, request, shared, spec};

fn doc(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    std::fs::read_to_string(path).expect("a document")
}

/// The metrics of a node, as their collector gets them.
fn metrics(node: &Node) -> String {
    let answer = request(&node.admin, "GET /metrics", "", "", Duration::from_secs(10)).expect("an answer");
    assert_eq!(answer.status, 200);
    answer.text()
}

/// The names of all samples in a text of metrics.
fn samples(text: &str) -> BTreeSet<String> {
    let name = |line: &str| line.split(['{', ' ']).next().unwrap_or_default().to_owned();
    text.lines().filter(|line| !line.starts_with('#')).map(name).collect()
}

/// All names of metrics in a text of any kind.
fn named(text: &str) -> BTreeSet<String> {
    let name = |(at, _): (usize, &str)| {
        let end = |c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        text[at..].split(end).next().unwrap_or_default().to_owned()
    };
    text.match_indices("sumpeer_").map(name).collect()
}

/// What each rule is called.
fn rules(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect()
}

#[test]
fn rules_and_dashboard_and_manual_speak_of_metrics_that_there_are() {
    let (rules_text, manual) = (doc("prometheus-rules.yml"), doc("OPERATING.md"));
    let dashboard: Value = serde_json::from_str(&doc("grafana-dashboard.json")).expect("JSON");
    let modules = Modules::start();
    let [leader, follower, auditor] = ["leader.example", "follower.example", "auditor.example"].map(Place::new);
    // A log without entries is not audited yet, so there is one.
    let world = shared();
    world.modules.publish(&Module::command("watching.example/x", "v1.0.0"));
    assert_eq!(world.node.lookup(&spec("watching.example/x@v1.0.0")).status, 200);
    let (vkey, address) = (&world.node.vkey, &world.node.address);
    let observed =
        format!("sandbox = \"none\"\n[audit]\n[[peer]]\nkey = \"{vkey}\"\nurl = \"http://{address}\"\nvote = false\n");
    // No word is needed here, so nobody need be able to build.
    let setups = [
        leader.verifies(&modules, "", &[&follower]),
        follower.verifies(&modules, "", &[&leader]),
        auditor.builds(&modules, &observed, &[]),
    ];
    let nodes = setups.each_ref().map(|setup| setup.start());
    let all = || format!("{}{}", metrics(&nodes[1]), metrics(&nodes[2]));

    let wanted: BTreeSet<String> = named(&rules_text).into_iter().chain(named(&dashboard.to_string())).collect();
    assert!(wanted.len() > 15, "{wanted:?}");
    let missing = || wanted.difference(&samples(&all())).cloned().collect::<Vec<_>>();
    eventually(Duration::from_secs(60), "all of them are there once the peers were reached", || missing().is_empty());

    // A row for each family, under the name that its samples have.
    let text = all();
    let mut families = 0;
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (family, kind) = line.split_once(' ').expect("a name and a kind");
        let name = if kind == "counter" { format!("{family}_total") } else { family.to_owned() };
        let row = |line: &str| {
            line.starts_with("| `")
                && line.split('|').nth(1).is_some_and(|cell| {
                    cell.split('`').any(|name_and_labels| name_and_labels.split('{').next() == Some(name.as_str()))
                })
        };
        assert!(manual.lines().any(row), "OPERATING.md has no row for {name}");
        families += 1;
    }
    assert!(families > 20, "{text}");
}

#[test]
fn rules_and_dashboard_are_whole() {
    let (text, manual) = (doc("prometheus-rules.yml"), doc("OPERATING.md"));
    let rules = rules(&text);
    assert!(rules.len() > 10, "{rules:?}");
    for rule in &rules {
        assert!(manual.contains(&format!("| `{rule}`")), "OPERATING.md does not say what {rule} means");
    }
    for (part, what) in [(" expr: ", "an expression"), (" severity: ", "a severity"), (" summary: ", "a summary")] {
        assert_eq!(text.matches(part).count(), rules.len(), "each rule has {what}");
    }
    // Where Prometheus is installed it has the last word.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/prometheus-rules.yml");
    if let Ok(checked) = Command::new("promtool").args(["check", "rules"]).arg(path).output() {
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }

    let dashboard: Value = serde_json::from_str(&doc("grafana-dashboard.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut seen = BTreeSet::new();
    for panel in panels {
        assert!(seen.insert(panel["id"].as_u64().expect("a number")), "two panels have one id");
        let title = panel["title"].as_str().expect("a title");
        let (at, targets) = (&panel["gridPos"], panel["targets"].as_array().expect("targets"));
        assert!(at["x"].as_u64().zip(at["w"].as_u64()).is_some_and(|(x, w)| x + w <= 24), "{title} is too wide");
        assert!(panel["description"].as_str().is_some_and(|text| !text.is_empty()), "{title} says nothing");
        assert!(!targets.is_empty(), "{title} shows nothing");
        for target in targets {
            let expr = target["expr"].as_str().expect("an expression");
            assert!(expr.contains("sumpeer_") && expr.contains("$instance"), "{title}: {expr}");
        }
    }
}
