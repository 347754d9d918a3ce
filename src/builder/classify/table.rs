//! The table of [`super::classify`]: words of the go command, and what they mean.

use crate::model::Class;

/// What a row of the table leads to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Meaning {
    Is(Class),
    NotFound,
    Temporary,
    /// All files of a package are excluded: by cgo being off, or by other constraints.
    Excluded,
    /// A newer Go is needed by the module itself or by one it imports.
    NewerGo,
    /// A package that is in no standard library, or only in a newer one.
    NotInStd,
    /// A version in a go.mod that only a newer Go can read, or that none can.
    GoLine,
}

/// The first row that is found in any line decides. Trouble of the moment comes first: a proxy that
/// fails makes the go command say all manner of other things too.
pub(super) const TABLE: &[(&str, Meaning)] = &[
    ("bwrap: ", Meaning::Temporary),
    ("no space left on device", Meaning::Temporary),
    ("disk quota exceeded", Meaning::Temporary),
    ("input/output error", Meaning::Temporary),
    ("cannot allocate memory", Meaning::Temporary),
    ("out of memory", Meaning::Temporary),
    (": signal: ", Meaning::Temporary),
    ("resource temporarily unavailable", Meaning::Temporary),
    ("too many open files", Meaning::Temporary),
    ("file too large", Meaning::Is(Class::TooLarge)),
    ("file size limit exceeded", Meaning::Is(Class::TooLarge)),
    // Programs that crash say nothing about what they were given.
    ("fatal error: ", Meaning::Temporary),
    (" [running]:", Meaning::Temporary),
    ("pthread_create failed", Meaning::Temporary),
    ("SIGABRT: abort", Meaning::Temporary),
    ("SECURITY ERROR", Meaning::Temporary),
    ("checksum mismatch", Meaning::Temporary),
    (": verifying module: ", Meaning::Temporary),
    (": verifying go.mod: ", Meaning::Temporary),
    ("invalid response from proxy", Meaning::Temporary),
    (": Get \"http", Meaning::Temporary),
    ("connection refused", Meaning::Temporary),
    ("connection reset", Meaning::Temporary),
    ("i/o timeout", Meaning::Temporary),
    ("-> unzip ", Meaning::Temporary),
    (": 400 Bad Request", Meaning::Temporary),
    (": 401 Unauthorized", Meaning::Temporary),
    (": 403 Forbidden", Meaning::Temporary),
    (": 429 Too Many Requests", Meaning::Temporary),
    (": 500 Internal Server Error", Meaning::Temporary),
    (": 502 Bad Gateway", Meaning::Temporary),
    (": 503 Service Unavailable", Meaning::Temporary),
    (": 504 Gateway Timeout", Meaning::Temporary),
    (": 404 Not Found", Meaning::NotFound),
    (": 410 Gone", Meaning::NotFound),
    ("cannot find module providing package", Meaning::NotFound),
    ("unknown revision", Meaning::NotFound),
    // The module.
    ("module declares its path as:", Meaning::Is(Class::ModulePathMismatch)),
    ("more replace directives.", Meaning::Is(Class::ReplaceDirective)),
    ("more exclude directives.", Meaning::Is(Class::ReplaceDirective)),
    (" requires go >= ", Meaning::NewerGo),
    (": invalid go version '", Meaning::GoLine),
    ("unknown directive: toolchain", Meaning::NewerGo),
    ("unknown directive: godebug", Meaning::NewerGo),
    ("unknown directive: tool", Meaning::NewerGo),
    ("unknown directive: ignore", Meaning::NewerGo),
    ("go.mod:", Meaning::Is(Class::SourceError)),
    ("version constraints conflict", Meaning::Is(Class::VersionConflict)),
    ("ambiguous import: found package", Meaning::Is(Class::VersionConflict)),
    (", but version ", Meaning::Is(Class::VersionConflict)),
    // The target.
    ("unsupported GOOS/GOARCH pair", Meaning::Is(Class::UnsupportedTarget)),
    ("requires external (cgo) linking", Meaning::Is(Class::ExternalLinker)),
    ("loadinternal: cannot find runtime/cgo", Meaning::Is(Class::ExternalLinker)),
    ("/link: running ", Meaning::Is(Class::ExternalLinker)),
    // The package.
    ("build constraints exclude all Go files in ", Meaning::Excluded),
    ("is not a main package", Meaning::Is(Class::NotMain)),
    ("no non-test Go files in ", Meaning::Is(Class::NotMain)),
    (" is not in std (", Meaning::NotInStd),
    (" is not in GOROOT (", Meaning::NotInStd),
    ("note: module requires Go ", Meaning::NewerGo),
    ("import cycle not allowed", Meaning::Is(Class::SourceError)),
    ("case-insensitive import collision", Meaning::Is(Class::SourceError)),
    ("case-insensitive file name collision", Meaning::Is(Class::SourceError)),
    ("found packages ", Meaning::Is(Class::SourceError)),
];

/// Packages that came into the standard library after Go 1.16: whoever lacks one needs a newer Go.
pub(super) const NEW_IN_STD: &[&str] = &[
    "cmp",
    "crypto/ecdh",
    "crypto/fips140",
    "crypto/hkdf",
    "crypto/hpke",
    "crypto/mlkem",
    "crypto/pbkdf2",
    "crypto/sha3",
    "debug/buildinfo",
    "encoding/json/jsontext",
    "encoding/json/v2",
    "go/doc/comment",
    "go/version",
    "iter",
    "log/slog",
    "maps",
    "math/rand/v2",
    "net/netip",
    "runtime/coverage",
    "slices",
    "structs",
    "testing/cryptotest",
    "testing/slogtest",
    "testing/synctest",
    "unique",
    "weak",
];
