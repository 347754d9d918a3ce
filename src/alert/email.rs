//! Alerts as mail, to one mailbox: one mail for each event, and one that lists many when there are many.
//!
//! A receiver is a channel of its own, so that one whose server refuses mail holds up nobody else's, and nobody gets a mail
//! twice because somebody else did not get it.
//!
//! The rooms: [`server`] hands over one mail, [`letter`] writes it, [`budget`] says how many there may be.

mod budget;
mod letter;
mod server;
#[cfg(test)]
mod tests;

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use lettre::message::Mailbox;
use lettre::transport::smtp::client::Certificate;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::Told;
use budget::Budget;
use letter::Envelope;
pub use server::Server as MailServer;

/// Bytes of a file with a password, or with certificates.
const FILE_BYTES: u64 = 1 << 20;

/// The channel to one mailbox.
pub struct Email {
    name: String,
    server: MailServer,
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    envelope: Envelope,
    budget: Mutex<Budget>,
}

impl Email {
    /// To the mailbox `to`, from `from`, about the node of this name. `ca_file` has authorities that are trusted besides the
    /// usual ones. Both files are read for each mail, so that they may change.
    ///
    /// # Errors
    /// A file cannot be read, or holds something else; a password is needed and there is none, or the other way round.
    pub fn new(
        node: &str,
        server: MailServer,
        password_file: Option<PathBuf>,
        ca_file: Option<PathBuf>,
        from: &Mailbox,
        to: &Mailbox,
    ) -> anyhow::Result<Email> {
        let name = format!("email:{}", to.email);
        let envelope = Envelope { node: node.to_owned(), from: from.clone(), to: to.clone() };
        let email = Email { name, server, password_file, ca_file, envelope, budget: Mutex::default() };
        ensure!(
            email.server.wants_password() == email.password_file.is_some(),
            "a user name in the address of the mail server and a file with the password belong together"
        );
        email.password()?;
        email.server.tls(&email.roots()?)?;
        Ok(email)
    }

    /// What the outbox and the metrics call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many events go into the next mail.
    pub(super) fn batch(&self) -> usize {
        self.budget().batch(Instant::now())
    }

    /// How long to collect before the next mail.
    pub(super) fn rest(&self) -> Option<Duration> {
        self.budget().rest(Instant::now())
    }

    /// Sends what happened as one mail.
    ///
    /// # Errors
    /// The server has not taken it over, and why.
    pub(super) async fn send(&self, told: &[Told]) -> Result<(), String> {
        self.try_send(told).await.map_err(|error| format!("{error:#}"))
    }

    async fn try_send(&self, told: &[Told]) -> anyhow::Result<()> {
        let mail = match told {
            [] => return Ok(()),
            [told] => letter::letter(&self.envelope, told)?,
            told => letter::digest(&self.envelope, told)?,
        };
        let password = self.password()?;
        self.server.send(password.as_ref().map(|text| text.as_str()), &self.roots()?, &mail).await?;
        self.budget().sent(Instant::now());
        Ok(())
    }

    fn budget(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn password(&self) -> anyhow::Result<Option<Zeroizing<String>>> {
        let Some(path) = &self.password_file else {
            return Ok(None);
        };
        let text = read(path)?;
        let password = text.lines().next().unwrap_or_default();
        ensure!(!password.is_empty(), "the password file {} is empty", path.display());
        Ok(Some(Zeroizing::new(password.to_owned())))
    }

    fn roots(&self) -> anyhow::Result<Vec<Certificate>> {
        let Some(path) = &self.ca_file else {
            return Ok(Vec::new());
        };
        let text = read(path)?;
        ensure!(text.contains("-----BEGIN CERTIFICATE-----"), "{} holds no certificate as PEM", path.display());
        let roots = Certificate::from_pem(text.as_bytes());
        Ok(vec![roots.map_err(|_| anyhow::anyhow!("{} holds no certificates as PEM", path.display()))?])
    }
}

fn read(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES + 1).read_to_string(&mut text))
        .with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(text.len() as u64 <= FILE_BYTES, "{} is too large", path.display());
    Ok(text)
}
