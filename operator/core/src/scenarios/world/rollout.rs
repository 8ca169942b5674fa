//! The operator: its two controllers, with the API server that they write to.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use proxy_config::Secret;

use super::cluster::{decode, keep_annotation};
use super::{Data, Pod, World};
use crate::api::{DirectoryRegistration, DirectoryRegistrationSpec, RadiusProxyStatus};
use crate::names::{FINALIZER, RESTARTED_AT_ANNOTATION, SECOND_OPERATOR_ANNOTATION, TEMPLATE_ANNOTATION};
use crate::objects::Object;
use crate::observed::{
    Entropy, ForeignObject, ObjectId, Report, RolloutInput, SecretContent, StatefulSetState,
};
use crate::outcomes::{Failure, LastingFailure, Outcomes, Step, retry_after};
use crate::registration::FinalizerChange;
use crate::rollout::ownership::{Ownership, object_ids, ownership};
use crate::rollout::{ObjectKind, PodPatch, RolloutPlan, of_outcomes, plan, second_operator};

/// How old a description may grow.
pub(super) const INTERVAL: Duration = Duration::from_secs(90);
/// How long the StatefulSet's controller takes to tell what it made of a change.
const STATUS_OF_SET: Duration = Duration::from_millis(100);

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Finished,
    /// Somebody else wrote meanwhile.
    Conflict,
    Crashed,
}

impl World {
    /// The operator's own Secret, or what it remembers of it.
    pub(super) fn own_secret(&mut self) -> Option<SecretContent> {
        let object = self
            .objects
            .get(&("Secret".to_owned(), "mfa-radius-secrets".to_owned()));
        let found: Option<Data> = object.map(|object| {
            let data = object["data"].as_object().into_iter().flatten();
            data.map(|(key, value)| (key.clone(), Secret::new(decode(value))))
                .collect()
        });
        let found = found.or_else(|| self.own_secret.clone());
        self.own_secret.clone_from(&found);
        found.map(|data| SecretContent { data })
    }

    /// Whether an operator works and knows its own Secret.
    pub(in crate::scenarios) fn remembers_its_secret(&self) -> bool {
        self.away_until <= self.now && self.own_secret.is_some() && !self.crash_after_write
    }

    fn gather(&mut self) -> RolloutInput {
        let load_balancer = self.balancer();
        let radius_secret = self.own_secret();
        let stale = self.stale_reads > 0 && self.registration_before.is_some();
        self.stale_reads = self.stale_reads.saturating_sub(1);
        let registration = if stale {
            &self.registration_before
        } else {
            &self.registration
        };
        let (foreign, orphans) = self.owners();
        let mut outcomes = self.outcomes.clone();
        if let Some(message) = self.refused_pods
            && self.replicas().is_some_and(|replicas| self.pods.len() < replicas)
        {
            let message = message.to_owned();
            outcomes.record(
                Step::CreatePods,
                Failure::Refused { code: 403, message },
                self.now,
            );
        }
        RolloutInput {
            proxy: self.proxy.clone(),
            registration: registration.clone(),
            registration_failure: self.failing_since.map(|since| LastingFailure {
                since,
                message: self.refused_registration.unwrap_or_default().to_owned(),
            }),
            unreadable_secrets: self.unreadable_secrets.clone(),
            unreadable_seeds: self.unreadable_seeds.clone(),
            successor_waits: self.rivals.iter().any(|rival| rival.granted && !rival.suspended),
            grants: self.grants.clone(),
            namespace_labels: None,
            secrets: self
                .secrets
                .iter()
                .filter(|(name, _)| !self.unreadable_secrets.contains_key(*name))
                .map(|(name, data)| (name.clone(), SecretContent { data: data.clone() }))
                .collect(),
            seeds_by_label: self
                .seeds_by_label
                .iter()
                .map(|(name, data)| (name.clone(), SecretContent { data: data.clone() }))
                .collect(),
            has_seed_shards: self
                .objects
                .contains_key(&("Secret".to_owned(), "mfa-radius-seeds-0".to_owned())),
            radius_secret_exists: self
                .objects
                .contains_key(&("Secret".to_owned(), "mfa-radius-secrets".to_owned())),
            radius_secret,
            foreign,
            orphans,
            stateful_set: self.replicas().map(|replicas| StatefulSetState {
                replicas: u32::try_from(replicas).unwrap(),
                current_revision: self.revisions.current.clone(),
                update_revision: self.revisions.update.clone(),
                template: self.annotation_of_set(TEMPLATE_ANNOTATION),
                upgrading: self.is_upgrading(),
                surge: self.surge(),
                restarted_at: self.restarted_at(),
                on_delete: self.strategy() == "OnDelete",
                ..StatefulSetState::default()
            }),
            service_account: self.service_account.clone(),
            may_begin: self.may_begin,
            outcomes,
            pods: self.pods.iter().map(|pod| pod.state.clone()).collect(),
            reports: self
                .pods
                .iter()
                .filter(|pod| pod.state.containers_ready)
                .map(|pod| {
                    let report = Report {
                        digest: pod.digest.clone(),
                        version: pod.state.image.split_once(':').map(|(_, tag)| tag.to_owned()),
                        problem: self.reported_problem,
                        observed: Some(pod.observed.clone()).filter(|observed| !observed.is_empty()),
                    };
                    (pod.state.uid.clone(), report)
                })
                .collect(),
            load_balancer,
            settings: self.settings.clone(),
            entropy: Entropy::new([u8::try_from(self.next_uid % 251).unwrap(); 96]),
        }
    }

