//! Peers that say anything at all: real sockets on loopback, on which bytes are written as no HTTP library would.

mod asks;
mod hostile;
mod logs;
mod mirror;
mod property;
mod refusals;
mod streams;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use self::hostile::Hostile;
use super::{Event, EventStream, Fault, Http, LogClient, NodeClient, SignedHead, Timing, Which};
use crate::tlog::{Hash, Head, SUMDB_ORIGIN, SignerKey, TreeSize, sign_note};

/// One for all tests: making it reads all roots of the system.
fn http() -> Arc<Http> {
    static HTTP: LazyLock<Arc<Http>> = LazyLock::new(|| Arc::new(Http::new().unwrap()));
    Arc::clone(&HTTP)
}

/// Long enough for what must arrive on a busy machine.
fn patient() -> Timing {
    let long = Duration::from_secs(60);
    Timing { first_byte: long, whole: long, silence: long, lookup: long }
}

/// Short enough to wait for what must not.
fn hasty() -> Timing {
    let short = Duration::from_millis(400);
    Timing { first_byte: short, whole: short, silence: short, lookup: short }
}

fn signer() -> SignerKey {
    SignerKey::generate("up.example", [7; 32]).unwrap()
}

/// A head of the log `which` of the node of [`signer`]; no entries give its root.
fn head(which: Which, size: u64, signer: &SignerKey) -> SignedHead {
    let claims = format!("{}/claims", signer.name());
    let (origin, signer) = match which {
        Which::Tlog => (SUMDB_ORIGIN, signer.clone()),
        Which::Claims => (claims.as_str(), signer.as_name(&claims)),
    };
    let root = if size == 0 { Hash::EMPTY_ROOT } else { Hash([size.to_le_bytes()[0]; 32]) };
    let head = Head { origin: origin.to_owned(), size: TreeSize::new(size).unwrap(), root };
    let note = sign_note(&head.to_text(), &[&signer]);
    SignedHead { head, note }
}

fn log_of(server: &Hostile, which: Which, timing: Timing) -> LogClient {
    LogClient::new(http(), server.base.clone(), which, &signer().verifier()).with_timing(timing)
}

fn node_of(server: &Hostile, timing: Timing) -> NodeClient {
    NodeClient::new(http(), server.base.clone()).with_timing(timing)
}

fn entry(number: u64, text: &str) -> Event {
    Event::Entry { number, text: format!("{text}\n").into_bytes() }
}

/// All events of a stream, and how it ended: nothing for an end after a whole frame.
async fn all(mut stream: EventStream) -> (Vec<Event>, Option<Fault>) {
    let mut events = Vec::new();
    loop {
        match stream.next().await {
            Ok(Some(event)) => events.push(event),
            Ok(None) => return (events, None),
            Err(fault) => {
                assert!(matches!(stream.next().await, Ok(None)), "nothing comes after a fault");
                return (events, Some(fault));
            }
        }
    }
}

/// The kind of a fault, for comparing.
fn kind(fault: &Fault) -> &'static str {
    match fault {
        Fault::Refused { .. } => "refused",
        Fault::Beyond { .. } => "beyond",
        Fault::Unsigned(_) => "unsigned",
        Fault::Malformed(_) => "malformed",
        Fault::Network(_) => "network",
    }
}
