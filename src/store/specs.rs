//! The specs that anything is known of, found by a short hash.
//!
//! The index is of 8 bytes instead of the text: with a million specs it is a fifth of the size, so an append
//! changes fewer pages. The upper half of the hash is the module's, so that the specs of one module
//! stand together. Different texts may share a hash; the text decides.

use std::ops::RangeInclusive;

use rusqlite::{OptionalExtension, params};
use sha2::{Digest, Sha256};

use super::{Reader, Tx};
use crate::model::Spec;

/// A spec as rows name it. Looking it up is what a transaction pays most for, so it is done once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecId(pub(super) i64);

impl Reader<'_> {
    /// The id of a spec, if anything is known of it.
    pub fn spec_id(&self, spec: &Spec) -> anyhow::Result<Option<SpecId>> {
        self.spec_id_by_text(&spec.to_string())
    }

    pub(super) fn spec_id_by_text(&self, text: &str) -> anyhow::Result<Option<SpecId>> {
        let mut query = self.conn.prepare_cached("SELECT id FROM spec WHERE hash = ?1 AND text = ?2")?;
        Ok(query.query_row(params![hash(text), text], |row| row.get(0).map(SpecId)).optional()?)
    }
}

impl Tx<'_> {
    /// The id of a spec, made if it is new.
    pub fn make_spec_id(&mut self, spec: &Spec) -> anyhow::Result<SpecId> {
        let text = spec.to_string();
        if let Some(id) = self.spec_id_by_text(&text)? {
            return Ok(id);
        }
        self.conn
            .prepare_cached("INSERT INTO spec (hash, text) VALUES (?1, ?2)")?
            .execute(params![hash(&text), text])?;
        Ok(SpecId(self.conn.last_insert_rowid()))
    }
}

/// The hash of a spec's text: the module's half above its own.
fn hash(text: &str) -> i64 {
    let module = text.split('@').next().unwrap_or_default();
    i64::from(short(module).cast_signed()) << 32 | i64::from(short(text))
}

/// The hashes that specs of a module can have.
pub(super) fn hashes_of(module: &str) -> RangeInclusive<i64> {
    let first = i64::from(short(module).cast_signed()) << 32;
    first..=first | i64::from(u32::MAX)
}

fn short(text: &str) -> u32 {
    let digest = Sha256::digest(text);
    u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_of_a_module_stand_together() {
        for module in ["example.com/m", "filippo.io/age", "a.b/c", "rsc.io/2fa", "x.y"] {
            let spec = format!("{module}@v1.0.0/linux-amd64-go1.27.1/");
            assert!(hashes_of(module).contains(&hash(&spec)));
            assert!(!hashes_of(&format!("{module}/x")).contains(&hash(&spec)));
        }
    }
}
