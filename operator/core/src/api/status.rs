//! `status` of a RadiusProxy.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator sees and did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RadiusProxyStatus {
    /// The generation that the conditions are about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Accepted, SecretsReady, Available, Registered, Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Pods there are.
    #[serde(default)]
    pub replicas: u32,
    /// Pods whose containers are ready.
    #[serde(default)]
    pub ready_replicas: u32,
    /// Pods that run the current configuration.
    #[serde(default)]
    pub configured_replicas: u32,
    /// The label selector of the pods, for the scale subresource.
    #[serde(default)]
    pub selector: String,
    /// Registered servers / wanted servers, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub servers: Option<String>,
    /// What AWS has registered, each with the pod behind it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub registered_servers: Vec<RegisteredServer>,
    /// The directory as AWS describes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<DirectoryStatus>,
    /// What the operator applied last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<AppliedSettings>,
    /// The last write to AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_write: Option<LastWrite>,
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
}

/// What the operator applied last: AWS does not say what secret it holds, so this is remembered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedSettings {
    /// A keyed digest of all settings, the shared secret among them.
    pub digest: String,
    /// When.
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
    /// All of the above.
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
            Self::Ready => "Ready",
        }
    }
}
