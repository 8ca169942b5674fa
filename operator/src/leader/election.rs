//! Who leads, as a function of the Lease and the time. No clock is compared with another machine's: a Lease has expired
//! when this process hasn't seen it change for its duration.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;

/// A candidate.
#[derive(Debug)]
pub(crate) struct Election {
    identity: String,
    duration: Duration,
    seen: Option<Seen>,
}

/// The Lease as it last changed, and when that was noticed.
#[derive(Debug)]
struct Seen {
    resource_version: Option<String>,
    since: Instant,
}

/// What a candidate does next.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// Create the Lease with this spec.
    Create(LeaseSpec),
    /// Replace the spec, at the resource version that was read: another candidate's write in between is a conflict.
    Replace(LeaseSpec),
    /// Another one leads.
    Wait {
        /// Who.
        holder: String,
    },
}

impl Election {
    /// Two candidates never share an identity. The pod's name is enough: a container is restarted only after its previous
    /// process has ended.
    pub(crate) fn new(identity: String, duration: Duration) -> Self {
        Self {
            identity,
            duration,
            seen: None,
        }
    }

    /// How long a leader stays the leader without renewing its lease.
    pub(crate) const fn duration(&self) -> Duration {
        self.duration
    }

    /// Decides by the Lease that was just read.
    pub(crate) fn step(&mut self, lease: Option<&Lease>, now: Instant, wall: Timestamp) -> Step {
        let Some(lease) = lease else {
            self.seen = None;
            return Step::Create(self.acquired(&LeaseSpec::default(), wall));
        };
        let since = match &self.seen {
            Some(seen) if seen.resource_version == lease.metadata.resource_version => seen.since,
            _ => {
                self.seen = Some(Seen {
                    resource_version: lease.metadata.resource_version.clone(),
                    since: now,
                });
                now
            }
        };
        let empty = LeaseSpec::default();
        let spec = lease.spec.as_ref().unwrap_or(&empty);
        match spec.holder_identity.as_deref() {
            Some(holder) if holder == self.identity => Step::Replace(self.renewed(spec, wall)),
            Some(holder) if !holder.is_empty() && now < since + stated_duration(spec, self.duration) => {
                Step::Wait {
                    holder: holder.to_owned(),
                }
            }
            _ => Step::Replace(self.acquired(spec, wall)),
        }
    }

    /// Whether a Lease as it was read is this candidate's.
    pub(crate) fn holds(&self, lease: &Lease) -> bool {
        let holder = lease
            .spec
            .as_ref()
            .and_then(|spec| spec.holder_identity.as_deref());
        holder == Some(self.identity.as_str())
    }

    /// The spec that gives the lead up: nobody holds the Lease, so another candidate doesn't wait.
    pub(crate) fn released(&self, before: &LeaseSpec, wall: Timestamp) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            renew_time: Some(MicroTime(wall)),
            ..before.clone()
        }
    }

    fn renewed(&self, before: &LeaseSpec, wall: Timestamp) -> LeaseSpec {
        LeaseSpec {
            lease_duration_seconds: Some(whole_seconds(self.duration)),
            renew_time: Some(MicroTime(wall)),
            ..before.clone()
        }
    }

    fn acquired(&self, before: &LeaseSpec, wall: Timestamp) -> LeaseSpec {
        let first = before.holder_identity.is_none();
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            acquire_time: Some(MicroTime(wall)),
            lease_transitions: Some(
                before
                    .lease_transitions
                    .unwrap_or(0)
                    .saturating_add(i32::from(!first)),
            ),
            ..self.renewed(before, wall)
        }
    }
}

/// The duration that the Lease states. A missing or non-positive one wasn't written by the operator: its own is used instead.
fn stated_duration(spec: &LeaseSpec, own: Duration) -> Duration {
    match spec.lease_duration_seconds.map(u64::try_from) {
        Some(Ok(seconds)) if seconds > 0 => Duration::from_secs(seconds),
        _ => own,
    }
}

