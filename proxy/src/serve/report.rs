//! The report to Kubernetes: which configuration this pod runs, as annotations of one Lease that only it may change.
//!
//! The operator makes the Lease and reads it; the pod needs the right to patch that one object. An API server that is
//! away disturbs nobody.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proxy_config::ConfigDigest;
use serde_json::json;
use tokio::sync::watch;

use crate::kubernetes::ApiServer;
use crate::provider::fault::{Fault, FaultClass};

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
const AGAIN_EVERY: Duration = Duration::from_secs(600);
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(10);

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

    /// Reports each digest, and whether the provider refuses the proxy's credentials, again every ten minutes, and
    /// tries until it succeeds.
    pub(super) async fn run(
        self,
        mut digests: watch::Receiver<ConfigDigest>,
        mut refused: watch::Receiver<bool>,
    ) {
        let mut back_off = FIRST_BACK_OFF;
        loop {
            let digest = digests.borrow_and_update().clone();
            let is_refused = *refused.borrow_and_update();
            let wait = match self.send(&digest, is_refused).await {
                Ok(()) => {
                    tracing::debug!(pod = %self.pod, config_digest = %digest, "reported");
                    back_off = FIRST_BACK_OFF;
                    AGAIN_EVERY
                }
                Err(error) => {
                    tracing::warn!(%error, again_in = ?back_off, "the running configuration could not be reported");
                    let wait = back_off;
                    back_off = back_off.saturating_mul(2).min(LONGEST_BACK_OFF);
                    wait
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                changed = digests.changed() => if changed.is_err() { return },
                changed = refused.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn send(&self, digest: &ConfigDigest, is_refused: bool) -> Result<(), Fault> {
        let patch = patch(digest, is_refused, self.holder.as_deref(), SystemTime::now());
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

fn patch(digest: &ConfigDigest, is_refused: bool, holder: Option<&str>, now: SystemTime) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let time = jiff::Timestamp::from_second(i64::try_from(seconds).unwrap_or_default()).unwrap_or_default();
    let renewed = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z").to_string();
    // Null takes an annotation away (RFC 7396).
    let problem = is_refused.then_some(PROVIDER_CREDENTIALS);
    let mut annotations =
        json!({DIGEST: digest.as_str(), VERSION: env!("CARGO_PKG_VERSION"), PROBLEM: problem});
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
mod tests {
    use super::*;

    #[test]
    fn a_patch_says_what_runs_who_runs_it_and_when() {
        let digest = ConfigDigest::from_reported("abc");
        let time = UNIX_EPOCH + Duration::from_secs(1_709_210_096);
        let patch: serde_json::Value =
            serde_json::from_str(&patch(&digest, false, Some("uid-1"), time)).unwrap();
        assert_eq!(
            patch["metadata"]["annotations"]["radius-mfa.dev/config-digest"],
            "abc"
        );
        assert_eq!(
            patch["metadata"]["annotations"]["radius-mfa.dev/pod-uid"],
            "uid-1"
        );
        assert_eq!(patch["spec"]["holderIdentity"], "uid-1");
        assert_eq!(patch["spec"]["renewTime"], "2024-02-29T12:34:56.000000Z");
    }

    #[test]
    fn refused_credentials_are_a_word_that_goes_away_with_them() {
        let digest = ConfigDigest::from_reported("abc");
        let problem = |is_refused| {
            let patch: serde_json::Value =
                serde_json::from_str(&patch(&digest, is_refused, None, UNIX_EPOCH)).unwrap();
            patch["metadata"]["annotations"].get(PROBLEM).cloned()
        };
        assert_eq!(problem(true), Some(json!("provider_credentials")));
        assert_eq!(problem(false), Some(serde_json::Value::Null));
    }
}
