//! The whole plan for one DirectoryRegistration.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use proxy_config::{DigestKey, SharedSecret};

use super::claim::{Claim, claim};
use super::decide::{Context, Decision, DescribeNext, OwnSecret, decide, remember};
use super::record::{RegistrationRecord, SECOND_LOOK, UNANSWERED};
use super::requeue::{BLOCKED_INTERVAL, RESYNC_INTERVAL, WRITE_POLL_INTERVAL, times};
use super::servers::{self, Servers};
use super::{Candidate, FinalizerChange, RegistrationInput, RegistrationPlan, TagFailure, WriteReason};
use super::{described, holds, messages, release, tags};
use crate::api::{ConditionType, DirectoryDescription, DirectoryRegistrationStatus, Drift, RegistrationHold};
use crate::conditions::{ConditionDraft, ConditionStatus, Reason, set_conditions};
use crate::config::{self, CURRENT_KEY, DIGEST_KEY};
use crate::events::{Event, event};
use crate::names::{DirectoryTags, FINALIZER};
use crate::observed::{Directory, RadiusStatus};
use crate::rotation::secret_digest;
use crate::time;

/// How long the holder's grant may be missing before another RadiusProxy may hold the directory.
const GRANT_LOST_AFTER: Duration = Duration::from_secs(60);
/// While the holder's namespace isn't watched: there may be many such registrations.
const NOT_WATCHED_INTERVAL: Duration = Duration::from_secs(300);

/// Plans everything for one DirectoryRegistration. It is total: a problem becomes a condition.
#[must_use]
pub fn plan(input: &RegistrationInput, now: Timestamp) -> RegistrationPlan {
    let directory = input.directory.described().map(Directory::canonical);
    let planning = Planning::new(input, directory.as_ref(), now);
    let lost_grant = |since: &Timestamp| time::until(*since, now) >= GRANT_LOST_AFTER;
    let lost_grant = input.grant_missing_since.as_ref().is_some_and(lost_grant);
    let claim = claim(&input.registration.spec.claimed_by, &input.candidates, lost_grant);
    match claim {
        _ if !input.holder_is_watched && planning.holder_exists() => planning.not_watched(),
        Claim::Moves(to, why) => {
            let note = format!(
                "RadiusProxy {}/{} holds directory {} now: {why}",
                to.namespace, to.name, input.registration.spec.directory_id
            );
            let mut plan = planning.plan(RegistrationRecord::read(input.registration.status.as_ref()));
            plan.claim = Some(to);
            plan.events = vec![event(false, "DirectoryHandedOver", "Claim", &note)];
            plan.requeue_after = Duration::from_secs(1);
            plan
        }
        Claim::Ends(holder) => planning.release(holder),
        Claim::Held(holder) => planning.hold(holder),
    }
}

/// What is known after reading the input.
struct Planning<'a> {
    input: &'a RegistrationInput,
    directory: Option<&'a Directory>,
    now: Timestamp,
    secret: Option<OwnSecret>,
    /// The record, updated by the description.
    record: RegistrationRecord,
}

impl<'a> Planning<'a> {
    fn new(input: &'a RegistrationInput, directory: Option<&'a Directory>, now: Timestamp) -> Self {
        let status = input.registration.status.as_ref();
        let secret = own_secret(input);
        let no_key = DigestKey::new(Vec::new());
        let key = secret.as_ref().map_or(&no_key, |secret| &secret.key);
        let mut record = RegistrationRecord::read(status);
        let recorded_by = status.and_then(|status| status.recorded_by.as_deref());
        if recorded_by.is_some_and(|replica| replica != input.replica) {
            record.rebase(now);
        }
        let desired = input.registration.spec.desired.as_ref();
        let generation = desired.map(|desired| desired.holder_generation);
        record.learn(input.outcome.as_ref(), directory, key, generation, now);
        record.retry_after_stage(status, directory);
        tags::forget_takeover(input, &mut record, directory);
        if desired.is_some_and(|desired| !desired.adopt) && record.pending.is_none() {
            record.adoption = None;
        }
        Self {
            input,
            directory,
            now,
            secret,
            record,
        }
    }

    fn before(&self) -> Option<&DirectoryRegistrationStatus> {
        self.input.registration.status.as_ref()
    }

