//! `status.directory.observed`: AWS as a RADIUS client.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// How the directory asks the proxies, as they have observed it since they started. AWS documents little of this. Times and
/// numbers are coarse, so that the status isn't written with every login.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObservedDirectory {
    /// Whether its requests carry a Message-Authenticator: Always, Sometimes or Never.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub signs: Option<ObservedSigning>,
    /// What a retry keeps of the packet before it. SamePacket: everything. NewAuthenticator: identifier and source port, with a
    /// new Request Authenticator. NewIdentifier: neither identifier nor source port. Mixed: retries of several kinds were seen.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub retries: Option<ObservedRetries>,
    /// The shortest time between two packets of one login, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_interval_milliseconds: Option<u32>,
    /// Whether a login that began at one address of the directory went on from another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moves_to_another_address: Option<bool>,
    /// The longest time from the first to the last packet of one login, in seconds. The directory waits at least so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_wait_seconds: Option<u32>,
    /// Names of `spec.policy.probeUsers` that it has probed with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probe_users: Vec<String>,
    /// Each client address of the directory. One without a last request has never asked: a security group or a network ACL
    /// may be closed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<ObservedClientAddress>,
}

/// A value of a newer version is none: a closed enum would make the RadiusProxy unreadable after a rollback.
fn known<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    Ok(serde_json::from_value(Value::deserialize(deserializer)?).ok())
}

/// What was observed of one client address of the directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObservedClientAddress {
    /// The address.
    pub address: String,
    /// The last request, up to ten minutes late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_request: Option<Time>,
    /// Requests of the last hour under a wrong shared secret, as 1, 10, 100 and so on: at least so many.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub wrong_secret_requests: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Whether requests carry a Message-Authenticator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ObservedSigning {
    /// Every Access-Request does.
    Always,
    /// Some do.
    Sometimes,
    /// None does.
    Never,
}

/// What a retry keeps of the packet before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ObservedRetries {
    /// Everything: the same packet again.
    SamePacket,
    /// Identifier and source port, with a new Request Authenticator.
    NewAuthenticator,
    /// Neither identifier nor source port.
    NewIdentifier,
    /// Retries of several kinds were seen.
    Mixed,
}
