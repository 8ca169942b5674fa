//! What Prometheus sees of each RadiusProxy. The series of one go with it.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use operator_core::api::{ConditionType, DirectoryRegistrationStatus, RadiusProxyStatus};
use operator_core::aws::{AwsErrorClass, AwsOperation};
use operator_core::conditions::Reason;
use operator_core::observed::RadiusStatus;
use operator_core::registration::{DirectoryWrite, WriteReason};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::error::Error;
use crate::object_keys::RadiusProxyKey;

/// Metrics of each RadiusProxy.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProxyMetrics {
    /// Those that have series, whether this replica leads or has led.
    known: Arc<Mutex<BTreeSet<RadiusProxyKey>>>,
    registered_servers: Family<ProxyLabels, Gauge>,
    wanted_servers: Family<ProxyLabels, Gauge>,
    condition: Family<ConditionLabels, Gauge>,
    radius_status: Family<StatusLabels, Gauge>,
    switched_off: Family<ProxyLabels, Gauge>,
    name_not_resolved: Family<ProxyLabels, Gauge>,
    writes: Family<WriteLabels, Counter>,
    failures: Family<FailureLabels, Counter>,
    last_success: Family<ProxyLabels, Gauge<f64, AtomicU64>>,
    last_write: Family<ProxyLabels, Gauge<f64, AtomicU64>>,
    status_time: Family<ProxyLabels, Gauge<f64, AtomicU64>>,
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
    condition: &'static str,
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

impl ProxyMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
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
            "switched_off",
            "1 while RADIUS is off by somebody else's doing: logins need no second factor",
            self.switched_off.clone(),
        );
        registry.register(
            "name_not_resolved",
            "1 while the condition Registered has the reason NameNotResolved",
            self.name_not_resolved.clone(),
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
            "When AWS was written to last, by the status",
            self.last_write.clone(),
        );
        registry.register(
            "status_timestamp_seconds",
            "When the status was last confirmed; it is confirmed at least every ten minutes",
            self.status_time.clone(),
        );
    }

    fn known(&self) -> MutexGuard<'_, BTreeSet<RadiusProxyKey>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on there are series of it.
    fn know(&self, key: &RadiusProxyKey) {
        let mut known = self.known();
        if !known.contains(key) {
            known.insert(key.clone());
        }
    }

    /// Counts a failure.
    pub(crate) fn failed(&self, key: &RadiusProxyKey, class: &'static str) {
        self.know(key);
        self.failures.get_or_create(&failure_of(key, class)).inc();
    }

    /// Counts a write to AWS.
    pub(crate) fn wrote(&self, key: &RadiusProxyKey, write: &DirectoryWrite) {
        self.know(key);
        let labels = write_of(key, write.call.operation(), write.reason);
        self.writes.get_or_create(&labels).inc();
    }

    /// Shows a status, after a successful reconciliation.
    pub(crate) fn show(&self, key: &RadiusProxyKey, status: &RadiusProxyStatus, now: Timestamp) {
        self.know(key);
        self.status_time(key, Some(status));
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
        self.wanted_servers
            .get_or_create(&of(key))
            .set(status.desired_count.into());
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
        let not_resolved = status.conditions.iter().any(|each| {
            each.type_ == ConditionType::Registered.as_str()
                && each.reason == Reason::NameNotResolved.as_str()
        });
        self.name_not_resolved
            .get_or_create(&of(key))
            .set(i64::from(not_resolved));
        // From the status, so that a new leader shows what another one wrote.
        match &status.last_write {
            Some(last) => {
                let time = self.last_write.get_or_create(&of(key));
                time.set(seconds_of(last.time.0));
            }
            None => drop(self.last_write.remove(&of(key))),
        }
        if status.directory.is_none() {
            // Another RadiusProxy holds the directory now.
            self.switched_off.remove(&of(key));
        } else {
            // A counter that begins at its first count shows no increase then, and alerts look for one.
            self.writes.get_or_create(&repair_of(key)).inc_by(0);
            self.failures
                .get_or_create(&failure_of(key, RADIUS_FAILED))
                .inc_by(0);
        }
    }

    /// Shows how old a status is.
    pub(crate) fn status_time(&self, key: &RadiusProxyKey, status: Option<&RadiusProxyStatus>) {
        if let Some(time) = status.and_then(|status| status.last_refresh_time.as_ref()) {
            self.know(key);
            self.status_time.get_or_create(&of(key)).set(seconds_of(time.0));
        }
    }

    /// The status is out of date and may say Ready; its metrics don't.
    pub(crate) fn status_not_written(&self, key: &RadiusProxyKey) {
        self.know(key);
        let ready = condition_of(key, ConditionType::Ready);
        self.condition.get_or_create(&ready).set(0);
    }

    /// Shows a registration's status, and counts that AWS reports Failed when that is news since the status `before`.
    pub(crate) fn show_registration(
        &self,
        key: &RadiusProxyKey,
        before: Option<&DirectoryRegistrationStatus>,
        status: &DirectoryRegistrationStatus,
    ) {
        self.know(key);
        let off = status.drift.as_ref().is_some_and(|drift| drift.disabled);
        self.switched_off.get_or_create(&of(key)).set(i64::from(off));
        let failed = |status: &DirectoryRegistrationStatus| {
            let failure = status.last_failure.clone()?;
            (failure.kind == RadiusStatus::Failed.as_str()).then_some(failure.time)
        };
        let now = failed(status);
        if now.is_some() && now != before.and_then(failed) {
            self.failed(key, RADIUS_FAILED);
        }
    }

    /// This replica leads no more: what it shows of the resources grows old. The counters stay.
    pub(crate) fn stand_down(&self) {
        self.registered_servers.clear();
        self.wanted_servers.clear();
        self.condition.clear();
        self.radius_status.clear();
        self.switched_off.clear();
        self.name_not_resolved.clear();
        self.last_success.clear();
        self.last_write.clear();
        self.status_time.clear();
    }

    /// Removes the series of those that `exists` does not know: a replica that leads no more works on no deletion.
    pub(crate) fn forget_unless(&self, exists: impl Fn(&RadiusProxyKey) -> bool) {
        let gone: Vec<RadiusProxyKey> = self.known().iter().filter(|key| !exists(key)).cloned().collect();
        for key in gone {
            self.forget(&key);
        }
    }

    /// Removes what is shown of a RadiusProxy that is gone.
    pub(crate) fn forget(&self, key: &RadiusProxyKey) {
        self.known().remove(key);
        let labels = of(key);
        self.registered_servers.remove(&labels);
        self.wanted_servers.remove(&labels);
        self.switched_off.remove(&labels);
        self.name_not_resolved.remove(&labels);
        self.last_success.remove(&labels);
        self.last_write.remove(&labels);
        self.status_time.remove(&labels);
        for condition in CONDITIONS {
            self.condition.remove(&condition_of(key, condition));
        }
        for state in STATES {
            self.radius_status.remove(&state_of(key, state));
        }
        for reason in WriteReason::ALL {
            for operation in WRITES {
                self.writes.remove(&write_of(key, operation, reason));
            }
        }
        for class in classes() {
            self.failures.remove(&failure_of(key, class));
        }
    }
}

