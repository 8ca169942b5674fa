//! What Prometheus sees. Labels come from closed sets, and from the names of RadiusProxy resources that exist.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use jiff::Timestamp;
use operator_core::api::{ConditionType, RadiusProxyStatus};
use operator_core::aws::{AwsErrorClass, AwsOperation};
use operator_core::plan::{DirectoryWrite, WriteReason};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::error::Error;
use crate::key::ProxyKey;

/// All of the operator's metrics. Clones count into the same ones.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    pub(crate) leader: Gauge,
    pub(crate) queue_length: Gauge,
    pub(crate) resources: Gauge,
    pub(crate) reconciles: Family<ResultLabel, Counter>,
    pub(crate) reconcile_seconds: Histogram,
    pub(crate) aws_calls: Family<AwsCallLabels, Counter>,
    pub(crate) aws_seconds: Family<OperationLabel, Histogram>,
    pub(crate) kubernetes_calls: Family<KubernetesCallLabels, Counter>,
    pub(crate) watch_errors: Family<KindLabel, Counter>,
    pub(crate) proxy: ProxyMetrics,
}

/// Metrics of each RadiusProxy.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProxyMetrics {
    pub(crate) registered_servers: Family<ProxyLabels, Gauge>,
    pub(crate) wanted_servers: Family<ProxyLabels, Gauge>,
    pub(crate) condition: Family<ConditionLabels, Gauge>,
    pub(crate) radius_status: Family<StatusLabels, Gauge>,
    pub(crate) writes: Family<WriteLabels, Counter>,
    pub(crate) failures: Family<FailureLabels, Counter>,
    pub(crate) last_success: Family<ProxyLabels, Gauge<f64, AtomicU64>>,
    pub(crate) last_write: Family<ProxyLabels, Gauge<f64, AtomicU64>>,
}

/// A RadiusProxy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ProxyLabels {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// One of its conditions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ConditionLabels {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) condition: &'static str,
}

/// One of the states that AWS can report.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct StatusLabels {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) status: &'static str,
}

/// A write to AWS.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct WriteLabels {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) operation: &'static str,
    pub(crate) reason: &'static str,
}

/// A failure of AWS or of the Kubernetes API.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct FailureLabels {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) class: &'static str,
}

/// How a piece of work ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ResultLabel {
    pub(crate) result: &'static str,
}

/// A call to AWS.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct AwsCallLabels {
    pub(crate) operation: &'static str,
    pub(crate) result: &'static str,
}

/// An operation of AWS.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OperationLabel {
    pub(crate) operation: &'static str,
}

/// A call to the Kubernetes API.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct KubernetesCallLabels {
    pub(crate) method: &'static str,
    pub(crate) code: &'static str,
}

/// A watched kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct KindLabel {
    pub(crate) kind: &'static str,
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.005, 2.5, 9))
}

