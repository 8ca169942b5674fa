//! Leader election by a Lease: of several replicas, one works.

mod election;

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;

use crate::error::message;
use crate::health::Heartbeat;
use election::{Election, Step};

/// The shortest lease that leaves room for a write to AWS between two renewals.
pub(crate) const MIN_LEASE_SECONDS: u32 = 10;
/// A leader stops this long before its lease ends: clocks run at slightly different speeds, and answers take time.
const MARGIN: Duration = Duration::from_secs(1);
/// client-go's proportions: a lease of 15 s is renewed every 2 s, and a call to the API server may take 5 s.
const RENEWALS_PER_LEASE: u32 = 7;
const CALLS_PER_LEASE: u32 = 3;

/// A write to AWS may take this long, and less if the lease ends sooner.
const MAX_WRITE: Duration = Duration::from_secs(10);
/// Kept between the end of a write and the end of the lease.
const WRITE_RESERVE: Duration = Duration::from_secs(1);
/// No write is begun with less left of the lease: its status has to be written, and AWS needs time to answer.
const MIN_LEFT_FOR_WRITE: Duration = Duration::from_secs(5);

// With the shortest lease, a write can be begun just before a fast renewal and just after the slowest one, and has time to end.
const _: () = {
    let lease = MIN_LEASE_SECONDS as u128 * 1000;
    let term = lease - MARGIN.as_millis();
    let needed = MIN_LEFT_FOR_WRITE.as_millis();
    assert!(term - lease / RENEWALS_PER_LEASE as u128 >= needed);
    assert!(term - lease / CALLS_PER_LEASE as u128 >= needed);
    assert!(needed >= 4 * WRITE_RESERVE.as_millis());
    assert!(needed <= (MAX_WRITE.as_millis() + WRITE_RESERVE.as_millis()));
};

/// Whether this replica leads. Clones share the state.
#[derive(Debug, Clone)]
pub(crate) struct Leadership {
    until: watch::Receiver<Term>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Term {
    None,
    Until(Instant),
    Forever,
}

impl Leadership {
    /// Leads without a Lease, for a single replica. The caller keeps the guard for as long as it leads.
    pub(crate) fn without_election() -> (Self, LeaseGuard) {
        let (sender, until) = watch::channel(Term::Forever);
        (Self { until }, LeaseGuard(sender))
    }

    /// How long this replica leads for certain if it can't renew the lease; `None` if it isn't the leader.
    fn remaining(&self, now: Instant) -> Option<Duration> {
        match *self.until.borrow() {
            Term::None => None,
            Term::Forever => Some(Duration::MAX),
            Term::Until(end) => end.checked_duration_since(now).filter(|left| !left.is_zero()),
        }
    }

    /// Whether enough is left of the lease to begin a write to AWS.
    pub(crate) fn may_begin_write(&self, now: Instant) -> bool {
        self.remaining(now).is_some_and(|left| left >= MIN_LEFT_FOR_WRITE)
    }

    /// How long a write to AWS that is sent now may take, so that no two leaders write at once. `None` if too little is left
    /// of the lease.
    pub(crate) fn write_deadline(&self, now: Instant) -> Option<Duration> {
        let left = self.remaining(now)?.saturating_sub(WRITE_RESERVE);
        (left >= WRITE_RESERVE).then_some(left.min(MAX_WRITE))
    }

    /// Whether this replica leads now.
    pub(crate) fn leads(&self) -> bool {
        self.remaining(Instant::now()).is_some()
    }

    /// Returns when the lead is won, renewed or given up. Never returns if the guard or the candidate is gone.
    pub(crate) async fn changed(&mut self) {
        if self.until.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns when this replica doesn't lead, at the latest when its lease ends.
    pub(crate) async fn lost(&mut self) {
        while let Some(left) = self.remaining(Instant::now()) {
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                () = self.changed() => {}
            }
        }
    }
}

/// Keeps the channel of a [`Leadership`] open.
#[derive(Debug)]
pub(crate) struct LeaseGuard(
    #[cfg_attr(not(test), expect(dead_code, reason = "held for its drop"))] watch::Sender<Term>,
);

#[cfg(test)]
impl LeaseGuard {
    /// The lease is lost.
    pub(crate) fn depose(&self) {
        self.0.send_replace(Term::None);
    }

    /// The lease is not renewed any more.
    pub(crate) fn let_run_out(&self, left: Duration) {
        self.0.send_replace(Term::Until(Instant::now() + left));
    }

    /// The lease is won.
    pub(crate) fn elect(&self) {
        self.0.send_replace(Term::Forever);
    }
}

/// Takes part in the election.
pub(crate) struct Candidate {
    leases: Api<Lease>,
    name: String,
    identity: String,
    election: Election,
    term: watch::Sender<Term>,
    /// Whether the last attempt reached the API server.
    reachable: bool,
}

impl Candidate {
    /// A candidate for the Lease `name` in `namespace`.
    pub(crate) fn new(
        client: Client,
        namespace: &str,
        name: String,
        identity: String,
        duration: Duration,
    ) -> (Self, Leadership) {
        let (term, until) = watch::channel(Term::None);
        let candidate = Self {
            leases: Api::namespaced(client, namespace),
            name,
            identity: identity.clone(),
            election: Election::new(identity, duration),
            term,
            reachable: true,
        };
        (candidate, Leadership { until })
    }

