//! A certificate authority, and a client that trusts nobody else.

use std::io;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};

use super::http::{Answer, exchange};

/// Signs certificates for this machine under its loopback names.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Authority { issuer: CertifiedIssuer::self_signed(params, key).expect("a certificate") }
    }

    /// Writes its own certificate where programs look for those they trust.
    pub(crate) fn write_root(&self, file: &Path) {
        std::fs::write(file, self.issuer.pem()).expect("written");
    }

    /// A certificate for who asks with a request (PKCS #10), as PEM.
    pub(crate) fn sign(&self, request: &[u8]) -> String {
        let mut request = CertificateSigningRequestParams::from_der(&request.into()).expect("a request");
        (request.params.not_before, request.params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2120, 1, 1));
        request.signed_by(&self.issuer).expect("a certificate").pem()
    }

    /// What a server at a loopback address speaks TLS with.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        let folder = super::scratch();
        let (cert, key) = (folder.path().join("cert"), folder.path().join("key"));
        let chain = vec![self.write_pair(&cert, &key, (2020, 2120))];
        let key = PrivateKeyDer::from_pem_file(key).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("they are the provider's")
            .with_no_client_auth()
            .with_single_cert(chain, key);
        Arc::new(config.expect("a pair"))
    }

    /// Writes a pair that is good from the beginning of one year to that of another; the certificate.
    pub(crate) fn write_pair(&self, cert: &Path, key: &Path, (from, until): (i32, i32)) -> CertificateDer<'static> {
        let pair = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(["localhost", "127.0.0.1"].map(str::to_owned)).expect("names");
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
        let signed = params.signed_by(&pair, &self.issuer).expect("a certificate");
        std::fs::write(cert, signed.pem()).expect("written");
        std::fs::write(key, pair.serialize_pem()).expect("written");
        signed.der().clone()
    }

    /// One request over TLS on a connection of its own, and the certificate that came with the answer.
    ///
    /// # Errors
    /// No whole answer, or not from whom this authority has signed for.
    pub(crate) fn request(&self, address: &str, line: &str) -> io::Result<(Answer, CertificateDer<'static>)> {
        let mut stream = self.connect(address)?;
        let answer = exchange(&mut stream, address, line, "", "")?;
        let shown = stream.conn.peer_certificates().and_then(|chain| chain.first()).expect("it was checked");
        Ok((answer, shown.clone().into_owned()))
    }

    fn connect(&self, address: &str) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("they are the provider's")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(300)))?;
        Ok(StreamOwned::new(connection, stream))
    }
}
