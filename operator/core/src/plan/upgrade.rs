//! How running pods come to a new template without a login lost.
//!
//! What a kubelet can change in a running pod (the image) is changed in place, one pod at a time: the address stays, AWS
//! hears nothing. What needs new pods is done by surge: pods N to 2N-1 start on the new template and are registered in
//! place of pods 0 to N-1 (one write), which are then replaced and registered again (the other write). Pods that AWS does
//! not list are just replaced. No registered server is ever taken down, and a template that does not start stops all of this.

mod act;
mod surge;

use std::collections::BTreeSet;
use std::ops::Range;

use jiff::Timestamp;

use super::ObjectRef;
use super::accept::Judgement;
use super::build::Round;
use crate::api::{AddressSource, Surge, SurgePhase};
use crate::input::{PodState, RadiusStatus};
use crate::objects::{Shape, Template};
use crate::registration::servers::Proxy;
use crate::time;

/// What is done about the template in this round.
#[derive(Debug, Clone)]
pub(super) struct Upgrade {
    /// The memory of it.
    pub(super) surge: Option<Surge>,
    pub(super) shape: Shape,
    /// Pods that are registered, by ordinal.
    pub(super) joins: Range<u32>,
    /// Pods that stay registered where they are.
    pub(super) keeps: Range<u32>,
    /// How many pods that are not ready nobody counts on.
    pub(super) spare: u32,
    /// Uids of the pods whose image is changed, with the new value of the annotation that remembers it.
    pub(super) images: Vec<(String, String)>,
    /// Uids of the pods that get the revision as their label.
    pub(super) labels: Vec<String>,
    /// The revision of the template.
    pub(super) revision: Option<String>,
    /// Pods that are replaced.
    pub(super) delete: Vec<ObjectRef>,
    /// What is under way, for people.
    pub(super) words: Option<String>,
    /// When to look again.
    pub(super) again: Option<Timestamp>,
}

impl Upgrade {
    /// How many pods there should be to log people in.
    pub(super) fn replicas(&self) -> u32 {
        self.joins.end.saturating_sub(self.joins.start)
    }
}

/// What a pod has of the template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// All of it.
    Current,
    /// Its image is being changed.
    Changing,
    /// All but the image.
    Patchable,
    /// Less: it has to be replaced.
    Old,
}

/// What is looked at.
struct Scene<'a> {
    round: &'a Round<'a>,
    template: &'a Template,
    proxies: &'a [Proxy<'a>],
    /// The revision of the template, once the StatefulSet has it.
    revision: Option<&'a str>,
    refused: bool,
    /// Addresses that AWS may hold.
    listed: BTreeSet<String>,
    may_write: bool,
    /// `spec.replicas`.
    n: u32,
}

