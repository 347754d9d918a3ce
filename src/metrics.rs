//! Counters and gauges of the node, in OpenMetrics form.
//!
//! Labels never carry a spec, a path or anything else that strangers choose: their number is
//! fixed by this file, and by how many peers the operator has configured. Names begin with `sumpeer_`.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// One label with a value from a fixed set.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Label {
    /// What is counted apart: a log, an outcome, a class of status.
    pub kind: &'static str,
}

/// The label of one peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PeerLabel {
    /// As the operator calls it.
    pub peer: String,
}

/// The label of one peer in one state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PeerState {
    /// As the operator calls it.
    pub peer: String,
    /// What its follower does, or what came of its records.
    pub state: &'static str,
}

/// The label of one peer and one kind of its words.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PeerKind {
    /// As the operator calls it.
    pub peer: String,
    /// What is counted apart.
    pub kind: &'static str,
}

/// The label of one channel of alerts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ChannelLabel {
    /// As the outbox calls it.
    pub channel: String,
}

/// The label of one channel of alerts and how a delivery ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ChannelKind {
    /// As the outbox calls it.
    pub channel: String,
    /// What is counted apart.
    pub kind: &'static str,
}

/// What the node counts. Cloning gives another handle to the same numbers.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// Entries in each log (`accepted`, `claims`).
    pub log_size: Family<Label, Gauge>,
    /// Transactions committed by the writer thread.
    pub commits: Counter,
    /// Jobs that took part in those transactions.
    pub jobs: Counter,
    /// Builds by how they ended (`built`, `cannot-build`, `not-found`, `temporary`).
    pub builds: Family<Label, Counter>,
    /// How long builds took, from start to report.
    pub build_seconds: Histogram,
    /// Specs that wait for a builder.
    pub queued: Gauge,
    /// Builds that run now.
    pub running: Gauge,
    /// Requests by class of status (`2xx`, `3xx`, `4xx`, `5xx`).
    pub requests: Family<Label, Counter>,
    /// Connections open now.
    pub connections: Gauge,
    /// Requests refused by a limit (`connections`, `requests`, `builds`, `streams`).
    pub refused: Family<Label, Counter>,
    /// Streams of a log that are open now (`accepted`, `claims`).
    pub streams: Family<Label, Gauge>,
    /// Streams asked for from beyond the end of a log (`accepted`, `claims`): the client has seen more than there is.
    pub ahead: Family<Label, Counter>,
    /// Bytes of binaries kept on disk, compressed.
    pub binary_bytes: Gauge,
    /// Entries of a peer's log that are proven and stored.
    pub peer_verified: Family<PeerLabel, Gauge>,
    /// Entries that its signed head is ahead of those.
    pub peer_lag: Family<PeerLabel, Gauge>,
    /// 1 for the state that a peer's follower is in.
    pub peer_state: Family<PeerState, Gauge>,
    /// Gaps and repeats in a peer's streams.
    pub peer_gaps: Family<PeerLabel, Counter>,
    /// Streams of a peer that ended.
    pub peer_reconnects: Family<PeerLabel, Counter>,
    /// Specs by how a peer's word on them stands to ours (`agree`, `differ`, `missing`, `cannot-build`).
    pub peer_words: Family<PeerKind, Gauge>,
    /// When a peer's head was seen last, in Unix seconds.
    pub peer_head_time: Family<PeerLabel, Gauge>,
    /// Divergences that nobody has settled.
    pub divergences_open: Gauge,
    /// Until when the certificate of the public listener is good, in Unix seconds; 0 without one.
    pub certificate_expiry: Gauge,
    /// Alerts that hold.
    pub alerts_open: Gauge,
    /// Alerts that a channel has yet to be told.
    pub alerts_pending: Family<ChannelLabel, Gauge>,
    /// When the oldest of those happened, in Unix seconds.
    pub alerts_since: Family<ChannelLabel, Gauge>,
    /// Deliveries by how they ended (`delivered`, `failed`, `given-up`).
    pub alerts_sent: Family<ChannelKind, Counter>,
    /// Chosen entries of an audited peer's log by what came of them.
    pub audit_records: Family<PeerState, Gauge>,
    /// Entries of an audited peer's log that were looked at.
    pub audit_entries: Family<PeerLabel, Gauge>,
    /// Builds for audits that were begun on this day (UTC).
    pub audit_builds_today: Gauge,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Metrics {
        let mut registry = Registry::with_prefix("sumpeer");
        let metrics = Metrics {
            registry: Arc::default(),
            log_size: Family::default(),
            commits: Counter::default(),
            jobs: Counter::default(),
            builds: Family::default(),
            // From a cached hello of half a second to the longest build allowed.
            build_seconds: Histogram::new(exponential_buckets(0.5, 2.0, 13)),
            queued: Gauge::default(),
            running: Gauge::default(),
            requests: Family::default(),
            connections: Gauge::default(),
            refused: Family::default(),
            streams: Family::default(),
            ahead: Family::default(),
            binary_bytes: Gauge::default(),
            peer_verified: Family::default(),
            peer_lag: Family::default(),
            peer_state: Family::default(),
            peer_gaps: Family::default(),
            peer_reconnects: Family::default(),
            peer_words: Family::default(),
            peer_head_time: Family::default(),
            divergences_open: Gauge::default(),
            certificate_expiry: Gauge::default(),
            alerts_open: Gauge::default(),
            alerts_pending: Family::default(),
            alerts_since: Family::default(),
            alerts_sent: Family::default(),
            audit_records: Family::default(),
            audit_entries: Family::default(),
            audit_builds_today: Gauge::default(),
        };
        registry.register("log_size", "Entries in each log", metrics.log_size.clone());
        registry.register("commits", "Transactions committed", metrics.commits.clone());
        registry.register("jobs", "Jobs that took part in transactions", metrics.jobs.clone());
        registry.register("builds", "Builds by how they ended", metrics.builds.clone());
        registry.register_with_unit("build", "How long builds took", Unit::Seconds, metrics.build_seconds.clone());
        registry.register("queued_builds", "Specs that wait for a builder", metrics.queued.clone());
        registry.register("running_builds", "Builds that run now", metrics.running.clone());
        registry.register("requests", "Requests by class of status", metrics.requests.clone());
        registry.register("connections", "Connections open now", metrics.connections.clone());
        registry.register("refused", "Requests refused by a limit", metrics.refused.clone());
        registry.register("streams", "Streams of a log open now", metrics.streams.clone());
        registry.register("streams_ahead", "Streams asked for from beyond a log's end", metrics.ahead.clone());
        registry.register_with_unit(
            "binaries",
            "Binaries kept on disk, compressed",
            Unit::Bytes,
            metrics.binary_bytes.clone(),
        );
        registry.register("peer_verified", "Entries of a peer's log that are proven", metrics.peer_verified.clone());
        registry.register("peer_lag", "Entries that a peer's head is ahead of those", metrics.peer_lag.clone());
        registry.register("peer_state", "What the follower of a peer does", metrics.peer_state.clone());
        registry.register("peer_gaps", "Gaps and repeats in a peer's streams", metrics.peer_gaps.clone());
        registry.register("peer_reconnects", "Streams of a peer that ended", metrics.peer_reconnects.clone());
        registry.register("peer_words", "Specs by how a peer's word stands to ours", metrics.peer_words.clone());
        registry.register_with_unit(
            "peer_head_timestamp",
            "When a peer's head was seen last",
            Unit::Seconds,
            metrics.peer_head_time.clone(),
        );
        registry.register("divergences_open", "Divergences that nobody has settled", metrics.divergences_open.clone());
        registry.register_with_unit(
            "tls_certificate_expiry_timestamp",
            "Until when the certificate of the public listener is good; 0 without one",
            Unit::Seconds,
            metrics.certificate_expiry.clone(),
        );
        registry.register("alerts_open", "Alerts that hold", metrics.alerts_open.clone());
        registry.register("alerts_pending", "Alerts a channel has yet to be told", metrics.alerts_pending.clone());
        registry.register_with_unit(
            "alerts_pending_since_timestamp",
            "When the oldest alert that a channel has yet to be told happened",
            Unit::Seconds,
            metrics.alerts_since.clone(),
        );
        registry.register("alert_deliveries", "Deliveries of alerts by how they ended", metrics.alerts_sent.clone());
        metrics.begin_at_zero();
        registry.register("audit_records", "Chosen entries by what came of them", metrics.audit_records.clone());
        registry.register("audit_entries", "Entries of an audited peer's log looked at", metrics.audit_entries.clone());
        registry.register("audit_builds_today", "Builds for audits begun today", metrics.audit_builds_today.clone());
        Metrics { registry: Arc::new(registry), ..metrics }
    }

    /// A counter that is not there before its first event hides that event: who watches sees no increase.
    fn begin_at_zero(&self) {
        let known: [(&Family<Label, Counter>, &[&'static str]); 4] = [
            (&self.builds, &["built", "cannot-build", "not-found", "temporary"]),
            (&self.requests, &["2xx", "3xx", "4xx", "5xx"]),
            (&self.refused, &["connections", "requests", "builds", "streams"]),
            (&self.ahead, &["accepted", "claims"]),
        ];
        for (family, kinds) in known {
            for &kind in kinds {
                drop(family.get_or_create(&Label { kind }));
            }
        }
        for kind in ["accepted", "claims"] {
            self.streams.get_or_create(&Label { kind }).set(0);
        }
    }

    /// Begins to count the streams of a peer.
    pub fn add_peer(&self, peer: &str) {
        for family in [&self.peer_gaps, &self.peer_reconnects] {
            drop(family.get_or_create(&PeerLabel { peer: peer.to_owned() }));
        }
    }

    /// The counter of one kind in a family.
    pub fn count(family: &Family<Label, Counter>, kind: &'static str) {
        family.get_or_create(&Label { kind }).inc();
    }

    /// Sets the number of entries of a log.
    pub fn set_log_size(&self, log: &'static str, size: u64) {
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        self.log_size.get_or_create(&Label { kind: log }).set(size);
    }

    /// Notes the end of a build.
    pub fn build_ended(&self, kind: &'static str, took: Duration) {
        Metrics::count(&self.builds, kind);
        self.build_seconds.observe(took.as_secs_f64());
    }

    /// Sets how far a peer's log is proven, and how far its signed head is ahead of that.
    pub fn set_peer_position(&self, peer: &str, verified: u64, lag: u64) {
        let gauge = |family: &Family<PeerLabel, Gauge>, value: u64| {
            let label = PeerLabel { peer: peer.to_owned() };
            family.get_or_create(&label).set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        gauge(&self.peer_verified, verified);
        gauge(&self.peer_lag, lag);
    }

    /// Moves a peer from one of the states `all` to `state`.
    pub fn set_peer_state(&self, peer: &str, all: impl IntoIterator<Item = &'static str>, state: &'static str) {
        for name in all {
            let label = PeerState { peer: peer.to_owned(), state: name };
            self.peer_state.get_or_create(&label).set(i64::from(name == state));
        }
    }

    /// Sets how many words of a peer there are of each kind.
    pub fn set_peer_words(&self, peer: &str, kinds: impl IntoIterator<Item = (&'static str, u64)>) {
        for (kind, count) in kinds {
            let label = PeerKind { peer: peer.to_owned(), kind };
            self.peer_words.get_or_create(&label).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Sets when a peer's head was seen last, in Unix seconds.
    pub fn set_peer_head_time(&self, peer: &str, at: i64) {
        self.peer_head_time.get_or_create(&PeerLabel { peer: peer.to_owned() }).set(at);
    }

    /// Sets how many divergences are open.
    pub fn set_open_divergences(&self, count: u64) {
        self.divergences_open.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sets until when the certificate of the public listener is good, in Unix seconds.
    pub fn set_certificate_expiry(&self, at: i64) {
        self.certificate_expiry.set(at);
    }

    /// Sets how many alerts hold, and how many each channel has yet to be told since when (Unix seconds).
    pub fn set_alerts(&self, open: u64, pending: impl IntoIterator<Item = (String, u64, i64)>) {
        self.alerts_open.set(i64::try_from(open).unwrap_or(i64::MAX));
        self.alerts_pending.clear();
        self.alerts_since.clear();
        for (channel, count, since) in pending {
            let label = ChannelLabel { channel };
            if count > 0 {
                self.alerts_since.get_or_create(&label).set(since);
            }
            self.alerts_pending.get_or_create(&label).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Has the counters of one channel of alerts begin at zero.
    pub fn begin_alerts(&self, channel: &str) {
        for kind in ["delivered", "failed", "given-up"] {
            self.alerts_sent(channel, kind, 0);
        }
    }

    /// Counts deliveries of alerts through one channel.
    pub fn alerts_sent(&self, channel: &str, kind: &'static str, count: usize) {
        let label = ChannelKind { channel: channel.to_owned(), kind };
        self.alerts_sent.get_or_create(&label).inc_by(count as u64);
    }

    /// Sets how the audit of a peer's log stands: entries looked at, and those chosen by what came of them.
    pub fn set_audit(&self, peer: &str, entries: u64, states: impl IntoIterator<Item = (&'static str, u64)>) {
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.audit_entries.get_or_create(&PeerLabel { peer: peer.to_owned() }).set(gauge(entries));
        for (state, count) in states {
            self.audit_records.get_or_create(&PeerState { peer: peer.to_owned(), state }).set(gauge(count));
        }
    }

    /// Counts a gap or a repeat in a peer's stream.
    pub fn peer_gap(&self, peer: &str) {
        self.peer_gaps.get_or_create(&PeerLabel { peer: peer.to_owned() }).inc();
    }

    /// Counts a peer's stream that ended.
    pub fn peer_reconnected(&self, peer: &str) {
        self.peer_reconnects.get_or_create(&PeerLabel { peer: peer.to_owned() }).inc();
    }

    /// All numbers as OpenMetrics text.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_names_what_was_counted() {
        let metrics = Metrics::new();
        metrics.set_log_size("accepted", 7);
        metrics.build_ended("built", Duration::from_secs(3));
        metrics.set_peer_position("a", 5, 2);
        metrics.set_peer_state("a", ["backoff", "polling"], "polling");
        metrics.peer_gap("a");
        let text = metrics.to_text();
        assert!(text.contains("sumpeer_log_size{kind=\"accepted\"} 7"), "{text}");
        assert!(text.contains("sumpeer_builds_total{kind=\"built\"} 1"), "{text}");
        assert!(text.contains("sumpeer_build_seconds_count 1"), "{text}");
        assert!(text.contains("sumpeer_peer_lag{peer=\"a\"} 2"), "{text}");
        assert!(text.contains("sumpeer_peer_state{peer=\"a\",state=\"polling\"} 1"), "{text}");
        assert!(text.contains("sumpeer_peer_gaps_total{peer=\"a\"} 1"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
