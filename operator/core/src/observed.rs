//! Everything that was observed about one RadiusProxy, as plain values.
//!
//! # What the caller guarantees
//! - [`RolloutInput::proxy`] and [`RolloutInput::registration`] are at least as new as what this process wrote last.
//! - [`RolloutInput::stateful_set`] is at least as new as what this process applied last: it records the state of a surge.
//! - [`Directory::as_of`] is when DescribeDirectories was *sent*.
//! - Pods and Leases may be as old as a watch cache is.

mod directory;
mod objects;
mod pods;
mod settings;

use std::collections::BTreeMap;

use proxy_config::Secret;

use crate::access::Labels;
use crate::api::{DirectoryGrant, DirectoryRegistration, RadiusProxy};
use crate::dns::LoadBalancer;
use crate::outcomes::{LastingFailure, Outcomes};

pub(crate) use directory::canonical_address;
pub use directory::{
    Directory, DirectoryKind, DirectoryObservation, NetworkType, RadiusStatus, WriteOutcome,
};
pub use objects::{
    ForeignObject, ObjectId, SecretContent, ServiceAccountState, StatefulSetState, Surge, SurgePhase,
};
pub use pods::{PodState, Report, ReportedProblem};
pub use settings::Settings;
#[cfg(test)]
pub(crate) use settings::default_resources;

/// Everything observed about one RadiusProxy.
#[derive(Debug, Clone)]
pub struct RolloutInput {
    /// The RadiusProxy.
    pub proxy: RadiusProxy,
    /// The registration of its directory, at least as new as what this process wrote last.
    pub registration: Option<DirectoryRegistration>,
    /// How reconciliations of that registration fail. Its status may be old then.
    pub registration_failure: Option<LastingFailure>,
    /// Whether another RadiusProxy that is granted and not suspended waits for the directory.
    pub successor_waits: bool,
    /// The DirectoryGrants that apply to the RadiusProxy's namespace.
    pub grants: Vec<DirectoryGrant>,
    /// The labels of the RadiusProxy's namespace; `None` when they are unknown.
    pub namespace_labels: Option<Labels>,
    /// The Secrets of [`crate::secrets::named_by`] that exist, by name.
    pub secrets: BTreeMap<String, SecretContent>,
    /// Why Secrets of [`crate::secrets::named_by`] can't be read, by name.
    pub unreadable_secrets: BTreeMap<String, String>,
    /// The Secrets that `spec.provider.totp.seedsSelector` means, by name; none of them one that the operator made.
    pub seeds_by_label: BTreeMap<String, SecretContent>,
    /// Why these can't be listed.
    pub unreadable_seeds: Option<String>,
    /// Whether one of the Secrets [`crate::names::ObjectNames::seed_shard`] exists.
    pub has_seed_shards: bool,
    /// The content of the Secret [`crate::names::ObjectNames::radius_secret`]: read live or from this process's own writes, not
    /// from an old cache, since it holds the digest key and the secret that AWS may be using. Of a Secret that somebody deleted,
    /// what this process remembers.
    pub radius_secret: Option<SecretContent>,
    /// Whether that Secret exists.
    pub radius_secret_exists: bool,
    /// Objects under a name that the operator needs which belong to another owner ([`crate::rollout::ownership`]).
    pub foreign: Vec<ForeignObject>,
    /// Objects of the operator under such a name whose owner is gone, as after a restore.
    pub orphans: Vec<ObjectId>,
    /// The StatefulSet.
    pub stateful_set: Option<StatefulSetState>,
    /// The pods' ServiceAccount.
    pub service_account: Option<ServiceAccountState>,
    /// Every pod of the selector, terminating ones too.
    pub pods: Vec<PodState>,
    /// What pods reported in their Leases, by pod uid.
    pub reports: BTreeMap<String, Report>,
    /// The Service of type LoadBalancer (`status.loadBalancer.ingress`).
    pub load_balancer: LoadBalancer,
    /// Whether the operator's limit of concurrent rollouts leaves room for this one. One that is under way goes on without.
    pub may_begin: bool,
    /// How the steps of the last reconciliation failed.
    pub outcomes: Outcomes,
    /// The operator's settings.
    pub settings: Settings,
    /// Fresh random bytes, for the digest key and a generated shared secret. Used only when there is none yet.
    pub entropy: Entropy,
}

/// 96 random bytes, never shown.
#[derive(Clone)]
pub struct Entropy(Secret);

impl Entropy {
    /// Takes bytes of a cryptographic random source.
    #[must_use]
    pub fn new(bytes: [u8; 96]) -> Self {
        Self(Secret::new(bytes.to_vec()))
    }

    /// The bytes for the digest key.
    pub(crate) fn digest_key(&self) -> &[u8] {
        self.0.expose().get(..32).unwrap_or_default()
    }

    /// The bytes for a shared secret.
    pub(crate) fn shared_secret(&self) -> &[u8] {
        self.0.expose().get(32..).unwrap_or_default()
    }
}

impl std::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entropy([redacted])")
    }
}
