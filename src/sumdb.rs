//! Client of a Go checksum database: which hash a module version has, proven by the database's signed log.
//!
//! ```text
//! sums("rsc.io/2fa", "v1.2.0")
//!   lookup ──▶ number, record, signed head
//!   head   ──▶ is one log with the newest head seen before (kept in the store, compare-and-swap)
//!   record ──▶ is at that number of that log, by tiles that lead to the newest head's root
//! ```
//!
//! Out of scope: fetching ([`crate::goproxy`]) and the tree's arithmetic ([`crate::tlog`]).
//!
//! Invariants, as of Go's `golang.org/x/mod/sumdb` client: nothing is believed that the newest head does not cover; the
//! newest head only moves to one that continues it; a head that does not fit it is a security error that shows both.

mod database;
pub mod dirhash;
#[cfg(test)]
pub(crate) mod fake;
mod proof;
mod verify;

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::goproxy::{Client, DatabaseSource, FetchError};
use crate::model::escape;
use crate::store::Store;
use crate::tlog::{Head, SUMDB_ORIGIN, TreeSize, VerifierKey, leaf_hash, open_head, parse_lookup};
use proof::ProvenTiles;

pub use database::Database;
pub use dirhash::{hash_zip, hash1};

/// A handle; cheap to clone.
#[derive(Clone)]
pub struct SumDb {
    inner: Arc<Inner>,
}

struct Inner {
    key: VerifierKey,
    store: Store,
    source: DatabaseSource,
    tiles: ProvenTiles,
    /// The newest head that was proven, once it is read from the store; held while it moves.
    newest: Mutex<Option<SignedHead>>,
    /// Proven records, by lookup path.
    records: moka::sync::Cache<String, Record>,
    /// Notes of heads that were found to be of the one log.
    heads: moka::sync::Cache<String, ()>,
}

/// The two hashes of a module version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleSums {
    /// `h1:` hash of the zip.
    pub zip: String,
    /// `h1:` hash of the go.mod file.
    pub go_mod: String,
}

/// A head and the note that it was signed in.
#[derive(Clone, Debug)]
struct SignedHead {
    head: Head,
    note: String,
}

/// A record that was proven to be in the log.
#[derive(Clone, Debug)]
struct Record {
    number: u64,
    text: Arc<str>,
}

/// Bytes of all proven records in memory; one has some 200.
const RECORDS_BYTES: u64 = 4 << 20;
/// Notes of heads in memory.
const HEADS: u64 = 1000;

impl SumDb {
    /// A client that believes `database` as far as `store` remembers, reached through `client`'s proxies.
    pub fn new(database: Database, client: Client, store: Store) -> SumDb {
        let Database { key, url } = database;
        let source = DatabaseSource::new(client, key.name(), url);
        let records = moka::sync::Cache::builder()
            .max_capacity(RECORDS_BYTES)
            .weigher(|path: &String, record: &Record| {
                u32::try_from(path.len() + record.text.len() + 100).unwrap_or(u32::MAX)
            })
            .build();
        SumDb {
            inner: Arc::new(Inner {
                tiles: ProvenTiles::new(source.clone()),
                key,
                store,
                source,
                newest: Mutex::default(),
                records,
                heads: moka::sync::Cache::new(HEADS),
            }),
        }
    }

    /// The proven hashes of a module version; neither needs to be escaped.
    ///
    /// # Errors
    /// [`FetchError::NotFound`] if the database does not know it, [`FetchError::Security`] if the database contradicts
    /// itself, anything else if it could not be asked.
    pub async fn sums(&self, module: &str, version: &str) -> Result<ModuleSums, FetchError> {
        let record = self.inner.record(module, version).await?;
        let hash_of = |what: &str| {
            let start = format!("{module} {what} h1:");
            let line = record.text.lines().find(|line| line.starts_with(&start))?;
            Some(line[start.len() - "h1:".len()..].to_owned())
        };
        match (hash_of(version), hash_of(&format!("{version}/go.mod"))) {
            (Some(zip), Some(go_mod)) => Ok(ModuleSums { zip, go_mod }),
            _ => Err(FetchError::NotFound(format!(
                "the checksum database's record {} has no hashes of {module}@{version}",
                record.number
            ))),
        }
    }

    /// The database's name.
    pub fn name(&self) -> &str {
        self.inner.key.name()
    }
}

