//! The client against proxies that refuse, stumble, lie about sizes, and say nothing at all.

use std::time::Instant;

use super::fake::{FakeProxy, Says, client};
use super::*;

fn kind(outcome: &Result<impl Sized, FetchError>) -> &'static str {
    match outcome {
        Ok(_) => "ok",
        Err(FetchError::NotFound(_)) => "not found",
        Err(FetchError::Refused { .. }) => "refused",
        Err(FetchError::Off) => "off",
        Err(FetchError::Unsupported(_)) => "unsupported",
        Err(FetchError::TooLarge { .. }) => "too large",
        Err(FetchError::Security(_)) => "security",
        Err(FetchError::Temporary(_)) => "temporary",
    }
}

/// What comes of a list of two proxies A and B (in `list`), when A says `first` and B has it.
async fn check(list: &str, first: Says, want: &str) {
    let (a, b) = (FakeProxy::start().await, FakeProxy::start().await);
    a.says("m.test/@v/list", first);
    b.has("m.test/@v/list", "v1.0.0\n");
    let list = list.replace('A', &a.url).replace('B', &b.url);
    let got = client(&list).get("m.test/@v/list", 1000).await;
    let asked_b = if b.asked_in_all() > 0 { ", asked B" } else { "" };
    assert_eq!(format!("{}{asked_b}", kind(&got)), want, "{list}: {got:?}");
}

#[tokio::test]
async fn the_next_proxy_is_asked_as_go_asks_it() {
    let has = || Says::Body("v1.0.0\n".into());
    check("A,B", has(), "ok").await;
    for gone in [404, 410] {
        check("A,B", Says::Status(gone), "ok, asked B").await;
        check("A|B", Says::Status(gone), "ok, asked B").await;
        check("A", Says::Status(gone), "not found").await;
        check("A,direct", Says::Status(gone), "not found").await;
        check("A,off", Says::Status(gone), "not found").await;
    }
    check("A,B", Says::Status(403), "refused").await;
    check("A|B", Says::Status(403), "ok, asked B").await;
    check("A,B", Says::Status(500), "temporary").await;
    check("A|B", Says::Status(500), "ok, asked B").await;
    check("A,B", Says::Nothing, "temporary").await;
    check("A|B", Says::Nothing, "ok, asked B").await;
    check("A|direct", Says::Status(500), "temporary").await;
    check("off,B", has(), "off").await;
    check("direct", has(), "unsupported").await;
}

#[tokio::test]
async fn an_error_of_one_proxy_outweighs_not_found_of_another() {
    let (a, b) = (FakeProxy::start().await, FakeProxy::start().await);
    a.says("m.test/@v/list", Says::Status(500));
    let got = client(&format!("{}|{}", a.url, b.url)).get("m.test/@v/list", 1000).await;
    assert_eq!(kind(&got), "temporary", "{got:?}");
    b.says("m.test/@v/list", Says::Status(500));
    let got = client(&format!("{}|{}", b.url, a.url)).get("m.test/@v/list", 1000).await;
    assert_eq!(kind(&got), "temporary", "{got:?}");
}

#[tokio::test]
async fn a_stumbling_proxy_is_asked_again_but_not_for_ever() {
    let proxy = FakeProxy::start().await;
    proxy.says("a", Says::Stumbles(2, "x".into()));
    assert_eq!(proxy.client().get("a", 10).await.unwrap(), "x");
    proxy.says("b", Says::Status(503));
    assert_eq!(kind(&proxy.client().get("b", 10).await), "temporary");
    assert_eq!((proxy.asked("a"), proxy.asked("b")), (3, 3));
    proxy.says("c", Says::Status(403));
    assert_eq!(kind(&proxy.client().get("c", 10).await), "refused");
    assert_eq!(proxy.asked("c"), 1);
    proxy.says("d", Says::CutOnce("0123456789".into(), 5));
    assert_eq!(proxy.client().get("d", 10).await.unwrap(), "0123456789");
}

#[tokio::test]
async fn silence_ends_in_time() {
    let proxy = FakeProxy::start().await;
    proxy.says("m.test/@v/v1.0.0.zip", Says::Nothing);
    let started = Instant::now();
    assert_eq!(kind(&proxy.client().get("m.test/@v/v1.0.0.zip", 10).await), "temporary");
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
}

