//! What bundles promise: they prove what they say, and nothing that was changed proves anything.
//!
//! Everything goes through [`check`]: bytes in, one word and sentence out.

mod flips;
mod heads;
mod texts;
mod words;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::*;
use crate::model::{Claim, Finding, Record, Sum};
use crate::tlog::{
    CompactRange, SUMDB_ORIGIN, SignerKey, TileReader, TreeSize, inclusion_proof, leaf_hash, sign_note, tree_hash,
};

/// The judgement of some bytes as a line: `proven …`, `shown …`, `tampered …`, `unreadable …`.
fn check(bytes: &[u8], demanded: &[VerifierKey]) -> String {
    match verify(bytes, demanded) {
        Judgement::Proven(statement) => format!("proven {}", statement.sentence),
        Judgement::Shows(statement) => format!("shown {}", statement.sentence),
        Judgement::Tampered(why) => format!("tampered: {why}"),
        Judgement::Unreadable(why) => format!("unreadable: {why}"),
    }
}

fn word(bytes: &[u8]) -> String {
    check(bytes, &[]).split([' ', ':']).next().unwrap().to_owned()
}

/// Expects a bundle to be refused, with these words in the reason.
#[track_caller]
fn refused(bundle: &Bundle, says: &str) {
    let judgement = check(bundle.encode().as_bytes(), &[]);
    assert!(judgement.starts_with("tampered") && judgement.contains(says), "{says:?}: {judgement}");
}

/// The file with a digest that fits whatever stands before it: a forger can do that.
fn reseal(file: &[u8]) -> Vec<u8> {
    let tail = ",\"digest\":\"\"}\n".len() + 64;
    let members = &file[..file.len() - tail];
    let digest = Sha256::new().chain_update(members).chain_update("}\n").finalize();
    let tail = format!(",\"digest\":\"{}\"}}\n", data_encoding::HEXLOWER.encode(&digest));
    [members, tail.as_bytes()].concat()
}

fn now() -> Timestamp {
    "2026-11-21T10:00:00Z".parse().unwrap()
}

fn spec() -> Spec {
    "example.com/m@v1.0.0/cmd/x/linux-amd64-go1.27.1/".parse().unwrap()
}

fn sum(number: u8) -> Sum {
    Sum::from_bytes([number; 20])
}

fn record(number: u8) -> String {
    Record { spec: spec(), size: 1000 + u64::from(number), sum: sum(number) }.to_text()
}

fn claim(number: u8) -> String {
    let finding = Finding::Built { size: 1000 + u64::from(number), sum: sum(number) };
    claim_of(finding)
}

fn claim_of(finding: Finding) -> String {
    let (host, toolchain, sandbox) = ("linux/amd64".into(), "h1:x".into(), "bwrap".into());
    Claim { spec: spec(), finding, at: now(), host, toolchain, sandbox }.to_text()
}

fn size(number: u64) -> TreeSize {
    TreeSize::new(number).unwrap()
}

fn key(name: &str) -> SignerKey {
    let mut seed = [0; 32];
    seed[..name.len().min(32)].copy_from_slice(&name.as_bytes()[..name.len().min(32)]);
    SignerKey::generate(name, seed).unwrap()
}

/// A log in memory, with the key of its node.
#[derive(Clone)]
struct Log {
    key: SignerKey,
    source: Source,
    /// As Go's checksum database, or as a checkpoint.
    sumdb: bool,
    entries: Vec<String>,
    levels: [Vec<Hash>; 3],
}

impl Log {
    /// A log of made-up entries; `twist` makes another one from entry 3 on.
    fn new(name: &str, source: Source, length: usize, twist: u8) -> Log {
        let (key, entries, levels) = (key(name), Vec::new(), Default::default());
        let mut log = Log { key, source, sumdb: source == Source::Log, entries, levels };
        let mut range = CompactRange::new();
        for number in 0..length {
            let twist = if number < 3 { 0 } else { twist };
            log.push(&mut range, format!("entry {number} {twist}\n"));
        }
        log
    }

    /// A log whose last entry is this one, of seven.
    fn saying(name: &str, source: Source, entry: String) -> Log {
        let mut log = Log::new(name, source, 0, 0);
        let mut range = CompactRange::new();
        for number in 0..6 {
            log.push(&mut range, format!("entry {number}\n"));
        }
        log.push(&mut range, entry);
        log
    }

    fn push(&mut self, range: &mut CompactRange, entry: String) {
        let levels = &mut self.levels;
        range.push_with(leaf_hash(entry.as_bytes()), |level, _, hash| {
            if level.is_multiple_of(8) {
                levels[usize::from(level / 8)].push(hash);
            }
        });
        self.entries.push(entry);
    }

    fn size(&self) -> u64 {
        self.entries.len() as u64
    }

    fn signer(&self) -> SignerKey {
        match (self.source, self.sumdb) {
            (Source::Log, true) => self.key.clone(),
            (Source::Log, false) => self.key.as_name(&format!("{}/log", self.key.name())),
            (Source::Claims, _) => self.key.as_name(&format!("{}/claims", self.key.name())),
        }
    }

