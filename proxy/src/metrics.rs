//! Prometheus metrics. A user's name is never a label.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

use process_metrics::ProcessCollector;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::logging;

mod provider;

pub use provider::{CallLabels, ProviderMetrics, StepLabels};

/// Seconds; a passcode takes less than a millisecond, a push up to a minute.
const LOGIN_BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0,
];

/// `client`, `provider`, `factor`, `result`, `reason`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LoginLabels {
    /// The client's name.
    pub client: Arc<str>,
    /// The provider's.
    pub provider: &'static str,
    /// The factor that decided.
    pub factor: &'static str,
    /// What was answered.
    pub result: &'static str,
    /// Why; what an accept rests on.
    pub reason: &'static str,
}

/// `client`, `code`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// The client's name.
    pub client: Arc<str>,
    /// What its datagram asks for.
    pub code: &'static str,
}

/// `provider`, `result`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DurationLabels {
    /// The provider's name.
    pub provider: &'static str,
    /// What was answered.
    pub result: &'static str,
}

/// `reason`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    /// Of a closed set.
    pub reason: &'static str,
}

/// `event`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EventLabel {
    /// Of a closed set.
    pub event: &'static str,
}

/// `version`, `provider`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct InfoLabels {
    /// This program's version.
    pub version: &'static str,
    /// The provider of the running configuration.
    pub provider: &'static str,
}

#[derive(Clone)]
struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

/// Every metric of the program.
pub struct Metrics {
    registry: Registry,
    /// Calls to providers.
    pub provider: ProviderMetrics,
    /// Datagrams of known clients, answered or not.
    pub requests: Family<RequestLabels, Counter>,
    /// Finished logins.
    pub logins: Family<LoginLabels, Counter>,
    /// From a login's first packet to its end.
    pub login_duration: LoginDurations,
    /// Datagrams without an answer.
    pub drops: Family<ReasonLabel, Counter>,
    /// What else the engine counts.
    pub events: Family<EventLabel, Counter>,
    /// Logins that wait for a provider.
    pub pending: Gauge,
    /// Datagrams that the system could not send.
    pub send_failures: Counter,
    /// Records that could not be written.
    pub lost_records: Counter,
    /// Verdicts that found no room on their way back.
    pub lost_verdicts: Counter,
    /// Writes of login records that failed; what could not be written is lost.
    pub record_write_failures: Counter,
    /// Which configuration runs.
    pub info: Family<InfoLabels, Gauge>,
    /// When the running configuration was loaded.
    pub config_loaded: Gauge<f64, AtomicU64>,
    /// Reloads that succeeded.
    pub config_reloads: Counter,
    /// Reloads that kept the old configuration.
    pub config_reload_failures: Counter,
    /// 1 when the files on disk are what runs.
    pub config_current: Gauge,
    /// TOTP codes that are remembered as used.
    pub used_codes: Gauge<i64, AtomicI64>,
    /// Lines of the log that found no room, looked up when they are asked for.
    lost_log_lines: Counter,
    /// Other proxies of the group that were heard lately.
    pub peers: Gauge,
    /// Messages to other proxies.
    pub peer_sent: Counter,
    /// Messages from other proxies.
    pub peer_received: Counter,
    /// Messages to and from other proxies that found no room.
    pub peer_lost: Counter,
    /// Datagrams on the group's port that were not taken.
    pub peer_rejects: Family<ReasonLabel, Counter>,
}

/// The family of login durations.
pub struct LoginDurations(Family<DurationLabels, Histogram, Buckets>);

