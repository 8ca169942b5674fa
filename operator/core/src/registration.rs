//! Registration: what AWS should have, what it has, and whether the difference is written now.
//!
//! [`plan()`] decides for one DirectoryRegistration. It knows pods only by what the holder wants of the registration. Each write
//! to AWS blocks logins while AWS works on it, so every rule here is about not writing, or about writing once.
//!
//! # Order of the steps
//! 1. [`RegistrationPlan::claim`], and nothing else with it; 2. [`RegistrationPlan::finalizer`] `Add`; 3. [`RegistrationPlan::status`];
//!    4. [`RegistrationPlan::tags`]; 5. [`RegistrationPlan::write`], one AWS call; 6. [`RegistrationPlan::events`];
//!    7. [`RegistrationPlan::finalizer`] `Remove`, with which the object is deleted.
//!
//! 1 and 3 are written at the resource version that was planned from. The status is written before AWS is called: it holds the
//! write as pending, with a keyed digest of its secret, so that the next leader notices a crash between the two. How the write
//! ended is [`RegistrationInput::outcome`] of the next reconciliation, which has to follow at once.

mod backoff;
mod claim;
mod decide;
mod described;
mod difference;
mod holds;
pub(crate) mod messages;
mod plan;
pub(crate) mod record;
mod release;
mod requeue;
mod secret_mismatch;
pub(crate) mod servers;
mod tags;
mod write;

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use proxy_config::{ConfigDigest, DigestKey};

use crate::api::{
    DeletionPolicy, DirectoryClaim, DirectoryRegistration, DirectoryRegistrationStatus, RegisteredSettings,
};
use crate::events::Event;
use crate::names::FINALIZER;
use crate::observed::{DirectoryObservation, SecretContent, Settings, WriteOutcome};

pub use decide::{LONGEST_ANSWER, is_fresh};
pub(crate) use holds::HOLDER_NOT_WATCHED;
pub use holds::hold_names;
pub use plan::plan;
pub use tags::TagFailure;
pub use write::{DirectoryCall, DirectoryWrite, RadiusSettings, WriteReason};

/// Everything observed about one DirectoryRegistration.
#[derive(Debug, Clone)]
pub struct RegistrationInput {
    /// The registration, at least as new as the status that this process wrote last.
    pub registration: DirectoryRegistration,
    /// Every RadiusProxy that names the directory and region. One that a cache doesn't have was looked for at the API server.
    pub candidates: Vec<Candidate>,
    /// Whether this operator works in the holder's namespace.
    pub holder_is_watched: bool,
    /// Since when no grant allows the holder the directory. `None` while a grant does, or while one can't be read that may.
    pub grant_missing_since: Option<Timestamp>,
    /// The operator's own Secret in the holder's namespace, read live or from this process's own writes.
    pub secret: Option<SecretContent>,
    /// The directory.
    pub directory: DirectoryObservation,
    /// How the last [`DirectoryWrite`] of this process ended.
    pub outcome: Option<WriteOutcome>,
    /// How the last tag write of this process failed, if it did.
    pub tag_failure: Option<TagFailure>,
    /// The operator's settings.
    pub settings: Settings,
    /// The replica that plans; times in the status are by the clock of the one that wrote them.
    pub replica: String,
}

/// A RadiusProxy that holds the directory or wants to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its creationTimestamp.
    pub created: Timestamp,
    /// Whether a DirectoryGrant allows it the directory.
    pub granted: bool,
    /// Its `spec.suspend`.
    pub suspended: bool,
    /// Its deletion policy.
    pub deletion_policy: DeletionPolicy,
    /// Whether its adoption policy is Adopt.
    pub adopts: bool,
    /// Its deletionTimestamp.
    pub deleted: Option<Timestamp>,
    /// Whether it has the annotation [`crate::names::ABANDON_ANNOTATION`].
    pub abandons: bool,
}

