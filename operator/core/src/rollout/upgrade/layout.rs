//! The number of pods, and the template of missing ones.

use std::time::Duration;

use jiff::Timestamp;

use super::context::{PodRevision, UpgradeContext, halves};
use super::in_place::has_image;
use super::replace;
use crate::objects::Layout;
use crate::observed::{Surge, SurgePhase};
use crate::rollout::proxy_pods::ProxyPod;
use crate::time;

/// How long a missing pod is tried on one template before the other one. The API doesn't show why a pod isn't created.
const TURN: Duration = Duration::from_secs(30);
/// How long a rollout waits before it looks again whether it may begin.
const WAIT_FOR_PLACE: Duration = Duration::from_secs(10);

/// The StatefulSet's layout.
pub(super) fn layout(context: &UpgradeContext<'_>, surge: Option<&Surge>) -> Layout {
    let Some(surge) = surge else {
        let held = held_end(context, context.n);
        let canary = held == context.n && needs_canary(context);
        return Layout {
            replicas: held + u32::from(canary),
            on_delete: creates_wanted(context) || replace::begins(context),
            ..Layout::at_rest(held)
        };
    };
    // Pods of a scale-down leave first: their ordinals are needed.
    let leaving = leaving_end(context);
    if surge.phase == SurgePhase::Starting && leaving > context.n {
        return Layout::at_rest(leaving);
    }
    Layout {
        replicas: held_end(context, surge.replicas.saturating_mul(2)),
        partition: surge.replicas,
        // A pod that is lost while the new ones start comes back as it was; after that, as a new one.
        on_delete: surge.phase != SurgePhase::Starting || creates_wanted(context),
        upgrading: false,
    }
}

/// Number of unready pods to exclude from the disruption budget: those beyond the ones that log people in.
pub(super) fn surplus(context: &UpgradeContext<'_>, surge: Option<&Surge>, replicas: u32) -> u32 {
    let extra = match surge {
        None => context.n..replicas,
        Some(surge) => {
            let (lower, upper) = halves(surge.replicas);
            match (context.lists(&lower), context.lists(&upper)) {
                (true, false) => upper,
                (false, true) => lower,
                _ => return 0,
            }
        }
    };
    let ready = context.pods(&extra).filter(|proxy| context.is_ready(proxy));
    let count = u32::try_from(extra.len()).unwrap_or(u32::MAX);
    count.saturating_sub(u32::try_from(ready.count()).unwrap_or(u32::MAX))
}

/// When time alone changes something.
pub(super) fn again(context: &UpgradeContext<'_>, surge: Option<&Surge>) -> Option<Timestamp> {
    let now = context.rollout.now;
    let leaves = match surge {
        None => extra_pods(context, context.n)
            .next()
            .and_then(|_| context.left(&(context.n..u32::MAX))),
        Some(surge) => {
            let (lower, upper) = halves(surge.replicas);
            match surge.phase {
                SurgePhase::Starting => None,
                SurgePhase::Moved => context.left(&lower),
                SurgePhase::Returning => context.left(&upper),
            }
        }
    };
    let turn = takes_turns(context).then(|| {
        let left = TURN.as_secs() - turn_of(now).1;
        time::later(now, Duration::from_secs(left))
    });
    let place = (!context.may_begin).then(|| time::later(now, WAIT_FOR_PLACE));
    [leaves, turn, place]
        .into_iter()
        .flatten()
        .filter(|at| *at > now)
        .min()
}

/// The end of the ordinals from `above` on whose pods must not go yet.
pub(super) fn held_end(context: &UpgradeContext<'_>, above: u32) -> u32 {
    let held = extra_pods(context, above).filter(|proxy| !may_go(context, proxy));
    held.map(|proxy| proxy.ordinal.saturating_add(1))
        .max()
        .unwrap_or(above)
}

/// The end of the ordinals of a scale-down whose pods are still registered on another template.
pub(super) fn leaving_end(context: &UpgradeContext<'_>) -> u32 {
    let leaving = extra_pods(context, context.n)
        .filter(|proxy| !may_go(context, proxy) && context.pod_revision(proxy.pod) != PodRevision::Current);
    leaving
        .map(|proxy| proxy.ordinal.saturating_add(1))
        .max()
        .unwrap_or(context.n)
}

/// Pods that the StatefulSet has from this ordinal on, whatever else carries its labels.
fn extra_pods<'a>(context: &UpgradeContext<'a>, above: u32) -> impl Iterator<Item = &'a ProxyPod<'a>> {
    let end = context.set().map_or(0, |set| set.replicas);
    context.pods(&(above..end))
}

/// Whether no domain controller asks the pod.
pub(super) fn may_go(context: &UpgradeContext<'_>, proxy: &ProxyPod<'_>) -> bool {
    let was_registered = proxy.pod.gate == Some(true);
    let own = proxy.ordinal..proxy.ordinal.saturating_add(1);
    !context.rollout.owner.registers_pods()
        || (!context.is_listed(proxy) && (!was_registered || context.has_left(&own)))
}

/// Whether an extra pod has to show that the new template works: until it works in one of the others.
fn needs_canary(context: &UpgradeContext<'_>) -> bool {
    let all = 0..context.n;
    if context.revision.is_none() || !context.has_canary() || !context.may_begin || context.works(&all) {
        return false;
    }
    let touched = |proxy: &ProxyPod<'_>| match context.pod_revision(proxy.pod) {
        PodRevision::Patchable => !has_image(context, proxy),
        PodRevision::Old => replace::replaces(context),
        PodRevision::Current | PodRevision::Changing => false,
    };
    let alive = || context.pods(&all).filter(|proxy| proxy.alive);
    let tried = context.any(&(context.n..u32::MAX), PodRevision::Current);
    alive().any(touched) || (tried && alive().count() < all.len())
}

/// Whether the pods that are missing are created from the wanted template, and not from the one that was complete last.
/// What works is preferred; a wanted template that is being tried in another pod has to work there first.
fn creates_wanted(context: &UpgradeContext<'_>) -> bool {
    if context.revision.is_none() {
        return context.set().is_some_and(|set| set.on_delete);
    }
    if !differs(context) || !lacks_pods(context) {
        return false;
    }
    if takes_turns(context) {
        return turn_of(context.rollout.now).0 % 2 == 1;
    }
    context.works(&(0..u32::MAX))
}

/// Whether each of the two templates is tried in turn: a pod is missing, and none shows whether the wanted template works.
fn takes_turns(context: &UpgradeContext<'_>) -> bool {
    context.revision.is_some()
        && differs(context)
        && lacks_pods(context)
        && !context.any(&(0..u32::MAX), PodRevision::Current)
}

fn differs(context: &UpgradeContext<'_>) -> bool {
    context
        .set()
        .is_some_and(|set| set.current_revision != set.update_revision)
}

/// Whether an ordinal has no pod at all, not even one that is terminating.
fn lacks_pods(context: &UpgradeContext<'_>) -> bool {
    let ordinals = context.proxies.iter().map(|proxy| proxy.ordinal);
    let existing: std::collections::BTreeSet<u32> = ordinals.filter(|ordinal| *ordinal < context.n).collect();
    existing.len() < context.n as usize
}

/// The number of the turn, and how many seconds of it have passed.
fn turn_of(now: Timestamp) -> (i64, u64) {
    let seconds = i64::try_from(TURN.as_secs()).unwrap_or(1);
    let passed = now.as_second().rem_euclid(seconds);
    (
        now.as_second().div_euclid(seconds),
        u64::try_from(passed).unwrap_or_default(),
    )
}
