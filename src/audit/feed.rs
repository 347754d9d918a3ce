//! Asking a module index for a page. One request at a time, with limits of bytes and time; what an answer means is left to
//! [`super::index`].

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use jiff::Timestamp;
use reqwest::StatusCode;
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use super::index::{PAGE, PAGE_LIMIT_BYTES};
use crate::goproxy::causes;

/// For the beginning of an answer, and between two pieces of it.
const PATIENCE: Duration = Duration::from_secs(30);
/// For the whole of it.
const WHOLE: Duration = Duration::from_secs(120);

/// The address of an index.
pub struct Feed {
    http: reqwest::Client,
    url: Url,
}

impl Feed {
    /// `http` best comes from [`crate::goproxy::http_client`].
    pub fn new(http: reqwest::Client, url: Url) -> Feed {
        Feed { http, url }
    }

    /// The address, as the store keeps it.
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// The rows from a moment on.
    ///
    /// # Errors
    /// It does not answer in time, not with 200, or with more than [`PAGE_LIMIT_BYTES`]; in a sentence without credentials.
    pub async fn page(&self, since: Timestamp) -> anyhow::Result<Vec<u8>> {
        let host = self.url.host_str().unwrap_or("the index");
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("since", &since.to_string()).append_pair("limit", &PAGE.to_string());
        let broken =
            |error: reqwest::Error| anyhow::anyhow!("{host} cannot be reached or broke off: {}", causes(error));
        let answer = timeout(PATIENCE, self.http.get(url).send()).await;
        let mut answer =
            answer.with_context(|| format!("{host} sent no answer within {PATIENCE:?}"))?.map_err(broken)?;
        ensure!(answer.status() == StatusCode::OK, "{host} answers {}", answer.status());
        let end = Instant::now() + WHOLE;
        let mut body = Vec::new();
        loop {
            let piece = timeout_at(end.min(Instant::now() + PATIENCE), answer.chunk()).await;
            let Some(piece) = piece.with_context(|| format!("{host} stopped sending"))?.map_err(broken)? else {
                return Ok(body);
            };
            if body.len() + piece.len() > PAGE_LIMIT_BYTES {
                bail!("{host} sends more than {PAGE_LIMIT_BYTES} bytes for a page of {PAGE} rows");
            }
            body.extend_from_slice(&piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// What comes of an answer that begins so, and ends with so many times 1 MiB of text.
    async fn check(head: &str, mebibytes: usize) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://user:secret@{}/index?x=1", listener.local_addr().unwrap());
        let feed = Feed::new(crate::goproxy::http_client().unwrap(), url.parse().unwrap());
        let serve = async {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let read = connection.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            assert!(request.starts_with("GET /index?x=1&since=2027-01-15T08%3A00%3A00Z&limit=2000 "), "{request}");
            connection.write_all(head.as_bytes()).await.unwrap();
            for _ in 0..mebibytes {
                // Who has enough hangs up.
                let _ = connection.write_all(&vec![b'x'; 1 << 20]).await;
            }
        };
        let (page, ()) = tokio::join!(feed.page("2027-01-15T08:00:00Z".parse().unwrap()), serve);
        let said = page.map_or_else(|error| format!("{error:#}"), |body| format!("{} bytes", body.len()));
        assert!(!said.contains("secret"), "{said}");
        said
    }

    #[tokio::test]
    async fn answers_are_bounded_and_must_be_good() {
        assert_eq!(check("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", 2).await, "2097152 bytes");
        let long = check("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", 20).await;
        assert!(long.contains("sends more than 8388608 bytes"), "{long}");
        let refused = check("HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n", 0).await;
        assert!(refused.contains("answers 500"), "{refused}");
        let cut = check("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n", 0).await;
        assert!(cut.contains("broke off"), "{cut}");
    }
}
