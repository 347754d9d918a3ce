//! What happens, told as it happens.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use sumpeer::model::Spec;
use sumpeer::tlog::parse_lookup;

use crate::http::Answer;
use crate::nodes::{Node, Place};
use crate::sumpeer;

/// How long evidence may take: it needs a head that covers the words.
const EVIDENCE: Duration = Duration::from_secs(60);
/// Between two looks at what the nodes do.
const LOOK: Duration = Duration::from_secs(1);

#[expect(clippy::print_stdout, reason = "the story is what this program is for")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// Who there is.
pub(crate) fn begin(nodes: &[Node], liar: Option<&Place>, data: &Path) {
    say("Three nodes, each with a key and data of its own; a record needs the word of all three:");
    for node in nodes {
        say(&format!("  {:<6} {}   configuration {}", node.name, node.url, node.config.display()));
    }
    if let Some(liar) = liar {
        say(&format!("  {:<6} {}   names another sum for whatever {} finds", liar.name, liar.url, nodes[0].name));
    }
    say(&format!("All that they keep, and their logs, are below {}.", data.display()));
}

/// All find the same, and have the same record. Gives pages to look at.
pub(crate) fn accepted(nodes: &[Node], spec: &Spec) -> anyhow::Result<Vec<String>> {
    let answer = ask(nodes, spec)?;
    ensure!(answer.status == 200, "{} answers {}: {}", nodes[0].name, answer.status, answer.text().trim_end());
    words(&nodes[0], spec)?;
    say("\nAll voters agree, so it is accepted:");
    let mut records = Vec::new();
    for node in nodes {
        // The others were not asked. This waits until they have heard the last word, too.
        let answer = node.get(&lookup(spec))?;
        ensure!(answer.status == 200, "{} answers {}: {}", node.name, answer.status, answer.text().trim_end());
        let (number, record, _) = parse_lookup(&answer.body).context("a lookup's answer")?;
        say(&format!("  {:<6} record {number}: {}", node.name, record.trim_end()));
        records.push(record.to_owned());
    }
    ensure!(records.iter().all(|record| *record == records[0]), "the records differ");
    say("\nThe same record, byte for byte, in three logs that grew without trusting each other.");
    Ok(nodes.iter().flat_map(|node| [format!("{}/", node.url), format!("{}/{spec}", node.url)]).collect())
}

/// One names another sum: nothing is recorded, and that is proven. Gives pages to look at.
pub(crate) fn refused(nodes: &[Node], spec: &Spec, data: &Path) -> anyhow::Result<Vec<String>> {
    let answer = ask(nodes, spec)?;
    ensure!(answer.status == 409, "{} answers {}: {}", nodes[0].name, answer.status, answer.text().trim_end());
    words(&nodes[0], spec)?;
    say(&format!("\nThey differ, so it is refused: 409 {}", answer.text().trim_end()));
    for node in nodes {
        let verdict = node.json(&format!("/api/v1/verdict/{spec}"))?;
        ensure!(verdict["record"].is_null(), "{} has recorded what is disputed", node.name);
        let verdict = verdict["verdict"].as_str().unwrap_or_default();
        say(&format!("  {:<6} says {verdict}, and has no record of it", node.name));
    }
    let list = nodes[0].json("/api/v1/divergences")?;
    let found = list["items"].as_array().and_then(|items| items.iter().find(|item| item["spec"] == spec.to_string()));
    let id = found.and_then(|found| found["id"].as_str()).context("no divergence is stored")?;
    say(&format!("\nStored by {} as divergence {id}. Its evidence, checked offline:", nodes[0].name));
    let file = data.join("evidence.json");
    fs::write(&file, evidence(&nodes[0], id)?)?;
    let verified = sumpeer()?.args(["evidence", "verify"]).arg(&file).output()?;
    for line in String::from_utf8_lossy(&verified.stdout).lines() {
        say(&format!("  {line}"));
    }
    ensure!(verified.status.success(), "the evidence proves nothing: {}", String::from_utf8_lossy(&verified.stderr));
    let (url, file) = (&nodes[0].url, file.display());
    Ok(vec![format!("{url}/divergences"), format!("{url}/divergences/{id}"), format!("{url}/{spec}"), file.to_string()])
}

fn evidence(node: &Node, id: &str) -> anyhow::Result<Vec<u8>> {
    let began = Instant::now();
    loop {
        let answer = node.get(&format!("/api/v1/divergences/{id}/evidence"))?;
        match answer.status {
            200 => return Ok(answer.body),
            503 if began.elapsed() < EVIDENCE => thread::sleep(LOOK),
            status => bail!("there is no evidence: {status} {}", answer.text().trim_end()),
        }
    }
}

/// Asks the first node, and tells what all of them do meanwhile.
fn ask(nodes: &[Node], spec: &Spec) -> anyhow::Result<Answer> {
    say(&format!("\nAsking {}: curl {}{}", nodes[0].name, nodes[0].url, lookup(spec)));
    say(
        "Each node downloads the Go release for itself, checks it, and compiles the standard library: some minutes the",
    );
    say("first time, as the nodes share nothing but this machine.");
    let began = Instant::now();
    let mut told = vec![String::new(); nodes.len()];
    thread::scope(|scope| {
        let asked = scope.spawn(|| {
            loop {
                let answer = nodes[0].get(&lookup(spec))?;
                // 503: it was waited for as long as the node lets anyone wait.
                if answer.status != 503 {
                    return anyhow::Ok(answer);
                }
                thread::sleep(LOOK);
            }
        });
        while !asked.is_finished() {
            for (node, told) in nodes.iter().zip(&mut told) {
                let now = doing(node, spec)?;
                if now != *told {
                    say(&format!("  {:>4} s  {:<6} {now}", began.elapsed().as_secs(), node.name));
                    *told = now;
                }
            }
            thread::sleep(LOOK);
        }
        asked.join().map_err(|_| anyhow::anyhow!("asking has failed"))?
    })
}

/// What a node does about a spec, in a few words.
fn doing(node: &Node, spec: &Spec) -> anyhow::Result<String> {
    let verdict = node.json(&format!("/api/v1/verdict/{spec}"))?;
    let own = verdict["words"].as_array().into_iter().flatten().find(|word| word["source"] == "self");
    if let Some(own) = own {
        return Ok(match own["sum"].as_str() {
            Some(sum) => format!("has built it: {sum}"),
            None => format!("cannot build it: {}", own["cannot_build"]),
        });
    }
    let queue = node.json("/api/v1/queue")?;
    let items = queue["items"].as_array();
    let item = items.and_then(|items| items.iter().find(|item| item["spec"] == spec.to_string()));
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Ok(match item {
        None => "is idle".to_owned(),
        Some(item) => match (text(&item["phase"]), text(&item["detail"])) {
            (Some(phase), _) => format!("is building: {phase}"),
            (None, Some(detail)) => format!("tries again in a while: {detail}"),
            (None, None) => "is about to build".to_owned(),
        },
    })
}

/// Who said what, as a node has proven it.
fn words(node: &Node, spec: &Spec) -> anyhow::Result<()> {
    let verdict = node.json(&format!("/api/v1/verdict/{spec}"))?;
    say(&format!("\nWhat {} has heard and proven:", node.name));
    for word in verdict["words"].as_array().into_iter().flatten() {
        let [party, sum] = ["party", "sum"].map(|name| word[name].as_str().unwrap_or_default());
        say(&format!("  {party:<12} claim {} of its log: {sum} ({} bytes)", word["number"], word["size"]));
    }
    Ok(())
}

fn lookup(spec: &Spec) -> String {
    format!("/tlog/lookup/{spec}")
}
