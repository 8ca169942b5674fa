//! What was sent to AWS, and what is known to have become of it. It lives in the status, which is written before AWS is
//! called; see [`crate::plan`] for the order.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proxy_config::DigestKey;

use super::{ACTIVE, all_servers, fingerprint, same};
use crate::api::{AppliedSettings, Drift, LastWrite, PendingWrite, RadiusProxyStatus, Trouble};
use crate::aws::{AwsErrorClass, AwsFailure, AwsOperation};
use crate::input::{Directory, RadiusStatus, WriteOutcome};
use crate::time;

/// How long AWS may go on describing what was there before a write that it has taken.
pub(crate) const DESCRIPTION_LAG: Duration = Duration::from_secs(30);
/// How long a write without an answer may still show up in the description.
pub(crate) const UNANSWERED: Duration = Duration::from_secs(60);
/// Two foreign changes within this time are a contest.
pub(crate) const CONTEST: Duration = Duration::from_secs(3600);
/// [`Trouble::kind`] of a directory that reports Failed.
pub(crate) const FAILED: &str = "Failed";

/// The part of the status that is a memory.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Ledger {
    pub(crate) applied: Option<AppliedSettings>,
    pub(crate) pending: Option<PendingWrite>,
    pub(crate) differs_since: Option<Time>,
    pub(crate) trouble: Option<Trouble>,
    pub(crate) drift: Drift,
    pub(crate) last_write: Option<LastWrite>,
    /// The digest of a secret that AWS may hold instead of the applied one: of a write whose end nobody can tell.
    pub(crate) unsure_secret: Option<String>,
}

impl Ledger {
    pub(crate) fn read(status: Option<&RadiusProxyStatus>) -> Self {
        let Some(status) = status else {
            return Self::default();
        };
        Self {
            applied: status.applied.clone(),
            pending: status.pending_write.clone(),
            differs_since: status.differs_since.clone(),
            trouble: status.trouble.clone(),
            drift: status.drift.clone().unwrap_or_default(),
            last_write: status.last_write.clone(),
            unsure_secret: status.unsure_secret_digest.clone(),
        }
    }

    pub(crate) fn write_into(self, status: &mut RadiusProxyStatus) {
        status.applied = self.applied;
        status.pending_write = self.pending;
        status.differs_since = self.differs_since;
        status.trouble = self.trouble;
        status.drift = Some(self.drift).filter(|drift| *drift != Drift::default());
        status.last_write = self.last_write;
        status.unsure_secret_digest = self.unsure_secret;
    }

