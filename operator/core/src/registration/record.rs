//! The record of the writes to AWS and their results. It is kept in the status of the DirectoryRegistration, which is written
//! before each call.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proxy_config::DigestKey;

use super::{ACTIVE, WriteReason, all_servers, fingerprint, same};
use crate::api::{
    Adoption, AppliedSettings, DirectoryRegistrationStatus, Drift, LastFailure, PendingWrite,
    RegisteredSettings, SuspectedDrift, WriteRecord,
};
use crate::aws::{AwsFailure, AwsOperation};
use crate::observed::{Directory, RadiusStatus, WriteOutcome};
use crate::time;

/// How long AWS may describe the old settings after it accepted a write.
pub(crate) const DESCRIPTION_LAG: Duration = Duration::from_secs(30);
/// How long a write without an answer may still show up in the description.
pub(crate) const UNANSWERED: Duration = Duration::from_secs(60);
/// Two foreign changes within this time are a contest.
pub(crate) const CONTEST: Duration = Duration::from_secs(3600);
/// [`LastFailure::kind`] of a directory that reports Failed.
pub(crate) const FAILED: &str = "Failed";

/// The difference between two clocks that AWS accepts from callers.
const CLOCK_SKEW: Duration = Duration::from_secs(300);
/// How long after a description that shows a change another one has to be asked for, to count as a second one.
pub(crate) const SECOND_LOOK: Duration = Duration::from_secs(3);
/// Writes that are kept.
const HISTORY: usize = 20;

/// The record of one directory.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RegistrationRecord {
    pub(crate) applied: Option<AppliedSettings>,
    pub(crate) pending: Option<PendingWrite>,
    pub(crate) out_of_sync_since: Option<Time>,
    pub(crate) last_failure: Option<LastFailure>,
    pub(crate) drift: Drift,
    /// The use of the adoption policy.
    pub(crate) adoption: Option<Adoption>,
    pub(crate) writes: Vec<WriteRecord>,
    /// The digest of a secret that AWS may hold instead of the applied one: of a write whose end can't be known.
    pub(crate) unconfirmed_secret: Option<String>,
}

impl RegistrationRecord {
    pub(crate) fn read(status: Option<&DirectoryRegistrationStatus>) -> Self {
        let Some(status) = status.cloned() else {
            return Self::default();
        };
        Self {
            applied: status.applied,
            pending: status.pending_write,
            out_of_sync_since: status.out_of_sync_since,
            last_failure: status.last_failure,
            drift: status.drift.unwrap_or_default(),
            adoption: status.adoption,
            writes: status.writes,
            unconfirmed_secret: status.unconfirmed_secret_digest,
        }
    }

    pub(crate) fn write_into(self, status: &mut DirectoryRegistrationStatus) {
        status.applied = self.applied;
        status.pending_write = self.pending;
        status.out_of_sync_since = self.out_of_sync_since;
        status.last_failure = self.last_failure;
        status.drift = Some(self.drift).filter(|drift| *drift != Drift::default());
        status.adoption = self.adoption;
        status.last_write_time = self.writes.last().map(|last| last.time.clone());
        status.writes = self.writes;
        status.unconfirmed_secret_digest = self.unconfirmed_secret;
    }

    /// Moves times by another replica's clock to this one's. A time that may lie ahead, by as much as AWS allows a clock to be
    /// wrong, becomes `now`: what happened then happened before this replica looked.
    pub(crate) fn rebase(&mut self, now: Timestamp) {
        let recent = now.saturating_sub(CLOCK_SKEW).unwrap_or(Timestamp::MIN);
        let move_up = |time: &mut Time| {
            if time.0 >= recent {
                *time = time::ceil(now);
            }
        };
        if let Some(pending) = &mut self.pending {
            move_up(&mut pending.time);
        }
        let last = self.writes.last_mut().map(|last| &mut last.time);
        let adoption = self.adoption.as_mut().map(|adoption| &mut adoption.time);
        let used = [last, self.drift.secret_repair_time.as_mut(), adoption];
        used.into_iter().flatten().for_each(move_up);
        if let Some(applied) = &mut self.applied {
            move_up(&mut applied.time);
            let times = [&mut applied.shown_time, &mut applied.completed_time];
            times.into_iter().flatten().for_each(move_up);
        }
        if let Some(failure) = &mut self.last_failure {
            move_up(&mut failure.time);
        }
        if let Some(suspected) = &mut self.drift.suspected {
            move_up(&mut suspected.time);
        }
        if let Some(since) = &mut self.out_of_sync_since {
            *since = since.clone().min(time::floor(now));
        }
    }

