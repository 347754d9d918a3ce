//! The specs that anything is known of, found by a short hash.
//!
//! # Performance
//! Specs come in no order, and an index that is written to in no order is what appending to a large log would cost
//! most: each commit changes a good part of its pages. So the index is of 8 bytes instead of the text, and new
//! specs go into a small one first, which is moved into the large one in order once it has [`RECENT`] rows.
//! The upper half of the hash is the module's, so that the specs of one module stand together.
//! Different texts may share a hash; the text decides.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use rusqlite::{OptionalExtension, params};
use sha2::{Digest, Sha256};

use super::{Reader, Tx};
use crate::model::Spec;

/// Rows of the small index: with fewer, moving them changes as many pages for less; with more, it takes longer
/// than anybody who waits for that commit would like.
const RECENT: i64 = 1 << 16;

/// A spec as rows name it. Looking it up is what a transaction pays most for, so it is done once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecId(pub(super) i64);

impl Reader<'_> {
    /// The id of a spec, if anything is known of it.
    pub fn spec_id(&self, spec: &Spec) -> anyhow::Result<Option<SpecId>> {
        self.spec_id_by_text(&spec.to_string())
    }

    pub(super) fn spec_id_by_text(&self, text: &str) -> anyhow::Result<Option<SpecId>> {
        let mut query = self.conn.prepare_cached(
            "SELECT id FROM spec_recent JOIN spec USING (id) WHERE spec_recent.hash = ?1 AND text = ?2
             UNION ALL
             SELECT id FROM spec_settled JOIN spec USING (id) WHERE spec_settled.hash = ?1 AND text = ?2 LIMIT 1",
        )?;
        Ok(query.query_row(params![hash(text), text], |row| row.get(0).map(SpecId)).optional()?)
    }

    /// Calls `wrong` with a sentence for each spec that is not in exactly one part of the index under its own hash, and
    /// for each row of the index that is of no spec. Returns how many specs there are.
    ///
    /// # Errors
    /// The database failed.
    pub fn check_spec_index(&self, mut wrong: impl FnMut(String)) -> anyhow::Result<u64> {
        let mut indexed: HashMap<i64, Vec<i64>> = HashMap::new();
        let mut query =
            self.conn.prepare_cached("SELECT id, hash FROM spec_recent UNION ALL SELECT id, hash FROM spec_settled")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            indexed.entry(row.get(0)?).or_default().push(row.get(1)?);
        }
        let mut count = 0;
        let mut query = self.conn.prepare_cached("SELECT id, text FROM spec")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let text: String = row.get(1)?;
            count += 1;
            match indexed.remove(&row.get(0)?).as_deref() {
                Some([found]) if *found == hash(&text) => {}
                Some([_]) => wrong(format!("the spec {text} is indexed under the hash of another")),
                Some(_) => wrong(format!("the spec {text} is indexed more than once")),
                None => wrong(format!("the spec {text} is not indexed and cannot be found")),
            }
        }
        for id in indexed.keys() {
            wrong(format!("the index of specs names the spec {id}, which there is not"));
        }
        Ok(count)
    }
}

impl Tx<'_> {
    /// The id of a spec, made if it is new.
    pub fn make_spec_id(&mut self, spec: &Spec) -> anyhow::Result<SpecId> {
        let text = spec.to_string();
        if let Some(id) = self.spec_id_by_text(&text)? {
            return Ok(id);
        }
        self.conn.prepare_cached("INSERT INTO spec (text) VALUES (?1)")?.execute([&text])?;
        let id = self.conn.last_insert_rowid();
        self.conn.prepare_cached("INSERT INTO spec_recent (hash, id) VALUES (?1, ?2)")?.execute([hash(&text), id])?;
        if id % RECENT == 0 {
            self.conn.execute_batch(
                "INSERT INTO spec_settled (hash, id) SELECT hash, id FROM spec_recent ORDER BY hash, id;
                 DELETE FROM spec_recent;",
            )?;
        }
        Ok(SpecId(id))
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
