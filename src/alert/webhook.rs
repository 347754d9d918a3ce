//! Alerts as JSON to an address that takes them, by the Standard Webhooks text: three headers of which the last one signs
//! the other two and the body.
//!
//! Any 2xx is an acknowledgement, whatever follows it. Redirects are not followed: whoever can make an address redirect must
//! not learn what is sent to it. Of an answer only so much is read as an operator needs to see what is wrong.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use data_encoding::BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, LOCATION};
use reqwest::{Response, redirect};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;
use url::Url;
use zeroize::Zeroizing;

use super::message::Told;

/// Bytes read of an answer that is no acknowledgement.
const ANSWER_BYTES: usize = 4096;
/// Characters shown of it.
const SHOWN_CHARS: usize = 200;
/// Bytes of a file with a secret.
const SECRET_FILE_BYTES: usize = 4096;
/// Bytes of a secret, as the Standard Webhooks text asks for them.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// How long a receiver may take.
#[derive(Clone, Copy, Debug)]
pub struct WebhookLimits {
    /// For connecting, taking the request and answering with a status.
    pub first_byte: Duration,
    /// For the rest of an answer that is no acknowledgement.
    pub body: Duration,
}

impl Default for WebhookLimits {
    fn default() -> WebhookLimits {
        WebhookLimits { first_byte: Duration::from_secs(10), body: Duration::from_secs(10) }
    }
}

/// The channel.
pub struct Webhook {
    name: String,
    url: Url,
    secret: Option<Secret>,
    limits: WebhookLimits,
    client: reqwest::Client,
}

/// What a receiver knows a sender by.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Webhook {
    /// To an address of http or https. Without a secret nothing is signed.
    ///
    /// # Errors
    /// There are no TLS roots.
    pub fn new(url: Url, secret: Option<Secret>, limits: WebhookLimits) -> anyhow::Result<Webhook> {
        // An error means that another part of the program was first, with the same provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .referer(false)
            .connect_timeout(limits.first_byte)
            .pool_max_idle_per_host(1)
            .user_agent(concat!("sumpeer/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("cannot make an HTTP client: are the system's TLS roots installed (ca-certificates)?")?;
        Ok(Webhook { name: name(&url), url, secret, limits, client })
    }

    /// What the outbox and the metrics call it. Of the address it shows only the host: the rest may be a secret.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends one message.
    ///
    /// # Errors
    /// It was not acknowledged, and why.
    pub(super) async fn send(&self, told: &Told) -> Result<(), String> {
        let body = serde_json::to_string(&told.message).expect("a message is texts and numbers");
        let at = Timestamp::now().as_second();
        let mut request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &told.uid)
            .header("webhook-timestamp", at);
        if let Some(secret) = &self.secret {
            request = request.header("webhook-signature", secret.sign(&told.uid, at, &body));
        }
        let Ok(answer) = timeout(self.limits.first_byte, request.body(body).send()).await else {
            return Err(format!("no answer within {:?}", self.limits.first_byte));
        };
        let answer = answer.map_err(|error| causes(&error.without_url()))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        if status.is_redirection() {
            let to = answer.headers().get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or("nowhere");
            return Err(format!("it answers {status} and leads to {}, which is not followed", shown(to)));
        }
        // What it says is of use, but not worth waiting for.
        let said = timeout(self.limits.body, beginning(answer)).await.unwrap_or_default();
        let said = shown(&String::from_utf8_lossy(&said));
        Err(if said.is_empty() { format!("it answers {status}") } else { format!("it answers {status}: {said}") })
    }
}

impl Secret {
    /// From a file that holds `whsec_` and 24 to 64 bytes as base64.
    ///
    /// # Errors
    /// It cannot be read, or holds something else. The sentence shows nothing of what it holds.
    pub fn read(path: &Path) -> anyhow::Result<Secret> {
        use std::io::Read as _;

        let mut text = Zeroizing::new(String::new());
        std::fs::File::open(path)
            .and_then(|file| file.take(SECRET_FILE_BYTES as u64 + 1).read_to_string(&mut text))
            .with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(text.len() <= SECRET_FILE_BYTES, "{} is too long for a secret", path.display());
        text.parse::<Secret>().with_context(|| format!("{} holds no secret", path.display()))
    }

    /// The value of the header `webhook-signature`.
    fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
        format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes()))
    }
}

impl std::str::FromStr for Secret {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Secret> {
        let Some(encoded) = text.trim().strip_prefix("whsec_") else {
            bail!("it must be whsec_ and base64");
        };
        let Ok(bytes) = BASE64.decode(encoded.as_bytes()) else {
            bail!("what follows whsec_ is no base64");
        };
        ensure!(SECRET_BYTES.contains(&bytes.len()), "it has {} bytes; it must have 24 to 64", bytes.len());
        Ok(Secret(Zeroizing::new(bytes)))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The host, and enough of a hash of the whole address to tell it from others there.
fn name(url: &Url) -> String {
    let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(url.as_str().as_bytes())[..4]);
    format!("webhook:{}#{hash}", url.host_str().unwrap_or_default())
}

/// The first bytes of a body, as far as they come.
async fn beginning(mut answer: Response) -> Vec<u8> {
    let mut said = Vec::new();
    while said.len() < ANSWER_BYTES
        && let Ok(Some(piece)) = answer.chunk().await
    {
        said.extend_from_slice(&piece[..piece.len().min(ANSWER_BYTES - said.len())]);
    }
    said
}

/// What a stranger said, as one short line that does nothing to a terminal.
fn shown(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN_CHARS).collect();
    line.trim().to_owned()
}

/// An error with all that led to it, once each.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_published_example() {
        // The example of the Standard Webhooks text and its libraries.
        let secret: Secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().expect("a secret");
        let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}");
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn what_is_no_secret_is_refused_without_showing_it() {
        for (text, why) in [
            ("", "whsec_"),
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_"),
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS", "no base64"),
            ("whsec_MfKQ9r8G", "24 to 64"),
        ] {
            let error = text.parse::<Secret>().expect_err(text).to_string();
            assert!(error.contains(why) && !error.contains("MfKQ"), "{text}: {error}");
        }
        assert!(" whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n".parse::<Secret>().is_ok());
    }

    #[test]
    fn names_tell_addresses_apart_and_show_no_secrets() {
        let [one, other] = ["https://hooks.example/s3cret", "https://hooks.example/other"]
            .map(|url| name(&url.parse().expect("an address")));
        assert!(one.starts_with("webhook:hooks.example#") && one != other && !one.contains("s3cret"), "{one} {other}");
    }
}