    /// Records a write that is about to be sent.
    pub(crate) fn send(&mut self, pending: PendingWrite, reason: WriteReason, message: &str) {
        self.end(&pending.time, "Superseded");
        self.writes.push(WriteRecord {
            operation: pending.operation.clone(),
            reason: reason.name().to_owned(),
            message: message.to_owned(),
            time: pending.time.clone(),
            request_id: None,
            end: None,
            duration_seconds: None,
        });
        let surplus = self.writes.len().saturating_sub(HISTORY);
        self.writes.drain(..surplus);
        self.pending = Some(pending);
    }

    /// The latest write has ended.
    fn end(&mut self, at: &Time, end: &str) {
        if let Some(last) = self.writes.last_mut().filter(|last| last.end.is_none()) {
            last.end = Some(end.to_owned());
            let took = at.0.duration_since(last.time.0).as_secs();
            last.duration_seconds = Some(took.max(0));
        }
    }

    /// Updates the record by the result of the last write and by what AWS describes.
    pub(crate) fn learn(
        &mut self,
        outcome: Option<&WriteOutcome>,
        directory: Option<&Directory>,
        key: &DigestKey,
        generation: Option<i64>,
        now: Timestamp,
    ) {
        self.resolve(outcome, directory, key, now);
        let Some(directory) = directory.filter(|_| self.pending.is_none()) else {
            return;
        };
        if !self.observe(directory, key, now) {
            self.drift.suspected = None;
        } else if self.is_seen_again(directory) {
            self.foreign_change(directory, generation, now);
        }
    }

    /// Whether the pending write arrived: by AWS's answer; without one, by what AWS describes.
    fn resolve(
        &mut self,
        outcome: Option<&WriteOutcome>,
        directory: Option<&Directory>,
        key: &DigestKey,
        now: Timestamp,
    ) {
        let Some(pending) = self.pending.clone() else {
            return;
        };
        let result = outcome.filter(|o| o.id == pending.id).map(|o| &o.result);
        match result {
            Some(Ok(request_id)) => {
                if let Some(last) = self.writes.last_mut() {
                    last.request_id.clone_from(request_id);
                }
                self.accept(pending);
                return;
            }
            Some(Err(failure)) => {
                self.refused(failure, &pending, key, now);
                if failure.is_definite() {
                    self.end(&time::ceil(now), "Refused");
                    // Nothing was repaired or adopted, so that it may be tried again.
                    self.drift
                        .secret_repair_time
                        .take_if(|time| *time == pending.time);
                    self.adoption.take_if(|used| used.time == pending.time);
                    self.pending = None;
                    return;
                }
            }
            None => {}
        }
        // Asked for before the write: says nothing about it.
        let Some(directory) = directory.filter(|d| d.as_of >= pending.time.0) else {
            return;
        };
        if arrived(&pending, directory) {
            // One description may be the one from before RADIUS was switched on.
            if pending.settings.is_some() || self.is_seen_again(directory) {
                self.accept(pending);
            }
            return;
        }
        self.drift.suspected = None;
        if directory.as_of >= time::after(&pending.time, UNANSWERED) {
            if cannot_tell(&pending, directory) {
                self.unconfirmed_secret = Some(pending.secret_digest);
            }
            self.end(&time::floor(directory.as_of), "Lost");
            self.pending = None;
        }
    }

    fn accept(&mut self, pending: PendingWrite) {
        self.pending = None;
        self.unconfirmed_secret = None;
        self.out_of_sync_since = None;
        // A count of Failed goes on over tries; a refusal is over once a call is taken.
        self.last_failure.take_if(|failure| failure.kind != FAILED);
        // What a foreign change made is gone with this; the next one is another.
        self.drift.forget();
        // DisableRadius leaves the record of what was there, for as long as AWS still describes it.
        if let Some(settings) = pending.settings {
            let before = self.applied.take();
            let predecessor_uid = before.and_then(|before| {
                let is_other = before.holder_uid != pending.holder_uid;
                let uid = is_other.then_some(before.holder_uid);
                uid.or(before.predecessor_uid)
            });
            self.applied = Some(AppliedSettings {
                secret_digest: pending.secret_digest,
                holder_uid: pending.holder_uid,
                settings,
                time: pending.time,
                servers_before: pending.servers_before,
                predecessor_uid,
                taken_over_from: pending.taken_over_from,
                shown_time: None,
                completed_time: None,
            });
        }
    }

    fn refused(&mut self, failure: &AwsFailure, pending: &PendingWrite, key: &DigestKey, now: Timestamp) {
        let tried = pending.settings.as_ref().map_or_else(String::new, |settings| {
            fingerprint(key, settings, &pending.secret_digest)
        });
        // Each reconciliation sees the same answer until something changes: it is one failure.
        let known = self
            .last_failure
            .as_ref()
            .is_some_and(|t| t.time.0 >= pending.time.0 && t.kind == failure.class.name());
        if !known {
            let time = time::ceil(now.max(pending.time.0));
            self.count(failure.class.name(), Some(failure), tried, time);
        }
    }

