//! Mails about alerts, as texts: one about a single event, one that lists many.
//!
//! What peers are called, what they say and how alerts are worded never becomes part of a header's structure: it stands in
//! the subject, encoded and in one line, and in the body, encoded. Out of scope: sending.

use std::fmt::Write as _;

use anyhow::Context as _;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MessageBuilder, SinglePart};
use sha2::{Digest as _, Sha256};

use super::server::one_line;
use crate::alert::advice::{Advice, headline};
use crate::alert::{Message, Told};

/// Characters of a subject.
const SUBJECT: usize = 150;

/// Who writes to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Envelope {
    /// The name of this node.
    pub(super) node: String,
    pub(super) from: Mailbox,
    pub(super) to: Mailbox,
}

/// A mail about what happened to one alert.
///
/// # Errors
/// It cannot be put into the form of a mail.
pub(super) fn letter(envelope: &Envelope, told: &Told) -> anyhow::Result<lettre::Message> {
    let message = &told.message;
    let subject = headline(message);
    let mut body = String::new();
    push(&mut body, message);
    if let Some(advice) = Advice::about(message) {
        let (meaning, todo) = (fold(advice.meaning), fold(advice.todo));
        let _ = write!(body, "\nWhat it means\n\n{meaning}\n\nWhat to do\n\n{todo}\n");
    }
    finish(envelope, builder(envelope, &subject, &told.uid), body)
}

/// A mail that lists what happened to many alerts, in order.
///
/// # Errors
/// It cannot be put into the form of a mail.
pub(super) fn digest(envelope: &Envelope, told: &[Told]) -> anyhow::Result<lettre::Message> {
    let subject = format!("{} alerts in one mail", told.len());
    let mut body = format!(
        "More has happened than can be told in a mail each. This is all that was not told yet, {} in number.\n",
        told.len()
    );
    for (number, told) in (1..).zip(told) {
        let _ = write!(body, "\n{number}. ");
        push(&mut body, &told.message);
    }
    let uids: Vec<&str> = told.iter().map(|told| told.uid.as_str()).collect();
    let id = data_encoding::HEXLOWER.encode(&Sha256::digest(uids.join("\n"))[..16]);
    finish(envelope, builder(envelope, &subject, &id), body)
}

/// What is known of an alert, a line each.
fn push(body: &mut String, message: &Message) {
    let _ = writeln!(body, "{}", fold(&one_paragraph(&headline(message))));
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(body, "  {name}: {}", one_paragraph(value));
    };
    line("kind", &message.kind);
    line("state", message.state);
    if let Some(spec) = &message.spec {
        line("spec", spec);
    }
    if let Some(party) = &message.party {
        line("party", party);
    }
    for word in &message.words {
        line("word", &format!("{} named {} of {} bytes in entry {}", word.party, word.sum, word.size, word.number));
    }
    line("first seen", &message.first_seen.to_string());
    line("last seen", &message.last_seen.to_string());
    line("more", &message.url);
}

fn builder(envelope: &Envelope, subject: &str, event: &str) -> MessageBuilder {
    let subject = one_line(&format!("[{}] {subject}", envelope.node));
    let subject = match subject.char_indices().nth(SUBJECT) {
        Some((end, _)) => format!("{}…", &subject[..end]),
        None => subject,
    };
    let raw =
        |name: &'static str, value: &str| HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned());
    lettre::Message::builder()
        .from(envelope.from.clone())
        .to(envelope.to.clone())
        .subject(subject)
        // The same at every try, so that mail programs show what was delivered twice once.
        .message_id(Some(format!("<{event}@{}>", envelope.from.email.domain())))
        // Nobody's holiday note should answer (RFC 3834).
        .raw_header(raw("Auto-Submitted", "auto-generated"))
}

fn finish(envelope: &Envelope, builder: MessageBuilder, mut body: String) -> anyhow::Result<lettre::Message> {
    let _ = write!(body, "\n-- \nsumpeer {} at {}\n", env!("CARGO_PKG_VERSION"), one_paragraph(&envelope.node));
    builder.singlepart(SinglePart::plain(body)).context("cannot write a mail")
}

/// Without control characters: a text of somebody else moves no cursor of the reader's terminal.
fn one_paragraph(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Lines of at most 76 characters, broken between words.
fn fold(text: &str) -> String {
    let mut folded = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > 76 {
            folded.push('\n');
            column = 0;
        } else if column > 0 {
            folded.push(' ');
            column += 1;
        }
        folded.push_str(word);
        column += length;
    }
    folded
}
