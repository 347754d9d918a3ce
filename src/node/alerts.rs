//! Who is told: the channels of a configuration, and what messages are made from.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use jiff::Timestamp;

use super::key::read_key;
use crate::alert::{
    Author, Channel, Channels, Email, Evidence, HookLimits, Hooks, Journal, MailServer, Pace, Secret, Webhook,
    WebhookLimits,
};
use crate::config::{self, Config};
use crate::peer::Peers;
use crate::store::Store;
use crate::tally::{Names, NoEvidence, evidence};
use crate::tlog::VerifierKey;

/// The channels of a node that does not run, to try them out. Hooks get no evidence.
///
/// # Errors
/// As for one that runs.
pub fn channels(config: &Config) -> anyhow::Result<Channels> {
    let named = read_key(&config.key_file()).ok().map(|key| key.name().to_owned());
    let name = named.or_else(|| config.name.clone()).unwrap_or_else(|| "sumpeer".to_owned());
    make(config, &name, &base(config, &name, config.listen), None)
}

/// The channels of the node of this name, whose pages are at `base`. Without a store, hooks get no evidence.
///
/// # Errors
/// A secret or the folder of hooks is not to be had, or there are no TLS roots; the sentence names the setting.
pub(super) fn make(
    config: &Config,
    name: &str,
    base: &str,
    proofs: Option<(&Store, &Author)>,
) -> anyhow::Result<Channels> {
    let alerts = config.alerts.clone().unwrap_or_default();
    let mut list = vec![Channel::Journal(Journal)];
    for (number, webhook) in (1..).zip(alerts.webhook) {
        let place = || format!("alerts.webhook number {number}");
        let url = webhook.url.with_context(place)?;
        let secret = webhook.secret_file.map(|file| Secret::read(&file)).transpose();
        let secret = secret.context("secret-file").with_context(place)?;
        list.push(Channel::Webhook(Webhook::new(url, secret, WebhookLimits::default()).with_context(place)?));
    }
    if let Some(folder) = alerts.hooks_dir {
        let mut hooks = Hooks::new(&folder, HookLimits::default()).context("alerts.hooks-dir")?;
        if let Some((store, author)) = proofs {
            hooks = hooks.with_evidence(&config.data.join("alerts"), store.clone(), author.clone())?;
        }
        list.push(Channel::Hooks(hooks));
    }
    if let Some(email) = alerts.email {
        list.extend(mailboxes(&email, name).context("alerts.email")?.into_iter().map(Channel::Email));
    }
    Ok(Channels::new(list, name, base))
}

/// A channel for each receiver of mail about the node of this name.
fn mailboxes(email: &config::Email, name: &str) -> anyhow::Result<Vec<Email>> {
    let server =
        MailServer::from_url(email.server.as_ref().context("server is missing")?).map_err(anyhow::Error::msg)?;
    let from = email.from.as_ref().context("from is missing")?.parse().context("from is no mail address")?;
    let mailbox = |to: &String| {
        let to = to.parse().with_context(|| format!("{to:?} is no mail address"))?;
        Email::new(name, server.clone(), email.password_file.clone(), email.ca_file.clone(), &from, &to)
    };
    email.to.iter().map(mailbox).collect()
}

/// What messages of the node with this key are made from, which listens at `bound`.
pub(super) fn author(config: &Config, own: &VerifierKey, peers: &Peers, bound: SocketAddr) -> Author {
    let names = Names { own: own.clone(), peers: peers.clone() };
    let proven = names.clone();
    let evidence: Arc<Evidence> = Arc::new(move |reader, row| match evidence(reader, row, &proven, Timestamp::now()) {
        Ok(bundle) => Ok(Some(bundle)),
        Err(NoEvidence::NotYet(_)) => Ok(None),
        Err(NoEvidence::Failed(error)) => Err(error),
    });
    Author { name_of: Arc::new(move |vkey| names.of(vkey)), evidence, base: base(config, own.name(), bound) }
}

/// Where people find the pages of the node of this name, without a slash at the end.
fn base(config: &Config, name: &str, bound: SocketAddr) -> String {
    match config.alerts.as_ref().and_then(|alerts| alerts.url.as_ref()) {
        Some(url) => url.as_str().trim_end_matches('/').to_owned(),
        None if bound.ip().is_loopback() && config.tls.is_none() => format!("http://{bound}"),
        // As its peers find it, unless they are told otherwise.
        None => format!("https://{name}"),
    }
}

pub(super) fn pace(config: &Config) -> Pace {
    let alerts = config.alerts.clone().unwrap_or_default();
    let longest = alerts.longest_retry.duration();
    Pace { longest, ..Pace::default() }
}
