//! Words of other voters, put into a world by the door that followers use.

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::world::World;
use crate::model::{Claim, Finding};
use crate::peer::{Entry, Peer, Proven, Said, SignedHead, Status};
use crate::quorum::Word;
use crate::store::LogId;
use crate::tlog::{Head, SignerKey, leaf_hash, sign_note};

/// A voter of a world as a peer.
pub(super) fn peer(name: &str, vkey: &str) -> Peer {
    Peer {
        name: name.to_owned(),
        key: vkey.parse().unwrap(),
        url: format!("http://{name}.example/").parse().unwrap(),
        program: None,
        vote: true,
        build_on_claim: false,
    }
}

impl World {
    /// The private key of another voter.
    pub(super) fn key(&self, name: &str) -> SignerKey {
        SignerKey::generate(name, [9; 32]).unwrap()
    }

    /// Another voter has claimed something, and signed for all it has claimed.
    pub(super) async fn says(&self, name: &str, spec: &str, finding: Finding) {
        self.claims(name, spec, finding, true).await;
    }

    /// The same, but no head that covers it is here.
    pub(super) async fn says_without_head(&self, name: &str, spec: &str, finding: Finding) {
        self.claims(name, spec, finding, false).await;
    }

    async fn claims(&self, name: &str, spec: &str, finding: Finding, signed: bool) {
        let key = self.key(name);
        let vkey = key.verifier().to_string();
        let (known, log) = (vkey.clone(), LogId::Claims);
        let row = self.state.store.read(move |reader| reader.peer_log(&known, log)).await.unwrap();
        let mut range = row.map(|row| row.range).unwrap_or_default();
        let first = range.size().get();
        let claim = Claim {
            spec: spec.parse().unwrap(),
            finding,
            at: "2026-11-21T09:40:00Z".parse::<Timestamp>().unwrap(),
            host: "linux/amd64".to_owned(),
            toolchain: "h1:none".to_owned(),
            sandbox: "none".to_owned(),
        };
        let text = claim.to_text().into_bytes();
        range.push(leaf_hash(&text));
        let signer = key.as_name(&format!("{name}/claims"));
        let head = Head { origin: signer.name().to_owned(), size: range.size(), root: range.root() };
        let note = sign_note(&head.to_text(), &[&signer]);
        let word = Word::from(&claim.finding);
        let entries = vec![Entry { text, said: Some(Said { spec: claim.spec, word, at: claim.at.as_second() }) }];
        let (taken, done) = oneshot::channel();
        let head = signed.then_some(SignedHead { head, note });
        let (send, proven) = mpsc::channel(1);
        send.send(Proven { log, first, entries, root: range.root(), head, taken }).await.unwrap();
        let hear = self.state.tally.clone().hear(peer(name, &vkey), proven, self.state.stop.clone());
        tokio::select! {
            ended = hear => panic!("hearing has ended: {ended:?}"),
            heard = done => heard.unwrap(),
        }
    }

    /// Changes what the follower of another voter says.
    pub(super) fn status(&self, name: &str, change: impl FnOnce(&mut Status)) {
        self.statuses[name].send_modify(change);
    }
}
