//! Objects that the operator applies, and the Leases in which pods report.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use operator_core::directory_client;
use operator_core::names::{
    REPORT_DIGEST_ANNOTATION, REPORT_OBSERVED_ANNOTATION, REPORT_POD_UID_ANNOTATION,
    REPORT_PROBLEM_ANNOTATION, REPORT_VERSION_ANNOTATION, RESTARTED_AT_ANNOTATION, SURGE_ANNOTATION,
    TEMPLATE_ANNOTATION, UPGRADING_ANNOTATION, WRITTEN_BY_LABEL,
};
use operator_core::observed::{Report, ReportedProblem, ServiceAccountState, StatefulSetState, Surge};
use proxy_config::ConfigDigest;
use proxy_config::observed::Observed;

/// An object that the operator made, or that carries its label.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Owned {
    /// The uid of the owner that is its controller.
    pub(crate) controller: Option<String>,
    /// Changes with everything that the operator applies.
    pub(crate) fingerprint: u64,
    /// The details that decisions need.
    pub(crate) detail: Detail,
}

impl Owned {
    /// Whether a row that takes this one's place is worth another look at the RadiusProxy.
    pub(crate) fn is_news(&self, after: &Self) -> bool {
        let (Detail::Report(Some((uid, old))), Detail::Report(Some((new_uid, new)))) =
            (&self.detail, &after.detail)
        else {
            return self != after;
        };
        let plain = |report: &Report| Report {
            observed: None,
            ..report.clone()
        };
        (&self.controller, self.fingerprint, uid) != (&after.controller, after.fingerprint, new_uid)
            || plain(old) != plain(new)
            || directory_client::is_news(old.observed.as_ref(), new.observed.as_ref())
    }
}

/// What decisions need of an owned object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Detail {
    /// Nothing.
    Plain,
    /// A StatefulSet.
    StatefulSet(StatefulSetState),
    /// A ServiceAccount.
    ServiceAccount(ServiceAccountState),
    /// A Lease: the pod's uid and its report, once it has made one.
    Report(Option<(String, Report)>),
    /// A Service: `status.loadBalancer.ingress`.
    LoadBalancer(Vec<String>),
}

/// The uid of an object's controller.
pub(crate) fn controller(metadata: &ObjectMeta) -> Option<String> {
    let owners = metadata.owner_references.as_ref()?;
    owners
        .iter()
        .find(|owner| owner.controller == Some(true))
        .map(|owner| owner.uid.clone())
}

/// A number that changes when somebody changes what the operator applied. Where there is a generation it stands for
/// the spec, so that a new status is no change; a Lease is renewed by its pod all the time, used codes are written with
/// every login, and only their labels and their owner are the operator's.
pub(crate) fn fingerprint(kind: &str, metadata: &ObjectMeta) -> u64 {
    let mut hasher = DefaultHasher::new();
    metadata.uid.hash(&mut hasher);
    metadata.labels.hash(&mut hasher);
    metadata.deletion_timestamp.is_some().hash(&mut hasher);
    for owner in metadata.owner_references.iter().flatten() {
        (&owner.uid, owner.controller, owner.block_owner_deletion).hash(&mut hasher);
    }
    let has_label = |name| {
        let labels = metadata.labels.as_ref();
        labels.is_some_and(|labels| labels.contains_key(name))
    };
    if kind != "Lease" && !has_label(WRITTEN_BY_LABEL) {
        metadata.annotations.hash(&mut hasher);
        match metadata.generation {
            Some(generation) => generation.hash(&mut hasher),
            None => metadata.resource_version.hash(&mut hasher),
        }
    }
    hasher.finish()
}

/// Any owned object by its metadata.
pub(crate) fn owned(kind: &str, metadata: &ObjectMeta, detail: Detail) -> Owned {
    Owned {
        controller: controller(metadata),
        fingerprint: fingerprint(kind, metadata),
        detail,
    }
}