fn whole_seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    const TERM: Duration = Duration::from_secs(15);

    fn wall() -> Timestamp {
        Timestamp::from_second(1_700_000_000).unwrap()
    }

    fn lease(spec: LeaseSpec, version: &str) -> Lease {
        Lease {
            metadata: ObjectMeta {
                resource_version: Some(version.to_owned()),
                ..ObjectMeta::default()
            },
            spec: Some(spec),
        }
    }

    /// What the API server holds after a step.
    fn stored(step: Step, version: &str) -> Lease {
        match step {
            Step::Create(spec) | Step::Replace(spec) => lease(spec, version),
            Step::Wait { holder } => panic!("waits for {holder}"),
        }
    }

    fn candidate(name: &str) -> Election {
        Election::new(name.to_owned(), TERM)
    }

    #[test]
    fn the_first_candidate_leads_and_renews() {
        let (mut a, now) = (candidate("a"), Instant::now());
        let created = stored(a.step(None, now, wall()), "1");
        assert!(a.holds(&created));
        let renewed = stored(a.step(Some(&created), now + TERM * 9, wall()), "2");
        assert!(a.holds(&renewed));
        assert_eq!(renewed.spec.unwrap().lease_transitions, Some(0));
    }

    #[test]
    fn another_candidate_waits_until_the_lease_has_not_changed_for_its_duration() {
        let (mut a, mut b, now) = (candidate("a"), candidate("b"), Instant::now());
        let first = stored(a.step(None, now, wall()), "1");
        // However long ago it was written, b has only just seen it.
        assert!(
            matches!(b.step(Some(&first), now + TERM * 5, wall()), Step::Wait { holder } if holder == "a")
        );
        let renewed = stored(a.step(Some(&first), now + TERM * 5, wall()), "2");
        assert!(matches!(
            b.step(Some(&renewed), now + TERM * 6, wall()),
            Step::Wait { .. }
        ));
        let almost = now + TERM * 7 - Duration::from_millis(1);
        assert!(matches!(
            b.step(Some(&renewed), almost, wall()),
            Step::Wait { .. }
        ));
        let taken = stored(b.step(Some(&renewed), now + TERM * 7, wall()), "3");
        assert!(b.holds(&taken));
        assert_eq!(taken.spec.as_ref().unwrap().lease_transitions, Some(1));
        assert!(
            matches!(a.step(Some(&taken), now + TERM * 7, wall()), Step::Wait { holder } if holder == "b")
        );
    }

    #[test]
    fn a_released_lease_is_taken_at_once() {
        let (mut a, mut b, now) = (candidate("a"), candidate("b"), Instant::now());
        let held = stored(a.step(None, now, wall()), "1");
        let released = lease(a.released(held.spec.as_ref().unwrap(), wall()), "2");
        assert!(!a.holds(&released));
        let taken = stored(b.step(Some(&released), now, wall()), "3");
        assert!(b.holds(&taken));
    }

    #[test]
    fn a_restarted_container_of_the_same_pod_goes_on_leading() {
        let now = Instant::now();
        let held = stored(candidate("a").step(None, now, wall()), "1");
        assert!(matches!(
            candidate("a").step(Some(&held), now, wall()),
            Step::Replace(_)
        ));
    }

    #[test]
    fn a_lease_with_a_senseless_duration_runs_for_our_own() {
        let (mut b, now) = (candidate("b"), Instant::now());
        let odd = lease(
            LeaseSpec {
                holder_identity: Some("a".to_owned()),
                lease_duration_seconds: Some(-3),
                ..LeaseSpec::default()
            },
            "1",
        );
        assert!(matches!(b.step(Some(&odd), now, wall()), Step::Wait { .. }));
        assert!(matches!(b.step(Some(&odd), now + TERM, wall()), Step::Replace(_)));
    }
}
