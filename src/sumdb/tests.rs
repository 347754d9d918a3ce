//! The client against databases that are honest, cached, forked, rewritten, or not one at all.

use std::path::Path;

use super::fake::{FakeDatabase, NAME};
use super::*;
use crate::goproxy::fake::{FakeProxy, Says};
use crate::metrics::Metrics;
use crate::store::TreeForms;

fn store(data: &Path) -> Store {
    // No log is written to here, so no head has to be signed.
    let forms = TreeForms { accepted: Vec::new(), claims: Vec::new() };
    Store::open(data, forms, Metrics::new()).unwrap()
}

/// A proxy that passes on a database.
async fn passing_on(database: &FakeDatabase) -> FakeProxy {
    let proxy = FakeProxy::start().await;
    pass_on(&proxy, database);
    proxy
}

fn pass_on(proxy: &FakeProxy, database: &FakeDatabase) {
    let database = database.clone();
    proxy.otherwise(move |path| database.answer(path.strip_prefix("sumdb/")?.strip_prefix(NAME)?.strip_prefix('/')?));
}

fn sumdb(database: &FakeDatabase, proxy: &FakeProxy, store: &Store) -> SumDb {
    SumDb::new(database.database("http://127.0.0.1:9"), proxy.client(), store.clone())
}

async fn check(sumdb: &SumDb, version: &str, want: &str) {
    let got = match sumdb.sums("filler.test/x", version).await {
        Ok(sums) => format!("{} {}", sums.zip, sums.go_mod),
        Err(error) => match &error {
            FetchError::NotFound(_) => "not found".to_owned(),
            FetchError::Temporary(_) => "temporary".to_owned(),
            FetchError::Security(_) => "security".to_owned(),
            _ => error.to_string(),
        },
    };
    assert_eq!(got, want, "for {version}");
}

#[tokio::test]
async fn every_record_is_proven_under_growing_heads() {
    let data = tempfile::tempdir().unwrap();
    let database = FakeDatabase::new();
    let proxy = passing_on(&database).await;
    let sumdb = sumdb(&database, &proxy, &store(data.path()));
    for number in [0, 1, 255, 256, 257, 511, 512, 598, 599] {
        check(&sumdb, &format!("v1.0.{number}"), "h1:zip h1:mod").await;
    }
    check(&sumdb, "v1.0.600", "not found").await;
    for number in 600..900 {
        database.add("filler.test/x", &format!("v1.0.{number}"), "h1:z", "h1:m");
        if number % 37 == 0 {
            check(&sumdb, &format!("v1.0.{number}"), "h1:z h1:m").await;
        }
    }
    // An answer that lay in a cache comes with an older head.
    for size in [1, 255, 256, 512, 700] {
        database.show_head_of(size);
        check(&sumdb, &format!("v1.0.{}", size - 1), if size > 600 { "h1:z h1:m" } else { "h1:zip h1:mod" }).await;
    }
    let tiles = proxy.asked("sumdb/sums.test/tile/8/0/000");
    assert_eq!(tiles, 1, "a proven tile is not fetched again");
    check(&sumdb, "v1.0.3", "h1:zip h1:mod").await;
}

#[tokio::test]
async fn another_log_under_the_same_key_is_refused_and_both_heads_are_shown() {
    let data = tempfile::tempdir().unwrap();
    let store = store(data.path());
    let honest = FakeDatabase::new();
    let forked = honest.fork();
    forked.rewrite(7, "filler.test/x v1.0.7 h1:evil\nfiller.test/x v1.0.7/go.mod h1:evil\n");
    let proxy = passing_on(&honest).await;
    check(&sumdb(&honest, &proxy, &store), "v1.0.1", "h1:zip h1:mod").await;

    // The same size, a larger one, a smaller one. Tiles prove the larger of two heads, so they are those of its log.
    for number in 600..650 {
        forked.add("filler.test/x", &format!("v1.0.{number}"), "h1:z", "h1:m");
    }
    for (size, tiles) in [(600, &forked), (650, &forked), (500, &honest)] {
        forked.show_head_of(size);
        let (lookups, tiles) = (forked.clone(), tiles.clone());
        proxy.otherwise(move |path| match path.strip_prefix("sumdb/sums.test/")? {
            tile if tile.starts_with("tile/") => tiles.answer(tile),
            rest => lookups.answer(rest),
        });
        let sumdb = sumdb(&honest, &proxy, &store);
        check(&sumdb, "v1.0.7", "security").await;
        check(&sumdb, "v1.0.8", "security").await;
        let Err(FetchError::Security(detail)) = sumdb.sums("filler.test/x", "v1.0.9").await else {
            panic!("not refused")
        };
        assert_eq!(detail.matches("go.sum database tree").count(), 2, "{detail}");
    }
    // The head that was believed first is still the one.
    pass_on(&proxy, &honest);
    check(&sumdb(&honest, &proxy, &store), "v1.0.7", "h1:zip h1:mod").await;
}

