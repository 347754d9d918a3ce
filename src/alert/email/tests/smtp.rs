//! A mail server for tests: it keeps what it takes, with or without TLS, and fails where it is told to.

use std::io;
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// How it secures connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tls {
    None,
    /// When the client asks for it.
    Start,
    /// From the first byte.
    First,
    /// As `Start`, but somebody adds answers to the one that is in the clear.
    Injected,
}

/// How it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Reply(&'static str),
    Hang,
    Drop,
    /// It does what it is asked to, and then drops the connection.
    Lose,
}

/// What it took.
#[derive(Clone, Debug, Default)]
pub(super) struct Mail {
    pub(super) login: String,
    pub(super) from: String,
    pub(super) to: Vec<String>,
    pub(super) text: String,
}

pub(super) struct Smtp {
    port: u16,
    certificate: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    mails: Mutex<Vec<Mail>>,
    logins: Mutex<usize>,
    fault: Mutex<Option<(&'static str, Fault)>>,
}

impl Smtp {
    /// With a certificate for this name.
    #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
    pub(super) async fn start(tls: Tls, name: &str) -> Smtp {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let certificate = made.cert.pem();
        let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, state) = (acceptor.clone(), shared.clone());
                tokio::spawn(async move { serve(stream, tls, &acceptor, &state).await });
            }
        });
        Smtp { port, certificate, state }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Its certificate, as PEM.
    pub(super) fn certificate(&self) -> String {
        self.certificate.clone()
    }

    /// Fails at a command from now on; `CONNECT` is the greeting, `.` the end of a mail.
    pub(super) fn fail(&self, fault: Option<(&'static str, Fault)>) {
        *self.state.fault.lock().unwrap() = fault;
    }

    pub(super) fn mails(&self) -> Vec<Mail> {
        self.state.mails.lock().unwrap().clone()
    }

    /// How often somebody has shown a password.
    pub(super) fn logins(&self) -> usize {
        *self.state.logins.lock().unwrap()
    }
}

async fn serve(stream: TcpStream, tls: Tls, acceptor: &TlsAcceptor, state: &State) -> io::Result<()> {
    if tls == Tls::First {
        return talk(acceptor.accept(stream).await?, Tls::None, true, state).await.map(drop);
    }
    if let Some(mut stream) = talk(stream, tls, true, state).await? {
        let injected = if tls == Tls::Injected { "250-evil\r\n250 AUTH PLAIN\r\n" } else { "" };
        stream.write_all(format!("220 go ahead\r\n{injected}").as_bytes()).await?;
        talk(acceptor.accept(stream).await?, Tls::None, false, state).await?;
    }
    Ok(())
}

/// One conversation. Returns the stream if it is to be secured.
async fn talk<S>(stream: S, tls: Tls, greets: bool, state: &State) -> io::Result<Option<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut stream = BufReader::new(stream);
    let mut mail = Mail::default();
    if greets && !answer(&mut stream, state, "CONNECT", "220 test").await? {
        return Ok(None);
    }
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let (verb, rest) = line.trim_end().split_once(' ').unwrap_or((line.trim_end(), ""));
        let address =
            || rest.split_once(':').map(|(_, address)| address.split(' ').next().unwrap_or_default().to_owned());
        let reply = match verb {
            "EHLO" if tls == Tls::None => "250-test\r\n250 AUTH PLAIN",
            "EHLO" => "250-test\r\n250-STARTTLS\r\n250 AUTH PLAIN",
            "STARTTLS" if tls != Tls::None => return Ok(Some(stream.into_inner())),
            "AUTH" => {
                *state.logins.lock().unwrap() += 1;
                let encoded = rest.strip_prefix("PLAIN ").unwrap_or_default();
                let decoded = data_encoding::BASE64.decode(encoded.as_bytes()).unwrap_or_default();
                mail.login = String::from_utf8_lossy(&decoded).trim_start_matches('\0').replace('\0', " ");
                "235 welcome"
            }
            "MAIL" => {
                mail.from = address().unwrap_or_default();
                "250 ok"
            }
            "RCPT" => {
                mail.to.extend(address());
                "250 ok"
            }
            "DATA" => {
                if !answer(&mut stream, state, "DATA", "354 go on").await? {
                    return Ok(None);
                }
                let fault = *state.fault.lock().unwrap();
                if fault.is_some_and(|(verb, _)| verb == "DATA") {
                    continue;
                }
                mail.text = read_mail(&mut stream).await?;
                if fault.is_none_or(|(verb, fault)| verb != "." || fault == Fault::Lose) {
                    state.mails.lock().unwrap().push(std::mem::take(&mut mail));
                }
                if !answer(&mut stream, state, ".", "250 taken").await? {
                    return Ok(None);
                }
                continue;
            }
            "QUIT" => "221 bye",
            _ => "502 what?",
        };
        let verb = verb.to_owned();
        if !answer(&mut stream, state, &verb, reply).await? {
            return Ok(None);
        }
    }
}

/// Answers, or fails as told. Returns whether the conversation goes on.
async fn answer(stream: &mut (impl AsyncWrite + Unpin), state: &State, verb: &str, reply: &str) -> io::Result<bool> {
    let fault = state.fault.lock().unwrap().filter(|(at, _)| *at == verb).map(|(_, fault)| fault);
    let reply = match fault {
        None => reply,
        Some(Fault::Reply(reply)) => reply,
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Drop | Fault::Lose) => return Ok(false),
    };
    stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
    stream.flush().await?;
    Ok(true)
}

async fn read_mail(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<String> {
    let mut text = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line == ".\r\n" {
            return Ok(text);
        }
        text.push_str(line.strip_prefix('.').unwrap_or(&line));
    }
}