impl Metrics {
    /// Registers everything.
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("radius_mfa_operator");
        let mut metrics = Self {
            registry: Arc::default(),
            leader: Gauge::default(),
            queue_length: Gauge::default(),
            resources: Gauge::default(),
            reconciles: Family::default(),
            reconcile_seconds: seconds(),
            aws_calls: Family::default(),
            aws_seconds: Family::new_with_constructor(seconds),
            kubernetes_calls: Family::default(),
            watch_errors: Family::default(),
            proxy: ProxyMetrics::default(),
        };
        let m = &metrics;
        registry.register("leader", "1 when this replica leads", m.leader.clone());
        registry.register(
            "queue_length",
            "RadiusProxy resources in the work queue",
            m.queue_length.clone(),
        );
        registry.register(
            "radius_proxies",
            "RadiusProxy resources that are watched",
            m.resources.clone(),
        );
        registry.register("reconciles", "Pieces of work by result", m.reconciles.clone());
        registry.register(
            "reconcile_duration_seconds",
            "How long one takes",
            m.reconcile_seconds.clone(),
        );
        registry.register(
            "aws_calls",
            "Calls to AWS by operation and result",
            m.aws_calls.clone(),
        );
        registry.register(
            "aws_call_duration_seconds",
            "How long a call to AWS takes",
            m.aws_seconds.clone(),
        );
        registry.register(
            "kubernetes_calls",
            "Calls to the Kubernetes API by method and class of status",
            m.kubernetes_calls.clone(),
        );
        registry.register(
            "watch_errors",
            "Watches that broke and were begun again",
            m.watch_errors.clone(),
        );
        m.proxy.register(&mut registry);
        metrics.registry = Arc::new(registry);
        metrics
    }

    /// The OpenMetrics text.
    pub(crate) fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail; a metric that cannot be encoded leaves the page short, not empty.
        if let Err(error) = text::encode(&mut text, &self.registry) {
            tracing::error!(%error, "could not encode the metrics");
        }
        text
    }

    /// Counts a call to AWS.
    pub(crate) fn aws_call(&self, operation: &'static str, result: &'static str, took: Duration) {
        self.aws_calls
            .get_or_create(&AwsCallLabels { operation, result })
            .inc();
        self.aws_seconds
            .get_or_create(&OperationLabel { operation })
            .observe(took.as_secs_f64());
    }
}

impl ProxyMetrics {
    fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("proxy");
        registry.register(
            "registered_servers",
            "Servers that AWS has registered and that are alive",
            self.registered_servers.clone(),
        );
        registry.register(
            "wanted_servers",
            "Servers that should be registered",
            self.wanted_servers.clone(),
        );
        registry.register(
            "condition",
            "1 when the condition is True, 0 when not",
            self.condition.clone(),
        );
        registry.register(
            "radius_status",
            "1 for the state that AWS reports, 0 for the others",
            self.radius_status.clone(),
        );
        registry.register(
            "aws_writes",
            "Writes to AWS by operation and reason",
            self.writes.clone(),
        );
        registry.register("failures", "Failures by class", self.failures.clone());
        registry.register(
            "last_success_timestamp_seconds",
            "When the last piece of work ended well, with AWS as it should be",
            self.last_success.clone(),
        );
        registry.register(
            "last_write_timestamp_seconds",
            "When AWS was written to last",
            self.last_write.clone(),
        );
    }

    /// Counts a failure.
    pub(crate) fn failed(&self, key: &ProxyKey, class: &'static str) {
        let labels = FailureLabels {
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            class,
        };
        self.failures.get_or_create(&labels).inc();
    }

    /// Counts a write to AWS.
    pub(crate) fn wrote(&self, key: &ProxyKey, write: &DirectoryWrite, now: Timestamp) {
        let labels = WriteLabels {
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            operation: write.call.operation().as_str(),
            reason: write.reason.as_str(),
        };
        self.writes.get_or_create(&labels).inc();
        self.last_write.get_or_create(&of(key)).set(seconds_of(now));
    }

    /// Shows a status, after a piece of work that ended well.
    pub(crate) fn show(&self, key: &ProxyKey, status: &RadiusProxyStatus, now: Timestamp) {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        // A pod with an address of each family is one server.
        let alive: BTreeSet<&str> = status
            .registered_servers
            .iter()
            .filter(|server| server.ready)
            .map(|server| server.pod.as_deref().unwrap_or(&server.address))
            .collect();
        self.registered_servers
            .get_or_create(&of(key))
            .set(count(alive.len()));
        let wanted = status
            .servers
            .as_deref()
            .and_then(|text| text.rsplit('/').next()?.trim().parse().ok());
        self.wanted_servers
            .get_or_create(&of(key))
            .set(wanted.unwrap_or(0));
        for condition in CONDITIONS {
            let is_true = status
                .conditions
                .iter()
                .any(|each| each.type_ == condition.as_str() && each.status == "True");
            self.condition
                .get_or_create(&condition_of(key, condition))
                .set(i64::from(is_true));
            if is_true && condition == ConditionType::Ready {
                self.last_success.get_or_create(&of(key)).set(seconds_of(now));
            }
        }
        let reported = status
            .directory
            .as_ref()
            .and_then(|directory| directory.radius_status.as_deref());
        for state in STATES {
            self.radius_status
                .get_or_create(&state_of(key, state))
                .set(i64::from(reported == Some(state)));
        }
    }

    /// This replica leads no more: what it shows of the resources grows old. The counters stay.
    pub(crate) fn stand_down(&self) {
        self.registered_servers.clear();
        self.wanted_servers.clear();
        self.condition.clear();
        self.radius_status.clear();
        self.last_success.clear();
        self.last_write.clear();
    }

    /// Removes what is shown of a RadiusProxy that is gone.
    pub(crate) fn forget(&self, key: &ProxyKey) {
        let labels = of(key);
        self.registered_servers.remove(&labels);
        self.wanted_servers.remove(&labels);
        self.last_success.remove(&labels);
        self.last_write.remove(&labels);
        for condition in CONDITIONS {
            self.condition.remove(&condition_of(key, condition));
        }
        for state in STATES {
            self.radius_status.remove(&state_of(key, state));
        }
        for reason in REASONS {
            for operation in WRITES {
                self.writes.remove(&WriteLabels {
                    namespace: key.namespace.clone(),
                    name: key.name.clone(),
                    operation: operation.as_str(),
                    reason: reason.as_str(),
                });
            }
        }
        for class in classes() {
            self.failures.remove(&FailureLabels {
                namespace: key.namespace.clone(),
                name: key.name.clone(),
                class,
            });
        }
    }
}

