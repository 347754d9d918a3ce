//! What these tests take from the world, by the settings of the machine they run on.

use std::path::Path;

use sumpeer::config::GoSumDb;
use sumpeer::goproxy::{Client, ProxyList, http_client};
use sumpeer::metrics::Metrics;
use sumpeer::store::Store;
use sumpeer::sumdb::{Database, SumDb};
use sumpeer::tlog::SignerKey;

/// A client of the proxies that the environment or the go command names.
pub(crate) fn client() -> Client {
    let list = sumpeer::config::goproxy(None).expect("a module proxy is configured");
    let list: ProxyList = list.parse().expect("GOPROXY has Go's syntax");
    Client::new(list, http_client().expect("TLS roots are installed"))
}

/// The store of a new folder, with a key that signs nothing anyone sees.
pub(crate) fn store(data: &Path) -> Store {
    let key = SignerKey::generate("test.example", [7; 32]).expect("a fine name");
    Store::open(data, sumpeer::log::forms(&key), Metrics::new()).expect("the folder is new")
}

/// The database that the environment names, else the go command's default.
pub(crate) fn gosumdb() -> GoSumDb {
    sumpeer::config::gosumdb(None).expect("GOSUMDB has Go's syntax")
}

/// A client of that database.
pub(crate) fn sumdb(client: &Client, store: &Store) -> SumDb {
    let GoSumDb::Key(key) = gosumdb() else { panic!("these tests need a checksum database, and GOSUMDB is off") };
    let database = Database::of_key(*key).expect("its name is an address");
    SumDb::new(database, client.clone(), store.clone())
}
