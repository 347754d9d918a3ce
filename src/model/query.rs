//! Questions in URLs and lookup keys: specs that may say `latest`, and modules without a target.

use std::fmt;
use std::str::FromStr;

use super::spec::{RawSpec, check_length, write_spec};
use super::{Dir, GoVersion, ModulePath, ParseError, Spec, Target, Variant, Version, quote};

/// The word that stands for the newest of something.
const LATEST: &str = "latest";

/// A version of a module, or `latest`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum VersionQuery {
    /// The newest version, as the go command chooses it.
    Latest,
    /// This version.
    Exact(Version),
}

impl fmt::Display for VersionQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VersionQuery::Latest => f.write_str(LATEST),
            VersionQuery::Exact(version) => version.fmt(f),
        }
    }
}

impl FromStr for VersionQuery {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<VersionQuery, ParseError> {
        match text {
            LATEST => Ok(VersionQuery::Latest),
            exact => exact.parse().map(VersionQuery::Exact),
        }
    }
}

/// A Go version, `latest`, or the latest of one minor version, as in `go1.26.latest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GoVersionQuery {
    /// The newest release of Go.
    Latest,
    /// The newest release of this minor version, the N of `go1.N`.
    LatestOf(u32),
    /// This release.
    Exact(GoVersion),
}

impl fmt::Display for GoVersionQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GoVersionQuery::Latest => f.write_str(LATEST),
            GoVersionQuery::LatestOf(minor) => write!(f, "go1.{minor}.{LATEST}"),
            GoVersionQuery::Exact(goversion) => goversion.fmt(f),
        }
    }
}

impl FromStr for GoVersionQuery {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<GoVersionQuery, ParseError> {
        if text == LATEST {
            return Ok(GoVersionQuery::Latest);
        }
        let Some(lang) = text.strip_suffix(".latest") else {
            return text.parse().map(GoVersionQuery::Exact);
        };
        let goversion: GoVersion = lang.parse()?;
        if goversion.lang() != lang {
            let shown = quote(text);
            return Err(ParseError::new(format!("{shown} is not a Go version: it must be like go1.27.latest")));
        }
        Ok(GoVersionQuery::LatestOf(goversion.minor()))
    }
}

/// A spec as URLs and lookup keys may name it: `latest` may stand for the version, `latest` or
/// `go1.N.latest` for the Go version. The text is otherwise that of [`Spec`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpecQuery {
    /// The module that holds the program.
    pub module: ModulePath,
    /// Its version, or `latest`.
    pub version: VersionQuery,
    /// Where in the module the program's main package lies.
    pub dir: Dir,
    /// The system and processor to build for.
    pub target: Target,
    /// The Go version, or a latest one.
    pub goversion: GoVersionQuery,
    /// Whether to keep the symbol table.
    pub variant: Variant,
}

impl SpecQuery {
    /// The spec, if nothing is left to resolve.
    pub fn exact(&self) -> Option<Spec> {
        match (&self.version, &self.goversion) {
            (VersionQuery::Exact(version), GoVersionQuery::Exact(goversion)) => {
                self.resolve(version.clone(), *goversion).ok()
            }
            _ => None,
        }
    }

    /// The spec of this query with these versions. What the query says exactly is kept: the versions only
    /// stand in for `latest`. An error says that the versions do not fit the rest.
    pub fn resolve(&self, version: Version, goversion: GoVersion) -> Result<Spec, ParseError> {
        let version = match &self.version {
            VersionQuery::Latest => version,
            VersionQuery::Exact(exact) => exact.clone(),
        };
        let goversion = match self.goversion {
            GoVersionQuery::Exact(exact) => exact,
            GoVersionQuery::LatestOf(minor) if minor != goversion.minor() => {
                return Err(ParseError::new(format!("{goversion} is not a version of go1.{minor}")));
            }
            GoVersionQuery::Latest | GoVersionQuery::LatestOf(_) => goversion,
        };
        let SpecQuery { module, dir, target, variant, .. } = self.clone();
        Spec::new(module, version, dir, target, goversion, variant)
    }
}

impl From<Spec> for SpecQuery {
    fn from(spec: Spec) -> SpecQuery {
        let Spec { module, version, dir, target, goversion, variant } = spec;
        let (version, goversion) = (VersionQuery::Exact(version), GoVersionQuery::Exact(goversion));
        SpecQuery { module, version, dir, target, goversion, variant }
    }
}

