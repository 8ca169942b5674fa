//! Images that are changed in running pods.

use super::context::{PodRevision, UpgradeContext, halves, phase};
use crate::observed::PodState;
use crate::observed::{Surge, SurgePhase};
use crate::rollout::proxy_pods::ProxyPod;

/// What the annotation of a change in place says: the revision that the pod comes to, and what ran before.
pub(super) struct Marker<'a> {
    pub(super) revision: &'a str,
    container: &'a str,
    image: &'a str,
}

impl<'a> Marker<'a> {
    pub(super) fn of(pod: &'a PodState) -> Option<Self> {
        let mut parts = pod.in_place.as_deref()?.splitn(3, ' ');
        Some(Self {
            revision: parts.next()?,
            container: parts.next()?,
            image: parts.next()?,
        })
    }

    /// Whether the container of before is still there.
    fn has_container(&self, pod: &PodState) -> bool {
        pod.container.as_deref().unwrap_or_default() == self.container
    }

    /// Whether a policy of the cluster put the old image back.
    pub(super) fn is_reverted(&self, pod: &PodState) -> bool {
        self.has_container(pod) && pod.image == self.image
    }

    /// Whether the old container still ends its logins. The next container would be of this image, and only the one after it
    /// of a third image.
    pub(super) fn drains(&self, pod: &PodState) -> bool {
        self.has_container(pod) && pod.image != self.image && pod.waiting.is_none()
    }
}

/// Uids of the pods whose image is changed now, with their markers: all that don't answer or aren't registered, and one that
/// is.
pub(super) fn images(context: &UpgradeContext<'_>, surge: Option<&Surge>) -> Vec<(String, String)> {
    let Some(revision) = context.revision else {
        return Vec::new();
    };
    let (lower, upper) = halves(surge.map_or(context.n, |surge| surge.replicas));
    let (range, registered) = match phase(surge) {
        None | Some(SurgePhase::Returning) => (lower, true),
        Some(SurgePhase::Starting) => (upper, false),
        Some(SurgePhase::Moved) if context.has_left(&lower) => (lower, false),
        Some(SurgePhase::Moved) => return Vec::new(),
    };
    let patchable = || {
        context
            .with(&range, PodRevision::Patchable)
            .filter(|proxy| !has_image(context, proxy))
    };
    let at_once = |proxy: &&ProxyPod<'_>| !registered || (!proxy.alive && !context.is_being_tried());
    let mut chosen: Vec<&ProxyPod<'_>> = patchable().filter(at_once).collect();
    // From the last one, as the StatefulSet's own controller would. At the end of a surge there is no canary.
    let next = patchable()
        .filter(|proxy| proxy.alive)
        .max_by_key(|proxy| proxy.ordinal);
    if let Some(next) = next.filter(|_| surge.is_none())
        && context.may_take_down(&range, next)
    {
        chosen.push(next);
    }
    chosen
        .into_iter()
        .map(|proxy| {
            let pod = proxy.pod;
            let container = pod.container.as_deref().unwrap_or_default();
            (pod.uid.clone(), format!("{revision} {container} {}", pod.image))
        })
        .collect()
}

/// Uids of the pods whose change in place is over.
pub(super) fn labels(context: &UpgradeContext<'_>) -> Vec<String> {
    let over = |proxy: &&ProxyPod<'_>| match context.pod_revision(proxy.pod) {
        PodRevision::Changing => {
            proxy.serves() && Marker::of(proxy.pod).is_some_and(|marker| !marker.has_container(proxy.pod))
        }
        PodRevision::Patchable => has_image(context, proxy),
        PodRevision::Current | PodRevision::Old => false,
    };
    context
        .pods(&(0..u32::MAX))
        .filter(over)
        .map(|proxy| proxy.pod.uid.clone())
        .collect()
}

/// Whether a pod that can be patched runs the image already, and only the revision has another name.
pub(super) fn has_image(context: &UpgradeContext<'_>, proxy: &ProxyPod<'_>) -> bool {
    let pod = proxy.pod;
    pod.image == context.template.image && Marker::of(pod).is_none_or(|marker| marker.is_reverted(pod))
}