/// The states of RADIUS settings at AWS, as a status shows them.
const STATES: [&str; 4] = ["NotConfigured", "Creating", "Completed", "Failed"];

const CONDITIONS: [ConditionType; 5] = [
    ConditionType::Accepted,
    ConditionType::SecretsReady,
    ConditionType::Available,
    ConditionType::Registered,
    ConditionType::Ready,
];

const WRITES: [AwsOperation; 3] = [
    AwsOperation::EnableRadius,
    AwsOperation::UpdateRadius,
    AwsOperation::DisableRadius,
];

const REASONS: [WriteReason; 8] = [
    WriteReason::FirstRegistration,
    WriteReason::Adoption,
    WriteReason::Servers,
    WriteReason::Settings,
    WriteReason::Secret,
    WriteReason::Drift,
    WriteReason::Retry,
    WriteReason::Deletion,
];

/// Every class of [`ProxyMetrics::failed`]: AWS's, and the operator's own.
fn classes() -> impl Iterator<Item = &'static str> {
    let of_aws = AwsErrorClass::ALL.into_iter().map(AwsErrorClass::as_str);
    of_aws.chain(Error::CLASSES)
}

fn of(key: &ProxyKey) -> ProxyLabels {
    ProxyLabels {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
    }
}

fn condition_of(key: &ProxyKey, condition: ConditionType) -> ConditionLabels {
    ConditionLabels {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        condition: condition.as_str(),
    }
}

fn state_of(key: &ProxyKey, status: &'static str) -> StatusLabels {
    StatusLabels {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        status,
    }
}

fn seconds_of(time: Timestamp) -> f64 {
    time.as_duration().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_radius_proxy_goes_with_it() {
        let (metrics, key) = (Metrics::new(), ProxyKey::new("mfa", "workspaces"));
        let empty = metrics.encode();
        metrics
            .proxy
            .show(&key, &RadiusProxyStatus::default(), Timestamp::UNIX_EPOCH);
        for class in classes() {
            metrics.proxy.failed(&key, class);
        }
        assert!(
            metrics
                .encode()
                .contains("radius_mfa_operator_proxy_condition{namespace=\"mfa\",name=\"workspaces\"")
        );
        metrics.proxy.forget(&key);
        assert_eq!(metrics.encode(), empty);
    }
}
