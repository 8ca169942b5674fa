//! The shared secret was changed at AWS, as the directory's requests show. It is reported, and written back where the drift
//! policy says so, at most once an hour: packets can be forged, and each write blocks logins.

use std::time::Duration;

use jiff::Timestamp;

use super::WriteReason;
use super::decide::{Context, Decision};
use super::difference::Difference;
use crate::api::{DriftPolicy, ReportedMismatch};
use crate::conditions::{ConditionStatus, Reason};
use crate::observed::RadiusStatus;
use crate::time;

/// The time from one repair to the next.
const BETWEEN_REPAIRS: Duration = Duration::from_secs(3600);

/// The next step, for as long as the change is reported.
pub(super) const FIND_OUT: &str = "Find out who changed it (CloudTrail: UpdateRadius, EnableRadius)";

/// The mismatch that the proxies report, if it is about the secret that AWS was given last.
pub(super) fn credible<'a>(context: &Context<'a>) -> Option<&'a ReportedMismatch> {
    let mismatch = context.desired.secret_mismatch.as_ref()?;
    let applied = context.record.applied.as_ref()?;
    let completed = applied.completed_time.as_ref()?;
    let rests = context.record.pending.is_none()
        && !context.record.drifted()
        && context.directory.radius_status == Some(RadiusStatus::Completed);
    (rests && applied.secret_digest == context.secret.digest && mismatch.since.0 >= completed.0)
        .then_some(mismatch)
}

/// The write that ends it.
pub(super) fn repair(context: &Context<'_>, mismatch: &ReportedMismatch) -> Option<Difference> {
    let waits = next_repair(context).is_some_and(|next| context.now < next);
    let writes = mismatch.recent && !waits && context.desired.drift_policy != DriftPolicy::Report;
    writes.then(|| Difference::now(WriteReason::SecretMismatch, found(mismatch)))
}

fn next_repair(context: &Context<'_>) -> Option<Timestamp> {
    let last = context.record.drift.secret_repair_time.as_ref()?;
    Some(time::after(last, BETWEEN_REPAIRS))
}

/// What the condition says while nothing is written.
pub(super) fn report(context: &Context<'_>, mut decision: Decision, mismatch: &ReportedMismatch) -> Decision {
    let next = next_repair(context).filter(|next| context.now < *next);
    let outlook = if context.desired.drift_policy == DriftPolicy::Report {
        "The operator leaves it (spec.directory.driftPolicy: Report). Set driftPolicy: Repair, or set the shared \
         secret of spec.sharedSecretRef at AWS"
            .to_owned()
    } else if let Some(next) = next {
        decision = decision.until(next);
        format!(
            "The operator wrote it back less than an hour ago; the next time is {} at the earliest",
            time::clock(next)
        )
    } else {
        "The operator writes it back when another request fails".to_owned()
    };
    decision.condition.status = ConditionStatus::False;
    decision.condition.reason = Reason::SecretMismatch;
    decision.condition.message = format!("{}. {outlook}", found(mismatch));
    decision
}

/// The same as an addition to another reason.
pub(super) fn besides(mismatch: &ReportedMismatch) -> String {
    format!("In addition, {}.", found(mismatch))
}

/// What is wrong, and what to check.
fn found(mismatch: &ReportedMismatch) -> String {
    format!(
        "somebody seems to have changed the shared secret at AWS: since {} every request of {} fails under the secrets that \
         the proxies have, and none was verified. {FIND_OUT}; if nobody did, see whether \
         something on the way alters packets or sends them with the directory's addresses",
        time::clock(mismatch.since.0),
        mismatch.addresses.join(", ")
    )
}
