//! A write to AWS, as plain values.

use proxy_config::SharedSecret;

use crate::api::RegisteredSettings;
use crate::aws::AwsOperation;
use crate::events::{Event, event};
use crate::labelled_enum::labelled_enum;

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

labelled_enum! {
    /// Why AWS is written to.
    pub enum WriteReason {
        /// RADIUS was not configured.
        FirstRegistration => "first_registration",
        /// Somebody else's settings are replaced, as the adoption policy says.
        Adoption => "adoption",
        /// Servers came or went.
        Servers => "servers",
        /// The spec has other settings.
        Settings => "settings",
        /// The shared secret changed.
        Secret => "secret",
        /// Somebody changed the settings.
        Drift => "drift",
        /// Somebody changed the shared secret.
        SecretMismatch => "secret_mismatch",
        /// The last try ended in Failed, or was not answered.
        Retry => "retry",
        /// Another RadiusProxy holds the directory now.
        Handover => "handover",
        /// The RadiusProxy is deleted.
        Deletion => "deletion",
    }
}

impl WriteReason {
    /// The words of messages.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::FirstRegistration => "first registration",
            Self::Adoption => "adoption",
            Self::Servers => "servers changed",
            Self::Settings => "settings changed",
            Self::Secret => "new shared secret",
            Self::Drift => "changed from outside",
            Self::SecretMismatch => "shared secret changed from outside",
            Self::Retry => "retry",
            Self::Handover => "hand-over",
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
