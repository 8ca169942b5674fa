//! The StatefulSet.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{
    RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Owner, pod};
use crate::input::Settings;
use crate::names::RESERVED_PREFIXES;

/// Pods of stable names, started all at once. With partition = replicas the StatefulSet's controller replaces no pod by
/// itself; with 0, when the operator says so (`rolls`), one after the other, from the last, each when the one before is Ready.
pub(crate) fn stateful_set(owner: &Owner<'_>, settings: &Settings, rolls: bool) -> StatefulSet {
    let spec = &owner.proxy.spec;
    let replicas = i32::try_from(spec.replicas).unwrap_or(i32::MAX);
    let mut labels = not_reserved(&spec.labels);
    labels.extend(owner.labels());
    let annotations = not_reserved(&spec.annotations);
    StatefulSet {
        metadata: owner.metadata(owner.names.workload()),
        spec: Some(StatefulSetSpec {
            replicas: Some(replicas),
            service_name: Some(owner.names.workload().to_owned()),
            selector: owner.label_selector(),
            pod_management_policy: Some("Parallel".to_owned()),
            revision_history_limit: Some(3),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateStatefulSetStrategy {
                    partition: Some(if rolls { 0 } else { replicas }),
                    ..RollingUpdateStatefulSetStrategy::default()
                }),
            }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels),
                    annotations: (!annotations.is_empty()).then_some(annotations),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod::spec(owner, settings)),
            },
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

/// Without what is the operator's own.
fn not_reserved(pairs: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    pairs
        .iter()
        .filter(|(key, _)| !RESERVED_PREFIXES.iter().any(|prefix| key.starts_with(prefix)))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}
