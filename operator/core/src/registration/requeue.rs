//! When to reconcile a registration again.

use std::time::Duration;

use jiff::Timestamp;

use super::decide::{Decision, DescribeNext, FRESH_AFTER_ANSWER};
use super::record::RegistrationRecord;
use crate::api::AppliedSettings;
use crate::conditions::ConditionDraft;
use crate::observed::{Directory, RadiusStatus};
use crate::time;

/// The longest time between two reconciliations.
pub(super) const RESYNC_INTERVAL: Duration = Duration::from_secs(600);
/// The time between two reconciliations while registration is blocked.
pub(super) const BLOCKED_INTERVAL: Duration = Duration::from_secs(15);
/// The time between two descriptions while AWS works on a write.
pub(super) const WRITE_POLL_INTERVAL: Duration = Duration::from_secs(3);

/// When to reconcile again, and how old the description may be then.
pub(super) fn times(
    record: &RegistrationRecord,
    directory: Option<&Directory>,
    described: &ConditionDraft,
    decision: &Decision,
    now: Timestamp,
) -> (Duration, Duration) {
    if decision.write.is_some() {
        return (Duration::from_secs(1), Duration::from_secs(1));
    }
    if decision.describe_next != DescribeNext::Due {
        return (Duration::from_millis(100), FRESH_AFTER_ANSWER);
    }
    let since = record
        .applied
        .as_ref()
        .map_or(Timestamp::MIN, |applied| applied.time.0);
    let reports = |status| {
        directory.is_some_and(|directory| directory.radius_status == Some(status) && directory.as_of >= since)
    };
    let incomplete = |applied: &AppliedSettings| applied.completed_time.is_none();
    let working = described.is_true()
        && (record.pending.is_some()
            || directory.is_some_and(|directory| record.awaits_description(directory))
            || reports(RadiusStatus::Creating)
            || (record.applied.as_ref().is_some_and(incomplete)
                && !record.drifted()
                && !reports(RadiusStatus::Failed)));
    let mut requeue = if working {
        WRITE_POLL_INTERVAL
    } else {
        RESYNC_INTERVAL
    };
    let mut describe = if working {
        WRITE_POLL_INTERVAL
    } else {
        Duration::MAX
    };
    if !described.is_true() {
        requeue = requeue.min(BLOCKED_INTERVAL);
        describe = BLOCKED_INTERVAL;
    }
    if let Some(again) = decision.again {
        // Not at once: what is due now was decided now.
        requeue = requeue.min(time::until(now, again).max(Duration::from_secs(1)));
    }
    (requeue, describe)
}
