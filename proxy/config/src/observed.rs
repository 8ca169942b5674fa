//! What a proxy has observed of AWS as a RADIUS client: the pod reports it in an annotation of its Lease, the operator
//! reads it. AWS documents little of this, so that only requests show it.
//!
//! It holds no name of a user, and is bounded: [`MAX_ADDRESSES`] addresses, [`MAX_BYTES`] as JSON. Times are seconds
//! since 1970, by the clock of the pod's node.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Client addresses that one report has at most.
pub const MAX_ADDRESSES: usize = 32;
/// The longest report, in bytes of JSON.
pub const MAX_BYTES: usize = 16 * 1024;

/// What one proxy has observed of the clients with `directory = true` since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Observed {
    /// What was observed of each source address, in canonical form. When there are too many, those that asked last.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub addresses: BTreeMap<IpAddr, ObservedAddress>,
    /// Logins of which one address of the directory sent the first packet and another one a later packet.
    #[serde(skip_serializing_if = "is_zero")]
    pub moved: u32,
    /// The longest time from the first to the last packet of one login, in milliseconds: the client's patience is at
    /// least so long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest_wait_ms: Option<u32>,
    /// Known names (`policy.probe_users`) that the directory has probed with, each with the time of its last probe.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub probes: BTreeMap<String, u64>,
}

/// What was observed of one source address of the directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObservedAddress {
    /// The last request, understood or not.
    pub last_request: u64,
    /// The last request that authenticated itself under a configured shared secret: by Message-Authenticator, or by a
    /// plausible User-Password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_authenticated: Option<u64>,
    /// The first request under a wrong secret since the last authenticated one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<u64>,
    /// The last request under a wrong secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failed: Option<u64>,
    /// Requests under a wrong secret since the last authenticated one; bounded.
    #[serde(skip_serializing_if = "is_zero")]
    pub failed: u32,
    /// Access-Requests with a valid Message-Authenticator; bounded.
    #[serde(skip_serializing_if = "is_zero")]
    pub signed: u32,
    /// Access-Requests without Message-Authenticator; bounded.
    #[serde(skip_serializing_if = "is_zero")]
    pub unsigned: u32,
    /// Retries that repeat identifier, port and Request Authenticator (RFC 2865 section 2.5: the same packet); bounded.
    #[serde(skip_serializing_if = "is_zero")]
    pub same_packet: u32,
    /// Retries with the same identifier and port, and another Request Authenticator; bounded.
    #[serde(skip_serializing_if = "is_zero")]
    pub new_authenticator: u32,
    /// Retries with another identifier or port; bounded.
    #[serde(skip_serializing_if = "is_zero")]
    pub new_identifier: u32,
    /// The shortest time between two packets of one login, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_interval_ms: Option<u32>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Observed {
    /// Whether there is nothing to report.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
