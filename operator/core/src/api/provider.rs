//! `spec.provider`: what asks the second factor.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::proxy::{SecretKeyRef, SecretRef};
use super::totp::TotpSpec;

/// Exactly one provider.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.duo) || has(self.okta) || has(self.totp) || has(self.radius)").message("spec.provider is empty, but must have exactly one of duo, okta, totp and radius"))]
#[x_kube(validation = Rule::new("(has(self.duo) ? 1 : 0) + (has(self.okta) ? 1 : 0) + (has(self.totp) ? 1 : 0) + (has(self.radius) ? 1 : 0) <= 1").message(Message::Expression("'spec.provider has ' + (has(self.duo) ? 'duo, ' : '') + (has(self.okta) ? 'okta, ' : '') + (has(self.totp) ? 'totp, ' : '') + (has(self.radius) ? 'radius, ' : '') + 'but must have exactly one of duo, okta, totp and radius'".to_owned())))]
pub struct ProviderSpec {
    /// Duo's Auth API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duo: Option<DuoSpec>,
    /// Okta's Factors API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub okta: Option<OktaSpec>,
    /// RFC 6238 codes (Google Authenticator and others), checked by the proxy itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub totp: Option<TotpSpec>,
    /// Another RADIUS server, such as FreeRADIUS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub radius: Option<UpstreamSpec>,
}

/// What happens to a login when the provider cannot be asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FailMode {
    /// Refused.
    #[default]
    Secure,
    /// Accepted when the first step cannot be asked; a push or passcode that fails is always refused.
    Safe,
}

/// An application of type "Auth API" at Duo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.httpProxySecretRef) || has(self.httpProxy)").message("spec.provider.duo.httpProxySecretRef goes with httpProxy, which is missing"))]
pub struct DuoSpec {
    /// The API hostname, api-XXXXXXXX.duosecurity.com.
    #[schemars(
        regex(pattern = "^[a-zA-Z0-9]([-.a-zA-Z0-9]*[a-zA-Z0-9])?(:[0-9]{1,5})?$"),
        length(min = 4, max = 255)
    )]
    pub api_host: String,
    /// A Secret with the keys `ikey` (integration key or client id) and `skey` (secret key).
    pub credentials_secret_ref: SecretRef,
    /// Factors in order of preference, where the user types none; the first that one of the user's devices can do is used.
    /// auto: Duo chooses. push: Duo Mobile. phone: a call. sms: codes are sent, and the user logs in again with one.
    /// passcode: one that is typed; it starts nothing by itself.
    #[serde(default = "default_duo_factors")]
    #[schemars(length(min = 1, max = 5))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub factors: Vec<DuoFactor>,
    /// What happens to a login when Duo cannot be asked. secure: it is refused. safe: it is accepted without a second
    /// factor when the first call (preauth) gets no answer or an error of Duo's own, and counted as `fail_open`; refused
    /// keys, rate limits and untrusted certificates refuse all the same, and so does a push or passcode that fails.
    #[serde(default)]
    pub fail_mode: FailMode,
    /// How requests are signed: 5, or 2 for an old endpoint.
    #[serde(default = "default_signature_version")]
    #[schemars(extend("enum" = [2, 5]))]
    pub signature_version: u32,
    /// An HTTP proxy for the calls, http://host:port.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^http://[^/@]+$"), length(max = 255))]
    pub http_proxy: Option<String>,
    /// A Secret with the keys `username` and `password`, where the HTTP proxy asks for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_proxy_secret_ref: Option<SecretRef>,
    /// PEM certificates that are trusted instead of the public ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65_536))]
    pub ca_bundle: Option<String>,
}

fn default_duo_factors() -> Vec<DuoFactor> {
    vec![DuoFactor::Auto]
}

const fn default_signature_version() -> u32 {
    5
}

/// Factors of Duo's Auth API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
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

