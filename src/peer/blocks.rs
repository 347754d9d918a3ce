//! The bytes of a stream as whole, checked blocks: what comes before the crate that reads their fields.
//!
//! Server-sent events are lenient by their standard, and eventsource-client follows it and adds some: it holds a line of
//! any length; a frame without an id gets the id of the frame before; one bad block takes the rest of its chunk with
//! it, so that what is delivered depends on how the bytes were cut; and the end of a body inside a frame looks like any
//! other end. Here a lost or invented id is a lost or invented entry. So this layer passes on a block only when it is
//! complete, and only if the crate can read it in one way: lines end in LF, each field but `data` stands at most once,
//! other fields and comments are gone, the text is UTF-8, and whoever has `data` has an `id` of its own, in plain
//! digits. A block without data says nothing and is dropped, so no id carries over from it either.
//!
//! The meaning of fields is left to [`super::frames`].

use std::mem;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream, Stream};
use tokio::time::{Instant, timeout_at};

use crate::model::canonical_decimal;

/// Bytes between two blank lines, comments included.
pub(super) const BLOCK_LIMIT_BYTES: usize = 64 << 10;
/// Bytes of blocks that are passed on at once, if there are several.
const BATCH_BYTES: usize = 64 << 10;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Why a stream is not read on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    /// The peer sent what the protocol does not know.
    #[error("{0}")]
    Malformed(String),
    /// It was cut off, or nothing came in time.
    #[error("{0}")]
    Lost(String),
}

/// Whole blocks of `body`, some at a time, each with its blank line. Ends without an error only between two blocks.
///
/// Within each `silence` a block or, between blocks, a comment must get complete.
pub(super) fn blocks<S>(body: S, silence: Duration) -> BoxStream<'static, Result<Bytes, Broken>>
where
    S: Stream<Item = std::io::Result<Bytes>> + Send + Unpin + 'static,
{
    let reader = Reader {
        body,
        silence,
        deadline: Instant::now() + silence,
        piece: Bytes::new(),
        splitter: Splitter::default(),
    };
    stream::try_unfold(reader, |mut reader| async move {
        let batch = reader.next().await?;
        Ok(batch.map(|batch| (batch, reader)))
    })
    .boxed()
}

struct Reader<S> {
    body: S,
    silence: Duration,
    /// When the next block or comment must be complete.
    deadline: Instant,
    /// What was received and not looked at yet.
    piece: Bytes,
    splitter: Splitter,
}

impl<S: Stream<Item = std::io::Result<Bytes>> + Unpin> Reader<S> {
    async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            if let Some(batch) = self.splitter.take()? {
                return Ok(Some(batch));
            }
            if self.piece.is_empty() {
                self.piece = match timeout_at(self.deadline, self.body.next()).await {
                    Err(_) => return Err(Broken::Lost(format!("nothing whole came within {:?}", self.silence))),
                    Ok(Some(Err(error))) => return Err(Broken::Lost(error.to_string())),
                    Ok(Some(Ok(piece))) => piece,
                    Ok(None) if self.splitter.is_between_blocks() => return Ok(None),
                    Ok(None) => return Err(Broken::Lost("the stream ended inside a frame".to_owned())),
                };
            }
            if self.splitter.feed(&mut self.piece) {
                self.deadline = Instant::now() + self.silence;
            }
        }
    }
}

/// Cuts bytes into lines and lines into blocks.
#[derive(Default)]
struct Splitter {
    /// The beginning of a line whose end did not come yet.
    line: Vec<u8>,
    /// The last byte was a carriage return: a line feed after it belongs to the same line end.
    after_cr: bool,
    /// A byte order mark may stand before the first line only.
    first_line_seen: bool,
    /// Bytes since the last blank line, those of dropped lines included.
    length: usize,
    block: Block,
    /// Checked blocks, not taken yet.
    ready: Vec<u8>,
    broken: Option<Broken>,
}

/// The fields of a block so far, each a line with LF.
#[derive(Default)]
struct Block {
    text: Vec<u8>,
    has_data: bool,
    has_id: bool,
    has_event: bool,
    has_retry: bool,
    /// Any field, known or not: comments then no longer stand between blocks.
    has_field: bool,
}

