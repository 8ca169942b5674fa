//! The report to Kubernetes: which configuration this pod runs and what it has observed of the directory, as annotations
//! of one Lease that only it may change.
//!
//! The operator makes the Lease and reads it; the pod needs the right to patch that one object. An API server that is
//! away disturbs nobody.

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
/// Annotation: what an administrator has to mend, of a closed set of words; absent when there is nothing.
const PROBLEM: &str = "radius-mfa.dev/problem";
/// The provider refuses the proxy's own credentials.
const PROVIDER_CREDENTIALS: &str = "provider_credentials";
/// Annotation: which pod of that name it was.
const POD_UID: &str = "radius-mfa.dev/pod-uid";
/// Annotation: what was observed of the directory as a RADIUS client.
const OBSERVED: &str = "radius-mfa.dev/observed";
const AGAIN_EVERY: Duration = Duration::from_secs(600);
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(10);

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
    /// The pod's UID: a successor of the same name is told apart.
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
    /// directory, again every ten minutes, and retries until it succeeds.
    pub(super) async fn run(self, sources: Sources) {
        let this = &self;
        let send = |digest: ConfigDigest, is_refused, observed: Observed| async move {
            this.send(&digest, is_refused, &observed).await?;
            tracing::debug!(pod = %this.pod, config_digest = %digest, "reported");
            Ok(())
        };
        report(sources, send).await;
    }

    async fn send(&self, digest: &ConfigDigest, is_refused: bool, observed: &Observed) -> Result<(), Fault> {
        let holder = self.holder.as_deref();
        let patch = patch(digest, is_refused, observed, holder, SystemTime::now());
        let group = ["apis", "coordination.k8s.io", "v1"];
        match self
            .api
            .patch(&group, "leases", &self.lease, patch, TIMEOUT)
            .await?
        {
            Some(_) => Ok(()),
            None => Err(Fault::after_sending(
                FaultClass::ClientError,
                "the API server answered 409",
            )),
        }
    }
}

/// Sends a report at the beginning, with every change of digest or credentials, when an observation is due, and every
/// ten minutes.
async fn report<F: Future<Output = Result<(), Fault>>>(
    mut sources: Sources,
    send: impl Fn(ConfigDigest, bool, Observed) -> F,
) {
    let mut back_off = FIRST_BACK_OFF;
    let mut limiter = RateLimiter::new(Instant::now());
    loop {
        let digest = sources.digests.borrow_and_update().clone();
        let is_refused = *sources.refused.borrow_and_update();
        let observation = sources.observed.borrow_and_update().clone();
        let wait = match send(digest, is_refused, observation.observed.clone()).await {
            Ok(()) => {
                back_off = FIRST_BACK_OFF;
                limiter.reported(Instant::now(), observation);
                AGAIN_EVERY
            }
            Err(error) => {
                tracing::warn!(%error, again_in = ?back_off, "the running configuration could not be reported");
                limiter.failed(Instant::now() + back_off);
                let wait = back_off;
                back_off = back_off.saturating_mul(2).min(LONGEST_BACK_OFF);
                wait
            }
        };
        if !sources.next(&limiter, Instant::now() + wait).await {
            return;
        }
    }
}

impl Sources {
    /// Waits until there is something to report, at the latest until `again`; `false` when there never will be.
    async fn next(&mut self, limiter: &RateLimiter, again: Instant) -> bool {
        loop {
            let due = limiter.due(&self.observed.borrow_and_update());
            let until = due.map_or(again, |due| due.min(again));
            tokio::select! {
                () = tokio::time::sleep_until(until) => return true,
                changed = self.digests.changed() => return changed.is_ok(),
                changed = self.refused.changed() => return changed.is_ok(),
                changed = self.observed.changed() => if changed.is_err() { return false },
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
