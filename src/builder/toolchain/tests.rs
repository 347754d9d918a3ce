//! Installation from a fake proxy and a fake checksum database, of a go command that is a shell script.

use std::io::Write as _;

use bytes::Bytes;
use zip::write::SimpleFileOptions;

use super::*;
use crate::goproxy::fake::{FakeProxy, Says};
use crate::metrics::Metrics;
use crate::store::TreeForms;
use crate::sumdb::fake::{FakeDatabase, NAME};

/// Lists targets, and "builds" the same bytes each time.
const GO: &str = "#!/bin/sh
case $1 in
tool) echo linux/amd64; echo plan9/386; echo future/cpu ;;
build) echo binary >../out ;;
esac
";
/// Builds something else each time.
const UNSTEADY_GO: &str = "#!/bin/sh
case $1 in
tool) echo linux/amd64 ;;
build) echo \"$HOME\" >../out ;;
esac
";
const FAILING_GO: &str = "#!/bin/sh\necho no such luck >&2\nexit 1\n";

struct World {
    proxy: FakeProxy,
    database: FakeDatabase,
    data: tempfile::TempDir,
    store: Store,
}

impl World {
    async fn new() -> World {
        let (proxy, database) = (FakeProxy::start().await, FakeDatabase::new());
        let answers = database.clone();
        proxy
            .otherwise(move |path| answers.answer(path.strip_prefix("sumdb/")?.strip_prefix(NAME)?.strip_prefix('/')?));
        let data = tempfile::tempdir().unwrap();
        let forms = TreeForms { accepted: Vec::new(), claims: Vec::new() };
        let store = Store::open(data.path(), forms, Metrics::new()).unwrap();
        World { proxy, database, data, store }
    }

    async fn toolchains(&self, range: GoRange) -> Toolchains {
        let client = self.proxy.client();
        let sumdb = SumDb::new(self.database.database("http://127.0.0.1:9"), client.clone(), self.store.clone());
        Toolchains::open(self.data.path(), self.store.clone(), client, Some(sumdb), range).await.unwrap()
    }

