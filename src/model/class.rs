//! The classes of reasons why a spec can never be built.

use std::fmt;
use std::str::FromStr;

use super::{ParseError, quote};

/// Why something can never be built as its spec says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The module has no package there.
    NoSuchPackage,
    /// The package is a library.
    NotMain,
    /// The module calls itself otherwise.
    ModulePathMismatch,
    /// The module's `go.mod` replaces or excludes others.
    ReplaceDirective,
    /// It needs C code.
    Cgo,
    /// The module needs a newer Go.
    NeedsNewerGo,
    /// A package that it imports needs a newer Go.
    ImportNeedsNewerGo,
    /// That Go version does not build for the target.
    UnsupportedTarget,
    /// No Go files are left for the target.
    BuildConstraints,
    /// The target needs a linker that is not Go's own.
    ExternalLinker,
    /// Required versions contradict each other.
    VersionConflict,
    /// The source does not compile.
    SourceError,
    /// The build or its result is larger than allowed.
    TooLarge,
    /// The build takes longer than allowed.
    Timeout,
}

impl Class {
    /// Every class.
    pub const ALL: [Class; 14] = [
        Class::NoSuchPackage,
        Class::NotMain,
        Class::ModulePathMismatch,
        Class::ReplaceDirective,
        Class::Cgo,
        Class::NeedsNewerGo,
        Class::ImportNeedsNewerGo,
        Class::UnsupportedTarget,
        Class::BuildConstraints,
        Class::ExternalLinker,
        Class::VersionConflict,
        Class::SourceError,
        Class::TooLarge,
        Class::Timeout,
    ];

    /// The class as texts name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::NoSuchPackage => "no-such-package",
            Class::NotMain => "not-main",
            Class::ModulePathMismatch => "module-path-mismatch",
            Class::ReplaceDirective => "replace-directive",
            Class::Cgo => "cgo",
            Class::NeedsNewerGo => "needs-newer-go",
            Class::ImportNeedsNewerGo => "import-needs-newer-go",
            Class::UnsupportedTarget => "unsupported-target",
            Class::BuildConstraints => "build-constraints",
            Class::ExternalLinker => "external-linker",
            Class::VersionConflict => "version-conflict",
            Class::SourceError => "source-error",
            Class::TooLarge => "too-large",
            Class::Timeout => "timeout",
        }
    }

    /// One sentence for a person who asked for the program.
    pub fn explain(self) -> &'static str {
        match self {
            Class::NoSuchPackage => "The module has no package in that directory at that version.",
            Class::NotMain => "The package is a library and not a command: there is nothing to run.",
            Class::ModulePathMismatch => {
                "The module's go.mod names another path than the one asked for: ask for that path."
            }
            Class::ReplaceDirective => {
                "The module's go.mod replaces or excludes other modules, so that the go command refuses to install it from outside."
            }
            Class::Cgo => "The program needs C code, and builds here run without a C compiler.",
            Class::NeedsNewerGo => "The module asks for a newer Go than the one to build with: choose a newer one.",
            Class::ImportNeedsNewerGo => {
                "A package that the program imports needs a newer Go than the one to build with: choose a newer one."
            }
            Class::UnsupportedTarget => "That Go version cannot build for this system and architecture.",
            Class::BuildConstraints => {
                "The package's build constraints leave no files for this system and architecture."
            }
            Class::ExternalLinker => {
                "For this target Go needs a linker from outside its own distribution, and builds here have none."
            }
            Class::VersionConflict => "The versions of the modules that it requires contradict each other.",
            Class::SourceError => "The source code does not compile with that Go version for this target.",
            Class::TooLarge => "The build or the binary grew beyond what this node allows, three times.",
            Class::Timeout => "The build took longer than this node allows, three times.",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Class {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Class, ParseError> {
        let found = Class::ALL.into_iter().find(|class| class.as_str() == text);
        found.ok_or_else(|| {
            let shown = quote(text);
            ParseError::new(format!("{shown} is not a class of reasons why something cannot be built"))
        })
    }
}
