//! `[provider.totp]`

use serde::{Deserialize, Serialize};

use crate::file::NamedFile;

/// `[provider.totp]`: RFC 6238 codes, checked by the proxy itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Totp {
    /// Folders whose files hold otpauth:// URIs, one a line.
    pub seed_folders: Vec<String>,
    /// How many time steps before and after the present one are accepted, 0 to 10.
    #[serde(default = "default_skew")]
    pub skew_steps: u32,
    /// Where used codes are remembered.
    #[serde(default)]
    pub used_codes: UsedCodes,
}

const fn default_skew() -> u32 {
    1
}

impl Totp {
    pub(super) fn named_files(&self) -> Vec<NamedFile> {
        let password = self
            .used_codes
            .redis
            .iter()
            .filter_map(|redis| redis.password_file.clone())
            .map(NamedFile::File);
        self.seed_folders
            .iter()
            .cloned()
            .map(NamedFile::Folder)
            .chain(password)
            .collect()
    }
}

/// `[provider.totp.used_codes]`: where it is remembered which codes were used. Without a store it is the memory of this
/// process, which is right for one that serves alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UsedCodes {
    /// What becomes of a right code while the store cannot be asked.
    pub when_unavailable: StoreOutage,
    /// Objects of the Kubernetes API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesStore>,
    /// A server that speaks Redis' protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisStore>,
}

/// What becomes of a right code while the store cannot be asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoreOutage {
    /// Each proxy accepts it once; it is counted.
    #[default]
    AcceptOncePerPod,
    /// It is refused.
    Deny,
}

/// `[provider.totp.used_codes.kubernetes]`: ConfigMaps in the pod's own namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KubernetesStore {
    /// Their names, 1 to 64. Every proxy has to have the same, in the same order: a user's codes are in one of them.
    pub config_maps: Vec<String>,
}

/// `[provider.totp.used_codes.redis]`: a Valkey, or another server of that protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisStore {
    /// `host:port` or `address:port`.
    pub address: String,
    /// Whether it is spoken to over TLS.
    #[serde(default = "yes")]
    pub tls: bool,
    /// PEM certificates that are trusted instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
    /// The user of the server's access control list, where it is not the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// A file with the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<String>,
    /// The number of the database, 0 to 65535.
    #[serde(default)]
    pub database: u32,
}

const fn yes() -> bool {
    true
}
