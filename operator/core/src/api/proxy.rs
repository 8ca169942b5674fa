//! RadiusProxy.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{LocalObjectReference, ResourceRequirements};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::secret_refs::SecretKeyRef;
use super::{
    AddressesSpec, ClientSpec, DirectorySpec, PodTemplateOverrides, PolicySpec, ProviderSpec,
    RadiusProxyStatus, SchedulingSpec,
};

/// RADIUS MFA proxies that run as a StatefulSet and are registered with AWS Directory Service.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "radius-mfa.dev",
    version = "v1alpha1",
    kind = "RadiusProxy",
    plural = "radiusproxies",
    shortname = "rp",
    category = "radius-mfa",
    category = "all",
    namespaced,
    status = "RadiusProxyStatus",
    derive = "PartialEq",
    doc = "RADIUS MFA proxies that run as a StatefulSet and are registered with AWS Directory Service",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(
        name = "Registered",
        type_ = "integer",
        json_path = ".status.registeredCount",
        description = "Servers that AWS has registered"
    ),
    printcolumn(
        name = "Desired",
        type_ = "integer",
        json_path = ".status.desiredCount",
        description = "Servers that should be registered"
    ),
    printcolumn(name = "Directory", type_ = "string", json_path = ".spec.directory.id"),
    printcolumn(
        name = "RADIUS",
        type_ = "string",
        json_path = ".status.directory.radiusStatus",
        description = "RADIUS status of the directory at AWS"
    ),
    printcolumn(
        name = "Suspend",
        type_ = "boolean",
        json_path = ".spec.suspend",
        description = "Whether writes to AWS are suspended"
    ),
    printcolumn(name = "Provider", type_ = "string", json_path = ".status.provider", priority = "1"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version", description = "Version that the proxies run", priority = "1"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = "1"
    ),
    printcolumn(
        name = "Serving",
        type_ = "integer",
        json_path = ".status.readyReplicas",
        description = "Pods whose containers are ready",
        priority = "1"
    ),
    printcolumn(
        name = "Last Write",
        type_ = "date",
        json_path = ".status.lastWrite.time",
        description = "Time since the last write to AWS",
        priority = "1"
    ),
    printcolumn(
        name = "Why",
        type_ = "string",
        json_path = ".status.lastWrite.reason",
        description = "Reason of the last write to AWS",
        priority = "1"
    ),
    printcolumn(
        name = "Next",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        description = "State and next step",
        priority = "1"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 40").message("metadata.name must have at most 40 characters: pod names are built from it"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message(Message::Expression("'metadata.name is used as the name of a Service: it must consist of lower-case letters, digits and hyphens, begin with a letter and not end with a hyphen, unlike ' + self.metadata.name".to_owned()))
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.directory) || size(self.clients) > 0").message("spec must have a directory or at least one client; without either, no one can send requests to these proxies"))]
#[x_kube(validation = Rule::new("has(self.directory) == has(oldSelf.directory)").message("spec.directory cannot be added or removed later; create another RadiusProxy"))]
pub struct RadiusProxySpec {
    /// Number of proxies, 1 to 16. A single proxy has no fail-over.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 1, max = 16))]
    pub replicas: u32,

    /// Directory that uses these proxies for MFA. Without it the proxies serve only `clients`. It cannot be added or removed
    /// later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<DirectorySpec>,

    /// Source of the second factor. Exactly one of duo, okta, totp and radius.
    pub provider: ProviderSpec,

    /// Secret with the RADIUS shared secret of the directory, 8 to 512 characters. If left out, the operator generates one
    /// of 48 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_secret_ref: Option<SecretKeyRef>,

    /// UDP port of the proxies, 1025 to 65535. It cannot be changed: create another RadiusProxy instead.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1025, max = 65535))]
    #[x_kube(validation = Rule::new("self == oldSelf").message(Message::Message("spec.port cannot be changed: a directory has one port for all its servers, so no server would answer while they change; create another RadiusProxy, as the page about moving a directory says".to_owned())))]
    pub port: u32,

    /// Addresses to register with the directory.
    #[serde(default)]
    pub addresses: AddressesSpec,

    /// RADIUS clients in addition to the directory.
    #[serde(default)]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub clients: Vec<ClientSpec>,

    /// User names, typed text, exempt users and limits.
    #[serde(default)]
    pub policy: PolicySpec,

    /// Name of the application in push notifications, 1 to 64 characters. Defaults to the directory's label and id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub application: Option<String>,

    /// Whether writes to AWS are suspended: no registration, no repair, no new shared secret. The proxies continue to
    /// answer, and a new image is still rolled out if that needs no new pods.
    #[serde(default)]
    pub suspend: bool,

    /// Image of the proxies. Defaults to the operator's setting.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = "^[^\\s]+$"))]
    pub image: Option<String>,

    /// Secrets of the same namespace for pulling the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<LocalObjectReference>,

    /// Resources of the container. Defaults to the operator's setting.
    #[serde(
        default,
        deserialize_with = "super::workload::resources",
        skip_serializing_if = "Option::is_none"
    )]
    pub resources: Option<ResourceRequirements>,

    /// Labels to add to the pods. Labels of app.kubernetes.io and radius-mfa.dev are reserved and ignored.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = 32,
        "additionalProperties" = {
            "type": "string", "maxLength": 63, "pattern": "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"
        }
    ))]
    #[x_kube(validation = Rule::new("self.all(k, size(k) <= 317)").message("spec.labels: a key has at most 317 characters"))]
    pub labels: BTreeMap<String, String>,

    /// Annotations to add to the pods. Annotations of radius-mfa.dev are reserved and ignored.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = 32,
        "additionalProperties" = {"type": "string", "maxLength": 4096}
    ))]
    #[x_kube(validation = Rule::new("self.all(k, size(k) <= 317)").message("spec.annotations: a key has at most 317 characters"))]
    pub annotations: BTreeMap<String, String>,

    /// Where the pods run.
    #[serde(default)]
    pub scheduling: SchedulingSpec,

    /// Changes to the pod template, for what no other field covers. A new template is rolled out with new pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplateOverrides>,
}

const fn default_replicas() -> u32 {
    2
}

const fn default_port() -> u32 {
    1812
}
