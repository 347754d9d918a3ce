//! A whole peer in memory behind the transport: a real tree, signed heads, tiles, streams; and every way to lie.

mod lie;
mod tree;

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::peer::{Answer, Ask, Transport};
use crate::store::LogId;
use crate::tlog::{
    Hash, Head, SUMDB_ORIGIN, SignerKey, TILE_WIDTH, Tile, TileKind, TileReader as _, TreeSize, format_entry,
    leaf_hash, push_bundle_entry, sign_note,
};

pub(super) use self::lie::Lie;
use self::tree::Tree;

struct World {
    honest: Tree,
    /// The log that it shows when it forks.
    other: Tree,
    lies: BTreeSet<Lie>,
    /// What `/api/v1/peers` says.
    peers: String,
    /// What `/api/v1/node` says; none: 404.
    node: Option<String>,
}

#[derive(Clone)]
pub(super) struct FakePeer {
    pub(super) signer: SignerKey,
    log: LogId,
    world: Arc<Mutex<World>>,
    /// Counts up with each change; streams look again then, and end when lies have changed.
    changed: Arc<watch::Sender<(u64, u64)>>,
    /// Bytes that were read from it.
    pub(super) bytes: Arc<AtomicU64>,
    /// How often it was asked.
    pub(super) asks: Arc<AtomicU64>,
}