    /// Acquires and renews the lease until `stop` completes, then gives the lead up.
    pub(crate) async fn run(mut self, heartbeat: Heartbeat, stop: impl Future<Output = ()>) {
        let pause = self.election.duration() / RENEWALS_PER_LEASE;
        let deadline = self.election.duration() / CALLS_PER_LEASE;
        tokio::pin!(stop);
        loop {
            heartbeat.beat();
            self.bounded_round(deadline).await;
            self.step_down_when_over();
            tokio::select! {
                () = &mut stop => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.give_up(deadline).await;
    }

    async fn bounded_round(&mut self, deadline: Duration) {
        let failed = match tokio::time::timeout(deadline, self.attempt(Instant::now())).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(message(&error)),
            Err(_) => Some(format!("no answer within {} s", deadline.as_secs())),
        };
        self.log_outcome(failed);
    }

    /// Logs the first failed attempt only, as an unreachable API server fails every attempt.
    fn log_outcome(&mut self, failed: Option<String>) {
        let reachable = failed.is_none();
        match failed {
            Some(error) if self.reachable => {
                tracing::warn!(error, "could not take part in the leader election");
            }
            Some(error) => tracing::debug!(error, "still cannot take part in the leader election"),
            None if !self.reachable => tracing::info!("taking part in the leader election again"),
            None => {}
        }
        self.reachable = reachable;
    }

    async fn give_up(&self, deadline: Duration) {
        let led = self.leads();
        self.set(Term::None);
        if !led {
            return;
        }
        match tokio::time::timeout(deadline, self.release()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(
                    error = message(&error),
                    "could not give the lead up; the lease runs out by itself"
                );
            }
            Err(_) => tracing::warn!("the API server did not answer in time; the lease runs out by itself"),
        }
    }

    /// Reads the Lease and writes it at most once. The term counts from before the write was sent: another candidate can't
    /// have seen it earlier.
    async fn attempt(&mut self, started: Instant) -> Result<(), kube::Error> {
        let found = self.leases.get_opt(&self.name).await?;
        let written = match self
            .election
            .step(found.as_ref(), Instant::now(), Timestamp::now())
        {
            Step::Create(spec) => {
                let lease = Lease {
                    metadata: ObjectMeta {
                        name: Some(self.name.clone()),
                        ..ObjectMeta::default()
                    },
                    spec: Some(spec),
                };
                self.leases.create(&PostParams::default(), &lease).await
            }
            Step::Replace(spec) => {
                let lease = Lease {
                    spec: Some(spec),
                    ..found.unwrap_or_default()
                };
                self.leases
                    .replace(&self.name, &PostParams::default(), &lease)
                    .await
            }
            Step::Wait { holder } => {
                if self.leads() {
                    tracing::warn!(leader = holder, "another replica leads now");
                    self.set(Term::None);
                }
                return Ok(());
            }
        };
        match written {
            Ok(lease) if self.election.holds(&lease) => {
                if !self.leads() {
                    tracing::info!(identity = self.identity, lease = self.name, "this replica leads");
                }
                self.set(Term::Until(
                    started + self.election.duration().saturating_sub(MARGIN),
                ));
                Ok(())
            }
            Ok(_) => Ok(()),
            // Another candidate was faster. The next attempt sees it.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn release(&self) -> Result<(), kube::Error> {
        let Some(found) = self.leases.get_opt(&self.name).await? else {
            return Ok(());
        };
        if !self.election.holds(&found) {
            return Ok(());
        }
        let before = found.spec.clone().unwrap_or_else(LeaseSpec::default);
        let lease = Lease {
            spec: Some(self.election.released(&before, Timestamp::now())),
            ..found
        };
        self.leases
            .replace(&self.name, &PostParams::default(), &lease)
            .await?;
        tracing::info!(lease = self.name, "gave the lead up");
        Ok(())
    }

    fn leads(&self) -> bool {
        !matches!(*self.term.borrow(), Term::None)
    }

    fn step_down_when_over(&self) {
        let over = matches!(*self.term.borrow(), Term::Until(end) if end <= Instant::now());
        if over {
            tracing::warn!(
                lease = self.name,
                "the leader's lease ran out; this replica writes nothing until it leads again"
            );
            self.set(Term::None);
        }
    }

    fn set(&self, term: Term) {
        self.term.send_replace(term);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_ends_before_the_lease_does_and_none_is_begun_shortly_before_that() {
        let now = Instant::now();
        let left = |seconds| {
            let (_, until) = watch::channel(Term::Until(now + Duration::from_secs(seconds)));
            let leadership = Leadership { until };
            (leadership.may_begin_write(now), leadership.write_deadline(now))
        };
        let seconds = Duration::from_secs;
        assert_eq!(left(60), (true, Some(MAX_WRITE)));
        assert_eq!(left(6), (true, Some(seconds(5))));
        assert_eq!(left(4), (false, Some(seconds(3))));
        assert_eq!(left(1), (false, None));
        assert_eq!(left(0), (false, None));
    }
}
