//! Ed25519 keys with names, in the text forms of golang.org/x/mod/sumdb/note, so that keys move both ways.
//!
//! Left to others: where keys are kept, and randomness (a new key is made from a seed that the caller brings).

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use data_encoding::BASE64;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// The only algorithm of Go's notes: Ed25519.
const ALGORITHM: u8 = 1;
const SIGNER_PREFIX: &str = "PRIVATE+KEY+";
/// Longer than any key text that makes sense; Go has no limit.
const TEXT_LIMIT_BYTES: usize = 2048;

/// Why a text is not a key. The sentence says what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyError(&'static str);

/// A public key and the name it signs under: `name+hex8+base64(0x01 || public key)`.
#[derive(Clone)]
pub struct VerifierKey {
    name: String,
    id: u32,
    key: VerifyingKey,
}

impl VerifierKey {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number that stands in notes: first four bytes of SHA-256(name || "\n" || 0x01 || public key).
    pub fn key_id(&self) -> u32 {
        self.id
    }

    /// The same public key under another name, so with another id.
    ///
    /// # Panics
    /// If no key may have such a name; origins derived from a key's name are always fine.
    #[must_use]
    pub fn as_name(&self, name: &str) -> VerifierKey {
        assert!(is_name(name), "a key name is not empty and has no spaces and no +");
        VerifierKey::new(name.to_owned(), self.key)
    }

    /// Whether `signature` is this key's over `message`, as Go and OpenSSL decide (PROTOCOL 2.4: not `verify_strict`).
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok(signature) = ed25519_dalek::Signature::from_slice(signature) else {
            return false;
        };
        ed25519_dalek::Verifier::verify(&self.key, message, &signature).is_ok()
    }

    fn new(name: String, key: VerifyingKey) -> VerifierKey {
        let id = key_id(&name, key.as_bytes());
        VerifierKey { name, id, key }
    }
}

impl FromStr for VerifierKey {
    type Err = KeyError;

    /// Line ends after the key are ignored, as Go does. Unlike Go a key that is no point of the curve is refused here
    /// and not only when none of its signatures verifies.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (name, id, public) = parse(text)?;
        if id != key_id(name, &public) {
            return Err(KeyError("the verifier key's number does not fit its name and key"));
        }
        let key =
            VerifyingKey::from_bytes(&public).map_err(|_| KeyError("the verifier key is no Ed25519 public key"))?;
        Ok(VerifierKey { name: name.to_owned(), id, key })
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [ALGORITHM; 33];
        bytes[1..].copy_from_slice(self.key.as_bytes());
        write!(f, "{}+{:08x}+{}", self.name, self.id, BASE64.encode_display(&bytes))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq for VerifierKey {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.key.as_bytes() == other.key.as_bytes()
    }
}

impl Eq for VerifierKey {}

impl Hash for VerifierKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        self.key.as_bytes().hash(state);
    }
}

/// A private key and the name it signs under. The secret is wiped on drop and never shown but by [`to_text`](Self::to_text).
#[derive(Clone)]
pub struct SignerKey {
    name: String,
    id: u32,
    key: SigningKey,
}

impl SignerKey {
    /// A new key from 32 random bytes.
    pub fn generate(name: &str, seed: [u8; 32]) -> Result<SignerKey, KeyError> {
        let seed = Zeroizing::new(seed);
        if !is_name(name) {
            return Err(KeyError("a key name is not empty and has no spaces and no +"));
        }
        Ok(SignerKey::new(name.to_owned(), SigningKey::from_bytes(&seed)))
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn verifier(&self) -> VerifierKey {
        VerifierKey { name: self.name.clone(), id: self.id, key: self.key.verifying_key() }
    }

    /// The same key pair under another name.
    ///
    /// # Panics
    /// If no key may have such a name; origins derived from a key's name are always fine.
    #[must_use]
    pub fn as_name(&self, name: &str) -> SignerKey {
        assert!(is_name(name), "a key name is not empty and has no spaces and no +");
        SignerKey::new(name.to_owned(), self.key.clone())
    }

    /// `PRIVATE+KEY+name+hex8+base64(0x01 || seed)`.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([ALGORITHM; 33]);
        bytes[1..].copy_from_slice(self.key.as_bytes());
        // Room for all of it at once: a String that grows leaves copies of the secret behind.
        let mut text = Zeroizing::new(String::with_capacity(SIGNER_PREFIX.len() + self.name.len() + 54));
        text.push_str(SIGNER_PREFIX);
        text.push_str(&self.name);
        text.push_str(&format!("+{:08x}+", self.id));
        BASE64.encode_append(&*bytes, &mut text);
        text
    }

    pub(super) fn key_id(&self) -> u32 {
        self.id
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }

    fn new(name: String, key: SigningKey) -> SignerKey {
        let id = key_id(&name, key.verifying_key().as_bytes());
        SignerKey { name, id, key }
    }
}

impl FromStr for SignerKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let text = text.strip_prefix(SIGNER_PREFIX).ok_or(KeyError("a signer key starts with PRIVATE+KEY+"))?;
        let (name, id, seed) = parse(text)?;
        let signer = SignerKey::new(name.to_owned(), SigningKey::from_bytes(&seed));
        if signer.id != id {
            return Err(KeyError("the signer key's number does not fit its name and key"));
        }
        Ok(signer)
    }
}

