//! The sum of a binary: a short name for its content, as upstream and every record writes it.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;

use super::{ParseError, quote};

/// The first 20 bytes of the SHA-256 of an uncompressed binary.
///
/// Its text is `0` and the base64url of those bytes without padding: 28 characters. The leading `0` names
/// the algorithm, so that another one could follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sum([u8; Sum::BYTES]);

impl Sum {
    /// Bytes of the hash that are kept.
    pub const BYTES: usize = 20;
    /// Characters of the text form.
    pub const TEXT_LEN: usize = 28;

    /// The sum of a file whose SHA-256 is `hash`.
    pub fn of_sha256(hash: &[u8; 32]) -> Sum {
        let mut kept = [0; Sum::BYTES];
        kept.copy_from_slice(&hash[..Sum::BYTES]);
        Sum(kept)
    }

    /// A sum from its bytes, as the store keeps them.
    pub fn from_bytes(bytes: [u8; Sum::BYTES]) -> Sum {
        Sum(bytes)
    }

    /// The bytes of the sum.
    pub fn as_bytes(&self) -> &[u8; Sum::BYTES] {
        &self.0
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0{}", BASE64URL_NOPAD.encode(&self.0))
    }
}

impl FromStr for Sum {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Sum, ParseError> {
        let wrong = || {
            let shown = quote(text);
            ParseError::new(format!("{shown} is not a sum: it must be 0 and 27 characters of base64url"))
        };
        if text.len() != Sum::TEXT_LEN {
            return Err(wrong());
        }
        let encoded = text.strip_prefix('0').ok_or_else(wrong)?;
        // Refuses unused bits that are not zero: one sum has one text.
        let bytes = BASE64URL_NOPAD.decode(encoded.as_bytes()).map_err(|_| wrong())?;
        Ok(Sum(bytes.try_into().map_err(|_| wrong())?))
    }
}