    /// A plan that only updates the status.
    fn plan(&self, record: RegistrationRecord) -> RegistrationPlan {
        let mut status = self.before().cloned().unwrap_or_default();
        status.observed_generation = self.input.registration.metadata.generation;
        status.recorded_by = Some(self.input.replica.clone());
        record.write_into(&mut status);
        RegistrationPlan {
            claim: None,
            finalizer: FinalizerChange::Keep,
            status,
            tags: Vec::new(),
            write: None,
            events: Vec::new(),
            requeue_after: RESYNC_INTERVAL,
            describe_after: Duration::MAX,
            read_tags: false,
            tag_failure: self.input.tag_failure.clone(),
        }
    }

    fn holder_exists(&self) -> bool {
        let claim = &self.input.registration.spec.claimed_by;
        let is_holder = |each: &Candidate| each.namespace == claim.namespace && each.name == claim.name;
        self.input.candidates.iter().any(is_holder)
    }

    /// Nothing is done for a holder whose namespace this operator doesn't work in.
    fn not_watched(self) -> RegistrationPlan {
        let spec = &self.input.registration.spec;
        let message = format!(
            "RadiusProxy {} holds the directory, and this operator doesn't watch namespace {}. Add the namespace to \
             watchNamespaces, or delete that RadiusProxy",
            messages::holder(spec),
            spec.claimed_by.namespace
        );
        let mut plan = self.plan(self.record.clone());
        plan.requeue_after = NOT_WATCHED_INTERVAL;
        self.show(
            &mut plan.status,
            holds::HOLDER_NOT_WATCHED,
            Reason::Blocked,
            message,
        );
        plan
    }

    /// Shows a hold that comes before every decision, and why.
    fn show(&self, status: &mut DirectoryRegistrationStatus, hold: &str, reason: Reason, message: String) {
        let registered =
            ConditionDraft::new(ConditionType::Registered, ConditionStatus::False, reason, message);
        let generation = self.input.registration.metadata.generation;
        let changed = set_conditions(&[registered], &status.conditions, generation, self.now);
        status
            .conditions
            .retain(|old| old.type_ != ConditionType::Registered.as_str());
        status.hold = changed.first().map(|registered| RegistrationHold {
            name: hold.to_owned(),
            reason: registered.reason.clone(),
            message: registered.message.clone(),
        });
        status.conditions.extend(changed);
    }

    fn hold(mut self, holder: &Candidate) -> RegistrationPlan {
        let described = described::described(self.input, holder, self.now);
        let suspects = self.record.suspects();
        let outdated = self
            .directory
            .is_some_and(|directory| self.record.is_older(directory));
        if (suspects || outdated) && described.is_true() && self.looked_recently() {
            // One description is no witness. Nothing is decided, shown or reported by it.
            let mut plan = self.plan(self.record.clone());
            plan.requeue_after = SECOND_LOOK + Duration::from_secs(1);
            plan.describe_after = SECOND_LOOK / 2;
            let suspected = |drift: &Drift| drift.suspected.is_some();
            let before = self.before().and_then(|before| before.drift.as_ref());
            plan.read_tags = suspects && !before.is_some_and(suspected);
            return plan;
        }
        let servers = self.servers();
        let spec = &self.input.registration.spec;
        let since = self.record.out_of_sync_since.clone();
        let since = since.unwrap_or_else(|| time::floor(self.now));
        let record = self.record.clone();
        let ready = match (
            self.waits(&described),
            self.directory,
            &self.secret,
            &spec.desired,
        ) {
            (None, Some(directory), Some(secret), Some(desired)) => Ok(Context {
                input: self.input,
                spec,
                desired,
                directory,
                servers: &servers,
                secret,
                record: &record,
                keys: DirectoryTags::of(&spec.region),
                wanted: desired.settings.clone(),
                mismatch: None,
                difference: None,
                since: since.clone(),
                now: self.now,
            }
            .compared()),
            (waits, ..) => Err(waits.unwrap_or_else(|| blocked("waiting for the holder's Secret"))),
        };
        let (decision, adopts, taken_back) = match &ready {
            Ok(context) => (
                decide(context),
                holds::adopts(context),
                holds::takes_back(context).map(str::to_owned),
            ),
            Err((reason, message)) => {
                let again = time::later(self.now, BLOCKED_INTERVAL);
                let mut decision = Decision::hold(*reason, message.clone()).until(again);
                decision.hold = Some(holds::BLOCKED);
                (decision, false, None)
            }
        };
        if ready.is_err() {
            self.record.out_of_sync_since = None;
        }
        remember(&mut self.record, &decision, &since, adopts);
        self.decided(&described, decision, &servers, taken_back)
    }

