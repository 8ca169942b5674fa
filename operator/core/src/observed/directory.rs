//! A directory as AWS describes it, and how a write ended.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;

use crate::api::RegisteredSettings;
use crate::aws::AwsFailure;

/// What is known of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectoryObservation {
    /// Not asked, because the RadiusProxy has no directory or [`crate::access::access`] says no; or not asked yet.
    Unasked,
    /// Described.
    Described(Box<Directory>),
    /// The last call failed. What was described before is kept for as long as this process lives.
    Failed {
        /// How it failed.
        failure: AwsFailure,
        /// The last good description.
        last: Option<Box<Directory>>,
    },
}

impl DirectoryObservation {
    /// The latest description.
    #[must_use]
    pub fn described(&self) -> Option<&Directory> {
        match self {
            Self::Unasked => None,
            Self::Described(directory) => Some(directory),
            Self::Failed { last, .. } => last.as_deref(),
        }
    }
}

/// A directory as AWS describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// `Type`.
    pub kind: DirectoryKind,
    /// `Stage`, such as Active.
    pub stage: String,
    /// `StageReason`.
    pub stage_reason: Option<String>,
    /// `NetworkType`: which address families it has. IPv4 when AWS says nothing.
    pub network: NetworkType,
    /// `RadiusStatus`; `None` when RADIUS is not configured.
    pub radius_status: Option<RadiusStatus>,
    /// `RadiusSettings` without the secret.
    pub radius_settings: Option<RegisteredSettings>,
    /// Where its requests come from: all domain controllers, or the connector's addresses; sorted, without duplicates.
    pub client_addresses: BTreeSet<IpAddr>,
    /// `OwnerDirectoryDescription.AccountId`, of a shared directory.
    pub owner_account: Option<String>,
    /// Its tags; `None` when they could not be read.
    pub tags: Option<BTreeMap<String, String>>,
    /// When the tags were asked for, which are read less often than the rest.
    pub tags_as_of: Timestamp,
    /// When the call was sent. The description is from any time between then and `answered`.
    pub as_of: Timestamp,
    /// When AWS answered.
    pub answered: Timestamp,
}

impl Directory {
    /// Whether AWS reports Failed, or Completed, of settings that it doesn't have: it asks no server then.
    pub(crate) fn has_forgotten_settings(&self) -> bool {
        let ended = matches!(
            self.radius_status,
            Some(RadiusStatus::Completed | RadiusStatus::Failed)
        );
        ended && self.radius_settings.is_none()
    }

    /// The same with addresses in one form, however AWS writes them.
    pub(crate) fn canonical(&self) -> Self {
        let mut directory = self.clone();
        if let Some(settings) = &mut directory.radius_settings {
            for server in settings.servers.iter_mut().chain(&mut settings.servers_ipv6) {
                *server = canonical_address(server);
            }
        }
        directory
    }
}

/// An address in the form of RFC 5952, an IPv4-mapped one as IPv4; a host name in lower case without a dot at its end.
pub(crate) fn canonical_address(text: &str) -> String {
    match text.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().to_string(),
        Err(_) => text.trim_end_matches('.').to_ascii_lowercase(),
    }
}

/// `DirectoryType` of the AWS API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectoryKind {
    /// AWS Managed Microsoft AD.
    MicrosoftAd,
    /// AD Connector.
    AdConnector,
    /// A Managed Microsoft AD that another account shares.
    SharedMicrosoftAd,
    /// Simple AD, which has no RADIUS.
    SimpleAd,
    /// One that this version does not know.
    Other(String),
}

impl DirectoryKind {
    /// As AWS writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::MicrosoftAd => "MicrosoftAD",
            Self::AdConnector => "ADConnector",
            Self::SharedMicrosoftAd => "SharedMicrosoftAD",
            Self::SimpleAd => "SimpleAD",
            Self::Other(name) => name,
        }
    }

    /// From what AWS writes.
    #[must_use]
    pub fn from_aws(text: &str) -> Self {
        match text {
            "MicrosoftAD" => Self::MicrosoftAd,
            "ADConnector" => Self::AdConnector,
            "SharedMicrosoftAD" => Self::SharedMicrosoftAd,
            "SimpleAD" => Self::SimpleAd,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// `NetworkType` of the AWS API.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NetworkType {
    /// IPv4 only.
    #[default]
    Ipv4,
    /// IPv6 only.
    Ipv6,
    /// Both.
    DualStack,
}

impl NetworkType {
    /// As the status has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
            Self::DualStack => "DualStack",
        }
    }

    /// From the status; IPv4 for a text that is unknown.
    pub(crate) fn from_status(text: &str) -> Self {
        [Self::Ipv6, Self::DualStack]
            .into_iter()
            .find(|network| network.as_str() == text)
            .unwrap_or_default()
    }

    /// Whether the directory has the address's family.
    #[must_use]
    pub const fn has(self, address: &IpAddr) -> bool {
        match address {
            IpAddr::V4(_) => !matches!(self, Self::Ipv6),
            IpAddr::V6(_) => !matches!(self, Self::Ipv4),
        }
    }
}

/// `RadiusStatus` of the AWS API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RadiusStatus {
    /// Settings are changing; logins wait.
    Creating,
    /// Done.
    Completed,
    /// AWS could not reach the servers, or not agree with them.
    Failed,
}

impl RadiusStatus {
    /// From what AWS writes.
    #[must_use]
    pub fn from_aws(text: &str) -> Option<Self> {
        [Self::Creating, Self::Completed, Self::Failed]
            .into_iter()
            .find(|status| status.as_str() == text)
    }

    /// As AWS writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "Creating",
            Self::Completed => "Completed",
            Self::Failed => "Failed",
        }
    }
}

/// How a write ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteOutcome {
    /// The write ([`crate::registration::DirectoryWrite::id`]).
    pub id: String,
    /// AWS's request id, or the failure.
    pub result: Result<Option<String>, AwsFailure>,
}
