//! `spec.provider.totp`: time-based one-time passwords (RFC 6238).

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::proxy::{SecretKeyRef, SecretRef};

/// Time-based one-time passwords (RFC 6238).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.seedsSecretRef) || has(self.seedsSelector)").message("spec.provider.totp has no seeds; name a Secret in seedsSecretRef, or Secrets by their labels in seedsSelector"))]
pub struct TotpSpec {
    /// A Secret whose every key holds otpauth:// URIs, one a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seeds_secret_ref: Option<SecretRef>,
    /// More Secrets of that kind, by their labels: one for each user, for example.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seeds_selector: Option<SeedsSelector>,
    /// Accepted time steps before and after the present one, 0 to 10.
    #[serde(default = "default_skew")]
    #[schemars(range(min = 0, max = 10))]
    pub skew_steps: u32,
    /// Where all proxies remember together which codes were used, so that each works once.
    #[serde(default)]
    pub used_codes: UsedCodesSpec,
}

const fn default_skew() -> u32 {
    1
}

/// Secrets of the same namespace by their labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SeedsSelector {
    /// The labels that a Secret must have, all of them, with these values.
    #[x_kube(validation = Rule::new("self.size() >= 1 && self.size() <= 16").message("spec.provider.totp.seedsSelector.matchLabels must have 1 to 16 labels"))]
    #[x_kube(validation = Rule::new("self.all(k, k.size() <= 317 && self[k].size() <= 63)").message("spec.provider.totp.seedsSelector.matchLabels: a label's key has at most 317 characters, its value 63"))]
    #[schemars(extend("maxProperties" = 16))]
    pub match_labels: BTreeMap<String, String>,
}

impl SeedsSelector {
    /// Whether labels are those of a Secret that is meant.
    #[must_use]
    pub fn matches(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        !self.match_labels.is_empty()
            && self
                .match_labels
                .iter()
                .all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
    }

    /// As the API server takes it in `labelSelector`.
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

/// Where all proxies remember together which codes were used: objects of the Kubernetes API, unless another store is named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsedCodesSpec {
    /// What becomes of a right code while the store cannot be asked. AcceptOncePerPod: each proxy accepts it once, recorded
    /// as `once_per_pod`. Deny: it is refused.
    #[serde(default)]
    pub when_unavailable: StoreOutage,
    /// A Valkey, or another server of Redis' protocol, instead of the Kubernetes API: for more than about 50 logins a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisSpec>,
}

/// What becomes of a right code while the store cannot be asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StoreOutage {
    /// Each proxy accepts it once; it is counted.
    #[default]
    AcceptOncePerPod,
    /// It is refused.
    Deny,
}

/// A server of Redis' protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.caBundle) || self.tls").message("spec.provider.totp.usedCodes.redis.caBundle is of no use with tls: false"))]
pub struct RedisSpec {
    /// host:port or address:port.
    #[schemars(regex(pattern = "^.+:[0-9]{1,5}$"), length(max = 261))]
    #[x_kube(validation = Rule::new("!self.matches(':[0-9]{1,5}$') || (int(self.substring(self.lastIndexOf(':') + 1)) >= 1 && int(self.substring(self.lastIndexOf(':') + 1)) <= 65535)").message(Message::Expression("'spec.provider.totp.usedCodes.redis.address is ' + self + '; its port must be 1 to 65535'".to_owned())))]
    pub address: String,
    /// Whether it is spoken to over TLS.
    #[serde(default = "yes")]
    pub tls: bool,
    /// PEM certificates that are trusted instead of the public ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65_536))]
    pub ca_bundle: Option<String>,
    /// The user of the server's access control list, where it is not the default one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub username: Option<String>,
    /// The password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_secret_ref: Option<SecretKeyRef>,
    /// The number of the database, 0 to 65535.
    #[serde(default)]
    #[schemars(range(min = 0, max = 65_535))]
    pub database: u32,
}

const fn yes() -> bool {
    true
}
