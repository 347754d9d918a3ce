//! Heads that a node has served, and whether a later one continues them.

use std::time::Duration;

use sumpeer::tlog::{
    Hash, Head, SUMDB_ORIGIN, Tile, TileKind, TileReader, VerifierKey, VerifyingTiles, open_head, parse_hash_tile,
    tree_hash,
};

use super::http::request;
use super::node::Node;

/// The verified heads of a node's two logs at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Heads {
    pub accepted: Head,
    pub claims: Head,
}

/// Fetches tiles of one log over HTTP.
struct Remote<'n> {
    node: &'n Node,
    /// `log` or `claims`.
    log: &'static str,
}

impl Heads {
    /// Fetches both and verifies their signatures; none if the node does not answer (it may just have been killed).
    ///
    /// # Panics
    /// If what it answers is not signed by its key.
    pub(crate) fn of(node: &Node) -> Option<Heads> {
        let fetch = |path: &str, key: &VerifierKey, origin: &str| {
            let answer = request(&node.address, &format!("GET {path}"), "", "", Duration::from_secs(10)).ok()?;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            Some(open_head(&answer.body, key, origin).unwrap_or_else(|error| panic!("{path}: {error}")))
        };
        let key: VerifierKey = node.vkey.parse().expect("a key");
        let origin = |log: &str| format!("{}/{log}", key.name());
        let named = |log: &str| key.as_name(&origin(log));
        let accepted = fetch("/tlog/latest", &key, SUMDB_ORIGIN)?;
        let again = fetch("/log/checkpoint", &named("log"), &origin("log"))?;
        assert!(again.size >= accepted.size, "one log, two forms: {accepted:?} {again:?}");
        let claims = fetch("/claims/checkpoint", &named("claims"), &origin("claims"))?;
        Some(Heads { accepted, claims })
    }
}

/// Whether the logs behind the newest heads continue each of the older ones, by tiles that lead to the newest roots.
pub(crate) fn is_consistent<'h>(node: &Node, newest: &Heads, older: impl IntoIterator<Item = &'h Heads>) -> bool {
    let reader = |log, head: &Head| VerifyingTiles::new(Remote { node, log }, head.size, head.root);
    let mut accepted = reader("log", &newest.accepted);
    let mut claims = reader("claims", &newest.claims);
    older.into_iter().all(|old| {
        is_part(&mut accepted, &newest.accepted, &old.accepted) && is_part(&mut claims, &newest.claims, &old.claims)
    })
}

fn is_part(tiles: &mut VerifyingTiles<Remote<'_>>, new: &Head, old: &Head) -> bool {
    if old.size > new.size {
        return false;
    }
    if old.size.get() == 0 {
        return old.root == Hash::EMPTY_ROOT;
    }
    tree_hash(tiles, old.size).is_ok_and(|root| root == old.root)
}

impl TileReader for Remote<'_> {
    type Error = String;

    fn read_tile(&mut self, level: u8, index: u64, width: u16) -> Result<Vec<Hash>, String> {
        let tile = Tile { kind: TileKind::Hashes(level), index, width };
        let answer = self.node.get(&format!("/{}/{}", self.log, tile.c2sp_path()));
        parse_hash_tile(&answer.body, width).ok_or_else(|| format!("{}: {}", answer.status, answer.text()))
    }
}