/// An organisation at Okta.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.credentials != 'OAuth' || has(self.clientId)").message("spec.provider.okta.clientId is required with credentials: OAuth"))]
#[x_kube(validation = Rule::new("self.credentials == 'OAuth' || !has(self.clientId)").message("spec.provider.okta.clientId goes with credentials: OAuth, not with credentials: Token"))]
#[x_kube(validation = Rule::new("!has(self.httpProxySecretRef) || has(self.httpProxy)").message("spec.provider.okta.httpProxySecretRef goes with httpProxy, which is missing"))]
pub struct OktaSpec {
    /// The organisation's URL, https://example.okta.com.
    #[schemars(regex(pattern = "^https://[^/@]+/?$"), length(max = 255))]
    pub org_url: String,
    /// OAuth: a service app with `private_key_jwt`, the Secret's key `privateKey` holds its RSA key in PEM. Token: the
    /// Secret's key `token` holds an API token.
    #[serde(default)]
    pub credentials: OktaTokenKind,
    /// The Secret with `privateKey` or `token`.
    pub credentials_secret_ref: SecretRef,
    /// The service app's client id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub client_id: Option<String>,
    /// The key's id (`kid`) at Okta, where the app has several keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub key_id: Option<String>,
    /// Factors in order of preference, where the user types none: the first of push (Okta Verify), sms and call that the
    /// user has is begun; after sms and call the user logs in again with the code. totp, hardware: a code that is typed;
    /// they begin nothing by themselves.
    #[serde(default = "default_okta_factors")]
    #[schemars(length(min = 1, max = 5))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub factors: Vec<OktaFactor>,
    /// Appended to a user name without a domain to make the Okta login, such as @example.com.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^@[^@\\s]+$"), length(max = 128))]
    pub login_suffix: Option<String>,
    /// What happens to a login when Okta cannot be asked. secure: it is refused. safe: it is accepted without a second
    /// factor when Okta gives no answer, or an error of its own, about the user and the factors, and counted as
    /// `fail_open`; a push or passcode that fails is refused all the same.
    #[serde(default)]
    pub fail_mode: FailMode,
    /// An HTTP proxy for the calls, http://host:port.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^http://[^/@]+$"), length(max = 255))]
    pub http_proxy: Option<String>,
    /// A Secret with the keys `username` and `password`, where the HTTP proxy asks for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_proxy_secret_ref: Option<SecretRef>,
    /// PEM certificates that are trusted instead of the public ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65_536))]
    pub ca_bundle: Option<String>,
}

/// How the proxy proves itself to Okta.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OktaTokenKind {
    /// An OAuth service app.
    #[default]
    #[serde(rename = "OAuth")]
    Oauth,
    /// An API token.
    Token,
}

fn default_okta_factors() -> Vec<OktaFactor> {
    vec![OktaFactor::Push, OktaFactor::Totp]
}

/// Factors of Okta's Factors API that can be answered over RADIUS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OktaFactor {
    /// Okta Verify push.
    Push,
    /// A time-based code.
    Totp,
    /// A hardware token's code.
    Hardware,
    /// A code by SMS.
    Sms,
    /// A code by telephone.
    Call,
}

/// RADIUS servers that decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamSpec {
    /// Servers in order of preference.
    #[schemars(length(min = 1, max = 8))]
    pub servers: Vec<UpstreamServerSpec>,
    /// How long one server is given for one try, in seconds, 1 to 60.
    #[serde(default = "default_upstream_timeout")]
    #[schemars(range(min = 1, max = 60))]
    pub timeout_seconds: u32,
    /// Tries for each server before the next is asked, 1 to 10.
    #[serde(default = "default_upstream_tries")]
    #[schemars(range(min = 1, max = 10))]
    pub tries: u32,
    /// Whether an answer without Message-Authenticator is refused (BlastRADIUS, CVE-2024-3596).
    #[serde(default = "yes")]
    pub require_message_authenticator: bool,
    /// Whether health is asked by Status-Server (RFC 5997).
    #[serde(default = "yes")]
    pub status_server: bool,
    /// Attributes of the request that are passed on, by dictionary name or by number, such as 26.2636.1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub forward_attributes: Vec<String>,
    /// Attributes of the Access-Accept that are passed back, by dictionary name or by number, such as 26.2636.1.
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

/// One upstream server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamServerSpec {
    /// host:port or address:port.
    #[schemars(regex(pattern = "^.+:[0-9]{1,5}$"), length(max = 261))]
    #[x_kube(validation = Rule::new("!self.matches(':[0-9]{1,5}$') || (int(self.substring(self.lastIndexOf(':') + 1)) >= 1 && int(self.substring(self.lastIndexOf(':') + 1)) <= 65535)").message(Message::Expression("'spec.provider.radius.servers[].address is ' + self + '; its port must be 1 to 65535'".to_owned())))]
    pub address: String,
    /// The secret shared with it.
    pub secret_ref: SecretKeyRef,
}
