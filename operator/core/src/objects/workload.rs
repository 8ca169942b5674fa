//! The StatefulSet, and the template of its pods.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{
    RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use proxy_config::{ConfigDigest, DigestKey};

use super::{Owner, overrides, pod};
use crate::names::{
    CONTAINER, POD_TEMPLATE_ANNOTATION, RESERVED_PREFIXES, RESTARTED_AT_ANNOTATION, SURGE_ANNOTATION,
    TEMPLATE_ANNOTATION, UPGRADING_ANNOTATION,
};
use crate::observed::{Settings, StatefulSetState, Surge};

/// The number of pods, and what replaces them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// `spec.replicas`.
    pub(crate) replicas: u32,
    /// Pods below this ordinal that are lost come back on the revision that was complete last, those above on the new one.
    pub(crate) partition: u32,
    /// Only the operator replaces pods, and those that are missing are created from the new revision.
    pub(crate) on_delete: bool,
    /// Whether the pods are being brought to the template.
    pub(crate) upgrading: bool,
}

impl Layout {
    /// At rest: with partition = replicas the controller replaces no pod by itself.
    pub(crate) const fn at_rest(replicas: u32) -> Self {
        Self {
            replicas,
            partition: replicas,
            on_delete: false,
            upgrading: false,
        }
    }
}

/// The pods' template with the digests by which it is known again.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    pub(crate) image: String,
    /// Of the template but for the image.
    pub(crate) pod_digest: String,
    /// Of the whole template.
    pub(crate) digest: String,
    spec: Result<PodTemplateSpec, String>,
}

impl Template {
    /// The template of the spec. With overrides that are refused it is the one that the StatefulSet `set` has. A time that
    /// `kubectl rollout restart` left in `set` makes another template.
    pub(crate) fn new(owner: &Owner<'_>, settings: &Settings, set: Option<&StatefulSetState>) -> Self {
        let spec = &owner.proxy.spec;
        let overrides = spec.pod_template.clone().unwrap_or_default();
        let pod = match overrides::merged(&pod::spec(owner, settings), &overrides.spec) {
            Ok(pod) => pod,
            Err(problem) => {
                return Self {
                    image: String::new(),
                    pod_digest: String::new(),
                    digest: set.and_then(|set| set.template.clone()).unwrap_or_default(),
                    spec: Err(problem),
                };
            }
        };
        let mut labels = not_reserved(&spec.labels);
        let metadata = overrides.metadata.unwrap_or_default();
        labels.extend(not_reserved(&metadata.labels));
        labels.extend(owner.labels());
        let mut annotations = not_reserved(&spec.annotations);
        annotations.extend(not_reserved(&metadata.annotations));
        let restarted_at = set
            .and_then(|set| set.restarted_at.as_deref())
            .filter(|at| is_later(at, annotations.get(RESTARTED_AT_ANNOTATION)));
        if let Some(at) = restarted_at {
            annotations.insert(RESTARTED_AT_ANNOTATION.to_owned(), at.to_owned());
        }
        let image = spec
            .image
            .clone()
            .unwrap_or_else(|| settings.default_image.clone());
        let parts = (&labels, &annotations, &pod);
        // Nothing in it is secret, and the digest of the same template must be the same for ever.
        let digest = |parts: &[(&str, &[u8])]| {
            ConfigDigest::compute(&DigestKey::new(b"template".to_vec()), parts.iter().copied())
                .as_str()
                .chars()
                .take(32)
                .collect::<String>()
        };
        let mut bytes = serde_json::to_vec(&parts).unwrap_or_default();
        bytes.extend(owner.recreated_account.unwrap_or_default().bytes());
        let pod_digest = digest(&[("template", &bytes)]);
        let whole = digest(&[("template", &bytes), ("image", image.as_bytes())]);
        annotations.insert(POD_TEMPLATE_ANNOTATION.to_owned(), pod_digest.clone());
        let mut pod = pod;
        for container in pod.containers.iter_mut().filter(|c| c.name == CONTAINER) {
            container.image = Some(image.clone());
        }
        Self {
            image,
            pod_digest,
            digest: whole,
            spec: Ok(PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels),
                    annotations: Some(annotations),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod),
            }),
        }
    }

    /// Why the overrides are refused.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.spec.as_ref().err().map(String::as_str)
    }
}

/// Pods with stable names, started in parallel; `None` when the overrides of the template are refused.
pub(crate) fn stateful_set(
    owner: &Owner<'_>,
    template: &Template,
    layout: Layout,
    surge: Option<&Surge>,
) -> Option<StatefulSet> {
    let pods = template.spec.as_ref().ok()?.clone();
    let number = |count: u32| Some(i32::try_from(count).unwrap_or(i32::MAX));
    let mut metadata = owner.metadata(owner.names.workload());
    let mut annotations = BTreeMap::from([(TEMPLATE_ANNOTATION.to_owned(), template.digest.clone())]);
    if layout.upgrading {
        annotations.insert(UPGRADING_ANNOTATION.to_owned(), "true".to_owned());
    }
    annotations.extend(surge.map(|surge| (SURGE_ANNOTATION.to_owned(), surge.to_annotation())));
    metadata.annotations = Some(annotations);
    let strategy = if layout.on_delete {
        StatefulSetUpdateStrategy {
            type_: Some("OnDelete".to_owned()),
            rolling_update: None,
        }
    } else {
        StatefulSetUpdateStrategy {
            type_: Some("RollingUpdate".to_owned()),
            rolling_update: Some(RollingUpdateStatefulSetStrategy {
                partition: number(layout.partition),
                ..RollingUpdateStatefulSetStrategy::default()
            }),
        }
    };
    Some(StatefulSet {
        metadata,
        spec: Some(StatefulSetSpec {
            replicas: number(layout.replicas),
            service_name: Some(owner.names.workload().to_owned()),
            selector: owner.label_selector(),
            pod_management_policy: Some("Parallel".to_owned()),
            revision_history_limit: Some(3),
            update_strategy: Some(strategy),
            template: pods,
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    })
}

/// Whether a restart was asked for after the one of the spec. What is no time isn't from kubectl.
fn is_later(at: &str, spec: Option<&String>) -> bool {
    at.parse::<Timestamp>().is_ok_and(|at| {
        let spec = spec.map(|spec| spec.parse::<Timestamp>());
        spec.is_none_or(|spec| spec.is_ok_and(|spec| spec < at))
    })
}

/// The pairs without the operator's own.
fn not_reserved(pairs: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    pairs
        .iter()
        .filter(|(key, _)| !RESERVED_PREFIXES.iter().any(|prefix| key.starts_with(prefix)))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}
