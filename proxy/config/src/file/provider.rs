//! `[provider.*]`

use std::fmt;

use serde::{Deserialize, Serialize};

use super::NamedFile;

mod totp;

pub use totp::{KubernetesStore, RedisStore, StoreOutage, Totp, UsedCodes};

/// Exactly one of the four tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// `[provider.duo]`
    Duo(Duo),
    /// `[provider.okta]`
    Okta(Okta),
    /// `[provider.totp]`
    Totp(Totp),
    /// `[provider.radius]`
    Radius(Upstream),
}

impl Provider {
    /// The names of their tables.
    pub(super) const NAMES: [&str; 4] = ["duo", "okta", "totp", "radius"];

    pub(super) fn named_files(&self) -> Vec<NamedFile> {
        match self {
            Self::Duo(duo) => [&duo.integration_key_file, &duo.secret_key_file]
                .into_iter()
                .chain(&duo.http_proxy_username_file)
                .chain(&duo.http_proxy_password_file)
                .map(|f| NamedFile::File(f.clone()))
                .collect(),
            Self::Okta(okta) => {
                let own = match &okta.credentials {
                    OktaCredentials::Token { token_file } => token_file,
                    OktaCredentials::Oauth { private_key_file, .. } => private_key_file,
                };
                std::iter::once(own)
                    .chain(&okta.http_proxy_username_file)
                    .chain(&okta.http_proxy_password_file)
                    .map(|f| NamedFile::File(f.clone()))
                    .collect()
            }
            Self::Totp(totp) => totp.named_files(),
            Self::Radius(upstream) => upstream
                .servers
                .iter()
                .map(|s| NamedFile::File(s.secret_file.clone()))
                .collect(),
        }
    }
}

/// The address of an HTTP proxy as it was written. It is no place for a password; where somebody wrote one nevertheless, no
/// debugging output shows it before [`crate::Config::check`] refuses it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProxyUrl(String);

impl ProxyUrl {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is an `http://host:port` that holds neither a name nor a password.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        let url = url::Url::parse(&self.0).ok();
        match url.filter(|url| url.scheme() == "http" && url.has_host()) {
            None => Some("is no address of a proxy; write http://host:port"),
            Some(url) if !url.username().is_empty() || url.password().is_some() => Some(
                "holds a name or password, and this file is no place for one; write http://host:port, and put them into \
                 files (http_proxy_username_file, http_proxy_password_file; in Kubernetes a Secret, httpProxySecretRef)",
            ),
            Some(_) => None,
        }
    }
}

impl From<String> for ProxyUrl {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problem() {
            None => fmt::Debug::fmt(&self.0, f),
            Some(_) => f.write_str("[redacted]"),
        }
    }
}

/// What happens to a login when the provider cannot be asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailMode {
    /// Refused.
    #[default]
    Secure,
    /// Accepted when the *first* step (Duo's preauth) fails; a failed push or passcode is always refused.
    Safe,
}

/// `[provider.duo]`: an application of Duo's Auth API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Duo {
    /// `api-XXXXXXXX.duosecurity.com`, with `:port` when it is not 443.
    pub api_host: String,
    /// A file with the integration key (client id).
    pub integration_key_file: String,
    /// A file with the secret key.
    pub secret_key_file: String,
    /// Factors in order of preference; the first that one of the user's devices can do is used. `auto` lets Duo choose.
    #[serde(default = "default_duo_factors")]
    pub factors: Vec<DuoFactor>,
    /// What happens when Duo cannot be asked.
    #[serde(default)]
    pub fail_mode: FailMode,
    /// `5`, or `2` for an old endpoint.
    #[serde(default)]
    pub signature_version: SignatureVersion,
    /// `http://host:port` of a proxy that the calls go through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_proxy: Option<ProxyUrl>,
    /// A file with the user name for that proxy, where it wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_proxy_username_file: Option<String>,
    /// A file with the password for that proxy, where it wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_proxy_password_file: Option<String>,
    /// PEM certificates that are trusted instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
}

fn default_duo_factors() -> Vec<DuoFactor> {
    vec![DuoFactor::Auto]
}

