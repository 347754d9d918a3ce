//! What one party found for a spec: one line of JSON, whose bytes are what is hashed.
//!
//! A line that is no claim by these rules is no word of its party, though it stays an entry of its log.

use std::collections::HashSet;
use std::fmt;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::record::MAX_FILE_SIZE;
use super::{Class, ParseError, Spec, Sum, quote};

/// The longest claim, its newline included.
pub const MAX_CLAIM_BYTES: usize = 4096;

/// The longest host, toolchain or sandbox that a claim of ours says; the rest is cut.
const MAX_NOTE_BYTES: usize = 256;

/// One party's own result for a spec.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// What was built, or could not be.
    pub spec: Spec,
    /// What came out.
    pub finding: Finding,
    /// When, in whole seconds.
    pub at: Timestamp,
    /// The target of the machine that built, such as `linux/amd64`.
    pub host: String,
    /// The `h1:` sum of the toolchain's module.
    pub toolchain: String,
    /// The walls that the build ran in, such as `bwrap`.
    pub sandbox: String,
}

/// What came out of a build.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Finding {
    /// A binary.
    Built {
        /// Its size in bytes, uncompressed.
        size: u64,
        /// Its sum.
        sum: Sum,
    },
    /// Nothing, and trying again will not change that.
    CannotBuild {
        /// The kind of reason.
        class: Class,
        /// The reason in the go command's words.
        detail: String,
    },
}

impl Claim {
    /// The claim as published: one line with its newline, at most [`MAX_CLAIM_BYTES`].
    ///
    /// Control characters become spaces and what is too long is cut, so that whatever a compiler printed
    /// makes a claim that [`Claim::parse`] takes.
    pub fn to_text(&self) -> String {
        let at = Timestamp::from_second(self.at.as_second()).unwrap_or(self.at).to_string();
        let (host, toolchain, sandbox) =
            (cut(&self.host, MAX_NOTE_BYTES), cut(&self.toolchain, MAX_NOTE_BYTES), cut(&self.sandbox, MAX_NOTE_BYTES));
        let write = |detail: &str| {
            let (size, sum, cannot_build) = match &self.finding {
                Finding::Built { size, sum } => (Some(*size), Some(*sum), None),
                Finding::CannotBuild { class, .. } => (None, None, Some(*class)),
            };
            let (spec, at) = (&self.spec, &at);
            let detail = cannot_build.map(|_| detail);
            let members = Members {
                spec,
                size,
                sum,
                cannot_build,
                detail,
                at,
                host: &host,
                toolchain: &toolchain,
                sandbox: &sandbox,
            };
            let json = serde_json::to_string(&members).expect("strings and numbers always are JSON");
            json + "\n"
        };
        match &self.finding {
            Finding::Built { .. } => write(""),
            Finding::CannotBuild { detail, .. } => {
                let room = MAX_CLAIM_BYTES.saturating_sub(write("").len());
                write(&cut(detail, room))
            }
        }
    }

    /// Reads a claim from the bytes of an entry, its newline included.
    ///
    /// Refused: more than [`MAX_CLAIM_BYTES`], bytes below 0x20 but the newline at the end, anything but one
    /// JSON object, a member twice, a member that is missing or of the wrong kind, an unknown class, a sum
    /// together with a class. Unknown members are passed over.
    pub fn parse(text: &[u8]) -> Result<Claim, ParseError> {
        if text.len() > MAX_CLAIM_BYTES {
            let bytes = text.len();
            return Err(ParseError::new(format!("a claim of {bytes} bytes is longer than {MAX_CLAIM_BYTES}")));
        }
        let text = str::from_utf8(text).map_err(|_| ParseError::new("the claim is not UTF-8"))?;
        let wrong = |why: &dyn fmt::Display| ParseError::new(format!("{} is not a claim: {why}", quote(text)));
        let line = text.strip_suffix('\n').ok_or_else(|| wrong(&"no newline at its end"))?;
        if let Some(bad) = line.chars().find(|&c| c < ' ') {
            return Err(wrong(&format!("it holds the control character {bad:?}")));
        }
        let claim: Parsed = serde_json::from_str(line).map_err(|error| wrong(&error))?;
        Ok(claim.0)
    }
}