    fn count(&mut self, kind: &str, failure: Option<&AwsFailure>, tried: String, time: Time) {
        // Of Enable and Update, each may refer to the other: only a count over all refusals of one try ends that.
        let before = self
            .last_failure
            .as_ref()
            .filter(|t| t.tried == tried && (t.kind == FAILED) == (kind == FAILED));
        self.last_failure = Some(LastFailure {
            kind: kind.to_owned(),
            operation: failure.map(|f| f.operation.as_str().to_owned()),
            message: failure.map(AwsFailure::to_string).unwrap_or_default(),
            count: before.map_or(1, |t| t.count.saturating_add(1)),
            time,
            tried,
        });
    }

    /// Compares a description with the applied settings. Returns whether it shows a foreign change that isn't known yet.
    fn observe(&mut self, directory: &Directory, key: &DigestKey, now: Timestamp) -> bool {
        if let Some(disabled) = self.disabled() {
            let described_at = time::after(&disabled.time, DESCRIPTION_LAG);
            if directory.radius_status.is_none() && directory.as_of >= disabled.time.0 {
                self.applied = None;
                self.end(&time::floor(now), "Completed");
            }
            if self.applied.is_none() || directory.as_of < described_at {
                return false;
            }
        }
        let Some(applied) = &mut self.applied else {
            return false;
        };
        if directory.as_of < applied.time.0 {
            return false;
        }
        let ours = directory
            .radius_settings
            .as_ref()
            .is_some_and(|settings| same(settings, &applied.settings));
        // AWS may answer with the description from before the write, also after it has answered with a newer one.
        let judged = directory.as_of >= time::after(&applied.time, DESCRIPTION_LAG);
        if ours && may_be_from_before(applied, directory) {
            return false;
        }
        if ours && directory.radius_status.is_some() {
            applied.shown_time.get_or_insert_with(|| time::floor(now));
        }
        let is_off = directory.radius_status.is_none();
        match (directory.radius_status, ours) {
            (Some(RadiusStatus::Completed), true) => {
                let completed = applied.completed_time.get_or_insert_with(|| time::floor(now));
                let completed = completed.clone();
                self.last_failure.take_if(|failure| failure.kind == FAILED);
                self.drift.forget();
                self.end(&completed, "Completed");
            }
            // AWS works on the settings again, whoever caused it: nothing is complete until it says so.
            (Some(RadiusStatus::Creating), true) => {
                applied.completed_time = None;
                applied.servers_before.clear();
            }
            (Some(RadiusStatus::Failed), true) => {
                let known = self
                    .last_failure
                    .as_ref()
                    .is_some_and(|t| t.kind == FAILED && t.time.0 >= applied.time.0);
                if !known {
                    let tried = fingerprint(key, &applied.settings, &applied.secret_digest);
                    self.count(FAILED, None, tried, time::floor(now));
                    self.end(&time::floor(now), "Failed");
                }
            }
            _ if judged && (directory.has_forgotten_settings() || is_off && applied.shown_time.is_none()) => {
                // Accepted and lost without ever having been described: as good as Failed. Settings that were described
                // once, Failed or not, are gone only when somebody switches RADIUS off.
                let tried = fingerprint(key, &applied.settings, &applied.secret_digest);
                self.applied = None;
                self.count(FAILED, None, tried, time::floor(now));
                self.end(&time::floor(now), "Lost");
            }
            (None, _) => return judged && !self.drift.disabled,
            (Some(_), false) => return judged && self.drift.seen != directory.radius_settings,
        }
        false
    }

    /// Whether an earlier description has shown the same change. Until then it is only suspected: AWS may answer with an old
    /// description at any time.
    fn is_seen_again(&mut self, directory: &Directory) -> bool {
        let described = described(directory);
        if let Some(suspected) = &self.drift.suspected
            && suspected.settings.as_ref() == described
        {
            return directory.as_of >= time::after(&suspected.time, SECOND_LOOK);
        }
        self.drift.suspected = Some(SuspectedDrift {
            settings: described.cloned(),
            time: time::ceil(directory.as_of),
        });
        false
    }

    fn foreign_change(&mut self, directory: &Directory, generation: Option<i64>, now: Timestamp) {
        self.drift.forget();
        self.drift.disabled = directory.radius_status.is_none();
        self.drift.seen = described(directory).cloned();
        self.drift.generation = generation;
        self.drift.times.push(time::floor(now));
        if let [.., before, last] = self.drift.times.as_slice() {
            self.drift.times = vec![before.clone(), last.clone()];
        }
    }

