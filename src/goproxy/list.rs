//! The list of module proxies, in the go command's own syntax.
//!
//! Out of scope: asking them ([`super::Client`]). Rules as in Go's `cmd/go/internal/modfetch` (`proxyList`,
//! `TryProxies`): after `,` the next entry is tried only when the one before says "no such thing" (404, 410),
//! after `|` on any error; `off` and `direct` are words that end the list.

use std::fmt;
use std::str::FromStr;

use url::Url;

/// What `GOPROXY` says, parsed. At least one entry.
///
/// Displayed without user names and passwords, so it may be logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyList {
    pub(super) entries: Vec<Entry>,
}

/// One place to ask, and what makes us ask the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) place: Place,
    /// Followed by `|`: any error leads to the next entry, not only "no such thing".
    pub(super) on_any_error: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Base address of a proxy, without a slash at its end.
    Proxy(Url),
    /// Version control systems. Always the last entry, as in Go.
    Direct,
    /// Nothing may be fetched. Always the last entry.
    Off,
}

/// Why a text is no proxy list, in one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ListError(String);

/// More entries than anyone has; each may cost a timeout.
const MAX_ENTRIES: usize = 20;

impl FromStr for ProxyList {
    type Err = ListError;

    fn from_str(text: &str) -> Result<ProxyList, ListError> {
        let mut entries = Vec::new();
        for piece in text.split_inclusive([',', '|']) {
            let word = piece.trim_end_matches([',', '|']).trim();
            let place = match word {
                "" => continue,
                "off" => Place::Off,
                "direct" => Place::Direct,
                _ => Place::Proxy(parse_proxy(word)?),
            };
            let last = !matches!(place, Place::Proxy(_));
            entries.push(Entry { place, on_any_error: piece.ends_with('|') });
            if last {
                break;
            }
            if entries.len() > MAX_ENTRIES {
                return Err(ListError(format!("the module proxy list has more than {MAX_ENTRIES} entries")));
            }
        }
        if entries.is_empty() {
            return Err(ListError("the module proxy list names no proxy".into()));
        }
        Ok(ProxyList { entries })
    }
}

fn parse_proxy(word: &str) -> Result<Url, ListError> {
    // Words without a dot, colon or slash are kept for Go's own use; a bare host name means https.
    let address = if word.contains(['.', ':', '/']) && !word.contains(":/") && !word.starts_with('/') {
        format!("https://{word}")
    } else {
        word.to_owned()
    };
    // The word itself stays out of the messages: it may hold a password.
    let mut url = Url::parse(&address)
        .map_err(|error| ListError(format!("the module proxy list has an entry that is no address: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(ListError(format!(
            "module proxies with {}: addresses are not supported, only http and https",
            url.scheme()
        )));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(ListError("a module proxy's address must have no query and no fragment".into()));
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

impl fmt::Display for ProxyList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for entry in &self.entries {
            write!(f, "{separator}{}", entry.place)?;
            separator = if entry.on_any_error { "|" } else { "," };
        }
        Ok(())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Proxy(url) => f.write_str(&shown(url)),
            Place::Direct => f.write_str("direct"),
            Place::Off => f.write_str("off"),
        }
    }
}

/// An address as it may be logged: without user name and password.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Both only fail for addresses without a host, which http addresses never are.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.as_str().trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: &str) {
        let got = match text.parse::<ProxyList>() {
            Ok(list) => list.to_string(),
            Err(error) => format!("error: {error}"),
        };
        assert_eq!(got, want, "for {text:?}");
    }

    #[test]
    fn lists_are_parsed_as_go_does() {
        check("https://a.example", "https://a.example");
        check("https://a.example/,direct", "https://a.example,direct");
        check("https://a.example|http://b.example:8080/x/|off", "https://a.example|http://b.example:8080/x|off");
        check(" , https://a.example ,, b.example", "https://a.example,https://b.example");
        check("direct,https://a.example", "direct");
        check("off|https://a.example", "off");
        check("https://user:secret@a.example/p", "https://a.example/p");
        check("", "error: the module proxy list names no proxy");
        check(",|", "error: the module proxy list names no proxy");
    }

    #[test]
    fn what_is_no_proxy_is_refused_without_showing_it() {
        for text in [
            "file:///var/mods",
            "/var/mods",
            "proxy",
            "https://u:secret@h ost/",
            "https://a.example/?q",
            "ftp://u:secret@a",
        ] {
            let error = text.parse::<ProxyList>().unwrap_err().to_string();
            assert!(!error.contains("secret"), "{text}: {error}");
        }
        assert!("a.b,".repeat(50).parse::<ProxyList>().is_err());
    }
}
