//! A stream's events: entries with their numbers, and heads with good signatures.
//!
//! eventsource-client reads the fields, and nothing else of it is used: the request was sent and judged before
//! ([`super::client`]), its bytes come through [`super::blocks`], and it never connects again, as it forgets its
//! position when an event has no id, asks again after 204 and 404 for ever, and obeys `retry: 0`.
//!
//! Whether numbers follow each other is the follower's to see: they are passed on as they come.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::anyhow;
use bytes::Bytes;
use eventsource_client::{BoxStream as SyncStream, Client as _, ClientBuilder, Error, ReconnectOptions, SSE};
use futures_util::stream::{BoxStream, Stream};
use futures_util::{StreamExt as _, future};
use launchdarkly_sdk_transport::{ByteStream, HttpTransport, Request, Response, ResponseFuture, TransportError};

use super::blocks::{Broken, blocks};
use super::fetch::pause;
use super::{Fault, LogClient, SignedHead};
use crate::model::canonical_decimal;
use crate::tlog::MAX_SIZE;

/// What a stream says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An entry, unsigned until a head covers it.
    Entry {
        /// From 0.
        number: u64,
        /// As it is hashed: with its final newline.
        text: Vec<u8>,
    },
    /// A head signed by the peer's key, over all entries up to the last one it covers.
    Head(SignedHead),
    /// How long the peer wants to be left alone after this connection, between a second and ten minutes.
    Retry(Duration),
}

/// One connection to a log's stream.
pub struct EventStream {
    frames: SyncStream<eventsource_client::Result<SSE>>,
    log: LogClient,
    /// Of a frame that says two things, the second.
    second: Option<Event>,
    ended: bool,
}

impl EventStream {
    /// Reads the body of a stream's answer, whose status and type were checked.
    pub(super) fn new(body: BoxStream<'static, io::Result<Bytes>>, log: LogClient, silence: Duration) -> EventStream {
        let body = blocks(body, silence).map(|batch| batch.map_err(TransportError::new));
        let body: ByteStream = Box::pin(Shareable(Mutex::new(body.boxed())));
        let frames = ClientBuilder::for_url("http://peer/")
            .expect("a plain address")
            .redirect_limit(0)
            .reconnect(ReconnectOptions::reconnect(false).retry_initial(false).build())
            .build_with_transport(Connected(Arc::new(Mutex::new(Some(body)))))
            .stream();
        EventStream { frames, log, second: None, ended: false }
    }

    /// The next event; none once the peer has ended the stream after a whole frame, or after a fault. May be cancelled:
    /// nothing gets lost.
    ///
    /// # Errors
    /// [`Fault::Malformed`] and [`Fault::Unsigned`] by what came, [`Fault::Network`] if it was cut inside a frame or
    /// nothing whole came for three heartbeats. All that came whole before is handed out first.
    pub async fn next(&mut self) -> Result<Option<Event>, Fault> {
        if let Some(event) = self.second.take() {
            return Ok(Some(event));
        }
        while !self.ended {
            let result = match self.frames.next().await {
                Some(Ok(SSE::Event(frame))) => self.read(frame),
                // Comments do not get here; that there is a connection was known.
                Some(Ok(SSE::Connected(_) | SSE::Comment(_))) => continue,
                // Ends inside a frame were told apart before.
                None | Some(Err(Error::Eof | Error::UnexpectedEof)) => {
                    self.ended = true;
                    break;
                }
                Some(Err(error)) => Err(fault(&error)),
            };
            match result {
                Ok(None) => {}
                Ok(Some(event)) => return Ok(Some(event)),
                Err(fault) => {
                    self.ended = true;
                    return Err(fault);
                }
            }
        }
        Ok(None)
    }

    fn read(&mut self, frame: eventsource_client::Event) -> Result<Option<Event>, Fault> {
        let number = frame.id.as_deref().and_then(canonical_decimal).filter(|number| *number < MAX_SIZE);
        let number = number.ok_or_else(|| Fault::Malformed("the id of a frame is no entry number".to_owned()))?;
        let mut text = frame.data;
        text.push('\n');
        let event = match frame.event_type.as_str() {
            "entry" => Some(Event::Entry { number, text: text.into_bytes() }),
            "head" => {
                let signed = self.log.check_head(&text)?;
                if signed.head.size.get() != number + 1 {
                    let size = signed.head.size;
                    return Err(Fault::Malformed(format!("a head of size {size} comes with the id {number}")));
                }
                Some(Event::Head(signed))
            }
            // Of a later version of the protocol.
            _ => None,
        };
        let Some(retry) = frame.retry else {
            return Ok(event);
        };
        self.second = event;
        Ok(Some(Event::Retry(pause(Duration::from_millis(retry)))))
    }
}

fn fault(error: &Error) -> Fault {
    let broken = match error {
        Error::Transport(error) => error.inner().downcast_ref::<Broken>(),
        _ => None,
    };
    match broken {
        Some(Broken::Malformed(what)) => Fault::Malformed(what.clone()),
        Some(Broken::Lost(why)) => Fault::Network(anyhow!(why.clone())),
        None => Fault::Malformed(format!("a frame cannot be read: {error}")),
    }
}

/// A transport that was there already: the one body, for the first who asks.
#[derive(Clone)]
struct Connected(Arc<Mutex<Option<ByteStream>>>);

impl HttpTransport for Connected {
    fn request(&self, _: Request<Option<Bytes>>) -> ResponseFuture {
        let body = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let answer = body.map(Response::new).ok_or_else(|| TransportError::new(io::Error::other("asked for twice")));
        Box::pin(future::ready(answer))
    }
}

/// A stream as one that may be shared, which the crate asks for. It is never locked: who polls it has it for himself.
struct Shareable<S>(Mutex<S>);

impl<S: Stream + Unpin> Stream for Shareable<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<S::Item>> {
        self.get_mut().0.get_mut().unwrap_or_else(PoisonError::into_inner).poll_next_unpin(context)
    }
}
