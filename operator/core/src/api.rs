//! The API `radius-mfa.dev/v1alpha1`.
//!
//! Every bound is in the schema, so that `kubectl apply` refuses what AWS Directory Service would. The field
//! descriptions are what `kubectl explain` shows.

// KubeSchema derives items as public as the type they stand beside, in a private module.
#![allow(
    unreachable_pub,
    reason = "the derive makes them; the types are re-exported below"
)]

mod addresses;
mod client;
mod directory;
mod grant;
mod observed;
mod policy;
mod provider;
mod proxy;
mod registration;
mod secret_refs;
mod status;
mod totp;
mod workload;

#[cfg(test)]
mod tests;

pub use addresses::{AddressSource, AddressesSpec, LoadBalancerSpec};
pub use client::{ClientSpec, MessageAuthenticatorPolicy};
pub use directory::{
    AdoptionPolicy, AuthenticationProtocol, DeletionPolicy, DirectorySpec, DriftPolicy, directory_id_pattern,
};
pub use grant::{DirectoryGrant, DirectoryGrantSpec, DirectoryGrantStatus, GrantUser, GrantedDirectories};
pub use observed::{ObservedClientAddress, ObservedDirectory, ObservedRetries, ObservedSigning};
pub use policy::{LimitsSpec, PolicySpec, TypedTextSpec, UserNamesSpec};
pub use provider::{
    DuoFactor, DuoSignatureVersion, DuoSpec, FailMode, OktaFactor, OktaSpec, OktaTokenKind, ProviderSpec,
    UpstreamServerSpec, UpstreamSpec,
};
pub use proxy::{RadiusProxy, RadiusProxySpec};
pub use registration::{
    AddressProblem, Adoption, AppliedSettings, DesiredRegistration, DesiredServer, DirectoryClaim,
    DirectoryDescription, DirectoryRegistration, DirectoryRegistrationSpec, DirectoryRegistrationStatus,
    Drift, LastFailure, PendingWrite, PodWithoutSecret, RegisteredSettings, RegistrationHold,
    ReportedMismatch, ServerState, SharedSecretSource, SuspectedDrift, TaggedOwner, WriteRecord,
};
pub use secret_refs::{
    BasicAuthKeys, BasicAuthSecretRef, DuoCredentialKeys, DuoCredentialsRef, OktaCredentialsRef,
    PasswordKeyRef, SecretKeyRef, SeedsSecretRef,
};
pub use status::{ConditionType, DirectoryStatus, LastWrite, RadiusProxyStatus, RegisteredServer};
pub use totp::{RedisSpec, SeedsSelector, StoreOutage, TotpSpec, UsedCodesSpec};
pub(crate) use workload::quantities_as_text;
pub use workload::{PodMetadataOverrides, PodTemplateOverrides, SchedulingSpec};

/// The API group.
pub const GROUP: &str = "radius-mfa.dev";
/// The API version.
pub const VERSION: &str = "v1alpha1";
