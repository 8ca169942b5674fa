//! Whether AWS is written to now.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proxy_config::{DigestKey, SharedSecret};

use super::difference::{Difference, difference};
use super::holds::{HOLDS, Hold};
use super::record::RegistrationRecord;
use super::servers::Servers;
use super::{
    RegistrationInput, WriteReason, all_servers, backoff, messages, same, secret_mismatch, tags, takes_writes,
};
use crate::api::{
    AddressSource, Adoption, ConditionType, DesiredRegistration, DirectoryRegistrationSpec, PendingWrite,
    RegisteredSettings, ReportedMismatch,
};
use crate::aws::AwsOperation;
use crate::conditions::{ConditionDraft, ConditionStatus, Reason};
use crate::names::DirectoryTags;
use crate::observed::{Directory, RadiusStatus};
use crate::registration::{DirectoryCall, DirectoryWrite, RadiusSettings};
use crate::time;

/// Maximum age of the description that a write is based on: somebody else may have written since.
const FRESH: Duration = Duration::from_secs(10);
/// The same, after AWS's answer: where AWS takes long, nothing fresher can be had.
pub(crate) const FRESH_AFTER_ANSWER: Duration = Duration::from_secs(5);
/// How long AWS may take to describe a directory: the deadline of the call. A write is not decided by what took longer.
pub const LONGEST_ANSWER: Duration = Duration::from_secs(30);

/// Whether a write may be decided by a description.
#[must_use]
pub fn is_fresh(directory: &Directory, now: Timestamp) -> bool {
    let took = time::until(directory.as_of, directory.answered);
    let limit = FRESH.max(took + FRESH_AFTER_ANSWER);
    took <= LONGEST_ANSWER && time::until(directory.as_of, now) <= limit
}

/// The operator's own Secret, read.
#[derive(Debug)]
pub(crate) struct OwnSecret {
    pub(crate) key: DigestKey,
    /// The secret that AWS is to have.
    pub(crate) current: SharedSecret,
    /// Its keyed digest.
    pub(crate) digest: String,
}

/// The input of the decision.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) input: &'a RegistrationInput,
    pub(crate) spec: &'a DirectoryRegistrationSpec,
    pub(crate) desired: &'a DesiredRegistration,
    pub(crate) directory: &'a Directory,
    pub(crate) servers: &'a Servers,
    pub(crate) secret: &'a OwnSecret,
    pub(crate) record: &'a RegistrationRecord,
    pub(crate) keys: DirectoryTags,
    /// The settings that AWS should have.
    pub(crate) wanted: RegisteredSettings,
    pub(crate) mismatch: Option<&'a ReportedMismatch>,
    pub(crate) difference: Option<Difference>,
    /// When the wanted settings first differed.
    pub(crate) since: Time,
    pub(crate) now: Timestamp,
}

/// What to describe before the next decision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum DescribeNext {
    /// Whatever is due.
    #[default]
    Due,
    /// The directory.
    Directory,
    /// The directory with its tags.
    DirectoryAndTags,
}

/// What happens to the time since which the wanted settings differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum OutOfSync {
    /// It stays.
    #[default]
    Keep,
    /// Nothing differs, or nothing is done about it.
    Clear,
    /// It starts, if it has not started.
    Start,
}

/// What was decided.
#[derive(Debug)]
pub(crate) struct Decision {
    /// The condition Registered.
    pub(crate) condition: ConditionDraft,
    /// The hold that decided, unless AWS is written to.
    pub(crate) hold: Option<&'static str>,
    /// The write, with its record.
    pub(crate) write: Option<(DirectoryWrite, PendingWrite)>,
    /// When to decide again, if nothing happens before.
    pub(crate) again: Option<Timestamp>,
    pub(crate) describe_next: DescribeNext,
    pub(crate) out_of_sync: OutOfSync,
    /// Whether the last failure is over.
    pub(crate) forgets_failure: bool,
}

impl Decision {
    pub(crate) fn hold(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            condition: ConditionDraft::new(
                ConditionType::Registered,
                ConditionStatus::False,
                reason,
                message,
            ),
            hold: None,
            write: None,
            again: None,
            describe_next: DescribeNext::Due,
            out_of_sync: OutOfSync::Keep,
            forgets_failure: false,
        }
    }

    /// Adds sentences to the message.
    pub(super) fn note(&mut self, notes: impl IntoIterator<Item = String>) {
        for note in notes {
            let message = &mut self.condition.message;
            *message = format!("{}. {note}", message.trim_end_matches('.'));
        }
    }

    pub(super) fn until(mut self, again: Timestamp) -> Self {
        self.again = Some(self.again.map_or(again, |before| before.min(again)));
        self
    }

    pub(super) const fn out_of_sync(mut self, change: OutOfSync) -> Self {
        self.out_of_sync = change;
        self
    }
}

