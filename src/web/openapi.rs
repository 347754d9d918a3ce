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
                            The log itself is served under /tlog, /log and /claims, for programs that verify.",
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
            "/api/v1/peers": path("The peers of this node.", paging(), list("Peer"), &["400"]),
            "/api/v1/divergences": path("Who named different sums for one spec.", paging(), list("Divergence"), &["400"]),
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
        "Peer": object(&["name", "vkey", "url"], json!({
            "name": string("As the operator calls it."), "vkey": string("Its verifier key."), "url": string("Where it is."),
        })),
        "Divergence": object(&["id", "kind", "state"], json!({
            "id": string("Its name."), "kind": string("What kind."), "state": {"enum": ["open", "resolved"]},
        })),
    })
}
