//! Certificates by ACME, from an authority that plays its part on loopback.

mod fake;

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use crate::world::{Authority, Modules, Setup, eventually, free_address, request};
use fake::Fake;

/// An order takes some seconds: the protocol has pauses.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node at `address` that asks this authority.
fn asking(modules: &Modules, address: &str, fake: &Fake, authority: &Authority) -> Setup {
    let setup = Setup::empty(modules).listening(address);
    let root = setup.data.with_extension("root.pem");
    authority.write_root(&root);
    let tls = format!("[tls.acme]\ndomains = [\"localhost\"]\ndirectory = {:?}\n", fake.directory());
    setup.with(&tls).env("SSL_CERT_FILE", &root)
}

#[test]
fn a_certificate_is_asked_for_once_kept_and_used() {
    let (modules, authority) = (Modules::start(), Arc::new(Authority::new()));
    let address = free_address();
    let fake = Fake::start(&address, authority.clone());
    let setup = asking(&modules, &address, &fake, &authority);
    let node = setup.start();
    let healthy = || authority.request(&address, "GET /healthz").is_ok_and(|(answer, _)| answer.status == 200);
    eventually(PATIENCE, "a certificate that its authority has signed", || {
        assert!(!setup.log().contains("gives no certificate"), "{}", setup.log());
        healthy()
    });
    assert_eq!(fake.signed(), 1);
    let metrics = request(&node.admin, "GET /metrics", "", "", PATIENCE).expect("an answer").text();
    let good_until = "sumpeer_tls_certificate_expiry_timestamp_seconds 4733510400"; // 2120-01-01
    assert!(metrics.contains(good_until), "{metrics}");

    let folder = setup.data.join("acme");
    let mode = std::fs::metadata(&folder).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "private keys are in it");
    eventually(PATIENCE, "account and certificate are kept", || {
        std::fs::read_dir(&folder).expect("there").count() == 2
    });
    assert_eq!(node.terminate().0, Some(0));

    let _node = setup.start();
    eventually(PATIENCE, "the kept one is used", healthy);
    assert_eq!(fake.signed(), 1, "nothing was asked again");
}

#[test]
fn an_authority_that_refuses_is_told_and_stops_nothing() {
    let (modules, authority) = (Modules::start(), Arc::new(Authority::new()));
    let address = free_address();
    // It looks for the answer to its challenge where nobody is.
    let fake = Fake::start(&free_address(), authority.clone());
    let setup = asking(&modules, &address, &fake, &authority);
    let mut node = setup.start();
    eventually(PATIENCE, "the reason is told", || setup.log().contains("gives no certificate for localhost"));
    assert!(authority.request(&address, "GET /healthz").is_err(), "there is nothing to show");
    assert!(node.lives());
    assert_eq!(request(&node.admin, "GET /metrics", "", "", PATIENCE).expect("an answer").status, 200);
    assert_eq!(node.terminate().0, Some(0));
    assert_eq!(fake.signed(), 0);
}
