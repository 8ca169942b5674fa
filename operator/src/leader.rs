//! The leader's Lease: two replicas run, one writes.

mod election;

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;

use crate::error::words;
use crate::health::Beat;
use election::{Election, Step};

/// Kept back from a lease's end: clocks run at slightly different speeds, and an answer takes its way.
const MARGIN: Duration = Duration::from_secs(1);

/// Whether this replica leads, for all who act. Clones see the same.
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
    /// Leads without a Lease, for a single replica. The sender is kept by the caller for as long as it leads.
    pub(crate) fn without_election() -> (Self, Keeper) {
        let (sender, until) = watch::channel(Term::Forever);
        (Self { until }, Keeper(sender))
    }

    /// How long this replica leads for certain if it renews no more; `None` when it does not lead. An AWS call's
    /// deadline is shorter than this, so that no other leader writes while it is under way.
    pub(crate) fn remaining(&self, now: Instant) -> Option<Duration> {
        match *self.until.borrow() {
            Term::None => None,
            Term::Forever => Some(Duration::MAX),
            Term::Until(end) => end.checked_duration_since(now).filter(|left| !left.is_zero()),
        }
    }

    /// Whether this replica leads now.
    pub(crate) fn leads(&self) -> bool {
        self.remaining(Instant::now()).is_some()
    }

    /// Returns when the lead was won, renewed or given up. Never returns when nothing will change any more.
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
pub(crate) struct Keeper(
    #[cfg_attr(not(test), expect(dead_code, reason = "held for its drop"))] watch::Sender<Term>,
);

#[cfg(test)]
impl Keeper {
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
    /// Whether the last round reached the API server.
    well: bool,
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
            well: true,
        };
        (candidate, Leadership { until })
    }

    /// Acquires and renews until `stop` is done, then gives the lead up.
    pub(crate) async fn run(mut self, beat: Beat, stop: impl Future<Output = ()>) {
        // client-go's proportions: a lease of 15 s is renewed every 2 s, and a call to the API server is given 5 s.
        let pause = self.election.duration() / 7;
        let deadline = self.election.duration() / 3;
        tokio::pin!(stop);
        loop {
            beat.now();
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
        let failed = match tokio::time::timeout(deadline, self.round(Instant::now())).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(words(&error)),
            Err(_) => Some(format!("no answer within {} s", deadline.as_secs())),
        };
        self.tell(failed);
    }

    /// An API server that is away fails every round: only the first is told.
    fn tell(&mut self, failed: Option<String>) {
        let well = failed.is_none();
        match failed {
            Some(error) if self.well => tracing::warn!(error, "could not take part in the leader election"),
            Some(error) => tracing::debug!(error, "still cannot take part in the leader election"),
            None if !self.well => tracing::info!("taking part in the leader election again"),
            None => {}
        }
        self.well = well;
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
                    error = words(&error),
                    "could not give the lead up; the lease runs out by itself"
                );
            }
            Err(_) => tracing::warn!("the API server did not answer in time; the lease runs out by itself"),
        }
    }

    /// One look at the Lease and at most one write. What is promised counts from before the write was sent: another
    /// candidate cannot have seen it earlier.
    async fn round(&mut self, started: Instant) -> Result<(), kube::Error> {
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
            // Another candidate was quicker: the next round sees it.
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
