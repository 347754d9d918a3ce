//! What the environment and the go command say where the file says nothing.

use std::ffi::OsStr;
use std::fmt;
use std::process::{Command, Stdio};
use std::str::FromStr;

use anyhow::{Context, bail};

use crate::tlog::VerifierKey;

/// The checksum database that the go command uses by default, and its key as Go's own source has it
/// (`cmd/go/internal/modfetch/key.go`).
pub const DEFAULT_SUMDB: &str = "sum.golang.org";
const DEFAULT_SUMDB_KEY: &str = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";

/// The module proxies to use, in Go's syntax: what the file says, else the environment's `GOPROXY`, else
/// what `go env GOPROXY` says. Runs the go command, so call it once and not from an async task.
///
/// # Errors
///
/// If nothing says which, in a sentence that says how to set it.
pub fn goproxy(setting: Option<&str>) -> anyhow::Result<String> {
    goproxy_from(setting, std::env::var("GOPROXY").ok().as_deref(), OsStr::new("go"))
}

/// The same for a node that needs none: what the file says, else the environment's `GOPROXY`, else `off`. The go command
/// is not asked, and need not be there.
pub fn goproxy_if_named(setting: Option<&str>) -> String {
    named(setting, std::env::var("GOPROXY").ok().as_deref()).unwrap_or_else(|| "off".to_owned())
}

fn named(setting: Option<&str>, environment: Option<&str>) -> Option<String> {
    setting.or(environment).map(str::trim).filter(|list| !list.is_empty()).map(str::to_owned)
}

fn goproxy_from(setting: Option<&str>, environment: Option<&str>, go: &OsStr) -> anyhow::Result<String> {
    if let Some(list) = named(setting, environment) {
        return Ok(list);
    }
    let how = "no module proxy is set: set goproxy in the configuration file or GOPROXY in the environment";
    let output = Command::new(go)
        .args(["env", "GOPROXY"])
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{how} (and there is no go command to ask)"))?;
    let list = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() || list.is_empty() || list.contains(char::is_control) {
        bail!("{how} (and `go env GOPROXY` names none)");
    }
    Ok(list)
}

/// The checksum database to use: what the file says, else the environment's `GOSUMDB`, else the go
/// command's default.
///
/// # Errors
///
/// If the environment's is not of Go's syntax.
pub fn gosumdb(setting: Option<&GoSumDb>) -> anyhow::Result<GoSumDb> {
    gosumdb_from(setting, std::env::var("GOSUMDB").ok().as_deref())
}

fn gosumdb_from(setting: Option<&GoSumDb>, environment: Option<&str>) -> anyhow::Result<GoSumDb> {
    if let Some(setting) = setting {
        return Ok(setting.clone());
    }
    let text = environment.filter(|text| !text.trim().is_empty()).unwrap_or(DEFAULT_SUMDB);
    text.parse().map_err(anyhow::Error::msg).context("GOSUMDB in the environment")
}

/// The name of a node whose key is yet to be made and that was given none: the host's.
pub fn default_name() -> String {
    name_of_host(&rustix::system::uname().nodename().to_string_lossy())
}

/// A host's name as a key's name: with dashes for what key names bar.
fn name_of_host(host: &str) -> String {
    let barred = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    match host.trim() {
        "" => "localhost".to_owned(),
        host => host.replace(barred, "-"),
    }
}

/// A setting of the checksum database in Go's syntax: a known name, a verifier key, or `off`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GoSumDb {
    /// Modules and toolchains are believed as they come.
    Off,
    /// The database that signs with this key.
    Key(Box<VerifierKey>),
}

impl fmt::Display for GoSumDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GoSumDb::Off => f.write_str("off"),
            // As short as Go takes it: what builds see as GOSUMDB is what people write.
            GoSumDb::Key(key) if key.to_string() == DEFAULT_SUMDB_KEY => f.write_str(DEFAULT_SUMDB),
            GoSumDb::Key(key) => key.fmt(f),
        }
    }
}

impl FromStr for GoSumDb {
    type Err = String;

    fn from_str(text: &str) -> Result<GoSumDb, String> {
        let mut words = text.split_whitespace();
        let (word, more) = (words.next().unwrap_or_default(), words.next());
        if more.is_some() {
            return Err(format!(
                "{text:?} names an address: the checksum database is reached through the module proxy, so name only its key"
            ));
        }
        let key = match word {
            "off" => return Ok(GoSumDb::Off),
            DEFAULT_SUMDB => DEFAULT_SUMDB_KEY,
            key => key,
        };
        let parsed = key.parse().map(|key| GoSumDb::Key(Box::new(key)));
        parsed.map_err(|error| {
            format!("{word:?} is neither {DEFAULT_SUMDB}, nor a verifier key (name+number+key), nor off: {error}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_wins_over_the_environment_over_the_go_command() {
        let ask = |setting, environment, go: &str| goproxy_from(setting, environment, OsStr::new(go));
        let none = "/no/such/go";
        assert_eq!(ask(Some("a"), Some("b"), none).expect("a"), "a");
        assert_eq!(ask(None, Some(" b,direct "), none).expect("b"), "b,direct");
        // `echo env GOPROXY` stands in for the go command.
        assert_eq!(ask(None, Some(""), "echo").expect("echo"), "env GOPROXY");
        for failing in [none, "false", "true"] {
            let error = format!("{:#}", ask(None, None, failing).expect_err(failing));
            assert!(error.contains("set goproxy in the configuration file"), "{error}");
        }
    }

    #[test]
    fn a_host_names_a_key() {
        for (host, name) in [("a.example", "a.example"), ("my host+1\u{7f}", "my-host-1-"), (" ", "localhost")] {
            assert_eq!(name_of_host(host), name);
            assert!(crate::tlog::SignerKey::generate(name, [0; 32]).is_ok());
        }
        assert!(!default_name().is_empty());
    }

    #[test]
    fn checksum_databases_are_named_as_for_go() {
        let named: GoSumDb = "sum.golang.org".parse().expect("the known name");
        assert_eq!(named, DEFAULT_SUMDB_KEY.parse().expect("its key"));
        assert_eq!(named.to_string(), "sum.golang.org");
        assert_eq!("off".parse(), Ok(GoSumDb::Off));
        let own = "up.example+514b025a+Ab7SWg1wFDg04nVtWzvrZYqJspJIMi2dSlhXLJd2B7pg";
        assert_eq!(own.parse::<GoSumDb>().expect(own).to_string(), own);
        for bad in ["", "OFF", "sum.example", "sum.golang.org https://sum.example", "sum.golang.org+033de0ae+AAAA"] {
            assert!(bad.parse::<GoSumDb>().is_err(), "{bad}");
        }
        assert_eq!(gosumdb_from(None, None).expect("the default"), named);
        assert_eq!(gosumdb_from(None, Some("off")).expect("off"), GoSumDb::Off);
        assert_eq!(gosumdb_from(Some(&named), Some("off")).expect("the file's"), named);
        assert!(gosumdb_from(None, Some("nonsense")).is_err());
    }
}
