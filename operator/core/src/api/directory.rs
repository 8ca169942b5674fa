//! `spec.directory`: the AWS side, RadiusSettings one to one.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `^d-[0-9a-f]{10}$`, the pattern of a directory id.
#[must_use]
pub const fn directory_id_pattern() -> &'static str {
    "^d-[0-9a-f]{10}$"
}

/// A directory and the RADIUS settings that the operator maintains there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DirectorySpec {
    /// Id of the directory, such as d-1234567890. It cannot be changed: create another RadiusProxy instead.
    #[schemars(regex(pattern = "^d-[0-9a-f]{10}$"), length(max = 12))]
    #[x_kube(validation = Rule::new("self == oldSelf").message(Message::Expression("'spec.directory.id is ' + oldSelf + ' and cannot be changed to ' + self + '; create another RadiusProxy for another directory'".to_owned())))]
    pub id: String,

    /// AWS region of the RADIUS settings, such as eu-central-1. RADIUS is configured per region. It cannot be changed: create
    /// another RadiusProxy instead.
    #[schemars(regex(pattern = "^[a-z]{2,}(-[a-z]+)+-[0-9]+$"), length(max = 32))]
    #[x_kube(validation = Rule::new("self == oldSelf").message(Message::Expression("'spec.directory.region is ' + oldSelf + ' and cannot be changed to ' + self + '; create another RadiusProxy for another region'".to_owned())))]
    pub region: String,

    /// Authentication protocol, PAP, CHAP, MS-CHAPv1 or MS-CHAPv2.
    #[serde(default)]
    pub protocol: AuthenticationProtocol,

    /// Time that AWS waits for the answer to one packet, in seconds, 1 to 50. Above 20, AWS doesn't try another
    /// server within one login, so there is no fail-over.
    #[serde(default = "default_timeout")]
    #[schemars(range(min = 1, max = 50))]
    pub timeout_seconds: u32,

    /// Number of AWS's retries after the first packet, 0 to 10.
    #[serde(default = "default_retries")]
    #[schemars(range(min = 0, max = 10))]
    pub retries: u32,

    /// Label of 1 to 64 characters. Push notifications show it unless spec.application is set. AWS documents it as
    /// not currently used.
    #[serde(default = "default_label")]
    #[schemars(length(min = 1, max = 64))]
    pub display_label: String,

    /// UseSameUsername of the AWS API. AWS documents it as not currently used.
    #[serde(default = "yes")]
    pub use_same_username: bool,

    /// Whether CHAP, MS-CHAPv1 and MS-CHAPv2 requests of the directory without Message-Authenticator may start a
    /// push. Such a request doesn't prove the shared secret: anyone who can send packets with the directory's source
    /// address could then start pushes for any user. It isn't needed with PAP, or if the directory sends
    /// Message-Authenticator.
    #[serde(default)]
    pub unauthenticated_push: bool,

    /// What happens at AWS when this RadiusProxy is deleted. Retain: the settings stay, and no one can log in until
    /// other servers are registered. Disable: the operator switches RADIUS off, if the registered servers are those
    /// of this RadiusProxy; users then log in without a second factor.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// What happens to RADIUS settings that were not created by this RadiusProxy. Refuse: they stay, and the
    /// condition Registered says so. Adopt: the operator replaces them with one write, and takes the directory over
    /// from a RadiusProxy of this cluster that is suspended. Adopt counts for one write: set Refuse and then Adopt
    /// again for another one.
    #[serde(default)]
    pub adoption_policy: AdoptionPolicy,

    /// What happens when someone else changes the RADIUS settings. Repair: the operator writes them back, but leaves
    /// RADIUS off if it was switched off. Enforce: the operator also switches RADIUS on again. Report: the operator
    /// only reports the change. With Repair and Enforce the operator also writes back a shared secret that was
    /// changed at AWS, at most once an hour; such a change is visible only in the directory's requests.
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
    /// The name in the AWS API.
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

/// What happens at AWS on deletion.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The settings stay.
    #[default]
    Retain,
    /// RADIUS is switched off, if the registered servers are those of the RadiusProxy.
    Disable,
}

/// What happens to settings of someone else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AdoptionPolicy {
    /// They stay, and the condition Registered says so.
    #[default]
    Refuse,
    /// They are replaced.
    Adopt,
}

/// What happens to changes by someone else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DriftPolicy {
    /// Settings are written back; RADIUS switched off stays off.
    #[default]
    Repair,
    /// Settings are written back and RADIUS is switched on again.
    Enforce,
    /// Nothing is written. The condition Registered reports the change.
    Report,
}
