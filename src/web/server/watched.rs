//! A socket that gives up on silence.
//!
//! hyper has one timer for both an idle connection and half a head; we promise different times for
//! the two. So the socket itself keeps the time: hyper reads from it whenever it waits for the
//! client, and a read that waits too long fails, which ends the connection.
//! While a request is being answered no timer runs here, but for an answer that must be over at a given time. The socket
//! is also where an answer gets as large a send buffer as it may have.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use axum::body::Body;
use axum::http::Version;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_rustls::server::TlsStream;

use super::{DOWNLOAD_BUFFER_BYTES, SEND_BUFFER_BYTES, Timeouts};

/// What a connection is doing, shared by its socket and its requests.
#[derive(Clone)]
pub(super) struct Activity {
    timeouts: Timeouts,
    now: Arc<Mutex<Now>>,
}

struct Now {
    /// Requests whose answers are not written yet.
    in_flight: usize,
    /// By when the client must have sent what is expected next, while nothing is in flight.
    deadline: Instant,
    /// Part of a head has come.
    in_head: bool,
    /// HTTP/2 sends frames of its own between requests: they are no half heads.
    http2: bool,
    /// When the answers end that have to, whether they are read or not.
    ends: Vec<Instant>,
    /// How many bytes of the newest answer the kernel may hold.
    send_buffer: usize,
    /// Who waits in a read while requests are in flight: its timer starts when they end.
    reader: Option<Waker>,
}

impl Activity {
    pub(super) fn new(timeouts: Timeouts) -> Activity {
        let deadline = Instant::now() + timeouts.head;
        let (ends, send_buffer) = (Vec::new(), SEND_BUFFER_BYTES);
        let now = Now { in_flight: 0, deadline, in_head: false, http2: false, ends, send_buffer, reader: None };
        Activity { timeouts, now: Arc::new(Mutex::new(now)) }
    }

    /// A request has come: no timer runs until the returned value is dropped.
    pub(super) fn request(&self, version: Version) -> Busy {
        let mut now = self.lock();
        now.in_flight += 1;
        now.in_head = false;
        now.http2 = version == Version::HTTP_2;
        Busy { activity: self.clone(), until: None }
    }

    fn bytes_came(&self) {
        let mut now = self.lock();
        if now.in_flight > 0 || now.in_head {
            return;
        }
        if now.http2 {
            now.deadline = Instant::now() + self.timeouts.idle;
        } else {
            now.in_head = true;
            now.deadline = Instant::now() + self.timeouts.head;
        }
    }

    /// The deadline of the read that waits now, or none: then the reader is woken once there is one.
    ///
    /// While a request is answered it is the end of an answer that must have one: a reader that takes a byte a minute
    /// would otherwise keep its stream for ever, because nobody asks a stream for more that is not taken.
    fn deadline(&self, cx: &mut Context<'_>) -> Option<Instant> {
        let mut now = self.lock();
        if now.in_flight == 0 {
            return Some(now.deadline);
        }
        now.reader = Some(cx.waker().clone());
        now.ends.iter().min().copied()
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        // Only plain numbers are inside: a panic elsewhere cannot leave them half changed.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is being answered.
pub(super) struct Busy {
    activity: Activity,
    /// When the answer has to be over.
    until: Option<Instant>,
}

impl Busy {
    /// Ties the end of being busy to the end of a body, which is cut off at `until`. With a place for a download the
    /// kernel may hold more of it.
    pub(super) fn until_end_of(
        mut self,
        body: Body,
        until: Option<Instant>,
        download: Option<OwnedSemaphorePermit>,
    ) -> BusyBody {
        self.until = until;
        let mut now = self.activity.lock();
        now.send_buffer = if download.is_some() { DOWNLOAD_BUFFER_BYTES } else { SEND_BUFFER_BYTES };
        now.ends.extend(until);
        // It has to set an alarm.
        let reader = until.and_then(|_| now.reader.take());
        drop(now);
        if let Some(reader) = reader {
            reader.wake();
        }
        BusyBody { body, _busy: self, _download: download }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut now = self.activity.lock();
        now.in_flight -= 1;
        now.deadline = Instant::now() + self.activity.timeouts.idle;
        if let Some(until) = self.until
            && let Some(place) = now.ends.iter().position(|end| *end == until)
        {
            now.ends.swap_remove(place);
        }
        let reader = now.reader.take();
        drop(now);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

/// A body whose connection is busy until it ends.
pub(super) struct BusyBody {
    body: Body,
    _busy: Busy,
    _download: Option<OwnedSemaphorePermit>,
}

impl http_body::Body for BusyBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What a connection goes over in the end.
pub(super) trait Socket {
    fn socket(&self) -> &TcpStream;
}

impl Socket for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Socket for TlsStream<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// A socket, or TLS on one, whose reads fail once the client has been silent for too long.
pub(super) struct Watched<S> {
    stream: S,
    activity: Activity,
    /// As set on the socket, in bytes.
    send_buffer: usize,
    /// Wakes the task that waits in a read.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, activity: Activity) -> Watched<S> {
        Watched { stream, activity, send_buffer: SEND_BUFFER_BYTES, alarm: None }
    }

    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            let Some(deadline) = self.activity.deadline(cx) else {
                return Poll::Pending;
            };
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if alarm.deadline() != deadline {
                alarm.as_mut().reset(deadline);
            }
            ready!(alarm.as_mut().poll(cx));
            // The end of a request may have moved the deadline meanwhile.
            if self.activity.deadline(cx) == Some(deadline) {
                return Poll::Ready(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the client sent nothing, or did not take its answer, for too long",
                ));
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Pending => self.poll_silence(cx).map(Err),
            Poll::Ready(read) => {
                if buf.filled().len() > before {
                    self.activity.bytes_came();
                }
                Poll::Ready(read)
            }
        }
    }
}

impl<S: Socket> Watched<S> {
    /// Gives the socket the buffer that the newest answer is to have.
    fn fit(&mut self) {
        let wanted = self.activity.lock().send_buffer;
        if wanted != self.send_buffer {
            // With the one before, the answer is slower or takes more memory, and no worse.
            let _ = set_socket_send_buffer_size(self.stream.socket(), wanted);
            self.send_buffer = wanted;
        }
    }
}

impl<S: Socket + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.fit();
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.fit();
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
