//! `sumpeer queue`: what a running node builds, and what it will.

use serde_json::{Value, json};

use super::Exit;
use super::admin::{Admin, NodeArgs, columns, plain, time};

/// Shows what a running node builds, what waits, and what failed for now and is tried again.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    node: NodeArgs,
}

/// Runs the command.
///
/// # Errors
/// No node runs there.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let builds = Admin::find(&args.node)?.list("/api/v1/queue").await?;
    args.node.print(&json!({"items": builds}), &show(&builds))?;
    Ok(Exit::Ok)
}

fn show(builds: &[Value]) -> String {
    if builds.is_empty() {
        return "nothing is being built\n".to_owned();
    }
    let cells = |build: &Value| {
        let details = match build["state"].as_str() {
            Some("running") => plain(&build["phase"]),
            Some("queued") => format!("{} before it", plain(&build["position"])),
            _ => format!("tried {} times: {}", plain(&build["tries"]), plain(&build["detail"])),
        };
        let at = if build["until"].is_null() { time(&build["since"]) } else { time(&build["until"]) };
        vec![plain(&build["state"]), at, plain(&build["spec"]), details]
    };
    let rows: Vec<Vec<String>> = builds.iter().map(cells).collect();
    columns(&["STATE", "SINCE/UNTIL (UTC)", "SPEC", "DETAILS"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_says_what_matters() {
        let builds = [
            json!({"spec": "a/", "state": "running", "since": "2026-11-21T09:30:00Z", "phase": "compile", "done": 1}),
            json!({"spec": "b/", "state": "queued", "since": "2026-11-21T09:30:01Z", "position": 0}),
            json!({"spec": "c/", "state": "backoff", "until": "2026-11-21T09:40:00Z", "tries": 2, "detail": "no\nnet"}),
        ];
        let wanted = "\
STATE    SINCE/UNTIL (UTC)    SPEC  DETAILS
running  2026-11-21 09:30:00  a/    compile
queued   2026-11-21 09:30:01  b/    0 before it
backoff  2026-11-21 09:40:00  c/    tried 2 times: no net
";
        assert_eq!(show(&builds), wanted);
        assert_eq!(show(&[]), "nothing is being built\n");
    }
}
