//! Which checksum database to believe: the `GOSUMDB` syntax of the go command.

use anyhow::{Context as _, bail};
use url::Url;

use crate::tlog::VerifierKey;

/// A checksum database: its key, and where it is if no proxy passes it on.
#[derive(Clone, Debug)]
pub struct Database {
    /// What its heads are signed with; the key's name is the database's.
    pub key: VerifierKey,
    /// Its own address.
    pub url: Url,
}

/// The database that the go command believes unless told otherwise, as in Go's `cmd/go/internal/modfetch/key.go`.
const KNOWN: &[&str] = &["sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"];

/// Reads `GOSUMDB`: a name or a verifier key, perhaps followed by an address; empty for the usual one; `None` for `off`.
///
/// # Errors
/// A sentence, if it is none of these.
pub fn parse_gosumdb(text: &str) -> anyhow::Result<Option<Database>> {
    let mut words = text.split_whitespace();
    let key = match words.next() {
        Some("off") => return Ok(None),
        None => KNOWN[0],
        Some(word) => KNOWN
            .iter()
            .copied()
            .find(|known| known.split('+').next() == Some(word))
            .unwrap_or(word),
    };
    let key: VerifierKey = key.parse().with_context(|| {
        format!("gosumdb: {key:?} is neither a known checksum database nor a verifier key")
    })?;
    let url = match words.next() {
        None => format!("https://{}", key.name()),
        Some(url) => url.to_owned(),
    };
    let url: Url = url
        .parse()
        .with_context(|| format!("gosumdb: {url:?} is no address"))?;
    if !matches!(url.scheme(), "http" | "https") || words.next().is_some() {
        bail!(
            "gosumdb must be a name or verifier key, and at most one http or https address after it"
        );
    }
    Ok(Some(Database { key, url }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gosumdb() {
        let check = |text: &str, want: &str| {
            let got = match parse_gosumdb(text) {
                Ok(None) => "off".to_owned(),
                Ok(Some(Database { key, url })) => format!("{} at {url}", key.name()),
                Err(_) => "error".to_owned(),
            };
            assert_eq!(got, want, "for {text:?}");
        };
        check("", "sum.golang.org at https://sum.golang.org/");
        check("off", "off");
        check(
            "sum.golang.org",
            "sum.golang.org at https://sum.golang.org/",
        );
        check(
            "sum.golang.org http://127.0.0.1:1/x",
            "sum.golang.org at http://127.0.0.1:1/x",
        );
        check(KNOWN[0], "sum.golang.org at https://sum.golang.org/");
        check("other.example", "error");
        check("sum.golang.org file:///x", "error");
        check("sum.golang.org https://a.example b", "error");
    }
}
