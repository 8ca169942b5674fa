//! The world that a config file or the admin API makes: who may call, which roles and directories there are.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::secret::{Secret, in_the_clear};

/// An access key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// The key's id; in `PUT /credentials/{id}` it comes from the path.
    #[serde(default)]
    pub access_key_id: String,
    /// The key.
    #[serde(with = "in_the_clear")]
    pub secret_access_key: Secret,
    /// Demanded with the key when not empty.
    #[serde(default, with = "in_the_clear")]
    pub session_token: Secret,
    /// Whose it is.
    #[serde(default = "operator_arn")]
    pub principal: String,
    /// RFC 3339; empty: never.
    #[serde(default)]
    pub expires_at: String,
    /// Actions, with `*` as wildcard at the end.
    #[serde(default = "everything")]
    pub allow: Vec<String>,
    /// Directories that `ds` actions with a resource may touch.
    #[serde(default = "everything")]
    pub directories: Vec<String>,
}

fn operator_arn() -> String {
    "arn:aws:iam::123456789012:user/operator".to_owned()
}

fn everything() -> Vec<String> {
    vec!["*".to_owned()]
}

/// A role that can be assumed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// `arn:aws:iam::ACCOUNT:role/NAME`.
    pub arn: String,
    /// Principals that may assume it.
    #[serde(default = "everything")]
    pub trusted: Vec<String>,
    /// Demanded when not empty.
    #[serde(default)]
    pub external_id: String,
    /// Actions of its sessions.
    #[serde(default = "everything")]
    pub allow: Vec<String>,
    /// Directories of its sessions.
    #[serde(default = "everything")]
    pub directories: Vec<String>,
    /// How long a session lasts at most.
    #[serde(default = "an_hour")]
    pub session_seconds: u64,
    /// Subjects of web identity tokens that may assume it.
    #[serde(default)]
    pub web_identity_subjects: Vec<String>,
    /// Their audience.
    #[serde(default = "sts_audience")]
    pub web_identity_audience: String,
    /// A JWKS file; when given, the token's signature is verified.
    #[serde(default)]
    pub web_identity_jwks: PathBuf,
}

fn an_hour() -> u64 {
    3600
}

fn sts_audience() -> String {
    "sts.amazonaws.com".to_owned()
}

/// A directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectorySpec {
    /// `d-` and ten hex digits; in `PUT /directories/{id}` it comes from the path.
    #[serde(default)]
    pub id: String,
    /// SimpleAD, ADConnector, MicrosoftAD or SharedMicrosoftAD.
    #[serde(rename = "type", default)]
    pub kind: DirectoryType,
    /// Fully qualified name.
    #[serde(default = "corp")]
    pub name: String,
    /// NetBIOS name.
    #[serde(default = "corp_short")]
    pub short_name: String,
    /// Lifecycle stage.
    #[serde(default)]
    pub stage: Stage,
    /// Said beside the stage when not empty.
    #[serde(default)]
    pub stage_reason: String,
    /// IPv4, IPv6 or Dual-stack.
    #[serde(default)]
    pub network_type: NetworkType,
    /// Primary region; empty: the settings' region.
    #[serde(default)]
    pub region: String,
    /// Regions it is replicated to.
    #[serde(default)]
    pub additional_regions: Vec<String>,
    /// ADConnector: the customer's own DNS servers, shown as DnsIpAddrs.
    #[serde(default = "customer_dns")]
    pub customer_dns_ips: Vec<IpAddr>,
    /// Shown as it is.
    #[serde(default = "two")]
    pub desired_domain_controllers: u32,
    /// SharedMicrosoftAD: the account that owns it.
    #[serde(default)]
    pub owner_account: String,
    /// SharedMicrosoftAD: its id there.
    #[serde(default)]
    pub owner_directory_id: String,
    /// Controllers that only have an address and never probe.
    #[serde(default)]
    pub static_controllers: Vec<StaticController>,
    /// Tags; left out: kept as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
}

impl DirectorySpec {
    /// An active directory of a type with no controllers.
    pub fn new(id: &str, kind: DirectoryType) -> Self {
        Self {
            id: id.to_owned(),
            kind,
            name: corp(),
            short_name: corp_short(),
            stage: Stage::Active,
            stage_reason: String::new(),
            network_type: NetworkType::IPv4,
            region: String::new(),
            additional_regions: Vec::new(),
            customer_dns_ips: customer_dns(),
            desired_domain_controllers: two(),
            owner_account: String::new(),
            owner_directory_id: String::new(),
            static_controllers: Vec::new(),
            tags: None,
        }
    }

    /// Whether it is there in a region.
    pub(crate) fn is_in(&self, region: &str) -> bool {
        self.region == region || self.additional_regions.iter().any(|other| other == region)
    }
}

fn corp() -> String {
    "corp.example.com".to_owned()
}

fn corp_short() -> String {
    "CORP".to_owned()
}

fn customer_dns() -> Vec<IpAddr> {
    vec![IpAddr::from([10, 0, 0, 2])]
}

fn two() -> u32 {
    2
}

/// Types of directory.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub enum DirectoryType {
    /// Samba; has no RADIUS.
    SimpleAD,
    /// A proxy to the customer's own Active Directory.
    ADConnector,
    /// AWS Managed Microsoft AD.
    #[default]
    MicrosoftAD,
    /// The same, seen by an account that it is shared with.
    SharedMicrosoftAD,
}

/// Stages of a directory.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[expect(missing_docs, reason = "the service's own words")]
pub enum Stage {
    Requested,
    Creating,
    Created,
    #[default]
    Active,
    Inoperable,
    Impaired,
    Restoring,
    RestoreFailed,
    Deleting,
    Deleted,
    Failed,
    Updating,
}

/// What addresses a directory has.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[expect(missing_docs, reason = "the service's own words")]
pub enum NetworkType {
    #[default]
    IPv4,
    IPv6,
    #[serde(rename = "Dual-stack")]
    DualStack,
}

/// A controller that only has an address.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticController {
    /// Its address.
    pub address: IpAddr,
    /// Its other address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address6: Option<IpAddr>,
    /// Empty: the directory's primary one.
    #[serde(default)]
    pub region: String,
    /// As DescribeDomainControllers shows it.
    #[serde(default = "active")]
    pub status: String,
}

fn active() -> String {
    "Active".to_owned()
}
