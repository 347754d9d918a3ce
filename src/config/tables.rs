//! The tables of the configuration file, each with its defaults.

use std::num::NonZeroU32;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use url::Url;

use super::optional_text;
use super::units::{Period, Size};
use crate::audit::TargetPattern;
use crate::model::GoVersion;
use crate::store::AuditOrder;
use crate::tlog::VerifierKey;

/// `[build-limits]`: what a single build may use.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct BuildLimits {
    /// Wall-clock time.
    pub time: Period,
    /// Memory of all its processes together.
    pub memory: Size,
    /// What is kept of its output; the rest is read and dropped.
    pub output: Size,
    /// The size of the binary.
    pub binary: Size,
}

impl Default for BuildLimits {
    fn default() -> BuildLimits {
        BuildLimits {
            time: Period::from_mins(20),
            memory: Size::from_gib(4),
            output: Size::from_mib(1),
            binary: Size::from_mib(512),
        }
    }
}

/// `[limits]`: what clients may use.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Limits {
    /// Open connections in all; one more is closed at once.
    pub max_connections: NonZeroU32,
    /// Open streams in all.
    pub max_streams: NonZeroU32,
    /// Open streams of one subnet.
    pub max_streams_per_subnet: NonZeroU32,
    /// Requests that one subnet may make in a second.
    pub requests_per_second: NonZeroU32,
    /// Builds that one subnet may start in an hour.
    pub build_starts_per_hour: NonZeroU32,
    /// Networks for which the limits per subnet do not hold.
    pub exempt: Vec<IpNet>,
}

impl Default for Limits {
    fn default() -> Limits {
        let number = |number| NonZeroU32::new(number).expect("the defaults are not zero");
        let network = |text: &str| text.parse().expect("the defaults are networks");
        Limits {
            max_connections: number(20_000),
            max_streams: number(10_000),
            max_streams_per_subnet: number(256),
            requests_per_second: number(50),
            build_starts_per_hour: number(60),
            exempt: vec![network("127.0.0.0/8"), network("::1/128")],
        }
    }
}

/// `[tls]`: certificates from an authority, or from files.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Tls {
    /// Certificates that the node gets by itself.
    pub acme: Option<Acme>,
    /// A file with the certificate chain.
    pub cert: Option<PathBuf>,
    /// A file with its private key.
    pub key: Option<PathBuf>,
}

/// `[tls.acme]`: which certificates to ask an authority for.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Acme {
    /// The host names of this node.
    pub domains: Vec<String>,
    /// Where the authority may write to: an address like `mailto:admin@example.org`.
    pub contact: Option<String>,
    /// The address of the authority; none: Let's Encrypt.
    #[serde(with = "optional_text")]
    pub directory: Option<Url>,
}

/// `[alerts]`: who is told of divergences and silences.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Alerts {
    /// A folder of programs that are run for each alert.
    pub hooks_dir: Option<PathBuf>,
    /// How long a peer may be silent.
    pub peer_silence: Period,
    /// Where people find the pages of this node; by default where it listens if that is loopback, else `https://` and its
    /// name.
    #[serde(with = "optional_text")]
    pub url: Option<Url>,
    /// The longest pause before a channel that failed is tried again.
    pub longest_retry: Period,
    /// Addresses that are sent each alert.
    pub webhook: Vec<Webhook>,
    /// People who are sent each alert.
    pub email: Option<Email>,
    /// An address that is asked while all is well.
    pub heartbeat: Option<Heartbeat>,
}

impl Default for Alerts {
    fn default() -> Alerts {
        Alerts {
            hooks_dir: None,
            peer_silence: Period::from_mins(60),
            url: None,
            longest_retry: Period::from_mins(5),
            webhook: Vec::new(),
            email: None,
            heartbeat: None,
        }
    }
}

/// `[[alerts.webhook]]`: an address that takes alerts by the Standard Webhooks text.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Webhook {
    /// Where to send.
    #[serde(with = "optional_text")]
    pub url: Option<Url>,
    /// A file with the secret that signs, `whsec_…`. None: no signature.
    pub secret_file: Option<PathBuf>,
}

/// `[alerts.email]`: a mail server and who gets its mail.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Email {
    /// The mail server, like `smtps://user@mail.example.org`.
    #[serde(with = "optional_text")]
    pub server: Option<Url>,
    /// A file with the password.
    pub password_file: Option<PathBuf>,
    /// A file with certificates, as PEM, of authorities that are trusted besides the usual ones.
    pub ca_file: Option<PathBuf>,
    /// The sender.
    pub from: Option<String>,
    /// The receivers.
    pub to: Vec<String>,
}

/// `[alerts.heartbeat]`: an address that somebody watches, and that is asked every now and then while all is well.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Heartbeat {
    /// The address. Needed.
    #[serde(with = "optional_text")]
    pub url: Option<Url>,
    /// How often.
    pub every: Period,
}

impl Default for Heartbeat {
    fn default() -> Heartbeat {
        Heartbeat { url: None, every: Period::from_mins(5) }
    }
}

/// `[audit]`: what to build again of peers that do not vote.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Audit {
    /// The part of their records that is built again, from 0 to 1.
    pub sample: f64,
    /// Which come first.
    pub order: AuditOrder,
    /// The oldest Go whose records are built again.
    pub oldest_go: Option<GoVersion>,
    /// The newest one.
    pub newest_go: Option<GoVersion>,
    /// Targets whose records are built again; empty: all.
    pub targets: Vec<TargetPattern>,
    /// Builds in a day, at most; none: as many as come.
    pub max_per_day: Option<NonZeroU32>,
    /// Whether what was in their logs before this node first followed them counts.
    pub history: bool,
    /// Names of the peers; empty: all that are only observed.
    pub peers: Vec<String>,
    /// The first entry that counts, whatever `history` says. Only the command line sets it.
    #[serde(skip)]
    pub from: Option<u64>,
    /// How many entries, at most. Only the command line sets it.
    #[serde(skip)]
    pub limit: Option<u64>,
}

impl Default for Audit {
    fn default() -> Audit {
        Audit {
            sample: 1.0,
            order: AuditOrder::NewestFirst,
            oldest_go: None,
            newest_go: None,
            targets: Vec::new(),
            max_per_day: None,
            history: false,
            peers: Vec::new(),
            from: None,
            limit: None,
        }
    }
}

/// `[[peer]]`: another node.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Peer {
    /// What it is called here; the key's name if none is given.
    pub name: Option<String>,
    /// Its verifier key. Needed.
    #[serde(with = "optional_text")]
    pub key: Option<VerifierKey>,
    /// Where it is; `https://` and the key's name if none is given.
    #[serde(with = "optional_text")]
    pub url: Option<Url>,
    /// What program it runs.
    pub kind: PeerKind,
    /// Whether its word is needed for a record; otherwise it is only observed.
    pub vote: bool,
    /// Whether to build what it claims; as `vote` if not given.
    pub build_on_claim: Option<bool>,
}

impl Default for Peer {
    fn default() -> Peer {
        Peer { name: None, key: None, url: None, kind: PeerKind::Auto, vote: true, build_on_claim: None }
    }
}

impl Peer {
    /// What to call it in messages, whatever it lacks.
    pub fn shown_name(&self) -> &str {
        let key_name = || self.key.as_ref().map_or("(no name)", VerifierKey::name);
        self.name.as_deref().unwrap_or_else(key_name)
    }
}

/// What program a peer runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeerKind {
    /// To be found out.
    #[default]
    Auto,
    /// This one.
    Sumpeer,
    /// Upstream's.
    Gobuild,
}