impl Splitter {
    /// What is ready; an error only after all that came before it was taken.
    fn take(&mut self) -> Result<Option<Bytes>, Broken> {
        if !self.ready.is_empty() {
            return Ok(Some(mem::take(&mut self.ready).into()));
        }
        self.broken.clone().map_or(Ok(None), Err)
    }

    fn is_between_blocks(&self) -> bool {
        self.length == 0
    }

    /// Looks at the bytes of `piece`, all but if enough is ready or something is wrong. Tells whether a block, or a
    /// comment between blocks, was completed.
    fn feed(&mut self, piece: &mut Bytes) -> bool {
        let mut completed = false;
        let mut rest = &piece[..];
        while let Some(first) = rest.first()
            && self.ready.len() < BATCH_BYTES
            && self.broken.is_none()
        {
            if mem::take(&mut self.after_cr) && *first == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let (part, after) = rest.split_at(end.unwrap_or(rest.len()));
            self.length += part.len();
            // Before anything is kept of it.
            if self.length > BLOCK_LIMIT_BYTES {
                self.broken = Some(Broken::Malformed(format!("a frame is longer than {BLOCK_LIMIT_BYTES} bytes")));
                break;
            }
            if let Some((end, after)) = after.split_first() {
                self.length += 1;
                self.after_cr = *end == b'\r';
                let result = if self.line.is_empty() {
                    self.line_complete(part)
                } else {
                    let mut line = mem::take(&mut self.line);
                    line.extend_from_slice(part);
                    self.line_complete(&line)
                };
                match result {
                    Ok(complete) => completed |= complete,
                    Err(broken) => self.broken = Some(broken),
                }
                rest = after;
            } else {
                self.line.extend_from_slice(part);
                rest = after;
            }
        }
        let left = rest.len();
        let _ = piece.split_to(piece.len() - left);
        completed
    }

    /// Tells whether this line completes a block, or is a comment between two.
    fn line_complete(&mut self, line: &[u8]) -> Result<bool, Broken> {
        let line = if mem::replace(&mut self.first_line_seen, true) {
            line
        } else {
            line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line)
        };
        if line.is_empty() {
            self.length = 0;
            return self.block_complete();
        }
        let line =
            std::str::from_utf8(line).map_err(|_| Broken::Malformed("a line of a frame is not UTF-8".to_owned()))?;
        if line.starts_with(':') {
            let between = !self.block.has_field;
            if between {
                self.length = 0;
            }
            return Ok(between);
        }
        self.block.field(line)?;
        Ok(false)
    }

    fn block_complete(&mut self) -> Result<bool, Broken> {
        let block = mem::take(&mut self.block);
        if block.has_data {
            if !block.has_id {
                return Err(Broken::Malformed("a frame has data but no id".to_owned()));
            }
            self.ready.extend_from_slice(&block.text);
            self.ready.push(b'\n');
        }
        Ok(block.has_field)
    }
}

impl Block {
    fn field(&mut self, line: &str) -> Result<(), Broken> {
        self.has_field = true;
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        let doubled = match name {
            "data" => {
                self.has_data = true;
                false
            }
            "id" => {
                if canonical_decimal(value).is_none() {
                    return Err(Broken::Malformed("the id of a frame is no entry number".to_owned()));
                }
                mem::replace(&mut self.has_id, true)
            }
            "event" => mem::replace(&mut self.has_event, true),
            // By the standard no digits are no field; the crate would take a plus sign.
            "retry" if !value.bytes().all(|byte| byte.is_ascii_digit()) => return Ok(()),
            "retry" => mem::replace(&mut self.has_retry, true),
            // The standard has others ignored.
            _ => return Ok(()),
        };
        if doubled {
            return Err(Broken::Malformed(format!("a frame has two fields {name:?}")));
        }
        self.text.extend_from_slice(line.as_bytes());
        self.text.push(b'\n');
        Ok(())
    }
}
