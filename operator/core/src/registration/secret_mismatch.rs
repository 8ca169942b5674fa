//! The shared secret was changed at AWS, as the directory's requests show: it is told, and written back where the drift
//! policy says so, once an hour at most. Packets can be forged, and each write blocks logins.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use super::decide::{Case, Verdict};
use super::difference::Difference;
use super::ledger::Ledger;
use crate::api::DriftPolicy;
use crate::conditions::{Reason, Truth};
use crate::directory_client::{Mismatch, mismatch};
use crate::input::RadiusStatus;
use crate::plan::WriteReason;
use crate::rotation::secret_digest;
use crate::time;

/// The time from one repair to the next.
const BETWEEN_REPAIRS: Duration = Duration::from_secs(3600);

impl Case<'_> {
    /// Whether AWS holds another secret than the one that it was given last.
    pub(super) fn secret_mismatch(&self, ledger: &Ledger) -> Option<Mismatch> {
        let applied = ledger.applied.as_ref()?;
        let completed = applied.completed_time.as_ref()?;
        let current = applied.secret_digest == secret_digest(self.key, &self.pair.current);
        let rests = ledger.pending.is_none()
            && !ledger.drifted()
            && self.directory.radius_status == Some(RadiusStatus::Completed);
        if !(current && rests) {
            return None;
        }
        let timeout = Duration::from_secs(self.spec.timeout_seconds.into());
        let clients = &self.directory.client_addresses;
        mismatch(self.reports, clients, completed.0, timeout, self.now)
    }

    /// The write that ends it.
    pub(super) fn repair_of_secret(&self, mismatch: &Mismatch, ledger: &Ledger) -> Option<Difference> {
        let waits = self.next_repair(ledger).is_some_and(|next| self.now < next);
        let writes = mismatch.recent && !waits && self.spec.drift_policy != DriftPolicy::Report;
        writes.then(|| Difference {
            reason: WriteReason::SecretMismatch,
            words: found(mismatch),
            due: None,
        })
    }

    fn next_repair(&self, ledger: &Ledger) -> Option<Timestamp> {
        let last = ledger.drift.secret_repair_time.as_ref()?;
        Some(time::after(last, BETWEEN_REPAIRS))
    }

    /// What people are told while nothing is written.
    pub(super) fn tell_mismatch(&self, verdict: &mut Verdict, mismatch: &Mismatch, ledger: &Ledger) {
        let next = self.next_repair(ledger).filter(|next| self.now < *next);
        let outlook = if self.spec.drift_policy == DriftPolicy::Report {
            "spec.directory.driftPolicy: Report leaves it so. Set driftPolicy: Repair, or set the shared secret of \
             spec.sharedSecretRef at AWS"
                .to_owned()
        } else if let Some(next) = next {
            verdict.again = Some(verdict.again.map_or(next, |again| again.min(next)));
            format!(
                "It was written back less than an hour ago; the next time is {} at the earliest",
                time::clock(next)
            )
        } else {
            "It is written back when another request fails".to_owned()
        };
        verdict.condition.truth = Truth::False;
        verdict.condition.reason = Reason::SecretMismatch;
        verdict.condition.message = format!("{}. {outlook}", found(mismatch));
    }
}

/// The same beside another reason.
pub(super) fn besides(mismatch: &Mismatch) -> String {
    format!("Besides, {}.", found(mismatch))
}

/// What is the matter, and what to look at.
fn found(mismatch: &Mismatch) -> String {
    let addresses: Vec<String> = mismatch.addresses.iter().map(IpAddr::to_string).collect();
    format!(
        "somebody seems to have changed the shared secret at AWS: since {} every request of {} fails under the secrets that \
         the proxies have, and none was verified. Find out who changed it (CloudTrail: UpdateRadius, EnableRadius); if nobody \
         did, see whether something on the way alters packets or sends them with the directory's addresses",
        time::clock(mismatch.since),
        addresses.join(", ")
    )
}