/// A StatefulSet as far as decisions need it.
pub(crate) fn stateful_set(set: &StatefulSet) -> Detail {
    let status = set.status.clone().unwrap_or_default();
    let replicas = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let annotation =
        |metadata: Option<&ObjectMeta>, name: &str| metadata?.annotations.as_ref()?.get(name).cloned();
    Detail::StatefulSet(StatefulSetState {
        created: created(&set.metadata),
        generation: set.metadata.generation.unwrap_or_default(),
        observed_generation: status.observed_generation.unwrap_or_default(),
        replicas: u32::try_from(replicas).unwrap_or_default(),
        current_revision: status.current_revision.unwrap_or_default(),
        update_revision: status.update_revision.unwrap_or_default(),
        template: annotation(Some(&set.metadata), TEMPLATE_ANNOTATION),
        upgrading: annotation(Some(&set.metadata), UPGRADING_ANNOTATION).is_some(),
        surge: annotation(Some(&set.metadata), SURGE_ANNOTATION)
            .and_then(|text| Surge::from_annotation(&text)),
        restarted_at: annotation(
            set.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref()),
            RESTARTED_AT_ANNOTATION,
        ),
        on_delete: set
            .spec
            .as_ref()
            .and_then(|spec| spec.update_strategy.as_ref()?.type_.as_deref())
            == Some("OnDelete"),
    })
}

/// A ServiceAccount as far as decisions need it.
pub(crate) fn service_account(metadata: &ObjectMeta) -> Detail {
    Detail::ServiceAccount(ServiceAccountState {
        uid: metadata.uid.clone().unwrap_or_default(),
        created: created(metadata),
    })
}

fn created(metadata: &ObjectMeta) -> Timestamp {
    metadata
        .creation_timestamp
        .as_ref()
        .map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

/// What a pod reported in its Lease.
pub(crate) fn report(lease: &Lease) -> Detail {
    let annotation = |name: &str| {
        lease
            .metadata
            .annotations
            .as_ref()
            .and_then(|all| all.get(name))
            .cloned()
    };
    let uid = annotation(REPORT_POD_UID_ANNOTATION)
        .or_else(|| lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()));
    let report = annotation(REPORT_DIGEST_ANNOTATION).map(|digest| Report {
        digest: ConfigDigest::from_reported(&digest),
        version: annotation(REPORT_VERSION_ANNOTATION),
        problem: annotation(REPORT_PROBLEM_ANNOTATION).and_then(|word| ReportedProblem::from_word(&word)),
        observed: annotation(REPORT_OBSERVED_ANNOTATION).and_then(|text| observed(&text)),
    });
    Detail::Report(uid.filter(|uid| !uid.is_empty()).zip(report))
}

/// What a pod has observed of the directory. An unreadable report is ignored, and logged once: pods renew their Leases all
/// the time.
fn observed(text: &str) -> Option<Observed> {
    static LOGGED: AtomicBool = AtomicBool::new(false);
    match directory_client::read(text) {
        Ok(observed) => Some(observed),
        Err(unreadable) => {
            if !LOGGED.swap(true, Ordering::Relaxed) {
                tracing::warn!(%unreadable, "a pod's report of what it observed of the directory is ignored");
            }
            None
        }
    }
}

