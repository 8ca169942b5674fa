//! The steps of a plan: objects, patches, deletions, Events, and the time of the next plan.

use std::time::Duration;

use jiff::Timestamp;

use super::context::RolloutContext;
use super::proxy_pods::ProxyPod;
use super::upgrade::Upgrade;
use super::{GateChange, ImageChange, Object, ObjectKind, ObjectRef, PodPatch, events, readiness_gate};
use crate::api::AddressSource;
use crate::conditions::ConditionDraft;
use crate::config::Rendered;
use crate::events::Event;
use crate::names::USED_CODES_MAPS;
use crate::objects::{self, Template};
use crate::observed::PodState;
use crate::rotation::{self, SecretPair};
use crate::time;

/// The longest time between two reconciliations.
const RESYNC_INTERVAL: Duration = Duration::from_secs(600);
/// The time between two reconciliations while pods are missing.
const MISSING_PODS_INTERVAL: Duration = Duration::from_secs(15);

/// Digests of what the pods should read.
pub(super) struct Digests {
    /// The configuration.
    pub(super) config: Option<String>,
    /// Each other's addresses.
    pub(super) peers: Option<String>,
}

/// All objects; secrets before the configuration that names them, the network policy and the
/// configuration before the pods.
pub(super) fn objects(
    context: &RolloutContext<'_>,
    fresh: Option<&Rendered>,
    peers: &str,
    template: &Template,
    upgrade: &Upgrade,
) -> Vec<Object> {
    let owner = &context.owner;
    let pods = pod_names(context).max(upgrade.layout.replicas);
    let mut objects = vec![
        Object::ServiceAccount(Box::new(objects::service_account(owner))),
        Object::Role(Box::new(objects::role(owner, pods))),
        Object::RoleBinding(Box::new(objects::role_binding(owner))),
    ];
    objects.extend((0..pods).map(|ordinal| Object::Lease(Box::new(objects::lease(owner, ordinal)))));
    if owner.remembers_codes() {
        let maps = (0..USED_CODES_MAPS).map(|map| objects::used_codes(owner, map));
        objects.extend(maps.map(|map| Object::ConfigMap(Box::new(map))));
    }
    if let Some(fresh) = fresh {
        for (name, files) in [
            (owner.names.radius_secret(), &fresh.radius),
            (owner.names.provider_secret(), &fresh.provider),
            (owner.names.seeds_secret(), &fresh.seeds),
        ] {
            objects.push(Object::Secret(Box::new(objects::secret(owner, name, files))));
        }
        for (shard, files) in (0..).zip(&fresh.seed_shards) {
            let name = owner.names.seed_shard(shard);
            objects.push(Object::Secret(Box::new(objects::secret(owner, name, files))));
        }
        objects.push(Object::ConfigMap(Box::new(objects::config_map(
            owner,
            &fresh.text,
        ))));
    }
    if let (None, Some(kept), false) = (
        fresh,
        &context.input.radius_secret,
        context.input.radius_secret_exists,
    ) {
        let name = owner.names.radius_secret();
        objects.push(Object::Secret(Box::new(objects::secret(owner, name, &kept.data))));
    }
    objects.push(Object::ConfigMap(Box::new(objects::peers(owner, peers))));
    objects.push(Object::NetworkPolicy(Box::new(objects::network_policy(
        owner,
        &context.clients,
    ))));
    objects.push(Object::Service(Box::new(objects::headless_service(owner))));
    if wants_load_balancer(context) {
        objects.push(Object::Service(Box::new(objects::load_balancer(owner))));
    }
    let budget = objects::disruption_budget(owner, upgrade.surplus);
    let set = objects::stateful_set(owner, template, upgrade.layout, upgrade.surge.as_ref());
    let budget = Object::PodDisruptionBudget(Box::new(budget));
    let mut pair = vec![budget];
    pair.extend(set.map(|set| Object::StatefulSet(Box::new(set))));
    // Pods that are added come before the budget that leaves them out, and the other way round.
    let before = context.input.stateful_set.as_ref().map(|set| set.replicas);
    if before.is_some_and(|before| before < upgrade.layout.replicas) {
        pair.reverse();
    }
    objects.extend(pair);
    objects
}

/// How many pods may exist, by name: those there should be, and those that are still there.
fn pod_names(context: &RolloutContext<'_>) -> u32 {
    let existing = context
        .input
        .pods
        .iter()
        .filter_map(|pod| context.owner.names.ordinal(&pod.name))
        .map(|ordinal| ordinal.saturating_add(1));
    // A bound, whatever pods somebody labels as ours.
    existing
        .max()
        .unwrap_or_default()
        .min(32)
        .max(context.input.proxy.spec.replicas)
}

fn pods_are_missing(context: &RolloutContext<'_>) -> bool {
    let set = context.input.stateful_set.as_ref();
    set.is_some_and(|set| context.input.pods.len() < set.replicas as usize)
}

