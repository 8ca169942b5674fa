//! The operator's controller of DirectoryRegistrations.

use std::time::Duration;

use jiff::Timestamp;

use super::rollout::{End, INTERVAL};
use super::{World, failure};
use crate::access::access;
use crate::api::{AdoptionPolicy, DirectoryRegistration, DirectoryRegistrationStatus};
use crate::aws::AwsOperation;
use crate::names::ABANDON_ANNOTATION;
use crate::observed::{Directory, DirectoryObservation, WriteOutcome};
use crate::registration::{
    self, Candidate, FinalizerChange, RegistrationInput, RegistrationPlan, TagFailure,
};

impl World {
    fn gather_registration(&mut self, registration: DirectoryRegistration) -> RegistrationInput {
        let candidates: Vec<Candidate> = self.candidate().into_iter().chain(self.rivals.clone()).collect();
        let claim = &registration.spec.claimed_by;
        let is_holder = |each: &&Candidate| (&each.namespace, &each.name) == (&claim.namespace, &claim.name);
        let holder = candidates.iter().find(is_holder);
        let last = self.described.clone().map(Box::new);
        let directory = match (self.aws.blind, last) {
            _ if !holder.is_some_and(|holder| holder.granted) => DirectoryObservation::Unasked,
            (Some(class), last) => DirectoryObservation::Failed {
                failure: failure(AwsOperation::DescribeDirectories, class),
                last,
            },
            (None, Some(directory)) => DirectoryObservation::Described(directory),
            (None, None) => DirectoryObservation::Unasked,
        };
        let is_missing = holder.is_some_and(|holder| !holder.granted) && !self.undecodable_grant;
        self.grant_missing_since = is_missing.then(|| self.grant_missing_since.unwrap_or(self.now));
        RegistrationInput {
            registration,
            candidates,
            holder_is_watched: self.holder_is_watched,
            grant_missing_since: self.grant_missing_since,
            secret: self.own_secret(),
            directory,
            outcome: self.outcome.clone(),
            tag_failure: self.tag_failure.clone(),
            settings: self.settings.clone(),
            replica: format!("operator-{}", self.leader),
        }
    }

    /// The RadiusProxy as the registration sees it.
    fn candidate(&self) -> Option<Candidate> {
        let meta = &self.proxy.metadata;
        let directory = self.proxy.spec.directory.as_ref()?;
        let abandons =
            |all: &std::collections::BTreeMap<String, String>| all.contains_key(ABANDON_ANNOTATION);
        (!self.gone).then(|| Candidate {
            namespace: meta.namespace.clone().unwrap(),
            name: meta.name.clone().unwrap(),
            uid: meta.uid.clone().unwrap(),
            created: meta.creation_timestamp.clone().unwrap().0,
            granted: access(&self.proxy, None, &self.grants, &self.settings.cluster).is_ok(),
            suspended: self.proxy.spec.suspend,
            deletion_policy: directory.deletion_policy,
            adopts: directory.adoption_policy == AdoptionPolicy::Adopt,
            deleted: meta.deletion_timestamp.as_ref().map(|time| time.0),
            abandons: meta.annotations.as_ref().is_some_and(abandons),
        })
    }

    /// One round of the registration: describe when it is time to, plan, execute.
    pub(super) fn register(&mut self) {
        let Some(registration) = self.registration.clone() else {
            self.registration_due = Timestamp::MAX;
            return;
        };
        let interval = self.describe_after.min(INTERVAL);
        self.hear();
        let now = self.clock();
        let usable = |d: &Directory| d.as_of.max(d.answered).saturating_add(interval).unwrap() > now;
        if self.asking.is_none() && (self.read_tags || !self.described.as_ref().is_some_and(usable)) {
            self.describe();
            self.hear();
        }
        if let Some(asked) = &self.asking {
            // Whoever works on it waits for the answer.
            let left = asked.answered.duration_since(now);
            self.registration_due = self.now.saturating_add(left).unwrap();
            return;
        }
        if self.refused_registration.is_some() {
            if self.failing_since.is_none() {
                self.failing_since = Some(now);
                self.wake();
            }
            self.registration_due = self.later(Duration::from_secs(30));
            return;
        }
        if self.failing_since.take().is_some() {
            self.wake();
        }
        let input = self.gather_registration(registration);
        let plan = registration::plan(&input, now);
        assert_eq!(format!("{plan:?}").find("first secret"), None);
        match self.execute_registration(&plan) {
            End::Crashed => self.crash(),
            _ => {
                // How a write ended isn't in the status yet.
                let requeue = plan.write.as_ref().map_or(plan.requeue_after, |_| Duration::ZERO);
                self.registration_due = self.later(requeue.min(INTERVAL));
                self.describe_after = plan.describe_after;
                self.read_tags = plan.read_tags;
            }
        }
    }

    /// Takes AWS's answer, if it is there.
    fn hear(&mut self) {
        let now = self.clock();
        if let Some(answer) = self.asking.take_if(|asked| asked.answered <= now) {
            self.described = Some(answer);
        }
    }

    /// Executes a registration's plan in the order of its documentation, up to the step of a crash.
    fn execute_registration(&mut self, plan: &RegistrationPlan) -> End {
        if !self.lives() {
            return End::Crashed;
        }
        if let Some(claim) = plan.claim.clone() {
            self.change_registration(|registration| {
                registration.spec.claimed_by = claim;
                *registration.metadata.generation.get_or_insert(0) += 1;
            });
            self.tell(plan);
            return End::Finished;
        }
        let status = serde_json::to_string(&plan.status).unwrap();
        let status: DirectoryRegistrationStatus = serde_json::from_str(&status).unwrap();
        assert_eq!(
            status, plan.status,
            "a status that changes when it is stored is written for ever"
        );
        if self.registration.as_ref().unwrap().status.as_ref() != Some(&status) {
            self.change_registration(|registration| registration.status = Some(status));
        }
        self.tag_failure.clone_from(&plan.tag_failure);
        if !plan.tags.is_empty() {
            if !self.lives() {
                return End::Crashed;
            }
            self.asked_tags += 1;
            match self.refused_tags {
                None => {
                    self.aws.tags.extend(plan.tags.iter().cloned());
                    self.aws.read_tags = None;
                    self.tag_failure = None;
                }
                Some(class) => {
                    self.tag_failure = Some(TagFailure {
                        failure: failure(AwsOperation::AddTagsToResource, class),
                        time: self.clock(),
                        published: plan.tag_failure.as_ref().is_some_and(|before| before.published),
                    });
                }
            }
        }
        if let Some(write) = &plan.write {
            if !self.lives() {
                return End::Crashed;
            }
            let finalizers = &self.registration.as_ref().unwrap().metadata.finalizers;
            assert!(finalizers.is_some(), "the finalizer comes first");
            self.check_that_aws_was_looked_at();
            let result = self.call_aws(&write.call);
            if std::mem::take(&mut self.crash_after_write) || !self.lives() {
                return End::Crashed;
            }
            self.outcome = Some(WriteOutcome {
                id: write.id.clone(),
                result,
            });
        }
        self.tell(plan);
        if plan.finalizer == FinalizerChange::Remove {
            if !self.lives() {
                return End::Crashed;
            }
            self.registration = None;
            self.wake();
        }
        End::Finished
    }

    fn tell(&mut self, plan: &RegistrationPlan) {
        let reasons = plan.events.iter().map(|event| event.reason.to_owned());
        self.events.extend(reasons);
    }
}
