//! `spec.directory`: the AWS side, RadiusSettings one to one.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `^d-[0-9a-f]{10}$`, the pattern of a directory id.
#[must_use]
pub const fn directory_id_pattern() -> &'static str {
    "^d-[0-9a-f]{10}$"
}

/// The directory that asks these proxies, and the RADIUS settings that the operator keeps there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DirectorySpec {
    /// The directory's id, such as d-1234567890. It cannot be changed: make another RadiusProxy instead.
    #[schemars(regex(pattern = "^d-[0-9a-f]{10}$"), length(max = 12))]
    #[x_kube(validation = Rule::new("self == oldSelf").message(Message::Expression("'spec.directory.id is ' + oldSelf + ' and cannot be changed to ' + self + '; make another RadiusProxy for another directory'".to_owned())))]
    pub id: String,

    /// The AWS region that the settings are made in. RADIUS is configured region by region.
    #[schemars(regex(pattern = "^[a-z]{2,}(-[a-z]+)+-[0-9]+$"), length(max = 32))]
    #[x_kube(validation = Rule::new("self == oldSelf").message(Message::Expression("'spec.directory.region is ' + oldSelf + ' and cannot be changed to ' + self + '; make another RadiusProxy for another region'".to_owned())))]
    pub region: String,

    /// How AWS sends the password: PAP, CHAP, MS-CHAPv1 or MS-CHAPv2.
    #[serde(default)]
    pub protocol: AuthenticationProtocol,

    /// How long AWS waits for one try, in seconds, 1 to 50. Above 20 AWS does not get to another server in time: there
    /// is then no fail-over inside one login.
    #[serde(default = "default_timeout")]
    #[schemars(range(min = 1, max = 50))]
    pub timeout_seconds: u32,

    /// How often AWS tries again after the first try, 0 to 10.
    #[serde(default = "default_retries")]
    #[schemars(range(min = 0, max = 10))]
    pub retries: u32,

    /// A label, 1 to 64 characters. It is sent to AWS, whose API reference says that it is not currently used. A push shows
    /// it where spec.application is left out.
    #[serde(default = "default_label")]
    #[schemars(length(min = 1, max = 64))]
    pub display_label: String,

    /// UseSameUsername of the AWS API. It is sent to AWS, whose API reference says that it is not currently used.
    #[serde(default = "yes")]
    pub use_same_username: bool,

    /// Whether a CHAP, MS-CHAPv1 or MS-CHAPv2 request of the directory without Message-Authenticator may start a push.
    /// Such a request doesn't prove the shared secret: anyone who can send packets with the directory's source address
    /// could then start pushes for any user. Not needed for PAP, or where the directory sends Message-Authenticator.
    #[serde(default)]
    pub unauthenticated_push: bool,

    /// What happens in AWS when this RadiusProxy is deleted: Retain leaves the settings, Disable switches RADIUS off
    /// (only if what is registered is this RadiusProxy's).
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// What happens to RADIUS settings that somebody else made: Refuse leaves them and says so, Adopt replaces them
    /// with one write.
    #[serde(default)]
    pub adoption_policy: AdoptionPolicy,

    /// What happens when somebody changes the settings later: Repair writes them back (but leaves RADIUS off when it
    /// was switched off), Enforce switches it on again too, Report only tells. Repair and Enforce also write back a shared
    /// secret that was changed at AWS, which shows in the directory's requests only, at most once an hour.
    #[serde(default)]
    pub drift_policy: DriftPolicy,
}

const fn default_timeout() -> u32 {
    20
}

const fn default_retries() -> u32 {
    4
}

fn default_label() -> String {
    "MFA".to_owned()
}

const fn yes() -> bool {
    true
}

/// `RadiusAuthenticationProtocol` of the AWS API.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AuthenticationProtocol {
    /// RFC 2865 User-Password.
    #[default]
    #[serde(rename = "PAP")]
    Pap,
    /// RFC 2865 CHAP-Password.
    #[serde(rename = "CHAP")]
    Chap,
    /// RFC 2433.
    #[serde(rename = "MS-CHAPv1")]
    MsChapV1,
    /// RFC 2759.
    #[serde(rename = "MS-CHAPv2")]
    MsChapV2,
}

impl AuthenticationProtocol {
    /// As AWS writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pap => "PAP",
            Self::Chap => "CHAP",
            Self::MsChapV1 => "MS-CHAPv1",
            Self::MsChapV2 => "MS-CHAPv2",
        }
    }
}

/// What happens in AWS on deletion.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The settings stay.
    #[default]
    Retain,
    /// DisableRadius, if what is registered is ours.
    Disable,
}

/// What happens to settings that somebody else made before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AdoptionPolicy {
    /// They stay, and the condition says so.
    #[default]
    Refuse,
    /// They are replaced.
    Adopt,
}

/// What happens to changes from outside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DriftPolicy {
    /// Settings are written back; RADIUS switched off stays off.
    #[default]
    Repair,
    /// Settings are written back and RADIUS is switched on again.
    Enforce,
    /// Nothing is written, the condition tells.
    Report,
}