#[tokio::test]
async fn a_record_that_is_not_in_the_log_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let database = FakeDatabase::new();
    let proxy = passing_on(&database).await;
    let sumdb = sumdb(&database, &proxy, &store(data.path()));
    let Some(Says::Body(honest)) = database.answer("lookup/filler.test/x@v1.0.5") else { panic!("no record") };
    let honest = String::from_utf8(honest.to_vec()).unwrap();
    let path = "sumdb/sums.test/lookup/filler.test/x@v1.0.5";
    proxy.has(path, honest.replace("h1:zip", "h1:evil"));
    check(&sumdb, "v1.0.5", "security").await;
    proxy.has(path, honest.replacen("5\n", "6\n", 1));
    check(&sumdb, "v1.0.5", "security").await;
    // What proves nothing is held against nobody.
    for garbage in [
        honest.replacen("5\n", "5000\n", 1),
        honest.replace("go.sum database tree\n600", "go.sum database tree\n601"),
        honest.replacen("5\n", "05\n", 1),
        "<html>".to_owned(),
        String::new(),
    ] {
        proxy.has(path, garbage);
        check(&sumdb, "v1.0.5", "temporary").await;
    }
    proxy.has(path, honest);
    check(&sumdb, "v1.0.5", "h1:zip h1:mod").await;
}

#[tokio::test]
async fn tiles_that_do_not_lead_to_the_root_prove_nothing() {
    let data = tempfile::tempdir().unwrap();
    let database = FakeDatabase::new();
    let proxy = passing_on(&database).await;
    let sumdb = sumdb(&database, &proxy, &store(data.path()));
    let path = "sumdb/sums.test/tile/8/0/000";
    for garbage in [vec![0; 256 * 32], vec![0; 100], Vec::new()] {
        proxy.has(path, garbage);
        check(&sumdb, "v1.0.5", "temporary").await;
    }
    let Some(Says::Body(tile)) = database.answer("tile/8/0/000") else { panic!("no tile") };
    proxy.has(path, tile);
    check(&sumdb, "v1.0.5", "h1:zip h1:mod").await;
    // Where a partial tile is gone, the full one begins with it.
    for number in 600..800 {
        database.add("filler.test/x", &format!("v1.0.{number}"), "h1:z", "h1:m");
    }
    database.show_head_of(700);
    proxy.says("sumdb/sums.test/tile/8/0/002.p/188", Says::Status(404));
    check(&sumdb, "v1.0.650", "h1:z h1:m").await;
}

#[tokio::test]
async fn a_database_that_no_proxy_passes_on_is_asked_itself() {
    let data = tempfile::tempdir().unwrap();
    let database = FakeDatabase::new();
    let (proxy, own) = (FakeProxy::start().await, FakeProxy::start().await);
    let answers = database.clone();
    own.otherwise(move |path| answers.answer(path));
    let sumdb = SumDb::new(database.database(&own.url), proxy.client(), store(data.path()));
    check(&sumdb, "v1.0.5", "h1:zip h1:mod").await;
    // The proxies are not asked each time.
    check(&sumdb, "v1.0.6", "h1:zip h1:mod").await;
    assert_eq!(proxy.asked_in_all(), 1);
}

#[tokio::test]
async fn builds_get_answers_that_all_have_one_head() {
    use crate::goproxy::Verify as _;
    let data = tempfile::tempdir().unwrap();
    let database = FakeDatabase::new();
    let proxy = passing_on(&database).await;
    let sumdb = sumdb(&database, &proxy, &store(data.path()));
    check(&sumdb, "v1.0.599", "h1:zip h1:mod").await;
    database.show_head_of(300);
    let one = sumdb.answer("lookup/filler.test/x@v1.0.3").await.unwrap();
    let (number, text, head) = parse_lookup(&one).unwrap();
    assert_eq!(number, 3);
    assert!(text.starts_with("filler.test/x v1.0.3 h1:zip\n"));
    assert_eq!(head, sumdb.answer("latest").await.unwrap());
    let asked = proxy.asked_in_all();
    assert_eq!(sumdb.answer("tile/8/0/000").await.unwrap().len(), 256 * 32);
    assert_eq!(proxy.asked_in_all(), asked, "it was proven before");
    assert!(sumdb.answer("tile/8/99/000").await.unwrap_err().is_not_found());
    assert!(sumdb.answer("lookup/Filler.test/x@v1.0.3").await.unwrap_err().is_not_found());
    assert!(sumdb.answer("../latest").await.unwrap_err().is_not_found());
}
