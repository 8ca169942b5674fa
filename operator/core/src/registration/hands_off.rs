//! Reasons not to write to AWS, or not now, whatever differs.

use std::time::Duration;

use jiff::Timestamp;

use super::decide::{Case, Verdict};
use super::ledger::{FAILED, Ledger};
use super::servers::Proxy;
use super::{fingerprint, tag_digest, takes_writes, words};
use crate::api::{AdoptionPolicy, DriftPolicy, RegisteredSettings};
use crate::conditions::{Reason, Truth};
use crate::input::RadiusStatus;
use crate::names::DirectoryTags;
use crate::rotation::secret_digest;
use crate::time;

impl Case<'_> {
    fn adopts(&self) -> bool {
        self.spec.adoption_policy == AdoptionPolicy::Adopt
    }

    fn tag(&self, key: &str) -> Option<&String> {
        self.directory.tags.as_ref()?.get(key)
    }

    /// The owner that the directory's tags name, when it is not this RadiusProxy.
    fn other_owner(&self) -> Option<&str> {
        let owner = self.tag(&DirectoryTags::of(&self.spec.region).owner)?;
        (owner != self.owner).then_some(owner.as_str())
    }

    /// Reasons not to write at all, whatever the difference.
    pub(super) fn hands_off(&self, ledger: &mut Ledger, differs: bool) -> Option<Verdict> {
        let directory = self.directory;
        let soon = time::after(&time::floor(self.now), Duration::from_secs(5));
        if self.input.proxy.spec.suspend {
            ledger.differs_since = None;
            let (truth, more) = if differs {
                (Truth::False, "; what AWS has is not what there should be")
            } else {
                (Truth::True, "")
            };
            let message = format!("spec.suspend is true: nothing is written to AWS{more}");
            let mut verdict = Verdict::hold(Reason::Suspended, message);
            verdict.condition.truth = truth;
            return Some(verdict);
        }
        if let Some(pending) = &ledger.pending {
            let message = format!("{} was sent; waiting for AWS's answer", pending.operation);
            let trouble = ledger
                .trouble
                .as_ref()
                .map(|trouble| words::trouble(trouble, self.spec));
            let (reason, message) = trouble.unwrap_or((Reason::Registering, message));
            return Some(Verdict::hold(reason, message).until(soon));
        }
        if !takes_writes(&directory.stage) {
            return Some(Verdict::hold(
                Reason::DirectoryNotActive,
                words::stage_holds(directory),
            ));
        }
        if let Some(hold) = self.somebody_elses(ledger) {
            return Some(hold);
        }
        if directory.radius_status == Some(RadiusStatus::Creating) {
            let message = "AWS is changing the directory's RADIUS settings; this takes seconds to minutes";
            return Some(Verdict::hold(Reason::Registering, message).until(soon));
        }
        if ledger.awaits_description(directory) {
            let message = "AWS took the settings; waiting for it to describe them";
            return Some(Verdict::hold(Reason::Registering, message).until(soon));
        }
        self.left_alone(ledger)
    }

    /// Settings that somebody else made are replaced by the adoption policy only.
    fn somebody_elses(&self, ledger: &Ledger) -> Option<Verdict> {
        if self.adopts() || self.directory.radius_status.is_none() {
            return None;
        }
        if let Some(owner) = self.other_owner() {
            let tag = DirectoryTags::of(&self.spec.region).owner;
            let message = format!(
                "the directory's tag {tag} says that {owner} keeps its RADIUS settings. Suspend or delete that RadiusProxy, and set \
                 spec.directory.adoptionPolicy: Adopt to take over with one write"
            );
            return Some(Verdict::hold(Reason::DirectoryTaken, message));
        }
        if ledger.applied.is_some() {
            return None;
        }
        let keys = DirectoryTags::of(&self.spec.region);
        if self.tag(&keys.owner).is_some_and(|owner| owner == self.owner) {
            return self.changed_since_tagged(&keys);
        }
        let blind = match &self.directory.tags {
            None => " (its tags cannot be read: allow ds:ListTagsForResource)",
            Some(_) => "",
        };
        let message = format!(
            "the directory has RADIUS settings that this RadiusProxy did not make{blind}; they stay. Set \
             spec.directory.adoptionPolicy: Adopt to replace them with one write"
        );
        Some(Verdict::hold(Reason::SettingsOfOthers, message))
    }

    /// This RadiusProxy lost its memory with its cluster, and the directory's tags still name it: it takes the directory
    /// back, unless the settings are others than those it applied.
    fn changed_since_tagged(&self, keys: &DirectoryTags) -> Option<Verdict> {
        let applied = self.tag(&keys.applied)?;
        let described = self.directory.radius_settings.clone().unwrap_or_default();
        let digest = tag_digest(&described);
        if applied.split(' ').any(|known| known == digest) {
            return None;
        }
        let message = "the directory's tags name this RadiusProxy, but its RADIUS settings are not those that it applied: somebody \
                       changed them since; they stay. Set spec.directory.adoptionPolicy: Adopt to replace them with one write";
        Some(Verdict::hold(Reason::SettingsOfOthers, message))
    }

    /// Changes from outside that are not, or no longer, written back.
    fn left_alone(&self, ledger: &Ledger) -> Option<Verdict> {
        if !ledger.drifted() {
            return None;
        }
        let changes = words::changes(ledger, self.directory);
        if ledger.contended(self.input.proxy.metadata.generation) {
            let message = format!(
                "somebody else changed the RADIUS settings twice within an hour ({changes}). Nothing is written until the \
                 spec of this RadiusProxy is changed, or the settings are as they were: find out who it is first (CloudTrail: \
                 UpdateRadius, EnableRadius, DisableRadius)"
            );
            return Some(Verdict::hold(Reason::Contended, message));
        }
        if self.spec.drift_policy == DriftPolicy::Report {
            let message = format!(
                "somebody else changed the RADIUS settings ({changes}); spec.directory.driftPolicy: Report leaves it so"
            );
            return Some(Verdict::hold(Reason::Drifted, message));
        }
        if ledger.drift.disabled && self.spec.drift_policy != DriftPolicy::Enforce {
            let message = "RADIUS was switched off in AWS: users log in WITHOUT a second factor. Set \
                           spec.directory.driftPolicy: Enforce to have it switched on again";
            return Some(Verdict::hold(Reason::SwitchedOff, message));
        }
        None
    }

    /// AWS failed or refused a while ago: what was tried waits, something else may go at once.
    pub(super) fn backs_off(&self, ledger: &Ledger, wanted: &RegisteredSettings) -> Option<Verdict> {
        let trouble = ledger.trouble.as_ref()?;
        let (same_at, other_at) = ledger.retry_at()?;
        let secret = secret_digest(self.key, &self.pair.current);
        let at = if fingerprint(self.key, wanted, &secret) == trouble.tried {
            same_at
        } else {
            other_at
        };
        if self.now >= at {
            return None;
        }
        let (reason, message) = words::trouble(trouble, self.spec);
        let change = if trouble.kind == FAILED {
            ", or at once when the spec or the servers change"
        } else {
            ""
        };
        let message = format!("{message} The next try is at {}{change}", time::clock(at));
        Some(Verdict::hold(reason, message).until(at))
    }

    /// A secret that AWS gets is one that every proxy that answers accepts already. A proxy that does not answer is waited
    /// for a while: it will start with the new configuration.
    pub(super) fn proxies_lag(&self, ledger: &Ledger, settled_at: Timestamp) -> Option<Verdict> {
        let new = secret_digest(self.key, &self.pair.current);
        if ledger.applied.as_ref().is_some_and(|a| a.secret_digest == new) {
            return None;
        }
        let waits =
            |p: &&Proxy<'_>| p.pod.deleted.is_none() && !p.serves() && (p.alive || self.now < settled_at);
        let lagging: Vec<&str> = self
            .proxies
            .iter()
            .filter(waits)
            .map(|p| p.pod.name.as_str())
            .collect();
        if lagging.is_empty() {
            return None;
        }
        let message = format!(
            "AWS gets the shared secret when every proxy reports a configuration that has it; waiting for {}",
            lagging.join(", ")
        );
        let again = time::after(&time::floor(self.now), Duration::from_secs(5));
        Some(Verdict::hold(Reason::WaitingForConfiguration, message).until(settled_at.max(again)))
    }
}
