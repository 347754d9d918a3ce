//! Telling people what they have to look at: stored first, then delivered until it is acknowledged.
//!
//! ```text
//! raise, end ─▶ alert, event, a row of the outbox a channel          (one transaction of the store)
//!                 └─ commit ─▶ wakes a task a channel ─▶ message ─▶ deliver ─┬─ acknowledged ─▶ row gone ─▶ next
//!                                                          ▲                 └─ failed ─▶ row put off
//!                                                          └────────────────────────────────────┘
//! ```
//!
//! Delivery is at least once: only a committed row ends it. The same event has the same `uid` at every try, so a receiver
//! that was told just before this node died can know it. One channel's outage holds up no other; within a channel no
//! event overtakes an earlier one about the same spec or party.
//!
//! Beside the channels there are the feed, which is read from the alerts themselves; a heartbeat, for when nothing can be
//! told any more; and the watch over the disk, the one condition of this machine.
//!
//! Out of scope: what else is worth an alert (whoever raises it).
//!
//! # Adding a channel
//! A file here with a type that has a name and sends what it is told, a variant of [`Channel`], an arm in each of its
//! functions, and a few lines in `crate::node` that make it from the configuration. Names are of the operator's making
//! and stay the same over restarts, because rows of the outbox name them: a channel whose name has changed is a new one,
//! that is told nothing old. Sending ends by itself: it has a time limit of its own. Waiting, repeating, keeping order and
//! counting are done by [`outbox`] for all of them.

mod advice;
mod disk;
mod email;
mod feed;
mod heartbeat;
mod hooks;
mod journal;
mod message;
mod outbox;
mod webhook;

pub use advice::Advice;
pub use disk::Disk;
pub use email::{Email, MailServer};
pub use feed::{ENTRIES, KINDS, feed};
pub use heartbeat::Heartbeat;
pub use hooks::{HookLimits, Hooks};
pub use journal::Journal;
pub use message::{Author, Evidence, Message, Word};
pub use outbox::{Office, Pace};
pub use webhook::{Secret, Webhook, WebhookLimits};

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::store::Store;
use crate::tasks::Tasks;
use message::Told;

/// A way to tell somebody.
pub enum Channel {
    /// This program's own log.
    Journal(Journal),
    /// An address that takes JSON.
    Webhook(Webhook),
    /// Programs of the operator.
    Hooks(Hooks),
    /// The mailbox of one person.
    Email(Email),
}

impl Channel {
    /// What the outbox and the metrics call it.
    pub fn name(&self) -> &str {
        match self {
            Channel::Journal(_) => Journal::NAME,
            Channel::Webhook(webhook) => webhook.name(),
            Channel::Hooks(_) => Hooks::NAME,
            Channel::Email(email) => email.name(),
        }
    }

    /// How many events it takes at one time. More than one: it is given what is pending, oldest first, up to so many.
    fn batch(&self) -> usize {
        match self {
            Channel::Journal(_) => Journal::BATCH,
            Channel::Webhook(_) | Channel::Hooks(_) => 1,
            Channel::Email(email) => email.batch(),
        }
    }

    /// How long it is told nothing, of its own accord.
    fn rest(&self) -> Option<Duration> {
        match self {
            Channel::Journal(_) | Channel::Webhook(_) | Channel::Hooks(_) => None,
            Channel::Email(email) => email.rest(),
        }
    }

    /// Tells some events, in order. They are acknowledged, or fail, together.
    ///
    /// # Errors
    /// A sentence for the operator. All of them are tried again.
    async fn deliver(&self, told: &[Told]) -> Result<(), String> {
        match self {
            Channel::Journal(journal) => {
                journal.write(told);
                Ok(())
            }
            Channel::Webhook(webhook) => {
                for told in told {
                    webhook.send(told).await?;
                }
                Ok(())
            }
            // Their own task knows better: there each program is told by itself.
            Channel::Hooks(hooks) => {
                for told in told {
                    hooks.run_all(told).await.into_iter().try_for_each(|(_, ended)| ended)?;
                }
                Ok(())
            }
            Channel::Email(email) => email.send(told).await,
        }
    }
}

/// All channels of a node. Cloning gives another handle.
#[derive(Clone)]
pub struct Channels {
    list: Arc<Vec<Channel>>,
    /// A message that asks for nothing, but for its time.
    test: Message,
}

impl Channels {
    /// Those of the node of this name, whose pages are at `base`.
    pub fn new(list: Vec<Channel>, node: &str, base: &str) -> Channels {
        Channels { list: Arc::new(list), test: Message::test(node, base) }
    }

    /// Has the store put what happens from now on before these channels. What is left of others is dropped, and said.
    ///
    /// # Errors
    /// The store failed.
    pub async fn open(&self, store: &Store) -> anyhow::Result<()> {
        let names: Vec<String> = self.list.iter().map(|channel| channel.name().to_owned()).collect();
        let runs_hooks = self.list.iter().any(|channel| matches!(channel, Channel::Hooks(_)));
        let dropped = store.write(move |tx| {
            let families: &[&str] = if runs_hooks { &[Hooks::FAMILY] } else { &[] };
            tx.set_channels(&names, families)
        });
        for (channel, alerts) in dropped.await? {
            warn!(
                channel,
                alerts, "a channel is not configured any more: alerts that it has yet to be told are dropped"
            );
        }
        Ok(())
    }

    /// Starts a task for each.
    pub fn spawn(&self, office: &Office, tasks: &mut Tasks, stop: &CancellationToken) {
        for index in 0..self.list.len() {
            let (list, office, stop) = (self.list.clone(), office.clone(), stop.clone());
            tasks.spawn("alerts", async move {
                match &list[index] {
                    Channel::Hooks(hooks) => hooks.run(&office, &stop).await,
                    channel => outbox::run(channel, &office, &stop).await,
                }
            });
        }
    }

    /// Sends a test through each channel at once, past the outbox, and tells how each went, by name. Each program that a
    /// channel runs stands for itself.
    pub async fn test(&self) -> Vec<(String, Result<(), String>)> {
        let told = &Told::test(self.test.clone(), Timestamp::now());
        let results = self.list.iter().map(|channel| async move {
            match channel {
                Channel::Hooks(hooks) => hooks.run_all(told).await,
                channel => vec![(channel.name().to_owned(), channel.deliver(std::slice::from_ref(told)).await)],
            }
        });
        futures_util::future::join_all(results).await.into_iter().flatten().collect()
    }
}
