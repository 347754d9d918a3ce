//! The checksum database as the module cache needs it: is this file the right one, and what would the database say.

use std::path::Path;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::{SumDb, hash_zip, hash1};
use crate::goproxy::{FetchError, FileKind, Verify, VersionFile};
use crate::model::unescape;
use crate::tlog::{Tile, format_entry};

impl Verify for SumDb {
    fn name(&self) -> &str {
        SumDb::name(self)
    }

    fn check<'a>(&'a self, file: &'a VersionFile, content: &'a Path) -> BoxFuture<'a, Result<(), FetchError>> {
        async move {
            let (module, version) = (file.module.as_str(), file.version.as_str());
            let path = content.to_owned();
            let kind = file.kind;
            let hash = tokio::task::spawn_blocking(move || match kind {
                FileKind::Zip => hash_zip(&path),
                FileKind::Mod | FileKind::Info => hash1([("go.mod", std::fs::read(&path)?)]),
            });
            // The hash is worked out while the database is asked.
            let (sums, hash) = tokio::join!(self.sums(module, version), hash);
            let sums = sums?;
            let hash = hash
                .map_err(anyhow::Error::from)
                .flatten()
                .map_err(|error| FetchError::Temporary(format!("{}: {error:#}", file.path())))?;
            let want = match kind {
                FileKind::Zip => sums.zip,
                FileKind::Mod | FileKind::Info => sums.go_mod,
            };
            if hash == want {
                return Ok(());
            }
            Err(FetchError::Security(format!(
                "{} from the module proxy has the hash {hash}, but the checksum database {} says {want}: it was changed on the way, and is not used",
                file.path(),
                self.name()
            )))
        }
        .boxed()
    }

    /// Lookups are answered with the newest head that was proven, whatever head they came with: a build then needs no
    /// proofs between heads, and asks for just the tiles that were proven here.
    fn answer<'a>(&'a self, rest: &'a str) -> BoxFuture<'a, Result<Bytes, FetchError>> {
        async move {
            if rest == "latest" {
                return Ok(self.inner.newest().await?.note.into());
            }
            if let Some((module, version)) = rest.strip_prefix("lookup/").and_then(|key| key.rsplit_once('@'))
                && let (Some(module), Some(version)) = (unescape(module), unescape(version))
            {
                let record = self.inner.record(&module, &version).await?;
                let entry = format_entry(record.number, &record.text);
                return Ok((entry + &self.inner.newest().await?.note).into());
            }
            match Tile::parse_sumdb(rest) {
                Some(tile) => self.inner.tiles.tile(tile).await,
                None => Err(FetchError::NotFound(format!("{rest:?} is nothing that a checksum database has"))),
            }
        }
        .boxed()
    }
}