impl Inner {
    /// The record of a version, proven.
    async fn record(&self, module: &str, version: &str) -> Result<Record, FetchError> {
        let path = format!("lookup/{}@{}", escape(module), escape(version));
        if let Some(record) = self.records.get(&path) {
            return Ok(record);
        }
        let body = self.source.get(&path).await?;
        let (number, text, note) = parse_lookup(&body).map_err(|error| self.garbage(&path, &error))?;
        let note = std::str::from_utf8(note).map_err(|error| self.garbage(&path, &error))?;
        let newest = self.advance(note, &path).await?;
        self.check_record(number, &text, &newest).await?;
        let record = Record { number, text: text.into() };
        self.records.insert(path, record.clone());
        Ok(record)
    }

    /// Checks that the entry `number` of the log is `text`.
    async fn check_record(&self, number: u64, text: &str, newest: &SignedHead) -> Result<(), FetchError> {
        let head = &newest.head;
        if number >= head.size.get() {
            return Err(self.garbage("lookup", &format!("record {number} is not below its head's size {}", head.size)));
        }
        let found = self.tiles.leaf(head, number).await?;
        if found == leaf_hash(text.as_bytes()) {
            return Ok(());
        }
        Err(FetchError::Security(format!(
            "checksum database {}: the record it answers with is not number {number} of its log: {text:?}, under the head {:?}",
            self.key.name(),
            newest.note
        )))
    }

    /// Checks that a note is a head of the one log, moves the newest head if this one is ahead, and returns the newest.
    async fn advance(&self, note: &str, path: &str) -> Result<SignedHead, FetchError> {
        let head = open_head(note.as_bytes(), &self.key, SUMDB_ORIGIN).map_err(|error| self.garbage(path, &error))?;
        let offered = SignedHead { head, note: note.to_owned() };
        // One at a time: two that move at once would each be checked against a head that is no longer the newest.
        let mut newest = self.newest.lock().await;
        loop {
            if newest.is_none() {
                *newest = self.stored().await?;
            }
            if let Some(newest) = &*newest
                && (self.heads.contains_key(&offered.note) || self.is_covered(&offered, newest).await?)
            {
                self.heads.insert(offered.note, ());
                return Ok(newest.clone());
            }
            let expected = newest.as_ref().map(|newest| newest.note.clone());
            let (name, note) = (self.key.to_string(), offered.note.clone());
            let moved =
                self.store.write(move |rows| rows.set_sumdb_head(&name, &note, expected.as_deref())).await.map_err(
                    |error| FetchError::Temporary(format!("cannot keep the checksum database's head: {error:#}")),
                )?;
            // False: another process moved it. Read it again, and check against that.
            *newest = moved.then(|| offered.clone());
        }
    }

    /// Whether `newest` covers `offered`; if not, `offered` was proven to continue `newest`.
    async fn is_covered(&self, offered: &SignedHead, newest: &SignedHead) -> Result<bool, FetchError> {
        let covered = offered.head.size <= newest.head.size;
        let (older, newer) = if covered { (offered, newest) } else { (newest, offered) };
        let root = if older.head.size == newer.head.size {
            newer.head.root
        } else if older.head.size == TreeSize::ZERO {
            older.head.root
        } else {
            self.tiles.root(&newer.head, older.head.size).await?
        };
        if root == older.head.root {
            return Ok(covered);
        }
        Err(FetchError::Security(format!(
            "checksum database {} has signed two logs that do not fit together: {:?} and {:?}",
            self.key.name(),
            older.note,
            newer.note
        )))
    }

    /// The newest head as the store has it.
    async fn stored(&self) -> Result<Option<SignedHead>, FetchError> {
        // The whole key, not the name alone: under another key it is another database.
        let name = self.key.to_string();
        let ours = |error: String| FetchError::Temporary(format!("the stored head of the checksum database: {error}"));
        let note =
            self.store.read(move |rows| rows.sumdb_head(&name)).await.map_err(|error| ours(format!("{error:#}")))?;
        note.map(|note| {
            let head = open_head(note.as_bytes(), &self.key, SUMDB_ORIGIN).map_err(|error| ours(error.to_string()))?;
            Ok(SignedHead { head, note })
        })
        .transpose()
    }

    /// The newest head; asks the database if none was ever seen.
    async fn newest(&self) -> Result<SignedHead, FetchError> {
        {
            let mut newest = self.newest.lock().await;
            if newest.is_none() {
                *newest = self.stored().await?;
            }
            if let Some(newest) = &*newest {
                return Ok(newest.clone());
            }
        }
        let body = self.source.get("latest").await?;
        let note = std::str::from_utf8(&body).map_err(|error| self.garbage("latest", &error))?;
        self.advance(note, "latest").await
    }

    /// An answer that proves nothing, so it is held against nobody.
    fn garbage(&self, path: &str, error: &dyn std::fmt::Display) -> FetchError {
        FetchError::Temporary(format!("checksum database {}: unusable answer to {path}: {error}", self.key.name()))
    }
}

#[cfg(test)]
mod tests;
