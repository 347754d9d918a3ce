//! The description of the API that the node serves (OpenAPI 3.1), made here by hand so that it says
//! in full sentences what each part is. A test asks for every path in it.

use axum::body::Body;
use axum::http::Response;
use serde_json::{Value, json};

use super::Call;
use super::api::json as answer;
use super::error::Error;

/// The description as an answer.
pub(super) fn describe(_call: &Call<'_>) -> Result<Response<Body>, Error> {
    Ok(answer(&description()))
}

/// The description.
pub(super) fn description() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "sumpeer",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "An independent peer that rebuilds Go programs and keeps a log of their sums. \
                            The log itself is served under /tlog, /log and /claims, for programs that verify; \
                            /feed.atom has divergences and silences for feed readers.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": {
            "/api/v1/node": path("What this node is.", vec![], reference("Node"), &[]),
            "/api/v1/records": path("The records, in the order of the log.", paging(), list("Record"), &["400"]),
            "/api/v1/records/{number}": path(
                "One record with its inclusion proof.",
                vec![parameter("number", "path", "Its entry in the accepted log, from 0.", json!({"type": "integer", "minimum": 0}))],
                reference("ProvenRecord"),
                &["404"],
            ),
            "/api/v1/verdict/{spec}": path(
                "What is known of a spec. It starts no build.",
                vec![parameter(
                    "spec", "path",
                    "module@version/[dir/]goos-goarch-goversion[-stripped]/, slashes as they are, with the last one.",
                    json!({"type": "string"}),
                )],
                reference("Verdict"),
                &["400", "404"],
            ),
            "/api/v1/queue": path("What is building, waiting and backing off.", paging(), list("Build"), &["400"]),
            "/api/v1/audit": path("How far the logs of observed peers are audited.", vec![], audits(), &[]),
            "/api/v1/peers": path("The peers of this node.", paging(), list("Peer"), &["400"]),
            "/api/v1/divergences": path("What was found to differ.", paging(), list("Divergence"), &["400"]),
            "/api/v1/divergences/{id}": path("One divergence.", vec![divergence_id()], reference("Divergence"), &["404"]),
            "/api/v1/divergences/{id}/evidence": path(
                "The file that proves it, for `sumpeer evidence verify`. While no signed head covers the words: 503.",
                vec![divergence_id()],
                reference("Evidence"),
                &["404", "503"],
            ),
            "/api/v1/alerts": path(
                "What the operator is told of.",
                [paging(), vec![parameter("state", "query", "Only those that hold.", json!({"enum": ["open"]}))]].concat(),
                list("Alert"),
                &["400"],
            ),
            "/api/v1/alerts/{id}": path("One alert.", vec![divergence_id()], reference("Alert"), &["404"]),
            "/api/openapi.json": path("This description.", vec![], json!({"type": "object"}), &[]),
        },
        "components": {"schemas": schemas()},
    })
}

fn path(summary: &str, parameters: Vec<Value>, schema: Value, errors: &[&str]) -> Value {
    let mut responses = json!({
        "200": {"description": "Here it is.", "content": {"application/json": {"schema": schema}}},
        "429": error("Too many requests from one network; Retry-After says when to come back."),
    });
    for status in errors {
        responses[status] = error(match *status {
            "400" => "The request is malformed.",
            "503" => "Not yet; Retry-After says when to ask again.",
            _ => "There is no such thing.",
        });
    }
    json!({"get": {"summary": summary, "parameters": parameters, "responses": responses}})
}

fn error(description: &str) -> Value {
    json!({"description": description, "content": {"application/json": {"schema": reference("Error")}}})
}

fn parameter(name: &str, place: &str, description: &str, schema: Value) -> Value {
    json!({"name": name, "in": place, "required": place == "path", "description": description, "schema": schema})
}