/// The states of RADIUS settings at AWS, as a status shows them.
const STATES: [&str; 4] = ["NotConfigured", "Creating", "Completed", "Failed"];

const CONDITIONS: [ConditionType; 7] = [
    ConditionType::Accepted,
    ConditionType::SecretsReady,
    ConditionType::Available,
    ConditionType::Registered,
    ConditionType::Stalled,
    ConditionType::Reconciling,
    ConditionType::Ready,
];

const WRITES: [AwsOperation; 3] = [
    AwsOperation::EnableRadius,
    AwsOperation::UpdateRadius,
    AwsOperation::DisableRadius,
];

/// The class of a directory that reports Failed, which is no error of a call.
const RADIUS_FAILED: &str = "radius_failed";

/// Every class of [`ProxyMetrics::failed`]: AWS's, and the operator's own.
fn classes() -> impl Iterator<Item = &'static str> {
    let of_aws = AwsErrorClass::ALL.into_iter().map(AwsErrorClass::as_str);
    of_aws.chain([RADIUS_FAILED]).chain(Error::CLASSES)
}

fn of(key: &RadiusProxyKey) -> ProxyLabels {
    ProxyLabels {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
    }
}

fn condition_of(key: &RadiusProxyKey, condition: ConditionType) -> ConditionLabels {
    ConditionLabels {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        condition: condition.as_str(),
    }
}

fn state_of(key: &RadiusProxyKey, status: &'static str) -> StatusLabels {
    StatusLabels {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        status,
    }
}

fn write_of(key: &RadiusProxyKey, operation: AwsOperation, reason: WriteReason) -> WriteLabels {
    WriteLabels {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        operation: operation.as_str(),
        reason: reason.as_str(),
    }
}

/// The repair of what somebody else changed.
fn repair_of(key: &RadiusProxyKey) -> WriteLabels {
    write_of(key, AwsOperation::UpdateRadius, WriteReason::Drift)
}

fn failure_of(key: &RadiusProxyKey, class: &'static str) -> FailureLabels {
    FailureLabels {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        class,
    }
}

fn seconds_of(time: Timestamp) -> f64 {
    time.as_duration().as_secs_f64()
}

#[cfg(test)]
mod tests;