    /// Takes in how the last write ended and what AWS describes.
    pub(crate) fn learn(
        &mut self,
        outcome: Option<&WriteOutcome>,
        directory: Option<&Directory>,
        key: &DigestKey,
        generation: Option<i64>,
        now: Timestamp,
    ) {
        self.resolve(outcome, directory, key, now);
        if self.pending.is_none()
            && let Some(directory) = directory
            && self.observe(directory, key, now)
        {
            self.foreign_change(generation, now);
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
                if let Some(last) = &mut self.last_write {
                    last.request_id.clone_from(request_id);
                }
                self.accept(pending);
                return;
            }
            Some(Err(failure)) => {
                self.refused(failure, &pending, key, now);
                if failure.is_definite() {
                    // Nothing was repaired, so that it may be tried again.
                    self.drift
                        .secret_repair_time
                        .take_if(|time| *time == pending.time);
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
            self.accept(pending);
        } else if directory.as_of >= time::after(&pending.time, UNANSWERED) {
            if cannot_tell(&pending, directory) {
                self.unsure_secret = Some(pending.secret_digest);
            }
            self.pending = None;
        }
    }

    fn accept(&mut self, pending: PendingWrite) {
        self.pending = None;
        self.unsure_secret = None;
        self.differs_since = None;
        // A count of Failed goes on over tries; a refusal is over once a call is taken.
        self.trouble.take_if(|trouble| trouble.kind != FAILED);
        // What a foreign change made is gone with this; the next one is another.
        self.drift.seen = None;
        self.drift.disabled = false;
        // DisableRadius leaves the memory of what was there, for as long as AWS still describes it.
        if let Some(settings) = pending.settings {
            self.applied = Some(AppliedSettings {
                secret_digest: pending.secret_digest,
                settings,
                time: pending.time,
                servers_before: pending.servers_before,
                shown_time: None,
                completed_time: None,
            });
        }
    }

    fn refused(&mut self, failure: &AwsFailure, pending: &PendingWrite, key: &DigestKey, now: Timestamp) {
        let tried = pending.settings.as_ref().map_or_else(String::new, |settings| {
            fingerprint(key, settings, &pending.secret_digest)
        });
        // The same answer is seen in each round until something changes: it is one trouble.
        let known = self
            .trouble
            .as_ref()
            .is_some_and(|t| t.time.0 >= pending.time.0 && t.kind == failure.class.as_str());
        if !known {
            let time = time::ceil(now.max(pending.time.0));
            self.count(failure.class.as_str(), Some(failure), tried, time);
        }
    }

    fn count(&mut self, kind: &str, failure: Option<&AwsFailure>, tried: String, time: Time) {
        // Of Enable and Update, each may refer to the other: only a count over all refusals of one try ends that.
        let before = self
            .trouble
            .as_ref()
            .filter(|t| t.tried == tried && (t.kind == FAILED) == (kind == FAILED));
        self.trouble = Some(Trouble {
            kind: kind.to_owned(),
            operation: failure.map(|f| f.operation.as_str().to_owned()),
            message: failure.map(AwsFailure::to_string).unwrap_or_default(),
            count: before.map_or(1, |t| t.count.saturating_add(1)),
            time,
            tried,
        });
    }

    /// What a description says about what was applied. True for a change of somebody else's that was not seen before.
    fn observe(&mut self, directory: &Directory, key: &DigestKey, now: Timestamp) -> bool {
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
        match (directory.radius_status, ours) {
            (Some(RadiusStatus::Completed), true) => {
                applied.completed_time.get_or_insert_with(|| time::floor(now));
                self.trouble.take_if(|trouble| trouble.kind == FAILED);
                self.drift.seen = None;
                self.drift.disabled = false;
            }
            // AWS is at it again, by whosoever's doing: nothing is complete until it says so.
            (Some(RadiusStatus::Creating), true) => {
                applied.completed_time = None;
                applied.servers_before.clear();
            }
            (Some(RadiusStatus::Failed), true) => {
                let known = self
                    .trouble
                    .as_ref()
                    .is_some_and(|t| t.kind == FAILED && t.time.0 >= applied.time.0);
                if !known {
                    let tried = fingerprint(key, &applied.settings, &applied.secret_digest);
                    self.count(FAILED, None, tried, time::floor(now));
                }
            }
            (None, _) if judged && applied.shown_time.is_none() => {
                // Taken and lost without ever having been described: as good as Failed. What was described once, Failed
                // or not, is gone only when somebody switches RADIUS off.
                let tried = fingerprint(key, &applied.settings, &applied.secret_digest);
                self.applied = None;
                self.count(FAILED, None, tried, time::floor(now));
            }
            (None, _) if judged && !self.drift.disabled => {
                self.drift.disabled = true;
                self.drift.seen = None;
                return true;
            }
            (Some(_), false) if judged && self.drift.seen != directory.radius_settings => {
                self.drift.seen.clone_from(&directory.radius_settings);
                self.drift.disabled = false;
                return true;
            }
            _ => {}
        }
        false
    }

    fn foreign_change(&mut self, generation: Option<i64>, now: Timestamp) {
        self.drift.generation = generation;
        self.drift.times.push(time::floor(now));
        if let [.., before, last] = self.drift.times.as_slice() {
            self.drift.times = vec![before.clone(), last.clone()];
        }
    }

    /// Whether AWS has yet to describe what was applied.
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

    /// A refusal counts no more once the directory is Active again: AWS may have refused because of the stage.
    pub(crate) fn retry_after_stage(
        &mut self,
        before: Option<&RadiusProxyStatus>,
        directory: Option<&Directory>,
    ) {
        let stage = before.and_then(|status| status.directory.as_ref()?.stage.as_deref());
        let was_other = stage.is_some_and(|stage| stage != ACTIVE);
        if was_other && directory.is_some_and(|directory| directory.stage == ACTIVE) {
            self.trouble.take_if(|trouble| trouble.kind != FAILED);
        }
    }

    /// Whether the last write repairs a changed secret and is not completed yet.
    pub(crate) fn repairs_secret(&self) -> bool {
        let last = self.last_write.as_ref().map(|last| &last.time);
        let applied = self.applied.as_ref();
        let completed = applied.is_some_and(|applied| applied.completed_time.is_some());
        let under_way = self.pending.is_some() || !completed;
        under_way && last.is_some() && last == self.drift.secret_repair_time.as_ref()
    }

    /// Whether what AWS describes is not what was applied.
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

    /// When the same may be tried again, and something else.
    pub(crate) fn retry_at(&self) -> Option<(Timestamp, Timestamp)> {
        let trouble = self.trouble.as_ref()?;
        let (same, other) = delays(trouble);
        Some((
            time::after(&trouble.time, same),
            time::after(&trouble.time, other),
        ))
    }

    /// The operation that AWS's last answer asks for instead.
    pub(crate) fn fallback(&self) -> Option<AwsOperation> {
        let trouble = self.trouble.as_ref()?;
        let operation = AwsOperation::from_name(trouble.operation.as_deref()?)?;
        match (operation, AwsErrorClass::from_label(&trouble.kind)?) {
            (AwsOperation::EnableRadius, AwsErrorClass::AlreadyExists | AwsErrorClass::Refused) => {
                Some(AwsOperation::UpdateRadius)
            }
            (AwsOperation::UpdateRadius, AwsErrorClass::NotFound | AwsErrorClass::Refused) => {
                Some(AwsOperation::EnableRadius)
            }
            _ => None,
        }
    }
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

/// How long to wait before the same is tried again, and before something else is.
fn delays(trouble: &Trouble) -> (Duration, Duration) {
    let seconds = Duration::from_secs;
    let doubling = |first: u64, most: u64| {
        let factor = 1_u64 << trouble.count.saturating_sub(1).min(16);
        seconds(first.saturating_mul(factor).min(most))
    };
    if trouble.kind == FAILED {
        // Each try blocks logins while AWS works on it.
        let same = match trouble.count {
            0 | 1 => 300,
            2 => 900,
            _ => 3600,
        };
        return (seconds(same), Duration::ZERO);
    }
    let Some(class) = AwsErrorClass::from_label(&trouble.kind) else {
        return (seconds(60), seconds(60));
    };
    match class {
        AwsErrorClass::NotSent => (seconds(5), seconds(5)),
        AwsErrorClass::Throttled => (doubling(5, 300), doubling(5, 300)),
        AwsErrorClass::NoCredentials
        | AwsErrorClass::InvalidCredentials
        | AwsErrorClass::AccessDenied
        | AwsErrorClass::Service
        | AwsErrorClass::Unreachable => (doubling(10, 300), doubling(10, 300)),
        // The other operation is tried at once, then both take their time.
        AwsErrorClass::NotFound | AwsErrorClass::AlreadyExists | AwsErrorClass::Refused
            if trouble.count <= 1 =>
        {
            (Duration::ZERO, Duration::ZERO)
        }
        AwsErrorClass::NotFound
        | AwsErrorClass::AlreadyExists
        | AwsErrorClass::Refused
        | AwsErrorClass::InvalidParameter
        | AwsErrorClass::Unsupported => (doubling(30, 600), seconds(10)),
    }
}
