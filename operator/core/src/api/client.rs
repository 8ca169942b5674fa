//! `spec.clients`: RADIUS clients in addition to the directory.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::secret_refs::SecretKeyRef;

/// A RADIUS client in addition to the directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.name != 'directory'").message("the client name 'directory' is the operator's own; choose another"))]
pub struct ClientSpec {
    /// Name of the client in login records and metrics.
    #[schemars(
        regex(pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"),
        length(min = 1, max = 63)
    )]
    pub name: String,
    /// Source networks of the client, as addresses or CIDRs. Of several clients the one with the longest prefix matches.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 49)))]
    #[x_kube(validation = Rule::new("self.all(n, isCIDR(n) || isIP(n))").message(Message::Expression("'spec.clients[].networks must be addresses or CIDRs, such as 10.0.0.0/24, not ' + self.filter(n, !(isCIDR(n) || isIP(n)))[0]".to_owned())))]
    pub networks: Vec<String>,
    /// Secret with the shared secret of the client.
    pub secret_ref: SecretKeyRef,
    /// Time that the client waits for the answer to one packet, in seconds, 1 to 50.
    #[serde(default = "default_client_timeout")]
    #[schemars(range(min = 1, max = 50))]
    pub timeout_seconds: u32,
    /// Number of the client's retries after the first packet, 0 to 10.
    #[serde(default = "default_client_retries")]
    #[schemars(range(min = 0, max = 10))]
    pub retries: u32,
    /// Whether requests must have a Message-Authenticator (BlastRADIUS, CVE-2024-3596). Auto: those of an address
    /// that has signed a login since the proxy started. Always: every request. Never: no request, but one that is
    /// present is verified.
    #[serde(default)]
    pub message_authenticator: MessageAuthenticatorPolicy,
    /// Whether CHAP and MS-CHAPv1 requests without Message-Authenticator may start a push.
    #[serde(default)]
    pub unauthenticated_push: bool,
    /// Whether the client supports Access-Challenge.
    #[serde(default)]
    pub challenge: bool,
    /// Maximum number of new requests per second from one address of the client, 1 to 1000000. Defaults to
    /// spec.policy.limits.requestsPerClientPerSecond.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests_per_second: Option<u32>,
    /// Attribute with the address of the user's device, such as Calling-Station-Id, or its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub user_address_attribute: Option<String>,
    /// Attributes to add to every Access-Accept, at most 16: dictionary name or number (26.2636.1), and a text of at most
    /// 253 bytes. The value of a numbered attribute can also be 0x0a01, integer:15, ipaddr:192.0.2.1 or
    /// ipv6addr:2001:db8::1.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = 16,
        "additionalProperties" = {"type": "string", "minLength": 1, "maxLength": 253}
    ))]
    #[x_kube(validation = Rule::new("self.all(k, size(k) <= 64)").message("spec.clients[].acceptAttributes: a name has at most 64 characters"))]
    pub accept_attributes: BTreeMap<String, String>,
}

const fn default_client_timeout() -> u32 {
    20
}

const fn default_client_retries() -> u32 {
    1
}

/// When Message-Authenticator (RFC 3579 section 3.2) is required.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MessageAuthenticatorPolicy {
    /// From an address that has sent one before.
    #[default]
    Auto,
    /// In every request.
    Always,
    /// In no request. It is still verified when present.
    Never,
}
