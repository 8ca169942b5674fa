//! `status` of a RadiusProxy.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::observed::ObservedDirectory;

/// What the operator sees and did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RadiusProxyStatus {
    /// The generation that the conditions are about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Accepted, SecretsReady, Available, Registered, Ready, and Stalled while a person has to act, or Reconciling while the
    /// operator is at work.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
    /// Pods there are.
    #[serde(default)]
    pub replicas: u32,
    /// Pods whose containers are ready.
    #[serde(default)]
    pub ready_replicas: u32,
    /// The digest of the configuration that the pods should run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_digest: Option<String>,
    /// Pods that run the current configuration.
    #[serde(default)]
    pub configured_replicas: u32,
    /// The label selector of the pods, for the scale subresource.
    #[serde(default)]
    pub selector: String,
    /// Image that the proxies run. During a rollout that of most proxies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Version that the proxies report. During a rollout that of most proxies.
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
    /// What AWS has registered, each with the pod behind it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub registered_servers: Vec<RegisteredServer>,
    /// The directory as AWS describes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<DirectoryStatus>,
    /// Pods that are replaced without a registered server being down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub surge: Option<Surge>,
    /// The last write to AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_write: Option<LastWrite>,
    /// When the operator last confirmed this status. It does so at least every ten minutes; an older status says nothing
    /// about now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_refresh_time: Option<Time>,
    /// The operator that works on this RadiusProxy: its namespace and the name of its leader's Lease, which is that of the
    /// Helm release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
}

/// A registered server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegisteredServer {
    /// The address as AWS has it.
    pub address: String,
    /// The pod that has the address, when one has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The pod's node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The node's zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Whether the pod's containers are ready.
    #[serde(default)]
    pub ready: bool,
    /// Since when no pod has the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without_pod_since: Option<Time>,
}

/// A directory as AWS describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DirectoryStatus {
    /// MicrosoftAD, ADConnector, SharedMicrosoftAD, SimpleAD.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "type")]
    pub kind: Option<String>,
    /// Active and others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Creating, Completed, Failed; NotConfigured when AWS says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub radius_status: Option<String>,
    /// Where its requests come from: domain controllers or connector addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub client_addresses: Vec<String>,
    /// How it asks the proxies, as they have observed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<ObservedDirectory>,
}

/// A write to AWS.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastWrite {
    /// EnableRadius, UpdateRadius, DisableRadius.
    pub operation: String,
    /// Why it was needed, in words.
    pub reason: String,
    /// When it was sent.
    pub time: Time,
    /// AWS's request id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// How far the replacement of pods has come. Pods 0 to N-1 are replaced while pods N to 2N-1 are registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Surge {
    /// What is done now.
    pub phase: SurgePhase,
    /// N: `spec.replicas` as it was when the other pods were registered.
    pub replicas: u32,
    /// The revision to which a change in place was refused, when that is why new pods are needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_place_refused: Option<String>,
}

/// The phases of a [`Surge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SurgePhase {
    /// Pods N to 2N-1 start on the new template.
    Starting,
    /// They are registered in place of pods 0 to N-1, which are then replaced.
    Moved,
    /// Pods 0 to N-1 are registered again; then the others go.
    Returning,
}

/// The condition types of a RadiusProxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConditionType {
    /// The spec is one that the operator may act on: granted, the only one for its directory, a directory of a type
    /// that has RADIUS.
    Accepted,
    /// Every Secret is there and holds what it should.
    SecretsReady,
    /// Enough proxies serve.
    Available,
    /// AWS has Completed with the servers there should be.
    Registered,
    /// The directory is known, and its type has RADIUS settings (of a DirectoryRegistration).
    Described,
    /// A person has to act. It is there only while it is true.
    Stalled,
    /// A change is under way that ends by itself. It is there only while it is true.
    Reconciling,
    /// All of the above, nothing is stalled, and every proxy runs the current configuration.
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
