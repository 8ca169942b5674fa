//! What is done in a phase, as plain values.

use std::ops::Range;

use super::{Marker, Scene, Standing, Upgrade, halves, phase};
use crate::api::{AddressSource, Surge, SurgePhase};
use crate::objects::Shape;
use crate::plan::pods::{Proxy, not_serving};
use crate::plan::{ObjectKind, ObjectRef};

impl Scene<'_> {
    pub(super) fn outcome(&self, surge: Option<Surge>) -> Upgrade {
        let (lower, upper) = halves(surge.as_ref().map_or(self.n, |surge| surge.replicas));
        let (joins, keeps) = match phase(surge.as_ref()) {
            // Those of a scale-down keep their place until they are gone.
            None => (0..self.n, 0..u32::MAX),
            Some(SurgePhase::Starting | SurgePhase::Returning) => (lower.clone(), lower.clone()),
            Some(SurgePhase::Moved) => (upper.clone(), upper.clone()),
        };
        let acts = self.revision.is_some();
        let again = match phase(surge.as_ref()) {
            Some(SurgePhase::Moved) => self.left(&lower),
            Some(SurgePhase::Returning) => self.left(&upper),
            _ => None,
        };
        Upgrade {
            shape: self.shape(surge.as_ref()),
            joins,
            keeps,
            spare: surge.as_ref().map_or(0, |surge| self.spare(surge.replicas)),
            images: if acts {
                self.images(surge.as_ref())
            } else {
                Vec::new()
            },
            labels: if acts { self.labels() } else { Vec::new() },
            revision: self.revision.map(str::to_owned),
            delete: if acts {
                self.deletions(surge.as_ref())
            } else {
                Vec::new()
            },
            words: self.words(surge.as_ref()),
            again: again.filter(|at| self.round.now < *at),
            surge,
        }
    }

    fn shape(&self, surge: Option<&Surge>) -> Shape {
        let Some(surge) = surge else {
            return Shape {
                on_delete: self.replaces() || self.still_replaces(),
                ..Shape::at_rest(self.n)
            };
        };
        Shape {
            replicas: surge.replicas.saturating_mul(2),
            // A pod that is lost while the new ones start comes back as it was; after that, as a new one.
            partition: surge.replicas,
            on_delete: surge.phase != SurgePhase::Starting,
        }
    }

    fn set_on_delete(&self) -> bool {
        self.round
            .input
            .stateful_set
            .as_ref()
            .is_some_and(|set| set.on_delete)
    }

    /// Pods that nobody's request gets lost with are replaced without a surge.
    fn replaces(&self) -> bool {
        let has_directory = self.round.has_directory();
        // The address of a node may be another one afterwards.
        let allowed = match self.round.input.proxy.spec.addresses.source {
            AddressSource::HostIp if has_directory => self.may_write,
            _ => true,
        };
        allowed
            && self.revision.is_some()
            && self.any(&(0..self.n), Standing::Old)
            && !self
                .with(&(0..self.n), Standing::Old)
                .any(|proxy| self.is_listed(proxy))
    }

    /// Once begun it lasts until the last successor is there: a partition would bring it back with the template of before.
    fn still_replaces(&self) -> bool {
        self.set_on_delete()
            && (self.revision.is_none()
                || self.with(&(0..self.n), Standing::Current).count() < self.n as usize)
    }

    /// Pods of the half that AWS does not list, as far as they are not ready.
    fn spare(&self, replicas: u32) -> u32 {
        let (lower, upper) = halves(replicas);
        let half = &match (self.lists(&lower), self.lists(&upper)) {
            (true, false) => upper,
            (false, true) => lower,
            _ => return 0,
        };
        let ready = self
            .pods(half)
            .filter(|proxy| proxy.pod.containers_ready && proxy.pod.gate == Some(true))
            .count();
        replicas.saturating_sub(u32::try_from(ready).unwrap_or(u32::MAX))
    }

    /// The changes in place that begin now.
    fn images(&self, surge: Option<&Surge>) -> Vec<(String, String)> {
        let (lower, upper) = halves(surge.map_or(self.n, |surge| surge.replicas));
        let (range, in_charge) = match phase(surge) {
            None | Some(SurgePhase::Returning) => (lower, true),
            Some(SurgePhase::Starting) => (upper, false),
            Some(SurgePhase::Moved) if self.has_left(&lower) => (lower, false),
            Some(SurgePhase::Moved) => return Vec::new(),
        };
        let patchable = || self.with(&range, Standing::Patchable);
        let mut chosen: Vec<&Proxy<'_>> = patchable()
            .filter(|proxy| !in_charge || !proxy.alive || self.has_image(proxy))
            .collect();
        let next = patchable().filter(|proxy| !chosen.iter().any(|c| c.pod.uid == proxy.pod.uid));
        // From the last one, as the StatefulSet's own controller would.
        if let Some(next) = next.max_by_key(|proxy| proxy.ordinal)
            && self.quiet()
            && self.others_serve(&range, next)
        {
            chosen.push(next);
        }
        chosen
            .into_iter()
            .filter(|proxy| !self.has_image(proxy))
            .map(|proxy| {
                let pod = proxy.pod;
                let container = pod.container.as_deref().unwrap_or_default();
                let revision = self.revision.unwrap_or_default();
                (pod.uid.clone(), format!("{revision} {container} {}", pod.image))
            })
            .collect()
    }

    /// Whether only the revision has another name.
    fn has_image(&self, proxy: &Proxy<'_>) -> bool {
        proxy.pod.in_place.is_none()
            && proxy.pod.image == self.template.image
            && self.standing(proxy.pod) == Standing::Patchable
    }

    /// Whether every other pod is there and serves, with its change behind it.
    fn others_serve(&self, range: &Range<u32>, but: &Proxy<'_>) -> bool {
        let others = self
            .pods(range)
            .filter(|proxy| proxy.pod.uid != but.pod.uid)
            .filter(|proxy| proxy.serves() && self.standing(proxy.pod) != Standing::Changing);
        others.count() + 1 >= range.len()
    }

    /// Changes in place that are over.
    fn labels(&self) -> Vec<String> {
        let over = |proxy: &&Proxy<'_>| match self.standing(proxy.pod) {
            Standing::Changing => {
                proxy.serves() && Marker::of(proxy.pod).is_some_and(|marker| marker.is_over(proxy.pod))
            }
            Standing::Patchable => self.has_image(proxy),
            Standing::Current | Standing::Old => false,
        };
        self.pods(&(0..u32::MAX))
            .filter(over)
            .map(|proxy| proxy.pod.uid.clone())
            .collect()
    }

    fn deletions(&self, surge: Option<&Surge>) -> Vec<ObjectRef> {
        let (lower, upper) = halves(surge.map_or(self.n, |surge| surge.replicas));
        let old = |range: &Range<u32>| self.with(range, Standing::Old);
        let chosen: Vec<&Proxy<'_>> = match phase(surge) {
            None if self.replaces() && self.set_on_delete() => {
                let (alive, mut chosen): (Vec<&Proxy<'_>>, Vec<&Proxy<'_>>) =
                    old(&lower).partition(|proxy| proxy.alive);
                if let Some(next) = alive.into_iter().max_by_key(|proxy| proxy.ordinal)
                    && self.quiet()
                    && self.others_serve(&lower, next)
                {
                    chosen.push(next);
                }
                chosen
            }
            Some(SurgePhase::Starting) => old(&upper).filter(|proxy| !self.is_listed(proxy)).collect(),
            Some(SurgePhase::Moved) if self.set_on_delete() && self.has_left(&lower) => old(&lower).collect(),
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

    fn words(&self, surge: Option<&Surge>) -> Option<String> {
        let set = self.round.input.stateful_set.as_ref()?;
        if set.template.as_ref() != Some(&self.template.digest) {
            return Some("the StatefulSet is given the new template".to_owned());
        }
        let (lower, upper) = halves(surge.map_or(self.n, |surge| surge.replicas));
        let names = |range: &Range<u32>| {
            let name = |ordinal| self.round.owner.names.pod(ordinal);
            let last = range.end.saturating_sub(1);
            if range.start == last {
                name(last)
            } else {
                format!("{} to {}", name(range.start), name(last))
            }
        };
        let (old, new) = (names(&lower), names(&upper));
        let told = match phase(surge) {
            Some(SurgePhase::Starting) => {
                format!("the template needs new pods: {new} start on it, to be registered in place of {old}")
            }
            Some(SurgePhase::Moved) if self.has_left(&lower) => {
                format!("{new} are registered while {old} are replaced")
            }
            Some(SurgePhase::Moved) => {
                format!("{new} run the new template and are registered in place of {old}")
            }
            Some(SurgePhase::Returning) => {
                format!("{old} run the new template and are registered again; then {new} go")
            }
            None => return self.words_without_surge(),
        };
        Some(match surge.and_then(|surge| surge.in_place_refused.as_ref()) {
            Some(_) => format!(
                "{told} (changing the image in place was refused by the API server or a policy of the cluster)"
            ),
            None => told,
        })
    }

    fn words_without_surge(&self) -> Option<String> {
        self.revision?;
        let range = &(0..self.n);
        let current = self.with(range, Standing::Current).count();
        if self.any(range, Standing::Old) {
            let how = if self.replaces() {
                "they are replaced one by one"
            } else {
                "they are replaced once AWS may be written to"
            };
            return Some(format!(
                "the template needs new pods; {how}: {current} of {} run it",
                self.n
            ));
        }
        let changes = self.any(range, Standing::Changing) || self.any(range, Standing::Patchable);
        changes.then(|| {
            format!(
                "the image is changed in place, one pod after the other: {current} of {} run {}; {}",
                self.n,
                self.template.image,
                not_serving(self.proxies, self.round.input)
            )
        })
    }
}
