//! What proxies say of versions: lists, the latest one, when a version was made.
//!
//! Out of scope: files of versions ([`super::ModuleCache`]).

use serde::Deserialize;

use super::{Client, FetchError, FileKind, INFO_LIMIT, LIST_LIMIT, MOD_LIMIT, VersionFile};
use crate::model::{ModulePath, Version};

/// What a proxy says of a version (`.info`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleInfo {
    /// In canonical form.
    pub version: Version,
    /// Of the commit; `None` where the proxy does not say, or says it unreadably.
    pub time: Option<jiff::Timestamp>,
}

impl Client {
    /// The versions a proxy lists, oldest first. Pseudo-versions and lines that are no version are left out, as Go does.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn versions(&self, module: &ModulePath) -> Result<Vec<Version>, FetchError> {
        let body = self.get(&format!("{}/@v/list", module.escaped()), LIST_LIMIT).await?;
        Ok(parse_list(&body))
    }

    /// What `latest` means for a module: the newest release listed, else the newest prerelease, else what `@latest` says.
    ///
    /// Where the list is refused or has nothing, `@latest` decides alone. A version with `+incompatible` gives way to an
    /// older one without, if that has a go.mod file (golang.org/issue/34165).
    ///
    /// # Errors
    /// [`FetchError::NotFound`] or [`FetchError::Refused`] with the proxy's words if neither is there.
    pub async fn latest(&self, module: &ModulePath) -> Result<Version, FetchError> {
        let listed = match self.versions(module).await {
            Ok(versions) => {
                if let Some(version) = self.newest(module, &versions).await? {
                    return Ok(version);
                }
                None
            }
            Err(error @ (FetchError::NotFound(_) | FetchError::Refused { .. })) => Some(error),
            Err(error) => return Err(error),
        };
        let path = format!("{}/@latest", module.escaped());
        let body = match (self.get(&path, INFO_LIMIT).await, listed) {
            (Ok(body), _) => body,
            // "No list for you" and "no latest": the first says more than the second.
            (Err(FetchError::NotFound(latest)), Some(FetchError::Refused { status, detail })) => {
                let detail = format!("{detail}; and {latest}: name an exact version");
                return Err(FetchError::Refused { status, detail });
            }
            (Err(error), _) => return Err(error),
        };
        parse_info(&body).map(|info| info.version).map_err(|error| FetchError::Temporary(format!("{path}: {error}")))
    }

    /// Version and time of an exact version.
    ///
    /// # Errors
    /// See [`FetchError`]; an answer about another version is [`FetchError::Temporary`].
    pub async fn info(&self, module: &ModulePath, version: &Version) -> Result<ModuleInfo, FetchError> {
        let path = file_path(module, version, FileKind::Info);
        let body = self.get(&path, INFO_LIMIT).await?;
        match parse_info(&body) {
            Ok(info) if info.version == *version => Ok(info),
            Ok(info) => {
                Err(FetchError::Temporary(format!("{path}: the proxy answers with version {} instead", info.version)))
            }
            Err(error) => Err(FetchError::Temporary(format!("{path}: {error}"))),
        }
    }

    async fn newest(&self, module: &ModulePath, versions: &[Version]) -> Result<Option<Version>, FetchError> {
        let Some(newest) = newest_of(versions) else {
            return Ok(None);
        };
        if newest.is_incompatible() {
            let compatible: Vec<Version> =
                versions.iter().filter(|version| !version.is_incompatible()).cloned().collect();
            if let Some(last) = compatible.last()
                && self.has_go_mod(module, last).await?
            {
                return Ok(newest_of(&compatible).cloned());
            }
        }
        Ok(Some(newest.clone()))
    }

    /// Whether a version has a go.mod file of its own: a proxy makes up one with nothing but the module line.
    async fn has_go_mod(&self, module: &ModulePath, version: &Version) -> Result<bool, FetchError> {
        let body = self.get(&file_path(module, version, FileKind::Mod), MOD_LIMIT).await?;
        Ok(body != format!("module {module}\n").as_bytes())
    }
}

/// The newest release, else the newest prerelease, of versions in order.
fn newest_of(versions: &[Version]) -> Option<&Version> {
    versions.iter().rev().find(|version| !version.is_prerelease()).or(versions.last())
}

fn file_path(module: &ModulePath, version: &Version, kind: FileKind) -> String {
    VersionFile { module: module.clone(), version: version.clone(), kind }.path()
}

/// A list, a version a line, perhaps with more words after it; garbage lines are passed over.
fn parse_list(body: &[u8]) -> Vec<Version> {
    let mut versions: Vec<Version> = String::from_utf8_lossy(body)
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.parse().ok())
        .filter(|version: &Version| !version.is_pseudo())
        .collect();
    versions.sort();
    versions.dedup();
    versions
}

/// Reads a `.info` or `@latest` answer; the error says what is wrong with it.
pub(super) fn parse_info(body: &[u8]) -> Result<ModuleInfo, String> {
    /// Go's `modfetch.RevInfo`, as far as we need it.
    #[derive(Deserialize)]
    struct RevInfo {
        #[serde(rename = "Version")]
        version: String,
        #[serde(rename = "Time")]
        time: Option<String>,
    }
    let info: RevInfo =
        serde_json::from_slice(body).map_err(|error| format!("the proxy's answer is no version info: {error}"))?;
    Ok(ModuleInfo {
        version: info.version.parse().map_err(|error| format!("the proxy's answer has no version: {error}"))?,
        time: info.time.and_then(|time| time.parse().ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted_and_garbage_is_passed_over() {
        let check = |list: &str, want: &str| {
            let versions = parse_list(list.as_bytes());
            let newest = newest_of(&versions).map_or_else(|| "none".to_owned(), ToString::to_string);
            assert_eq!(newest, want, "for {list:?}");
        };
        check("v1.9.0\nv1.10.0\nv1.2.0\n", "v1.10.0");
        check("v1.9.0\nv1.10.0-rc.1\n", "v1.9.0");
        check("v0.1.0-beta\nv0.1.0-rc\n", "v0.1.0-rc");
        check("v0.0.0-20210115210742-abcdefabcdef\n", "none");
        check("<html>\nv1\n\nv1.0.0 2020-01-01T00:00:00Z\n", "v1.0.0");
        check("", "none");
        check("\u{0}\u{ff}", "none");
    }

    #[test]
    fn infos() {
        let info = parse_info(br#"{"Version":"v1.2.0","Time":"2021-01-15T21:07:42Z"}"#).unwrap();
        assert_eq!(info.version.to_string(), "v1.2.0");
        assert_eq!(info.time.unwrap().to_string(), "2021-01-15T21:07:42Z");
        assert!(parse_info(br#"{"Version":"v1.2.0"}"#).unwrap().time.is_none());
        for garbage in ["", "<html>", "{}", r#"{"Version":"latest"}"#, r#"{"Version":7}"#] {
            assert!(parse_info(garbage.as_bytes()).is_err(), "{garbage}");
        }
    }
}
