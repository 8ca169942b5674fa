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
    /// Accepted, SecretsReady, Available, Registered, Ready, and Stalled while something is refused.
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
    /// Registered servers / wanted servers, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub servers: Option<String>,
    /// What AWS has registered, each with the pod behind it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub registered_servers: Vec<RegisteredServer>,
    /// The directory as AWS describes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<DirectoryStatus>,
    /// What AWS holds by the operator's doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<AppliedSettings>,
    /// The write that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_write: Option<PendingWrite>,
    /// A keyed digest of a shared secret that AWS may hold instead of the applied one: that of a write whose end cannot be
    /// told. The proxies accept both until a later write was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsure_secret_digest: Option<String>,
    /// Since when something that AWS should have differs from what it has. Churn settles from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub differs_since: Option<Time>,
    /// Why AWS is not written to for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
    /// Pods that are replaced without a registered server being down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub surge: Option<Surge>,
    /// Changes that somebody else made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<Drift>,
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

/// RadiusSettings of the AWS API without the shared secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegisteredSettings {
    /// RadiusServers, in AWS's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<String>,
    /// RadiusServersIpv6.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers_ipv6: Vec<String>,
    /// RadiusPort.
    pub port: u32,
    /// RadiusTimeout, in seconds.
    pub timeout_seconds: u32,
    /// RadiusRetries.
    pub retries: u32,
    /// AuthenticationProtocol.
    #[serde(default)]
    pub protocol: String,
    /// DisplayLabel.
    #[serde(default)]
    pub display_label: String,
    /// UseSameUsername.
    #[serde(default)]
    pub use_same_username: bool,
}

/// What AWS holds by the operator's doing. AWS does not say which secret it holds, so this is remembered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedSettings {
    /// A keyed digest of the shared secret that AWS was given.
    pub secret_digest: String,
    /// The other settings that AWS was given.
    pub settings: RegisteredSettings,
    /// When AWS was given them.
    pub time: Time,
    /// The servers as AWS described them before, when that write changed nothing visible but their order. For some seconds
    /// a description that has them may be the one from before the write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers_before: Vec<String>,
    /// When AWS first described them, whatever it made of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown_time: Option<Time>,
    /// When AWS first reported Completed with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_time: Option<Time>,
}

/// A write to AWS of which it is not known yet whether it arrived. Written before the call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingWrite {
    /// Names the write.
    pub id: String,
    /// EnableRadius, UpdateRadius, DisableRadius.
    pub operation: String,
    /// A keyed digest of the shared secret that is sent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub secret_digest: String,
    /// The other settings that are sent; none for DisableRadius.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<RegisteredSettings>,
    /// Whether the description of the directory shows if it arrived.
    #[serde(default)]
    pub shows: bool,
    /// The servers as AWS described them before, when this write changes nothing visible but their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers_before: Vec<String>,
    /// When it was planned.
    pub time: Time,
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

/// Why AWS is not written to for a while.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Trouble {
    /// What went wrong: Failed (AWS tried and gave up), or the kind of an AWS error.
    pub kind: String,
    /// The call that was refused; none for Failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// AWS's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// How often in a row.
    pub count: u32,
    /// When it was last seen to go wrong.
    pub time: Time,
    /// A keyed digest of what was tried: something else is tried at once.
    pub tried: String,
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

/// Changes to the settings that were made by somebody else.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Drift {
    /// The last two times that one was seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub times: Vec<Time>,
    /// What is there instead of what was applied; none once it is repaired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<RegisteredSettings>,
    /// Whether RADIUS was found switched off.
    #[serde(default)]
    pub disabled: bool,
    /// The RadiusProxy's `metadata.generation` when the last one was seen: whoever changes the spec since has decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// When a shared secret that somebody changed at AWS was last written back. The next time is an hour later at the
    /// earliest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_repair_time: Option<Time>,
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
    /// Something is refused or keeps failing, and a person has to act. It is there only while it is true.
    Stalled,
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
            Self::Stalled => "Stalled",
            Self::Ready => "Ready",
        }
    }
}