impl fmt::Debug for SignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "signer of {}", self.verifier())
    }
}

/// Whether Go takes it as a key name: not empty, no Unicode space, no `+`.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '+')
}

fn key_id(name: &str, public: &[u8; 32]) -> u32 {
    let mut hasher = Sha256::new();
    hasher.update(name);
    hasher.update([b'\n', ALGORITHM]);
    hasher.update(public);
    let digest = hasher.finalize();
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

/// Reads `name+hex8+base64(0x01 || 32 bytes)`. The base64 may hold `+`, so it splits from the front.
fn parse(text: &str) -> Result<(&str, u32, Zeroizing<[u8; 32]>), KeyError> {
    if text.len() > TEXT_LIMIT_BYTES {
        return Err(KeyError("the key is too long"));
    }
    let text = text.trim_end_matches(['\r', '\n']);
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(KeyError("a key has three parts joined by +: name, number, key"));
    };
    if !is_name(name) {
        return Err(KeyError("a key name is not empty and has no spaces and no +"));
    }
    if id.len() != 8 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(KeyError("the number of a key is eight hexadecimal digits"));
    }
    let id = u32::from_str_radix(id, 16).map_err(|_| KeyError("the number of a key is eight hexadecimal digits"))?;
    let bytes = BASE64.decode(key.as_bytes()).map_err(|_| KeyError("the last part of a key is base64"))?;
    let bytes = Zeroizing::new(bytes);
    match bytes.split_first() {
        Some((&ALGORITHM, key)) => {
            let key = key.try_into().map_err(|_| KeyError("an Ed25519 key has 32 bytes"))?;
            Ok((name, id, Zeroizing::new(key)))
        }
        _ => Err(KeyError("the key is of an algorithm other than Ed25519")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use signed_note::Verifier as _;

    use super::super::vectors::{load, rows, text};
    use super::*;

    #[test]
    fn keys_of_known_seeds_have_gos_texts() {
        for row in rows(&load("note"), "keys") {
            let seed = data_encoding::HEXLOWER.decode(text(&row["seed_hex"]).as_bytes()).unwrap();
            let signer = SignerKey::generate(text(&row["name"]), seed.try_into().unwrap()).unwrap();
            assert_eq!(*signer.to_text(), text(&row["signer_key"]));
            assert_eq!(signer.verifier().to_string(), text(&row["verifier_key"]));
            assert_eq!(format!("{:08x}", signer.verifier().key_id()), text(&row["key_hash"]));
            assert!(!format!("{signer:?}").contains("PRIVATE"));
        }
    }

    #[test]
    fn key_texts_are_taken_and_refused_as_by_go() {
        let vectors = load("note");
        for row in rows(&vectors, "verifier_keys") {
            let Some(input) = row["in"].as_str() else {
                continue;
            };
            let key = input.parse::<VerifierKey>();
            // Go takes line ends anywhere in the base64, and notices a bad point only when it verifies.
            let stricter = ["newline inside the base64", "key that is not a point of the curve"];
            if stricter.contains(&text(&row["about"])) {
                assert!(key.is_err());
                continue;
            }
            assert_eq!(key.is_ok(), row["error"].is_null(), "{row}");
            if let Ok(key) = key {
                assert_eq!(key.name(), text(&row["name"]));
                assert_eq!(format!("{:08x}", key.key_id()), text(&row["key_hash"]));
                assert_eq!(key.to_string().parse(), Ok(key));
            }
        }
        for row in rows(&vectors, "signer_keys") {
            let key = text(&row["in"]).parse::<SignerKey>();
            assert_eq!(key.is_ok(), row["error"].is_null(), "{row}");
        }
    }

    #[test]
    fn another_name_is_another_key_with_the_same_secret() {
        let signer = SignerKey::generate("up.example", [3; 32]).unwrap();
        let log = signer.as_name("up.example/log");
        assert_eq!(log.verifier(), signer.verifier().as_name("up.example/log"));
        assert_ne!(log.verifier(), signer.verifier());
        assert!(signer.verifier().verify(b"text", &log.sign(b"text")));
        assert_eq!(log.to_text().parse::<SignerKey>().unwrap().verifier(), log.verifier());
    }

    proptest! {
        #[test]
        fn keys_agree_with_another_implementation(name in "[a-z0-9./-]{1,40}", seed: [u8; 32], message: Vec<u8>) {
            let signer = SignerKey::generate(&name, seed).unwrap();
            let theirs = signed_note::StandardVerifier::new(&signer.verifier().to_string()).unwrap();
            prop_assert_eq!((theirs.name(), theirs.key_id()), (name.as_str(), signer.verifier().key_id()));
            prop_assert!(theirs.verify(&message, &signer.sign(&message)));
        }

        #[test]
        fn nothing_panics(text: String) {
            let _ = (text.parse::<VerifierKey>(), text.parse::<SignerKey>());
            let _ = format!("PRIVATE+KEY+{text}").parse::<SignerKey>();
        }
    }
}
