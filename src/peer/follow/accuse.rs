//! What is held against a peer: put together, stored in one transaction, and only then told.
//!
//! Bundles are made and verified by [`crate::evidence`]; here is where their parts come from: the notes and tiles that are
//! stored, and the hash tiles that the peer serves.

use anyhow::Context as _;
use jiff::Timestamp;
use tracing::{debug, error, warn};

use super::followed::{Contradiction, Followed, Fork, Served, Trouble};
use super::note;
use crate::evidence::{Bundle, EvidenceTile, Kind, Party, PathForm, Source, fork_tiles};
use crate::log::StoredTiles;
use crate::peer::SignedHead;
use crate::store::LogId;
use crate::tlog::{TILE_WIDTH, Tile, TileKind, TileReader as _, format_entry, push_bundle_entry};

/// Stored heads that are searched for the one that a forked head contradicts.
const SEARCHED: usize = 10_000;

impl Followed<'_> {
    /// Two signed heads that no log can have both.
    pub(super) async fn convict_of_fork(&mut self, fork: Fork) -> Result<(), Trouble> {
        let head = fork.head.clone();
        let other = match fork.other {
            Some(other) => Some(other),
            None => self.counterpart(&head).await?,
        };
        let bundle = match &other {
            Some(other) => self.fork_bundle(&head, other).await?,
            None => None,
        };
        let (kind, bundle) = match bundle {
            Some(bundle) => (Kind::Fork, bundle),
            // Only what is stored contradicts it, and that is not signed at a size that anybody could be shown.
            None => (Kind::BadRoot, self.party(&head).and_then(|party| Bundle::bad_root(now(), party, Vec::new()))?),
        };
        let reason = match &other {
            Some(other) if other.head.size == head.head.size => {
                format!("it signed two logs of size {} with different entries", head.head.size)
            }
            Some(other) => {
                format!(
                    "the log of size {} that it signed does not fit the one of size {}",
                    head.head.size, other.head.size
                )
            }
            None => format!("the log of size {} that it signed does not fit what it served before", head.head.size),
        };
        self.convict(kind, &head, &bundle, reason).await
    }

    /// A signed head that its entries contradicted however often they were fetched.
    pub(super) async fn convict_of_bad_root(&mut self, contradiction: Contradiction) -> Result<(), Trouble> {
        let Contradiction { head, served } = contradiction;
        let log = self.finding.log;
        let tiles: Vec<EvidenceTile> = served.and_then(|served| entries_tile(log, served)).into_iter().collect();
        let party = self.party(&head)?;
        let bundle = Bundle::bad_root(now(), party.clone(), tiles).or_else(|error| {
            // Too long for a file: the head alone says what it is about.
            debug!("{error:#}");
            Bundle::bad_root(now(), party, Vec::new())
        })?;
        let reason =
            format!("the entries it serves never gave the root of the log of size {} that it signed", head.head.size);
        self.convict(Kind::BadRoot, &head, &bundle, reason).await
    }

    /// Tells of a head that has stayed smaller than one before. The peer is believed all the same.
    pub(super) async fn tell_rollback(&mut self, before: &SignedHead, current: &SignedHead) -> Result<(), Trouble> {
        let bundle = Bundle::rollback(now(), self.party(before)?, self.party(current)?)?;
        let (vkey, evidence) = (self.f.vkey.clone(), bundle.encode());
        let told =
            self.f.store.write(move |tx| tx.see_divergence(Kind::Rollback.as_str(), None, &vkey, Some(&evidence)));
        let (id, new) = told.await?;
        let (was, is) = (before.head.size, current.head.size);
        if new {
            warn!(divergence = id, "its log of size {was} has gone back to size {is}");
        }
        note(&self.f.status, &format!("it once signed a log of size {was}, and now shows one of size {is} only"));
        Ok(())
    }

    /// Whether the peer's own tiles prove that `head`, which is larger than what is stored, does not continue it.
    pub(super) async fn is_proven_fork(&mut self, head: &SignedHead) -> Result<bool, Trouble> {
        let Some(other) = self.counterpart(head).await? else {
            return Ok(false);
        };
        let bundle = self.fork_bundle(head, &other).await?;
        Ok(bundle.is_some_and(|bundle| other.head.size == head.head.size || !bundle.tiles.is_empty()))
    }

    /// Everything that the conviction rests on, then the conviction, in one transaction.
    async fn convict(&mut self, kind: Kind, head: &SignedHead, bundle: &Bundle, reason: String) -> Result<(), Trouble> {
        self.pipe.settle().await?;
        let (id, head, name) = (self.id, head.clone(), self.f.peer.name.clone());
        let (vkey, evidence, stored) = (self.f.vkey.clone(), bundle.encode(), reason.clone());
        let write = self.f.store.write(move |tx| {
            tx.keep_peer_head(id, head.head.size, &head.head.root, &head.note, &name)?;
            let (divergence, _) = tx.see_divergence(kind.as_str(), None, &vkey, Some(&evidence))?;
            tx.put_quarantine(&vkey, &stored, divergence)?;
            Ok(divergence)
        });
        let divergence = write.await?;
        self.heads.forget_waiting();
        error!(divergence, kind = kind.as_str(), reason, "a peer is in quarantine");
        note(&self.f.status, &reason);
        Ok(())
    }

    /// A signed head that `head` contradicts: one of its size, or else the largest one whose entries are stored.
    async fn counterpart(&mut self, head: &SignedHead) -> Result<Option<SignedHead>, Trouble> {
        self.pipe.settle().await?;
        let (id, vkey, log) = (self.id, self.f.vkey.clone(), self.finding.log);
        let (size, root) = (head.head.size.get(), head.head.root);
        let note = self.f.store.read(move |reader| {
            let rows = reader.peer_heads(id, SEARCHED)?;
            let same = rows.into_iter().find(|row| row.size == size && row.root != root).map(|row| row.note);
            Ok(match same {
                Some(note) => Some(note),
                None => reader.peer_log(&vkey, log)?.and_then(|row| row.head),
            })
        });
        Ok(note.await?.and_then(|note| self.client.check_head(&note).ok()))
    }

    /// The bundle of a head and the one it contradicts, with the tiles that prove it if they can be had; none if they fit each other.
    async fn fork_bundle(&mut self, one: &SignedHead, other: &SignedHead) -> Result<Option<Bundle>, Trouble> {
        let tiles = self.tiles_of_fork(one, other).await?;
        let parties = || anyhow::Ok([self.party(one)?, self.party(other)?]);
        let proven = tiles.map(|tiles| Bundle::fork(now(), parties()?, tiles));
        match proven {
            Some(Ok(bundle)) => return Ok(Some(bundle)),
            Some(Err(error)) => debug!("{error:#}"),
            None => {}
        }
        match Bundle::fork(now(), parties()?, Vec::new()) {
            Ok(bundle) => Ok(Some(bundle)),
            Err(error) => {
                debug!("{error:#}");
                Ok(None)
            }
        }
    }

    /// The hash tiles of the larger log: from the store if that is the one that is proven, else from the peer.
    async fn tiles_of_fork(
        &mut self,
        one: &SignedHead,
        other: &SignedHead,
    ) -> Result<Option<Vec<EvidenceTile>>, Trouble> {
        let form = self.form();
        let wanted = fork_tiles(one.head.size, other.head.size);
        let bytes = |hashes: Vec<crate::tlog::Hash>| hashes.iter().flat_map(|hash| hash.0).collect::<Vec<u8>>();
        let mut tiles = Vec::new();
        if one.head.size <= other.head.size && other.head.size <= self.range.size() {
            let (tree, list) = (self.id.into(), wanted.clone());
            let stored = self.f.store.read(move |reader| {
                let mut stored = StoredTiles { reader, tree };
                let read = |tile: &Tile| match tile.kind {
                    TileKind::Hashes(level) => stored.read_tile(level, tile.index, tile.width),
                    TileKind::Entries => anyhow::bail!("a fork is shown by hashes"),
                };
                list.iter().map(read).collect::<anyhow::Result<Vec<_>>>()
            });
            for (tile, hashes) in wanted.into_iter().zip(stored.await.context("the tiles of a fork")?) {
                tiles.push(EvidenceTile::new(tile, form, bytes(hashes)));
            }
            return Ok(Some(tiles));
        }
        for tile in wanted {
            let TileKind::Hashes(level) = tile.kind else {
                continue;
            };
            match self.client.hashes(level, tile.index, tile.width, true).await {
                Ok(hashes) => tiles.push(EvidenceTile::new(tile, form, bytes(hashes))),
                Err(fault) => {
                    debug!("a hash tile that would show a fork: {fault}");
                    return Ok(None);
                }
            }
        }
        Ok(Some(tiles))
    }

    fn party(&self, head: &SignedHead) -> anyhow::Result<Party> {
        let source = match self.finding.log {
            LogId::Accepted => Source::Log,
            LogId::Claims => Source::Claims,
        };
        Party::new(&self.f.peer.name, self.client.key().clone(), source, head.note.as_bytes())
    }

    fn form(&self) -> PathForm {
        form_of(self.finding.log)
    }
}

fn form_of(log: LogId) -> PathForm {
    match log {
        LogId::Accepted => PathForm::Sumdb,
        LogId::Claims => PathForm::C2sp,
    }
}

/// A tile of entries as that log serves it; none if it cannot have been served.
fn entries_tile(log: LogId, served: Served) -> Option<EvidenceTile> {
    let mut data = Vec::new();
    for (number, text) in (served.index * TILE_WIDTH..).zip(&served.texts) {
        match log {
            LogId::Accepted => data.extend(format_entry(number, std::str::from_utf8(text).ok()?).into_bytes()),
            LogId::Claims => push_bundle_entry(&mut data, text).ok()?,
        }
    }
    let width = u16::try_from(served.texts.len()).ok()?;
    let tile = Tile { kind: TileKind::Entries, index: served.index, width };
    Some(EvidenceTile::new(tile, form_of(log), data))
}

fn now() -> Timestamp {
    Timestamp::now()
}