/// The addresses and host names of a load balancer.
pub(crate) fn load_balancer(service: &Service) -> Detail {
    let ingress = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref())
        .and_then(|balancer| balancer.ingress.as_ref());
    Detail::LoadBalancer(
        ingress
            .into_iter()
            .flatten()
            .flat_map(|each| each.ip.iter().chain(&each.hostname))
            .cloned()
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn from<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_lease_counts_as_a_report_once_it_names_pod_and_digest() {
        let lease = |annotations: serde_json::Value| from(json!({"metadata": {"annotations": annotations}}));
        assert_eq!(
            report(&lease(json!({"radius-mfa.dev/config-digest": "d"}))),
            Detail::Report(None)
        );
        let Detail::Report(Some((uid, read))) = report(&lease(json!({
            "radius-mfa.dev/config-digest": "d", "radius-mfa.dev/pod-uid": "u", "radius-mfa.dev/version": "1",
            "radius-mfa.dev/problem": "provider_credentials"})))
        else {
            panic!("no report");
        };
        assert_eq!(
            (uid.as_str(), read.digest.as_str(), read.version.as_deref()),
            ("u", "d", Some("1"))
        );
        assert_eq!(read.problem, Some(ReportedProblem::ProviderCredentials));
        assert_eq!(read.observed, None);
    }

    fn reported(observed: &str) -> Owned {
        let lease: Lease = from(json!({"metadata": {"annotations": {
            "radius-mfa.dev/config-digest": "d", "radius-mfa.dev/pod-uid": "u", "radius-mfa.dev/observed": observed}}}));
        owned("Lease", &lease.metadata, report(&lease))
    }

    #[test]
    fn what_a_pod_observed_is_read_and_what_cannot_be_leaves_the_rest_of_its_report() {
        let observed = |row: &Owned| match &row.detail {
            Detail::Report(Some((_, report))) => report.observed.clone(),
            _ => panic!("no report"),
        };
        let good = r#"{"addresses": {"10.0.0.10": {"lastRequest": 1800000000, "signed": 3}}, "moved": 1}"#;
        assert_eq!(observed(&reported(good)).map(|observed| observed.moved), Some(1));
        let long = format!("{{}}{}", " ".repeat(20_000));
        for bad in ["", "null", "[3]", r#"{"moved": "x"}"#, long.as_str()] {
            assert_eq!(observed(&reported(bad)), None, "{bad:.20}");
        }
    }

    #[test]
    fn one_more_login_is_worth_no_look_and_one_that_fails_is() {
        let row = |last: u64, more: &str| {
            reported(&format!(
                r#"{{"addresses": {{"10.0.0.10": {{"lastRequest": {last}, "signed": 30{more}}}}}}}"#
            ))
        };
        let before = row(1_800_000_000, "");
        assert!(!before.is_news(&row(1_800_000_060, "")));
        assert!(before.is_news(&row(
            1_800_000_060,
            r#", "failingSince": 1800000060, "lastFailed": 1800000060, "failed": 1"#
        )));
        assert!(before.is_news(&reported("")));
    }

    #[test]
    fn a_statefulset_says_whether_it_is_upgraded_and_when_a_restart_was_asked_for() {
        let set = serde_json::json!({
            "metadata": {"name": "a", "annotations": {"radius-mfa.dev/upgrading": "true"}},
            "spec": {"selector": {}, "serviceName": "a", "template": {
                "metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}}}},
        });
        let Detail::StatefulSet(state) = stateful_set(&serde_json::from_value(set).unwrap()) else {
            panic!("a StatefulSet");
        };
        assert!(state.upgrading);
        assert_eq!(state.restarted_at.as_deref(), Some("2026-01-01T00:00:00Z"));
    }

    #[test]
    fn a_renewed_lease_and_a_new_status_are_no_change_to_what_was_applied() {
        let meta = |version: &str, generation: Option<i64>| ObjectMeta {
            resource_version: Some(version.to_owned()),
            generation,
            ..ObjectMeta::default()
        };
        assert_eq!(
            fingerprint("Lease", &meta("1", None)),
            fingerprint("Lease", &meta("2", None))
        );
        let used = |version: &str| ObjectMeta {
            labels: Some([(WRITTEN_BY_LABEL.to_owned(), "proxies".to_owned())].into()),
            ..meta(version, None)
        };
        assert_eq!(
            fingerprint("ConfigMap", &used("1")),
            fingerprint("ConfigMap", &used("2"))
        );
        assert_eq!(
            fingerprint("StatefulSet", &meta("1", Some(4))),
            fingerprint("StatefulSet", &meta("2", Some(4)))
        );
        assert_ne!(
            fingerprint("StatefulSet", &meta("1", Some(4))),
            fingerprint("StatefulSet", &meta("2", Some(5)))
        );
        assert_ne!(
            fingerprint("ConfigMap", &meta("1", None)),
            fingerprint("ConfigMap", &meta("2", None))
        );
    }
}
