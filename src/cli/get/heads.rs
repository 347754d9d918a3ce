//! The largest head seen of each log, kept between runs: what makes a rollback or a fork visible.
//!
//! Heads are kept under the whole verifier key and never under a URL or an origin: any server may show a log, and all
//! gobuild logs share one origin.
//!
//! What always holds: a kept head is complete on disk or not there at all, and it is only replaced by one that was
//! proved against it (compare and swap, so that two runs at once do not lose one).

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::tlog::{Head, SUMDB_ORIGIN, VerifierKey, open_head};

pub(super) struct Heads {
    dir: PathBuf,
}

/// A head as it was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) note: String,
    pub(super) head: Head,
}

/// A file of this store. The key stands in it for whoever looks: the file name is only its hash.
#[derive(Serialize, Deserialize)]
struct Stored {
    key: String,
    head: String,
}

impl Heads {
    pub(super) fn new(dir: PathBuf) -> Heads {
        Heads { dir }
    }

    /// The head to which the next one must be proved, if this log was ever seen.
    pub(super) fn last(&self, key: &VerifierKey) -> anyhow::Result<Option<Seen>> {
        let path = self.path(key);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        // Never read as "no history": that is what an attacker would wish for.
        let damaged = || {
            let path = path.display();
            format!("{path} is damaged: it holds the last head of a log; remove it only if you can explain that")
        };
        let stored: Stored = serde_json::from_slice(&text).with_context(damaged)?;
        let head = open_head(stored.head.as_bytes(), key, SUMDB_ORIGIN).with_context(damaged)?;
        Ok(Some(Seen { note: stored.head, head }))
    }

    /// Keeps `new` in place of `old`, the head it was proved against. False if another run was faster: then look again.
    pub(super) fn replace(&self, key: &VerifierKey, old: Option<&Seen>, new: &Seen) -> anyhow::Result<bool> {
        let dir = self.dir.display();
        fs::create_dir_all(&self.dir).with_context(|| format!("cannot make {dir}"))?;
        // Held for the few lines below only; closing the file, also by dying, releases it.
        let lock = File::create(self.dir.join("lock")).and_then(|file| file.lock().map(|()| file));
        let _lock = lock.with_context(|| format!("cannot lock {dir}"))?;
        if self.last(key)?.as_ref() != old {
            return Ok(false);
        }
        let stored = Stored { key: key.to_string(), head: new.note.clone() };
        let text = serde_json::to_vec(&stored).context("a head is valid JSON")?;
        write_whole(&self.path(key), &text).with_context(|| format!("cannot write to {dir}"))?;
        ensure!(self.last(key)?.as_ref() == Some(new), "{dir} does not give back what was written to it");
        Ok(true)
    }

    fn path(&self, key: &VerifierKey) -> PathBuf {
        let hash = Sha256::digest(key.to_string());
        self.dir.join(format!("{}.json", HEXLOWER.encode(&hash)))
    }
}

/// A crash at any point leaves the old file or the new one.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlog::{Hash, SignerKey, TreeSize, sign_note};

    #[test]
    fn a_head_replaces_only_the_one_it_was_proved_against() {
        let signer = SignerKey::generate("up.example", [3; 32]).unwrap();
        let key = signer.verifier();
        let seen = |size| {
            let (origin, size) = (SUMDB_ORIGIN.to_owned(), TreeSize::new(size).unwrap());
            let head = Head { origin, size, root: Hash([7; 32]) };
            Seen { note: sign_note(&head.to_text(), &[&signer]), head }
        };
        let folder = tempfile::TempDir::new().unwrap();
        let heads = Heads::new(folder.path().join("not/yet/there"));
        assert_eq!(heads.last(&key).unwrap(), None);
        assert!(!heads.replace(&key, Some(&seen(1)), &seen(2)).unwrap());
        assert!(heads.replace(&key, None, &seen(3)).unwrap());
        // Another run was faster than these.
        assert!(!heads.replace(&key, None, &seen(4)).unwrap());
        assert!(!heads.replace(&key, Some(&seen(2)), &seen(4)).unwrap());
        assert_eq!(heads.last(&key).unwrap(), Some(seen(3)));
        assert!(heads.replace(&key, Some(&seen(3)), &seen(5)).unwrap());
        assert_eq!(heads.last(&key).unwrap(), Some(seen(5)));

        // The same key pair under another name is another log, whose head is not this one.
        let other = key.as_name("other.example");
        assert_eq!(heads.last(&other).unwrap(), None);
        fs::copy(heads.path(&key), heads.path(&other)).unwrap();
        assert!(heads.last(&other).is_err());
    }
}
