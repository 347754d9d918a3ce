//! Who signed which head of which log, and what follows from heads and tiles alone: forks, wrong roots, rollbacks.
//!
//! What entries say is left to `words`, the shape of bundles to `verify`.

use std::collections::BTreeSet;

use super::verify::Outcome;
use super::{Bundle, EvidenceTile, Party, PathForm, Source};
use crate::tlog::{
    CompactRange, FetchedTiles, Hash, Head, SUMDB_ORIGIN, TILE_WIDTH, Tile, TileKind, TreeSize, VerifierKey,
    VerifyingTiles, leaf_hash, open_note, parse_data_tile, parse_entry_bundle, parse_hash_tile, partial_tiles,
    tree_hash,
};

/// A head whose one signature was verified.
pub(super) struct Signed<'a> {
    pub(super) party: &'a Party,
    pub(super) head: Head,
    /// The key of the party itself. It signs checkpoints under longer names, from which this one follows.
    pub(super) holder: VerifierKey,
}

impl<'a> Signed<'a> {
    /// Opens a party's head.
    pub(super) fn open(party: &'a Party) -> Result<Signed<'a>, String> {
        let key = &party.vkey;
        let wrong = |why: &dyn std::fmt::Display| format!("the head signed by {}: {why}", key.name());
        let note = open_note(party.head.as_bytes(), std::slice::from_ref(key)).map_err(|error| wrong(&error))?;
        if note.to_message() != party.head {
            return Err(wrong(&"it has more than one signature, or one that is not written as it should be"));
        }
        let head = Head::parse(&note.text).map_err(|error| wrong(&error))?;
        let holder = holder(key, party.source, &head.origin).ok_or_else(|| {
            wrong(&format!("a key of this name does not sign such heads of a log of {}", party.source))
        })?;
        Ok(Signed { party, head, holder })
    }

    /// Whether both are of one log: signed by one key in one form. The two forms of an accepted log are not taken for
    /// one here: a program that is not a sumpeer may use its key pair for two logs.
    fn is_of_log_of(&self, other: &Signed<'_>) -> bool {
        let (one, two) = (self.party, other.party);
        one.vkey == two.vkey && one.source == two.source && self.head.origin == other.head.origin
    }
}

/// The party's own key, if `key` may sign heads of this log with this first line.
fn holder(key: &VerifierKey, source: Source, origin: &str) -> Option<VerifierKey> {
    // All logs in the form of Go's checksum database share a first line; a checkpoint's is the name of its key.
    let suffix = match source {
        Source::Log if origin == SUMDB_ORIGIN => return Some(key.clone()),
        Source::Log => "/log",
        Source::Claims => "/claims",
    };
    let name = key.name().strip_suffix(suffix).filter(|name| !name.is_empty() && origin == key.name())?;
    Some(key.as_name(name))
}

/// The tiles of hashes from which both roots follow, if one log has both sizes: read them from the peer at the widths
/// given here, and put them into a bundle in this order. At most a dozen; none if the sizes are equal, or one of them 0.
pub fn fork_tiles(one: TreeSize, other: TreeSize) -> Vec<Tile> {
    let (small, large) = (one.min(other), one.max(other));
    if small == large || small == TreeSize::ZERO {
        return Vec::new();
    }
    let mut tiles: BTreeSet<Tile> = partial_tiles(large).collect();
    for edge in partial_tiles(small) {
        let TileKind::Hashes(mut level) = edge.kind else {
            continue;
        };
        let mut index = edge.index;
        loop {
            let kind = TileKind::Hashes(level);
            let tile = Tile { kind, index, width: Tile::widest_at(kind, index, large) };
            tiles.insert(tile);
            if u64::from(tile.width) < TILE_WIDTH {
                break;
            }
            // A full tile is proved by its hash in the one above, which is there: this one is complete.
            (level, index) = (level + 1, index / TILE_WIDTH);
        }
    }
    tiles.into_iter().collect()
}

/// Two heads of one key that no single log can have.
pub(super) fn fork(bundle: &Bundle, [one, other]: [&Signed<'_>; 2]) -> Result<Outcome, String> {
    if !one.is_of_log_of(other) {
        return Err("the two heads are not of one log".to_owned());
    }
    let (small, large) =
        if one.head.size <= other.head.size { (&one.head, &other.head) } else { (&other.head, &one.head) };
    let key = one.party.vkey.name();
    let (sizes, roots) = ((small.size, large.size), (small.root, large.root));
    let signed = format!("{key} signed a log of size {} with the root {} and", sizes.0, roots.0);
    if sizes.0 == sizes.1 {
        if !bundle.tiles.is_empty() {
            return Err("two heads of one size need no tiles".to_owned());
        }
        if roots.0 == roots.1 {
            return Err("the two heads are of one size and root".to_owned());
        }
        return Ok(Outcome::Proven(format!("{signed} another of the same size with the root {}", roots.1)));
    }
    if sizes.0 == TreeSize::ZERO {
        return Err("every log continues the empty one".to_owned());
    }
    let signed = format!("{signed} one of size {} with the root {}", sizes.1, roots.1);
    if bundle.tiles.is_empty() {
        return Ok(Outcome::Shown(format!("{signed}; nothing here says how the second began")));
    }
    let began = root_within(&bundle.tiles, large, small.size)?;
    if began == small.root {
        return Err("the larger log continues the smaller one".to_owned());
    }
    Ok(Outcome::Proven(format!("{signed}, the first {} entries of which have the root {began}", sizes.0)))
}

/// The root that the log with this head had at a smaller size, by tiles that must lead to the head's root.
fn root_within(tiles: &[EvidenceTile], head: &Head, small: TreeSize) -> Result<Hash, String> {
    if !tiles.iter().map(|tile| tile.tile).eq(fork_tiles(small, head.size)) {
        return Err("its tiles are not those that two heads of these sizes need".to_owned());
    }
    let mut fetched = FetchedTiles::default();
    for EvidenceTile { tile, data, .. } in tiles {
        let hashes = parse_hash_tile(data, tile.width).ok_or_else(|| format!("{tile} has another width"))?;
        fetched.insert(*tile, hashes);
    }
    let wrong = |error: &dyn std::fmt::Display| format!("its tiles do not lead to the larger root: {error}");
    if tree_hash(&mut fetched, head.size).map_err(|error| wrong(&error))? != head.root {
        return Err(wrong(&"they give another one"));
    }
    let mut proved = VerifyingTiles::new(fetched, head.size, head.root);
    tree_hash(&mut proved, small).map_err(|error| wrong(&error))
}

/// A head that grew smaller. Whether it came later nobody can see in it.
pub(super) fn rollback([before, now]: [&Signed<'_>; 2]) -> Result<Outcome, String> {
    if !before.is_of_log_of(now) {
        return Err("the two heads are not of one log".to_owned());
    }
    if now.head.size >= before.head.size {
        return Err("its second head is not smaller than its first".to_owned());
    }
    Ok(Outcome::Shown(format!(
        "{} signed a log of size {} and one of size {}; that the smaller one came later stands in no head",
        before.party.vkey.name(),
        before.head.size,
        now.head.size,
    )))
}

/// A head, and entries that do not give its root.
pub(super) fn bad_root(bundle: &Bundle, signed: &Signed<'_>) -> Result<Outcome, String> {
    let Head { size, root, .. } = &signed.head;
    let begin = format!("{} signed a log of size {size} with the root {root};", signed.party.vkey.name());
    match entries_root(&bundle.tiles, *size)? {
        Some(served) if served == *root => Err("the entries in it give the signed root".to_owned()),
        Some(served) => Ok(Outcome::Shown(format!("{begin} the entries here give {served}, but nobody signs entries"))),
        None => Ok(Outcome::Shown(format!("{begin} not all of its entries are here, and nobody signs entries"))),
    }
}

/// The root that the entries give, if all of a log of this size are there.
fn entries_root(tiles: &[EvidenceTile], size: TreeSize) -> Result<Option<Hash>, String> {
    let mut tiles: Vec<&EvidenceTile> = tiles.iter().filter(|tile| tile.tile.kind == TileKind::Entries).collect();
    tiles.sort_by_key(|tile| tile.tile.index);
    if tiles.windows(2).any(|pair| pair[0].tile.index == pair[1].tile.index) {
        return Err("a tile of entries is in it twice".to_owned());
    }
    let mut range = CompactRange::new();
    let mut whole = true;
    for (next, EvidenceTile { tile, form, data }) in (0..).zip(tiles) {
        let first = tile.index.checked_mul(TILE_WIDTH).ok_or("a tile of entries is beyond every log")?;
        let entries = match form {
            PathForm::Sumdb => parse_data_tile(data, first),
            PathForm::C2sp => parse_entry_bundle(data),
        };
        let entries = entries.map_err(|error| format!("{tile}: {error}"))?;
        if entries.len() != usize::from(tile.width) {
            return Err(format!("{tile} does not have as many entries as its path says"));
        }
        whole &= tile.index == next && tile.width == Tile::widest_at(TileKind::Entries, next, size);
        for entry in entries {
            range.push(leaf_hash(entry));
        }
    }
    Ok((whole && range.size() == size).then(|| range.root()))
}
