//! `spec.provider.totp`: time-based one-time passwords (RFC 6238).

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::secret_refs::{PasswordKeyRef, SeedsSecretRef};

/// Time-based one-time passwords (RFC 6238).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.seedsSecretRef) || has(self.seedsSelector)").message("spec.provider.totp has no seeds; name a Secret in seedsSecretRef, or Secrets by their labels in seedsSelector"))]
pub struct TotpSpec {
    /// Secret with seeds: one otpauth:// URI per line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seeds_secret_ref: Option<SeedsSecretRef>,
    /// More Secrets with seeds, selected by their labels. For example one for each user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seeds_selector: Option<SeedsSelector>,
    /// Number of time steps before and after the current one whose codes are accepted, 0 to 10.
    #[serde(default = "default_skew")]
    #[schemars(range(min = 0, max = 10))]
    pub skew_steps: u32,
    /// Shared record of used codes, so that each code works once across all proxies.
    #[serde(default)]
    pub used_codes: UsedCodesSpec,
}

const fn default_skew() -> u32 {
    1
}

/// Selects Secrets of the same namespace by their labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SeedsSelector {
    /// Labels that a Secret must have, 1 to 16.
    #[x_kube(validation = Rule::new("self.size() >= 1 && self.size() <= 16").message("spec.provider.totp.seedsSelector.matchLabels must have 1 to 16 labels"))]
    #[x_kube(validation = Rule::new("self.all(k, k.size() <= 317 && self[k].size() <= 63)").message("spec.provider.totp.seedsSelector.matchLabels: a label's key has at most 317 characters, its value 63"))]
    #[schemars(extend("maxProperties" = 16))]
    pub match_labels: BTreeMap<String, String>,
}

impl SeedsSelector {
    /// Whether a Secret with these labels is selected.
    #[must_use]
    pub fn matches(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        !self.match_labels.is_empty()
            && self
                .match_labels
                .iter()
                .all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
    }

    /// The value of the API server's parameter `labelSelector`.
    #[must_use]
    pub fn to_query(&self) -> String {
        let pairs: Vec<String> = self
            .match_labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        pairs.join(",")
    }
}

/// Shared record of used codes: objects of the Kubernetes API, unless another store is named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsedCodesSpec {
    /// What happens to a correct code while the store is unavailable. AcceptOncePerPod: each proxy accepts it once,
    /// and records it as `once_per_pod`. Deny: it is refused.
    #[serde(default)]
    pub when_unavailable: StoreOutage,
    /// Valkey, or another server with the Redis protocol, to use instead of the Kubernetes API. Recommended above about 50
    /// logins per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisSpec>,
}

/// What happens to a correct code while the store is unavailable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StoreOutage {
    /// Each proxy accepts it once, and counts it.
    #[default]
    AcceptOncePerPod,
    /// It is refused.
    Deny,
}

/// A server with the Redis protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.caBundle) || self.tls").message("spec.provider.totp.usedCodes.redis.caBundle is of no use with tls: false"))]
pub struct RedisSpec {
    /// Address of the server, as host:port or address:port.
    #[schemars(regex(pattern = "^.+:[0-9]{1,5}$"), length(max = 261))]
    #[x_kube(validation = Rule::new("!self.matches(':[0-9]{1,5}$') || (int(self.substring(self.lastIndexOf(':') + 1)) >= 1 && int(self.substring(self.lastIndexOf(':') + 1)) <= 65535)").message(Message::Expression("'spec.provider.totp.usedCodes.redis.address is ' + self + '; its port must be 1 to 65535'".to_owned())))]
    pub address: String,
    /// Whether the proxies use TLS.
    #[serde(default = "yes")]
    pub tls: bool,
    /// CA certificates in PEM to trust instead of the public ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65_536))]
    pub ca_bundle: Option<String>,
    /// User in the server's access control list. Defaults to the server's default user.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub username: Option<String>,
    /// Secret with the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_secret_ref: Option<PasswordKeyRef>,
    /// Number of the database, 0 to 65535.
    #[serde(default)]
    #[schemars(range(min = 0, max = 65_535))]
    pub database: u32,
}

const fn yes() -> bool {
    true
}
