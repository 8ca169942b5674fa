//! The deletion of a RadiusProxy. Its pods answer until AWS no longer sends them requests; they end with the finalizer.
//!
//! A deletion creates no object, since the namespace may be ending too.

use std::time::Duration;

use jiff::Timestamp;

use super::known_directory::{KnownDirectory, mirrored, unobserved};
use super::{FinalizerChange, Object, PodPatch, RolloutPlan, second_operator};
use crate::api::{ConditionType, DirectoryRegistration, RadiusProxyStatus};
use crate::conditions::{ConditionDraft, ConditionStatus, Reason, progress, set_conditions};
use crate::names::{ABANDON_ANNOTATION, FINALIZER};
use crate::observed::{RadiusStatus, RolloutInput};
use crate::registration::is_released;
use crate::registration::record::RegistrationRecord;
use crate::time;

/// The time between two reconciliations during a deletion.
const DELETION_INTERVAL: Duration = Duration::from_secs(3);

/// Whether the finalizer is there.
pub(super) fn has_finalizer(input: &RolloutInput) -> bool {
    let finalizers = input.proxy.metadata.finalizers.as_deref().unwrap_or_default();
    finalizers.iter().any(|f| f == FINALIZER)
}

/// Plans a deletion.
pub(super) fn plan(input: &RolloutInput, now: Timestamp) -> RolloutPlan {
    let mut plan = RolloutPlan {
        finalizer: FinalizerChange::Keep,
        registration: None,
        apply: Vec::new(),
        adopt: Vec::new(),
        pods: Vec::new(),
        status: input.proxy.status.clone().unwrap_or_default(),
        upgrading: false,
        delete: Vec::new(),
        events: Vec::new(),
        requeue_after: Duration::from_secs(600),
    };
    if !has_finalizer(input) {
        return plan;
    }
    plan.requeue_after = DELETION_INTERVAL;
    let Some(waits) = waits(input, now) else {
        plan.finalizer = FinalizerChange::Remove;
        return plan;
    };
    plan.events = show_waiting(&mut plan.status, input, &waits, now);
    second_operator::sign(&mut plan, input, now);
    plan
}

/// Lets new domain controllers in while the deletion waits, and does nothing else of the `full` plan.
pub(super) fn follow_clients(
    plan: &mut RolloutPlan,
    input: &RolloutInput,
    full: impl FnOnce() -> RolloutPlan,
) {
    let described = input.registration.as_ref().and_then(|registration| {
        let description = registration.status.as_ref()?.description.as_ref()?;
        Some(&description.client_addresses)
    });
    let known = plan
        .status
        .directory
        .as_ref()
        .map(|directory| &directory.client_addresses);
    let Some(described) = described else { return };
    if Some(described) == known || input.stateful_set.is_none() {
        return;
    }
    let full = full();
    let follows = |object: &Object| matches!(object, Object::NetworkPolicy(_) | Object::ConfigMap(_));
    let is_rendered = full
        .apply
        .iter()
        .any(|object| matches!(object, Object::Secret(_)));
    if is_rendered && !input.outcomes.configuration_failed() && !input.outcomes.network_policy_failed() {
        let directory = plan.status.directory.get_or_insert_default();
        directory.client_addresses.clone_from(described);
    }
    plan.apply = full.apply.into_iter().filter(follows).collect();
    plan.pods = full
        .pods
        .into_iter()
        .filter(|patch| patch.config_digest.is_some())
        .map(|patch| PodPatch {
            peers_digest: None,
            image: None,
            revision: None,
            gate: None,
            ..patch
        })
        .collect();
}

/// The condition that the deletion waits for.
fn waits(input: &RolloutInput, now: Timestamp) -> Option<ConditionDraft> {
    let registration = input.registration.as_ref().filter(|each| !is_released(each))?;
    if registration.is_held_by(&input.proxy) {
        let mirrored = || mirrored(registration, ConditionType::Registered);
        return Some(unobserved(input, now).or_else(mirrored).unwrap_or_else(|| {
            let message = "waiting for the DirectoryRegistration to be deleted";
            ConditionDraft::new(
                ConditionType::Registered,
                ConditionStatus::False,
                Reason::Deregistering,
                message,
            )
        }));
    }
    let annotations = input.proxy.metadata.annotations.as_ref();
    if annotations.is_some_and(|a| a.get(ABANDON_ANNOTATION).is_some_and(|value| value == "true")) {
        return None;
    }
    still_asked(input, registration, now).then(|| {
        let message = format!(
            "RadiusProxy {} holds the directory now; the proxies answer until AWS has completed with its servers. To end them \
             at once: kubectl annotate -n {} rp {} {ABANDON_ANNOTATION}=true",
            crate::registration::messages::holder(&registration.spec),
            input.proxy.metadata.namespace.as_deref().unwrap_or_default(),
            input.proxy.metadata.name.as_deref().unwrap_or_default(),
        );
        ConditionDraft::new(ConditionType::Registered, ConditionStatus::False, Reason::Deregistering, message)
    })
}

/// Whether domain controllers may still ask these pods: AWS has their addresses, or has not completed with the successor's
/// servers, or did so a moment ago.
fn still_asked(input: &RolloutInput, registration: &DirectoryRegistration, now: Timestamp) -> bool {
    let record = RegistrationRecord::read(registration.status.as_ref());
    let Some(known) = KnownDirectory::of(registration).filter(|known| known.radius_status.is_some()) else {
        return false;
    };
    let uid = input.proxy.metadata.uid.as_deref().unwrap_or_default();
    let is_sent = record
        .pending
        .as_ref()
        .is_some_and(|pending| pending.holder_uid == uid);
    let Some(applied) = &record.applied else {
        return is_sent;
    };
    if is_sent || applied.holder_uid == uid {
        return true;
    }
    let completed = applied.completed_time.as_ref();
    let learnt = completed.map(|at| time::after(at, input.settings.rotation_grace));
    applied.predecessor_uid.as_deref() == Some(uid)
        && (record.pending.is_some()
            || known.radius_status != Some(RadiusStatus::Completed)
            || learnt.is_none_or(|learnt| now < learnt))
}

/// Sets the conditions. Returns Events for those that changed.
fn show_waiting(
    status: &mut RadiusProxyStatus,
    input: &RolloutInput,
    registered: &ConditionDraft,
    now: Timestamp,
) -> Vec<crate::events::Event> {
    let ready = ConditionDraft {
        kind: ConditionType::Ready,
        status: ConditionStatus::False,
        ..registered.clone()
    };
    let progress = progress(std::slice::from_ref(registered), &ready);
    let mut drafts = vec![registered.clone(), ready];
    drafts.extend(progress);
    let events = super::events::of_conditions(&status.conditions, &drafts);
    let changed = set_conditions(&drafts, &status.conditions, input.proxy.metadata.generation, now);
    let abnormal = [ConditionType::Stalled, ConditionType::Reconciling].map(ConditionType::as_str);
    let is_new = |kind: &str| abnormal.contains(&kind) || changed.iter().any(|new| new.type_ == kind);
    status.conditions.retain(|old| !is_new(&old.type_));
    status.conditions.extend(changed);
    events
}
