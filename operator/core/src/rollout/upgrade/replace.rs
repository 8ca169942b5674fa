//! Pods that are replaced.

use std::ops::Range;

use super::context::{PodRevision, UpgradeContext, halves, phase};
use super::layout::may_go;
use crate::api::AddressSource;
use crate::observed::{Surge, SurgePhase};
use crate::rollout::proxy_pods::ProxyPod;
use crate::rollout::{ObjectKind, ObjectRef};

/// Whether pods on an older template can be replaced without a surge: AWS lists none of them.
pub(super) fn replaces(context: &UpgradeContext<'_>) -> bool {
    // The address of a node may be another one afterwards.
    let allowed = match context.rollout.input.proxy.spec.addresses.source {
        AddressSource::HostIp if context.rollout.has_directory() => context.may_write,
        _ => true,
    };
    let old = || context.with(&(0..context.n), PodRevision::Old);
    allowed
        && context.revision.is_some()
        && old().next().is_some()
        && !old().any(|proxy| context.is_listed(proxy))
}

/// Whether pods are deleted as soon as the StatefulSet creates their successors from the wanted template, or are on their way.
pub(super) fn begins(context: &UpgradeContext<'_>) -> bool {
    let terminating = context
        .proxies
        .iter()
        .any(|proxy| proxy.pod.deleted.is_some() && context.pod_revision(proxy.pod) == PodRevision::Old);
    (terminating && on_delete(context)) || !chosen(context).is_empty()
}

/// The pods that are deleted now.
pub(super) fn deletions(context: &UpgradeContext<'_>, surge: Option<&Surge>) -> Vec<ObjectRef> {
    if context.revision.is_none() {
        return Vec::new();
    }
    let (lower, upper) = halves(surge.map_or(context.n, |surge| surge.replicas));
    let old = |range: &Range<u32>| context.with(range, PodRevision::Old);
    let chosen: Vec<&ProxyPod<'_>> = match phase(surge) {
        None if on_delete(context) => chosen(context),
        Some(SurgePhase::Starting) => old(&upper).filter(|proxy| may_go(context, proxy)).collect(),
        Some(SurgePhase::Moved) if on_delete(context) && context.has_left(&lower) => old(&lower).collect(),
        _ => Vec::new(),
    };
    chosen
        .into_iter()
        .map(|proxy| ObjectRef {
            kind: ObjectKind::Pod,
            name: proxy.pod.name.clone(),
            uid: Some(proxy.pod.uid.clone()),
        })
        .collect()
}

/// Pods that are replaced without a surge: all that don't answer, and one that does.
fn chosen<'a>(context: &UpgradeContext<'a>) -> Vec<&'a ProxyPod<'a>> {
    if !replaces(context) {
        return Vec::new();
    }
    let all = 0..context.n;
    let (alive, mut chosen): (Vec<&ProxyPod<'_>>, Vec<&ProxyPod<'_>>) = context
        .with(&all, PodRevision::Old)
        .partition(|proxy| proxy.alive);
    if context.is_being_tried() {
        chosen.clear();
    }
    if let Some(next) = alive.into_iter().max_by_key(|proxy| proxy.ordinal)
        && context.may_take_down(&all, next)
    {
        chosen.push(next);
    }
    chosen
}

fn on_delete(context: &UpgradeContext<'_>) -> bool {
    context.set().is_some_and(|set| set.on_delete)
}
