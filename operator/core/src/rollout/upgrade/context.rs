//! What an upgrade is decided by.

use std::collections::BTreeSet;
use std::ops::Range;

use jiff::Timestamp;

use super::in_place::Marker;
use super::{layout, replace};
use crate::api::AddressSource;
use crate::objects::Template;
use crate::observed::{PodState, RadiusStatus, StatefulSetState};
use crate::observed::{Surge, SurgePhase};
use crate::rollout::acceptance::Acceptance;
use crate::rollout::context::RolloutContext;
use crate::rollout::proxy_pods::ProxyPod;
use crate::rollout::readiness_gate;
use crate::time;

/// How much of the template a pod has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PodRevision {
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
pub(super) struct UpgradeContext<'a> {
    pub(super) rollout: &'a RolloutContext<'a>,
    pub(super) template: &'a Template,
    pub(super) proxies: &'a [ProxyPod<'a>],
    /// The revision of the template, once the StatefulSet has it.
    pub(super) revision: Option<&'a str>,
    /// Whether the API server or a policy of the cluster refuses to change images in place.
    pub(super) refused: bool,
    /// Addresses that AWS may hold.
    pub(super) listed: BTreeSet<String>,
    /// Whether AWS may be written to.
    pub(super) may_write: bool,
    /// Whether pods that answer may be changed or replaced.
    pub(super) may_begin: bool,
    /// `spec.replicas`.
    pub(super) n: u32,
}

impl<'a> UpgradeContext<'a> {
    pub(super) fn new(
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

    /// Ordinals of the pods that are registered once they serve, and of those that stay registered.
    pub(super) fn registered(&self, surge: Option<&Surge>) -> (Range<u32>, Range<u32>) {
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
    pub(super) fn nobody_answers(&self) -> bool {
        let registered = self.rollout.record.applied.is_some() || self.rollout.record.pending.is_some();
        registered
            && self.rollout.owner.registers_pods()
            && !self.pods(&(0..u32::MAX)).any(|proxy| {
                let changes = self.pod_revision(proxy.pod) == PodRevision::Changing;
                self.is_listed(proxy) && (proxy.alive || (changes && proxy.pod.waiting.is_none()))
            })
    }

    /// Whether the upgrade takes one of the places that the operator has for rollouts.
    pub(super) fn is_under_way(&self, surge: Option<&Surge>) -> bool {
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

    pub(super) fn set(&self) -> Option<&'a StatefulSetState> {
        self.rollout.input.stateful_set.as_ref()
    }

    pub(super) fn pod_revision(&self, pod: &PodState) -> PodRevision {
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
    pub(super) fn pods<'s>(
        &'s self,
        range: &Range<u32>,
    ) -> impl Iterator<Item = &'a ProxyPod<'a>> + use<'s, 'a> {
        let range = range.clone();
        self.proxies
            .iter()
            .filter(move |proxy| proxy.pod.deleted.is_none() && range.contains(&proxy.ordinal))
    }

    pub(super) fn with<'s>(
        &'s self,
        range: &Range<u32>,
        revision: PodRevision,
    ) -> impl Iterator<Item = &'a ProxyPod<'a>> + use<'s, 'a> {
        self.pods(range)
            .filter(move |proxy| self.pod_revision(proxy.pod) == revision)
    }

    pub(super) fn any(&self, range: &Range<u32>, revision: PodRevision) -> bool {
        self.with(range, revision).next().is_some()
    }

    /// Whether a pod of these ordinals serves on the new template.
    pub(super) fn works(&self, range: &Range<u32>) -> bool {
        self.with(range, PodRevision::Current).any(ProxyPod::serves)
    }

    /// Whether every pod of these ordinals exists and serves on the new template.
    pub(super) fn complete(&self, range: &Range<u32>) -> bool {
        self.with(range, PodRevision::Current)
            .filter(|proxy| proxy.serves())
            .count()
            >= range.len()
    }

    /// Whether every other pod is there and serves, with its change behind it.
    pub(super) fn others_serve(&self, range: &Range<u32>, but: &ProxyPod<'_>) -> bool {
        let others = self
            .pods(range)
            .filter(|proxy| proxy.pod.uid != but.pod.uid)
            .filter(|proxy| proxy.serves() && self.pod_revision(proxy.pod) != PodRevision::Changing);
        others.count() + 1 >= range.len()
    }

    /// Whether a pod on the new template exists, and none serves yet: then pods that don't answer stay on the old one, on
    /// which they may just be starting.
    pub(super) fn is_being_tried(&self) -> bool {
        let everyone = 0..u32::MAX;
        self.any(&everyone, PodRevision::Current) && !self.works(&everyone)
    }

    /// Whether a pod that answers may be taken down for the new template: it works in another pod, and nothing else is going on.
    pub(super) fn may_take_down(&self, range: &Range<u32>, next: &ProxyPod<'_>) -> bool {
        let shown = self.works(&(0..u32::MAX)) || !self.has_canary();
        self.may_begin && shown && self.quiet() && self.others_serve(range, next)
    }

    /// Whether an extra pod shows first that a new template works. With the addresses of nodes it would need a free node.
    pub(super) fn has_canary(&self) -> bool {
        self.rollout.input.proxy.spec.addresses.source != AddressSource::HostIp
    }

    /// Whether AWS may send requests to a pod's own address.
    pub(super) fn is_listed(&self, proxy: &ProxyPod<'_>) -> bool {
        self.rollout.owner.registers_pods()
            && proxy
                .pod
                .ips
                .iter()
                .any(|ip| self.listed.contains(&ip.to_canonical().to_string()))
    }

    pub(super) fn lists(&self, range: &Range<u32>) -> bool {
        self.pods(range).any(|proxy| self.is_listed(proxy))
    }

    /// Whether the pod's readiness gate is open, or opens in this rollout.
    pub(super) fn is_ready(&self, proxy: &ProxyPod<'_>) -> bool {
        let ours = self.rollout.record.applied.is_some();
        let change = readiness_gate::change(proxy, self.rollout.directory, ours);
        let open = change.map_or(proxy.pod.gate == Some(true), |change| change.open);
        proxy.pod.containers_ready && open
    }

    /// Whether AWS is not at work: it asks the servers itself while it is.
    pub(super) fn quiet(&self) -> bool {
        let creating = |status| status == Some(RadiusStatus::Creating);
        self.rollout.record.pending.is_none()
            && !self.rollout.directory.is_some_and(|d| creating(d.radius_status))
    }

    /// Since when no domain controller asks pods of these ordinals: AWS has completed without them, and a while has
    /// passed, since domain controllers learn settings one by one.
    pub(super) fn left(&self, range: &Range<u32>) -> Option<Timestamp> {
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

    pub(super) fn has_left(&self, range: &Range<u32>) -> bool {
        self.left(range).is_some_and(|at| self.rollout.now >= at)
    }
}

/// The pods with the lower and with the higher ordinals in a surge.
pub(super) const fn halves(replicas: u32) -> (Range<u32>, Range<u32>) {
    (0..replicas, replicas..replicas.saturating_mul(2))
}

/// The phase, or none.
pub(super) fn phase(surge: Option<&Surge>) -> Option<SurgePhase> {
    surge.map(|surge| surge.phase)
}