/// A claim's members in the order in which they are published.
#[derive(Serialize)]
struct Members<'a> {
    spec: &'a Spec,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sum: Option<Sum>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cannot_build: Option<Class>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    at: &'a str,
    host: &'a str,
    toolchain: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    sandbox: &'a str,
}

/// As much of `text` as takes at most `max_bytes` inside a JSON string, control characters as spaces.
fn cut(text: &str, max_bytes: usize) -> String {
    let mut left = max_bytes;
    let mut kept = String::new();
    for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        let bytes = if matches!(c, '"' | '\\') { 2 } else { c.len_utf8() };
        let Some(rest) = left.checked_sub(bytes) else {
            break;
        };
        left = rest;
        kept.push(c);
    }
    kept
}

/// A claim read member by member, because serde's derived readers pass over members that come twice when
/// they are unknown ones.
struct Parsed(Claim);

impl<'de> Deserialize<'de> for Parsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Parsed, D::Error> {
        deserializer.deserialize_map(ClaimVisitor).map(Parsed)
    }
}

struct ClaimVisitor;

impl<'de> Visitor<'de> for ClaimVisitor {
    type Value = Claim;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claim, A::Error> {
        let mut seen = HashSet::new();
        let (mut spec, mut size, mut sum, mut class, mut at) = (None, None, None, None, None);
        let (mut detail, mut host, mut toolchain, mut sandbox) = Default::default();
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "spec" => spec = Some(map.next_value()?),
                "size" => size = Some(map.next_value::<u64>()?),
                "sum" => sum = Some(map.next_value()?),
                "cannot_build" => class = Some(map.next_value()?),
                "at" => at = Some(parse_time(&map.next_value::<String>()?).map_err(A::Error::custom)?),
                "detail" => detail = map.next_value()?,
                "host" => host = map.next_value()?,
                "toolchain" => toolchain = map.next_value()?,
                "sandbox" => sandbox = map.next_value()?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
            if let Some(name) = seen.replace(name) {
                return Err(A::Error::custom(format!("its member {} comes twice", quote(&name))));
            }
        }
        let finding = match (size, sum, class) {
            (Some(size), Some(sum), None) if (1..=MAX_FILE_SIZE).contains(&size) => Finding::Built { size, sum },
            (Some(size), Some(_), None) => {
                return Err(A::Error::custom(format!("{size} is not a file size")));
            }
            (None, None, Some(class)) => Finding::CannotBuild { class, detail },
            _ => {
                return Err(A::Error::custom("it must have size and sum, or cannot_build alone"));
            }
        };
        let spec = spec.ok_or_else(|| A::Error::missing_field("spec"))?;
        let at = at.ok_or_else(|| A::Error::missing_field("at"))?;
        Ok(Claim { spec, finding, at, host, toolchain, sandbox })
    }
}

/// A time as RFC 3339 writes it, cut to whole seconds. The time library alone would take more forms.
fn parse_time(text: &str) -> Result<Timestamp, ParseError> {
    let wrong = || ParseError::new(format!("{} is not a time of RFC 3339", quote(text)));
    let shape = |form: &str, text: &str| {
        form.len() == text.len()
            && form.bytes().zip(text.bytes()).all(|(f, t)| if f == b'0' { t.is_ascii_digit() } else { f == t })
    };
    let (seconds, rest) = text.split_at_checked("0000-00-00T00:00:00".len()).ok_or_else(wrong)?;
    let fraction = rest
        .strip_prefix('.')
        .map_or("", |rest| &rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())]);
    let zone = if fraction.is_empty() { rest } else { &rest[1 + fraction.len()..] };
    let zoned = zone == "Z" || shape("+00:00", zone) || shape("-00:00", zone);
    if !shape("0000-00-00T00:00:00", seconds) || !zoned || fraction.len() > 9 {
        return Err(wrong());
    }
    let at: Timestamp = text.parse().map_err(|_| wrong())?;
    Timestamp::from_second(at.as_second()).map_err(|_| wrong())
}
