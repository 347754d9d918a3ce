//! The configuration: one TOML file, read once, checked as a whole.
//!
//! Every setting has a default, so that no file at all is a node of its own. `peers.example.toml` shows them
//! all. [`Config::load`] reads; [`Config::differences`] tells what a reload can change. What depends on the environment or on running the
//! go command is worked out apart from that, by [`goproxy`], [`gosumdb`] and [`default_name`].
//!
//! Out of scope: acting on any of it. Only the node and the command line see this module.

mod check;
mod differences;
mod goenv;
mod parse;
mod tables;
mod units;

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use url::Url;

pub use differences::Differences;
pub use goenv::{DEFAULT_SUMDB, GoSumDb, default_name, goproxy, goproxy_if_named, gosumdb};
pub use tables::{Acme, Alerts, Audit, BuildLimits, Email, Heartbeat, Limits, Peer, PeerKind, Tls, Webhook};
pub use units::{Period, Size};

use crate::model::{GoRange, GoVersion, ModulePath};

/// The example file, which shows every setting.
pub const EXAMPLE: &str = include_str!("../peers.example.toml");

/// All settings of a node. Relative paths count from the folder that the node is started in.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Config {
    /// The node's name, which is its key's; none: what the key file says, or at first start the host's.
    pub name: Option<String>,
    /// Where everything is kept.
    pub data: PathBuf,
    /// The node's key; see [`Config::key_file`].
    pub key_file: Option<PathBuf>,
    /// Where the public pages are served.
    pub listen: SocketAddr,
    /// Where metrics and actions are served.
    pub admin_listen: SocketAddr,
    /// Whether to build at all.
    pub mode: Mode,
    /// Module proxies in Go's syntax; [`goproxy`] works out the default.
    pub goproxy: Option<String>,
    /// The checksum database in Go's syntax; [`gosumdb`] works out the default.
    #[serde(with = "optional_text")]
    pub gosumdb: Option<GoSumDb>,
    /// The oldest Go that is built with; see [`Config::go_versions`].
    pub oldest_go: GoVersion,
    /// The newest Go that is built with.
    pub newest_go: Option<GoVersion>,
    /// Builds at one time; see [`Config::max_builds`].
    pub max_builds: Option<NonZeroUsize>,
    /// The walls around a build.
    pub sandbox: Sandbox,
    /// What binaries may take on disk before the least recently served ones go.
    pub binary_cache: Size,
    /// How long a lookup waits for voters.
    pub lookup_wait: Period,
    /// How often peers are asked for their heads.
    pub poll_interval: Period,
    /// The pauses before a root that does not come out is held against a peer.
    pub recheck: Vec<Period>,
    /// How long a stream lives at most.
    pub stream_max_age: Period,
    /// Networks whose forwarded addresses are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Modules whose new versions are built unasked.
    pub watch: Vec<ModulePath>,
    /// The module index in which they appear.
    #[serde(with = "optional_text")]
    pub index: Option<Url>,
    /// What the operator has to say, for the home page.
    pub notes: String,
    /// What a build may use.
    pub build_limits: BuildLimits,
    /// What clients may use.
    pub limits: Limits,
    /// Certificates.
    pub tls: Option<Tls>,
    /// Who is told of divergences.
    pub alerts: Option<Alerts>,
    /// What to rebuild of observed peers.
    pub audit: Option<Audit>,
    /// The other nodes.
    pub peer: Vec<Peer>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            name: None,
            data: PathBuf::from("./data"),
            key_file: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 8000)),
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 8001)),
            mode: Mode::Build,
            goproxy: None,
            gosumdb: None,
            oldest_go: "go1.13".parse().expect("the default is a Go version"),
            newest_go: None,
            max_builds: None,
            sandbox: Sandbox::Auto,
            binary_cache: Size::from_gib(20),
            lookup_wait: Period::from_mins(10),
            poll_interval: Period::from_mins(1),
            recheck: vec![Period::from_mins(1), Period::from_mins(10)],
            stream_max_age: Period::from_mins(30),
            trusted_proxies: Vec::new(),
            watch: Vec::new(),
            index: None,
            notes: String::new(),
            build_limits: BuildLimits::default(),
            limits: Limits::default(),
            tls: None,
            alerts: None,
            audit: None,
            peer: Vec::new(),
        }
    }
}

impl Config {
    /// Reads the configuration file at `path`, or takes the defaults without one; puts what the command line
    /// says in the place of what the file says; checks the whole.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, not only the first thing.
    pub fn load(path: Option<&Path>, overrides: Overrides) -> Result<Config, ConfigErrors> {
        let text = match path {
            None => String::new(),
            Some(path) => read(path)?,
        };
        let (mut config, mut errors) = parse::parse(&text);
        overrides.apply(&mut config);
        errors.extend(config.check());
        if errors.is_empty() { Ok(config) } else { Err(ConfigErrors(errors)) }
    }

    /// The file with the node's key: by default `key` in the data folder.
    pub fn key_file(&self) -> PathBuf {
        self.key_file.clone().unwrap_or_else(|| self.data.join("key"))
    }

    /// The Go versions that are built with.
    pub fn go_versions(&self) -> GoRange {
        GoRange { oldest: Some(self.oldest_go), newest: self.newest_go }
    }

    /// Builds at one time: by default one a processor.
    pub fn max_builds(&self) -> NonZeroUsize {
        let processors = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        self.max_builds.unwrap_or_else(processors)
    }
}

/// Whether a node builds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It builds, claims and votes.
    #[default]
    Build,
    /// It only follows its voters and serves what they agree on.
    VerifyOnly,
}

impl Mode {
    /// As the file and the API spell it.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Build => "build",
            Mode::VerifyOnly => "verify-only",
        }
    }
}

/// The walls around a build.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sandbox {
    /// The best that this machine can do; no build if it can do none.
    #[default]
    Auto,
    /// Bubblewrap or nothing.
    Bwrap,
    /// Landlock and seccomp or nothing.
    Landlock,
    /// No walls: builds run like any program of the node's user.
    None,
}

/// What the command line says in the place of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--data`
    pub data: Option<PathBuf>,
    /// `--listen`
    pub listen: Option<SocketAddr>,
    /// `--admin-listen`
    pub admin_listen: Option<SocketAddr>,
}

impl Overrides {
    fn apply(self, config: &mut Config) {
        let Overrides { data, listen, admin_listen } = self;
        config.data = data.unwrap_or_else(|| config.data.clone());
        config.listen = listen.unwrap_or(config.listen);
        config.admin_listen = admin_listen.unwrap_or(config.admin_listen);
    }
}

/// Everything that is wrong with a configuration, a text of one or more lines each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<String>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for ConfigErrors {}

/// A file larger than this is no configuration.
const MAX_FILE_BYTES: u64 = 1 << 20;

fn read(path: &Path) -> Result<String, ConfigErrors> {
    use std::io::Read;

    let failed = |why: String| ConfigErrors(vec![format!("cannot read {}: {why}", path.display())]);
    let file = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
    let mut text = String::new();
    let mut limited = file.take(MAX_FILE_BYTES + 1);
    limited.read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(failed(format!("it has more than {MAX_FILE_BYTES} bytes")));
    }
    Ok(text)
}

/// Serde of values that have a text form but no serde of their own.
mod optional_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
        value.as_ref().map(T::to_string).serialize(to)
    }

    pub(super) fn deserialize<'de, T, D>(from: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let text = String::deserialize(from)?;
        text.parse().map(Some).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;
