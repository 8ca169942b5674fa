//! How running pods come to a new template without a login lost.
//!
//! What a kubelet can change in a running pod (the image) is changed in place, one pod at a time: the address stays, AWS
//! hears nothing. One extra pod that isn't registered has to be ready on the new image first. What needs new pods is done by
//! surge: pods N to 2N-1 start on the new template and are registered in place of pods 0 to N-1 (one write), which are then
//! replaced and registered again (the other write). Pods that AWS doesn't list are replaced one by one. No registered server
//! is taken down for a surge or a scale-down, and a template that doesn't start stops all of this.

mod in_place;
mod layout;
mod message;
mod replace;
mod surge;

use std::collections::BTreeSet;
use std::ops::Range;

use jiff::Timestamp;

use super::ObjectRef;
use super::acceptance::Acceptance;
use super::context::RolloutContext;
use crate::api::{AddressSource, Surge, SurgePhase};
use crate::objects::{Layout, Template};
use crate::observed::{PodState, RadiusStatus, StatefulSetState};
use crate::rollout::proxy_pods::ProxyPod;
use crate::rollout::readiness_gate;
use crate::time;
use in_place::Marker;

/// What is done about the template in this rollout.
#[derive(Debug, Clone)]
pub(super) struct Upgrade {
    /// The phase of the surge, if there is one.
    pub(super) surge: Option<Surge>,
    pub(super) layout: Layout,
    /// Ordinals of the pods that are registered once they serve.
    pub(super) eligible: Range<u32>,
    /// Ordinals of the pods that stay registered.
    pub(super) retained: Range<u32>,
    /// Number of pods that should log people in.
    pub(super) replicas: u32,
    /// Number of unready pods to exclude from the disruption budget.
    pub(super) surplus: u32,
    /// Uids of the pods whose image is changed, with the new value of the annotation that records it.
    pub(super) images: Vec<(String, String)>,
    /// Uids of the pods that get the revision as their label.
    pub(super) labels: Vec<String>,
    /// The revision of the template.
    pub(super) revision: Option<String>,
    /// Pods that are replaced.
    pub(super) delete: Vec<ObjectRef>,
    /// What is under way, for people.
    pub(super) message: Option<String>,
    /// When to look again.
    pub(super) again: Option<Timestamp>,
}

/// What a pod has of the template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PodRevision {
    /// All of it.
    Current,
    /// Its image is being changed.
    Changing,
    /// All but the image.
    Patchable,
    /// Less: the pod has to be replaced.
    Old,
}

/// Everything that a rollout is decided by.
struct UpgradeContext<'a> {
    rollout: &'a RolloutContext<'a>,
    template: &'a Template,
    proxies: &'a [ProxyPod<'a>],
    /// The revision of the template, once the StatefulSet has it.
    revision: Option<&'a str>,
    /// Whether the API server or a policy of the cluster refuses to change images in place.
    refused: bool,
    /// Addresses that AWS may hold.
    listed: BTreeSet<String>,
    /// Whether AWS may be written to.
    may_write: bool,
    /// Whether pods that answer may be changed or replaced.
    may_begin: bool,
    /// `spec.replicas`.
    n: u32,
}

