//! What a path below a module proxy's address asks for.
//!
//! Out of scope: who answers. Nothing here is fetched or allocated by what a path says.

use crate::model::{ModulePath, Version, unescape};

/// A parsed path. Module paths and versions in it are unescaped and valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// `<module>/@v/list`
    List(ModulePath),
    /// `<module>/@latest`
    Latest(ModulePath),
    /// `<module>/@v/<version>.info` and friends
    File(VersionFile),
    /// `sumdb/<database>/<rest>`
    Database { name: String, rest: String },
}

/// One file of one module version. It never changes once it exists.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VersionFile {
    /// The module, not escaped.
    pub module: ModulePath,
    /// Exact.
    pub version: Version,
    /// Which of its files.
    pub kind: FileKind,
}

/// The files a proxy has of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// Version and time, as JSON.
    Info,
    /// The go.mod file.
    Mod,
    /// Everything.
    Zip,
}

impl VersionFile {
    /// The path below a proxy's address, escaped.
    pub fn path(&self) -> String {
        format!("{}/@v/{}.{}", self.module.escaped(), self.version.escaped(), self.kind.ending())
    }
}

impl FileKind {
    fn ending(self) -> &'static str {
        match self {
            FileKind::Info => "info",
            FileKind::Mod => "mod",
            FileKind::Zip => "zip",
        }
    }

    /// How many bytes such a file may have.
    pub(super) fn limit(self) -> u64 {
        match self {
            FileKind::Info => super::INFO_LIMIT,
            FileKind::Mod => super::MOD_LIMIT,
            FileKind::Zip => super::ZIP_LIMIT,
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            FileKind::Info => "application/json",
            FileKind::Mod => "text/plain; charset=UTF-8",
            FileKind::Zip => "application/zip",
        }
    }
}

impl Asked {
    /// Reads a path without its leading slash; `None` if it is none that the go command sends for an exact version.
    pub(super) fn parse(path: &str) -> Option<Asked> {
        if let Some(rest) = path.strip_prefix("sumdb/") {
            let (name, rest) = rest.split_once('/')?;
            return Some(Asked::Database { name: name.to_owned(), rest: rest.to_owned() });
        }
        if let Some(module) = path.strip_suffix("/@latest") {
            return Some(Asked::Latest(unescape(module)?.parse().ok()?));
        }
        let (module, file) = path.split_once("/@v/")?;
        let module = unescape(module)?.parse().ok()?;
        if file == "list" {
            return Some(Asked::List(module));
        }
        let (version, ending) = file.rsplit_once('.')?;
        let kind = [FileKind::Info, FileKind::Mod, FileKind::Zip].into_iter().find(|kind| kind.ending() == ending)?;
        let version = unescape(version)?.parse().ok()?;
        Some(Asked::File(VersionFile { module, version, kind }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(path: &str, want: &str) {
        let got = match Asked::parse(path) {
            None => "nothing".to_owned(),
            Some(Asked::List(module)) => format!("list of {module}"),
            Some(Asked::Latest(module)) => format!("latest of {module}"),
            Some(Asked::File(file)) => {
                assert_eq!(file.path(), path);
                format!("{:?} of {}@{}", file.kind, file.module, file.version)
            }
            Some(Asked::Database { name, rest }) => format!("{rest} of {name}"),
        };
        assert_eq!(got, want, "for {path:?}");
    }

    #[test]
    fn paths() {
        check("rsc.io/2fa/@v/list", "list of rsc.io/2fa");
        check("rsc.io/2fa/@latest", "latest of rsc.io/2fa");
        check("rsc.io/2fa/@v/v1.2.0.info", "Info of rsc.io/2fa@v1.2.0");
        check("github.com/!burnt!sushi/toml/@v/v1.0.0.mod", "Mod of github.com/BurntSushi/toml@v1.0.0");
        check("a.b/c/@v/v2.0.0+incompatible.zip", "Zip of a.b/c@v2.0.0+incompatible");
        check("sumdb/sum.golang.org/lookup/a.b/c@v1.0.0", "lookup/a.b/c@v1.0.0 of sum.golang.org");
        for bad in [
            "",
            "/",
            "@v/list",
            "a.b/@v/",
            "a.b/@v/v1.info",
            "a.b/@v/master.info",
            "a.b/../c/@v/list",
            "a.b/C/@v/list",
            "a.b/!C/@v/list",
            "a.b/!/@v/list",
            "a.b//@v/list",
            "a.b/@v/v1.0.0.ziphash",
            "sumdb/x",
            "a.b",
        ] {
            check(bad, "nothing");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same(path in r"[a-z!.]{1,6}/[a-zA-Z!]{0,6}/@v/v1\.[0-9]{1,3}\.0(-[a-zA-Z!]{1,5})?\.(info|mod|zip)") {
            if let Some(Asked::File(file)) = Asked::parse(&path) {
                prop_assert_eq!(file.path(), path);
            }
        }
    }
}
