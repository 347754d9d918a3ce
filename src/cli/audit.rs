//! `sumpeer audit`: how far the logs of observed peers are audited, and one audit from a cron job or in CI.

mod once;

use anyhow::{bail, ensure};
use serde_json::{Value, json};

use super::Exit;
use super::admin::{Admin, NodeArgs, columns, plain, time};

/// Shows how far a running node has audited its observed peers, or audits one peer now.
///
/// Status 0: all that was built again was reproduced. 3: something differs. 4: incomplete (something could not be built
/// here, or not yet).
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this peer, as the configuration calls it
    #[arg(long, value_name = "NAME")]
    peer: Option<String>,
    /// Follow the peer up to its head, build again what its log says, tell what came of it, and end
    #[arg(long, requires = "peer")]
    once: bool,
    /// The first entry of its log that counts
    #[arg(long, value_name = "N", requires = "once")]
    from: Option<u64>,
    /// Build so many at most: the newest, unless the configuration has oldest-first
    #[arg(long, value_name = "N", requires = "once")]
    limit: Option<u64>,
    /// Only a part, drawn by chance, from 0 to 1; all by default, whatever the configuration says
    #[arg(long, value_name = "P", requires = "once", value_parser = part)]
    sample: Option<f64>,
    #[command(flatten)]
    node: NodeArgs,
}

fn part(text: &str) -> Result<f64, String> {
    let part = text.parse().ok().filter(|part| (0.0..=1.0).contains(part));
    part.ok_or_else(|| format!("{text:?} is not between 0 and 1"))
}

/// Runs the command.
///
/// # Errors
/// No node runs there; with `--once`: one does, or the peer cannot be followed.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    if args.once {
        return once::run(args).await;
    }
    let list = Admin::find(&args.node)?.get("/api/v1/audit").await?;
    let Value::Array(mut audits) = list["items"].clone() else {
        bail!("the node did not answer with a list");
    };
    if let Some(name) = &args.peer {
        audits.retain(|audit| audit["peer"] == name.as_str());
        ensure!(!audits.is_empty(), "this node audits no peer called {name}");
    }
    args.node.print(&json!({"items": audits}), &show(&audits))?;
    if let Some(why) = list["stopped"].as_str() {
        eprintln!("nothing is built any more: {why}");
    }
    let differs = audits.iter().any(|audit| audit["differs"] != 0);
    Ok(if differs { Exit::Divergence } else { Exit::Ok })
}

fn show(audits: &[Value]) -> String {
    if audits.is_empty() {
        return "no peer is audited\n".to_owned();
    }
    let counts = ["chosen", "reproduced", "differs", "cannot_build", "pending"];
    let cells = |audit: &Value| {
        let entries = format!("{}..{} of {}", audit["from"], audit["looked_at"], audit["size"]);
        let mut cells = vec![plain(&audit["peer"]), time(&audit["since"]), entries];
        cells.extend(counts.iter().map(|name| plain(&audit[name])));
        cells
    };
    let rows: Vec<Vec<String>> = audits.iter().map(cells).collect();
    let head = ["PEER", "SINCE (UTC)", "LOOKED AT", "CHOSEN", "REPRODUCED", "DIFFERS", "CANNOT BUILD HERE", "PENDING"];
    let mut text = columns(&head, &rows);
    for audit in audits {
        for row in audit["differing"].as_array().into_iter().flatten() {
            let before = match row["reproduced_at"].is_null() {
                true => String::new(),
                false => format!(" (reproduced on {}, differs now)", time(&row["reproduced_at"])),
            };
            let (peer, number, spec) = (plain(&audit["peer"]), &row["number"], plain(&row["spec"]));
            text.push_str(&format!("differs: entry {number} of {peer}, {spec}{before}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coverage_and_what_differs() {
        let differing = json!([
            {"number": 7, "spec": "a/", "size": 9, "sum": "0x", "reproduced_at": "2026-11-20T09:30:00Z"},
            {"number": 3, "spec": "b/", "size": 9, "sum": "0y"},
        ]);
        let audit = json!({
            "peer": "beta", "since": "2026-11-21T09:30:00Z", "from": 0, "looked_at": 8, "size": 9, "chosen": 6,
            "reproduced": 2, "differs": 2, "cannot_build": 1, "pending": 1, "differing": differing,
        });
        let wanted = "\
PEER  SINCE (UTC)          LOOKED AT  CHOSEN  REPRODUCED  DIFFERS  CANNOT BUILD HERE  PENDING
beta  2026-11-21 09:30:00  0..8 of 9  6       2           2        1                  1
differs: entry 7 of beta, a/ (reproduced on 2026-11-20 09:30:00, differs now)
differs: entry 3 of beta, b/
";
        assert_eq!(show(&[audit]), wanted);
        assert_eq!(show(&[]), "no peer is audited\n");
        assert!(part("0.5").is_ok() && part("1.5").is_err() && part("NaN").is_err() && part("x").is_err());
    }
}