/// Decides what is done about the template.
pub(super) fn upgrade(
    rollout: &RolloutContext<'_>,
    template: &Template,
    proxies: &[ProxyPod<'_>],
    acceptance: &Acceptance,
) -> Upgrade {
    let before = rollout.before.and_then(|status| status.surge.clone());
    let context = UpgradeContext::new(rollout, template, proxies, acceptance, before.as_ref());
    let surge = if context.revision.is_some() {
        surge::advance(&context, before)
    } else {
        before
    };
    context.outcome(surge)
}

impl<'a> UpgradeContext<'a> {
    fn new(
        rollout: &'a RolloutContext<'a>,
        template: &'a Template,
        proxies: &'a [ProxyPod<'a>],
        acceptance: &Acceptance,
        surge: Option<&Surge>,
    ) -> Self {
        let set = rollout.input.stateful_set.as_ref();
        let revision = set
            .filter(|set| {
                set.template.as_ref() == Some(&template.digest) && set.observed_generation >= set.generation
            })
            .map(|set| set.update_revision.as_str())
            .filter(|revision| !revision.is_empty());
        let reverted = |proxy: &ProxyPod<'_>| {
            Marker::of(proxy.pod)
                .is_some_and(|marker| Some(marker.revision) == revision && marker.is_reverted(proxy.pod))
        };
        let refused = revision.is_some_and(|revision| {
            rollout.input.outcomes.refuse_in_place(revision)
                || surge.is_some_and(|surge| surge.in_place_refused.as_deref() == Some(revision))
                || proxies.iter().any(reverted)
        });
        let described = rollout.directory.filter(|d| d.radius_status.is_some());
        let lists = [
            described.and_then(|directory| directory.radius_settings.as_ref()),
            rollout.record.pending.as_ref().and_then(|p| p.settings.as_ref()),
            rollout.record.applied.as_ref().map(|applied| &applied.settings),
        ];
        Self {
            rollout,
            template,
            proxies,
            revision,
            refused,
            listed: lists
                .into_iter()
                .flatten()
                .flat_map(|settings| settings.servers.iter().chain(&settings.servers_ipv6))
                .cloned()
                .collect(),
            may_write: acceptance.may_write && !rollout.input.proxy.spec.suspend,
            // Where nobody answers there is nothing to wait for.
            may_begin: rollout.input.may_begin
                || set.is_some_and(|set| set.upgrading)
                || !proxies.iter().any(|proxy| proxy.alive),
            n: rollout.input.proxy.spec.replicas,
        }
    }

    fn outcome(&self, surge: Option<Surge>) -> Upgrade {
        let (eligible, retained) = self.registered(surge.as_ref());
        let layout = layout::layout(self, surge.as_ref());
        let acts = self.revision.is_some();
        let message = message::message(self, surge.as_ref());
        Upgrade {
            layout: Layout {
                upgrading: self.is_under_way(surge.as_ref()),
                ..layout
            },
            eligible,
            retained,
            replicas: surge.as_ref().map_or(self.n, |surge| surge.replicas),
            surplus: layout::surplus(self, surge.as_ref(), layout.replicas),
            images: in_place::images(self, surge.as_ref()),
            labels: if acts { in_place::labels(self) } else { Vec::new() },
            revision: self.revision.map(str::to_owned),
            delete: replace::deletions(self, surge.as_ref()),
            message,
            again: layout::again(self, surge.as_ref()).filter(|at| self.rollout.now < *at),
            surge,
        }
    }

    /// Ordinals of the pods that are registered once they serve, and of those that stay registered.
    fn registered(&self, surge: Option<&Surge>) -> (Range<u32>, Range<u32>) {
        let (lower, upper) = halves(surge.map_or(self.n, |surge| surge.replicas));
        let everyone = 0..u32::MAX;
        let eligible = match phase(surge) {
            Some(SurgePhase::Moved) => upper,
            None | Some(SurgePhase::Starting | SurgePhase::Returning) => lower,
        };
        let retained = match phase(surge) {
            // What runs the new template already is registered in the next phase.
            Some(SurgePhase::Starting) if layout::leaving_end(self) == self.n => everyone.clone(),
            // A pod leaves when another one serves.
            _ if !self.pods(&eligible).any(ProxyPod::serves) => everyone.clone(),
            _ => eligible.clone(),
        };
        if self.nobody_answers() {
            (everyone, retained)
        } else {
            (eligible, retained)
        }
    }

    /// Whether no server that this RadiusProxy registered answers, or is about to with another image.
    fn nobody_answers(&self) -> bool {
        let registered = self.rollout.record.applied.is_some() || self.rollout.record.pending.is_some();
        registered
            && self.by_pod_address()
            && !self.pods(&(0..u32::MAX)).any(|proxy| {
                let changes = self.pod_revision(proxy.pod) == PodRevision::Changing;
                self.is_listed(proxy) && (proxy.alive || (changes && proxy.pod.waiting.is_none()))
            })
    }

    /// Whether the upgrade takes one of the places that the operator has for rollouts.
    fn is_under_way(&self, surge: Option<&Surge>) -> bool {
        if self.revision.is_none() {
            return self.set().is_some_and(|set| set.upgrading);
        }
        let all = 0..self.n;
        let goes_on = if self.any(&all, PodRevision::Old) {
            replace::replaces(self)
        } else {
            self.any(&all, PodRevision::Changing) || self.any(&all, PodRevision::Patchable)
        };
        surge.is_some() || (goes_on && self.may_begin)
    }

    fn set(&self) -> Option<&'a StatefulSetState> {
        self.rollout.input.stateful_set.as_ref()
    }

    fn pod_revision(&self, pod: &PodState) -> PodRevision {
        // While the marker is there, a change has begun and the label is of the time before.
        let marker = Marker::of(pod);
        if marker.is_none() && pod.revision.as_deref() == self.revision {
            return PodRevision::Current;
        }
        if self.refused || pod.template.as_ref() != Some(&self.template.pod_digest) {
            return PodRevision::Old;
        }
        if marker.is_some_and(|marker| Some(marker.revision) == self.revision || marker.drains(pod)) {
            PodRevision::Changing
        } else {
            PodRevision::Patchable
        }
    }

    /// Pods of these ordinals that are not terminating.
    fn pods<'s>(&'s self, range: &Range<u32>) -> impl Iterator<Item = &'a ProxyPod<'a>> + use<'s, 'a> {
        let range = range.clone();
        self.proxies
            .iter()
            .filter(move |proxy| proxy.pod.deleted.is_none() && range.contains(&proxy.ordinal))
    }

    fn with<'s>(
        &'s self,
        range: &Range<u32>,
        revision: PodRevision,
    ) -> impl Iterator<Item = &'a ProxyPod<'a>> + use<'s, 'a> {
        self.pods(range)
            .filter(move |proxy| self.pod_revision(proxy.pod) == revision)
    }

    fn any(&self, range: &Range<u32>, revision: PodRevision) -> bool {
        self.with(range, revision).next().is_some()
    }

    /// Whether a pod of these ordinals serves on the new template.
    fn works(&self, range: &Range<u32>) -> bool {
        self.with(range, PodRevision::Current).any(ProxyPod::serves)
    }

    /// Whether there is every pod of these ordinals, and each serves on the new template.
    fn complete(&self, range: &Range<u32>) -> bool {
        self.with(range, PodRevision::Current)
            .filter(|proxy| proxy.serves())
            .count()
            >= range.len()
    }

    /// Whether every other pod is there and serves, with its change behind it.
    fn others_serve(&self, range: &Range<u32>, but: &ProxyPod<'_>) -> bool {
        let others = self
            .pods(range)
            .filter(|proxy| proxy.pod.uid != but.pod.uid)
            .filter(|proxy| proxy.serves() && self.pod_revision(proxy.pod) != PodRevision::Changing);
        others.count() + 1 >= range.len()
    }

    /// Whether a pod on the new template exists, and none serves yet: then pods that don't answer stay on the old one, on
    /// which they may just be starting.
    fn is_being_tried(&self) -> bool {
        let everyone = 0..u32::MAX;
        self.any(&everyone, PodRevision::Current) && !self.works(&everyone)
    }

    /// Whether a pod that answers may be taken down for the new template: it works in another pod, and nothing else is going on.
    fn may_take_down(&self, range: &Range<u32>, next: &ProxyPod<'_>) -> bool {
        let shown = self.works(&(0..u32::MAX)) || !self.has_canary();
        self.may_begin && shown && self.quiet() && self.others_serve(range, next)
    }

    /// Whether an extra pod shows first that a new template works. With the addresses of nodes it would need a free node.
    fn has_canary(&self) -> bool {
        self.rollout.input.proxy.spec.addresses.source != AddressSource::HostIp
    }

    /// Whether AWS may send requests to a pod's own address.
    fn is_listed(&self, proxy: &ProxyPod<'_>) -> bool {
        self.by_pod_address()
            && proxy
                .pod
                .ips
                .iter()
                .any(|ip| self.listed.contains(&ip.to_canonical().to_string()))
    }

    fn lists(&self, range: &Range<u32>) -> bool {
        self.pods(range).any(|proxy| self.is_listed(proxy))
    }

    fn by_pod_address(&self) -> bool {
        let spec = &self.rollout.input.proxy.spec;
        spec.directory.is_some() && spec.addresses.source == AddressSource::PodIp
    }

    /// Whether the pod's readiness gate is open, or opens in this rollout.
    fn is_ready(&self, proxy: &ProxyPod<'_>) -> bool {
        let ours = self.rollout.record.applied.is_some();
        let change = readiness_gate::change(proxy, self.rollout.directory, ours);
        let open = change.map_or(proxy.pod.gate == Some(true), |change| change.open);
        proxy.pod.containers_ready && open
    }

    /// Whether AWS is not at work: it asks the servers itself while it is.
    fn quiet(&self) -> bool {
        let creating = |status| status == Some(RadiusStatus::Creating);
        self.rollout.record.pending.is_none()
            && !self.rollout.directory.is_some_and(|d| creating(d.radius_status))
    }

    /// Since when no domain controller asks pods of these ordinals: AWS has completed without them, and a while has
    /// passed, since domain controllers learn settings one by one.
    fn left(&self, range: &Range<u32>) -> Option<Timestamp> {
        let completed = self
            .rollout
            .directory
            .is_some_and(|d| d.radius_status == Some(RadiusStatus::Completed));
        if !completed || self.rollout.record.pending.is_some() || self.lists(range) {
            return None;
        }
        let at = self.rollout.record.applied.as_ref()?.completed_time.as_ref()?;
        Some(time::after(at, self.rollout.input.settings.rotation_grace))
    }

    fn has_left(&self, range: &Range<u32>) -> bool {
        self.left(range).is_some_and(|at| self.rollout.now >= at)
    }
}

/// The pods with the lower and with the higher ordinals in a surge.
const fn halves(replicas: u32) -> (Range<u32>, Range<u32>) {
    (0..replicas, replicas..replicas.saturating_mul(2))
}

/// The phase, or none.
fn phase(surge: Option<&Surge>) -> Option<SurgePhase> {
    surge.map(|surge| surge.phase)
}