    /// Whether AWS answers, so that a second description follows the first.
    fn looked_recently(&self) -> bool {
        let answered = self.directory.map(|directory| directory.answered);
        answered.is_some_and(|answered| time::until(answered, self.now) < UNANSWERED)
    }

    /// What registration waits for before it can decide.
    fn waits(&self, described: &ConditionDraft) -> Option<(Reason, String)> {
        let spec = &self.input.registration.spec;
        let desired = spec.desired.as_ref();
        let speaks = |uid: &String| *uid == spec.claimed_by.uid;
        let Some(desired) = desired.filter(|desired| speaks(&desired.holder_uid)) else {
            let message = format!(
                "RadiusProxy {} has not written its desired registration yet",
                messages::holder(spec)
            );
            return Some((Reason::Blocked, message));
        };
        if !desired.blocked.is_empty() {
            return Some((Reason::Blocked, desired.blocked.clone()));
        }
        if !described.is_true() {
            return Some(blocked(
                "nothing is written to AWS until the directory can be described",
            ));
        }
        let wanted = desired.shared_secret.as_ref().map(|secret| &secret.digest);
        let have = self.secret.as_ref().map(|secret| &secret.digest);
        if wanted.is_none() || wanted != have {
            return Some(blocked(
                "the shared secret is not in the operator's own Secret yet",
            ));
        }
        None
    }

    fn servers(&self) -> Servers {
        let spec = &self.input.registration.spec;
        let have = self
            .directory
            .filter(|directory| directory.radius_status.is_some())
            .and_then(|directory| directory.radius_settings.as_ref());
        let network = self
            .directory
            .map(|directory| directory.network)
            .unwrap_or_default();
        let before = self.before().map_or(&[][..], |before| &before.servers);
        let desired = spec.desired.clone().unwrap_or_default();
        servers::compare(&desired, network, have, before, self.now)
    }

    fn decided(
        self,
        described: &ConditionDraft,
        mut decision: Decision,
        servers: &Servers,
        taken_back: Option<String>,
    ) -> RegistrationPlan {
        let mut plan = self.plan(self.record.clone());
        if let Some(directory) = self.directory {
            plan.status.description = Some(description(directory, &self.input.registration.spec.region));
            plan.status.servers.clone_from(&servers.table);
            plan.status.registered_count = count(servers.registered);
            plan.status.desired_count = count(servers.wanted);
        }
        let before = self.before().cloned().unwrap_or_default();
        let drafts = [described.clone(), decision.condition.clone()];
        let generation = self.input.registration.metadata.generation;
        plan.status.conditions = set_conditions(&drafts, &before.conditions, generation, self.now);
        let registered = plan
            .status
            .conditions
            .iter()
            .find(|c| c.type_ == ConditionType::Registered.as_str());
        plan.status.hold = decision
            .hold
            .zip(registered)
            .map(|(name, registered)| RegistrationHold {
                name: name.to_owned(),
                reason: registered.reason.clone(),
                message: registered.message.clone(),
            });
        let writes = decision.write.is_some();
        if let Some(directory) = self.directory.filter(|_| described.is_true()) {
            let suspended = self
                .input
                .registration
                .spec
                .desired
                .as_ref()
                .is_some_and(|d| d.suspend);
            if !suspended {
                plan.tags = tags::to_add(self.input, &self.record, directory, writes, self.now);
            }
            let failure = tags::failure(self.input, &self.record, directory);
            plan.events.extend(failure.and_then(tags::refused));
            plan.tag_failure = failure.map(|failure| TagFailure {
                published: true,
                ..failure.clone()
            });
            let changes = messages::changes(&self.record, directory);
            plan.events
                .extend(of_drift(before.drift.as_ref(), &self.record.drift, &changes));
        }
        let has_finalizer = |finalizers: &Vec<String>| finalizers.iter().any(|each| each == FINALIZER);
        if writes
            && !self
                .input
                .registration
                .metadata
                .finalizers
                .as_ref()
                .is_some_and(has_finalizer)
        {
            plan.finalizer = FinalizerChange::Add;
        }
        (plan.requeue_after, plan.describe_after) =
            times(&self.record, self.directory, described, &decision, self.now);
        plan.read_tags = decision.describe_next == DescribeNext::DirectoryAndTags;
        if let Some((write, _)) = decision.write.take() {
            plan.events.push(super::write::sent(&write));
            if let (WriteReason::Adoption, Some(uid)) = (write.reason, taken_back) {
                let note = format!(
                    "took the directory back from the cluster of the same name with uid {uid}, whose settings it has"
                );
                plan.events
                    .push(event(true, "DirectoryTakenBack", "Claim", &note));
            }
            plan.write = Some(write);
        }
        plan
    }

