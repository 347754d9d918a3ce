//! Alerts as mail, from a real node to a small mail server: refused at first, delivered in the end, once.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sumpeer::store::ReadOnly;

use crate::world::{Modules, Place, eventually, free_address, program, words};

/// Some polls, and some pauses between tries.
const PATIENCE: Duration = Duration::from_secs(90);

/// A mail server that keeps what it takes.
#[derive(Clone)]
struct Mailbox {
    address: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Receiver and text.
    mails: Vec<(String, String)>,
    /// Receivers that it refuses.
    refused: Vec<String>,
}

impl Mailbox {
    fn start() -> Mailbox {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                std::thread::spawn(move || drop(talk(&stream, &state)));
            }
        });
        Mailbox { address, state }
    }

    fn refuse(&self, names: &[&str]) {
        self.state.lock().expect("a state").refused = names.iter().map(|name| (*name).to_owned()).collect();
    }

    /// The subjects of what a receiver got.
    fn subjects(&self, to: &str) -> Vec<String> {
        let state = self.state.lock().expect("a state");
        let subject = |text: &str| text.lines().find_map(|line| line.strip_prefix("Subject: ")).map(str::to_owned);
        state.mails.iter().filter(|(name, _)| name == to).filter_map(|(_, text)| subject(text)).collect()
    }
}

fn talk(stream: &TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let (mut lines, mut answers) = (BufReader::new(stream), stream);
    let mut to = String::new();
    answers.write_all(b"220 test\r\n")?;
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim_end();
        let answer = match line.split(' ').next().unwrap_or_default() {
            "RCPT" => {
                to = line.trim_start_matches("RCPT TO:<").trim_end_matches('>').to_owned();
                let refused = state.lock().expect("a state").refused.contains(&to);
                if refused { "550 no such mailbox" } else { "250 ok" }
            }
            "DATA" => {
                answers.write_all(b"354 go on\r\n")?;
                let mut text = String::new();
                while !text.ends_with("\r\n.\r\n") {
                    if lines.read_line(&mut text)? == 0 {
                        return Ok(());
                    }
                }
                state.lock().expect("a state").mails.push((to.clone(), text));
                "250 taken"
            }
            _ => "250 ok",
        };
        answers.write_all(format!("{answer}\r\n").as_bytes())?;
    }
}

#[test]
fn a_mail_comes_to_everybody_once_whatever_the_server_refuses_meanwhile() {
    let modules = Modules::start();
    let mailbox = Mailbox::start();
    let nobody = Place { address: free_address(), ..Place::new("nobody.example") };
    let setup = Place::new("own.example").verifies(&modules, "", &[&nobody]).with(&format!(
        "[alerts]\npeer-silence = \"2s\"\nlongest-retry = \"2s\"\n[alerts.email]\nserver = \"smtp://{}\"\n\
         from = \"Sums <sums@own.example>\"\nto = [\"one@example.org\", \"Two <two@example.org>\"]\n",
        mailbox.address
    ));
    let silent = |to: &str| mailbox.subjects(to).iter().filter(|text| text.contains("A silent peer:")).count();
    mailbox.refuse(&["two@example.org"]);
    let node = setup.start();
    eventually(PATIENCE, "one gets it", || silent("one@example.org") == 1);
    eventually(PATIENCE, "why the other does not is said", || setup.log().contains("refuses: 550 no such mailbox"));
    let pending = || {
        ReadOnly::open(&setup.data).and_then(|store| store.read(|reader| reader.pending("email:one@example.org", 1)))
    };
    eventually(PATIENCE, "it is noted that one has it", || pending().expect("the outbox").is_empty());
    // Not even a node that dies tells the first one again.
    node.kill();
    let node = setup.start();
    let refused = setup.log().matches("550 no such mailbox").count();
    eventually(PATIENCE, "it is tried again", || setup.log().matches("550 no such mailbox").count() > refused + 1);
    mailbox.refuse(&[]);
    eventually(PATIENCE, "the other gets it", || silent("two@example.org") == 1);

    // A test goes to everybody at once.
    let (code, out, said) = words(program().args(["alerts", "test", "--config"]).arg(setup.file()));
    assert_eq!(code, Some(0), "{out}{said}");
    for to in ["one@example.org", "two@example.org"] {
        let subjects = mailbox.subjects(to);
        assert!(subjects.len() == 2 && subjects[1].contains("This is a test of own.example"), "{subjects:?}");
    }
    mailbox.refuse(&["one@example.org"]);
    let (code, out, said) = words(program().args(["alerts", "test", "--config"]).arg(setup.file()));
    assert!(code == Some(1) && format!("{out}{said}").contains("550 no such mailbox"), "{code:?} {out}{said}");

    let feed = node.get("/feed.atom");
    assert_eq!(
        (feed.status, feed.header("content-type").as_deref()),
        (200, Some("application/atom+xml; charset=utf-8"))
    );
    assert!(feed.text().contains("<category term=\"peer-silent\"/>") && feed.text().contains("nobody.example"));
    let tag = feed.header("etag").expect("a tag");
    assert_eq!(node.send("GET /feed.atom", &format!("If-None-Match: {tag}\r\n"), "").status, 304);
    assert!(node.get("/").text().contains("href=\"/feed.atom\""));
    assert_eq!(node.terminate().0, Some(0));
}

#[test]
fn mail_settings_that_make_no_sense_are_refused_in_a_sentence() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("config.toml");
    let whole = "server = \"smtps://mail.example\"\nfrom = \"a@b.example\"\nto = [\"c@d.example\"]\n";
    for (from, to, says) in [
        ("smtps://mail", "http://mail", "neither with smtps:// nor with smtp://"),
        ("smtps://mail", "smtps://me:secret@mail", "a password does not belong into it"),
        ("smtps://mail", "smtps://me@mail", "password-file belong together"),
        ("a@b.example", "nobody", "alerts.email.from: \"nobody\" is no mail address"),
        ("c@d.example", "c@d.example\\r\\nBcc: x@y.example", "alerts.email.to:"),
        ("\"c@d.example\"", "\"c@d.example\", \"C <c@d.example>\"", "is there twice"),
        ("\"c@d.example\"", "", "to is missing"),
    ] {
        std::fs::write(&config, format!("[alerts.email]\n{}", whole.replace(from, to))).expect("written");
        let (code, out, said) = words(program().args(["config", "check"]).arg(&config));
        let all = format!("{out}{said}");
        assert!(code == Some(1) && all.contains(says) && !all.contains("secret"), "{to}: {code:?} {all}");
    }
    std::fs::write(&config, "[alerts.heartbeat]\nurl = \"ftp://x.example/\"\nevery = \"0s\"\n").expect("written");
    let (code, out, said) = words(program().args(["config", "check"]).arg(&config));
    let all = format!("{out}{said}");
    assert!(code == Some(1) && all.contains("of http or https") && all.contains("every must not be zero"), "{all}");
}