impl fmt::Display for SpecQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SpecQuery { module, version, dir, target, goversion, variant } = self;
        write_spec(f, (module, version, dir, *target, goversion, *variant))
    }
}

impl FromStr for SpecQuery {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<SpecQuery, ParseError> {
        let raw = RawSpec::split(text)?;
        let query = SpecQuery {
            module: raw.module.parse()?,
            version: raw.version.parse()?,
            dir: Dir::new(raw.dir)?,
            target: Target::new(raw.goos, raw.goarch)?,
            goversion: raw.goversion.parse()?,
            variant: raw.variant,
        };
        if let VersionQuery::Exact(version) = &query.version {
            version.check_fits(&query.module)?;
        }
        let minor = match query.goversion {
            GoVersionQuery::Latest => return Ok(query),
            GoVersionQuery::LatestOf(minor) => minor,
            GoVersionQuery::Exact(goversion) => goversion.minor(),
        };
        if !query.target.exists_in_minor(minor) {
            let SpecQuery { goversion, target, .. } = &query;
            return Err(ParseError::new(format!("{goversion} does not build for {target}")));
        }
        Ok(query)
    }
}

/// The page of a module or of a directory in it: `module[/dir]`, or `module@version[/dir]`, where version
/// may be `latest`. Without `@` nobody can tell where the module ends: [`PackageQuery::candidates`] does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PackageQuery {
    /// An import path: a module and maybe a directory in it. The version is the latest one.
    Path(String),
    /// A module, its version and a directory in it.
    Split {
        /// The module.
        module: ModulePath,
        /// Its version, or `latest`.
        version: VersionQuery,
        /// A directory in it.
        dir: Dir,
    },
}

impl PackageQuery {
    /// The import path: module and directory together.
    pub fn module_and_dir(&self) -> String {
        match self {
            PackageQuery::Path(path) => path.clone(),
            PackageQuery::Split { module, dir, .. } if dir.is_root() => module.to_string(),
            PackageQuery::Split { module, dir, .. } => format!("{module}/{}", dir.as_str()),
        }
    }

    /// The version to look at.
    pub fn version(&self) -> VersionQuery {
        match self {
            PackageQuery::Path(_) => VersionQuery::Latest,
            PackageQuery::Split { version, .. } => version.clone(),
        }
    }

    /// Every module and directory that the query can mean, longest module first, as the go command looks
    /// for them; never none.
    pub fn candidates(&self) -> Vec<(ModulePath, Dir)> {
        match self {
            PackageQuery::Path(path) => splits(path).collect(),
            PackageQuery::Split { module, dir, .. } => vec![(module.clone(), dir.clone())],
        }
    }
}

impl fmt::Display for PackageQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PackageQuery::Path(path) => f.write_str(path),
            PackageQuery::Split { module, version, dir } if dir.is_root() => write!(f, "{module}@{version}"),
            PackageQuery::Split { module, version, dir } => write!(f, "{module}@{version}{dir}"),
        }
    }
}

impl FromStr for PackageQuery {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<PackageQuery, ParseError> {
        check_length(text.len())?;
        if let Some((module, rest)) = text.split_once('@') {
            let (version, dir) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let (module, version) = (module.parse()?, version.parse()?);
            let dir = if dir.is_empty() { Dir::ROOT } else { dir.parse()? };
            if rest.ends_with('/') {
                return Err(ParseError::new(format!("{} ends with a slash", quote(text))));
            }
            if let VersionQuery::Exact(version) = &version {
                Version::check_fits(version, &module)?;
            }
            return Ok(PackageQuery::Split { module, version, dir });
        }
        // Of a path that is none at all the error is told as of a module.
        if splits(text).next().is_none() {
            let module: ModulePath = text.parse()?;
            return Ok(PackageQuery::Path(module.to_string()));
        }
        Ok(PackageQuery::Path(text.to_owned()))
    }
}

/// The ways to split an import path into module and directory, longest module first.
fn splits(path: &str) -> impl Iterator<Item = (ModulePath, Dir)> {
    let slashes = path.rmatch_indices('/').map(|(at, _)| (&path[..at], &path[at + 1..]));
    std::iter::once((path, ""))
        .chain(slashes)
        // A slash at the end is no empty directory.
        .filter(move |(module, dir)| !dir.is_empty() || *module == path)
        .filter_map(|(module, dir)| Some((module.parse().ok()?, Dir::new(dir).ok()?)))
}
