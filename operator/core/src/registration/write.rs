//! A write to AWS, as plain values.

use proxy_config::SharedSecret;

use crate::api::RegisteredSettings;
use crate::aws::AwsOperation;
use crate::events::{Event, event};

/// One call of EnableRadius, UpdateRadius or DisableRadius.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryWrite {
    /// Name of the write, equal to `status.pendingWrite.id`.
    pub id: String,
    /// The directory.
    pub directory_id: String,
    /// What is called.
    pub call: DirectoryCall,
    /// Why, for metrics.
    pub reason: WriteReason,
    /// Why, in words.
    pub message: String,
}

/// The call and its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectoryCall {
    /// EnableRadius.
    Enable(Box<RadiusSettings>),
    /// UpdateRadius.
    Update(Box<RadiusSettings>),
    /// DisableRadius.
    Disable,
}

impl DirectoryCall {
    /// Which operation it is.
    #[must_use]
    pub const fn operation(&self) -> AwsOperation {
        match self {
            Self::Enable(_) => AwsOperation::EnableRadius,
            Self::Update(_) => AwsOperation::UpdateRadius,
            Self::Disable => AwsOperation::DisableRadius,
        }
    }
}

/// All of `RadiusSettings`: an update replaces every member, so every member is always sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RadiusSettings {
    /// Everything but the secret. `servers` goes to RadiusServers, `servers_ipv6` to RadiusServersIpv6; an empty list is
    /// left out of the call.
    pub shown: RegisteredSettings,
    /// SharedSecret.
    pub secret: SharedSecret,
}

/// Why AWS is written to; a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WriteReason {
    /// RADIUS was not configured.
    FirstRegistration,
    /// Somebody else's settings are replaced, as the adoption policy says.
    Adoption,
    /// Servers came or went.
    Servers,
    /// The spec has other settings.
    Settings,
    /// The shared secret changed.
    Secret,
    /// Somebody changed the settings.
    Drift,
    /// Somebody changed the shared secret.
    SecretMismatch,
    /// The last try ended in Failed, or was not answered.
    Retry,
    /// Another RadiusProxy holds the directory now.
    Handover,
    /// The RadiusProxy is deleted.
    Deletion,
}

impl WriteReason {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::FirstRegistration,
        Self::Adoption,
        Self::Servers,
        Self::Settings,
        Self::Secret,
        Self::Drift,
        Self::SecretMismatch,
        Self::Retry,
        Self::Handover,
        Self::Deletion,
    ];

    /// The label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FirstRegistration => "first_registration",
            Self::Adoption => "adoption",
            Self::Servers => "servers",
            Self::Settings => "settings",
            Self::Secret => "secret",
            Self::Drift => "drift",
            Self::SecretMismatch => "secret_mismatch",
            Self::Retry => "retry",
            Self::Handover => "handover",
            Self::Deletion => "deletion",
        }
    }
}

/// The Event of a write.
pub(super) fn sent(write: &DirectoryWrite) -> Event {
    let operation = write.call.operation().as_str();
    let note = format!("{operation} is sent to AWS: {}", write.message);
    event(false, operation, operation, &note)
}
