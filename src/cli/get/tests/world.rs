//! A log, a server of it that can lie in one way at a time, and a user's folders.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path as UrlPath, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get as route;
use clap::Parser;
use flate2::write::GzEncoder;
use futures_util::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::super::heads::Heads;
use super::super::{Exit, GetArgs, Installed, Places, Refusal, Talk, get};
use crate::model::{Record, Spec, Sum};
use crate::tlog::{
    CompactRange, Head, SUMDB_ORIGIN, SignerKey, Tile, TileKind, TreeSize, format_entry, leaf_hash, sign_note,
};

pub(super) const PROGRAM: &[u8] = b"\x7fELF a program, or as good as one for this purpose";
/// The arguments that ask for it.
pub(super) const EXACT: &str = "--target linux/amd64 --goversion go1.26.1 example.com/tool@v1.2.3/cmd/tool";
pub(super) const SPEC: &str = "example.com/tool@v1.2.3/cmd/tool/linux-amd64-go1.26.1/";

/// A log and a server of it. Each field is a way to lie; by default it tells the truth.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) signer: SignerKey,
    pub(super) entries: Vec<String>,
    /// Head size that lookups show, if not all.
    pub(super) shown: Option<usize>,
    /// What every lookup adds to that.
    pub(super) climb: usize,
    /// Signs heads in place of the log's key.
    pub(super) forger: Option<SignerKey>,
    /// Entry that lookups answer with, whatever is asked.
    pub(super) other_answer: Option<usize>,
    /// Flips a bit in tiles of this level.
    pub(super) bad_tile: Option<u8>,
    pub(super) no_tiles: bool,
    pub(super) file: Vec<u8>,
    /// Cuts the body, after announcing all of it.
    pub(super) cut: bool,
    pub(super) no_gz: bool,
    pub(super) bad_gz: bool,
    /// Sends half the body and then nothing.
    pub(super) stall: bool,
    /// Breaks the signature of the log's key.
    pub(super) flip_signature: bool,
    /// Adds this to the number of the record.
    pub(super) shift: u64,
    /// Answers this often that it is busy, before it is not.
    pub(super) busy: u32,
    /// Answers all lookups so.
    pub(super) refusal: Option<(StatusCode, String)>,
}

impl Node {
    pub(super) fn new(name: &str, before: usize, after: usize) -> Node {
        let mut entries = Vec::new();
        for number in 0..before + 1 + after {
            let spec: Spec = if number == before {
                SPEC.parse().unwrap()
            } else {
                SPEC.replace("v1.2.3", &format!("v1.0.{number}")).parse().unwrap()
            };
            entries.push(record(spec, PROGRAM).to_text());
        }
        Node {
            signer: SignerKey::generate(name, Sha256::digest(name).into()).unwrap(),
            entries,
            shown: None,
            climb: 0,
            forger: None,
            other_answer: None,
            bad_tile: None,
            no_tiles: false,
            file: PROGRAM.to_vec(),
            cut: false,
            no_gz: false,
            bad_gz: false,
            stall: false,
            flip_signature: false,
            shift: 0,
            busy: 0,
            refusal: None,
        }
    }

    fn head(&self, size: usize) -> String {
        let mut range = CompactRange::new();
        for entry in &self.entries[..size] {
            range.push(leaf_hash(entry.as_bytes()));
        }
        let head = Head { origin: SUMDB_ORIGIN.to_owned(), size: range.size(), root: range.root() };
        let note = sign_note(&head.to_text(), &[self.forger.as_ref().unwrap_or(&self.signer)]);
        if !self.flip_signature {
            return note;
        }
        // The last byte of the signature is in the last characters of the base64.
        let flipped = if note.ends_with("A=\n") { "Q=\n" } else { "A=\n" };
        format!("{}{flipped}", &note[..note.len() - 3])
    }

