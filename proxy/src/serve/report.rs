//! The report to Kubernetes: which configuration this pod runs and what it has observed of the directory, as annotations
//! of its Lease.
//!
//! The operator creates the Lease and reads it. The pod may read and patch it. Logins don't need the API server.
//!
//! A pod that was deleted by force may still run on a lost node, under the same name as its successor. It can't overwrite
//! the successor's report: its token is bound to its UID, and the API server refuses it once the pod is gone.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proxy_config::ConfigDigest;
use proxy_config::observed::{MAX_BYTES, Observed};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::kubernetes::ApiServer;
use crate::provider::fault::{Fault, FaultClass};

mod rate_limiter;

pub(crate) use rate_limiter::Observation;
use rate_limiter::RateLimiter;

/// Annotation: the digest of the running configuration.
const DIGEST: &str = "radius-mfa.dev/config-digest";
/// Annotation: the program's version.
const VERSION: &str = "radius-mfa.dev/version";
/// Annotation: what an administrator has to fix, one of a closed set of words; absent if there is nothing.
const PROBLEM: &str = "radius-mfa.dev/problem";
/// The provider refuses the proxy's own credentials.
const PROVIDER_CREDENTIALS: &str = "provider_credentials";
/// Annotation: the UID of the pod that reported.
const POD_UID: &str = "radius-mfa.dev/pod-uid";
/// Annotation: observations of the directory as a RADIUS client.
const OBSERVED: &str = "radius-mfa.dev/observed";
const GROUP: [&str; 3] = ["apis", "coordination.k8s.io", "v1"];
const MIN_BACK_OFF: Duration = Duration::from_secs(1);
const MAX_BACK_OFF: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(10);
const INTERVALS: Intervals = Intervals {
    report: Duration::from_secs(600),
    check: Duration::from_secs(60),
};

/// What is reported.
pub(super) struct Sources {
    pub(super) digests: watch::Receiver<ConfigDigest>,
    /// Whether the provider refuses the proxy's credentials.
    pub(super) refused: watch::Receiver<bool>,
    pub(super) observed: watch::Receiver<Observation>,
}

/// Where to report.
pub(super) struct Report {
    api: ApiServer,
    lease: String,
    pod: String,
    /// The pod's UID, which distinguishes it from a successor of the same name.
    holder: Option<String>,
}

impl Report {
    /// From `POD_NAME`, `REPORT_LEASE` (its name), `POD_UID` and what [`ApiServer::from_environment`] needs; `None`
    /// outside Kubernetes.
    pub(super) fn from_environment() -> Option<Self> {
        let of = |name| {
            std::env::var(name)
                .ok()
                .filter(|value: &String| !value.is_empty())
        };
        Some(Self {
            pod: of("POD_NAME")?,
            lease: of("REPORT_LEASE")?,
            holder: of("POD_UID"),
            api: ApiServer::from_environment()?,
        })
    }

    /// Reports each digest, whether the provider refuses the proxy's credentials, and what was observed of the
    /// directory. Reports again every ten minutes, and within a minute if the Lease has lost the report.
    pub(super) async fn run(self, sources: Sources) {
        self.run_with(INTERVALS, sources).await;
    }

    async fn run_with(self, intervals: Intervals, sources: Sources) {
        let this = &self;
        let send = |digest: ConfigDigest, is_refused, observed: Observed| async move {
            this.send(&digest, is_refused, &observed).await?;
            tracing::debug!(pod = %this.pod, config_digest = %digest, "reported");
            Ok(())
        };
        let is_kept = |digest: ConfigDigest| async move { this.is_kept(&digest).await };
        report(intervals, sources, send, is_kept).await;
    }

    async fn send(&self, digest: &ConfigDigest, is_refused: bool, observed: &Observed) -> Result<(), Fault> {
        let holder = self.holder.as_deref();
        let patch = patch(digest, is_refused, observed, holder, SystemTime::now());
        match self
            .api
            .patch(&GROUP, "leases", &self.lease, patch, TIMEOUT)
            .await?
        {
            Some(_) => Ok(()),
            None => Err(Fault::after_sending(
                FaultClass::ClientError,
                "the API server answered 409",
            )),
        }
    }

    /// Whether the Lease still has this pod's report: it may have been deleted and created again, or restored.
    async fn is_kept(&self, digest: &ConfigDigest) -> Result<bool, Fault> {
        let answer = self.api.read(&GROUP, "leases", &self.lease, TIMEOUT).await?;
        let lease: serde_json::Value = serde_json::from_slice(&answer.body).map_err(|_| {
            Fault::after_sending(FaultClass::Malformed, "the API server's answer is no Lease")
        })?;
        let has = |annotation: &str, value: &str| {
            lease
                .pointer("/metadata/annotations")
                .and_then(|annotations| annotations.get(annotation))
                .is_some_and(|found| found == value)
        };
        Ok(has(DIGEST, digest.as_str()) && self.holder.as_deref().is_none_or(|holder| has(POD_UID, holder)))
    }
}