    /// Plans the end of a registration without a successor.
    fn release(mut self, holder: Option<&Candidate>) -> RegistrationPlan {
        let step = release::step(self.input, holder, self.directory, &self.record, self.now);
        let write = match &step {
            release::Step::Disable => Some(release::disable(
                &self.input.registration.spec,
                &mut self.record,
                self.now,
            )),
            _ => None,
        };
        let mut plan = self.plan(self.record.clone());
        plan.requeue_after = WRITE_POLL_INTERVAL;
        plan.describe_after = WRITE_POLL_INTERVAL / 2;
        if let Some(directory) = self.directory {
            plan.status.description = Some(description(directory, &self.input.registration.spec.region));
        }
        let (reason, message) = match step {
            release::Step::Done { why, loud } => {
                let reason = if loud {
                    "DirectoryAbandoned"
                } else {
                    "DirectoryReleased"
                };
                plan.finalizer = FinalizerChange::Remove;
                plan.events.push(event(loud, reason, "Delete", &why));
                return plan;
            }
            release::Step::Wait(reason, message, again) => {
                if let Some(again) = again {
                    plan.requeue_after = time::until(self.now, again).max(WRITE_POLL_INTERVAL);
                }
                (reason, message)
            }
            release::Step::Disable => {
                plan.requeue_after = Duration::from_secs(1);
                plan.describe_after = Duration::from_secs(1);
                (Reason::Deregistering, "DisableRadius is sent".to_owned())
            }
        };
        plan.events.extend(write.as_ref().map(super::write::sent));
        plan.write = write;
        self.show(&mut plan.status, holds::RELEASING, reason, message);
        plan
    }
}

fn blocked(message: &str) -> (Reason, String) {
    (Reason::Blocked, message.to_owned())
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The key and the shared secret in the operator's own Secret.
fn own_secret(input: &RegistrationInput) -> Option<OwnSecret> {
    let data = &input.secret.as_ref()?.data;
    let key = config::key_of(data.get(DIGEST_KEY)?);
    let current = SharedSecret::parse(data.get(CURRENT_KEY)?.expose()).ok()?;
    let digest = secret_digest(&key, &current);
    Some(OwnSecret { key, current, digest })
}

fn description(directory: &Directory, region: &str) -> DirectoryDescription {
    let key = DirectoryTags::of(region).owner;
    DirectoryDescription {
        kind: directory.kind.as_str().to_owned(),
        stage: directory.stage.clone(),
        stage_reason: directory.stage_reason.clone(),
        network_type: directory.network.as_str().to_owned(),
        radius_status: directory
            .radius_status
            .map_or("NotConfigured", RadiusStatus::as_str)
            .to_owned(),
        settings: directory.radius_settings.clone(),
        owner: directory.tags.as_ref().and_then(|tags| tags.get(&key).cloned()),
        tags_unread: directory.tags.is_none(),
        client_addresses: directory.client_addresses.iter().map(IpAddr::to_string).collect(),
    }
}

/// A foreign change that was not there in the last status.
fn of_drift(before: Option<&Drift>, now: &Drift, changes: &str) -> Option<Event> {
    let known = before.is_some_and(|before| before.times == now.times);
    (!known && !now.times.is_empty() && (now.seen.is_some() || now.disabled)).then(|| {
        let note = format!("somebody else changed the directory's RADIUS settings: {changes}");
        event(true, "ChangedFromOutside", "Observe", &note)
    })
}