fn wants_load_balancer(context: &RolloutContext<'_>) -> bool {
    let spec = &context.input.proxy.spec;
    spec.directory.is_some() && spec.addresses.source == AddressSource::LoadBalancer
}

pub(super) fn pod_patches(
    context: &RolloutContext<'_>,
    proxies: &[ProxyPod<'_>],
    digests: &Digests,
    template: &Template,
    upgrade: &Upgrade,
) -> Vec<PodPatch> {
    let ours = context.record.applied.is_some();
    let registers = context.owner.registers_pods();
    proxies
        .iter()
        .filter(|proxy| proxy.pod.deleted.is_none())
        .filter_map(|proxy| {
            let gate: Option<GateChange> = registers
                .then(|| readiness_gate::change(proxy, context.directory, ours))
                .flatten();
            let news =
                |wanted: &Option<String>, found: &Option<String>| wanted.clone().filter(|_| wanted != found);
            let config_digest = news(&digests.config, &proxy.pod.config_digest);
            let peers_digest = news(&digests.peers, &proxy.pod.peers_digest);
            let uid = &proxy.pod.uid;
            let revision = upgrade.revision.clone().unwrap_or_default();
            let image = upgrade.images.iter().find(|(each, _)| each == uid);
            let image = image.map(|(_, marker)| ImageChange {
                image: template.image.clone(),
                revision: revision.clone(),
                marker: marker.clone(),
            });
            let revision = upgrade.labels.contains(uid).then_some(revision);
            let something = gate.is_some()
                || config_digest.is_some()
                || peers_digest.is_some()
                || image.is_some()
                || revision.is_some();
            something.then(|| PodPatch {
                name: proxy.pod.name.clone(),
                uid: uid.clone(),
                config_digest,
                peers_digest,
                image,
                revision,
                gate,
            })
        })
        .collect()
}

pub(super) fn events(
    context: &RolloutContext<'_>,
    drafts: &[ConditionDraft],
    upgrade: &Upgrade,
) -> Vec<Event> {
    let before = context.before.map_or(&[][..], |s| &s.conditions);
    let mut list = events::of_conditions(before, drafts);
    list.extend(events::of_upgrade(context.input.stateful_set.as_ref(), upgrade));
    list.extend(events::of_adoption(context.input));
    let rotates = |pair: &Option<SecretPair>| pair.as_ref().is_some_and(rotation::under_way);
    list.extend(events::of_rotation(
        rotates(&context.pair_before),
        rotates(&context.pair),
    ));
    list
}

/// Beside the pods that are `replaced`: those on lost nodes, which no kubelet will ever confirm as gone; and a Service
/// that is no longer wanted.
pub(super) fn deletions(context: &RolloutContext<'_>, replaced: Vec<ObjectRef>) -> Vec<ObjectRef> {
    let lost = |pod: &&PodState| {
        let overdue = |deleted: Timestamp, wait: Duration| {
            deleted.saturating_add(wait).is_ok_and(|due| context.now >= due)
        };
        !pod.node_ready
            && pod
                .deleted
                .zip(context.input.settings.force_delete_after)
                .is_some_and(|(deleted, wait)| overdue(deleted, wait))
    };
    let mut list = replaced;
    list.extend(context.input.pods.iter().filter(lost).map(|pod| ObjectRef {
        kind: ObjectKind::PodByForce,
        name: pod.name.clone(),
        uid: Some(pod.uid.clone()),
    }));
    if !wants_load_balancer(context) && !context.input.load_balancer.is_empty() {
        list.push(ObjectRef {
            kind: ObjectKind::Service,
            name: context.owner.names.load_balancer(),
            uid: None,
        });
    }
    list
}

/// When to plan again at the latest.
pub(super) fn requeue_after(context: &RolloutContext<'_>, others: [Option<Timestamp>; 3]) -> Duration {
    let mut requeue = RESYNC_INTERVAL;
    if pods_are_missing(context) {
        // Nothing that is watched changes while pods are refused.
        requeue = requeue.min(MISSING_PODS_INTERVAL);
    }
    let mut at = |then: Option<Timestamp>| {
        if let Some(then) = then {
            // Not at once: what is due now was decided now.
            requeue = requeue.min(time::until(context.now, then).max(Duration::from_secs(1)));
        }
    };
    others.into_iter().for_each(&mut at);
    if context.pair.as_ref().is_some_and(rotation::under_way) {
        at(context.rotation_ends());
    }
    for pod in context.input.pods.iter().filter(|pod| !pod.node_ready) {
        let wait = context.input.settings.force_delete_after;
        at(pod
            .deleted
            .zip(wait)
            .and_then(|(deleted, wait)| deleted.saturating_add(wait).ok()));
    }
    requeue
}
