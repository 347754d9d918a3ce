//! An authority's side of ACME (RFC 8555, with the challenge of RFC 8737), as much of it as an order for one name needs.
//! It believes signatures of requests unseen, but looks at the answer to its challenge closely.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, ServerConnection, SignatureScheme, StreamOwned,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::world::Authority;

const TOKEN: &str = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";

/// The identifier of the extension that holds the answer (RFC 8737, 3), as DER.
const ACME_IDENTIFIER: &[u8] = &[0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x1f];

/// A running one. Its thread ends with the test program.
pub(crate) struct Fake {
    address: String,
    orders: Arc<Mutex<Orders>>,
}

struct Orders {
    authority: Arc<Authority>,
    /// Where the one who asks for `localhost` has to answer.
    node: String,
    /// Of the account's key (RFC 7638).
    thumbprint: String,
    /// `pending`, `valid` or `invalid`.
    authorization: &'static str,
    certificate: Option<String>,
    signed: usize,
}

impl Fake {
    /// Signs for whoever answers at `node`.
    pub(crate) fn start(node: &str, authority: Arc<Authority>) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("https://{}", listener.local_addr().expect("bound"));
        let config = authority.server();
        let orders = Arc::new(Mutex::new(Orders {
            authority,
            node: node.to_owned(),
            thumbprint: String::new(),
            authorization: "pending",
            certificate: None,
            signed: 0,
        }));
        let fake = Fake { address: address.clone(), orders: orders.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let connection = ServerConnection::new(config.clone()).expect("a connection");
                // Who hangs up has had enough.
                let _ = answer(StreamOwned::new(connection, stream), &address, &mut orders.lock().expect("whole"));
            }
        });
        fake
    }

    pub(crate) fn directory(&self) -> String {
        format!("{}/directory", self.address)
    }

    /// How many certificates it has signed.
    pub(crate) fn signed(&self) -> usize {
        self.orders.lock().expect("whole").signed
    }
}

/// One request and its answer.
fn answer(mut stream: StreamOwned<ServerConnection, TcpStream>, address: &str, orders: &mut Orders) -> io::Result<()> {
    stream.sock.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(&mut stream);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim().split_once(':') {
            None => break,
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
            Some(_) => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let (location, text) = orders.handle(&path, address, &body);
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nConnection: close\r\nReplay-Nonce: again\r\nLocation: {address}{location}\r\nContent-Length: {}\r\n\r\n",
        text.len()
    )?;
    if !first.starts_with("HEAD") {
        stream.write_all(text.as_bytes())?;
    }
    stream.conn.send_close_notify();
    stream.flush()
}

impl Orders {
    /// Where it leads, and the body.
    fn handle(&mut self, path: &str, address: &str, body: &[u8]) -> (&'static str, String) {
        let part = |name: &str| -> Value {
            let signed: Value = serde_json::from_slice(body).unwrap_or_default();
            let text = BASE64URL_NOPAD.decode(signed[name].as_str().unwrap_or_default().as_bytes()).expect("base64");
            serde_json::from_slice(&text).unwrap_or_default()
        };
        match path {
            "/directory" => {
                let at = |path| format!("{address}/{path}");
                let directory = json!({"newNonce": at("nonce"), "newAccount": at("account"), "newOrder": at("orders")});
                ("", directory.to_string())
            }
            "/account" => {
                let jwk = &part("protected")["jwk"];
                // Its members in this order and without spaces are what is hashed.
                let needed = json!({"crv": jwk["crv"], "kty": jwk["kty"], "x": jwk["x"], "y": jwk["y"]});
                self.thumbprint = BASE64URL_NOPAD.encode(&Sha256::digest(needed.to_string()));
                ("/account/1", "{}".to_owned())
            }
            "/orders" => {
                self.authorization = "pending";
                self.certificate = None;
                ("/order", self.order(address))
            }
            "/order" => ("", self.order(address)),
            "/authorization" => {
                let challenge = json!({"type": "tls-alpn-01", "url": format!("{address}/challenge"), "token": TOKEN});
                let authorization = json!({
                    "status": self.authorization,
                    "identifier": {"type": "dns", "value": "localhost"},
                    "challenges": [challenge],
                });
                ("", authorization.to_string())
            }
            "/challenge" => {
                self.authorization = if self.looks_right().unwrap_or(false) { "valid" } else { "invalid" };
                ("", "{}".to_owned())
            }
            "/finalize" => {
                let csr = part("payload")["csr"].as_str().map(|csr| BASE64URL_NOPAD.decode(csr.as_bytes()));
                assert_eq!(self.authorization, "valid", "nothing is signed for who has not proven the name");
                self.certificate = Some(self.authority.sign(&csr.expect("a request").expect("base64")));
                self.signed += 1;
                ("", self.order(address))
            }
            "/certificate" => ("", self.certificate.clone().unwrap_or_default()),
            _ => ("", String::new()),
        }
    }

    fn order(&self, address: &str) -> String {
        let status = match (&self.certificate, self.authorization) {
            (Some(_), _) => "valid",
            (None, "valid") => "ready",
            (None, other) => other,
        };
        json!({
            "status": status,
            "authorizations": [format!("{address}/authorization")],
            "finalize": format!("{address}/finalize"),
            "certificate": format!("{address}/certificate"),
        })
        .to_string()
    }

    /// Whether the node shows a certificate with the answer to our challenge, and says nothing else.
    fn looks_right(&self) -> io::Result<bool> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("they are the provider's")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
        let name = ServerName::try_from("localhost").expect("a name");
        let mut connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let mut stream = TcpStream::connect(&self.node)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        let answer = Sha256::digest(format!("{TOKEN}.{}", self.thumbprint));
        let shown = connection.peer_certificates().and_then(|chain| chain.first()).expect("there is one");
        let holds = |part: &[u8]| shown.windows(part.len()).any(|window| window == part);
        let right = connection.alpn_protocol() == Some(b"acme-tls/1") && holds(ACME_IDENTIFIER) && holds(&answer);
        // It hangs up, in whatever way.
        let talks = StreamOwned::new(connection, stream).read(&mut [0; 9]).is_ok_and(|read| read > 0);
        Ok(right && !talks)
    }
}

/// Takes every certificate: the answer to a challenge is signed by nobody, and has a critical extension that no verifier
/// of ours knows.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
