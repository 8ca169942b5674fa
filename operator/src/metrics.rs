//! What Prometheus sees. Labels come from closed sets, and from the names of RadiusProxy resources that exist.

mod of_proxy;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

pub(crate) use of_proxy::ProxyMetrics;
use process_metrics::ProcessCollector;

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
    broken_watches: Family<NamespaceLabel, Gauge>,
    undecodable: Family<KindLabel, Gauge>,
    pub(crate) name_lookups: Family<ResultLabel, Counter>,
    pub(crate) proxy: ProxyMetrics,
}

/// How a reconciliation, or a lookup of a host name, ended.
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

/// A watched namespace, empty for the whole cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct NamespaceLabel {
    namespace: String,
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
            broken_watches: Family::default(),
            undecodable: Family::default(),
            name_lookups: Family::default(),
            proxy: ProxyMetrics::default(),
        };
        let mut registry = Registry::default();
        // Under the names that every client library gives them, without a prefix.
        registry.register_collector(Box::new(ProcessCollector));
        metrics.register(registry.sub_registry_with_prefix("radius_mfa_operator"));
        metrics.registry = Arc::new(registry);
        metrics
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("leader", "1 when this replica leads", self.leader.clone());
        registry.register(
            "queue_length",
            "RadiusProxy resources in the work queue",
            self.queue_length.clone(),
        );
        registry.register(
            "radius_proxies",
            "RadiusProxy resources that are watched",
            self.resources.clone(),
        );
        registry.register("reconciles", "Pieces of work by result", self.reconciles.clone());
        registry.register(
            "reconcile_duration_seconds",
            "How long one takes",
            self.reconcile_seconds.clone(),
        );
        registry.register(
            "aws_calls",
            "Calls to AWS by operation and result",
            self.aws_calls.clone(),
        );
        registry.register(
            "aws_call_duration_seconds",
            "How long a call to AWS takes",
            self.aws_seconds.clone(),
        );
        registry.register(
            "kubernetes_calls",
            "Calls to the Kubernetes API by method and class of status",
            self.kubernetes_calls.clone(),
        );
        registry.register(
            "watch_errors",
            "Watches that broke and were begun again",
            self.watch_errors.clone(),
        );
        registry.register(
            "broken_watches",
            "Kinds that can't be watched now, by namespace; without a name those of the whole cluster",
            self.broken_watches.clone(),
        );
        registry.register(
            "undecodable_objects",
            "Objects that this version of the operator can't decode",
            self.undecodable.clone(),
        );
        registry.register(
            "name_lookups",
            "Looks at host names of load balancers by result",
            self.name_lookups.clone(),
        );
        self.proxy.register(registry);
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

    /// Shows how many kinds can't be watched in each namespace.
    pub(crate) fn show_broken_watches(&self, broken: BTreeMap<String, i64>) {
        for (namespace, count) in broken {
            self.broken_watches
                .get_or_create(&NamespaceLabel { namespace })
                .set(count);
        }
    }

    /// Shows how many objects of a kind can't be decoded.
    pub(crate) fn show_undecodable(&self, kind: &'static str, count: i64) {
        self.undecodable.get_or_create(&KindLabel { kind }).set(count);
    }

    /// Counts a lookup of a host name.
    pub(crate) fn name_looked_up(&self, result: &'static str) {
        self.name_lookups.get_or_create(&ResultLabel { result }).inc();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_prefix_of_the_program_and_the_process_has_its_own() {
        let metrics = Metrics::new();
        metrics.leader.set(1);
        metrics.aws_call("EnableRadius", "ok", Duration::from_secs(1));
        let text = metrics.encode();
        for line in [
            "radius_mfa_operator_leader 1\n",
            "radius_mfa_operator_aws_calls_total{operation=\"EnableRadius\",result=\"ok\"} 1\n",
            "# TYPE process_cpu_seconds counter\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        let value = |name: &str| -> f64 {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("{name} in {text}"))
                .parse()
                .unwrap()
        };
        assert!(value("process_resident_memory_bytes") > f64::from(1 << 20));
        assert!(value("process_cpu_seconds_total") >= 0.0);
        assert!(value("process_start_time_seconds") > 1.7e9);
    }
}
