//! A mail server: what an address of the configuration says of it, and one conversation with it.
//!
//! lettre speaks the protocol (RFC 5321); here is who may be spoken to in the clear, how long it may take, how much the
//! other side may say, and what a failure is called. A message is taken over by the server with its answer to the data,
//! so nothing after that can make it a failure.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncBufRead as _, AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;

/// How long a whole conversation may take. Servers that make strangers wait on purpose take up to half a minute.
const TIME: Duration = Duration::from_secs(60);
/// How long a farewell may take, after which nothing is lost.
const FAREWELL: Duration = Duration::from_secs(2);
/// Bytes that the other side may send on a connection that begins in the clear, where anybody on the way could be speaking:
/// a handshake and some answers. Not more, as lettre reads an answer anew with each further line of it.
const LIMIT_BYTES: u64 = 32 << 10;
/// Characters kept of what a server says.
const SAID: usize = 300;

/// Where a mail server is, and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    host: String,
    port: u16,
    security: Security,
    user: Option<String>,
    /// How long a whole conversation may take.
    patience: Duration,
}

/// How a connection is secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Security {
    /// TLS from the first byte (RFC 8314).
    Tls,
    /// TLS before anything else is said (RFC 3207); a server that cannot is not spoken to.
    StartTls,
    /// None; only on this machine.
    Plain,
}

impl Server {
    /// The server of an address: `smtps://user@host`, or `smtp://user@host`, which is encrypted as well unless the host is
    /// this machine.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn from_url(url: &Url) -> Result<Server, String> {
        let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let decode = |text: &str| percent_decode_str(text).decode_utf8().map(String::from).map_err(|_| "is no UTF-8");
        let host = decode(host).map_err(|error| format!("its host {error}"))?;
        if host.is_empty() {
            return Err("it names no host".to_owned());
        }
        let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let (security, port) = match (url.scheme(), local) {
            ("smtps", _) => (Security::Tls, 465),
            ("smtp", false) => (Security::StartTls, 587),
            ("smtp", true) => (Security::Plain, 25),
            _ => return Err("it begins neither with smtps:// nor with smtp://".to_owned()),
        };
        if url.password().is_some() {
            return Err("a password does not belong into it; put it into the file that password-file names".to_owned());
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err("it has more than user, host and port".to_owned());
        }
        let user = decode(url.username()).map_err(|error| format!("its user name {error}"))?;
        let user = Some(user).filter(|user| !user.is_empty());
        Ok(Server { host, port: url.port().unwrap_or(port), security, user, patience: TIME })
    }

    /// Spoken to in another way than the address says.
    #[cfg(test)]
    pub(super) fn with_security(self, security: Security, patience: Duration) -> Server {
        Server { security, patience, ..self }
    }

    /// Whether a password is needed.
    pub fn wants_password(&self) -> bool {
        self.user.is_some()
    }

    /// Hands over one message. `roots` are trusted besides the usual authorities.
    ///
    /// # Errors
    /// Why it was not taken over, in one line; what the server says is in it, short and without control characters.
    pub(super) async fn send(
        &self,
        password: Option<&str>,
        roots: &[Certificate],
        message: &lettre::Message,
    ) -> anyhow::Result<()> {
        let mut stage = "connecting";
        let talk = self.talk(password, roots, message, &mut stage);
        let mut connection = match timeout(self.patience, talk).await {
            Ok(result) => result?,
            Err(_) => return Err(anyhow!("{self} did not answer within {:?} of {stage}", self.patience)),
        };
        // It has the message: how it takes our leave is its own affair.
        let _ = timeout(FAREWELL, connection.quit()).await;
        Ok(())
    }

    async fn talk(
        &self,
        password: Option<&str>,
        roots: &[Certificate],
        message: &lettre::Message,
        stage: &mut &'static str,
    ) -> anyhow::Result<AsyncSmtpConnection> {
        let hello = ClientId::default();
        let place = (self.host.as_str(), self.port);
        let unreached = || format!("cannot reach {self}");
        let mut connection = if self.security == Security::Tls {
            let tls = self.tls(roots)?;
            *stage = "connecting and greeting";
            AsyncSmtpConnection::connect_tokio1(place, Some(self.patience), &hello, Some(tls), None)
                .await
                .map_err(|error| self.failed(&error))?
        } else {
            let stream = TcpStream::connect(place).await.map_err(|error| anyhow!("{}: {error}", unreached()))?;
            *stage = "greeting";
            let mut connection = AsyncSmtpConnection::connect_with_transport(Box::new(Lines::new(stream)), &hello)
                .await
                .map_err(|error| self.failed(&error))?;
            if self.security == Security::StartTls {
                *stage = "securing the connection";
                connection.starttls(self.tls(roots)?, &hello).await.map_err(|error| self.failed(&error))?;
                ensure!(connection.is_encrypted(), "{self} did not secure the connection");
            }
            connection
        };
        if let (Some(user), Some(password)) = (&self.user, password) {
            *stage = "logging in";
            let credentials = Credentials::new(user.clone(), password.to_owned());
            let login = connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await;
            login.map_err(|error| self.failed(&error)).with_context(|| format!("cannot log in as {user}"))?;
        }
        *stage = "handing over the message";
        self.hand_over(&mut connection, message).await.map_err(|error| self.failed(&error))?;
        Ok(connection)
    }

    /// The commands one by one: lettre's own way to send takes its leave after a refusal, and a server that does not answer
    /// to that would hide why it refused.
    async fn hand_over(
        &self,
        connection: &mut AsyncSmtpConnection,
        message: &lettre::Message,
    ) -> Result<(), lettre::transport::smtp::Error> {
        connection.command(Mail::new(message.envelope().from().cloned(), Vec::new())).await?;
        for to in message.envelope().to() {
            connection.command(Rcpt::new(to.clone(), Vec::new())).await?;
        }
        connection.command(Data).await?;
        connection.message(&message.formatted()).await.map(drop)
    }

    /// How to secure a connection to it.
    ///
    /// # Errors
    /// One of `roots` is no certificate.
    pub(super) fn tls(&self, roots: &[Certificate]) -> anyhow::Result<TlsParameters> {
        let builder = TlsParameters::builder(self.host.clone());
        let builder = roots.iter().cloned().fold(builder, |builder, root| builder.add_root_certificate(root));
        builder.build().map_err(|error| anyhow!("cannot set up TLS for {self}: {}", causes(&error)))
    }

    fn failed(&self, error: &lettre::transport::smtp::Error) -> anyhow::Error {
        let said = causes(error);
        if let Some(refused) = certificate(error) {
            return anyhow!("{self} is not trusted: {refused}");
        }
        match error.status() {
            Some(code) if error.is_permanent() => anyhow!("{self} refuses: {code} {said}"),
            Some(code) => anyhow!("{self} does not take it for now: {code} {said}"),
            None => anyhow!("the conversation with {self} failed: {said}"),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.security == Security::Tls { "smtps" } else { "smtp" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

/// What is wrong with the certificate of the other side, if that is the trouble.
fn certificate(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()).or(error.downcast_ref());
        if let Some(rustls::Error::InvalidCertificate(why)) = tls {
            return Some(match why {
                rustls::CertificateError::UnknownIssuer => {
                    "its certificate is by no authority that is known; name that one in ca-file if it is yours"
                        .to_owned()
                }
                other => one_line(&other.to_string()),
            });
        }
        next = error.source();
    }
    None
}

/// What lies below an error of lettre, whose own words add nothing.
fn causes(error: &lettre::transport::smtp::Error) -> String {
    let mut words = Vec::new();
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        let text = error.to_string();
        // Some errors say what their cause says.
        if !words.last().is_some_and(|last: &String| last.contains(&text)) {
            words.push(text);
        }
        next = error.source();
    }
    if words.is_empty() {
        words.push(error.to_string());
    }
    one_line(&words.join(": "))
}

