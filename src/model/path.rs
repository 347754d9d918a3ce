//! Paths of modules and of packages inside them, by the rules of `golang.org/x/mod/module`.

use std::fmt;
use std::str::FromStr;

use super::{ParseError, quote};

/// The longest module path that is accepted. Go itself sets no limit; file systems and logs need one.
pub const MAX_MODULE_BYTES: usize = 1024;

/// The longest import path that is accepted: a module path and a directory of the same length.
const MAX_IMPORT_BYTES: usize = 2 * MAX_MODULE_BYTES;

/// The path of a module, such as `filippo.io/age`: what Go's `module.CheckPath` accepts, at most
/// [`MAX_MODULE_BYTES`] long.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModulePath(String);

impl ModulePath {
    /// The path as it is written in `go.mod`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path as a module proxy wants it: each upper-case letter as `!` and its lower case
    /// (Go's `module.EscapePath`).
    pub fn escaped(&self) -> String {
        escape(&self.0)
    }

    /// The last element: `age` of `filippo.io/age`, and `v2` of `example.com/m/v2`.
    pub fn base(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The path without its major version, and that version with its separator: `/v2`, `.v3` (gopkg.in),
    /// or nothing (Go's `module.SplitPathVersion`).
    pub fn split_major(&self) -> (&str, &str) {
        split_major(&self.0).expect("a module path with a bad major version does not parse")
    }
}

impl fmt::Display for ModulePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ModulePath {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<ModulePath, ParseError> {
        match check_module_path(text) {
            Ok(()) => Ok(ModulePath(text.to_owned())),
            Err(why) => {
                let shown = quote(text);
                Err(ParseError::new(format!("{shown} is not a module path: {why}")))
            }
        }
    }
}

/// A directory inside a module, such as `cmd/age`; the module's root is the empty one.
///
/// Its text form is that of records: `/` for the root, else `/cmd/age`. Its elements follow the rules of
/// import paths, which allow more than those of module paths: `+`, and elements that start with a dot.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dir(String);

impl Dir {
    /// The root directory of a module.
    pub const ROOT: Dir = Dir(String::new());

    /// A directory from its path without slashes at the ends, such as `cmd/age`, or empty for the root.
    pub fn new(inner: &str) -> Result<Dir, ParseError> {
        if inner.is_empty() {
            return Ok(Dir::ROOT);
        }
        match check_elements(inner, Kind::Import, MAX_MODULE_BYTES) {
            Ok(()) => Ok(Dir(inner.to_owned())),
            Err(why) => {
                let shown = quote(inner);
                Err(ParseError::new(format!("{shown} is not a directory of a module: {why}")))
            }
        }
    }

    /// The path without slashes at the ends; empty for the root.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the module's root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Dir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0)
    }
}

impl FromStr for Dir {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Dir, ParseError> {
        let Some(inner) = text.strip_prefix('/') else {
            let shown = quote(text);
            return Err(ParseError::new(format!("directory {shown} does not start with a slash")));
        };
        Dir::new(inner)
    }
}

/// Whether `path` can be imported: Go's `module.CheckImportPath`.
pub fn check_import_path(path: &str) -> Result<(), ParseError> {
    let check = || {
        if path.starts_with('-') {
            return Err("it starts with a dash".to_owned());
        }
        check_elements(path, Kind::Import, MAX_IMPORT_BYTES)
    };
    check().map_err(|why| {
        let shown = quote(path);
        ParseError::new(format!("{shown} is not an import path: {why}"))
    })
}

/// `text` with each upper-case letter as `!` and its lower case, for file systems that know no case
/// (Go's `module.EscapePath` and `EscapeVersion`).
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_uppercase() {
            escaped.push('!');
        }
        escaped.push(c.to_ascii_lowercase());
    }
    escaped
}

/// What [`escape`] made `escaped` of; `None` if it made it of nothing (Go's `unescapeString`).
pub(crate) fn unescape(escaped: &str) -> Option<String> {
    let mut text = String::with_capacity(escaped.len());
    let mut chars = escaped.chars();
    while let Some(c) = chars.next() {
        match c {
            'A'..='Z' | '\u{80}'.. => return None,
            '!' => text.push(chars.next().filter(char::is_ascii_lowercase)?.to_ascii_uppercase()),
            _ => text.push(c),
        }
    }
    Some(text)
}