/// Everything to do for one DirectoryRegistration.
#[derive(Debug, Clone)]
pub struct RegistrationPlan {
    /// The new holder.
    pub claim: Option<DirectoryClaim>,
    /// The finalizer [`crate::names::FINALIZER`] of the registration.
    pub finalizer: FinalizerChange,
    /// The whole status.
    pub status: DirectoryRegistrationStatus,
    /// Ownership tags to add to the directory.
    pub tags: Vec<(String, String)>,
    /// The one write to AWS.
    pub write: Option<DirectoryWrite>,
    /// Events about the holder.
    pub events: Vec<Event>,
    /// The longest time until the next plan.
    pub requeue_after: Duration,
    /// How old the directory's description may be in the next plan.
    pub describe_after: Duration,
    /// Whether the directory's tags have to be read again for the next plan.
    pub read_tags: bool,
    /// What is still remembered of the last tag write, unless [`RegistrationPlan::tags`] are added now.
    pub tag_failure: Option<TagFailure>,
}

/// The change of a finalizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinalizerChange {
    /// Nothing.
    Keep,
    /// It is added, before everything else.
    Add,
    /// It is removed, after everything else.
    Remove,
}

/// Whether a registration is being deleted and the operator is done with it: another party's finalizer keeps it.
#[must_use]
pub fn is_released(registration: &DirectoryRegistration) -> bool {
    let meta = &registration.metadata;
    let finalizers = meta.finalizers.as_deref().unwrap_or_default();
    meta.deletion_timestamp.is_some() && !finalizers.iter().any(|each| each == FINALIZER)
}

/// The stage of a directory that works.
pub(crate) const ACTIVE: &str = "Active";

/// Whether AWS is written to in this stage. A directory that is Impaired or Inoperable has users all the same: AWS may
/// refuse. A stage that this version does not know is for AWS to judge, too.
pub(crate) fn takes_writes(stage: &str) -> bool {
    !matches!(
        stage,
        "Requested"
            | "Creating"
            | "Created"
            | "Restoring"
            | "RestoreFailed"
            | "Deleting"
            | "Deleted"
            | "Failed"
    )
}

/// The servers of both families, in AWS's order.
pub(crate) fn all_servers(settings: &RegisteredSettings) -> Vec<String> {
    settings
        .servers
        .iter()
        .chain(&settings.servers_ipv6)
        .cloned()
        .collect()
}

/// Whether two settings mean the same to AWS: the order of servers has no documented meaning.
pub(crate) fn same(a: &RegisteredSettings, b: &RegisteredSettings) -> bool {
    same_servers(a, b) && same_but_servers(a, b)
}

pub(crate) fn same_servers(a: &RegisteredSettings, b: &RegisteredSettings) -> bool {
    let set = |list: &[String]| list.iter().cloned().collect::<BTreeSet<_>>();
    set(&a.servers) == set(&b.servers) && set(&a.servers_ipv6) == set(&b.servers_ipv6)
}

pub(crate) fn same_but_servers(a: &RegisteredSettings, b: &RegisteredSettings) -> bool {
    let without = |settings: &RegisteredSettings| RegisteredSettings {
        servers: Vec::new(),
        servers_ipv6: Vec::new(),
        ..settings.clone()
    };
    without(a) == without(b)
}

/// The digest of settings in the directory's tag. It has no key, since a rebuilt cluster doesn't have the old one's. It covers
/// only what everyone who may describe the directory can see.
pub(crate) fn tag_digest(settings: &RegisteredSettings) -> String {
    let mut digest = fingerprint(&DigestKey::new(b"applied".to_vec()), settings, "");
    digest.truncate(32);
    digest
}

/// A keyed digest that identifies what is sent. The order of servers doesn't count.
pub(crate) fn fingerprint(key: &DigestKey, settings: &RegisteredSettings, secret_digest: &str) -> String {
    let mut sorted = settings.clone();
    for list in [&mut sorted.servers, &mut sorted.servers_ipv6] {
        list.sort();
        list.dedup();
    }
    let json = serde_json::to_vec(&sorted).unwrap_or_default();
    ConfigDigest::compute(
        key,
        [
            ("settings", json.as_slice()),
            ("secret", secret_digest.as_bytes()),
        ],
    )
    .as_str()
    .to_owned()
}