    /// Objects under the operator's names that are not this RadiusProxy's.
    fn owners(&self) -> (Vec<ForeignObject>, Vec<ObjectId>) {
        let (mut foreign, mut orphans) = (Vec::new(), Vec::new());
        for object in object_ids(&self.proxy) {
            let key = (object.kind.to_owned(), object.name.clone());
            let Some(found) = self.objects.get(&key) else {
                continue;
            };
            let metadata: ObjectMeta = serde_json::from_value(found["metadata"].clone()).unwrap();
            let lives = |uid: &str| self.proxy.metadata.uid.as_deref() == Some(uid);
            match ownership(&metadata, &self.proxy, lives) {
                Ownership::Ours => {}
                Ownership::Orphan => orphans.push(object),
                Ownership::Foreign { controller } => foreign.push(ForeignObject { object, controller }),
            }
        }
        (foreign, orphans)
    }

    /// Another operator's work is left alone.
    fn holds(&mut self) -> bool {
        let own = self.settings.operator.clone();
        if second_operator::other(&self.proxy, &own, self.clock()).is_none() {
            return false;
        }
        if let Some(notice) = second_operator::notice(&self.proxy, &own, self.clock()) {
            let annotations = self.proxy.metadata.annotations.get_or_insert_default();
            annotations.insert(SECOND_OPERATOR_ANNOTATION.to_owned(), notice);
        }
        self.due = self.now.saturating_add(Duration::from_secs(60)).unwrap();
        true
    }

    /// The present leader's clock.
    pub(super) fn clock(&self) -> Timestamp {
        self.now
            .checked_add(SignedDuration::from_secs(self.clock_ahead))
            .unwrap()
    }

    /// One round of the rollout: gather, plan, execute.
    pub(super) fn roll_out(&mut self) {
        if self.gone {
            self.due = Timestamp::MAX;
            return;
        }
        if self.holds() {
            return;
        }
        let input = self.gather();
        let plan = plan(&input, self.clock());
        assert_eq!(format!("{plan:?}").find("first secret"), None);
        let version = input
            .registration
            .and_then(|registration| registration.metadata.resource_version);
        match self.execute(&plan, version.as_ref()) {
            End::Finished if std::mem::take(&mut self.set_changed) => self.due = self.later(STATUS_OF_SET),
            End::Finished => self.due = self.later(plan.requeue_after.min(self.again).min(INTERVAL)),
            End::Conflict => self.due = self.later(Duration::from_secs(1)),
            End::Crashed => self.crash(),
        }
    }

    pub(super) fn later(&self, duration: Duration) -> Timestamp {
        self.now.saturating_add(duration).unwrap()
    }

    /// Another leader takes over a little later.
    pub(super) fn crash(&mut self) {
        self.crash_after = None;
        self.away(self.takeover);
    }

    /// Another leader has nothing in memory.
    pub(super) fn lose_memory(&mut self) {
        self.described = None;
        self.asking = None;
        self.aws.read_tags = None;
        self.forget_names();
        self.outcome = None;
        self.own_secret = None;
        self.tag_failure = None;
        self.grant_missing_since = None;
        self.failing_since = None;
        self.outcomes = Outcomes::default();
        self.stopped_short = false;
        self.read_tags = false;
        self.leader += 1;
        self.due = self.away_until;
        self.registration_due = self.away_until;
    }

    /// Another leader takes over later, with nothing in memory.
    pub(in crate::scenarios) fn lose_the_operator(&mut self, away: Duration) {
        self.outcomes = Outcomes::default();
        self.stopped_short = false;
        self.away(away);
    }

    /// Whether the operator lives to do another step.
    pub(super) fn lives(&mut self) -> bool {
        match &mut self.crash_after {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => true,
        }
    }

