//! Which operator works on a RadiusProxy, where two releases watch the same namespace.
//!
//! The one that works signs the status and confirms it at least every ten minutes. Another one that finds a fresh
//! signature touches nothing but an annotation, which the first one shows to people.

use std::time::Duration;

use jiff::Timestamp;

use super::RolloutPlan;
use crate::api::RadiusProxy;
use crate::names::SECOND_OPERATOR_ANNOTATION;
use crate::observed::RolloutInput;
use crate::time;

/// A status is confirmed when it is this old.
const CONFIRM_AFTER: Duration = Duration::from_secs(600);
/// An operator that has confirmed nothing for this long is gone.
const STALE_AFTER: Duration = Duration::from_secs(1200);
/// How long a Lease may be without a leader: replicas of one release hand it over in seconds.
const LEADERLESS_FOR: Duration = Duration::from_secs(60);

/// What the Lease of another operator says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseState {
    /// It can't be read, or the operator runs without an election.
    Unknown,
    /// It was deleted, as with its release.
    Absent,
    /// It ran out, or was given up, at this time; or it will then.
    Until(Timestamp),
}

/// The other operator that signed the status of this RadiusProxy, unless its signature is stale.
#[must_use]
pub fn other<'a>(proxy: &'a RadiusProxy, own: &str, now: Timestamp) -> Option<&'a str> {
    let status = proxy.status.as_ref()?;
    let signed = status.operator.as_deref().filter(|signed| *signed != own)?;
    let confirmed = status.last_refresh_time.as_ref()?;
    (now < time::after(confirmed, STALE_AFTER)).then_some(signed)
}

/// Whether the other operator still works, by its Lease.
#[must_use]
pub fn is_at_work(lease: LeaseState, now: Timestamp) -> bool {
    match lease {
        LeaseState::Unknown => true,
        LeaseState::Absent => false,
        LeaseState::Until(end) => now < time::later(end, LEADERLESS_FOR),
    }
}

/// The new value of the annotation by which an operator that holds makes itself known, when it is time to write it.
#[must_use]
pub fn notice(proxy: &RadiusProxy, own: &str, now: Timestamp) -> Option<String> {
    let fresh = written(proxy)
        .is_some_and(|(operator, time)| operator == own && now < time::later(time, CONFIRM_AFTER));
    (!fresh).then(|| format!("{own} {}", time::floor(now).0))
}

/// The message about a second operator.
pub(super) fn second(input: &RolloutInput, now: Timestamp) -> Option<String> {
    let (operator, time) = written(&input.proxy)?;
    let fresh = now < time::later(time, STALE_AFTER);
    (fresh && operator != input.settings.operator).then(|| {
        format!(
            "The operator {operator} (namespace/Lease) watches this RadiusProxy too. It does nothing, because {} \
             works on it. Uninstall one of the two releases, or give them different watchNamespaces.",
            input.settings.operator
        )
    })
}

fn written(proxy: &RadiusProxy) -> Option<(&str, Timestamp)> {
    let annotations = proxy.metadata.annotations.as_ref()?;
    let (operator, time) = annotations.get(SECOND_OPERATOR_ANNOTATION)?.split_once(' ')?;
    Some((operator, time.parse().ok()?))
}

/// Signs the status, and has it confirmed before it is old.
pub(super) fn sign(plan: &mut RolloutPlan, input: &RolloutInput, now: Timestamp) {
    let before = input.proxy.status.as_ref();
    let last = before.and_then(|status| status.last_refresh_time.clone());
    plan.status.operator = Some(input.settings.operator.clone());
    plan.status.last_refresh_time.clone_from(&last);
    let due = last.as_ref().map(|last| time::after(last, CONFIRM_AFTER));
    let due = due.filter(|due| now < *due && before == Some(&plan.status));
    if due.is_none() {
        plan.status.last_refresh_time = Some(time::floor(now));
    }
    let due = due.unwrap_or_else(|| time::later(now, CONFIRM_AFTER));
    plan.requeue_after = plan
        .requeue_after
        .min(time::until(now, due).max(Duration::from_secs(1)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_whose_lease_was_given_up_is_gone_after_a_minute() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(is_at_work(LeaseState::Until(at(100)), at(159)));
        assert!(!is_at_work(LeaseState::Until(at(100)), at(160)));
        assert!(is_at_work(LeaseState::Unknown, at(160)));
        assert!(!is_at_work(LeaseState::Absent, at(100)));
    }
}