    fn lookup(&mut self, key: &str) -> Response {
        if self.busy > 0 {
            self.busy -= 1;
            return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], "waiting for b").into_response();
        }
        if let Some(refusal) = self.refusal.clone() {
            return refusal.into_response();
        }
        let asks = |entry: &String| {
            let spec = Record::parse(entry.as_bytes()).unwrap().spec.to_string();
            key == spec || key.replace("latest", "v1.2.3") == spec
        };
        let found = self.other_answer.or_else(|| self.entries.iter().position(asks));
        let Some(number) = found else {
            return (StatusCode::NOT_FOUND, "no such module\x1b[31m\n").into_response();
        };
        let size = self.shown.unwrap_or(self.entries.len());
        self.shown = self.shown.map(|shown| shown + self.climb);
        let number_shown = number as u64 + self.shift;
        (format_entry(number_shown, &self.entries[number]) + &self.head(size)).into_response()
    }

    fn tile(&self, path: &str) -> Response {
        let size = TreeSize::new(self.entries.len() as u64).unwrap();
        let tile = Tile::parse_sumdb(path).filter(|tile| tile.width <= Tile::widest_at(tile.kind, tile.index, size));
        let Some(Tile { kind: TileKind::Hashes(level), index, width }) = tile.filter(|_| !self.no_tiles) else {
            return (StatusCode::NOT_FOUND, "no such tile").into_response();
        };
        let (mut range, mut hashes) = (CompactRange::new(), Vec::new());
        for entry in &self.entries {
            range.push_with(leaf_hash(entry.as_bytes()), |at, number, hash| {
                if at == 8 * level && (256 * index..256 * index + u64::from(width)).contains(&number) {
                    hashes.extend_from_slice(&hash.0);
                }
            });
        }
        if self.bad_tile == Some(level) {
            hashes[5] ^= 1;
        }
        hashes.into_response()
    }

    fn file(&self, path: &str) -> Response {
        let record: Record =
            Record::parse(self.entries.iter().find(|e| e.contains("v1.2.3")).unwrap().as_bytes()).unwrap();
        let right = format!("{SPEC}{}/{}", record.sum, record.spec.file_name());
        let bytes = if path == right {
            self.file.clone()
        } else if path == format!("{right}.gz") && !self.no_gz {
            // In two members: gzip takes them for one file.
            let mut bytes = Vec::new();
            for part in self.file.chunks(self.file.len().div_ceil(2)) {
                let mut encoder = GzEncoder::new(&mut bytes, flate2::Compression::default());
                encoder.write_all(part).unwrap();
                encoder.finish().unwrap();
            }
            if self.bad_gz {
                bytes.truncate(bytes.len() - 9);
            }
            bytes
        } else {
            return StatusCode::NOT_FOUND.into_response();
        };
        if self.cut || self.stall {
            let half = bytes[..bytes.len() / 2].to_vec();
            let parts = [Ok(half), Err(std::io::Error::other("cut"))];
            // The pause lets the first half leave the server.
            let pause = Duration::from_millis(if self.stall { 60_000 } else { 30 });
            let slowly = futures_util::stream::iter(parts).then(move |part| async move {
                if part.is_err() {
                    tokio::time::sleep(pause).await;
                }
                part
            });
            let body = Body::from_stream(slowly);
            return ([(header::CONTENT_LENGTH, bytes.len().to_string())], body).into_response();
        }
        bytes.into_response()
    }
}

pub(super) fn record(spec: Spec, program: &[u8]) -> Record {
    let sum = Sum::of_sha256(&Sha256::digest(program).into());
    Record { spec, size: program.len() as u64, sum }
}

/// Some running nodes and a user's folders.
pub(super) struct World {
    pub(super) nodes: Vec<Arc<Mutex<Node>>>,
    pub(super) urls: Vec<String>,
    pub(super) home: TempDir,
    _serving: JoinSet<()>,
}

