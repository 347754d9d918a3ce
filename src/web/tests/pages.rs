//! Pages for people: what they say, and that nothing of a stranger's text becomes markup.

use super::world::{SPEC, World};

#[tokio::test]
async fn home_has_all_that_it_should() {
    let world = World::new().await;
    let sum = world.built(SPEC, b"a binary").await;
    let page = world.browse("/").await;
    let text = page.text();
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    for part in [
        "<form",
        "name=\"package\"",
        &format!("/{SPEC}{sum}/"),
        "sumpeer get",
        "http://test.example:8000",
        "-trimpath -ldflags=-buildid=",
        &world.own.vkey,
        "Run by &#60;b&#62;tests&#60;/b&#62;.",
        "test.example",
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert!(!text.contains("<style") && !text.contains("style=") && !text.contains("onclick"));
    // Every address on it answers.
    for path in links(text) {
        if !path.contains("latest") && !path.starts_with("/filippo.io/age") {
            assert_eq!(world.get(&path).await.status, 200, "{path}");
        }
    }
}

fn links(text: &str) -> Vec<String> {
    let links = text.split(['"']).filter(|part| part.starts_with('/'));
    links.map(|link| link.replace("&#38;", "&")).collect()
}

#[tokio::test]
async fn the_form_leads_to_the_address_one_could_have_typed() {
    let world = World::new().await;
    let check = async |query: &str, want: &str| {
        let answer = world.get(&format!("/?{query}")).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, want), "{query}");
    };
    check("package=filippo.io/age/cmd/age&target=&go=&variant=", "/filippo.io/age/cmd/age").await;
    check(
        "package=+filippo.io%2Fage%40v1.2.1+&target=linux%2Farm64&variant=stripped",
        "/filippo.io/age@v1.2.1?target=linux%2Farm64&variant=stripped",
    )
    .await;
    check("package=https://filippo.io/age/", "/filippo.io/age").await;
    for bad in ["package=", "package=age", "package=x.example/%0d%0ay", "package=x.example/%3Cscript%3E"] {
        let answer = world.browse(&format!("/?{bad}")).await;
        assert_eq!(answer.status, 400, "{bad}");
        assert!(!answer.text().contains("<script>"), "{bad}");
    }
}

#[tokio::test]
async fn modules_lead_to_their_commands() {
    let world = World::new().await;
    let check = async |path: &str, want: &str| {
        let answer = world.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (307, want), "{path} {}", answer.text());
    };
    let one = "/example.com/one@v1.1.0/x/linux-amd64-go1.27.1/";
    check("/example.com/one", one).await;
    check("/example.com/one/x", one).await;
    check("/example.com/one@latest", one).await;
    check("/example.com/one@v1.0.0/x", "/example.com/one@v1.0.0/x/linux-amd64-go1.27.1/").await;
    check("/example.com/one/x@v1.0.0", "/example.com/one@v1.0.0/x/linux-amd64-go1.27.1/").await;
    check(
        "/example.com/one?target=windows/arm64&go=go1.26.8&variant=stripped",
        "/example.com/one@v1.1.0/x/windows-arm64-go1.26.8-stripped/",
    )
    .await;
    check("/example.com/three@v1.0.0/cmd/a", "/example.com/three@v1.0.0/cmd/a/linux-amd64-go1.27.1/").await;
    let sum = world.built(&one[1..], b"x").await;
    check("/example.com/one", &format!("{one}{sum}/")).await;

    for (path, commands) in [("/example.com/three", 3), ("/example.com/three/cmd", 2)] {
        let page = world.browse(path).await;
        assert_eq!(page.status, 200, "{path}");
        assert_eq!(page.text().matches("linux-amd64-go1.27.1/\"").count(), commands, "{path}");
    }
    for path in ["/example.com/none", "/example.com/three/nothing", "/example.com/absent", "/example.com/one@v1.9.9"] {
        let page = world.browse(path).await;
        assert_eq!(page.status, 404, "{path}");
        assert!(page.header("content-type").starts_with("text/html"), "{path}");
    }
    let windows =
        world.get_with("/example.com/one", &[("user-agent", "Mozilla/5.0 (Windows NT 10.0; Win64; x64)")]).await;
    assert_eq!(windows.header("location"), "/example.com/one@v1.1.0/x/windows-amd64-go1.27.1/");
}

#[tokio::test]
async fn a_result_says_everything() {
    let world = World::new().await;
    let spec = "example.com/one@v1.0.0/x/linux-amd64-go1.27.1/";
    let other = "example.com/one@v1.1.0/x/linux-amd64-go1.27.1/";
    let sum = world.built(spec, b"a binary").await;
    let newer = world.built(other, b"newer").await;
    let page = world.browse(&format!("/{spec}{sum}/")).await;
    assert_eq!(page.status, 200);
    let text = page.text();
    for part in [
        "x-v1.0.0-go1.27.1.gz",
        "8 bytes",
        &sum.to_string(),
        &format!("/claims/lookup/{spec}"),
        "sumpeer get --sum",
        &world.own.vkey,
        &format!("/{spec}{sum}/record"),
        &format!("/{spec}{sum}/log"),
        "/api/v1/records/0",
        "/example.com/one@latest/x/linux-amd64-latest/",
        "https://pkg.go.dev/example.com/one@v1.0.0/x",
        "CGO_ENABLED=0 GOOS=linux GOARCH=amd64 GOTOOLCHAIN=go1.27.1",
        "-- example.com/one/x@v1.0.0",
        &format!("<a href=\"/{other}{newer}/\" class=\"recorded\""),
        "/example.com/one@v1.0.0/x/windows-amd64-go1.27.1/",
        "/example.com/one@v1.0.0/x/linux-amd64-go1.26.8/",
        "/example.com/one@v1.0.0/x/linux-amd64-go1.27.1-stripped/",
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    for asset in links(text).iter().filter(|link| link.starts_with("/assets/")) {
        let answer = world.get(asset).await;
        assert_eq!(answer.status, 200, "{asset}");
        assert!(answer.header("cache-control").contains("immutable"));
    }
    assert_eq!(world.get("/assets/style-000000000000.css").await.status, 404);
}

#[tokio::test]
async fn errors_are_pages_for_browsers_text_for_others_and_json_for_the_api() {
    let world = World::new().await;
    for path in [
        "/nodot",
        "/x.example/<script>alert(1)</script>",
        "/x.example/%22onload=%22",
        "/a.example/m@v1/linux-amd64-go1.27.1/",
    ] {
        let path = path.replace('<', "%3C").replace('>', "%3E");
        let page = world.browse(&path).await;
        assert_eq!(page.status, 400, "{path}");
        assert!(page.text().contains("<h1>") && !page.text().contains("<script>"), "{}", page.text());
        assert!(page.text().contains("href=\"/\""), "there is a way back");
        let plain = world.get(&path).await;
        assert_eq!(plain.header("content-type"), "text/plain; charset=UTF-8");
    }
    let api = world.browse("/api/v1/nothing").await;
    assert_eq!((api.status.as_u16(), api.header("content-type")), (404, "application/json"));
    assert_eq!(api.json()["class"], "not-found");
    assert_eq!(world.get("/robots.txt").await.status, 200);
    assert_eq!(world.get(&format!("/badge/{SPEC}.svg")).await.header("content-type"), "image/svg+xml");
}
