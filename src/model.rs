//! The values of the domain: what is built, what came out, and what somebody says about it.
//!
//! Every type here is parsed once, at the edge, by [`FromStr`](std::str::FromStr) (or by `parse` where the
//! input is bytes), cannot hold anything that its text form could not, and is written back byte for byte
//! by [`Display`](std::fmt::Display) or `to_text`: these texts are hashed, signed and compared between
//! parties, so a lenient reader here would make two honest nodes disagree.
//!
//! Out of scope: hashing and signing of texts ([`crate::tlog`]) and judging them ([`crate::quorum`]).
//!
//! Invariants: no I/O, no clock; every parser checks the length of its input before it does anything else
//! and says in one sentence what is wrong and where.

mod alert;
mod claim;
mod class;
mod goversion;
mod path;
mod query;
mod record;
mod spec;
mod sum;
mod target;
mod version;

pub use alert::AlertKind;
pub use claim::{Claim, Finding, MAX_CLAIM_BYTES};
pub use class::Class;
pub use goversion::{GoRange, GoVersion};
pub use path::{Dir, MAX_MODULE_BYTES, ModulePath, check_import_path};
pub(crate) use path::{escape, unescape};
pub use query::{GoVersionQuery, PackageQuery, SpecQuery, VersionQuery};
pub use record::{MAX_RECORD_BYTES, Record};
pub use spec::{MAX_SPEC_BYTES, Spec, Variant};
pub use sum::Sum;
pub use target::Target;
pub use version::{MAX_VERSION_BYTES, Version};

/// What is wrong with a text, as one sentence for whoever wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(String);

impl ParseError {
    /// An error that reads as `sentence`.
    pub(crate) fn new(sentence: impl Into<String>) -> ParseError {
        ParseError(sentence.into())
    }

    /// The same error, told as part of `whole`.
    pub(crate) fn within(self, whole: &str) -> ParseError {
        ParseError(format!("{whole}: {}", self.0))
    }
}

/// `text` for an error message: quoted, escaped and short, whoever sent it.
pub(crate) fn quote(text: &str) -> String {
    const SHOWN_CHARS: usize = 80;
    match text.char_indices().nth(SHOWN_CHARS) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}

/// A decimal number as every text here writes it: digits only, no sign, no leading zero.
pub(crate) fn canonical_decimal(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let canonical = digits && (text == "0" || !text.starts_with('0'));
    canonical.then(|| text.parse().ok()).flatten()
}

/// Serde by text: a value is the string that `Display` writes and `FromStr` reads.
macro_rules! serde_by_text {
    ($($name:ty),+ $(,)?) => {$(
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}

serde_by_text!(
    AlertKind,
    Class,
    Dir,
    GoVersion,
    GoVersionQuery,
    ModulePath,
    PackageQuery,
    Spec,
    SpecQuery,
    Sum,
    Target,
    Version,
    VersionQuery,
);

#[cfg(test)]
mod tests;