#[tokio::test]
async fn bodies_are_bounded() {
    let proxy = FakeProxy::start().await;
    proxy.has("ten", "0123456789");
    proxy.says("endless", Says::Endless);
    let client = proxy.client();
    assert_eq!(kind(&client.get("ten", 10).await), "ok");
    assert_eq!(kind(&client.get("ten", 9).await), "too large");
    assert_eq!(kind(&client.get("endless", 100_000).await), "too large");
    let mut file = tokio::fs::File::from_std(tempfile::tempfile().unwrap());
    assert_eq!(kind(&client.download("ten", 9, &mut file, |_, _| ()).await), "too large");
    assert_eq!(kind(&client.download("endless", 100_000, &mut file, |_, _| ()).await), "too large");
}

#[tokio::test]
async fn redirects_are_followed_five_times_and_only_to_http() {
    let proxy = FakeProxy::start().await;
    for step in 0..6 {
        proxy.says(&format!("{step}"), Says::Redirect(format!("/{}", step + 1)));
    }
    proxy.has("6", "there");
    assert_eq!(proxy.client().get("1", 10).await.unwrap(), "there");
    assert_eq!(kind(&proxy.client().get("0", 10).await), "temporary");
    proxy.says("file", Says::Redirect("file:///etc/passwd".into()));
    assert_ne!(kind(&proxy.client().get("file", 10).await), "ok");
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_broke() {
    use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
    let proxy = FakeProxy::start().await;
    let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    proxy.says("z", Says::CutOnce(content.clone().into(), 150_000));
    let mut file = tokio::fs::File::from_std(tempfile::tempfile().unwrap());
    let seen = std::sync::Mutex::new(Vec::new());
    let size = proxy
        .client()
        .download("z", 1 << 20, &mut file, |done, total| seen.lock().unwrap().push((done, total)))
        .await
        .unwrap();
    assert_eq!(size, content.len() as u64);
    let mut got = Vec::new();
    file.rewind().await.unwrap();
    file.read_to_end(&mut got).await.unwrap();
    assert!(got == content);
    let seen = seen.into_inner().unwrap();
    assert!(seen.is_sorted() && seen.iter().all(|(_, total)| *total == Some(400_000)), "{seen:?}");
    proxy.says("y", Says::Cut(content.into(), 150_000));
    assert_eq!(kind(&proxy.client().download("y", 1 << 20, &mut file, |_, _| ()).await), "temporary");
}

#[tokio::test]
async fn paths_that_lead_elsewhere_are_not_asked_for() {
    let proxy = FakeProxy::start().await;
    for path in ["", "/x", "a/../b", "a//b", "a?b", "a#b", "a b", "a%2e", "a\\b", "ä"] {
        assert_eq!(kind(&proxy.client().get(path, 10).await), "not found", "{path}");
    }
    assert_eq!(proxy.asked_in_all(), 0);
}

#[tokio::test]
async fn latest_is_gos_choice() {
    let proxy = FakeProxy::start().await;
    let client = proxy.client();
    let latest = async |module: &str| match client.latest(&module.parse().unwrap()).await {
        Ok(version) => version.to_string(),
        Err(error) => kind(&Err::<(), _>(error)).to_owned(),
    };
    proxy.has("a.test/x/@v/list", "v1.2.0\nv1.10.0\nv1.11.0-rc.1\n");
    assert_eq!(latest("a.test/x").await, "v1.10.0");
    // An old tag that came before modules gives way to one with a go.mod of its own.
    proxy.has("b.test/x/@v/list", "v1.2.0\nv2.0.0+incompatible\n");
    proxy.has("b.test/x/@v/v1.2.0.mod", "module b.test/x\n\ngo 1.20\n");
    assert_eq!(latest("b.test/x").await, "v1.2.0");
    proxy.has("b.test/x/@v/v1.2.0.mod", "module b.test/x\n");
    assert_eq!(latest("b.test/x").await, "v2.0.0+incompatible");
    let pseudo = "v0.0.0-20210115210742-abcdefabcdef";
    let info = format!(r#"{{"Version":"{pseudo}"}}"#);
    for (module, list) in
        [("c.test/x", Says::Body("".into())), ("d.test/x", Says::Status(403)), ("e.test/x", Says::Status(404))]
    {
        proxy.says(&format!("{module}/@v/list"), list);
        proxy.has(&format!("{module}/@latest"), info.clone());
        assert_eq!(latest(module).await, pseudo);
    }
    assert_eq!(latest("nothing.test/x").await, "not found");
    proxy.says("f.test/x/@v/list", Says::Status(403));
    assert_eq!(latest("f.test/x").await, "refused");
    proxy.has("g.test/x/@latest", "<html>garbage</html>");
    assert_eq!(latest("g.test/x").await, "temporary");
    proxy.says("h.test/x/@v/list", Says::Status(500));
    assert_eq!(latest("h.test/x").await, "temporary");
}
