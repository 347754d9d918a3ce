//! The wire between simulated nodes. Whatever goes over it may be refused, delayed, lost, chopped, cut, garbled or held
//! up, by the dice of the run. Everything at both of its ends is the real program.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use axum::http::{Request, StatusCode, response};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sumpeer::peer::{Answer, Ask, Transport};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

use crate::plan::{Plan, Weather};

/// Answers past all caches between two that may be garbled. A peer is convicted if it is looked at so three times and
/// each look comes out wrong, and something on the way that garbles every one of them cannot be told from a liar.
const HONEST_LOOKS: u32 = 12;

/// A request on its way to a node.
pub(crate) struct Call {
    pub(crate) request: Request<Body>,
    pub(crate) reply: oneshot::Sender<(response::Parts, mpsc::Receiver<Piece>)>,
}

/// Part of a body. One that ends without [`Piece::End`] was cut.
pub(crate) enum Piece {
    Bytes(Bytes),
    End,
}

/// All wires of one run.
pub(crate) struct Net {
    weather: Weather,
    dice: Mutex<StdRng>,
    /// Whether the storm is over.
    calm: AtomicBool,
    /// By who asks and who is asked.
    links: Vec<Vec<Link>>,
    /// Of each node that is up.
    doors: Mutex<Vec<Option<mpsc::Sender<Call>>>>,
    /// Of faults that came about, and of requests.
    counts: Mutex<BTreeMap<&'static str, u64>>,
}

struct Link {
    open: AtomicBool,
    /// How often all that was under way has broken off.
    breaks: watch::Sender<u64>,
    /// Questions past all caches since one was answered wrongly.
    looks: AtomicU32,
}

/// What happens to one request.
struct Fate {
    delay: Duration,
    trouble: Option<Trouble>,
    /// What happens to the body, and at which byte.
    flaw: Option<(Flaw, u64)>,
    /// Of pieces.
    dice: StdRng,
    piece_delay: Duration,
}

enum Trouble {
    Refused,
    Overloaded(StatusCode),
    /// The node has done what was asked, but nobody hears of it.
    Lost,
}

#[derive(Clone, Copy, PartialEq)]
enum Flaw {
    Cut,
    Garbled(u8),
    Stalled,
}

impl Net {
    pub(crate) fn new(seed: u64, plan: &Plan) -> Arc<Net> {
        let count = plan.nodes.len();
        let link = |_| Link { open: AtomicBool::new(true), breaks: watch::Sender::new(0), looks: AtomicU32::new(0) };
        Arc::new(Net {
            weather: plan.weather,
            // Other dice than those of the plan.
            dice: Mutex::new(StdRng::seed_from_u64(!seed)),
            calm: AtomicBool::new(false),
            links: (0..count).map(|_| (0..count).map(link).collect()).collect(),
            doors: Mutex::new((0..count).map(|_| None).collect()),
            counts: Mutex::default(),
        })
    }

    /// What has come about how often.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.counts).clone()
    }

    pub(crate) fn count(&self, what: &'static str) {
        *lock(&self.counts).entry(what).or_default() += 1;
    }

    /// Lets a node be reached by others, or not any more.
    pub(crate) fn set_door(&self, node: usize, door: Option<mpsc::Sender<Call>>) {
        lock(&self.doors)[node] = door;
    }

    pub(crate) fn set_open(&self, from: usize, to: usize, open: bool) {
        self.links[from][to].open.store(open, Ordering::SeqCst);
        if !open {
            self.break_off(from, to);
        }
    }

    pub(crate) fn break_off(&self, from: usize, to: usize) {
        self.links[from][to].breaks.send_modify(|count| *count += 1);
    }

    /// From now on all goes well.
    pub(crate) fn calm_down(&self) {
        self.calm.store(true, Ordering::SeqCst);
        for link in self.links.iter().flatten() {
            link.open.store(true, Ordering::SeqCst);
        }
    }

    fn is_calm(&self) -> bool {
        self.calm.load(Ordering::SeqCst)
    }

    fn fate(&self, link: &Link, fresh: bool) -> Fate {
        let mut dice = lock(&self.dice);
        let weather = self.weather;
        let mut pick = |most: Duration| most.mul_f64(dice.random_range(0.0..=1.0) * dice.random_range(0.0..=1.0));
        let (delay, piece_delay) = (pick(weather.delay), pick(weather.delay));
        let trouble = if dice.random_bool(weather.refused) {
            Some(Trouble::Refused)
        } else if dice.random_bool(weather.overloaded) {
            let codes = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE, StatusCode::BAD_GATEWAY];
            Some(Trouble::Overloaded(codes[dice.random_range(0..codes.len())]))
        } else {
            dice.random_bool(weather.lost).then_some(Trouble::Lost)
        };
        let flaw = if dice.random_bool(weather.cut) {
            Some(Flaw::Cut)
        } else if dice.random_bool(weather.garbled) {
            Some(Flaw::Garbled(1 << dice.random_range(0..8)))
        } else {
            dice.random_bool(weather.stalled).then_some(Flaw::Stalled)
        };
        let looks = if fresh { link.looks.fetch_add(1, Ordering::SeqCst) } else { HONEST_LOOKS };
        let flaw = flaw.filter(|flaw| !matches!(flaw, Flaw::Garbled(_)) || looks >= HONEST_LOOKS);
        if fresh && matches!(flaw, Some(Flaw::Garbled(_))) {
            link.looks.store(0, Ordering::SeqCst);
        }
        // Most answers are short; streams go on.
        let at = if dice.random_bool(0.8) { dice.random_range(0..300) } else { dice.random_range(0..5000) };
        let dice = StdRng::seed_from_u64(dice.random());
        let rough = !self.is_calm();
        Fate {
            delay,
            trouble: trouble.filter(|_| rough),
            flaw: flaw.filter(|_| rough).map(|flaw| (flaw, at)),
            dice,
            piece_delay,
        }
    }
}

