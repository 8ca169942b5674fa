//! `status` of a DirectoryRegistration.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RegisteredSettings;
use crate::api::RegisteredServer;

/// Observed state of a directory at AWS, and the operator's record of its writes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, kube::KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DirectoryRegistrationStatus {
    /// `metadata.generation` that the operator acted on last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Described (the directory is known and can have RADIUS settings) and Registered (AWS has completed with every wanted
    /// server).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
    /// The directory as AWS describes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<DirectoryDescription>,
    /// Number of wanted servers that are registered with all of their addresses.
    #[serde(default)]
    pub registered_count: u32,
    /// Number of servers that should be registered.
    #[serde(default)]
    pub desired_count: u32,
    /// Addresses that AWS has registered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<RegisteredServer>,
    /// What keeps the operator from writing to AWS now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<RegistrationHold>,
    /// Settings that the operator wrote to AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<AppliedSettings>,
    /// A write that was sent, or is about to be, and whose result isn't known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_write: Option<PendingWrite>,
    /// Keyed digest of a shared secret that AWS may hold instead of the applied one, after a write with an unknown result.
    /// The proxies accept both until AWS accepts a later write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unconfirmed_secret_digest: Option<String>,
    /// When the wanted settings first differed from those at AWS. The settle time starts here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_of_sync_since: Option<Time>,
    /// The last failure of a write, until a write succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<LastFailure>,
    /// Changes by somebody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<Drift>,
    /// Use of the holder's adoption policy, which counts for one write. It is removed once the policy is Refuse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adoption: Option<Adoption>,
    /// When the operator last wrote to AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_write_time: Option<Time>,
    /// The last twenty writes to AWS, the latest one last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub writes: Vec<WriteRecord>,
    /// Replica of the operator whose clock the times are from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_by: Option<String>,
}

/// A directory as AWS describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DirectoryDescription {
    /// MicrosoftAD, ADConnector, SharedMicrosoftAD, SimpleAD or a type that is new.
    #[serde(rename = "type")]
    pub kind: String,
    /// Active, Impaired or another stage.
    pub stage: String,
    /// Why the directory is in that stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage_reason: Option<String>,
    /// Address families of the directory: IPv4, IPv6 or DualStack.
    #[serde(default)]
    pub network_type: String,
    /// Creating, Completed or Failed; NotConfigured when RADIUS is off.
    pub radius_status: String,
    /// RADIUS settings without the shared secret, which AWS doesn't show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<RegisteredSettings>,
    /// Owner that the directory's tags name, as `<cluster>/<namespace>/<name>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Whether the tags could not be read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tags_unread: bool,
    /// Addresses that requests come from: those of the domain controllers or of the connector.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub client_addresses: Vec<String>,
}

/// The use of an adoption policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Adoption {
    /// UID of the RadiusProxy.
    pub holder_uid: String,
    /// When the write was sent.
    pub time: Time,
}

/// What keeps the operator from writing to AWS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistrationHold {
    /// Name of the hold; the operations page lists them in the order of the checks.
    pub name: String,
    /// Reason, as in the condition Registered.
    pub reason: String,
    /// What is wrong and what to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// A write to AWS.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WriteRecord {
    /// EnableRadius, UpdateRadius or DisableRadius.
    pub operation: String,
    /// Reason for the write: FirstRegistration, Adoption, Servers, Settings, Secret, Drift, SecretMismatch, Retry, Handover or
    /// Deletion.
    pub reason: String,
    /// The reason in words.
    pub message: String,
    /// When it was sent.
    pub time: Time,
    /// AWS's request id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// How it ended: Completed, Failed, Refused, Lost (AWS never showed it) or Superseded (by a later write). Absent while AWS
    /// works on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// Seconds from sending to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<i64>,
}

/// Settings that the operator wrote to AWS. AWS doesn't show its shared secret, so the operator records a digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedSettings {
    /// Keyed digest of the shared secret that was written.
    pub secret_digest: String,
    /// UID of the RadiusProxy that held the directory then.
    #[serde(default)]
    pub holder_uid: String,
    /// The other settings that were written.
    pub settings: RegisteredSettings,
    /// When they were written.
    pub time: Time,
    /// The servers as AWS described them before, when that write changed nothing visible but their order. For some seconds
    /// a description that has them may be the one from before the write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers_before: Vec<String>,
    /// UID of the RadiusProxy that held the directory before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predecessor_uid: Option<String>,
    /// Whom the directory's tags named when it was taken over. AWS didn't take the operator's own tags since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_over_from: Option<TaggedOwner>,
    /// When AWS first described them, whatever RADIUS status it reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown_time: Option<Time>,
    /// When AWS first reported Completed with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_time: Option<Time>,
}

/// A write to AWS whose result isn't known yet. It is recorded before the call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingWrite {
    /// Id of the write.
    pub id: String,
    /// EnableRadius, UpdateRadius or DisableRadius.
    pub operation: String,
    /// UID of the RadiusProxy that holds the directory.
    #[serde(default)]
    pub holder_uid: String,
    /// Keyed digest of the shared secret that is sent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub secret_digest: String,
    /// The other settings that are sent; none for DisableRadius.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<RegisteredSettings>,
    /// Whether the description of the directory shows the result.
    #[serde(default)]
    pub shows: bool,
    /// The servers as AWS described them before, when this write changes nothing visible but their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers_before: Vec<String>,
    /// Whom the directory's tags named, if not this cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_over_from: Option<TaggedOwner>,
    /// When it was planned.
    pub time: Time,
}

/// An owner that a directory's tags name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaggedOwner {
    /// The owner, as `<cluster>/<namespace>/<name>`.
    pub owner: String,
    /// UID of its cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_uid: Option<String>,
}

/// A write that failed. The same settings are retried after a delay that grows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastFailure {
    /// Failed (AWS tried and gave up), or the kind of an AWS error, such as Throttled or AccessDenied.
    pub kind: String,
    /// The call that AWS refused; absent for Failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// AWS's message.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Number of failures in a row.
    pub count: u32,
    /// When it last failed.
    pub time: Time,
    /// Keyed digest of the settings that failed. Other settings are tried at once.
    pub tried: String,
}

/// Changes to the settings that were made by somebody else.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Drift {
    /// When the last two changes were seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub times: Vec<Time>,
    /// Settings that AWS describes instead of the applied ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<RegisteredSettings>,
    /// Whether RADIUS was switched off.
    #[serde(default)]
    pub disabled: bool,
    /// `metadata.generation` of the RadiusProxy when the last change was seen. A later generation means that somebody has
    /// responded to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// A change that one description shows. It counts once a later description shows it too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspected: Option<SuspectedDrift>,
    /// When a shared secret that somebody changed at AWS was last written back. The next time is at least an hour later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_repair_time: Option<Time>,
}

/// A change that one description of the directory shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SuspectedDrift {
    /// The settings that were described; absent when RADIUS was described as off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<RegisteredSettings>,
    /// When they were described first.
    pub time: Time,
}