/// Factors of Duo's Auth API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DuoFactor {
    /// Duo chooses.
    Auto,
    /// A push to Duo Mobile.
    Push,
    /// A telephone call.
    Phone,
    /// A passcode that was typed. It starts nothing by itself.
    Passcode,
    /// Passcodes by SMS; the user logs in again with one.
    Sms,
}

/// Duo's request signature.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub enum SignatureVersion {
    /// Version 2 (HMAC-SHA-512 over form parameters).
    V2,
    /// Version 5 (HMAC-SHA-512 over a JSON body).
    #[default]
    V5,
}

impl TryFrom<u32> for SignatureVersion {
    type Error = String;

    fn try_from(number: u32) -> Result<Self, String> {
        match number {
            2 => Ok(Self::V2),
            5 => Ok(Self::V5),
            other => Err(format!("signature_version is {other}; Duo's are 2 and 5")),
        }
    }
}

impl From<SignatureVersion> for u32 {
    fn from(version: SignatureVersion) -> Self {
        match version {
            SignatureVersion::V2 => 2,
            SignatureVersion::V5 => 5,
        }
    }
}

/// `[provider.okta]`: Okta's Factors API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Okta {
    /// `https://example.okta.com`
    pub org_url: String,
    /// A service app (recommended) or an API token.
    pub credentials: OktaCredentials,
    /// Factors in order of preference.
    #[serde(default = "default_okta_factors")]
    pub factors: Vec<OktaFactor>,
    /// Appended to a user name that has no domain, to make the Okta login: `@example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_suffix: Option<String>,
    /// What happens when Okta cannot be asked for the user and the factors.
    #[serde(default)]
    pub fail_mode: FailMode,
    /// `http://host:port` of a proxy that the calls go through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_proxy: Option<ProxyUrl>,
    /// A file with the user name for that proxy, where it wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_proxy_username_file: Option<String>,
    /// A file with the password for that proxy, where it wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_proxy_password_file: Option<String>,
    /// PEM certificates that are trusted instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
}

/// How the proxy proves itself to Okta.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum OktaCredentials {
    /// An API token (`Authorization: SSWS …`).
    Token {
        /// A file with the token.
        token_file: String,
    },
    /// An OAuth service app with `private_key_jwt`, scopes okta.users.read and okta.users.manage.
    Oauth {
        /// The app's client id.
        client_id: String,
        /// A file with the RSA private key in PEM (PKCS #8).
        private_key_file: String,
        /// The key's id (`kid`) at Okta.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key_id: Option<String>,
    },
}

fn default_okta_factors() -> Vec<OktaFactor> {
    vec![OktaFactor::Push, OktaFactor::Totp]
}

/// Factors of Okta's Factors API that can be answered over RADIUS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OktaFactor {
    /// Okta Verify push.
    Push,
    /// A time-based code of Okta Verify or Google Authenticator.
    Totp,
    /// A code of a hardware token or a YubiKey.
    Hardware,
    /// A code by SMS.
    Sms,
    /// A code by telephone.
    Call,
}

/// `[provider.radius]`: another RADIUS server decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Servers in order of preference, 1 to 8.
    pub servers: Vec<UpstreamServer>,
    /// How long one server is given for one try, in seconds, 1 to 60.
    #[serde(default = "default_upstream_timeout")]
    pub timeout_seconds: u32,
    /// Tries for each server before the next is asked, 1 to 10.
    #[serde(default = "default_upstream_tries")]
    pub tries: u32,
    /// Whether an answer without Message-Authenticator is refused (BlastRADIUS, CVE-2024-3596).
    #[serde(default = "yes")]
    pub require_message_authenticator: bool,
    /// Whether health is asked by Status-Server (RFC 5997).
    #[serde(default = "yes")]
    pub status_server: bool,
    /// Attributes of the client's request that are passed on, by dictionary name.
    #[serde(default)]
    pub forward_attributes: Vec<String>,
    /// Attributes of the server's Access-Accept that are passed back, by dictionary name.
    #[serde(default)]
    pub return_attributes: Vec<String>,
}

/// One upstream server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamServer {
    /// `host:port` or `address:port`.
    pub address: String,
    /// A file with the secret shared with it.
    pub secret_file: String,
}

const fn default_upstream_timeout() -> u32 {
    5
}

const fn default_upstream_tries() -> u32 {
    3
}

const fn yes() -> bool {
    true
}
