//! How many entries of a peer's stream one core reads: `cargo bench --bench stream -- [ENTRIES]`.
//!
//! The bytes come from memory, in pieces as a network gives them, through the same boundary as from a real peer. What
//! hashing and storing cost is not in it.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use sumpeer::peer::{Answer, Ask, Event, LogClient, Transport, Which};
use sumpeer::tlog::SignerKey;

/// About what is read from a socket at once.
const PIECE_BYTES: usize = 16 << 10;

struct Memory(Bytes);

impl Transport for Memory {
    fn send(&self, _: Ask) -> BoxFuture<'static, anyhow::Result<Answer>> {
        let mut rest = self.0.clone();
        let pieces = std::iter::from_fn(move || {
            let piece = rest.split_to(rest.len().min(PIECE_BYTES));
            (!piece.is_empty()).then_some(io::Result::Ok(piece))
        });
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"))]);
        let answer = Answer { status: StatusCode::OK, headers, body: stream::iter(pieces).boxed() };
        async { Ok(answer) }.boxed()
    }
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let entries: u64 = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(1_000_000);
    let claim = r#"{"spec":"filippo.io/age@v1.2.1/cmd/age/linux-amd64-go1.27.1/","size":6000000,"sum":"0mmzT7CUbKD22iFGQ8mKMjy1eYoo","at":"2026-11-21T09:30:00Z","host":"linux/amd64","toolchain":"h1:x"}"#;
    let record = "filippo.io/age v1.2.1 /cmd/age linux amd64 go1.27.1 6000000 0mmzT7CUbKD22iFGQ8mKMjy1eYoo ";
    let key = SignerKey::generate("bench.example", [1; 32])?.verifier();
    for (name, text) in [("records", record), ("claims", claim)] {
        let mut body = String::new();
        for number in 0..entries {
            body.push_str(&format!("id: {number}\nevent: entry\ndata: {text}\n\n"));
        }
        let bytes = body.len();
        let log = LogClient::new(Arc::new(Memory(body.into())), "http://peer/".parse()?, Which::Tlog, &key);
        let began = Instant::now();
        let mut events = log.stream(None).await?;
        let mut next = 0;
        while let Some(Event::Entry { number, .. }) = events.next().await? {
            anyhow::ensure!(number == next, "entry {number} came for {next}");
            next += 1;
        }
        anyhow::ensure!(next == entries, "{next} of {entries} entries came");
        let seconds = began.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let (a_second, mib) = (entries as f64 / seconds, bytes as f64 / seconds / f64::from(1 << 20));
        println!("{name}: {a_second:.0} entries a second, {mib:.0} MiB a second");
    }
    Ok(())
}
