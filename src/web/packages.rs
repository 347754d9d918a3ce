//! From the path of a module or package to its commands.
//!
//! One command leads straight to its page, several are listed. The target is what the client seems
//! to run on, unless the query says otherwise.

use askama::Template;
use axum::body::Body;
use axum::http::Response;
use axum::http::header::USER_AGENT;

use super::error::Error;
use super::pages::{Base, result_path};
use super::{Call, html, redirect};
use crate::model::{
    Dir, GoVersion, GoVersionQuery, ModulePath, PackageQuery, ParseError, Spec, Target, Variant, Version, VersionQuery,
};

/// How many module paths one import path is tried as. Real ones have at most six elements or so.
const CANDIDATES: usize = 8;

#[derive(Template)]
#[template(path = "package.html")]
struct Page {
    base: Base,
    module: String,
    version: String,
    target: String,
    goversion: String,
    commands: Vec<Command>,
    documentation: String,
}

struct Command {
    label: String,
    path: String,
}

/// Answers for a module or package.
pub(super) async fn serve(call: &Call<'_>, query: PackageQuery) -> Result<Response<Body>, Error> {
    let choice = Choice::of(call).await?;
    let (module, version, dir) = module(call, &query).await?;
    if !call.state.resolver().knows_commands(&module, &version) {
        call.charge_build()?;
    }
    let commands = call.state.resolver().commands(&module, &version).await?;
    let below: Vec<&Dir> = match commands.iter().find(|command| **command == dir && !dir.is_root()) {
        Some(command) => vec![command],
        None => commands.iter().filter(|command| is_below(command, &dir)).collect(),
    };
    let spec = |dir: &Dir| choice.spec(&module, &version, dir);
    match below.as_slice() {
        [] => Err(Error::NotFound(match dir.is_root() {
            true => format!("{module}@{version} has no commands"),
            false => format!("{module}@{version} has no command in {dir}"),
        })),
        [only] => {
            let spec = spec(only)?;
            let record = call.state.tally.known(&spec).await?;
            Ok(redirect(&record.as_ref().map_or_else(|| format!("/{spec}"), result_path)))
        }
        several => {
            let commands = several.iter().filter_map(|dir| {
                let spec = spec(dir).ok()?;
                Some(Command { label: spec.package(), path: format!("/{spec}") })
            });
            Ok(html(&Page {
                base: Base::of(call.state),
                target: choice.target.to_string(),
                goversion: choice.goversion.to_string(),
                commands: commands.collect(),
                documentation: format!("https://pkg.go.dev/{module}@{version}"),
                module: module.to_string(),
                version: version.to_string(),
            }))
        }
    }
}

fn is_below(command: &Dir, dir: &Dir) -> bool {
    dir.is_root() || command.as_str().strip_prefix(dir.as_str()).is_some_and(|rest| rest.starts_with('/'))
}

/// What is not in the path.
struct Choice {
    target: Target,
    goversion: GoVersion,
    variant: Variant,
}

impl Choice {
    async fn of(call: &Call<'_>) -> Result<Choice, Error> {
        let malformed = |error: ParseError| Error::Malformed(error.to_string());
        let go = match call.query("go") {
            Some(go) => go.parse().map_err(malformed)?,
            None => GoVersionQuery::Latest,
        };
        let variant = call.query("variant").unwrap_or_default().parse().map_err(malformed)?;
        let goversion = call.state.resolver().go(&go).await?;
        let target = match call.query("target") {
            Some(target) => target.parse().map_err(malformed)?,
            None => {
                let guess = guess(call.header(&USER_AGENT).unwrap_or_default());
                if guess.exists_in(&goversion) { guess } else { fallback() }
            }
        };
        Ok(Choice { target, goversion, variant })
    }

    fn spec(&self, module: &ModulePath, version: &Version, dir: &Dir) -> Result<Spec, Error> {
        let (module, version, dir) = (module.clone(), version.clone(), dir.clone());
        Spec::new(module, version, dir, self.target, self.goversion, self.variant)
            .map_err(|error| Error::Malformed(error.to_string()))
    }
}

/// Where the module ends in the path, and its version.
async fn module(call: &Call<'_>, query: &PackageQuery) -> Result<(ModulePath, Version, Dir), Error> {
    let mut candidates = query.candidates();
    if let PackageQuery::Split { module, dir, .. } = query
        && dir.is_root()
    {
        // The go command's way to write it: the version after the package.
        candidates = PackageQuery::Path(module.to_string()).candidates();
    }
    let mut none = None;
    for (module, dir) in candidates.into_iter().take(CANDIDATES) {
        let found = match query.version() {
            VersionQuery::Latest => call.state.resolver().latest(&module).await,
            VersionQuery::Exact(version) => call.state.resolver().exists(&module, version).await,
        };
        match found {
            Ok(version) => return Ok((module, version, dir)),
            Err(Error::NotFound(sentence)) => none.get_or_insert(sentence),
            Err(other) => return Err(other),
        };
    }
    Err(Error::NotFound(none.unwrap_or_else(|| format!("{query} is no module"))))
}

/// What a browser says it runs on. Macs say Intel whatever they are; the new ones are not.
fn guess(agent: &str) -> Target {
    let has = |words: &[&str]| words.iter().any(|word| agent.contains(word));
    let os = [
        ("Windows", "windows"),
        ("Macintosh", "darwin"),
        ("FreeBSD", "freebsd"),
        ("OpenBSD", "openbsd"),
        ("NetBSD", "netbsd"),
        ("DragonFly", "dragonfly"),
    ];
    let os = os.iter().find(|(word, _)| has(&[word])).map_or("linux", |(_, os)| os);
    let arch = if os == "darwin" || has(&["aarch64", "arm64", "ARM64", "Android"]) {
        "arm64"
    } else if has(&["armv"]) {
        "arm"
    } else if has(&["i686", "i386"]) && !has(&["x86_64"]) {
        "386"
    } else if has(&["riscv64"]) {
        "riscv64"
    } else {
        "amd64"
    };
    Target::new(os, arch).unwrap_or_else(|_| fallback())
}

fn fallback() -> Target {
    Target::new("linux", "amd64").expect("Go has always built for it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses() {
        let check = |agent: &str, want: &str| assert_eq!(guess(agent).to_string(), want, "{agent}");
        check("", "linux/amd64");
        check("curl/8.5.0", "linux/amd64");
        check("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36", "windows/amd64");
        check("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)", "darwin/arm64");
        check("Mozilla/5.0 (X11; Linux x86_64; rv:130.0)", "linux/amd64");
        check("Mozilla/5.0 (X11; Linux i686 on x86_64)", "linux/amd64");
        check("Mozilla/5.0 (X11; Linux i686)", "linux/386");
        check("Mozilla/5.0 (X11; Linux aarch64)", "linux/arm64");
        check("Mozilla/5.0 (X11; Linux armv7l)", "linux/arm");
        check("Mozilla/5.0 (X11; OpenBSD amd64)", "openbsd/amd64");
        check("Mozilla/5.0 (Linux; Android 14)", "linux/arm64");
        check("Mozilla/5.0 (DragonFly; aarch64)", "linux/amd64");
    }

    #[test]
    fn below() {
        let below = |command: &str, dir: &str| is_below(&Dir::new(command).unwrap(), &Dir::new(dir).unwrap());
        assert!(below("cmd/a", ""));
        assert!(below("cmd/a", "cmd"));
        assert!(!below("cmd/a", "cmd/a"));
        assert!(!below("cmdx/a", "cmd"));
        assert!(below("", ""));
    }
}
