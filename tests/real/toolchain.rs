//! Real toolchains and modules, through the module proxy that the go command is configured with.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use sumpeer::builder::toolchain::{Corpus, ToolchainError, Toolchains};
use sumpeer::goproxy::ModuleCache;
use sumpeer::model::{GoRange, GoVersion};

use crate::upstream::{client, store, sumdb};

#[tokio::test]
async fn toolchain_is_fetched_checked_tried_and_kept() {
    let data = tempfile::tempdir().unwrap();
    let (client, store) = (client(), store(data.path()));
    let sumdb = sumdb(&client, &store);
    let open = || Toolchains::open(data.path(), store.clone(), client.clone(), Some(sumdb.clone()), GoRange::default());
    let toolchains = open().await.unwrap();

    let latest = toolchains.latest().await.unwrap();
    assert!(latest.is_release() && latest.minor() >= 27, "{latest}");
    let old = toolchains.latest_of(22).await.unwrap();
    assert!(old.is_release() && old.minor() == 22, "{old}");

    let goversion: GoVersion = "go1.27.1".parse().unwrap();
    let bytes = AtomicU64::new(0);
    let started = Instant::now();
    let progress = |done, _| {
        bytes.fetch_max(done, Ordering::SeqCst);
    };
    let (one, two) = tokio::join!(toolchains.ensure(&goversion, progress), toolchains.ensure(&goversion, |_, _| ()));
    let toolchain = one.unwrap();
    eprintln!("{goversion} installed in {:?}", started.elapsed());
    assert_eq!(two.unwrap(), toolchain);
    assert!(bytes.load(Ordering::SeqCst) > 50_000_000);
    assert!(toolchain.targets.contains(&"linux/amd64".parse().unwrap()));
    assert!(toolchain.targets.contains(&"windows/arm64".parse().unwrap()));
    assert!(toolchain.go().exists());
    assert_eq!(toolchains.installed().await.unwrap(), [goversion]);
    // Nothing but the toolchain is left, and another start finds it.
    assert_eq!(std::fs::read_dir(data.path().join("toolchains")).unwrap().count(), 1);
    assert_eq!(open().await.unwrap().ensure(&goversion, |_, _| ()).await.unwrap(), toolchain);

    let missing = toolchains.ensure(&"go1.27.99".parse().unwrap(), |_, _| ()).await;
    assert!(matches!(missing, Err(ToolchainError::NotListed(_))), "{missing:?}");

    let work = tempfile::tempdir().unwrap();
    let mut results = Vec::new();
    let targets = ["linux/amd64".parse().unwrap()];
    Corpus::check(&toolchain, &targets, work.path(), |result| results.push(result)).await.unwrap();
    assert_eq!(results.len(), 3 * 2);
    assert!(results.iter().all(|result| result.sums[0] == result.sums[1]));
}

#[tokio::test]
async fn toolchain_module_files_are_checked_and_kept() {
    let data = tempfile::tempdir().unwrap();
    let (client, store) = (client(), store(data.path()));
    let sumdb = sumdb(&client, &store);
    let verify = std::sync::Arc::new(sumdb.clone());
    let cache = ModuleCache::open(data.path(), 1 << 30, store, client.clone(), Some(verify)).await.unwrap();
    let (module, version) = ("rsc.io/2fa".parse().unwrap(), "v1.2.0".parse().unwrap());
    let started = Instant::now();
    let go_mod = cache.go_mod(&module, &version).await.unwrap();
    eprintln!("first go.mod checked in {:?}", started.elapsed());
    assert!(go_mod.starts_with(b"module rsc.io/2fa\n"));
    let started = Instant::now();
    let (_, size) = cache.zip(&module, &version).await.unwrap();
    eprintln!("zip of {size} bytes checked in {:?}", started.elapsed());
    let started = Instant::now();
    let sums = sumdb.sums("filippo.io/age", "v1.2.1").await.unwrap();
    eprintln!("another lookup in {:?}", started.elapsed());
    assert!(sums.zip.starts_with("h1:") && sums.go_mod.starts_with("h1:"));
    eprintln!("latest of rsc.io/2fa: {:?}", client.latest(&module).await);
}
