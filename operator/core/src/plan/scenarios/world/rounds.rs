//! The operator: one round after another, with the API server that it writes to.

use std::time::Duration;

use jiff::Timestamp;
use proxy_config::Secret;

use super::cluster::{decode, keep_annotation};
use super::{Pod, World, failure};
use crate::api::RadiusProxyStatus;
use crate::aws::AwsOperation;
use crate::input::{
    Directory, DirectoryObservation, Entropy, Input, Report, SecretContent, StatefulSetState, WriteOutcome,
};
use crate::names::{FINALIZER, RESTARTED_AT_ANNOTATION, TEMPLATE_ANNOTATION};
use crate::plan::{FinalizerChange, Object, ObjectKind, Plan, PodPatch, plan};

/// How old a description may grow.
const INTERVAL: Duration = Duration::from_secs(90);
/// How long the StatefulSet's controller takes to tell what it made of a change.
const STATUS_OF_SET: Duration = Duration::from_millis(100);

impl World {
    fn gather(&mut self) -> Input {
        let load_balancer = self.balancer();
        let described = self.described.clone().map(Box::new);
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
            foreign: Vec::new(),
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
            in_place_refused: self.in_place_refused.clone(),
            may_begin: self.may_begin,
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
            refusal: self.refusal.clone(),
            tag_failure: None,
            settings: self.settings.clone(),
            entropy: Entropy::new([u8::try_from(self.next_uid % 251).unwrap(); 96]),
        }
    }

    /// One round: describe when it is time to, plan, do.
    pub(in crate::plan::scenarios) fn reconcile(&mut self) {
        if self.gone {
            self.due = Timestamp::MAX;
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
                plan.requeue_after.min(INTERVAL)
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
        self.in_place_refused = None;
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

    /// Does what was planned, in the order of the documentation, up to the step of a crash.
    fn execute(&mut self, plan: &Plan, crash: Option<usize>) -> bool {
        let mut steps = 0;
        let mut alive = move || {
            steps += 1;
            crash.is_none_or(|crash| steps <= crash)
        };
        if plan.finalizer == FinalizerChange::Add {
            if !alive() {
                return false;
            }
            self.proxy.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
        }
        for object in &plan.apply {
            if !alive() {
                return false;
            }
            self.apply(object);
        }
        for patch in &plan.pods {
            if !alive() {
                return false;
            }
            self.patch_pod(patch);
        }
        if !alive() {
            return false;
        }
        let status = serde_json::to_string(&plan.status).unwrap();
        let status: RadiusProxyStatus = serde_json::from_str(&status).unwrap();
        assert_eq!(
            status, plan.status,
            "a status that changes when it is stored is written for ever"
        );
        self.proxy.status = Some(status);
        if !plan.tags.is_empty() {
            if !alive() {
                return false;
            }
            self.aws.tags.extend(plan.tags.iter().cloned());
        }
        if let Some(write) = &plan.write {
            if !alive() {
                return false;
            }
            assert!(
                self.proxy.metadata.finalizers.is_some(),
                "the finalizer comes first"
            );
            self.check_that_aws_was_looked_at();
            let result = self.call_aws(&write.call);
            if std::mem::take(&mut self.crash_after_write) {
                return false;
            }
            if !alive() {
                return false;
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
        }
        true
    }

    fn patch_pod(&mut self, patch: &PodPatch) {
        let pod = self
            .pods
            .iter_mut()
            .find(|pod| pod.state.uid == patch.uid)
            .unwrap();
        if let Some(change) = &patch.image {
            if self.refuses_patches {
                self.in_place_refused = Some(change.revision.clone());
            } else {
                pod.state.in_place = Some(change.marker.clone());
                if !self.reverts_images {
                    pod.state.image.clone_from(&change.image);
                    let from = pod.next_containers.back().map_or(self.now, |(at, _)| *at);
                    let at = from.saturating_add(self.drain).unwrap();
                    pod.next_containers.push_back((at, change.image.clone()));
                }
            }
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
        if let Some(gate) = &patch.gate {
            pod.state.gate = Some(gate.open);
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
