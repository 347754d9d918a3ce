//! Which checksum database to believe.

use anyhow::Context as _;
use url::Url;

use crate::tlog::VerifierKey;

/// A checksum database: its key, and where it is if no proxy passes it on.
#[derive(Clone, Debug)]
pub struct Database {
    /// What its heads are signed with; the key's name is the database's.
    pub key: VerifierKey,
    /// Its own address.
    pub url: Url,
}

impl Database {
    /// The database that signs with `key`, at the address that its name is, as the go command has it.
    ///
    /// # Errors
    /// If the key's name is no address.
    pub fn of_key(key: VerifierKey) -> anyhow::Result<Database> {
        let url = format!("https://{}", key.name())
            .parse()
            .with_context(|| format!("the name of the checksum database's key is no address: {:?}", key.name()))?;
        Ok(Database { key, url })
    }
}
