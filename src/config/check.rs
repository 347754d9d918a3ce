//! What a file can say in good TOML and yet cannot mean.

use std::collections::HashSet;

use lettre::message::Mailbox;

use super::{Acme, Config, Email, Heartbeat, Mode, Peer, Period, Size, Tls};
use crate::alert::MailServer;
use crate::model::GoRange;
use crate::tlog::VerifierKey;

/// The smallest memory that the Go linker gets by with.
const LEAST_BUILD_MEMORY: Size = Size::from_mib(256);

/// More often than this nothing is tried again.
const LEAST_RETRY: Period = Period::from_secs(1);

/// More often than this peers are not polled.
const LEAST_POLL_INTERVAL: Period = Period::from_secs(1);

impl Config {
    /// Everything that is wrong with the settings, a sentence each.
    pub(super) fn check(&self) -> Vec<String> {
        let mut errors = Vec::new();
        let mut refuse = |wrong: bool, sentence: &str| {
            if wrong {
                errors.push(sentence.to_owned());
            }
        };
        if let Some(name) = &self.name {
            let bad = name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+');
            refuse(bad, &format!("name: {name:?} cannot name a key: it must not be empty, nor hold spaces or +"));
        }
        refuse(self.data.as_os_str().is_empty(), "data: it is empty; name a folder");
        refuse(
            self.key_file.as_ref().is_some_and(|file| file.as_os_str().is_empty()),
            "key-file: it is empty; name a file",
        );
        refuse(
            self.listen == self.admin_listen && self.listen.port() != 0,
            &format!("admin-listen: {} is already taken by listen", self.admin_listen),
        );
        refuse(
            self.goproxy.as_ref().is_some_and(|list| list.trim().is_empty()),
            "goproxy: it is empty; name a module proxy or leave the setting out",
        );
        refuse(
            !self.go_versions().contains(&self.oldest_go),
            &format!("newest-go: it is older than oldest-go, {}", self.oldest_go),
        );
        refuse(self.lookup_wait.is_zero(), "lookup-wait: it must be longer than no time");
        refuse(
            self.poll_interval < LEAST_POLL_INTERVAL,
            &format!("poll-interval: it must be at least {LEAST_POLL_INTERVAL}"),
        );
        refuse(self.recheck.is_empty(), "recheck: it must name at least one pause");
        refuse(self.stream_max_age < Period::from_mins(1), "stream-max-age: it must be at least 1m");
        refuse(self.build_limits.time.is_zero(), "build-limits.time: it must be longer than no time");
        refuse(
            self.build_limits.memory < LEAST_BUILD_MEMORY,
            &format!("build-limits.memory: the Go linker needs at least {LEAST_BUILD_MEMORY}"),
        );
        refuse(self.build_limits.binary.bytes() == 0, "build-limits.binary: it must be larger than nothing");
        refuse(
            self.binary_cache < self.build_limits.binary,
            "binary-cache: it must hold at least one binary of build-limits.binary",
        );
        refuse(
            !self.watch.is_empty() && self.index.is_none(),
            "watch: set index, too: the address of a module index in which new versions appear",
        );
        refuse(
            !self.watch.is_empty() && self.mode == Mode::VerifyOnly,
            "watch: a verify-only node builds nothing; leave the setting out",
        );
        if let Some(index) = self.index.as_ref().filter(|index| !is_http(index)) {
            refuse(true, &format!("index: {index} is not an address of http or https"));
        }
        self.check_tls(&mut errors);
        self.check_alerts(&mut errors);
        self.check_peers(&mut errors);
        self.check_audit(&mut errors);
        errors
    }

    /// Whether one of the peers is this node itself, whose key is `own`: it would agree with itself.
    ///
    /// # Errors
    ///
    /// A sentence that names the peer.
    pub fn check_own_key(&self, own: &VerifierKey) -> Result<(), String> {
        match self.peer.iter().find(|peer| peer.key.as_ref() == Some(own)) {
            None => Ok(()),
            Some(peer) => Err(format!("peer {}: its key is this node's own", peer.shown_name())),
        }
    }

    fn check_tls(&self, errors: &mut Vec<String>) {
        let Some(Tls { acme, cert, key }) = &self.tls else {
            return;
        };
        match (acme, cert, key) {
            (None, Some(_), Some(_)) => {}
            (Some(Acme { domains, .. }), None, None) if domains.is_empty() => {
                errors.push("tls.acme.domains: name at least one host".to_owned());
            }
            (Some(Acme { directory, contact, .. }), None, None) => {
                // What is signed there must not be changed on the way, nor who answers.
                if let Some(url) = directory.as_ref().filter(|url| url.scheme() != "https") {
                    errors.push(format!("tls.acme.directory: {url} is not an address of https"));
                }
                if let Some(contact) = contact.as_ref().filter(|contact| !contact.contains(':')) {
                    errors.push(format!("tls.acme.contact: {contact:?} is no address; write mailto:{contact}"));
                }
            }
            (None, None, None) => errors.push("tls: set acme, or cert and key".to_owned()),
            (Some(_), ..) => errors.push("tls: set either acme, or cert and key, not both".to_owned()),
            (None, ..) => errors.push("tls: cert and key belong together".to_owned()),
        }
    }

