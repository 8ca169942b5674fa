//! `spec.provider`: the source of the second factor.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::secret_refs::{BasicAuthSecretRef, DuoCredentialsRef, OktaCredentialsRef, SecretKeyRef};
use super::totp::TotpSpec;

/// Exactly one of duo, okta, totp and radius.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.duo) || has(self.okta) || has(self.totp) || has(self.radius)").message("spec.provider is empty, but must have exactly one of duo, okta, totp and radius"))]
#[x_kube(validation = Rule::new("(has(self.duo) ? 1 : 0) + (has(self.okta) ? 1 : 0) + (has(self.totp) ? 1 : 0) + (has(self.radius) ? 1 : 0) <= 1").message(Message::Expression("'spec.provider has ' + (has(self.duo) ? 'duo, ' : '') + (has(self.okta) ? 'okta, ' : '') + (has(self.totp) ? 'totp, ' : '') + (has(self.radius) ? 'radius, ' : '') + 'but must have exactly one of duo, okta, totp and radius'".to_owned())))]
pub struct ProviderSpec {
    /// Duo, through its Auth API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duo: Option<DuoSpec>,
    /// Okta, through its Factors API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub okta: Option<OktaSpec>,
    /// Time-based one-time passwords (RFC 6238), such as those of Google Authenticator. The proxies check them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub totp: Option<TotpSpec>,
    /// Another RADIUS server, such as FreeRADIUS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub radius: Option<UpstreamSpec>,
}

impl ProviderSpec {
    /// The member that is set, as the spec names it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self { duo: Some(_), .. } => "duo",
            Self { okta: Some(_), .. } => "okta",
            Self { radius: Some(_), .. } => "radius",
            _ => "totp",
        }
    }
}

/// What happens to a login while the provider cannot be reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FailMode {
    /// The login is refused.
    #[default]
    Secure,
    /// The user is let in without a second factor.
    Safe,
}

/// A Duo application of type "Auth API".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.httpProxySecretRef) || has(self.httpProxy)").message("spec.provider.duo.httpProxySecretRef goes with httpProxy, which is missing"))]
pub struct DuoSpec {
    /// API hostname of the application, such as api-XXXXXXXX.duosecurity.com.
    #[schemars(
        regex(pattern = "^[a-zA-Z0-9]([-.a-zA-Z0-9]*[a-zA-Z0-9])?(:[0-9]{1,5})?$"),
        length(min = 4, max = 255)
    )]
    pub api_host: String,
    /// Secret with the application's integration key and secret key.
    pub credentials_secret_ref: DuoCredentialsRef,
    /// Factors in order of preference, for users who type none. The proxy uses the first one that a device of the
    /// user supports. Auto: Duo chooses. Push: Duo Mobile. Phone: a call. Sms: Duo sends passcodes, and the user logs
    /// in again with one of them. Passcode: the user types a passcode; the proxy starts nothing.
    #[serde(default = "default_duo_factors")]
    #[schemars(length(min = 1, max = 5))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub factors: Vec<DuoFactor>,
    /// What happens to logins while Duo cannot be reached. Secure: they are refused. Safe: users are let in without a
    /// second factor when the first call (preauth) gets no answer or a server error, and each such login is counted
    /// as `fail_open`. With Safe too, logins are refused when Duo rejects the credentials or limits the rate, when a
    /// certificate isn't trusted, and when a push or passcode fails.
    #[serde(default)]
    pub fail_mode: FailMode,
    /// Version of the request signature, V2 or V5. V2 is for old endpoints.
    #[serde(default)]
    pub signature_version: DuoSignatureVersion,
    /// HTTP proxy for calls to Duo, as http://host:port.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^http://[^/@]+$"), length(max = 255))]
    pub http_proxy: Option<String>,
    /// Secret with the user name and password for the HTTP proxy (Basic authentication).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_proxy_secret_ref: Option<BasicAuthSecretRef>,
    /// CA certificates in PEM to trust instead of the public ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65_536))]
    pub ca_bundle: Option<String>,
}

fn default_duo_factors() -> Vec<DuoFactor> {
    vec![DuoFactor::Auto]
}

/// Version of the request signature.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DuoSignatureVersion {
    /// Version 2, for old endpoints.
    V2,
    /// Version 5.
    #[default]
    V5,
}

/// A factor of Duo's Auth API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DuoFactor {
    /// Duo chooses.
    Auto,
    /// A push to Duo Mobile.
    Push,
    /// A telephone call.
    Phone,
    /// A typed passcode.
    Passcode,
    /// Passcodes by SMS.
    Sms,
}

