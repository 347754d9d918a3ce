//! The feed of what concerns everybody who relies on this node: what was found to differ, and who fell silent (RFC 4287).
//!
//! Pure: alerts go in, a document comes out, the same for the same alerts. Out of scope: serving it. What concerns only the
//! operator, such as a full disk, is not in it.

use anyhow::Context as _;
use atom_syndication::{Category, Content, Entry, Feed, FixedDateTime, Generator, Link, Person, Text};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::Message;
use super::advice::{Advice, headline};
use crate::model::AlertKind;

/// Entries of a feed, the newest.
pub const ENTRIES: usize = 100;

/// What is in the feed.
pub const KINDS: [AlertKind; 8] = [
    AlertKind::Divergence,
    AlertKind::Contradiction,
    AlertKind::Fork,
    AlertKind::Rollback,
    AlertKind::BadRoot,
    AlertKind::MirrorMismatch,
    AlertKind::OwnLog,
    AlertKind::PeerSilent,
];

/// The feed of the node with this name and verifier key, which is reached at `origin`, such as `https://sums.example.org`.
///
/// # Errors
/// A time of an alert is none.
pub fn feed(name: &str, vkey: &str, origin: &str, messages: &[Message]) -> anyhow::Result<String> {
    let entries = messages.iter().map(|message| entry(vkey, message)).collect::<anyhow::Result<Vec<_>>>()?;
    let updated = entries.iter().map(|entry| entry.updated).max();
    let feed = Feed {
        title: Text::plain(xml(&format!("Divergences and silences seen by {name}"))),
        id: urn(vkey, "feed"),
        // A feed without entries has not changed since there were no feeds.
        updated: updated.map_or_else(|| time(Timestamp::UNIX_EPOCH), Ok)?,
        authors: vec![Person { name: xml(name), ..Person::default() }],
        generator: Some(Generator {
            value: "sumpeer".to_owned(),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            uri: None,
        }),
        links: vec![link("self", &format!("{origin}/feed.atom")), link("alternate", &format!("{origin}/divergences"))],
        entries,
        ..Feed::default()
    };
    Ok(feed.to_string())
}

fn entry(vkey: &str, message: &Message) -> anyhow::Result<Entry> {
    let advice = Advice::about(message).context("a stored alert is of an unknown kind")?;
    // That something was seen again is no news, that it is over is.
    let updated = if message.is_open() { message.first_seen } else { message.last_seen };
    Ok(Entry {
        title: Text::plain(xml(&headline(message))),
        id: urn(vkey, &format!("alert {}", message.id)),
        published: Some(time(message.first_seen)?),
        updated: time(updated)?,
        links: vec![link("alternate", &message.url)],
        categories: vec![Category { term: xml(&message.kind), ..Category::default() }],
        content: Some(Content {
            content_type: Some("text".to_owned()),
            value: Some(xml(&format!("{}\n\n{}\n\n{}", message.summary, advice.meaning, advice.todo))),
            ..Content::default()
        }),
        ..Entry::default()
    })
}

fn link(rel: &str, href: &str) -> Link {
    let mime_type = (rel == "self").then(|| "application/atom+xml".to_owned());
    Link { rel: rel.to_owned(), href: xml(href), mime_type, ..Link::default() }
}

fn time(at: Timestamp) -> anyhow::Result<FixedDateTime> {
    at.to_string().parse().ok().with_context(|| format!("the time {at} cannot be written"))
}

/// A name that no other node and no other thing of this node has: a UUID made of a hash (RFC 9562, version 8).
fn urn(vkey: &str, what: &str) -> String {
    let hash = Sha256::digest(format!("{vkey}\n{what}\n"));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = data_encoding::HEXLOWER.encode(&bytes);
    format!("urn:uuid:{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// A text without the characters that XML has no way to write.
fn xml(text: &str) -> String {
    let fits = |c: char| matches!(c, '\t' | '\n' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    text.chars().map(|c| if fits(c) { c } else { '\u{fffd}' }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(id: &str, kind: AlertKind, open: bool, summary: &str) -> Message {
        let (first, last) = (Timestamp::from_second(1000).unwrap(), Timestamp::from_second(2000).unwrap());
        Message {
            id: id.to_owned(),
            kind: kind.to_string(),
            state: if open { "open" } else { "resolved" },
            first_seen: first,
            last_seen: last,
            summary: summary.to_owned(),
            ..Message::test("node", "https://node.example")
        }
    }

    fn made(messages: &[Message]) -> (String, Feed) {
        let text = feed("node.example", "node.example+1+x", "https://node.example", messages).unwrap();
        let read = Feed::read_from(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"));
        (text, read)
    }

    #[test]
    fn a_feed_has_all_that_readers_need_and_the_same_names_each_time() {
        let open = message("7", AlertKind::Divergence, true, "a and b <differ> & more");
        let (text, feed) = made(std::slice::from_ref(&open));
        assert_eq!(text, made(std::slice::from_ref(&open)).0);
        assert!(feed.id.starts_with("urn:uuid:") && feed.authors[0].name == "node.example");
        assert_eq!(feed.updated.to_rfc3339(), "1970-01-01T00:16:40+00:00");
        let hrefs: Vec<_> = feed.links.iter().map(|link| (link.rel.as_str(), link.href.as_str())).collect();
        let (own, page) = ("https://node.example/feed.atom", "https://node.example/divergences");
        assert_eq!(hrefs, [("self", own), ("alternate", page)]);
        let entry = &feed.entries[0];
        assert_eq!(entry.title.value, "Different sums: a and b <differ> & more");
        assert_eq!(entry.categories[0].term, "divergence");

        // The same alert when it is over: the same entry, changed.
        let over = message("7", AlertKind::Divergence, false, "a and b differ");
        let (_, later) = made(&[over, message("8", AlertKind::Fork, true, "c")]);
        assert_eq!(later.entries[0].id, entry.id);
        assert!(later.entries[0].updated > entry.updated && later.updated == later.entries[0].updated);
        assert!(later.entries[1].id != entry.id && later.id == feed.id);
        assert!(made(&[]).1.entries.is_empty());
    }

    proptest! {
        #[test]
        fn whatever_is_told_the_feed_is_one(summary in any::<String>(), name in any::<String>()) {
            let text = feed(&name, "k", "https://a.example", &[message("1", AlertKind::Rollback, true, &summary)]);
            let text = text.unwrap();
            let read = Feed::read_from(text.as_bytes());
            prop_assert!(read.is_ok(), "{text}");
            prop_assert_eq!(read.unwrap().entries.len(), 1);
            prop_assert!(!text.contains(|c: char| c.is_control() && !"\t\n\r".contains(c)), "{}", text);
        }
    }
}
