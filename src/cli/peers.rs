//! `sumpeer peers`: how following the other nodes goes, and ending a quarantine.

use serde_json::{Value, json};

use super::Exit;
use super::admin::{Admin, NodeArgs, columns, plain, time};

/// Shows the peers of a running node, or ends a peer's quarantine.
///
/// Status 3: a peer is in quarantine.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Believe a peer again that was put into quarantine, and settle the divergence that put it there
    Release {
        /// As the configuration calls it, or its whole verifier key
        #[arg(value_name = "NAME")]
        name: String,
        /// Why, for whoever reads it later
        #[arg(long, value_name = "TEXT")]
        note: String,
    },
}

/// Runs the command.
///
/// # Errors
/// No node runs there, or it says why not.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let admin = Admin::find(&args.node)?;
    match args.command {
        None => {
            let peers = admin.list("/api/v1/peers").await?;
            args.node.print(&json!({"items": peers}), &show(&peers))?;
            let convicted = peers.iter().any(|peer| !peer["quarantine"].is_null());
            Ok(if convicted { Exit::Divergence } else { Exit::Ok })
        }
        Some(Command::Release { name, note }) => {
            let done = admin.act("/actions/release", &json!({"peer": name, "note": note})).await?;
            let (name, id) = (plain(&done["released"]), plain(&done["divergence"]));
            args.node.print(&done, &format!("released {name}; divergence {id} is settled\n"))?;
            if !args.node.json {
                eprintln!(
                    "{name} must go on with exactly the log that is stored here, or its next head convicts it again. \
                     If it lost its log, it needs a new key and a new [[peer]]."
                );
            }
            Ok(Exit::Ok)
        }
    }
}

fn show(peers: &[Value]) -> String {
    if peers.is_empty() {
        return "this node follows nobody\n".to_owned();
    }
    let mut rows = Vec::new();
    let mut sentences = String::new();
    for peer in peers {
        let name = plain(&peer["name"]);
        let counts = ["agree", "differ", "missing", "cannot_build"].map(|kind| plain(&peer["counts"][kind])).join("/");
        let state = plain(&peer["state"]);
        let state = if peer["vote"] == true { state } else { format!("{state}, observed") };
        let logs = peer["logs"].as_array().map_or(&[][..], Vec::as_slice);
        let log = |log: &Value| {
            [
                plain(&log["log"]),
                plain(&log["size"]),
                plain(&log["verified"]),
                plain(&log["lag"]),
                time(&log["head_at"]),
            ]
        };
        let mut logs: Vec<[String; 5]> = logs.iter().map(log).collect();
        if logs.is_empty() {
            logs.push(Default::default());
        }
        for (place, log) in logs.into_iter().enumerate() {
            let [kind, size, verified, lag, at] = log;
            let first = |text: &str| if place == 0 { text.to_owned() } else { String::new() };
            rows.push(vec![first(&name), first(&state), kind, size, verified, lag, at, first(&counts)]);
        }
        if let Some(reason) = peer["quarantine"]["reason"].as_str() {
            let since = time(&peer["quarantine"]["since"]);
            let divergence = plain(&peer["quarantine"]["divergence"]);
            let reason = plain(&Value::from(reason));
            sentences.push_str(&format!("{name}: in quarantine since {since}: {reason} (divergence {divergence})\n"));
        }
        if let Some(ring) = peer["ring"].as_array() {
            let names: Vec<String> = ring.iter().map(plain).collect();
            sentences.push_str(&format!("{name}: waits for itself through {}\n", names.join(", ")));
        }
        if peer["last_error"].is_string() {
            sentences.push_str(&format!("{name}: {}\n", plain(&peer["last_error"])));
        }
    }
    let head = ["PEER", "STATE", "LOG", "HEAD", "PROVEN", "LAG", "SEEN (UTC)", "AGREE/DIFFER/MISSING/CANNOT"];
    let mut text = columns(&head, &rows);
    if !sentences.is_empty() {
        text.push('\n');
        text.push_str(&sentences);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_takes_a_line_and_its_trouble_another() {
        let peers = [json!({
            "name": "beta", "vote": true, "state": "quarantined",
            "quarantine": {"since": "2026-11-21T09:30:00Z", "reason": "it signed two logs", "divergence": "7"},
            "logs": [{"log": "claims", "size": 12, "verified": 10, "lag": 2, "head_at": "2026-11-21T09:29:00Z"}],
            "counts": {"agree": 8, "differ": 1, "missing": 3, "cannot_build": 2},
            "last_error": "connection refused",
        })];
        let wanted = "\
PEER  STATE        LOG     HEAD  PROVEN  LAG  SEEN (UTC)           AGREE/DIFFER/MISSING/CANNOT
beta  quarantined  claims  12    10      2    2026-11-21 09:29:00  8/1/3/2

beta: in quarantine since 2026-11-21 09:30:00: it signed two logs (divergence 7)
beta: connection refused
";
        assert_eq!(show(&peers), wanted);
        assert_eq!(show(&[]), "this node follows nobody\n");
    }
}
