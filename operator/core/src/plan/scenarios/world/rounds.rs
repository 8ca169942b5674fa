//! The operator: one round after another, with the API server that it writes to.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use proxy_config::Secret;

use super::cluster::{decode, keep_annotation};
use super::{Pod, World, failure};
use crate::api::RadiusProxyStatus;
use crate::aws::AwsOperation;
use crate::input::{
    Directory, DirectoryObservation, Entropy, ForeignObject, Input, ObjectId, Report, SecretContent,
    StatefulSetState, WriteOutcome,
};
use crate::names::{FINALIZER, RESTARTED_AT_ANNOTATION, SECOND_OPERATOR_ANNOTATION, TEMPLATE_ANNOTATION};
use crate::outcomes::{Failure, Outcomes, Step, retry_after};
use crate::plan::ownership::{Ownership, object_ids, ownership};
use crate::plan::{FinalizerChange, Object, ObjectKind, Plan, PodPatch, of_outcomes, operators, plan};

/// How old a description may grow.
const INTERVAL: Duration = Duration::from_secs(90);
/// How long the StatefulSet's controller takes to tell what it made of a change.
const STATUS_OF_SET: Duration = Duration::from_millis(100);

impl World {
    fn gather(&mut self) -> Input {
        let load_balancer = self.balancer();
        let described = self.described.clone().map(Box::new);
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
        Input {
            proxy: self.proxy.clone(),
            rivals: self.rivals.clone(),
            grants: self.grants.clone(),
            namespace_labels: None,
            secrets: self
                .secrets
                .iter()
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
            radius_secret: self
                .objects
                .get(&("Secret".to_owned(), "mfa-radius-secrets".to_owned()))
                .map(|object| SecretContent {
                    data: object["data"]
                        .as_object()
                        .into_iter()
                        .flatten()
                        .map(|(key, value)| (key.clone(), Secret::new(decode(value))))
                        .collect(),
                }),
            foreign,
            orphans,
            stateful_set: self.replicas().map(|replicas| StatefulSetState {
                replicas: u32::try_from(replicas).unwrap(),
                current_revision: self.revisions.current.clone(),
                update_revision: self.revisions.update.clone(),
                template: self.annotation_of_set(TEMPLATE_ANNOTATION),
                upgrading: self.is_upgrading(),
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
            directory: match (self.aws.blind, described) {
                (Some(class), last) => DirectoryObservation::Failed {
                    failure: failure(AwsOperation::DescribeDirectories, class),
                    last,
                },
                (None, Some(directory)) => DirectoryObservation::Described(directory),
                (None, None) => DirectoryObservation::Unasked,
            },
            outcome: self.outcome.clone(),
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
        if operators::other(&self.proxy, &own, self.now).is_none() {
            return false;
        }
        if let Some(notice) = operators::notice(&self.proxy, &own, self.now) {
            let annotations = self.proxy.metadata.annotations.get_or_insert_default();
            annotations.insert(SECOND_OPERATOR_ANNOTATION.to_owned(), notice);
        }
        self.due = self.now.saturating_add(Duration::from_secs(60)).unwrap();
        true
    }

    /// One round: describe when it is time to, plan, do.
    pub(in crate::plan::scenarios) fn reconcile(&mut self) {
        if self.gone {
            self.due = Timestamp::MAX;
            return;
        }
        if self.holds() {
            return;
        }
        let interval = self.describe_after.min(INTERVAL);
        self.hear();
        let usable = |d: &Directory| d.as_of.max(d.answered).saturating_add(interval).unwrap() > self.now;
        if self.asking.is_none() && !self.described.as_ref().is_some_and(usable) {
            self.describe();
            self.hear();
        }
        if let Some(asked) = &self.asking {
            // Whoever works on it waits for the answer.
            self.due = asked.answered;
            return;
        }
        let input = self.gather();
        let plan = plan(&input, self.now);
        assert_eq!(format!("{plan:?}").find("first secret"), None);
        let crash = self.crash_after.take();
        let finished = self.execute(&plan, crash);
        if finished {
            let wait = if std::mem::take(&mut self.set_changed) {
                STATUS_OF_SET
            } else {
                plan.requeue_after.min(self.again).min(INTERVAL)
            };
            self.due = self.now.saturating_add(wait).unwrap();
            self.describe_after = plan.describe_after;
        } else {
            self.lose_the_operator(self.takeover);
        }
    }

    /// Another leader takes over later, with nothing in memory.
    pub(in crate::plan::scenarios) fn lose_the_operator(&mut self, away: Duration) {
        self.described = None;
        self.asking = None;
        self.forget_names();
        self.outcome = None;
        self.outcomes = Outcomes::default();
        self.stopped_short = false;
        self.away_until = self.now.saturating_add(away).unwrap();
        self.due = self.away_until;
    }

    /// Takes AWS's answer, if it is there.
    fn hear(&mut self) {
        let now = self.now;
        if let Some(answer) = self.asking.take_if(|asked| asked.answered <= now) {
            self.described = Some(answer);
        }
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

    /// Does what was planned, in the order of the documentation, up to the step of a crash.
    fn execute(&mut self, plan: &Plan, crash: Option<usize>) -> bool {
        let mut steps = 0;
        let mut alive = move || {
            steps += 1;
            crash.is_none_or(|crash| steps <= crash)
        };
        let mut outcomes = Outcomes::default();
        if plan.finalizer == FinalizerChange::Add {
            if !alive() {
                return false;
            }
            if self.tries(Step::Finalizer, &mut outcomes) {
                self.proxy.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
            }
        }
        for id in &plan.adopt {
            if !alive() {
                return false;
            }
            if self.tries(Step::Adopt(id.kind, id.name.clone()), &mut outcomes) {
                self.adopt(id);
            }
        }
        for object in &plan.apply {
            if !outcomes.allow(object.kind(), object.name()) {
                continue;
            }
            if !alive() {
                return false;
            }
            if self.tries(object.step(), &mut outcomes) {
                self.apply(object);
            }
        }
        for patch in &plan.pods {
            if !alive() {
                return false;
            }
            self.patch_pod(patch, &mut outcomes);
        }
        let before = self.outcomes.clone();
        let images = plan.pods.iter().any(|patch| patch.image.is_some());
        let mut outcomes = outcomes.keeping(&before, images);
        let enables = plan.write.as_ref().is_some_and(|write| write.call.enables());
        let forbidden = plan.write.is_some() && !outcomes.allow_write(enables);
        let news = outcomes.differ_from(&before) && !self.stopped_short;
        self.stopped_short = news;
        if !news && !forbidden {
            match self.conclude(plan, &mut alive, &mut outcomes) {
                Some(true) => {}
                Some(false) => return true,
                None => return false,
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
        true
    }

    /// From the status on. `None` for a crash; false when the RadiusProxy is gone.
    fn conclude(
        &mut self,
        plan: &Plan,
        alive: &mut impl FnMut() -> bool,
        outcomes: &mut Outcomes,
    ) -> Option<bool> {
        if !alive() {
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
        if !plan.tags.is_empty() {
            if !alive() {
                return None;
            }
            match self.refused_tags {
                None => {
                    self.aws.tags.extend(plan.tags.iter().cloned());
                    outcomes.tagged();
                }
                Some(class) => {
                    self.asked_tags += 1;
                    let failure = failure(AwsOperation::AddTagsToResource, class);
                    outcomes.record(Step::Tags, Failure::Aws(failure), self.now);
                }
            }
        }
        if let Some(write) = &plan.write {
            if !alive() {
                return None;
            }
            assert!(
                self.proxy.metadata.finalizers.is_some(),
                "the finalizer comes first"
            );
            self.check_that_aws_was_looked_at();
            let result = self.call_aws(&write.call);
            if std::mem::take(&mut self.crash_after_write) || !alive() {
                return None;
            }
            self.outcome = Some(WriteOutcome {
                id: write.id.clone(),
                result,
            });
        }
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
            self.proxy.metadata.finalizers = None;
            self.gone = true;
            self.pods.clear();
            self.objects.clear();
            return Some(false);
        }
        Some(true)
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
