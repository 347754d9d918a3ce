//! Mail against a small mail server, which takes it, refuses it, or breaks off wherever it likes.

mod smtp;

use std::path::PathBuf;

use jiff::Timestamp;
use proptest::prelude::*;

use super::letter::{Envelope, digest, letter};
use super::server::Security;
use super::*;
use crate::alert::{Message, Told};
use crate::model::AlertKind;
use smtp::{Fault, Smtp, Tls};

/// How long a conversation may take here, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

fn told(kind: AlertKind, summary: &str) -> Told {
    let test = Message::test("node.example", "https://node.example");
    let spec = Some("a.example/b@v1.0.0/linux-amd64-go1.27.1/".to_owned());
    let (kind, summary) = (kind.to_string(), summary.to_owned());
    let message = Message { id: "7".to_owned(), kind, summary, spec, party: Some("beta".to_owned()), ..test };
    Told::test(message, Timestamp::from_second(1000).unwrap())
}

fn envelope(node: &str) -> Envelope {
    let mailbox = |text: &str| text.parse().unwrap();
    Envelope { node: node.to_owned(), from: mailbox("Sums <sums@node.example>"), to: mailbox("me@example.org") }
}

fn file(folder: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    path
}

/// A channel to a server on this machine, spoken to as is said.
fn email(folder: &tempfile::TempDir, smtp: &Smtp, security: Security, trusted: bool) -> Email {
    let Envelope { node, from, to } = envelope("node.example");
    let url = format!("smtp://me@localhost:{}", smtp.port()).parse().unwrap();
    let server = MailServer::from_url(&url).unwrap().with_security(security, PATIENCE);
    let password = file(folder, "password", "s3cret phrase\n");
    let ca = trusted.then(|| file(folder, "ca.pem", &smtp.certificate()));
    Email::new(&node, server, Some(password), ca, &from, &to).unwrap()
}

#[tokio::test]
async fn a_mail_arrives_whole_however_the_server_is_spoken_to() {
    let folder = tempfile::tempdir().unwrap();
    for (tls, security) in [(Tls::None, Security::Plain), (Tls::Start, Security::StartTls), (Tls::First, Security::Tls)]
    {
        let smtp = Smtp::start(tls, "localhost").await;
        let email = email(&folder, &smtp, security, true);
        let told = told(AlertKind::Divergence, "a and b differ.\n.\nQUIT");
        email.send(std::slice::from_ref(&told)).await.unwrap_or_else(|error| panic!("{security:?}: {error}"));
        let mails = smtp.mails();
        assert_eq!(mails.len(), 1);
        let mail = &mails[0];
        assert_eq!(
            (mail.from.as_str(), mail.to.as_slice()),
            ("<sums@node.example>", &["<me@example.org>".to_owned()][..])
        );
        assert_eq!(mail.login, "me s3cret phrase");
        for part in [
            "Subject: [node.example] Different sums: a and b differ. . QUIT\r\n".to_owned(),
            format!("Message-ID: <{}@node.example>\r\n", told.uid),
            "Auto-Submitted: auto-generated\r\n".to_owned(),
            "MIME-Version: 1.0\r\n".to_owned(),
            "What it means\r\n".to_owned(),
            "What to do\r\n".to_owned(),
            "https://node.example/".to_owned(),
        ] {
            assert!(mail.text.contains(&part), "{part:?} is not in:\n{}", mail.text);
        }
        assert!(mail.text.is_ascii());
    }
}

