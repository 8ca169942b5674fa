//! `spec.policy`: user names, typed text, exempt users and limits.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rules for logins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.exemptUsers) || self.exemptUsers.all(u, u.lowerAscii() != 'fakeusername' && !(u in self.probeUsers))").message("spec.policy.exemptUsers names a user of spec.policy.probeUsers, or fakeusername, which AWS probes with: a probe is never accepted"))]
pub struct PolicySpec {
    /// Normalization of user names.
    #[serde(default)]
    pub user_names: UserNamesSpec,
    /// Further meanings of the text that users type, in addition to a factor keyword and a passcode.
    #[serde(default)]
    pub typed_text: TypedTextSpec,
    /// Users who need no second factor: exact, normalized names of at most 128 bytes. Each such login is counted and recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 128)))]
    #[x_kube(validation = Rule::new("self.all(u, size(bytes(u)) <= 128)").message("spec.policy.exemptUsers: a name has at most 128 bytes"))]
    pub exempt_users: Vec<String>,
    /// User names of the health probes of AWS Directory Service, at most 128 bytes each. The proxies answer a probe
    /// with Access-Reject without calling the provider, and count it separately from logins.
    #[serde(default = "default_probe_users")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 128)))]
    #[x_kube(validation = Rule::new("self.all(u, size(bytes(u)) <= 128)").message("spec.policy.probeUsers: a name has at most 128 bytes"))]
    pub probe_users: Vec<String>,
    /// Maximum duration of a login, in seconds, 10 to 600, even if the client's timeout and retries allow more.
    #[serde(default = "default_login_seconds")]
    #[schemars(range(min = 10, max = 600))]
    pub login_seconds: u32,
    /// Rate limits.
    #[serde(default)]
    pub limits: LimitsSpec,
}

impl Default for PolicySpec {
    fn default() -> Self {
        Self {
            user_names: UserNamesSpec::default(),
            typed_text: TypedTextSpec::default(),
            exempt_users: Vec::new(),
            probe_users: default_probe_users(),
            login_seconds: default_login_seconds(),
            limits: LimitsSpec::default(),
        }
    }
}

fn default_probe_users() -> Vec<String> {
    vec!["fakeusername".to_owned()]
}

const fn default_login_seconds() -> u32 {
    60
}

/// Normalization of user names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserNamesSpec {
    /// Whether DOMAIN\u and u@domain are the user u.
    #[serde(default = "yes")]
    pub strip_domain: bool,
    /// Whether Jane is the user jane.
    #[serde(default = "yes")]
    pub lower_case: bool,
}

impl Default for UserNamesSpec {
    fn default() -> Self {
        Self {
            strip_domain: true,
            lower_case: true,
        }
    }
}

const fn yes() -> bool {
    true
}

/// Further meanings of the text that users type. Both are off by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TypedTextSpec {
    /// Delimiter, one character. The text after the last one is the factor keyword or passcode.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1))]
    pub delimiter: Option<String>,
    /// Number of characters at the end of the text that are the passcode, 6 to 8.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 6, max = 8))]
    pub passcode_suffix_length: Option<u32>,
}

/// Rate limits. They refuse logins for a while and never lock a user out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitsSpec {
    /// Maximum number of pushes and calls per minute for one user, 1 to 60.
    #[serde(default = "default_pushes")]
    #[schemars(range(min = 1, max = 60))]
    pub pushes_per_user_per_minute: u32,
    /// Maximum number of logins per minute of one user, 1 to 600.
    #[serde(default = "default_logins")]
    #[schemars(range(min = 1, max = 600))]
    pub logins_per_user_per_minute: u32,
    /// Maximum number of new requests per second from one client address, 1 to 1000000. A client can have its own
    /// limit.
    #[serde(default = "default_requests")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests_per_client_per_second: u32,
    /// Maximum number of logins that wait for the provider in one proxy, 1 to 1000000. Each takes about 16 KB of
    /// memory.
    #[serde(default = "default_pending")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub pending: u32,
    /// Time without a new push for a user who denied one, in seconds, 0 to 3600. Passcodes still work.
    #[serde(default = "default_cool_down")]
    #[schemars(range(min = 0, max = 3600))]
    pub push_cool_down_seconds: u32,
}

impl Default for LimitsSpec {
    fn default() -> Self {
        Self {
            pushes_per_user_per_minute: default_pushes(),
            logins_per_user_per_minute: default_logins(),
            requests_per_client_per_second: default_requests(),
            pending: default_pending(),
            push_cool_down_seconds: default_cool_down(),
        }
    }
}

const fn default_pushes() -> u32 {
    6
}

const fn default_logins() -> u32 {
    30
}

const fn default_requests() -> u32 {
    10_000
}

const fn default_pending() -> u32 {
    10_000
}

const fn default_cool_down() -> u32 {
    10
}
