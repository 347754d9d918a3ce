//! Key files, and the node's own key: read from its file, or made at the first start.

use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail, ensure};
use tracing::{info, warn};

use crate::config::default_name;
use crate::tlog::SignerKey;

/// Bytes of a key file; names are short.
const LIMIT_BYTES: u64 = 4096;

/// The key in a file.
///
/// # Errors
/// A sentence that names the file: it is missing, not readable, or holds no private key in Go's text form.
pub fn read_key(path: &Path) -> anyhow::Result<SignerKey> {
    let shown = path.display();
    let file = fs::metadata(path).with_context(|| format!("cannot read the key file {shown}"))?;
    ensure!(file.len() <= LIMIT_BYTES, "the key file {shown} is too large to hold a key");
    if file.permissions().mode() & 0o077 != 0 {
        warn!("the key file {shown} can be read by others: chmod 600 it");
    }
    let text = fs::read_to_string(path).with_context(|| format!("cannot read the key file {shown}"))?;
    text.trim_end().parse().with_context(|| {
        format!("the key file {shown} does not hold a private key (PRIVATE+KEY+name+…, as `sumpeer keygen` writes it)")
    })
}

/// The key of a node that starts: read, or made if this is its first start.
///
/// # Errors
/// As of [`read_key`]; the key has another name than the configured one; or the key is gone
/// though there are logs signed by it.
pub(super) fn own_key(path: &Path, name: Option<&str>, has_logs: bool) -> anyhow::Result<SignerKey> {
    let shown = path.display();
    if path.exists() {
        let key = read_key(path)?;
        if let Some(name) = name
            && name != key.name()
        {
            bail!("the configured name is {name}, but the key in {shown} is called {}", key.name());
        }
        return Ok(key);
    }
    ensure!(
        !has_logs,
        "the key file {shown} is missing, but there are logs signed by it: put it back. \
         A new key needs an empty data directory"
    );
    let name = name.map_or_else(default_name, str::to_owned);
    let key =
        SignerKey::generate(&name, rand::random()).with_context(|| format!("{name:?} cannot be the name of a key"))?;
    write_key(path, &key)?;
    info!("made a key for this node: {shown}");
    Ok(key)
}

/// Writes a key to a new file that its owner alone can read. The file is there whole and synced, or not at all: a head
/// signed by a key that a power cut took away could never be continued.
///
/// # Errors
/// A sentence that names the file: it exists, or cannot be written.
pub fn write_key(path: &Path, key: &SignerKey) -> anyhow::Result<()> {
    let shown = path.display();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        let mut file =
            tempfile::Builder::new().prefix("key-").permissions(Permissions::from_mode(0o600)).tempfile_in(folder)?;
        writeln!(file, "{}", key.to_text().as_str())?;
        file.as_file().sync_all()?;
        file.persist_noclobber(path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => anyhow!("{shown} exists; a key is never written over another file"),
        _ => anyhow::Error::new(error).context(format!("cannot write the key file {shown}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_then_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        let made = own_key(&path, Some("node.example"), false).expect("made");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let read = own_key(&path, None, true).expect("read");
        assert_eq!(made.verifier(), read.verifier());
    }

    #[test]
    fn what_is_wrong_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        let says = |name, has_logs| format!("{:#}", own_key(&path, name, has_logs).expect_err("wrong"));
        assert!(says(None, true).contains("put it back"));
        assert!(says(Some("a b"), false).contains("cannot be the name of a key"));
        fs::write(&path, "hello\n").expect("written");
        assert!(says(None, false).contains("does not hold a private key"));
        fs::write(&path, SignerKey::generate("a", [1; 32]).expect("a key").to_text().as_bytes()).expect("written");
        assert!(says(Some("b"), false).contains("is called a"));
        fs::write(&path, vec![b'x'; 5000]).expect("written");
        assert!(says(None, false).contains("too large"));
    }
}
