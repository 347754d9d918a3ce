//! Bundles from heads, entries and tiles that the caller has.
//!
//! Each is encoded and verified like a stranger's before the caller gets it, so that no bundle is kept, shown or told of
//! that a verifier would refuse.

use anyhow::{Context as _, anyhow};
use jiff::Timestamp;

use super::heads::Signed;
use super::verify::judge;
use super::{Bundle, Comparison, Entry, EvidenceTile, Kind, Party, PathForm, Source, words};
use crate::model::Spec;
use crate::tlog::{Hash, Tile, VerifierKey, open_note};

impl Party {
    /// A party's head, from the note as it was received: signatures by others are dropped.
    ///
    /// # Errors
    /// The key did not sign the note.
    pub fn new(name: &str, vkey: VerifierKey, source: Source, note: &[u8]) -> anyhow::Result<Party> {
        let opened = open_note(note, std::slice::from_ref(&vkey));
        let head = opened.with_context(|| format!("a head that {name} should have signed"))?.to_message();
        Ok(Party { name: name.to_owned(), vkey, source, head, entry: None })
    }

    /// The same with an entry that the head covers: its number, its exact text, and the proof, leaf's sibling first.
    #[must_use]
    pub fn with_entry(mut self, number: u64, text: String, inclusion_proof: Vec<Hash>) -> Party {
        self.entry = Some(Entry { number, text, inclusion_proof });
        self
    }
}

impl EvidenceTile {
    /// A tile as it was received.
    pub fn new(tile: Tile, form: PathForm, data: Vec<u8>) -> EvidenceTile {
        EvidenceTile { tile, form, data }
    }
}

impl Bundle {
    /// Two words on one spec that name different binaries: a divergence if two parties said them, a contradiction if one
    /// did. The order of the parties is kept, and is that of the files in a comparison.
    ///
    /// # Errors
    /// The words are not proved, or do not differ, or the comparison is of other files.
    pub fn words(
        made_at: Timestamp,
        spec: Spec,
        parties: [Party; 2],
        comparison: Option<&Comparison>,
    ) -> anyhow::Result<Bundle> {
        let comparison = comparison.map(Comparison::to_json);
        let [one, other] = parties.each_ref().map(Signed::open);
        let told = |why: String| anyhow!("no evidence: {why}");
        let kind = words::kind([&one.map_err(told)?, &other.map_err(told)?]).map_err(told)?;
        Bundle { kind, made_at, spec: Some(spec), parties: parties.into(), tiles: Vec::new(), comparison }.checked()
    }

    /// Two heads of one log that do not fit each other. Unless their sizes are equal it proves this only with the tiles of
    /// [`super::fork_tiles`], in that order and at those widths; without any it shows the heads.
    ///
    /// # Errors
    /// The heads are not of one log, or fit each other, or the tiles do not lead to the larger root.
    pub fn fork(made_at: Timestamp, heads: [Party; 2], tiles: Vec<EvidenceTile>) -> anyhow::Result<Bundle> {
        Bundle { kind: Kind::Fork, made_at, spec: None, parties: heads.into(), tiles, comparison: None }.checked()
    }

    /// A head, and a smaller one of the same log that came later.
    ///
    /// # Errors
    /// The heads are not of one log, or the second one is not smaller.
    pub fn rollback(made_at: Timestamp, before: Party, now: Party) -> anyhow::Result<Bundle> {
        let parties = vec![before, now];
        Bundle { kind: Kind::Rollback, made_at, spec: None, parties, tiles: Vec::new(), comparison: None }.checked()
    }

    /// A head, and tiles as they were served with it: entries that do not give its root, and what else may help.
    ///
    /// # Errors
    /// All entries are there and give the root, or they are more than [`super::FILE_LIMIT_BYTES`].
    pub fn bad_root(made_at: Timestamp, head: Party, tiles: Vec<EvidenceTile>) -> anyhow::Result<Bundle> {
        let parties = vec![head];
        Bundle { kind: Kind::BadRoot, made_at, spec: None, parties, tiles, comparison: None }.checked()
    }

    /// A word, and what came when its binary was fetched from that party, which nobody signs.
    ///
    /// # Errors
    /// The word is not proved.
    pub fn mirror_mismatch(
        made_at: Timestamp,
        spec: Spec,
        party: Party,
        received: serde_json::Value,
    ) -> anyhow::Result<Bundle> {
        let (kind, parties, comparison) = (Kind::MirrorMismatch, vec![party], Some(received));
        Bundle { kind, made_at, spec: Some(spec), parties, tiles: Vec::new(), comparison }.checked()
    }

    fn checked(self) -> anyhow::Result<Bundle> {
        let bundle = Bundle::decode(self.encode().as_bytes()).context("a bundle that cannot be read back")?;
        judge(&bundle, &[]).map_err(|why| anyhow!("no evidence: {why}"))?;
        Ok(bundle)
    }
}
