//! Bytes that were served under a name that is not theirs, kept for people to look at.
//!
//! Each is a file as it came, named by its SHA-256. Nothing is ever served from here, and nothing here is thrown away
//! for what comes later: who could make a node forget by sending more would.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use data_encoding::HEXLOWER;

use super::receive::Received;

/// Files that are kept at most, and bytes of them: enough for every voter of a node to go wrong with a few programs.
const FILES: usize = 64;
const BYTES: u64 = 1 << 30;

/// Keeps what came, synced, unless there is too much already. Returns whether it is there now.
pub(super) fn keep(received: Received, folder: &Path) -> io::Result<bool> {
    fs::create_dir_all(folder)?;
    let place = folder.join(HEXLOWER.encode(&received.gz_sha256));
    if place.exists() {
        return Ok(true);
    }
    let (mut files, mut bytes) = (0, received.gz_size);
    for file in fs::read_dir(folder)? {
        files += 1;
        bytes = bytes.saturating_add(file?.metadata()?.len());
    }
    if files >= FILES || bytes > BYTES {
        return Ok(false);
    }
    let (gz, path) = received.into_gz();
    gz.sync_all()?;
    path.persist(&place)?;
    File::open(folder)?.sync_all()?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sha2::{Digest as _, Sha256};

    use super::super::receive::receive;
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_and_stays() {
        let data = tempfile::tempdir().expect("a folder");
        let folder = data.path().join("evidence");
        let keep = |text: &str| {
            let pieces = [Bytes::copy_from_slice(text.as_bytes())];
            keep(receive(pieces.into_iter(), 1, data.path()).expect("room"), &folder).expect("room")
        };
        for number in 0..FILES {
            assert!(keep(&format!("no gzip {number}")));
        }
        assert!(!keep("one too many"));
        assert!(keep("no gzip 0"), "it is here already");
        let name = HEXLOWER.encode(&Sha256::digest("no gzip 0"));
        assert_eq!(fs::read(folder.join(name)).expect("there"), b"no gzip 0");
        assert_eq!(fs::read_dir(&folder).expect("a folder").count(), FILES);
    }
}