    fn check_alerts(&self, errors: &mut Vec<String>) {
        let Some(alerts) = &self.alerts else { return };
        if alerts.peer_silence < self.poll_interval {
            errors.push("alerts.peer-silence: it must not be shorter than poll-interval".to_owned());
        }
        if alerts.longest_retry < LEAST_RETRY {
            errors.push(format!("alerts.longest-retry: it must be at least {LEAST_RETRY}"));
        }
        if let Some(url) = alerts.url.as_ref().filter(|url| !is_http(url)) {
            errors.push(format!("alerts.url: {url} is not an address of http or https"));
        }
        if alerts.hooks_dir.as_ref().is_some_and(|folder| folder.as_os_str().is_empty()) {
            errors.push("alerts.hooks-dir: it is empty; name a folder".to_owned());
        }
        let mut urls = HashSet::new();
        for (number, webhook) in (1..).zip(&alerts.webhook) {
            match &webhook.url {
                None => errors.push(format!("alerts.webhook number {number}: url is missing")),
                Some(url) if !is_http(url) => {
                    errors.push(format!("alerts.webhook number {number}: {url} is not an address of http or https"));
                }
                Some(url) if !urls.insert(url) => {
                    errors.push(format!("alerts.webhook number {number}: another one has the same url"));
                }
                Some(_) => {}
            }
        }
        if let Some(Heartbeat { url, every }) = &alerts.heartbeat {
            match url {
                None => errors.push("alerts.heartbeat: url is missing".to_owned()),
                Some(url) if !is_http(url) => {
                    errors.push(format!("alerts.heartbeat: {url} is not an address of http or https"));
                }
                Some(_) => {}
            }
            if every.is_zero() {
                errors.push("alerts.heartbeat: every must not be zero".to_owned());
            }
        }
        if let Some(email) = &alerts.email {
            errors.extend(check_email(email));
        }
    }

    fn check_peers(&self, errors: &mut Vec<String>) {
        let (mut names, mut keys) = (HashSet::new(), HashSet::new());
        for (number, peer) in (1..).zip(&self.peer) {
            let Peer { key, url, name, .. } = peer;
            let shown = match (name, key) {
                (None, None) => format!("peer number {number}"),
                _ => format!("peer {}", peer.shown_name()),
            };
            match key {
                None => errors.push(format!("{shown}: key is missing")),
                Some(key) if !keys.insert(key) => {
                    errors.push(format!("{shown}: another peer has the same key"));
                }
                Some(_) => {}
            }
            if name.as_ref().is_some_and(|name| name.trim().is_empty()) {
                errors.push(format!("peer number {number}: name is empty"));
            } else if (name.is_some() || key.is_some()) && !names.insert(peer.shown_name()) {
                errors.push(format!("{shown}: another peer has the same name"));
            }
            if let Some(url) = url.as_ref().filter(|url| !is_http(url)) {
                errors.push(format!("{shown}: {url} is not an address of http or https"));
            }
        }
        if self.mode == Mode::VerifyOnly && !self.peer.iter().any(|peer| peer.vote) {
            errors.push("mode: a verify-only node needs a peer that votes, else nobody has a word".to_owned());
        }
    }

    fn check_audit(&self, errors: &mut Vec<String>) {
        let Some(audit) = &self.audit else { return };
        if !(0.0..=1.0).contains(&audit.sample) {
            errors.push(format!("audit.sample: {} is not between 0 and 1", audit.sample));
        }
        let range = GoRange { oldest: audit.oldest_go, newest: audit.newest_go };
        if audit.oldest_go.is_some_and(|oldest| !range.contains(&oldest)) {
            errors.push("audit.newest-go: it is older than audit.oldest-go".to_owned());
        }
        if self.mode == Mode::VerifyOnly {
            errors.push("audit: a verify-only node builds nothing again; leave the table out".to_owned());
        }
        for name in &audit.peers {
            match self.peer.iter().find(|peer| peer.shown_name() == name) {
                None => errors.push(format!("audit.peers: there is no peer {name:?}")),
                Some(peer) if peer.vote => {
                    errors.push(format!("audit.peers: {name} votes, so all that it claims is built anyway"));
                }
                Some(_) => {}
            }
        }
    }
}

fn is_http(url: &url::Url) -> bool {
    matches!(url.scheme(), "http" | "https") && url.has_host()
}

fn check_email(email: &Email) -> Vec<String> {
    let Email { server, password_file, ca_file: _, from, to } = email;
    let mut errors = Vec::new();
    let missing = [("server", server.is_none()), ("from", from.is_none()), ("to", to.is_empty())];
    let missing = missing.iter().filter(|(_, missing)| *missing);
    errors.extend(missing.map(|(name, _)| format!("alerts.email: {name} is missing")));
    match server.as_ref().map(MailServer::from_url) {
        Some(Err(why)) => errors.push(format!("alerts.email.server: {why}")),
        Some(Ok(server)) if server.wants_password() != password_file.is_some() => errors
            .push("alerts.email: a user name in server and password-file belong together; set both or none".to_owned()),
        _ => {}
    }
    let mut known = HashSet::new();
    for (name, text) in from.iter().map(|text| ("from", text)).chain(to.iter().map(|text| ("to", text))) {
        match text.parse::<Mailbox>() {
            Err(_) => errors.push(format!("alerts.email.{name}: {text:?} is no mail address")),
            // Not every server on the way takes others.
            Ok(mailbox) if !mailbox.email.to_string().is_ascii() => {
                errors.push(format!("alerts.email.{name}: the address in {text:?} is not ASCII"));
            }
            Ok(mailbox) if name == "to" && !known.insert(mailbox.email.to_string()) => {
                errors.push(format!("alerts.email.to: {text:?} is there twice"));
            }
            Ok(_) => {}
        }
    }
    errors
}