fn paging() -> Vec<Value> {
    vec![
        parameter("after", "query", "The `next` of the page before.", json!({"type": "string"})),
        parameter(
            "limit",
            "query",
            "Items a page.",
            json!({"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}),
        ),
    ]
}

fn divergence_id() -> Value {
    parameter("id", "path", "Its number.", json!({"type": "string", "pattern": "^[0-9]+$"}))
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn list(name: &str) -> Value {
    object(
        &["items", "next"],
        json!({
            "items": {"type": "array", "items": reference(name)},
            "next": {"type": ["string", "null"], "description": "For `after`; null on the last page."},
        }),
    )
}

fn object(required: &[&str], properties: Value) -> Value {
    json!({"type": "object", "required": required, "properties": properties})
}

fn string(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

fn integer(description: &str) -> Value {
    json!({"type": "integer", "minimum": 0, "description": description})
}

fn time(description: &str) -> Value {
    json!({"type": "string", "format": "date-time", "description": description})
}

fn schemas() -> Value {
    let strings = json!({"type": "array", "items": {"type": "string"}});
    let record = json!({
        "number": integer("Entry in the accepted log, from 0."),
        "spec": string("What was built."),
        "size": integer("Bytes of the binary."),
        "sum": string("0 and base64url of the first 20 bytes of the binary's SHA-256."),
        "record": string("The exact text in the log."),
        "at": time("When it was accepted."),
    });
    let mut proven = record.clone();
    proven["proof"] = json!({"type": "array", "items": {"type": "string"}, "description": "Hashes in base64, the leaf's sibling first."});
    proven["head"] = string("The signed head that the proof leads to.");
    let fields = ["number", "spec", "size", "sum", "record", "at"];
    json!({
        "Error": object(&["error", "class"], json!({"error": string("One sentence."), "class": string("One word.")})),
        "Node": object(&["name", "vkey", "mode", "version", "size", "claims", "voters", "builder", "notes"], json!({
            "name": string("Name of the node's key."),
            "vkey": string("Verifier key of the node."),
            "mode": {"enum": ["build", "verify-only"]},
            "version": string("Version of the program."),
            "size": integer("Entries in the accepted log."),
            "claims": integer("Entries in the claims log."),
            "voters": {"type": "array", "items": object(&["name", "vkey", "source"], json!({
                "name": string("As the operator calls it."),
                "vkey": string("Its verifier key."),
                "source": {"enum": ["self", "claims", "log"]},
            }))},
            "builder": {"oneOf": [{"type": "null"}, object(&["host", "sandbox", "toolchains"], json!({
                "host": string("System and processor."),
                "sandbox": string("How builds are walled in."),
                "toolchains": strings.clone(),
            }))]},
            "notes": string("The operator's words."),
        })),
        "Record": object(&fields, record),
        "ProvenRecord": object(&[fields.as_slice(), &["proof", "head"]].concat(), proven),
        "Verdict": object(&["spec", "verdict", "record", "waiting_for", "words"], json!({
            "spec": string("Of what."),
            "verdict": {"enum": ["accepted", "waiting", "disputed", "cannot-build", "unknown"]},
            "record": {"oneOf": [{"type": "null"}, object(&["number", "size", "sum"], json!({
                "number": integer("Entry in the accepted log."),
                "size": integer("Bytes."),
                "sum": string("Its sum."),
            }))]},
            "waiting_for": strings.clone(),
            "words": {"type": "array", "items": reference("Word")},
        })),
        "Word": object(&["party", "vkey", "source", "number", "at"], json!({
            "party": string("Who said it."),
            "vkey": string("Its verifier key."),
            "source": {"enum": ["self", "claims", "log"]},
            "number": integer("Entry in that party's log."),
            "sum": string("What it found; left out if it cannot build it."),
            "size": integer("Bytes; left out if it cannot build it."),
            "cannot_build": string("The class of why not; left out if it can."),
            "at": time("When, by its own clock."),
        })),
        "Build": object(&["spec", "state"], json!({
            "spec": string("Of what."),
            "state": {"enum": ["queued", "running", "backoff"]},
            "since": time("When it was asked for."),
            "position": integer("Builds before this one."),
            "phase": {"enum": ["toolchain", "modules", "compile", "voters"]},
            "done": integer("Progress of the phase."),
            "total": integer("What `done` will be at its end, if that is known."),
            "detail": string("Why it failed for now."),
            "tries": integer("How often it was tried."),
            "until": time("When it is tried again."),
        })),
        "Audit": audit(),
        "Peer": peer(&strings),
        "Divergence": divergence(),
        "Alert": alert(),
        "Evidence": json!({"type": "object", "description": "As docs/PROTOCOL.md has it."}),
    })
}

fn audits() -> Value {
    let mut audits = list("Audit");
    audits["properties"]["begun_today"] = integer("Builds for audits that were begun on this day (UTC).");
    audits["properties"]["stopped"] = string("Why nothing is built any more; left out while there is no reason.");
    audits
}

fn audit() -> Value {
    let differing = object(
        &["number", "spec", "size", "sum"],
        json!({
            "number": integer("Entry in the peer's log."),
            "spec": string("What it is about."),
            "size": integer("Bytes that the peer names."),
            "sum": string("Sum that the peer names."),
            "at": time("When it was found to differ."),
            "reproduced_at": time("When this sum, or one that the peer named before, was reproduced; left out if never."),
        }),
    );
    let properties = json!({
        "peer": string("As the operator calls it."),
        "vkey": string("Its verifier key."),
        "log": {"enum": ["claims", "log"]},
        "size": integer("Entries of its log that are proven and stored."),
        "from": integer("Entries before this one do not count."),
        "looked_at": integer("Entries before this one were looked at."),
        "since": time("When the first entry was looked at."),
        "selection": string("The settings by which entries were chosen."),
        "chosen": integer("Entries that are to be built again."),
        "reproduced": integer("Of these: with the same size and sum here."),
        "differs": integer("Of these: with another one here."),
        "cannot_build": integer("Of these: not to be built here."),
        "pending": integer("Of these: not built yet."),
        "differing": {"type": "array", "items": differing, "description": "The newest 20 that differ."},
    });
    let required: Vec<&str> = properties.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    object(&required, properties.clone())
}

fn peer(strings: &Value) -> Value {
    let counts = object(
        &["agree", "differ", "missing", "cannot_build"],
        json!({
            "agree": integer("Specs of which it has named the same sum and size as this node."),
            "differ": integer("Specs of which it has named others."),
            "missing": integer("Specs that this node has a sum of and the peer has said nothing about."),
            "cannot_build": integer("Specs that it found to be impossible to build."),
        }),
    );
    let log = object(
        &["log", "downloaded", "verified", "lag"],
        json!({
            "log": {"enum": ["claims", "log"]},
            "size": integer("Entries that its newest signed head covers."),
            "root": string("Root hash of that head."),
            "head": string("The signed note."),
            "head_at": time("When it was seen."),
            "downloaded": integer("Entries held, proven or not."),
            "verified": integer("Entries proven and stored."),
            "lag": integer("Entries that the head is ahead of those."),
        }),
    );
    object(
        &["name", "vkey", "url", "vote", "state", "quarantine", "logs", "counts", "gaps", "not_words"],
        json!({
            "name": string("As the operator calls it."),
            "vkey": string("Its verifier key."),
            "url": string("Where it is."),
            "kind": {"enum": ["sumpeer", "gobuild"]},
            "vote": {"type": "boolean", "description": "Whether its word is needed for a record."},
            "state": {"enum": ["following", "polling", "catching-up", "backoff", "quarantined"]},
            "quarantine": {"oneOf": [{"type": "null"}, object(&["since", "reason", "divergence"], json!({
                "since": time("Since when it is not believed."),
                "reason": string("One sentence."),
                "divergence": string("The divergence that shows it."),
            }))]},
            "connected_since": time("Since when it is followed without a break."),
            "logs": {"type": "array", "items": log},
            "counts": counts,
            "gaps": integer("Gaps and repeats in its streams."),
            "not_words": integer("Entries of its log that are no words."),
            "ring": strings.clone(),
            "last_error": string("The last thing that went wrong."),
        }),
    )
}

fn word() -> Value {
    object(
        &["party", "vkey", "source", "number", "sum", "size"],
        json!({
            "party": string("Who said it."),
            "vkey": string("Its verifier key."),
            "source": {"enum": ["claims", "log"]},
            "number": integer("Entry in that log of the party."),
            "sum": string("What it named."),
            "size": integer("Bytes."),
            "at": time("When, by its own clock; left out for records, which say no time."),
        }),
    )
}

fn divergence() -> Value {
    let received = object(
        &["url", "flaw", "size", "sha256", "unpacked", "sum", "kept"],
        json!({
            "url": string("Where it came from."),
            "flaw": string("What is wrong with it, in a sentence."),
            "size": integer("Bytes as they came."),
            "sha256": string("Of the bytes as they came."),
            "unpacked": integer("Bytes that could be unpacked, at most the size that was signed for."),
            "sum": string("Of the unpacked bytes."),
            "kept": {"type": "boolean", "description": "Whether the bytes are in the folder evidence, under their SHA-256."},
        }),
    );
    let compared = object(
        &["between"],
        json!({
            "between": {"type": "array", "items": string("Who named one of the two sums.")},
            "comparison": {"type": "object", "description": "How the two binaries differ: class, binaries, \
                first_difference, differing_bytes, sections, symbols, paths."},
            "missing": string("Which binary is not at hand, and why."),
            "next_at": time("When it is tried again."),
        }),
    );
    object(
        &["id", "kind", "state", "spec", "words", "first_seen", "last_seen"],
        json!({
            "id": string("Its number."),
            "kind": string("divergence, contradiction, fork, rollback, bad-root, mirror-mismatch or own-log."),
            "state": {"enum": ["open", "resolved"]},
            "spec": {"type": ["string", "null"], "description": "Of what; null if it is about a whole log."},
            "party": string("Whose word or head opened it."),
            "vkey": string("Its verifier key."),
            "words": {"type": "array", "items": word(), "description": "Of each party the newest 20."},
            "received": received,
            "comparisons": {"type": "array", "items": compared, "description": "How the binaries differ; only of one."},
            "first_seen": time("When it was found."),
            "last_seen": time("When it was last seen again."),
            "note": string("How the operator settled it."),
        }),
    )
}

fn alert() -> Value {
    object(
        &["id", "kind", "state", "summary", "words", "first_seen", "last_seen", "url"],
        json!({
            "id": string("Its number."),
            "kind": string("divergence, contradiction, fork, rollback, bad-root, mirror-mismatch, peer-silent, peer-back, \
                            cannot-build-here, own-log or disk; there may be others."),
            "state": {"enum": ["open", "resolved"]},
            "spec": string("Of what."),
            "party": string("Whom it is about."),
            "vkey": string("Its verifier key."),
            "summary": string("One sentence."),
            "words": {"type": "array", "items": word(), "description": "Who said what; of each party the newest 20."},
            "first_seen": time("When it was raised."),
            "last_seen": time("When it was last seen again, or ended."),
            "url": string("The page that has more to say."),
        }),
    )
}