/// An Okta organization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.credentials != 'OAuth' || has(self.clientId)").message("spec.provider.okta.clientId is required with credentials: OAuth"))]
#[x_kube(validation = Rule::new("self.credentials == 'OAuth' || !has(self.clientId)").message("spec.provider.okta.clientId goes with credentials: OAuth, not with credentials: Token"))]
#[x_kube(validation = Rule::new("!has(self.httpProxySecretRef) || has(self.httpProxy)").message("spec.provider.okta.httpProxySecretRef goes with httpProxy, which is missing"))]
pub struct OktaSpec {
    /// URL of the organization, such as https://example.okta.com.
    #[schemars(regex(pattern = "^https://[^/@]+/?$"), length(max = 255))]
    pub org_url: String,
    /// How the proxies authenticate to Okta. OAuth: a service app with `private_key_jwt`; the Secret holds its RSA
    /// key in PEM. Token: the Secret holds an API token.
    #[serde(default)]
    pub credentials: OktaTokenKind,
    /// Secret with the private key or the API token.
    pub credentials_secret_ref: OktaCredentialsRef,
    /// Client id of the service app. Required with credentials: OAuth.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub client_id: Option<String>,
    /// Id (`kid`) of the key at Okta. Needed when the service app has several keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub key_id: Option<String>,
    /// Factors in order of preference, for users who type none. The proxy starts the first of Push (Okta Verify), Sms
    /// and Call that the user has; after Sms and Call the user logs in again with the code. Totp and Hardware: the
    /// user types a code; the proxy starts nothing.
    #[serde(default = "default_okta_factors")]
    #[schemars(length(min = 1, max = 5))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub factors: Vec<OktaFactor>,
    /// Suffix that turns a user name without a domain into an Okta login, such as @example.com.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^@[^@\\s]+$"), length(max = 128))]
    pub login_suffix: Option<String>,
    /// What happens to logins while Okta cannot be reached. Secure: they are refused. Safe: users are let in without
    /// a second factor when the question about the user and the factors gets no answer or a server error, and each
    /// such login is counted as `fail_open`. With Safe too, a login is refused when a push or passcode fails.
    #[serde(default)]
    pub fail_mode: FailMode,
    /// HTTP proxy for calls to Okta, as http://host:port.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^http://[^/@]+$"), length(max = 255))]
    pub http_proxy: Option<String>,
    /// Secret with the user name and password for the HTTP proxy (Basic authentication).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_proxy_secret_ref: Option<BasicAuthSecretRef>,
    /// CA certificates in PEM to trust instead of the public ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65_536))]
    pub ca_bundle: Option<String>,
}

/// How the proxies authenticate to Okta.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OktaTokenKind {
    /// An OAuth service app.
    #[default]
    #[serde(rename = "OAuth")]
    Oauth,
    /// An API token.
    Token,
}

impl OktaTokenKind {
    /// The default key of the Secret.
    #[must_use]
    pub const fn default_key(self) -> &'static str {
        match self {
            Self::Oauth => "privateKey",
            Self::Token => "token",
        }
    }
}

fn default_okta_factors() -> Vec<OktaFactor> {
    vec![OktaFactor::Push, OktaFactor::Totp]
}

/// A factor of Okta's Factors API that a user can answer over RADIUS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OktaFactor {
    /// A push to Okta Verify.
    Push,
    /// A time-based code.
    Totp,
    /// A code of a hardware token.
    Hardware,
    /// A code by SMS.
    Sms,
    /// A code by telephone.
    Call,
}

/// RADIUS servers that verify the second factor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamSpec {
    /// Servers in order of preference.
    #[schemars(length(min = 1, max = 8))]
    pub servers: Vec<UpstreamServerSpec>,
    /// Time to wait for the answer to one packet, in seconds, 1 to 60.
    #[serde(default = "default_upstream_timeout")]
    #[schemars(range(min = 1, max = 60))]
    pub timeout_seconds: u32,
    /// Number of packets sent to one server before the next server is tried, 1 to 10.
    #[serde(default = "default_upstream_tries")]
    #[schemars(range(min = 1, max = 10))]
    pub tries: u32,
    /// Whether answers without Message-Authenticator are discarded (BlastRADIUS, CVE-2024-3596).
    #[serde(default = "yes")]
    pub require_message_authenticator: bool,
    /// Whether the proxies check the servers' health with Status-Server (RFC 5997).
    #[serde(default = "yes")]
    pub status_server: bool,
    /// Attributes of the Access-Request to forward, by dictionary name or by number, such as 26.2636.1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub forward_attributes: Vec<String>,
    /// Attributes of the Access-Accept to return, by dictionary name or by number, such as 26.2636.1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub return_attributes: Vec<String>,
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

/// An upstream RADIUS server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamServerSpec {
    /// Address of the server, as host:port or address:port.
    #[schemars(regex(pattern = "^.+:[0-9]{1,5}$"), length(max = 261))]
    #[x_kube(validation = Rule::new("!self.matches(':[0-9]{1,5}$') || (int(self.substring(self.lastIndexOf(':') + 1)) >= 1 && int(self.substring(self.lastIndexOf(':') + 1)) <= 65535)").message(Message::Expression("'spec.provider.radius.servers[].address is ' + self + '; its port must be 1 to 65535'".to_owned())))]
    pub address: String,
    /// Secret with the shared secret of the server.
    pub secret_ref: SecretKeyRef,
}