impl LoginDurations {
    /// The durations of a provider's logins with a result, in seconds.
    #[must_use]
    pub fn of(&self, provider: &'static str, result: &'static str) -> Histogram {
        self.0.get_or_create_owned(&DurationLabels { provider, result })
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            provider: ProviderMetrics::default(),
            requests: Family::default(),
            logins: Family::default(),
            login_duration: LoginDurations(Family::new_with_constructor(Buckets(&LOGIN_BUCKETS))),
            drops: Family::default(),
            events: Family::default(),
            pending: Gauge::default(),
            send_failures: Counter::default(),
            lost_records: Counter::default(),
            lost_log_lines: Counter::default(),
            lost_verdicts: Counter::default(),
            record_write_failures: Counter::default(),
            info: Family::default(),
            config_loaded: Gauge::default(),
            config_reloads: Counter::default(),
            config_reload_failures: Counter::default(),
            config_current: Gauge::default(),
            used_codes: Gauge::default(),
            peers: Gauge::default(),
            peer_sent: Counter::default(),
            peer_received: Counter::default(),
            peer_lost: Counter::default(),
            peer_rejects: Family::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        self.registry.register_collector(Box::new(ProcessCollector));
        let r = self.registry.sub_registry_with_prefix("radius_proxy");
        r.register(
            "requests",
            "Datagrams of known clients, answered or not",
            self.requests.clone(),
        );
        r.register("logins", "Finished logins", self.logins.clone());
        r.register_with_unit(
            "login_duration",
            "From the first packet of a login to its end",
            Unit::Seconds,
            self.login_duration.0.clone(),
        );
        r.register("drops", "Datagrams that got no answer", self.drops.clone());
        r.register(
            "events",
            "What else the RADIUS engine counts",
            self.events.clone(),
        );
        r.register(
            "pending_logins",
            "Logins that wait for a provider",
            self.pending.clone(),
        );
        r.register(
            "provider_calls",
            "Calls to a provider",
            self.provider.calls.clone(),
        );
        r.register_with_unit(
            "provider_call_duration",
            "How long calls to a provider took",
            Unit::Seconds,
            self.provider.latency.clone(),
        );
        r.register(
            "send_failures",
            "Datagrams that could not be sent",
            self.send_failures.clone(),
        );
        r.register(
            "lost_records",
            "Login records that found no room",
            self.lost_records.clone(),
        );
        r.register(
            "lost_log_lines",
            "Lines of the log that found no room",
            self.lost_log_lines.clone(),
        );
        r.register(
            "lost_verdicts",
            "Verdicts that found no room",
            self.lost_verdicts.clone(),
        );
        r.register(
            "record_write_failures",
            "Failed writes of login records",
            self.record_write_failures.clone(),
        );
        r.register("info", "The program and its provider", self.info.clone());
        r.register(
            "config_loaded_timestamp_seconds",
            "When the running configuration was loaded",
            self.config_loaded.clone(),
        );
        r.register(
            "config_reloads",
            "Configurations that were taken over",
            self.config_reloads.clone(),
        );
        r.register(
            "config_reload_failures",
            "Configurations that could not be taken over",
            self.config_reload_failures.clone(),
        );
        r.register(
            "config_current",
            "1 when what runs is what the files say, 0 when they could not be taken over",
            self.config_current.clone(),
        );
        r.register(
            "used_totp_codes",
            "TOTP codes remembered as used",
            self.used_codes.clone(),
        );
        self.register_peers();
    }

    fn register_peers(&mut self) {
        let r = self.registry.sub_registry_with_prefix("radius_proxy");
        r.register(
            "peers",
            "Other proxies of the group that were heard within ten seconds",
            self.peers.clone(),
        );
        r.register(
            "peer_messages_sent",
            "Messages to other proxies about pending pushes",
            self.peer_sent.clone(),
        );
        r.register(
            "peer_messages_received",
            "Messages from other proxies about pending pushes",
            self.peer_received.clone(),
        );
        r.register(
            "peer_messages_lost",
            "Messages about pending pushes that found no room",
            self.peer_lost.clone(),
        );
        r.register(
            "peer_rejects",
            "Datagrams on the port between the proxies that were not taken",
            self.peer_rejects.clone(),
        );
    }

    /// The same, with a collector that has its values elsewhere.
    #[must_use]
    pub fn with(mut self, collector: impl Collector) -> Self {
        self.registry.register_collector(Box::new(collector));
        self
    }

    /// All of them in the text format.
    #[must_use]
    pub fn encode(&self) -> String {
        let lost = logging::lost_lines().saturating_sub(self.lost_log_lines.get());
        self.lost_log_lines.inc_by(lost);
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = text::encode(&mut out, &self.registry);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_prefix_of_the_program_and_the_process_has_its_own() {
        let metrics = Metrics::default();
        metrics.lost_records.inc();
        let labels = RequestLabels {
            client: "vpn".into(),
            code: "access_request",
        };
        metrics.requests.get_or_create(&labels).inc_by(3);
        let text = metrics.encode();
        for line in [
            "radius_proxy_lost_records_total 1\n",
            "radius_proxy_requests_total{client=\"vpn\",code=\"access_request\"} 3\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        let resident = text
            .lines()
            .find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
        assert!(resident.unwrap().parse::<u64>().unwrap() > 1 << 20);
    }

    #[test]
    fn every_series_without_labels_is_in_the_documentation() {
        let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/standalone.md");
        let page = std::fs::read_to_string(page).unwrap();
        let text = Metrics::default().encode();
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let missing: Vec<String> = types
            .filter_map(|line| line.split_once(' '))
            .map(|(name, kind)| match kind {
                "counter" => format!("`{name}_total`"),
                _ => format!("`{name}`"),
            })
            .filter(|name| !page.contains(name.as_str()))
            .collect();
        assert_eq!(missing, Vec::<String>::new());
    }
}