#[tokio::test]
async fn whatever_goes_wrong_is_said_and_the_next_try_delivers() {
    let folder = tempfile::tempdir().unwrap();
    let smtp = Smtp::start(Tls::None, "localhost").await;
    let url = format!("smtp://me@localhost:{}", smtp.port()).parse().unwrap();
    let Envelope { node, from, to } = envelope("node.example");
    let server = MailServer::from_url(&url).unwrap().with_security(Security::Plain, Duration::from_millis(700));
    let email = Email::new(&node, server, Some(file(&folder, "password", "x")), None, &from, &to).unwrap();
    let told = told(AlertKind::Fork, "b forked.");
    let long = format!("550-{}\r\n", "x".repeat(900)).repeat(100);
    for (verb, fault, wanted) in [
        ("CONNECT", Fault::Reply("554 go away"), "refuses: 554 go away"),
        ("EHLO", Fault::Reply("421 too busy"), "does not take it for now: 421 too busy"),
        ("AUTH", Fault::Reply("535 5.7.8 no such user"), "cannot log in as me"),
        ("AUTH", Fault::Reply("535 5.7.8 no such user"), "535 5.7.8 no such user"),
        ("MAIL", Fault::Reply("451 come back"), "does not take it for now: 451 come back"),
        ("RCPT", Fault::Reply("550-no such\r\n550 mailbox\x1b[2J"), "refuses: 550 no such mailbox [2J"),
        ("DATA", Fault::Reply("552 full"), "refuses: 552 full"),
        (".", Fault::Reply("554 spam"), "refuses: 554 spam"),
        ("MAIL", Fault::Reply("hello?"), "the conversation with smtp://localhost:"),
        ("MAIL", Fault::Reply(Box::leak(long.into_boxed_str())), "it said more than 32768 bytes"),
        ("CONNECT", Fault::Hang, "did not answer within"),
        ("AUTH", Fault::Hang, "of logging in"),
        (".", Fault::Hang, "of handing over the message"),
        ("CONNECT", Fault::Drop, "the conversation with smtp://localhost:"),
        ("RCPT", Fault::Drop, "the conversation with smtp://localhost:"),
        (".", Fault::Drop, "the conversation with smtp://localhost:"),
    ] {
        smtp.fail(Some((verb, fault)));
        let error = email.send(std::slice::from_ref(&told)).await.expect_err(verb);
        assert!(error.contains(wanted), "{verb} {fault:?}: {error}");
        assert!(error.chars().count() < 500 && !error.contains(|c: char| c.is_control()), "{error}");
        assert!(smtp.mails().is_empty(), "{verb}");
    }
    smtp.fail(None);
    email.send(std::slice::from_ref(&told)).await.unwrap();
    // The mail was taken over, but the answer was lost: it comes again, and can be known by its name.
    smtp.fail(Some((".", Fault::Lose)));
    email.send(std::slice::from_ref(&told)).await.expect_err("lost");
    smtp.fail(None);
    email.send(std::slice::from_ref(&told)).await.unwrap();
    let name = |mail: &smtp::Mail| mail.text.lines().find(|line| line.starts_with("Message-ID:")).map(str::to_owned);
    let names: Vec<_> = smtp.mails().iter().map(name).collect();
    assert!(names.len() == 3 && names[0].is_some() && names.iter().all(|name| *name == names[0]), "{names:?}");
    // After the answer nothing can make it a failure.
    for fault in [Fault::Reply("500 what?"), Fault::Hang, Fault::Drop] {
        smtp.fail(Some(("QUIT", fault)));
        email.send(std::slice::from_ref(&told)).await.unwrap();
    }
    assert_eq!(smtp.mails().len(), 6);
}

#[tokio::test]
async fn nobody_but_the_server_that_was_meant_gets_a_mail() {
    let folder = tempfile::tempdir().unwrap();
    let told = told(AlertKind::Fork, "b forked.");
    let (start, first) = ((Tls::Start, Security::StartTls), (Tls::First, Security::Tls));
    for (tls, security, name, trusted, wanted) in [
        (first.0, first.1, "localhost", false, "is by no authority that is known"),
        (first.0, first.1, "other.example", true, "is not trusted"),
        (start.0, start.1, "localhost", false, "is by no authority that is known"),
        (start.0, start.1, "other.example", true, "is not trusted"),
        // A server, or somebody before it, that does without.
        (Tls::None, Security::StartTls, "localhost", true, "STARTTLS is not supported"),
        (Tls::None, Security::Tls, "localhost", true, "the conversation with smtps://localhost:"),
        // Words of somebody on the way, sent along with the answer to STARTTLS.
        (Tls::Injected, Security::StartTls, "localhost", true, "the conversation with smtp://localhost:"),
    ] {
        let smtp = Smtp::start(tls, name).await;
        let email = email(&folder, &smtp, security, trusted);
        let error = email.send(std::slice::from_ref(&told)).await.expect_err("not trusted");
        assert!(error.contains(wanted), "{tls:?} {security:?} {name} {trusted}: {error}");
        assert!(smtp.mails().is_empty() && smtp.logins() == 0, "{tls:?} {security:?} {name}: {error}");
    }
}