    /// The registration changes at the API server.
    pub(super) fn change_registration(&mut self, change: impl FnOnce(&mut DirectoryRegistration)) {
        self.registration_before.clone_from(&self.registration);
        self.versions += 1;
        let version = self.versions.to_string();
        if let Some(registration) = &mut self.registration {
            change(registration);
            registration.metadata.resource_version = Some(version);
        }
        self.wake();
        self.wake_registration();
    }

    /// Tries a step: whether it succeeds.
    fn tries(&self, step: Step, outcomes: &mut Outcomes) -> bool {
        let failure = self.failing.get(&step).cloned();
        let succeeds = failure.is_none();
        if let Some(failure) = failure {
            outcomes.record(step, failure, self.now);
        }
        succeeds
    }

    /// Executes a rollout's plan in the order of its documentation, up to the step of a crash.
    fn execute(&mut self, plan: &RolloutPlan, version: Option<&String>) -> End {
        let mut outcomes = Outcomes::default();
        if plan.finalizer == FinalizerChange::Add {
            if !self.lives() {
                return End::Crashed;
            }
            if self.tries(Step::Finalizer, &mut outcomes) {
                self.proxy.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
            }
        }
        if let Some(spec) = &plan.registration
            && !outcomes.failed_newly(&Step::Finalizer, &self.outcomes)
        {
            let name = DirectoryRegistration::name_of(&spec.directory_id, &spec.region);
            let differs = (self.registration.as_ref()).is_none_or(|registration| registration.spec != *spec);
            if !differs || self.tries(Step::Apply("DirectoryRegistration", name), &mut outcomes) {
                let end = self.execute_spec(spec, version);
                if end != End::Finished {
                    return end;
                }
            }
        }
        for id in &plan.adopt {
            if !self.lives() {
                return End::Crashed;
            }
            if self.tries(Step::Adopt(id.kind, id.name.clone()), &mut outcomes) {
                self.adopt(id);
            }
        }
        for object in &plan.apply {
            if !outcomes.allow(&self.outcomes, &object.step()) {
                continue;
            }
            if !self.lives() {
                return End::Crashed;
            }
            if self.tries(object.step(), &mut outcomes) {
                self.apply(object);
            }
        }
        for patch in &plan.pods {
            if !self.lives() {
                return End::Crashed;
            }
            self.patch_pod(patch, &mut outcomes);
        }
        let before = self.outcomes.clone();
        let images = plan.pods.iter().any(|patch| patch.image.is_some());
        let mut outcomes = outcomes.keeping(&before, images);
        let news = outcomes.differ_from(&before) && !self.stopped_short;
        self.stopped_short = news;
        if !news {
            match self.conclude(plan, &mut outcomes) {
                Some(true) => {}
                Some(false) => return End::Finished,
                None => return End::Crashed,
            }
        }
        let outcomes = outcomes.lasting(&before);
        self.again = if outcomes.differ_from(&before) {
            Duration::ZERO
        } else if outcomes.is_good() {
            Duration::MAX
        } else {
            retry_after(8)
        };
        let told = of_outcomes(&before, &outcomes);
        self.events
            .extend(told.iter().map(|event| event.reason.to_owned()));
        self.outcomes = outcomes;
        End::Finished
    }

    /// From the status on. `None` for a crash; false when the RadiusProxy is gone.
    fn conclude(&mut self, plan: &RolloutPlan, outcomes: &mut Outcomes) -> Option<bool> {
        if !self.lives() {
            return None;
        }
        if !self.tries(Step::Status, outcomes) {
            return Some(true);
        }
        let status = serde_json::to_string(&plan.status).unwrap();
        let status: RadiusProxyStatus = serde_json::from_str(&status).unwrap();
        assert_eq!(
            status, plan.status,
            "a status that changes when it is stored is written for ever"
        );
        self.proxy.status = Some(status);
        outcomes.status_written();
        for object in &plan.delete {
            let is = |pod: &Pod| Some(&pod.state.uid) == object.uid.as_ref();
            match object.kind {
                ObjectKind::PodByForce => self.pods.retain(|pod| !is(pod)),
                ObjectKind::Pod => {
                    let index = self.pods.iter().position(is).unwrap();
                    self.kill_pod(index);
                }
                ObjectKind::Service => {}
            }
        }
        self.events
            .extend(plan.events.iter().map(|event| event.reason.to_owned()));
        if plan.finalizer == FinalizerChange::Remove {
            if !self.lives() {
                return None;
            }
            self.proxy.metadata.finalizers = None;
            if self.proxy.metadata.deletion_timestamp.is_some() {
                self.vanish();
                self.wake_registration();
                return Some(false);
            }
        }
        Some(true)
    }