/// Decides: the first hold that applies, or the write.
pub(crate) fn decide(context: &Context<'_>) -> Decision {
    let held = HOLDS.iter().find_map(|Hold { name, check }| {
        let mut decision = check(context)?;
        decision.hold = Some(name);
        Some(decision)
    });
    let mut decision = held.unwrap_or_else(|| context.write());
    let written = decision.write.as_ref().map(|(write, _)| write.reason);
    let repairs = written == Some(WriteReason::SecretMismatch) || context.record.repairs_secret();
    if repairs && decision.condition.reason == Reason::Registering {
        // One event, and one reason until it is over.
        decision.condition.reason = Reason::SecretMismatch;
        let message = &decision.condition.message;
        decision.condition.message = format!("the shared secret is written back: {message}");
        if written.is_none() {
            decision.note([secret_mismatch::FIND_OUT.to_owned()]);
        }
    }
    if takes_writes(&context.directory.stage) {
        decision.note(messages::stage_note(context.directory));
    }
    let failed = tags::failure(context.input, context.record, context.directory);
    decision.note(failed.map(|failed| tags::note(&failed.failure)));
    decision
}

impl<'a> Context<'a> {
    /// Compares what AWS should have with what it has.
    pub(crate) fn compared(mut self) -> Self {
        self.wanted.servers.clone_from(&self.servers.want.v4);
        self.wanted.servers_ipv6.clone_from(&self.servers.want.v6);
        self.mismatch = secret_mismatch::credible(&self);
        let repair = self
            .mismatch
            .and_then(|mismatch| secret_mismatch::repair(&self, mismatch));
        self.difference = match difference(&self) {
            Some(difference) if difference.due.is_none_or(|due| due <= self.now) => Some(difference),
            later => repair.or(later),
        };
        self
    }

    pub(super) fn by_load_balancer(&self) -> bool {
        self.desired.address_source == AddressSource::LoadBalancer
    }

    /// The retry that follows a failure is no news: the failure stays the reason until it is over.
    pub(super) fn under_way(&self, reason: Reason, message: String) -> Decision {
        let failure = self.record.last_failure.as_ref();
        match failure.map(|failure| messages::failure(failure, self.spec)) {
            Some((reason, failure)) => Decision::hold(reason, format!("{failure} Retry: {message}")),
            None => Decision::hold(reason, message),
        }
    }

    fn write(&self) -> Decision {
        let Some(difference) = &self.difference else {
            return Decision::hold(Reason::Registered, "nothing differs");
        };
        let fallback = self.record.last_failure.as_ref().and_then(backoff::fallback);
        let operation = fallback.unwrap_or(match self.directory.radius_status {
            None | Some(RadiusStatus::Failed) => AwsOperation::EnableRadius,
            Some(_) => AwsOperation::UpdateRadius,
        });
        let have = self.directory.radius_settings.as_ref();
        let mut shown = self.wanted.clone();
        if have == Some(&shown) && self.directory.radius_status.is_some() {
            // Nothing that AWS shows would change. In another order the servers tell whether the write arrived.
            let list = if shown.servers.len() > 1 {
                &mut shown.servers
            } else {
                &mut shown.servers_ipv6
            };
            if list.len() > 1 {
                list.rotate_left(1);
            }
        }
        let time = time::ceil(self.now);
        let id = format!("{}-{}", operation.as_str(), time.0.as_second());
        let pending = PendingWrite {
            id: id.clone(),
            operation: operation.as_str().to_owned(),
            holder_uid: self.desired.holder_uid.clone(),
            secret_digest: self.secret.digest.clone(),
            settings: Some(shown.clone()),
            shows: have != Some(&shown) || self.directory.radius_status.is_none(),
            servers_before: have
                .filter(|have| same(have, &shown))
                .map(all_servers)
                .unwrap_or_default(),
            taken_over_from: tags::taken_over_from(self.input, self.record, self.directory),
            time,
        };
        let settings = Box::new(RadiusSettings {
            shown,
            secret: self.secret.current.clone(),
        });
        let message = format!("{}: {}", difference.reason.text(), difference.message);
        let sent = format!("{} is sent ({message}).", operation.as_str());
        let write = DirectoryWrite {
            id,
            directory_id: self.spec.directory_id.clone(),
            call: if operation == AwsOperation::UpdateRadius {
                DirectoryCall::Update(settings)
            } else {
                DirectoryCall::Enable(settings)
            },
            reason: difference.reason,
            message,
        };
        Decision {
            write: Some((write, pending)),
            ..self
                .under_way(Reason::Registering, sent)
                .out_of_sync(OutOfSync::Start)
        }
    }
}

/// Records what was decided.
pub(super) fn remember(record: &mut RegistrationRecord, decision: &Decision, since: &Time, adopts: bool) {
    match decision.out_of_sync {
        OutOfSync::Keep => {}
        OutOfSync::Clear => record.out_of_sync_since = None,
        OutOfSync::Start => {
            record.out_of_sync_since.get_or_insert_with(|| since.clone());
        }
    }
    if decision.forgets_failure {
        record.last_failure = None;
    }
    if let Some((write, pending)) = &decision.write {
        if write.reason == WriteReason::SecretMismatch {
            record.drift.secret_repair_time = Some(pending.time.clone());
        }
        if adopts {
            record.adoption = Some(Adoption {
                holder_uid: pending.holder_uid.clone(),
                time: pending.time.clone(),
            });
        }
        record.send(pending.clone(), write.reason, &write.message);
    }
}
