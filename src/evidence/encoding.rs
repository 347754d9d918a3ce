//! One text for each bundle: reading is strict, and encoding again gives the same bytes.
//!
//! ```text
//! {"kind":…,"made_at":…,"spec":…,"parties":[…],"tiles":[…],"comparison":…,"digest":"<hexadecimal>"}\n
//! ```
//!
//! The digest is the SHA-256 of the file without that last member and the comma before it. It finds damage; what a bundle
//! says is left to the other rooms.

use data_encoding::{BASE64, HEXLOWER};
use jiff::Timestamp;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Bundle, Entry, EvidenceTile, Party};
use crate::model::Spec;
use crate::tlog::{Hash, TileKind, VerifierKey, parse_hash_tile};

/// The longest file that is read. A fork needs 150 KB at most, two entries 20; the rest is room for the entries behind a
/// wrong root.
pub const FILE_LIMIT_BYTES: usize = 16 << 20;

/// More values than any bundle has. Each costs a hundred bytes once it is read, and the shortest is one byte long.
const VALUES_LIMIT: usize = 1 << 18;

/// The longest name of a party, in bytes.
const NAME_LIMIT_BYTES: usize = 256;

/// Why bytes are no bundle. The sentence continues "the file …".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// It is no JSON at all, or too much of it.
    #[error("{0}")]
    Unreadable(String),
    /// It is JSON, but not as this program ever writes a bundle.
    #[error("{0}")]
    Tampered(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    kind: String,
    made_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    spec: Option<Spec>,
    parties: Vec<PartyText>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tiles: Vec<TileText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<serde_json::Value>,
    /// Written by [`seal`], and checked before anything else.
    #[serde(skip_serializing, rename = "digest")]
    _digest: IgnoredAny,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PartyText {
    name: String,
    vkey: String,
    source: String,
    head: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inclusion_proof: Option<Vec<String>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TileText {
    path: String,
    data: String,
}

impl Bundle {
    /// The file: one line of JSON, the digest its last member.
    pub fn encode(&self) -> String {
        let at = Timestamp::from_second(self.made_at.as_second()).unwrap_or(self.made_at);
        let tile = |tile: &EvidenceTile| TileText { path: tile.path(), data: BASE64.encode(&tile.data) };
        let text = FileText {
            kind: self.kind.to_string(),
            made_at: at.to_string(),
            spec: self.spec.clone(),
            parties: self.parties.iter().map(write_party).collect(),
            tiles: self.tiles.iter().map(tile).collect(),
            comparison: self.comparison.clone(),
            _digest: IgnoredAny,
        };
        seal(serde_json::to_string(&text).expect("strings and numbers always are JSON"))
    }

    /// Reads a file, and takes only what [`encode`](Self::encode) gives.
    ///
    /// # Errors
    /// Says what is wrong with it. Whether a bundle proves anything is another question: [`super::verify()`].
    pub fn decode(bytes: &[u8]) -> Result<Bundle, Flaw> {
        let text = json(bytes).map_err(Flaw::Unreadable)?;
        read(text).map_err(Flaw::Tampered)
    }
}

/// Puts the digest into a JSON object that has other members.
fn seal(mut object: String) -> String {
    let closed = object.pop();
    debug_assert_eq!(closed, Some('}'), "an object");
    object.push_str(&end(&object));
    object
}

/// What follows the other members: the digest of the file that ends right here.
fn end(members: &str) -> String {
    let digest = Sha256::new().chain_update(members).chain_update("}\n").finalize();
    format!(",\"digest\":\"{}\"}}\n", HEXLOWER.encode(&digest))
}

/// The text, if it is JSON of a size that can be read.
fn json(bytes: &[u8]) -> Result<&str, String> {
    if bytes.len() > FILE_LIMIT_BYTES {
        return Err(format!("it is longer than {FILE_LIMIT_BYTES} bytes"));
    }
    // Every value but the first has one of these before it.
    if bytes.iter().filter(|byte| matches!(byte, b',' | b'[' | b'{' | b':')).count() > VALUES_LIMIT {
        return Err(format!("it has more than {VALUES_LIMIT} values"));
    }
    let text = str::from_utf8(bytes).map_err(|_| "it is not UTF-8")?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| format!("it is not JSON: {error}"))?;
    Ok(text)
}

fn read(text: &str) -> Result<Bundle, String> {
    // Nothing is said of the rest of a file that was damaged.
    let members = text.len().checked_sub(end("").len()).and_then(|at| text.split_at_checked(at));
    let (members, tail) = members.ok_or("it does not end with a digest")?;
    if tail != end(members) {
        return Err("its last member is not the digest of what stands before it".to_owned());
    }
    let file: FileText =
        serde_json::from_str(text).map_err(|error| format!("it is not a bundle: {}", plain(&error)))?;
    let at: Timestamp = file.made_at.parse().map_err(|_| "its made_at is not a time")?;
    let bundle = Bundle {
        kind: file.kind.parse().map_err(|error| format!("its kind: {error}"))?,
        made_at: at,
        spec: file.spec,
        parties: file.parties.into_iter().map(read_party).collect::<Result<_, _>>()?,
        tiles: file.tiles.into_iter().map(read_tile).collect::<Result<_, _>>()?,
        comparison: file.comparison,
    };
    // One comparison finds every second way to write the same: spaces, orders, escapes, numbers, doubled members.
    let again = bundle.encode();
    if again == text { Ok(bundle) } else { Err("it is not written as bundles are".to_owned()) }
}

/// An error that may quote the file, fit for a terminal.
fn plain(error: &serde_json::Error) -> String {
    error.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

fn write_party(party: &Party) -> PartyText {
    let proof = |entry: &Entry| entry.inclusion_proof.iter().map(Hash::to_string).collect();
    PartyText {
        name: party.name.clone(),
        vkey: party.vkey.to_string(),
        source: party.source.to_string(),
        head: party.head.clone(),
        number: party.entry.as_ref().map(|entry| entry.number),
        entry: party.entry.as_ref().map(|entry| entry.text.clone()),
        inclusion_proof: party.entry.as_ref().map(proof),
    }
}

fn read_party(text: PartyText) -> Result<Party, String> {
    let entry = match (text.number, text.entry, text.inclusion_proof) {
        (None, None, None) => None,
        (Some(number), Some(text), Some(proof)) => {
            let proof: Result<_, _> = proof.iter().map(|hash| hash.parse()).collect();
            let inclusion_proof = proof.map_err(|error| format!("in an inclusion proof: {error}"))?;
            Some(Entry { number, text, inclusion_proof })
        }
        _ => return Err("of number, entry and inclusion_proof a party has all or none".to_owned()),
    };
    let vkey: VerifierKey = text.vkey.parse().map_err(|error| format!("a party's vkey: {error}"))?;
    // They are shown to people, on terminals too.
    for name in [&text.name, vkey.name()] {
        if name.is_empty() || name.len() > NAME_LIMIT_BYTES || name.chars().any(char::is_control) {
            return Err(format!("a party's name is 1 to {NAME_LIMIT_BYTES} bytes without control characters"));
        }
    }
    let source = text.source.parse().map_err(|error| format!("a party's source: {error}"))?;
    Ok(Party { name: text.name, vkey, source, head: text.head, entry })
}

fn read_tile(text: TileText) -> Result<EvidenceTile, String> {
    let (tile, form) = EvidenceTile::parse_path(&text.path).ok_or("a tile's path is that of no tile")?;
    let data = BASE64.decode(text.data.as_bytes()).map_err(|_| format!("the data of {tile} is not base64"))?;
    match tile.kind {
        TileKind::Hashes(_) if parse_hash_tile(&data, tile.width).is_none() => {
            Err(format!("{tile} does not have as many hashes as its path says"))
        }
        _ => Ok(EvidenceTile { tile, form, data }),
    }
}
