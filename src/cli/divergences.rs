//! `sumpeer divergences`: what was found to differ, and settling it.

use serde_json::{Value, json};

use super::Exit;
use super::admin::{Admin, NodeArgs, columns, plain, time};
use super::evidence::tables;
use crate::evidence::Comparison;

/// Shows what a running node has found to differ, or settles it.
///
/// Status 3: what is shown is open.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show one with all its words
    Show {
        /// Its number
        id: u64,
    },
    /// Settle one with a note. What is disputed stays so until the words agree
    Resolve {
        /// Its number
        id: u64,
        /// How it was settled, for whoever reads it later
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
    let (value, text, open) = match args.command {
        None => {
            let rows = admin.list("/api/v1/divergences").await?;
            let open = rows.iter().any(is_open);
            let text = list(&rows);
            (json!({"items": rows}), text, open)
        }
        Some(Command::Show { id }) => {
            let row = admin.get(&format!("/api/v1/divergences/{id}")).await?;
            let (text, open) = (show(&row), is_open(&row));
            (row, text, open)
        }
        Some(Command::Resolve { id, note }) => {
            let body = json!({"divergence": id.to_string(), "note": note});
            let done = admin.act("/actions/resolve", &body).await?;
            (done, format!("divergence {id} is settled\n"), false)
        }
    };
    args.node.print(&value, &text)?;
    Ok(if open { Exit::Divergence } else { Exit::Ok })
}

fn is_open(row: &Value) -> bool {
    row["state"] == "open"
}

fn list(rows: &[Value]) -> String {
    if rows.is_empty() {
        return "nothing was found to differ\n".to_owned();
    }
    let cells = |row: &Value| {
        let spec = if row["spec"].is_null() { "the whole log".to_owned() } else { plain(&row["spec"]) };
        let (id, kind, state, party) =
            (plain(&row["id"]), plain(&row["kind"]), plain(&row["state"]), plain(&row["party"]));
        vec![id, kind, state, time(&row["first_seen"]), party, spec]
    };
    let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
    columns(&["ID", "KIND", "STATE", "FIRST SEEN (UTC)", "OPENED BY", "OF"], &rows)
}

fn show(row: &Value) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            text.push_str(&format!("{name:<12}{value}\n"));
        }
    };
    line("divergence", plain(&row["id"]));
    line("kind", plain(&row["kind"]));
    line("state", plain(&row["state"]));
    line("of", plain(&row["spec"]));
    line("opened by", plain(&row["party"]));
    line("first seen", time(&row["first_seen"]));
    line("last seen", time(&row["last_seen"]));
    line("note", plain(&row["note"]));
    let came = &row["received"];
    line("served at", plain(&came["url"]));
    line("flaw", plain(&came["flaw"]));
    line("sha256", plain(&came["sha256"]));
    let words = row["words"].as_array().map_or(&[][..], Vec::as_slice);
    if !words.is_empty() {
        let cells = |word: &Value| {
            let entry = format!("{} {}", plain(&word["source"]), plain(&word["number"]));
            vec![plain(&word["party"]), plain(&word["sum"]), plain(&word["size"]), entry, time(&word["at"])]
        };
        let rows: Vec<Vec<String>> = words.iter().map(cells).collect();
        text.push('\n');
        text.push_str(&columns(&["PARTY", "SUM", "SIZE", "ENTRY", "WHEN (UTC)"], &rows));
    }
    for pair in row["comparisons"].as_array().map_or(&[][..], Vec::as_slice) {
        text.push_str(&compared(pair));
    }
    text
}

/// How the binaries behind two sums differ.
fn compared(pair: &Value) -> String {
    let [one, other] = [plain(&pair["between"][0]), plain(&pair["between"][1])];
    let head = format!("\nbinaries of {one} and {other}");
    match Comparison::from_json(&pair["comparison"]) {
        Ok(comparison) => format!("{head}: {}\n{}", comparison.summary(), tables(&comparison, [&one, &other])),
        Err(_) => format!("{head} are not compared: {}\n", plain(&pair["missing"])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_read() {
        let row = json!({
            "id": "7", "kind": "divergence", "state": "open", "spec": "a.example/m@v1.0.0/linux-amd64-go1.27.1/",
            "party": "beta", "first_seen": "2026-11-21T09:30:00Z", "last_seen": "2026-11-21T09:31:00Z",
            "words": [{"party": "beta", "source": "claims", "number": 3, "sum": "0abc", "size": 5,
                       "at": "2026-11-21T09:29:00Z"}],
            "comparisons": [{"between": ["alpha", "beta"], "missing": "0abc is not at hand (beta: gone)"}],
        });
        let listed = "\
ID  KIND        STATE  FIRST SEEN (UTC)     OPENED BY  OF
7   divergence  open   2026-11-21 09:30:00  beta       a.example/m@v1.0.0/linux-amd64-go1.27.1/
";
        assert_eq!(list(std::slice::from_ref(&row)), listed);
        let shown = "\
divergence  7
kind        divergence
state       open
of          a.example/m@v1.0.0/linux-amd64-go1.27.1/
opened by   beta
first seen  2026-11-21 09:30:00
last seen   2026-11-21 09:31:00

PARTY  SUM   SIZE  ENTRY     WHEN (UTC)
beta   0abc  5     claims 3  2026-11-21 09:29:00

binaries of alpha and beta are not compared: 0abc is not at hand (beta: gone)
";
        assert_eq!(show(&row), shown);
        assert_eq!(list(&[]), "nothing was found to differ\n");
    }
}