impl World {
    pub(super) async fn new(nodes: impl IntoIterator<Item = Node>) -> World {
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let nodes: Vec<_> = nodes.into_iter().map(|node| Arc::new(Mutex::new(node))).collect();
        let (mut urls, mut serving) = (Vec::new(), JoinSet::new());
        for node in &nodes {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            urls.push(format!("http://{}", listener.local_addr().unwrap()));
            type Shared = State<Arc<Mutex<Node>>>;
            let app = Router::new()
                .route(
                    "/tlog/lookup/{*key}",
                    route(
                        |node: Shared, UrlPath(key): UrlPath<String>| async move { node.lock().unwrap().lookup(&key) },
                    ),
                )
                .route(
                    "/tlog/tile/{*path}",
                    route(|node: Shared, UrlPath(path): UrlPath<String>| async move {
                        node.lock().unwrap().tile(&format!("tile/{path}"))
                    }),
                )
                .route(
                    "/{*path}",
                    route(
                        |node: Shared, UrlPath(path): UrlPath<String>| async move { node.lock().unwrap().file(&path) },
                    ),
                )
                .with_state(node.clone());
            serving.spawn(async move { axum::serve(listener, app).await.unwrap() });
        }
        World { nodes, urls, home: TempDir::new().unwrap(), _serving: serving }
    }

    pub(super) fn lie(&self, at: usize, lie: impl FnOnce(&mut Node)) {
        lie(&mut self.nodes[at].lock().unwrap());
    }

    pub(super) fn bin(&self) -> PathBuf {
        let bin = self.home.path().join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        bin
    }

    /// Runs the command with these words, and with all nodes as its logs.
    pub(super) async fn try_get(&self, words: &str) -> Result<Installed, Refusal> {
        self.try_get_to(&self.bin(), words).await
    }

    pub(super) async fn try_get_to(&self, output: &Path, words: &str) -> Result<Installed, Refusal> {
        let mut args: Vec<String> = vec!["get".into()];
        for (url, node) in self.urls.iter().zip(&self.nodes) {
            let key = node.lock().unwrap().signer.verifier().to_string();
            args.extend(["--url".into(), url.clone(), "--key".into(), key]);
        }
        args.extend(["--output".into(), output.display().to_string()]);
        args.extend(words.split_whitespace().map(str::to_owned));
        get(&parse(&args), &self.places(), &Talk::new()).await
    }

    pub(super) fn places(&self) -> Places {
        let home = self.home.path();
        Places { config: home.join("get.toml"), heads: home.join("heads") }
    }

    /// It installs the program, which then is all that is there.
    pub(super) async fn gets(&self, words: &str) -> Installed {
        let installed = self.try_get(words).await.unwrap();
        assert_eq!(std::fs::read(&installed.file).unwrap(), PROGRAM);
        assert_eq!(files(&self.bin()), ["tool"]);
        std::fs::remove_file(&installed.file).unwrap();
        installed
    }

    /// It ends so, says so, and leaves nothing behind.
    pub(super) async fn refuses(&self, words: &str, exit: Exit, says: &str) {
        let refusal = self.try_get(words).await.map(|_| "installed").unwrap_err();
        let said = refusal.to_string();
        assert!(said.contains(says), "{said:?} does not say {says:?}");
        assert_eq!(refusal.exit(), exit, "{said}");
        assert!(!said.contains('\x1b'), "{said:?}");
        assert_eq!(files(&self.bin()), Vec::<String>::new(), "{said}");
    }

    pub(super) fn last_head(&self, at: usize) -> Option<u64> {
        let key = self.nodes[at].lock().unwrap().signer.verifier();
        let seen = Heads::new(self.places().heads).last(&key).unwrap();
        seen.map(|seen| seen.head.size.get())
    }
}

pub(super) fn parse(args: &[String]) -> GetArgs {
    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        get: GetArgs,
    }
    Command::try_parse_from(args).unwrap().get
}

pub(super) fn files(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    names.collect()
}