/// Decides what is done about the template.
pub(super) fn upgrade(
    round: &Round<'_>,
    template: &Template,
    proxies: &[Proxy<'_>],
    judgement: &Judgement,
) -> Upgrade {
    let before = round.before.and_then(|status| status.surge.clone());
    let scene = Scene::new(round, template, proxies, judgement, before.as_ref());
    let surge = if scene.revision.is_some() {
        scene.advance(before)
    } else {
        before
    };
    scene.outcome(surge)
}

impl<'a> Scene<'a> {
    fn new(
        round: &'a Round<'a>,
        template: &'a Template,
        proxies: &'a [Proxy<'a>],
        judgement: &Judgement,
        surge: Option<&Surge>,
    ) -> Self {
        let set = round.input.stateful_set.as_ref();
        let revision = set
            .filter(|set| {
                set.template.as_ref() == Some(&template.digest) && set.observed_generation >= set.generation
            })
            .map(|set| set.update_revision.as_str())
            .filter(|revision| !revision.is_empty());
        let refused = revision.is_some_and(|revision| {
            round.input.outcomes.refuse_in_place(revision)
                || surge.is_some_and(|surge| surge.in_place_refused.as_deref() == Some(revision))
        });
        let described = round.directory.filter(|d| d.radius_status.is_some());
        let lists = [
            described.and_then(|directory| directory.radius_settings.as_ref()),
            round.ledger.pending.as_ref().and_then(|p| p.settings.as_ref()),
            round.ledger.applied.as_ref().map(|applied| &applied.settings),
        ];
        Self {
            round,
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
            may_write: judgement.may_write && !round.input.proxy.spec.suspend,
            n: round.input.proxy.spec.replicas,
        }
    }

    fn standing(&self, pod: &PodState) -> Standing {
        // While the marker is there, a change has begun and the label tells of the time before.
        let marker = Marker::of(pod);
        if marker.is_none() && pod.revision.as_deref() == self.revision {
            return Standing::Current;
        }
        if self.refused || pod.template.as_ref() != Some(&self.template.pod_digest) {
            return Standing::Old;
        }
        if marker.is_some_and(|marker| Some(marker.revision) == self.revision) {
            Standing::Changing
        } else {
            Standing::Patchable
        }
    }

    /// Pods of these ordinals that are not terminating.
    fn pods<'s>(&'s self, range: &Range<u32>) -> impl Iterator<Item = &'a Proxy<'a>> + use<'s, 'a> {
        let range = range.clone();
        self.proxies
            .iter()
            .filter(move |proxy| proxy.pod.deleted.is_none() && range.contains(&proxy.ordinal))
    }

    fn with<'s>(
        &'s self,
        range: &Range<u32>,
        standing: Standing,
    ) -> impl Iterator<Item = &'a Proxy<'a>> + use<'s, 'a> {
        self.pods(range)
            .filter(move |proxy| self.standing(proxy.pod) == standing)
    }

    fn any(&self, range: &Range<u32>, standing: Standing) -> bool {
        self.with(range, standing).next().is_some()
    }

    /// Whether there is every pod of these ordinals, and each serves on the new template.
    fn complete(&self, range: &Range<u32>) -> bool {
        self.with(range, Standing::Current)
            .filter(|proxy| proxy.serves())
            .count()
            >= range.len()
    }

    /// Whether AWS may send requests to a pod's own address.
    fn is_listed(&self, proxy: &Proxy<'_>) -> bool {
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
        let spec = &self.round.input.proxy.spec;
        spec.directory.is_some() && spec.addresses.source == AddressSource::PodIp
    }

    /// Whether AWS is not at work: it asks the servers itself while it is.
    fn quiet(&self) -> bool {
        let creating = |status| status == Some(RadiusStatus::Creating);
        self.round.ledger.pending.is_none()
            && !self.round.directory.is_some_and(|d| creating(d.radius_status))
    }

    /// Since when no domain controller asks pods of these ordinals: AWS has completed without them, and a while has
    /// passed, since domain controllers learn settings one by one.
    fn left(&self, range: &Range<u32>) -> Option<Timestamp> {
        let completed = self
            .round
            .directory
            .is_some_and(|d| d.radius_status == Some(RadiusStatus::Completed));
        if !completed || self.round.ledger.pending.is_some() || self.lists(range) {
            return None;
        }
        let at = self.round.ledger.applied.as_ref()?.completed_time.as_ref()?;
        Some(time::after(at, self.round.input.settings.rotation_grace))
    }

    fn has_left(&self, range: &Range<u32>) -> bool {
        self.left(range).is_some_and(|at| self.round.now >= at)
    }
}

/// The pods with the lower and with the higher ordinals in a surge.
const fn halves(replicas: u32) -> (Range<u32>, Range<u32>) {
    (0..replicas, replicas..replicas.saturating_mul(2))
}

/// What the annotation of a change in place says.
struct Marker<'a> {
    revision: &'a str,
    container: &'a str,
    image: &'a str,
}

impl<'a> Marker<'a> {
    fn of(pod: &'a PodState) -> Option<Self> {
        let mut parts = pod.in_place.as_deref()?.splitn(3, ' ');
        Some(Self {
            revision: parts.next()?,
            container: parts.next()?,
            image: parts.next()?,
        })
    }

    /// Whether the pod runs what it was changed to: in another container, or in the same where a policy of the cluster
    /// left the image as it was.
    fn is_over(&self, pod: &PodState) -> bool {
        pod.container.as_deref().unwrap_or_default() != self.container || pod.image == self.image
    }
}

/// The phase, or none.
fn phase(surge: Option<&Surge>) -> Option<SurgePhase> {
    surge.map(|surge| surge.phase)
}