/// The rules that differ between kinds of paths.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Module,
    Import,
}

/// Go's `module.CheckPath`. The error completes "… is not a module path: ".
fn check_module_path(path: &str) -> Result<(), String> {
    if path.starts_with('-') {
        return Err("it starts with a dash".to_owned());
    }
    check_elements(path, Kind::Module, MAX_MODULE_BYTES)?;
    let first = path.split('/').next().unwrap_or(path);
    if !first.contains('.') {
        return Err(format!("its first element {} has no dot", quote(first)));
    }
    let host = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    if !first.as_bytes().iter().all(host) {
        let shown = quote(first);
        return Err(format!("its first element {shown} may only hold a-z, 0-9, dots and dashes"));
    }
    if split_major(path).is_none() {
        return Err("its major version at the end is none".to_owned());
    }
    Ok(())
}

/// The rules for every element between slashes: Go's `checkPath`.
fn check_elements(path: &str, kind: Kind, max_bytes: usize) -> Result<(), String> {
    if path.is_empty() {
        return Err("it is empty".to_owned());
    }
    if path.len() > max_bytes {
        return Err(format!("it has {} bytes, more than {max_bytes}", path.len()));
    }
    path.split('/').try_for_each(|element| check_element(element, kind))
}

/// Go's `checkElem`.
fn check_element(element: &str, kind: Kind) -> Result<(), String> {
    let shown = || quote(element);
    if element.is_empty() {
        return Err("it has an empty element (a slash too many)".to_owned());
    }
    if element.bytes().all(|b| b == b'.') {
        return Err(format!("an element is {}", shown()));
    }
    if element.starts_with('.') && kind == Kind::Module {
        return Err(format!("its element {} starts with a dot", shown()));
    }
    if element.ends_with('.') {
        return Err(format!("its element {} ends with a dot", shown()));
    }
    let allowed =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~') || (c == '+' && kind == Kind::Import);
    if let Some(bad) = element.chars().find(|&c| !allowed(c)) {
        return Err(format!("its element {} holds {bad:?}", shown()));
    }
    let stem = element.split('.').next().unwrap_or(element);
    if WINDOWS_DEVICES.iter().any(|device| device.eq_ignore_ascii_case(stem)) {
        return Err(format!("its element {} is a device on Windows", shown()));
    }
    if let Some((_, digits)) = stem.rsplit_once('~')
        && !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_digit())
    {
        return Err(format!("its element {} looks like a short name of Windows", shown()));
    }
    Ok(())
}

/// Names that Windows opens as devices whatever follows their first dot.
/// <https://learn.microsoft.com/windows/win32/fileio/naming-a-file>
const WINDOWS_DEVICES: [&str; 22] = [
    "CON", "PRN", "AUX", "NUL", "COM1", "COM2", "COM3", "COM4", "COM5", "COM6", "COM7", "COM8", "COM9", "LPT1", "LPT2",
    "LPT3", "LPT4", "LPT5", "LPT6", "LPT7", "LPT8", "LPT9",
];

/// Go's `module.SplitPathVersion`: prefix and major version, or nothing where the end looks like a major
/// version but is none, such as `/v1`, `/v02` or `/v1.2`.
fn split_major(path: &str) -> Option<(&str, &str)> {
    if path.starts_with("gopkg.in/") {
        return split_gopkg_in(path);
    }
    let numeric = path.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number = &path[numeric.len()..];
    let Some(prefix) = numeric.strip_suffix("/v").filter(|_| !number.is_empty()) else {
        return Some((path, ""));
    };
    let major = !number.contains('.') && !number.starts_with('0') && number != "1";
    major.then(|| path.split_at(prefix.len()))
}

/// The same for gopkg.in, which wants `.vN` at the end of every path, `.v0` and `.v1` included.
fn split_gopkg_in(path: &str) -> Option<(&str, &str)> {
    let stable = path.strip_suffix("-unstable").unwrap_or(path);
    let numeric = stable.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = &stable[numeric.len()..];
    let prefix = numeric.strip_suffix(".v")?;
    let major = !number.is_empty() && (!number.starts_with('0') || path.ends_with(".v0"));
    major.then(|| path.split_at(prefix.len()))
}
