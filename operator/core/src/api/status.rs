//! `status` of a RadiusProxy.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::observed::ObservedDirectory;

/// Observed state of a RadiusProxy.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RadiusProxyStatus {
    /// `metadata.generation` that the operator acted on last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions: Accepted, SecretsReady, Available, Registered and Ready; Stalled only while a person has to act, and
    /// Reconciling only while the operator is at work.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
    /// Number of pods.
    #[serde(default)]
    pub replicas: u32,
    /// Number of pods whose containers are ready.
    #[serde(default)]
    pub ready_replicas: u32,
    /// Digest of the configuration that the pods should run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_digest: Option<String>,
    /// Number of pods that run the current configuration.
    #[serde(default)]
    pub configured_replicas: u32,
    /// Label selector of the pods, for the scale subresource.
    #[serde(default)]
    pub selector: String,
    /// Image that the proxies run; during a rollout, the image of most proxies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Version that the proxies report; during a rollout, the version of most proxies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Provider of the spec: duo, okta, totp or radius.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Number of wanted servers that AWS has registered.
    #[serde(default)]
    pub registered_count: u32,
    /// Number of servers that should be registered.
    #[serde(default)]
    pub desired_count: u32,
    /// Servers that AWS has registered, each with its pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub registered_servers: Vec<RegisteredServer>,
    /// Directory as AWS describes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<DirectoryStatus>,
    /// Last write to AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_write: Option<LastWrite>,
    /// When the operator last confirmed this status. It does so at least every ten minutes; an older status is out of
    /// date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_refresh_time: Option<Time>,
    /// Operator that works on this RadiusProxy, as `<namespace>/<name of the leader's Lease>`. The Lease has the name of
    /// the Helm release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
}

/// A registered server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegisteredServer {
    /// Address as AWS has it.
    pub address: String,
    /// Pod with that address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Node of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Zone of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Whether the pod's containers are ready.
    #[serde(default)]
    pub ready: bool,
    /// When the address lost its pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without_pod_since: Option<Time>,
}

/// A directory as AWS describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DirectoryStatus {
    /// MicrosoftAD, ADConnector, SharedMicrosoftAD, SimpleAD or a type that is new.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "type")]
    pub kind: Option<String>,
    /// Active, Impaired or another stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Creating, Completed or Failed; NotConfigured when RADIUS is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub radius_status: Option<String>,
    /// Addresses that requests come from: those of the domain controllers or of the connector.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub client_addresses: Vec<String>,
    /// How the directory sends requests, as observed by the proxies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<ObservedDirectory>,
}

/// A write to AWS.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastWrite {
    /// EnableRadius, UpdateRadius or DisableRadius.
    pub operation: String,
    /// Reason for the write.
    pub reason: String,
    /// When the operator sent it.
    pub time: Time,
    /// AWS's request id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// The condition types of a RadiusProxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConditionType {
    /// The operator may act on the spec: it is granted, it holds its directory, and the directory's type has RADIUS.
    Accepted,
    /// Every Secret exists and is valid.
    SecretsReady,
    /// Enough proxies serve.
    Available,
    /// AWS has completed with every wanted server.
    Registered,
    /// The directory is known, and its type has RADIUS settings (of a DirectoryRegistration).
    Described,
    /// A person has to act. The condition exists only while it is true.
    Stalled,
    /// A change is under way that ends by itself. The condition exists only while it is true.
    Reconciling,
    /// All other conditions are true, nothing is stalled, and every proxy runs the current configuration.
    Ready,
}

impl ConditionType {
    /// The name in `status.conditions[].type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::SecretsReady => "SecretsReady",
            Self::Available => "Available",
            Self::Registered => "Registered",
            Self::Described => "Described",
            Self::Stalled => "Stalled",
            Self::Reconciling => "Reconciling",
            Self::Ready => "Ready",
        }
    }
}
