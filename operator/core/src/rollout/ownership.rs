//! Whose an object is that has a name that the operator needs.
//!
//! An object with the operator's labels and no living controller is taken over: a backup restores objects without their
//! owner, or with one that is gone. The content of a Secret is taken over only where it is the one that AWS holds, since
//! anyone who may create Secrets in the namespace can plant one.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::configuration::{digest_key, kept_pair};
use crate::api::{AddressSource, AdoptionPolicy, GROUP, RadiusProxy};
use crate::config;
use crate::names::{MANAGED_BY, ObjectNames, PROXY_LABEL, SEED_SHARDS, USED_CODES_MAPS};
use crate::objects::Owner;
use crate::observed::{ObjectId, RolloutInput};
use crate::rotation::secret_digest;
use crate::secrets::seeds_selector;

/// Whose an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ownership {
    /// This RadiusProxy controls it.
    Ours,
    /// It has the operator's labels for this RadiusProxy, and its controller is gone.
    Orphan,
    /// Another owner controls it, or it has no controller and other labels.
    Foreign {
        /// The controller's kind and name.
        controller: Option<String>,
    },
}

/// Whose this object is. `lives` says whether a RadiusProxy of the namespace has this uid.
#[must_use]
pub fn ownership(object: &ObjectMeta, proxy: &RadiusProxy, lives: impl Fn(&str) -> bool) -> Ownership {
    let owners = object.owner_references.iter().flatten();
    let controller = owners.into_iter().find(|owner| owner.controller == Some(true));
    if let Some(owner) = controller
        && Some(&owner.uid) == proxy.metadata.uid.as_ref()
    {
        return Ownership::Ours;
    }
    let is_gone = |owner: &OwnerReference| {
        let group = owner.api_version.split('/').next();
        group == Some(GROUP) && owner.kind == "RadiusProxy" && !lives(&owner.uid)
    };
    let label = |key: &str| object.labels.as_ref()?.get(key).map(String::as_str);
    let labelled = label("app.kubernetes.io/managed-by") == Some(MANAGED_BY)
        && label(PROXY_LABEL) == proxy.metadata.name.as_deref();
    if labelled && controller.is_none_or(is_gone) {
        return Ownership::Orphan;
    }
    Ownership::Foreign {
        controller: controller.map(|owner| format!("{}/{}", owner.kind, owner.name)),
    }
}

/// The objects that a plan for this RadiusProxy applies, but for those of pods beyond `spec.replicas`.
#[must_use]
pub fn object_ids(proxy: &RadiusProxy) -> Vec<ObjectId> {
    let owner = Owner::new(proxy);
    let names = &owner.names;
    let id = |kind, name: String| ObjectId { kind, name };
    let workload = names.workload();
    let mut ids: Vec<ObjectId> = [
        "ServiceAccount",
        "Role",
        "RoleBinding",
        "NetworkPolicy",
        "Service",
        "PodDisruptionBudget",
        "StatefulSet",
    ]
    .map(|kind| id(kind, workload.to_owned()))
    .into();
    ids.extend((0..proxy.spec.replicas).map(|ordinal| id("Lease", names.pod(ordinal))));
    ids.extend([names.config_map(), names.peers()].map(|name| id("ConfigMap", name)));
    ids.extend(secrets(names).map(|name| id("Secret", name)));
    if owner.remembers_codes() {
        ids.extend((0..USED_CODES_MAPS).map(|map| id("ConfigMap", names.used_codes(map))));
    }
    if seeds_selector(&proxy.spec).is_some() {
        ids.extend((0..SEED_SHARDS).map(|shard| id("Secret", names.seed_shard(shard))));
    }
    if proxy.spec.directory.is_some() && proxy.spec.addresses.source == AddressSource::LoadBalancer {
        ids.push(id("Service", names.load_balancer()));
    }
    ids
}

fn secrets(names: &ObjectNames) -> [String; 3] {
    [
        names.radius_secret(),
        names.provider_secret(),
        names.seeds_secret(),
    ]
}

/// Whether the content of the operator's own Secret may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vouched {
    /// The Secret has its owner, or AWS holds its shared secret.
    Yes,
    /// Nothing says so.
    No,
    /// Unknown until the directory and its tags can be read. Replacing it could end every login.
    NotYet,
}

/// The input without the content of a Secret that nobody vouches for.
pub(super) fn without_planted_secret(input: &RolloutInput) -> Cow<'_, RolloutInput> {
    if vouched(input) != Vouched::No {
        return Cow::Borrowed(input);
    }
    let mut input = input.clone();
    input.radius_secret = None;
    Cow::Owned(input)
}

/// Whether this is the operator's own Secret of the RadiusProxy.
pub(super) fn is_radius_secret(input: &RolloutInput, id: &ObjectId) -> bool {
    let names = ObjectNames::new(input.proxy.metadata.name.as_deref().unwrap_or_default());
    id.kind == "Secret" && id.name == names.radius_secret()
}

/// Whether AWS holds the shared secret of an operator's Secret without an owner: by the digest of what was applied; without
/// that record, by the directory's tags, if RADIUS is on.
pub(super) fn vouched(input: &RolloutInput) -> Vouched {
    let is_orphan = input.orphans.iter().any(|id| is_radius_secret(input, id));
    if !is_orphan || input.radius_secret.is_none() {
        return Vouched::Yes;
    }
    let (Some(pair), Some(spec)) = (kept_pair(input), &input.proxy.spec.directory) else {
        return Vouched::No;
    };
    let known = |known| if known { Vouched::Yes } else { Vouched::No };
    let held = input
        .registration
        .as_ref()
        .filter(|registration| registration.is_held_by(&input.proxy));
    let status = held.and_then(|registration| registration.status.as_ref());
    if let Some(applied) = status.and_then(|status| status.applied.as_ref()) {
        let key = config::key_of(&digest_key(input));
        let mut secrets = [Some(&pair.current), pair.previous.as_ref()]
            .into_iter()
            .flatten();
        return known(secrets.any(|secret| secret_digest(&key, secret) == applied.secret_digest));
    }
    let Some(directory) = status.and_then(|status| status.description.as_ref()) else {
        return Vouched::NotYet;
    };
    if directory.tags_unread && directory.settings.is_some() && spec.adoption_policy == AdoptionPolicy::Refuse
    {
        return Vouched::NotYet;
    }
    let meta = &input.proxy.metadata;
    let owner = input.settings.cluster.owner(
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default(),
    );
    known(directory.settings.is_some() && directory.owner.as_ref() == Some(&owner))
}