    /// The latest write, if it is DisableRadius and AWS has accepted it.
    pub(crate) fn disabled(&self) -> Option<&WriteRecord> {
        let last = self.writes.last().filter(|_| self.pending.is_none())?;
        let failed = matches!(last.end.as_deref(), Some("Refused" | "Lost"));
        (last.operation == AwsOperation::DisableRadius.as_str() && !failed).then_some(last)
    }

    /// Whether AWS doesn't describe the applied settings yet.
    pub(crate) fn awaits_description(&self, directory: &Directory) -> bool {
        let Some(applied) = &self.applied else {
            return false;
        };
        let described = directory.radius_settings.as_ref();
        let shown = described.is_some_and(|d| same(d, &applied.settings))
            && directory.radius_status.is_some()
            && !may_be_from_before(applied, directory);
        directory.as_of < applied.time.0 || (!shown && !self.drifted())
    }

    /// Whether this is the description from before the last write, although an earlier answer has shown that write completed.
    pub(crate) fn is_older(&self, directory: &Directory) -> bool {
        let completed = |applied: &AppliedSettings| applied.completed_time.is_some();
        self.applied.as_ref().is_some_and(completed) && self.awaits_description(directory)
    }

    /// A refusal counts no more once the directory is Active again: AWS may have refused because of the stage.
    pub(crate) fn retry_after_stage(
        &mut self,
        before: Option<&DirectoryRegistrationStatus>,
        directory: Option<&Directory>,
    ) {
        let description = before.and_then(|status| status.description.as_ref());
        let was_other = description.is_some_and(|description| description.stage != ACTIVE);
        if was_other && directory.is_some_and(|directory| directory.stage == ACTIVE) {
            self.last_failure.take_if(|failure| failure.kind != FAILED);
        }
    }

    /// Whether the last write repairs a changed secret and is not completed yet.
    pub(crate) fn repairs_secret(&self) -> bool {
        let last = self.writes.last().map(|last| &last.time);
        let applied = self.applied.as_ref();
        let completed = applied.is_some_and(|applied| applied.completed_time.is_some());
        let under_way = self.pending.is_some() || !completed;
        under_way && last.is_some() && last == self.drift.secret_repair_time.as_ref()
    }

    /// Whether AWS describes other settings than the applied ones.
    pub(crate) const fn drifted(&self) -> bool {
        self.drift.seen.is_some() || self.drift.disabled
    }

    /// Whether foreign changes make it pointless to write: until AWS has what was applied, or the spec changes.
    pub(crate) fn contended(&self, generation: Option<i64>) -> bool {
        let [first, second] = self.drift.times.as_slice() else {
            return false;
        };
        self.drifted() && second.0 <= time::after(first, CONTEST) && self.drift.generation == generation
    }

    /// Whether a change was described that no second description has confirmed.
    pub(crate) const fn suspects(&self) -> bool {
        self.drift.suspected.is_some()
    }
}

impl Drift {
    /// Forgets a change that is over.
    fn forget(&mut self) {
        self.seen = None;
        self.disabled = false;
        self.suspected = None;
    }
}

/// The settings that are described; `None` while RADIUS is off.
fn described(directory: &Directory) -> Option<&RegisteredSettings> {
    directory.radius_status?;
    directory.radius_settings.as_ref()
}

/// Whether a description that shows the applied settings may be the one from before they were written.
fn may_be_from_before(applied: &AppliedSettings, directory: &Directory) -> bool {
    let lags = directory.as_of < time::after(&applied.time, DESCRIPTION_LAG);
    let described = directory.radius_settings.as_ref().map(all_servers);
    lags && !applied.servers_before.is_empty() && described.as_ref() == Some(&applied.servers_before)
}

/// Whether a description that was asked for after a write shows that it arrived.
fn arrived(pending: &PendingWrite, directory: &Directory) -> bool {
    match &pending.settings {
        None => directory.radius_status.is_none(),
        // In the very order that was sent: a write that changes nothing but the secret sends the servers in another one.
        Some(sent) => {
            directory.radius_settings.as_ref() == Some(sent)
                && directory.radius_status.is_some()
                && (pending.shows || directory.radius_status == Some(RadiusStatus::Creating))
        }
    }
}

/// Whether a description that does not show that a write arrived does not show either that it did not: AWS names no secret,
/// a list of one server has one order, and AWS may keep an order of its own. It holds the old secret or the new one.
fn cannot_tell(pending: &PendingWrite, directory: &Directory) -> bool {
    match (&pending.settings, &directory.radius_settings) {
        (Some(sent), Some(have)) => directory.radius_status.is_some() && same(have, sent),
        _ => false,
    }
}
