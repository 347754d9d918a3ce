//! Transparency logs as values: hashes, trees, tiles, proofs, signed notes, heads and the texts of entries.
//!
//! In scope: what RFC 6962 section 2, golang.org/x/mod/sumdb/{note,tlog} and C2SP signed-note, tlog-checkpoint and
//! tlog-tiles say about bytes. Out of scope: where bytes come from or go to ([`crate::store`], [`crate::log`], clients),
//! what an entry means ([`crate::model`]). No I/O, no clock.
//!
//! The rooms, in reading order:
//! - `merkle`: [`struct@Hash`], [`TreeSize`], leaf and node hashes, checking proofs
//! - `compact`: [`CompactRange`], the few hashes that a growing log has to remember
//! - `tile`: [`Tile`], 256 hashes or entries under one path, in both path forms
//! - `proof`: making roots and proofs from tiles
//! - `verify`: [`VerifyingTiles`], tiles of a server that is not trusted
//! - `key`, `note`, `checkpoint`: who signed what; [`Head`] is the signed statement about a log
//! - `entry`: the texts in which entries travel
//!
//! What always holds: everything here may be fed with bytes of strangers. No parser allocates by a number it has read,
//! none panics, and each has a limit.

mod checkpoint;
mod compact;
mod entry;
mod key;
mod merkle;
mod note;
mod proof;
mod tile;
mod verify;

#[cfg(test)]
mod vectors;

pub use checkpoint::{Head, HeadError, SUMDB_ORIGIN, open_head};
pub use compact::CompactRange;
pub use entry::{
    BUNDLE_LIMIT_BYTES, EntryError, format_entry, parse_data_tile, parse_entry_bundle, parse_lookup, push_bundle_entry,
};
pub use key::{KeyError, SignerKey, VerifierKey};
pub use merkle::{
    CheckError, Hash, HashError, MAX_SIZE, TreeSize, check_consistency, check_inclusion, leaf_hash, node_hash,
};
pub use note::{NOTE_LIMIT_BYTES, Note, NoteError, Signature, open_note, sign_note};
pub use proof::{FetchedTiles, ProofError, TileReader, consistency_proof, inclusion_proof, partial_tiles, tree_hash};
pub use tile::{HEIGHT, TILE_WIDTH, Tile, TileKind, parse_hash_tile, parse_hashes, tile_root};
pub use verify::VerifyingTiles;
