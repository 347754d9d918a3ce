//! What to build, as one text that is at once a lookup key and the path of a page.

use std::fmt;
use std::str::FromStr;

use super::{Dir, GoVersion, ModulePath, ParseError, Target, Version, quote};

/// The longest spec that is accepted: lookup keys travel in URLs, and claims hold a spec in 4096 bytes.
pub const MAX_SPEC_BYTES: usize = 2048;

/// Whether a binary keeps its symbol table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variant {
    /// As the linker makes it.
    #[default]
    Plain,
    /// Linked with `-s`: no symbol table, no debug information.
    Stripped,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Variant::Plain => "",
            Variant::Stripped => "stripped",
        })
    }
}

impl FromStr for Variant {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Variant, ParseError> {
        match text {
            "" => Ok(Variant::Plain),
            "stripped" => Ok(Variant::Stripped),
            other => {
                let shown = quote(other);
                Err(ParseError::new(format!("{shown} is not a variant: the only one is stripped")))
            }
        }
    }
}

/// Exactly one thing that can be built; parties that build it must come to the same bytes.
///
/// Its text is `module@version/[dir/]goos-goarch-goversion[-stripped]/`, nothing escaped. [`Spec::new`] and
/// parsing check that the parts fit each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spec {
    /// The module that holds the program.
    pub module: ModulePath,
    /// Its version.
    pub version: Version,
    /// Where in the module the program's main package lies.
    pub dir: Dir,
    /// The system and processor to build for.
    pub target: Target,
    /// The Go release to build with.
    pub goversion: GoVersion,
    /// Whether to keep the symbol table.
    pub variant: Variant,
}

impl Spec {
    /// A spec of these parts, if they fit each other: the version's major number fits the module path, the
    /// Go version builds for the target, and the text is not longer than [`MAX_SPEC_BYTES`].
    pub fn new(
        module: ModulePath,
        version: Version,
        dir: Dir,
        target: Target,
        goversion: GoVersion,
        variant: Variant,
    ) -> Result<Spec, ParseError> {
        version.check_fits(&module)?;
        if !target.exists_in(&goversion) {
            return Err(ParseError::new(format!("{goversion} does not build for {target}")));
        }
        let spec = Spec { module, version, dir, target, goversion, variant };
        check_length(spec.to_string().len())?;
        Ok(spec)
    }

    /// The import path of the package, such as `filippo.io/age/cmd/age`.
    pub fn package(&self) -> String {
        let Spec { module, dir, .. } = self;
        if dir.is_root() { module.to_string() } else { format!("{module}/{}", dir.as_str()) }
    }

    /// What the file is called in URLs: `age-v1.2.1-go1.27.1`, then `-stripped` and `.exe` where they apply.
    pub fn file_name(&self) -> String {
        let package = self.package();
        let base = package.rsplit('/').next().unwrap_or(&package);
        let stripped = if self.variant == Variant::Stripped { "-stripped" } else { "" };
        format!("{base}-{}-{}{stripped}{}", self.version, self.goversion, self.exe())
    }

    /// What the go command calls the file: the last element of the package, or the one before it if that
    /// is a major version (Go's `load.DefaultExecName`), then `.exe` on Windows.
    pub fn program_name(&self) -> String {
        let package = self.package();
        let mut elements = package.rsplit('/');
        let last = elements.next().unwrap_or(&package);
        let name = match elements.next() {
            Some(before) if is_major_version(last) => before,
            _ => last,
        };
        format!("{name}{}", self.exe())
    }

    fn exe(&self) -> &'static str {
        if self.target.goos() == "windows" { ".exe" } else { "" }
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spec { module, version, dir, target, goversion, variant } = self;
        write_spec(f, (module, version, dir, *target, goversion, *variant))
    }
}

impl FromStr for Spec {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Spec, ParseError> {
        let raw = RawSpec::split(text)?;
        Spec::new(
            raw.module.parse()?,
            raw.version.parse()?,
            Dir::new(raw.dir)?,
            Target::new(raw.goos, raw.goarch)?,
            raw.goversion.parse()?,
            raw.variant,
        )
    }
}

/// The parts of a spec's text, cut but not looked into. `dir` has no slashes at its ends.
pub(super) struct RawSpec<'a> {
    pub(super) module: &'a str,
    pub(super) version: &'a str,
    pub(super) dir: &'a str,
    pub(super) goos: &'a str,
    pub(super) goarch: &'a str,
    pub(super) goversion: &'a str,
    pub(super) variant: Variant,
}

impl<'a> RawSpec<'a> {
    /// Cuts a text into the parts of a spec.
    pub(super) fn split(text: &'a str) -> Result<RawSpec<'a>, ParseError> {
        let wrong = |why: &str| {
            let shown = quote(text);
            ParseError::new(format!(
                "{shown} is not a spec (module@version/[dir/]goos-goarch-goversion[-stripped]/): {why}"
            ))
        };
        check_length(text.len())?;
        let inner = text.strip_suffix('/').ok_or_else(|| wrong("it does not end with a slash"))?;
        let (module, rest) = inner.split_once('@').ok_or_else(|| wrong("it has no @"))?;
        let (package, target) = rest.rsplit_once('/').ok_or_else(|| wrong("it has no target"))?;
        // An empty directory between two slashes is no way to write the root.
        let (version, dir) = match package.split_once('/') {
            None => (package, ""),
            Some((_, "")) => return Err(wrong("its directory is empty")),
            Some(split) => split,
        };
        let mut parts = target.split('-');
        let parts = [parts.next(), parts.next(), parts.next(), parts.next(), parts.next()];
        let (goos, goarch, goversion, variant) = match parts {
            [Some(goos), Some(goarch), Some(goversion), None, None] => (goos, goarch, goversion, Variant::Plain),
            [Some(goos), Some(goarch), Some(goversion), Some("stripped"), None] => {
                (goos, goarch, goversion, Variant::Stripped)
            }
            _ => {
                return Err(wrong("its last element is not goos-goarch-goversion[-stripped]"));
            }
        };
        Ok(RawSpec { module, version, dir, goos, goarch, goversion, variant })
    }
}

/// Refuses what is too long to be a spec.
pub(super) fn check_length(bytes: usize) -> Result<(), ParseError> {
    if bytes > MAX_SPEC_BYTES {
        return Err(ParseError::new(format!("a spec of {bytes} bytes is longer than {MAX_SPEC_BYTES}")));
    }
    Ok(())
}

/// The text of a spec or of a query for one.
pub(super) fn write_spec(
    f: &mut fmt::Formatter<'_>,
    (module, version, dir, target, goversion, variant): (
        &ModulePath,
        impl fmt::Display,
        &Dir,
        Target,
        impl fmt::Display,
        Variant,
    ),
) -> fmt::Result {
    write!(f, "{module}@{version}/")?;
    if !dir.is_root() {
        write!(f, "{}/", dir.as_str())?;
    }
    write!(f, "{}-{}-{goversion}", target.goos(), target.goarch())?;
    match variant {
        Variant::Plain => f.write_str("/"),
        Variant::Stripped => f.write_str("-stripped/"),
    }
}

/// Whether the go command takes a path element for a major version, `v2` and up.
fn is_major_version(element: &str) -> bool {
    element.strip_prefix('v').is_some_and(|number| {
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        digits && !number.starts_with('0') && number != "1"
    })
}