impl FakePeer {
    pub(super) fn new(name: &str, log: LogId) -> FakePeer {
        let signer = SignerKey::generate(name, [9; 32]).unwrap();
        let mode = if log == LogId::Claims { "build" } else { "verify-only" };
        let key = signer.verifier();
        let node = format!(r#"{{"name":"{name}","vkey":"{key}","mode":"{mode}","size":0,"claims":0,"voters":[]}}"#);
        let world = World {
            honest: Tree::default(),
            other: Tree::default(),
            lies: BTreeSet::new(),
            peers: r#"{"items":[],"next":null}"#.to_owned(),
            node: Some(node),
        };
        let world = Arc::new(Mutex::new(world));
        FakePeer {
            signer,
            log,
            world,
            changed: Arc::new(watch::Sender::new((0, 0))),
            bytes: Arc::default(),
            asks: Arc::default(),
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub(super) fn say_node(&self, node: Option<String>) {
        self.world().node = node;
    }

    pub(super) fn say_peers(&self, peers: String) {
        self.world().peers = peers;
    }

    /// Appends entries, to the log that it forks to as well.
    pub(super) fn grow(&self, texts: impl IntoIterator<Item = Vec<u8>>) {
        let mut world = self.world();
        for text in texts {
            let mut other = text.clone();
            other.insert(0, b'~');
            world.other.push(other);
            world.honest.push(text);
        }
        drop(world);
        self.changed.send_modify(|(size, _)| *size += 1);
    }

    pub(super) fn lie(&self, lies: impl IntoIterator<Item = Lie>) {
        self.world().lies = lies.into_iter().collect();
        self.changed.send_modify(|(_, lies)| *lies += 1);
    }

    pub(super) fn size(&self) -> u64 {
        self.world().honest.size()
    }

    pub(super) fn texts(&self) -> Vec<Vec<u8>> {
        self.world().honest.texts.clone()
    }

    /// Of the log that it shows when it lies about which one it has.
    pub(super) fn other_texts(&self) -> Vec<Vec<u8>> {
        self.world().other.texts.clone()
    }

    pub(super) fn sign(&self, size: u64, root: Hash, signer: &SignerKey) -> String {
        let claims = format!("{}/claims", signer.name());
        let (origin, signer) = match self.log {
            LogId::Accepted => (SUMDB_ORIGIN, signer.clone()),
            LogId::Claims => (claims.as_str(), signer.as_name(&claims)),
        };
        let head = Head { origin: origin.to_owned(), size: TreeSize::new(size).unwrap(), root };
        sign_note(&head.to_text(), &[&signer])
    }

    /// Size and note of what it shows now.
    fn head(&self, world: &mut World) -> (u64, String) {
        let lies = world.lies.clone();
        let lie = |lie| lies.contains(&lie);
        let honest = world.honest.size();
        let (size, mut root) = if lie(Lie::ForkLarger) {
            (honest, world.other.root_at(honest))
        } else if lie(Lie::ForkSmaller) {
            (honest / 2, world.other.root_at(honest / 2))
        } else if lie(Lie::Rewind) {
            (honest / 2, world.honest.root_at(honest / 2))
        } else {
            (honest, world.honest.root_at(honest))
        };
        if lie(Lie::WrongRoot) {
            root = leaf_hash(format!("wrong {size}").as_bytes());
        }
        let mut note = if lie(Lie::ForkSameSize) && size > 0 {
            let old = size.min(10);
            return (old, self.sign(old, leaf_hash(b"fork"), &self.signer));
        } else {
            {
                let signer = if lie(Lie::UnknownKey) { stranger(&self.signer) } else { self.signer.clone() };
                self.sign(size, root, &signer)
            }
        };
        if lie(Lie::BadSignature) {
            let at = note.len() - 20;
            let flipped = if note.as_bytes()[at] == b'A' { "B" } else { "A" };
            note.replace_range(at..=at, flipped);
        }
        if lie(Lie::GarbledHead) {
            note = note.replacen('\n', "!\n", 2);
        }
        (size, note)
    }

    fn answer(&self, ask: &Ask) -> Answer {
        let path = ask.url.path().to_owned();
        let mut world = self.world();
        let lies = world.lies.clone();
        let lie = |lie| lies.contains(&lie);
        let refuse = |status: u16, header: Option<(HeaderName, &'static str)>| {
            let mut headers = HeaderMap::new();
            headers.extend(header.map(|(name, value)| (name, HeaderValue::from_static(value))));
            Answer { status: StatusCode::from_u16(status).unwrap(), headers, body: stream::empty().boxed() }
        };
        for (bad, status, header) in [
            (Lie::NoContent, 204, None),
            (Lie::NotFound, 404, None),
            (Lie::TooMany, 429, Some((RETRY_AFTER, "1"))),
            (Lie::Broken, 500, None),
            (Lie::RedirectSame, 302, Some((LOCATION, "/elsewhere"))),
            (Lie::RedirectFile, 307, Some((LOCATION, "file:///etc/passwd"))),
        ] {
            if lie(bad) {
                return refuse(status, header);
            }
        }
        let (prefix, heads) = match self.log {
            LogId::Accepted => ("/tlog/", "/tlog/latest"),
            LogId::Claims => ("/claims/", "/claims/checkpoint"),
        };
        if path == format!("{prefix}stream") {
            let last = ask.headers.get("last-event-id").map(|last| last.to_str().unwrap().parse::<u64>().unwrap() + 1);
            let from = last.unwrap_or_default();
            if lie(Lie::Beyond) || (lie(Lie::Rewind) && from > world.honest.size() / 2) {
                return refuse(409, None);
            }
            drop(world);
            return self.plain(lie, "text/event-stream", self.stream(from));
        }
        let found = if path == heads {
            Some(("text/plain", self.head(&mut world).1.into_bytes()))
        } else if path == "/api/v1/node" {
            let node = world.node.clone().map(|node| {
                if lie(Lie::OtherKey) {
                    node.replace(&self.signer.verifier().to_string(), &stranger(&self.signer).verifier().to_string())
                } else {
                    node
                }
            });
            node.map(|node| {
                ("application/json", if lie(Lie::NodeGarbage) { b"{]".to_vec() } else { node.into_bytes() })
            })
        } else if path == "/api/v1/peers" {
            Some(("application/json", world.peers.clone().into_bytes()))
        } else {
            let tile = path.strip_prefix(prefix).and_then(|path| match self.log {
                LogId::Accepted => Tile::parse_sumdb(path),
                LogId::Claims => Tile::parse_c2sp(path),
            });
            tile.and_then(|tile| self.tile(&mut world, tile, ask.new_connection))
        };
        match found {
            None => refuse(404, None),
            Some((content_type, body)) => {
                let body = if lie(Lie::CutBodies) { body[..body.len() / 2].to_vec() } else { body };
                let cut = lie(Lie::CutBodies).then(|| Err(io::Error::other("cut")));
                let pieces = stream::iter([Ok(Bytes::from(body))].into_iter().chain(cut)).boxed();
                self.plain(lie, content_type, pieces)
            }
        }
    }

    fn tile(&self, world: &mut World, tile: Tile, fresh: bool) -> Option<(&'static str, Vec<u8>)> {
        let lies = world.lies.clone();
        let forked = lies.contains(&Lie::ForkLarger) || lies.contains(&Lie::ForkSmaller);
        let tree = if forked { &mut world.other } else { &mut world.honest };
        let (first, width) = (tile.index * TILE_WIDTH, u64::from(tile.width));
        match tile.kind {
            TileKind::Hashes(level) => {
                let hashes = tree.read_tile(level, tile.index, tile.width).ok()?;
                let mut bytes: Vec<u8> = hashes.iter().flat_map(|hash| hash.0).collect();
                if lies.contains(&Lie::CorruptHashTiles) {
                    bytes[5] ^= 1;
                }
                Some(("application/octet-stream", bytes))
            }
            TileKind::Entries => {
                let texts = tree.texts.get(usize::try_from(first).ok()?..usize::try_from(first + width).ok()?)?;
                let mut texts = texts.to_vec();
                if lies.contains(&Lie::GarbledCache) && !fresh {
                    *texts.last_mut().unwrap().first_mut().unwrap() ^= 1;
                }
                let mut body = Vec::new();
                for (number, text) in (first..).zip(&texts) {
                    match self.log {
                        LogId::Accepted => {
                            body.extend(format_entry(number, std::str::from_utf8(text).unwrap()).into_bytes());
                        }
                        LogId::Claims => push_bundle_entry(&mut body, text).unwrap(),
                    }
                }
                let plain = self.log == LogId::Accepted;
                Some((if plain { "text/plain" } else { "application/octet-stream" }, body))
            }
        }
    }

    fn plain(
        &self,
        lie: impl Fn(Lie) -> bool,
        content_type: &'static str,
        body: BoxStream<'static, io::Result<Bytes>>,
    ) -> Answer {
        let content_type = if lie(Lie::WrongType) { "text/html" } else { content_type };
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        let body = if lie(Lie::Stall) {
            stream::pending().boxed()
        } else if lie(Lie::Flood) {
            stream::repeat_with(|| Ok(Bytes::from_static(&[b'x'; 1 << 16]))).take(6400).boxed()
        } else if lie(Lie::SlowBytes) {
            let bytes = body.flat_map(|piece| stream::iter(piece.unwrap().to_vec()));
            let slow = bytes.then(|byte| async move {
                sleep(Duration::from_millis(10)).await;
                Ok(Bytes::from(vec![byte]))
            });
            slow.boxed()
        } else {
            body
        };
        let read = Arc::clone(&self.bytes);
        let body = body.inspect(move |piece| {
            let length = piece.as_ref().map_or(0, Bytes::len);
            read.fetch_add(length as u64, Ordering::Relaxed);
        });
        Answer { status: StatusCode::OK, headers, body: body.boxed() }
    }

    fn stream(&self, from: u64) -> BoxStream<'static, io::Result<Bytes>> {
        let peer = self.clone();
        let epoch = peer.changed.borrow().1;
        let state = (peer, from, None::<u64>, false);
        let frames = stream::unfold(state, move |(peer, cursor, headed, ended)| async move {
            if ended {
                return None;
            }
            let mut changed = peer.changed.subscribe();
            loop {
                if changed.borrow_and_update().1 != epoch {
                    return Some((Err(io::Error::other("reset")), (peer, cursor, headed, true)));
                }
                if let Some((frames, next, end)) = peer.frames(cursor, headed) {
                    return Some((Ok(Bytes::from(frames)), (peer, next, Some(next), end)));
                }
                tokio::select! {
                    _ = changed.changed() => {}
                    () = sleep(Duration::from_millis(20)) => {
                        return Some((Ok(Bytes::from_static(b":\n\n")), (peer, cursor, headed, false)));
                    }
                }
            }
        });
        frames.boxed()
    }

    /// The next entries and their head; where it goes on; whether it ends there.
    fn frames(&self, cursor: u64, headed: Option<u64>) -> Option<(Vec<u8>, u64, bool)> {
        let mut world = self.world();
        let lies = world.lies.clone();
        let lie = |lie| lies.contains(&lie);
        let (size, note) = self.head(&mut world);
        if lie(Lie::Endless) {
            let text = "x".repeat(60_000);
            let entry = |number| format!("id: {number}\nevent: entry\ndata: {text}\n\n");
            return Some(((cursor..cursor + 20).map(entry).collect::<String>().into_bytes(), cursor + 20, false));
        }
        let forked = lie(Lie::ForkLarger) || lie(Lie::ForkSmaller);
        let tree = if forked { &world.other } else { &world.honest };
        if size == 0 || (cursor >= size && headed == Some(size)) || headed.is_some_and(|headed| headed > size) {
            return None;
        }
        let mut frames: Vec<Vec<u8>> = Vec::new();
        for number in cursor..size {
            let mut text = String::from_utf8(tree.texts[usize::try_from(number).unwrap()].clone()).unwrap();
            if lie(Lie::GarbledStream) {
                text.insert(0, '?');
            }
            frames.push(format!("id: {number}\nevent: entry\ndata: {text}\n").into_bytes());
        }
        let mut data = String::new();
        note.lines().for_each(|line| data.push_str(&format!("data: {line}\n")));
        let head = format!("id: {}\nevent: head\n{data}\n", size - 1).into_bytes();
        if lie(Lie::Missing) && frames.len() > 1 {
            frames.remove(0);
        }
        if lie(Lie::Repeated) && !frames.is_empty() {
            frames.insert(0, frames[0].clone());
        }
        if lie(Lie::Reordered) {
            frames.reverse();
        }
        if lie(Lie::DoubledId) {
            frames.iter_mut().for_each(|frame| frame.splice(0..0, *b"id: 3\n").for_each(drop));
        }
        if lie(Lie::NoId) {
            frames
                .iter_mut()
                .for_each(|frame| *frame = frame.splitn(2, |byte| *byte == b'\n').nth(1).unwrap().to_vec());
        }
        if lie(Lie::NotUtf8) {
            frames.insert(0, b"id: 0\ndata: \xff\n\n".to_vec());
        }
        if lie(Lie::HeadTooEarly) {
            frames.insert(0, head.clone());
        }
        frames.push(head);
        if lie(Lie::RetryZero) {
            frames.iter_mut().for_each(|frame| frame.splice(0..0, *b"retry: 0\n").for_each(drop));
        }
        if lie(Lie::RetryHuge) {
            frames.iter_mut().for_each(|frame| frame.splice(0..0, *b"retry: 99999999999\n").for_each(drop));
        }
        let mut bytes = frames.concat();
        if lie(Lie::CarriageReturns) {
            bytes = String::from_utf8_lossy(&bytes).replace('\n', "\r\n").into_bytes();
        }
        if lie(Lie::NoFrameEnd) {
            bytes = String::from_utf8_lossy(&bytes).replace("\n\n", "\n").into_bytes();
        }
        if lie(Lie::CutFrames) {
            let at = rand::random_range(0..bytes.len());
            bytes.truncate(at);
        }
        Some((bytes, size, lie(Lie::EndsAtOnce) || lie(Lie::CutFrames)))
    }
}

/// Another key of the same name.
fn stranger(signer: &SignerKey) -> SignerKey {
    SignerKey::generate(signer.name(), [1; 32]).unwrap()
}

impl Transport for FakePeer {
    fn send(&self, ask: Ask) -> BoxFuture<'static, anyhow::Result<Answer>> {
        self.asks.fetch_add(1, Ordering::Relaxed);
        let answer = self.answer(&ask);
        async move { Ok(answer) }.boxed()
    }
}