    fn note(&self, at: u64) -> String {
        let signer = self.signer();
        let origin = if self.sumdb { SUMDB_ORIGIN.to_owned() } else { signer.name().to_owned() };
        let root = tree_hash(&mut self.clone(), size(at)).unwrap();
        sign_note(&format!("{origin}\n{at}\n{root}\n"), &[&signer])
    }

    /// The head at a size.
    fn party(&self, at: u64) -> Party {
        Party::new(self.key.name(), self.signer().verifier(), self.source, self.note(at).as_bytes()).unwrap()
    }

    /// The head at its whole size, with its last entry.
    fn word(&self) -> Party {
        let (at, number) = (self.size(), self.size() - 1);
        let proof = inclusion_proof(&mut self.clone(), size(at), number).unwrap();
        self.party(at).with_entry(number, self.entries.last().unwrap().clone(), proof)
    }

    fn tiles(&self, wanted: &[Tile]) -> Vec<EvidenceTile> {
        let form = if self.sumdb { PathForm::Sumdb } else { PathForm::C2sp };
        let data = |tile: &Tile| match tile.kind {
            crate::tlog::TileKind::Hashes(level) => {
                let hashes = self.clone().read_tile(level, tile.index, tile.width).unwrap();
                hashes.iter().flat_map(|hash| hash.0).collect()
            }
            crate::tlog::TileKind::Entries => self.entry_tile(tile),
        };
        wanted.iter().map(|tile| EvidenceTile::new(*tile, form, data(tile))).collect()
    }

    fn entry_tile(&self, tile: &Tile) -> Vec<u8> {
        let mut data = Vec::new();
        let entries = self.entries.iter().enumerate().skip(usize::try_from(tile.index * 256).unwrap());
        for (number, entry) in entries.take(usize::from(tile.width)) {
            match self.sumdb {
                true => data.extend(crate::tlog::format_entry(number as u64, entry).into_bytes()),
                false => crate::tlog::push_bundle_entry(&mut data, entry.as_bytes()).unwrap(),
            }
        }
        data
    }
}

impl TileReader for Log {
    type Error = String;

    fn read_tile(&mut self, level: u8, index: u64, width: u16) -> Result<Vec<Hash>, String> {
        let start = usize::try_from(index * 256).unwrap();
        let hashes = self.levels[usize::from(level)].get(start..start + usize::from(width));
        hashes.map(<[Hash]>::to_vec).ok_or_else(|| format!("no tile {level} {index} {width}"))
    }
}

fn divergence() -> Bundle {
    let one = Log::saying("a.example", Source::Claims, claim(1)).word();
    let other = Log::saying("b.example", Source::Log, record(2)).word();
    Bundle::words(now(), spec(), [one, other], Some(&comparison([1, 2]))).unwrap()
}

/// A comparison of the files that claims and records of these numbers name.
fn comparison(numbers: [u8; 2]) -> Comparison {
    let binaries = numbers.map(|number| {
        let sha256 = data_encoding::HEXLOWER.encode(&[number; 32]);
        serde_json::json!({"size": 1000 + u64::from(number), "sha256": sha256, "format": "elf"})
    });
    let [one, other] = binaries;
    let part = serde_json::json!({
        "name": ".text", "role": "code", "offsets": [64, 64], "sizes": [9, 9], "differing_bytes": 5,
    });
    let text = serde_json::json!({
        "class": "code", "binaries": [one, other], "first_difference": 70, "differing_bytes": 5, "sections": [part],
    });
    Comparison::from_json(&text).unwrap()
}

fn contradiction() -> Bundle {
    let one = Log::saying("a.example", Source::Claims, claim(1)).word();
    let other = Log::saying("a.example", Source::Claims, claim(2)).word();
    Bundle::words(now(), spec(), [one, other], None).unwrap()
}

fn fork(small: u64, large: u64) -> Bundle {
    fork_of(Log::new("a.example", Source::Log, 300, 0), Log::new("a.example", Source::Log, 900, 1), small, large)
}

fn fork_of(one: Log, other: Log, small: u64, large: u64) -> Bundle {
    let tiles = other.tiles(&fork_tiles(size(small), size(large)));
    Bundle::fork(now(), [one.party(small), other.party(large)], tiles).unwrap()
}

fn rollback() -> Bundle {
    let log = Log::new("a.example", Source::Claims, 9, 0);
    Bundle::rollback(now(), log.party(9), log.party(5)).unwrap()
}

fn bad_root(sumdb: bool) -> Bundle {
    let tile = Tile { kind: crate::tlog::TileKind::Entries, index: 0, width: 7 };
    let [mut one, mut other] = [0, 1].map(|twist| Log::new("a.example", Source::Log, 7, twist));
    (one.sumdb, other.sumdb) = (sumdb, sumdb);
    Bundle::bad_root(now(), one.party(7), other.tiles(&[tile])).unwrap()
}

fn mirror() -> Bundle {
    let party = Log::saying("a.example", Source::Claims, claim(1)).word();
    Bundle::mirror_mismatch(now(), spec(), party, serde_json::json!({"received": {"size": 7}})).unwrap()
}

/// Small ones of each kind, and of a fork both.
fn all() -> Vec<Bundle> {
    vec![divergence(), contradiction(), fork(5, 5), fork(5, 9), rollback(), bad_root(true), bad_root(false), mirror()]
}