    fn execute_spec(&mut self, spec: &DirectoryRegistrationSpec, version: Option<&String>) -> End {
        let before = self.registration.clone();
        let is = before
            .as_ref()
            .and_then(|registration| registration.metadata.resource_version.as_ref());
        if before
            .as_ref()
            .is_some_and(|registration| registration.spec == *spec)
            && is == version
        {
            return End::Finished;
        }
        if !self.lives() {
            return End::Crashed;
        }
        if is != version {
            return End::Conflict;
        }
        let json = serde_json::to_string(spec).unwrap();
        let stored: DirectoryRegistrationSpec = serde_json::from_str(&json).unwrap();
        assert_eq!(
            stored, *spec,
            "a spec that changes when it is stored is written for ever"
        );
        assert_eq!(json.find("first secret"), None);
        if self.registration.is_none() {
            let name = DirectoryRegistration::name_of(&spec.directory_id, &spec.region);
            let mut registration = DirectoryRegistration::new(&name, stored.clone());
            registration.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
            self.registration = Some(registration);
        }
        self.change_registration(|registration| {
            registration.spec = stored;
            *registration.metadata.generation.get_or_insert(0) += 1;
        });
        End::Finished
    }

    /// Gives an object its owner.
    fn adopt(&mut self, id: &ObjectId) {
        let key = (id.kind.to_owned(), id.name.clone());
        let uid = self.proxy.metadata.uid.clone();
        let object = self.objects.get_mut(&key).unwrap();
        object["metadata"]["ownerReferences"] = serde_json::json!([{
            "apiVersion": "radius-mfa.dev/v1alpha1", "kind": "RadiusProxy", "name": "mfa", "uid": uid, "controller": true,
        }]);
    }

    fn patch_pod(&mut self, patch: &PodPatch, outcomes: &mut Outcomes) {
        let changes_metadata =
            patch.config_digest.is_some() || patch.peers_digest.is_some() || patch.revision.is_some();
        let metadata = changes_metadata && self.tries(Step::PodMetadata(patch.name.clone()), outcomes);
        let gate = patch.gate.is_some() && self.tries(Step::PodGate(patch.name.clone()), outcomes);
        if let Some(change) = patch.image.as_ref().filter(|_| self.refuses_patches) {
            let message = "no".to_owned();
            let step = Step::PodImage(change.revision.clone());
            outcomes.record(step, Failure::Refused { code: 403, message }, self.now);
        }
        let pod = self
            .pods
            .iter_mut()
            .find(|pod| pod.state.uid == patch.uid)
            .unwrap();
        if let Some(change) = patch.image.as_ref().filter(|_| !self.refuses_patches) {
            pod.state.in_place = Some(change.marker.clone());
            if !self.reverts_images {
                pod.state.image.clone_from(&change.image);
                let from = pod.next_containers.back().map_or(self.now, |(at, _)| *at);
                let at = from.saturating_add(self.drain).unwrap();
                pod.next_containers.push_back((at, change.image.clone()));
            }
        }
        if let Some(gate) = patch.gate.as_ref().filter(|_| gate) {
            pod.state.gate = Some(gate.open);
        }
        if !metadata {
            return;
        }
        if let Some(revision) = &patch.revision {
            pod.state.revision = Some(revision.clone());
            pod.state.in_place = None;
        }
        for (new, old) in [
            (&patch.config_digest, &mut pod.state.config_digest),
            (&patch.peers_digest, &mut pod.state.peers_digest),
        ] {
            if new.is_some() {
                old.clone_from(new);
            }
        }
        if patch.config_digest.is_some() || patch.peers_digest.is_some() {
            let at = self.now.saturating_add(pod.syncs_in()).unwrap();
            pod.sync_at = Some(pod.sync_at.map_or(at, |before| before.min(at)));
        }
        self.check_that_one_may_be_evicted();
    }

    fn apply(&mut self, object: &Object) {
        let mut json = object.to_json().unwrap();
        if object.kind() == "StatefulSet" {
            let template = &mut json["spec"]["template"];
            let ours = template["metadata"]["annotations"][RESTARTED_AT_ANNOTATION].is_string();
            if ours {
                self.restarted_at = None;
            } else if let Some(at) = &self.restarted_at {
                keep_annotation(template, RESTARTED_AT_ANNOTATION, at);
            }
        }
        let key = (object.kind().to_owned(), object.name().to_owned());
        let changed = self.objects.insert(key, json.clone()).as_ref() != Some(&json);
        if changed {
            self.mounts_change_some_day();
        }
        if changed && object.kind() == "StatefulSet" {
            self.revisions.take(&json["spec"]["template"]);
            self.set_changed = true;
        }
        self.statefulset();
        self.check_that_one_may_be_evicted();
    }
}