#[tokio::test]
async fn what_a_file_lacks_is_said_without_showing_it() {
    let folder = tempfile::tempdir().unwrap();
    let Envelope { node, from, to } = envelope("node.example");
    let with = |url: &str, password: Option<&str>, ca: Option<&str>| {
        let path = |name: &str, text: Option<&str>| text.map(|text| file(&folder, name, text));
        let server = MailServer::from_url(&url.parse().unwrap()).unwrap();
        Email::new(&node, server, path("password", password), path("ca", ca), &from, &to).map(|_| ())
    };
    for (url, password, ca, wanted) in [
        ("smtps://me@mail.example", None, None, "belong together"),
        ("smtps://mail.example", Some("x"), None, "belong together"),
        ("smtps://me@mail.example", Some("\n"), None, "is empty"),
        ("smtps://me@mail.example", Some("x"), Some("s3cret"), "holds no certificate"),
        (
            "smtps://me@mail.example",
            Some("x"),
            Some("-----BEGIN CERTIFICATE-----\ns3cret\n-----END CERTIFICATE-----\n"),
            "cannot set up TLS",
        ),
    ] {
        let error = format!("{:#}", with(url, password, ca).expect_err(wanted));
        assert!(error.contains(wanted) && !error.contains("s3cret"), "{error}");
    }
    with("smtps://me@mail.example", Some("x"), None).unwrap();
    with("smtp://mail.example", None, None).unwrap();
}

/// The headers and the body of a mail, and what is wrong with its form.
fn taken_apart(mail: &lettre::Message) -> Result<(Vec<String>, String), String> {
    let text = String::from_utf8(mail.formatted()).map_err(|error| error.to_string())?;
    if !text.is_ascii() || text.replace("\r\n", "").contains(['\r', '\n', '\0']) {
        return Err(format!("not a mail's characters: {text:?}"));
    }
    let (head, body) = text.split_once("\r\n\r\n").ok_or("no end of the headers")?;
    let mut headers = Vec::new();
    for line in head.split("\r\n") {
        if line.len() > 998 {
            return Err(format!("a line of {} characters", line.len()));
        }
        if !line.starts_with([' ', '\t']) {
            headers.push(line.split(':').next().unwrap_or_default().to_owned());
        }
    }
    headers.sort();
    Ok((headers, body.to_owned()))
}

const HEADERS: [&str; 9] = [
    "Auto-Submitted",
    "Content-Transfer-Encoding",
    "Content-Type",
    "Date",
    "From",
    "MIME-Version",
    "Message-ID",
    "Subject",
    "To",
];

#[test]
fn a_mail_about_many_lists_them_all() {
    let all: Vec<Told> = (0..200).map(|number| told(AlertKind::Disk, &format!("Alert number {number}."))).collect();
    let mail = digest(&envelope("node.example"), &all).unwrap();
    let (headers, body) = taken_apart(&mail).unwrap();
    assert_eq!(headers, HEADERS);
    for number in 0..200 {
        assert!(body.contains(&format!("Alert number {number}.\r\n")), "{number}");
    }
    // The same at every try.
    let name = |mail: &lettre::Message| {
        let text = String::from_utf8(mail.formatted()).unwrap();
        text.lines().find(|line| line.starts_with("Message-ID:")).map(str::to_owned)
    };
    assert_eq!(name(&mail), name(&digest(&envelope("node.example"), &all).unwrap()));
    assert_ne!(name(&mail), name(&digest(&envelope("node.example"), &all[1..]).unwrap()));
}

proptest! {
    #[test]
    fn no_name_and_no_sentence_becomes_a_header(
        node in hostile(), summary in hostile(), party in hostile(), spec in hostile(), url in hostile(),
    ) {
        let mut told = told(AlertKind::Divergence, &summary);
        told.message.party = Some(party);
        told.message.spec = Some(spec);
        told.message.url = url;
        for mail in [letter(&envelope(&node), &told), digest(&envelope(&node), &[told.clone(), told.clone()])] {
            let mail = mail.unwrap();
            let (headers, _) = taken_apart(&mail).map_err(TestCaseError::fail)?;
            prop_assert_eq!(headers, HEADERS);
            prop_assert_eq!(mail.envelope().to().len(), 1);
        }
    }
}

/// Texts that have what ends lines and headers in them more often than chance would.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        any::<String>(),
        Just("\r\n".to_owned()),
        Just("\n".to_owned()),
        Just("\r".to_owned()),
        Just("\r\n\r\n".to_owned()),
        Just("Bcc: you@example.org".to_owned()),
        Just("\r\n.\r\nMAIL FROM:<a@b>\r\n".to_owned()),
        Just("=?utf-8?q?=0D=0ABcc:_you=40example.org?=".to_owned()),
        Just("\u{85}\u{2028}\0".to_owned()),
        "[ -~]{300}",
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}