/// One node's way to all others.
pub(crate) struct Wire {
    pub(crate) net: Arc<Net>,
    pub(crate) from: usize,
}

impl Transport for Wire {
    fn send(&self, ask: Ask) -> BoxFuture<'static, anyhow::Result<Answer>> {
        let (net, from) = (Arc::clone(&self.net), self.from);
        let patience = ask.first_byte;
        async move {
            let sent = timeout(patience, send(&net, from, ask)).await;
            sent.unwrap_or_else(|_| bail!("no answer within {patience:?}"))
        }
        .boxed()
    }
}

async fn send(net: &Arc<Net>, from: usize, ask: Ask) -> anyhow::Result<Answer> {
    let host = ask.url.host_str().context("no host")?;
    let to = usize::from(host.as_bytes()[0] - b'a');
    let link = &net.links[from][to];
    let mut breaks = link.breaks.subscribe();
    let mut fate = net.fate(link, ask.new_connection);
    net.count("requests");
    if ask.new_connection {
        net.count("second looks");
    }
    sleep(fate.delay).await;
    if !link.open.load(Ordering::SeqCst) {
        net.count("parted");
        // Nothing is said by a network that is cut: some wait, some are told by their own machine.
        if fate.dice.random_bool(0.5) {
            std::future::pending::<()>().await;
        }
        bail!("no route to host");
    }
    match fate.trouble {
        Some(Trouble::Refused) => {
            net.count("refused");
            bail!("connection refused")
        }
        Some(Trouble::Overloaded(status)) => {
            net.count("overloaded");
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/plain"))]);
            let body = stream::iter([Ok(Bytes::from_static(b"not now\n"))]).boxed();
            return Ok(Answer { status, headers, body });
        }
        Some(Trouble::Lost) | None => {}
    }
    let door = lock(&net.doors)[to].clone().context("connection refused")?;
    let (reply, answer) = oneshot::channel();
    door.send(Call { request: request(ask)?, reply }).await.ok().context("connection reset")?;
    drop(door);
    let (head, pieces) = tokio::select! {
        answer = answer => answer.context("connection reset")?,
        _ = breaks.changed() => bail!("connection reset"),
    };
    if matches!(fate.trouble, Some(Trouble::Lost)) {
        net.count("answers lost");
        bail!("connection reset by peer");
    }
    let body = Wet { net: Arc::clone(net), pieces, breaks, fate, at: 0, left: Bytes::new() }.run();
    Ok(Answer { status: head.status, headers: head.headers, body })
}

fn request(ask: Ask) -> anyhow::Result<Request<Body>> {
    let path = ask.url[url::Position::BeforePath..].to_owned();
    let mut request = Request::builder().uri(path);
    if ask.post.is_some() {
        request = request.method("POST");
    }
    *request.headers_mut().context("a plain path")? = ask.headers;
    Ok(request.body(ask.post.map_or_else(Body::empty, Body::from))?)
}

/// A body on its way.
struct Wet {
    net: Arc<Net>,
    pieces: mpsc::Receiver<Piece>,
    breaks: watch::Receiver<u64>,
    fate: Fate,
    /// Bytes that got through.
    at: u64,
    left: Bytes,
}

impl Wet {
    fn run(self) -> BoxStream<'static, io::Result<Bytes>> {
        let next = |wet: Option<Wet>| async move {
            let mut wet = wet?;
            match wet.next().await {
                Ok(piece) => piece.map(|piece| (Ok(piece), Some(wet))),
                Err(error) => Some((Err(error), None)),
            }
        };
        stream::unfold(Some(self), next).boxed()
    }

    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
        if self.left.is_empty() {
            let piece = tokio::select! {
                piece = self.pieces.recv() => piece.ok_or_else(reset)?,
                _ = self.breaks.changed() => return Err(reset()),
            };
            match piece {
                Piece::Bytes(bytes) => self.left = bytes,
                Piece::End => return Ok(None),
            }
        }
        let dice = &mut self.fate.dice;
        let most = if dice.random_bool(0.3) { dice.random_range(1..=64) } else { usize::MAX };
        let mut piece = self.left.split_to(most.min(self.left.len()));
        if dice.random_bool(0.2) {
            sleep(self.fate.piece_delay).await;
        }
        let (start, end) = (self.at, self.at + piece.len() as u64);
        if let Some((flaw, at)) = self.fate.flaw.filter(|_| !self.net.is_calm())
            && (start..end).contains(&at)
        {
            let within = usize::try_from(at - start).expect("within a piece");
            match flaw {
                Flaw::Garbled(bit) => {
                    self.net.count("garbled");
                    let mut bytes = piece.to_vec();
                    bytes[within] ^= bit;
                    piece = bytes.into();
                }
                // What came before may get there or not.
                Flaw::Cut if within == 0 || dice.random_bool(0.5) => {
                    self.net.count("cut");
                    return Err(reset());
                }
                Flaw::Cut => {
                    self.left = Bytes::from([&piece[within..], &self.left[..]].concat());
                    piece.truncate(within);
                }
                Flaw::Stalled => {
                    self.net.count("held up");
                    // Until somebody loses patience.
                    let _ = self.breaks.changed().await;
                    return Err(reset());
                }
            }
        }
        self.at += piece.len() as u64;
        Ok(Some(piece))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