/// How often something is done.
#[derive(Debug, Clone, Copy)]
struct Intervals {
    /// A report is sent again.
    report: Duration,
    /// The Lease is read, to see whether it still has the report.
    check: Duration,
}

/// Why waiting has ended.
enum Wake {
    /// A report is due.
    Report,
    /// The Lease is to be checked.
    Check,
    /// Nothing will be reported any more.
    Closed,
}

/// Sends a report at the beginning, with every change of digest or credentials, when an observation is due, at each
/// interval, and when the Lease has lost it.
async fn report<S: Future<Output = Result<(), Fault>>, K: Future<Output = Result<bool, Fault>>>(
    intervals: Intervals,
    mut sources: Sources,
    send: impl Fn(ConfigDigest, bool, Observed) -> S,
    is_kept: impl Fn(ConfigDigest) -> K,
) {
    let mut back_off = MIN_BACK_OFF;
    let mut limiter = RateLimiter::new(Instant::now());
    loop {
        let digest = sources.digests.borrow_and_update().clone();
        let is_refused = *sources.refused.borrow_and_update();
        let observation = sources.observed.borrow_and_update().clone();
        let wait = match send(digest.clone(), is_refused, observation.observed.clone()).await {
            Ok(()) => {
                back_off = MIN_BACK_OFF;
                limiter.reported(Instant::now(), observation);
                intervals.report
            }
            Err(error) => {
                tracing::warn!(%error, retry_in = ?back_off, "the running configuration could not be reported");
                limiter.failed(Instant::now() + back_off);
                let wait = back_off;
                back_off = back_off.saturating_mul(2).min(MAX_BACK_OFF);
                wait
            }
        };
        let again = Instant::now() + wait;
        loop {
            match sources
                .next(&limiter, again, Instant::now() + intervals.check)
                .await
            {
                Wake::Closed => return,
                Wake::Report => break,
                Wake::Check => match is_kept(digest.clone()).await {
                    Ok(true) => {}
                    Ok(false) => {
                        tracing::info!("the pod's Lease has lost its report; reporting again");
                        break;
                    }
                    Err(error) => tracing::debug!(%error, "the pod's Lease could not be read"),
                },
            }
        }
    }
}

impl Sources {
    /// Waits until there is something to report, at the latest until `again`, or until `check`.
    async fn next(&mut self, limiter: &RateLimiter, again: Instant, check: Instant) -> Wake {
        let changed = |closed: bool| if closed { Wake::Closed } else { Wake::Report };
        loop {
            let due = limiter.due(&self.observed.borrow_and_update());
            let until = due.map_or(again, |due| due.min(again));
            tokio::select! {
                () = tokio::time::sleep_until(until) => return Wake::Report,
                () = tokio::time::sleep_until(check) => return Wake::Check,
                digest = self.digests.changed() => return changed(digest.is_err()),
                refused = self.refused.changed() => return changed(refused.is_err()),
                observed = self.observed.changed() => if observed.is_err() { return Wake::Closed },
            }
        }
    }
}

/// As JSON of [`MAX_BYTES`] at most: the addresses that asked longest ago are left out. `None` when there is nothing.
fn observed_json(observed: &Observed) -> Option<String> {
    let mut observed = observed.clone();
    loop {
        if observed.is_empty() {
            return None;
        }
        let json = serde_json::to_string(&observed).ok()?;
        if json.len() <= MAX_BYTES {
            return Some(json);
        }
        let oldest = observed
            .addresses
            .iter()
            .min_by_key(|(_, address)| address.last_request)
            .map(|(address, _)| *address);
        match oldest {
            Some(oldest) => observed.addresses.remove(&oldest),
            None => return None,
        };
    }
}

fn patch(
    digest: &ConfigDigest,
    is_refused: bool,
    observed: &Observed,
    holder: Option<&str>,
    now: SystemTime,
) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let time = jiff::Timestamp::from_second(i64::try_from(seconds).unwrap_or_default()).unwrap_or_default();
    let renewed = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z").to_string();
    // Null takes an annotation away (RFC 7396).
    let problem = is_refused.then_some(PROVIDER_CREDENTIALS);
    let mut annotations = json!({
        DIGEST: digest.as_str(),
        VERSION: env!("CARGO_PKG_VERSION"),
        PROBLEM: problem,
        OBSERVED: observed_json(observed),
    });
    let mut spec = json!({"renewTime": renewed});
    if let (Some(holder), Some(annotations), Some(spec)) =
        (holder, annotations.as_object_mut(), spec.as_object_mut())
    {
        annotations.insert(POD_UID.to_owned(), json!(holder));
        spec.insert("holderIdentity".to_owned(), json!(holder));
    }
    json!({"metadata": {"annotations": annotations}, "spec": spec}).to_string()
}

#[cfg(test)]
mod tests;
