//! DirectoryRegistration: the claim to one directory in one region, what its holder wants there, and what AWS has.

mod status;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::{AddressSource, DeletionPolicy, DriftPolicy, RadiusProxy};

pub use status::{
    Adoption, AppliedSettings, DirectoryDescription, DirectoryRegistrationStatus, Drift, LastFailure,
    PendingWrite, RegistrationHold, SuspectedDrift, TaggedOwner, WriteRecord,
};

/// The registration of RADIUS servers with one directory in one region. The operator creates and writes it; its name,
/// `<directory id>.<region>`, is the one claim to the directory in this cluster.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "radius-mfa.dev",
    version = "v1alpha1",
    kind = "DirectoryRegistration",
    plural = "directoryregistrations",
    shortname = "dreg",
    category = "radius-mfa",
    status = "DirectoryRegistrationStatus",
    derive = "PartialEq",
    doc = "The RADIUS servers of one directory of AWS Directory Service in one region, and who holds them",
    printcolumn(
        name = "Holder",
        type_ = "string",
        json_path = ".spec.claimedBy.name",
        description = "The RadiusProxy that holds the directory"
    ),
    printcolumn(
        name = "Namespace",
        type_ = "string",
        json_path = ".spec.claimedBy.namespace",
        description = "Its namespace"
    ),
    printcolumn(
        name = "RADIUS",
        type_ = "string",
        json_path = ".status.description.radiusStatus",
        description = "RadiusStatus as AWS reports it"
    ),
    printcolumn(
        name = "Servers",
        type_ = "integer",
        json_path = ".status.registeredCount",
        description = "Registered servers"
    ),
    printcolumn(
        name = "Hold",
        type_ = "string",
        json_path = ".status.hold.name",
        description = "What keeps the operator from writing to AWS"
    ),
    printcolumn(
        name = "Last Write",
        type_ = "date",
        json_path = ".status.lastWriteTime",
        description = "How long ago the operator last wrote to AWS"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name == self.spec.directoryId + '.' + self.spec.region").message(Message::Expression("'metadata.name must be ' + self.spec.directoryId + '.' + self.spec.region + ', the directory id and the region, so that a directory has one registration'".to_owned()))
)]
#[serde(rename_all = "camelCase")]
pub struct DirectoryRegistrationSpec {
    /// Id of the directory.
    #[schemars(regex(pattern = "^d-[0-9a-f]{10}$"), length(max = 12))]
    pub directory_id: String,
    /// AWS region of the RADIUS settings.
    #[schemars(regex(pattern = "^[a-z]{2,}(-[a-z]+)+-[0-9]+$"), length(max = 32))]
    pub region: String,
    /// The RadiusProxy that holds the directory.
    pub claimed_by: DirectoryClaim,
    /// What the holder wants. It counts once its `holderUid` is that of `claimedBy`.
    #[serde(
        default,
        deserialize_with = "if_known",
        skip_serializing_if = "Option::is_none"
    )]
    pub desired: Option<DesiredRegistration>,
}

/// What another version of the operator wrote, with values that this one doesn't have, counts as absent: the holder's
/// rollout writes it again.
fn if_known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DesiredRegistration>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).ok())
}

/// The holder of a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DirectoryClaim {
    /// Namespace of the RadiusProxy.
    pub namespace: String,
    /// Name of the RadiusProxy.
    pub name: String,
    /// UID of the RadiusProxy.
    pub uid: String,
}

/// What the holder wants of the directory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DesiredRegistration {
    /// UID of the RadiusProxy that wants it.
    pub holder_uid: String,
    /// `metadata.generation` of that RadiusProxy.
    #[serde(default)]
    pub holder_generation: i64,
    /// Whether the operator must not write to AWS.
    #[serde(default)]
    pub suspend: bool,
    /// RADIUS settings apart from servers and shared secret.
    pub settings: RegisteredSettings,
    /// What happens to the settings at AWS when the holder is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// What happens when somebody else changes the settings.
    #[serde(default)]
    pub drift_policy: DriftPolicy,
    /// Whether the next write may replace settings that the operator doesn't manage. It counts for one write.
    #[serde(default)]
    pub adopt: bool,
    /// The shared secret; absent while there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_secret: Option<SharedSecretSource>,
    /// Where the addresses of `servers` come from.
    #[serde(default)]
    pub address_source: AddressSource,
    /// Addresses of the servers, in the order of registration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    pub servers: Vec<DesiredServer>,
    /// Number of proxies that log users in when all is well.
    #[serde(default)]
    pub replicas: u32,
    /// Number of those that serve the current configuration.
    #[serde(default)]
    pub serving_replicas: u32,
    /// Whether pods are starting that will serve in a moment.
    #[serde(default)]
    pub starting: bool,
    /// Pods that don't accept the shared secret yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub pods_without_secret: Vec<PodWithoutSecret>,
    /// What the proxies that don't serve wait for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub waiting_for: String,
    /// Why the directory must not get any settings now.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub blocked: String,
    /// Why the addresses to register aren't known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_problem: Option<AddressProblem>,
    /// Requests of the directory that show that AWS has another shared secret than the one that it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_mismatch: Option<ReportedMismatch>,
}

/// Where the shared secret is, without its value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SharedSecretSource {
    /// Name of the operator's own Secret in the holder's namespace.
    pub secret_name: String,
    /// Keyed digest of the shared secret that AWS is to get.
    pub digest: String,
}

/// An address that is registered, is to be registered, or was registered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DesiredServer {
    /// IP address or host name.
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
    /// Whether a proxy answers at the address.
    #[serde(default)]
    pub alive: bool,
    /// What registration does with the address.
    #[serde(default)]
    pub state: ServerState,
    /// When the address was lost, for the state Absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent_since: Option<Time>,
}

/// What registration does with an address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServerState {
    /// It is registered.
    Serves,
    /// It stays registered if it is.
    #[default]
    Keeps,
    /// It is removed at once.
    Leaves,
    /// Its pod terminates: it is listed until the pod is gone, and nothing is written for it.
    Terminates,
    /// No proxy has it any more: it is removed with the next write, or after a while.
    Absent,
}

/// A pod that runs without the shared secret that AWS is to get.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodWithoutSecret {
    /// Name of the pod.
    pub pod: String,
    /// Whether it answers. AWS doesn't get the secret before such a pod accepts it; other pods are awaited for a while.
    #[serde(default)]
    pub alive: bool,
}

/// Why addresses to register aren't known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddressProblem {
    /// Whether it passes without anyone's help.
    #[serde(default)]
    pub passing: bool,
    /// What is wrong and what to do.
    pub message: String,
}

/// Requests of the directory that fail under the shared secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReportedMismatch {
    /// Addresses of the directory whose requests fail.
    #[schemars(length(max = 64))]
    pub addresses: Vec<String>,
    /// When they began to fail.
    pub since: Time,
    /// Whether one failed in the last minutes.
    #[serde(default)]
    pub recent: bool,
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

impl DirectoryRegistration {
    /// Name of the registration of a directory.
    #[must_use]
    pub fn name_of(directory_id: &str, region: &str) -> String {
        format!("{directory_id}.{region}")
    }

    /// Whether this RadiusProxy holds the directory. One that was created again under its name does.
    #[must_use]
    pub fn is_held_by(&self, proxy: &RadiusProxy) -> bool {
        let claim = &self.spec.claimed_by;
        proxy.metadata.namespace.as_ref() == Some(&claim.namespace)
            && proxy.metadata.name.as_ref() == Some(&claim.name)
    }
}
