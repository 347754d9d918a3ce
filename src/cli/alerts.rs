//! `sumpeer alerts`: what needs somebody, and whether somebody would be told.

use std::time::Duration;

use serde_json::{Value, json};

use super::Exit;
use super::admin::{Admin, NoNode, NodeArgs, columns, plain, time};
use crate::config::{Config, Overrides};
use crate::node;

/// How long a test may take: hooks have two minutes each.
const TEST_TIME: Duration = Duration::from_secs(30 * 60);

/// Shows the alerts of a running node that hold, and which channels are behind; or tries all channels out.
///
/// Status 3: there are some.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Send a test through each channel and tell how each went; without a running node, as the configuration says
    Test,
}

/// Runs the command.
///
/// # Errors
/// No node runs there, or it says why not; or the configuration cannot be acted on.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let (value, text, exit) = match args.command {
        None => {
            let admin = Admin::find(&args.node)?;
            let rows = admin.list("/api/v1/alerts?state=open").await?;
            let behind = admin.list("/channels").await?;
            let exit = if rows.is_empty() { Exit::Ok } else { Exit::Divergence };
            let text = list(&rows, &behind);
            (json!({"items": rows, "channels": behind}), text, exit)
        }
        Some(Command::Test) => {
            let channels = test(&args.node).await?;
            let failed = channels.iter().any(|row| !row["error"].is_null());
            let text = tested(&channels);
            (json!({"channels": channels}), text, if failed { Exit::Failure } else { Exit::Ok })
        }
    };
    args.node.print(&value, &text)?;
    Ok(exit)
}

/// How a test went, by channel.
async fn test(args: &NodeArgs) -> anyhow::Result<Vec<Value>> {
    let asked = match Admin::find(args) {
        Ok(admin) => admin.act_within("/actions/test-alerts", &json!({}), TEST_TIME).await,
        Err(error) => Err(error),
    };
    match asked {
        Ok(mut done) => Ok(match done["channels"].take() {
            Value::Array(channels) => channels,
            _ => anyhow::bail!("the node did not say how it went"),
        }),
        Err(error) if error.is::<NoNode>() => {
            eprintln!("{error}; the configuration is tried out from here");
            let overrides = Overrides { data: args.data.clone(), ..Overrides::default() };
            let channels = node::channels(&Config::load(args.config.as_deref(), overrides)?)?;
            let object =
                |(channel, ended): (String, Result<(), String>)| json!({"channel": channel, "error": ended.err()});
            Ok(channels.test().await.into_iter().map(object).collect())
        }
        Err(error) => Err(error),
    }
}

fn tested(channels: &[Value]) -> String {
    let cells = |row: &Value| {
        let ended = if row["error"].is_null() { "ok".to_owned() } else { format!("failed: {}", plain(&row["error"])) };
        vec![plain(&row["channel"]), ended]
    };
    let rows: Vec<Vec<String>> = channels.iter().map(cells).collect();
    columns(&["CHANNEL", "TEST"], &rows)
}

fn list(rows: &[Value], behind: &[Value]) -> String {
    let mut text = "nothing needs anybody\n".to_owned();
    if !rows.is_empty() {
        let cells = |row: &Value| {
            vec![plain(&row["id"]), plain(&row["kind"]), time(&row["first_seen"]), plain(&row["summary"])]
        };
        let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
        text = columns(&["ID", "KIND", "SINCE (UTC)", "WHAT"], &rows);
    }
    if !behind.is_empty() {
        let cells = |row: &Value| {
            vec![plain(&row["channel"]), plain(&row["pending"]), time(&row["since"]), plain(&row["error"])]
        };
        let rows: Vec<Vec<String>> = behind.iter().map(cells).collect();
        text.push('\n');
        text.push_str(&columns(&["CHANNEL", "TO BE TOLD", "SINCE (UTC)", "LAST ERROR"], &rows));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_read() {
        let row = json!({
            "id": "7", "kind": "peer-silent", "state": "open", "party": "beta",
            "summary": "beta is silent.", "first_seen": "2026-11-21T09:30:00Z",
        });
        let behind =
            json!({"channel": "hook:page", "pending": 2, "since": "2026-11-21T09:30:00Z", "error": "it ended"});
        let wanted = "\
ID  KIND         SINCE (UTC)          WHAT
7   peer-silent  2026-11-21 09:30:00  beta is silent.

CHANNEL    TO BE TOLD  SINCE (UTC)          LAST ERROR
hook:page  2           2026-11-21 09:30:00  it ended
";
        assert_eq!(list(&[row], &[behind]), wanted);
        assert_eq!(list(&[], &[]), "nothing needs anybody\n");
        let went = [json!({"channel": "journal", "error": null}), json!({"channel": "hooks", "error": "no\nfolder"})];
        assert_eq!(tested(&went), "CHANNEL  TEST\njournal  ok\nhooks    failed: no folder\n");
    }
}