/// A text of somebody else, short and in one line.
pub(super) fn one_line(text: &str) -> String {
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    let line = words.join(" ");
    match line.char_indices().nth(SAID) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// A connection in the clear, which gives its reader one line at a time, and not without end.
///
/// What follows the answer to STARTTLS must not be read before the handshake, or somebody on the way could put words into
/// the server's mouth: here it meets the handshake, which fails of it.
#[derive(Debug)]
struct Lines {
    stream: BufReader<TcpStream>,
    left: u64,
}

impl Lines {
    fn new(stream: TcpStream) -> Lines {
        Lines { stream: BufReader::new(stream), left: LIMIT_BYTES }
    }
}

impl AsyncRead for Lines {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::Error::other(format!("it said more than {LIMIT_BYTES} bytes"))));
        }
        let room = into.remaining().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let there = ready!(Pin::new(&mut self.stream).poll_fill_buf(cx))?;
        let line = there.iter().position(|byte| *byte == b'\n').map_or(there.len(), |end| end + 1);
        let taken = line.min(room);
        into.put_slice(&there[..taken]);
        Pin::new(&mut self.stream).consume(taken);
        self.left -= taken as u64;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Lines {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncTokioStream for Lines {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.get_ref().peer_addr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_say_how_a_server_is_spoken_to() {
        for (url, wanted) in [
            ("smtps://mail.example.org", "Tls mail.example.org 465 -"),
            ("smtps://me%40example.org@mail.example.org:4465/", "Tls mail.example.org 4465 me@example.org"),
            ("smtp://sumpeer@mail.example.org", "StartTls mail.example.org 587 sumpeer"),
            ("smtp://localhost", "Plain localhost 25 -"),
            ("smtp://127.0.0.1:2525", "Plain 127.0.0.1 2525 -"),
            ("smtp://[::1]", "Plain ::1 25 -"),
            ("smtp://[2001:db8::1]", "StartTls 2001:db8::1 587 -"),
            ("smtp://localhost.example.org", "StartTls localhost.example.org 587 -"),
            ("smtp://mail.example.org?tls=none", "it has more than user, host and port"),
            ("smtps://mail.example.org/name", "it has more than user, host and port"),
            ("smtps://me:secret@mail.example.org", "a password does not belong into it"),
            ("https://mail.example.org", "it begins neither with smtps:// nor with smtp://"),
            ("smtps:mail.example.org", "it names no host"),
        ] {
            let found = match Server::from_url(&url.parse().unwrap()) {
                Ok(Server { host, port, security, user, .. }) => {
                    format!("{security:?} {host} {port} {}", user.as_deref().unwrap_or("-"))
                }
                Err(error) => error,
            };
            assert!(found.starts_with(wanted), "{url}: {found}");
            assert!(!found.contains("secret"), "{found}");
        }
    }

    #[test]
    fn what_others_say_stays_short_and_in_one_line() {
        assert_eq!(one_line(" 550 no\r\nsuch\tuser\u{7f}\u{1b}[2J "), "550 no such user [2J");
        assert_eq!(one_line(&"é".repeat(400)).chars().count(), SAID + 1);
    }
}