    /// Has a toolchain on the proxy and in the database.
    fn publish(&self, goversion: &str, go: &str) -> Bytes {
        let version = version(goversion);
        let zip = zip_of(&version, go);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &zip).unwrap();
        let h1 = crate::sumdb::hash_zip(file.path()).unwrap();
        self.database.add(MODULE, &version, &h1, "h1:mod");
        self.proxy.has(&zip_path(goversion), zip.clone());
        zip
    }

    /// What is in the folder of toolchains.
    fn folders(&self) -> Vec<String> {
        let folders = std::fs::read_dir(self.data.path().join("toolchains")).unwrap();
        folders.map(|folder| folder.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn version(goversion: &str) -> String {
    listing::module_version(&goversion.parse().unwrap(), &Target::host())
}

fn zip_path(goversion: &str) -> String {
    format!("{MODULE}/@v/{}.zip", version(goversion))
}

fn zip_of(version: &str, go: &str) -> Bytes {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in [("bin/go", go), ("VERSION", version), ("src/_go.mod", "module std\n")] {
        zip.start_file(format!("{MODULE}@{version}/{name}"), SimpleFileOptions::default()).unwrap();
        zip.write_all(content.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner().into()
}

async fn check(toolchains: &Toolchains, goversion: &str, want: &str) {
    let got = match toolchains.ensure(&goversion.parse().unwrap(), |_, _| ()).await {
        Ok(toolchain) => format!("{} for {} targets", toolchain.goversion, toolchain.targets.len()),
        Err(ToolchainError::NotListed(_)) => "not listed".to_owned(),
        Err(ToolchainError::Corrupt(_)) => "corrupt".to_owned(),
        Err(ToolchainError::Temporary(_)) => "temporary".to_owned(),
    };
    assert_eq!(got, want, "for {goversion}");
}

#[tokio::test]
async fn one_is_installed_once_and_found_again() {
    let world = World::new().await;
    world.publish("go1.22.1", GO);
    let toolchains = world.toolchains(GoRange::default()).await;
    let two = tokio::join!(
        check(&toolchains, "go1.22.1", "go1.22.1 for 2 targets"),
        check(&toolchains, "go1.22.1", "go1.22.1 for 2 targets")
    );
    assert_eq!(two, ((), ()));
    assert_eq!(world.proxy.asked(&zip_path("go1.22.1")), 1);
    assert_eq!(world.folders(), ["go1.22.1"]);
    let again = world.toolchains(GoRange::default()).await;
    check(&again, "go1.22.1", "go1.22.1 for 2 targets").await;
    assert_eq!(world.proxy.asked(&zip_path("go1.22.1")), 1);
    let root = world.data.path().join("toolchains/go1.22.1");
    assert!(root.join("src/go.mod").exists());
    // Someone removes it to save space.
    std::fs::remove_dir_all(root).unwrap();
    check(&again, "go1.22.1", "go1.22.1 for 2 targets").await;
    assert_eq!(world.proxy.asked(&zip_path("go1.22.1")), 2);
}

#[tokio::test]
async fn what_is_not_right_is_refused_and_leaves_nothing() {
    let world = World::new().await;
    let toolchains = world.toolchains(GoRange::default()).await;
    let whole = world.publish("go1.22.1", GO);
    let path = zip_path("go1.22.1");
    for (says, want) in [
        (Says::Body(zip_of(&version("go1.22.1"), "#!/bin/sh\ntouch /tmp/evil\n")), "corrupt"),
        (Says::Body(whole.slice(..whole.len() / 2)), "corrupt"),
        (Says::Body("<html>".into()), "corrupt"),
        (Says::Body(zip_of(&version("go1.22.2"), GO)), "corrupt"),
        (Says::Cut(whole.clone(), 100), "temporary"),
        (Says::Status(500), "temporary"),
        (Says::Nothing, "temporary"),
        (Says::Status(403), "not listed"),
        (Says::Status(404), "not listed"),
        (Says::Status(410), "not listed"),
    ] {
        world.proxy.says(&path, says);
        check(&toolchains, "go1.22.1", want).await;
        assert!(world.folders().is_empty(), "{:?}", world.folders());
        assert!(toolchains.installed().await.unwrap().is_empty());
    }
    world.proxy.says(&path, Says::Body(whole));
    check(&toolchains, "go1.22.1", "go1.22.1 for 2 targets").await;

    // On the proxy, but the database does not know it.
    world.proxy.has(&zip_path("go1.22.3"), zip_of(&version("go1.22.3"), GO));
    check(&toolchains, "go1.22.3", "not listed").await;
    world.publish("go1.22.4", UNSTEADY_GO);
    check(&toolchains, "go1.22.4", "corrupt").await;
    world.publish("go1.22.5", FAILING_GO);
    check(&toolchains, "go1.22.5", "corrupt").await;
    assert_eq!(world.folders(), ["go1.22.1"]);
}

#[tokio::test]
async fn what_a_crash_left_is_not_used() {
    let world = World::new().await;
    world.publish("go1.22.1", GO);
    let folder = world.data.path().join("toolchains");
    // Killed while unpacking, and between the rename and the row.
    std::fs::create_dir_all(folder.join("new-abc/go/bin")).unwrap();
    std::fs::create_dir_all(folder.join("go1.22.1/bin")).unwrap();
    std::fs::write(folder.join("go1.22.1/bin/go"), "half").unwrap();
    let toolchains = world.toolchains(GoRange::default()).await;
    assert_eq!(world.folders(), ["go1.22.1"]);
    check(&toolchains, "go1.22.1", "go1.22.1 for 2 targets").await;
    assert_eq!(std::fs::read_to_string(folder.join("go1.22.1/bin/go")).unwrap(), GO);
    assert_eq!(world.folders(), ["go1.22.1"]);
}

#[tokio::test]
async fn latest_is_the_newest_release_within_the_range() {
    let world = World::new().await;
    let list: String = ["go1.20", "go1.21.0", "go1.21.9", "go1.21.10", "go1.22.3", "go1.23rc1", "go1.24beta1"]
        .map(|goversion| version(goversion) + "\n")
        .concat();
    world.proxy.has(&format!("{MODULE}/@v/list"), list + "v0.0.1-go1.30.0.plan9-386\n");
    let check = async |oldest: Option<&str>, newest: Option<&str>, want: &str| {
        let bound = |text: Option<&str>| text.map(|text| text.parse().unwrap());
        let range = GoRange { oldest: bound(oldest), newest: bound(newest) };
        let toolchains = world.toolchains(range).await;
        let said =
            |result: Result<GoVersion, ToolchainError>| result.map_or("none".to_owned(), |found| found.to_string());
        let got = [
            toolchains.available().await.unwrap().len().to_string(),
            said(toolchains.latest().await),
            said(toolchains.latest_of(21).await),
            said(toolchains.latest_of(23).await),
        ];
        assert_eq!(got.join(" "), want, "{oldest:?} {newest:?}");
    };
    check(None, None, "7 go1.22.3 go1.21.10 none").await;
    check(None, Some("go1.21.9"), "3 go1.21.9 go1.21.9 none").await;
    check(None, Some("go1.21"), "4 go1.21.10 go1.21.10 none").await;
    check(Some("go1.22.0"), None, "3 go1.22.3 none none").await;
    check(Some("go1.25.0"), None, "0 none none none").await;
    let range = GoRange { oldest: Some("go1.22.0".parse().unwrap()), newest: None };
    self::check(&world.toolchains(range).await, "go1.21.9", "not listed").await;
}

#[tokio::test]
async fn a_list_that_cannot_be_read_says_so() {
    let world = World::new().await;
    let path = format!("{MODULE}/@v/list");
    for (says, want) in
        [(Says::Status(500), "temporary"), (Says::Status(403), "not listed"), (Says::Status(404), "not listed")]
    {
        world.proxy.says(&path, says);
        let got = match world.toolchains(GoRange::default()).await.latest().await {
            Err(ToolchainError::NotListed(_)) => "not listed",
            Err(ToolchainError::Temporary(_)) => "temporary",
            other => panic!("{other:?}"),
        };
        assert_eq!(got, want);
    }
}
