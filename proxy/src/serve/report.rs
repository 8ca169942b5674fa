//! The report to Kubernetes: which configuration this pod runs, as annotations of one Lease that only it may change.
//!
//! The operator makes the Lease and reads it; the pod needs the right to patch that one object. It is one small HTTP
//! request, so that no Kubernetes client is linked for it. An API server that is away disturbs nobody.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proxy_config::ConfigDigest;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request, Url};
use serde_json::json;
use tokio::sync::watch;

use crate::provider::http::Transports;

const FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Annotation: the digest of the running configuration.
const DIGEST: &str = "radius-mfa.dev/config-digest";
/// Annotation: the program's version.
const VERSION: &str = "radius-mfa.dev/version";
/// Annotation: which pod of that name it was.
const POD_UID: &str = "radius-mfa.dev/pod-uid";
const AGAIN_EVERY: Duration = Duration::from_secs(600);
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where to report.
pub(super) struct Report {
    url: Url,
    pod: String,
    /// The pod's UID: a successor of the same name is told apart.
    holder: Option<String>,
    transports: Transports,
}

#[derive(Debug, thiserror::Error)]
enum ReportError {
    #[error("{0}: {1}")]
    Read(&'static str, std::io::Error),
    #[error("the token is no header value")]
    Token,
    #[error("{0}")]
    Transport(#[from] crate::error::Error),
    #[error("{0}")]
    Call(crate::provider::fault::Fault),
    #[error("the API server answered {0}")]
    Status(u16),
}

impl Report {
    /// From `POD_NAME`, `POD_NAMESPACE`, `REPORT_LEASE` (its name) and `POD_UID`; `None` outside Kubernetes.
    pub(super) fn from_environment() -> Option<Self> {
        let of = |name| {
            std::env::var(name)
                .ok()
                .filter(|value: &String| !value.is_empty())
        };
        let (pod, namespace, lease) = (of("POD_NAME")?, of("POD_NAMESPACE")?, of("REPORT_LEASE")?);
        let host = of("KUBERNETES_SERVICE_HOST")?;
        let port = of("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".to_owned());
        let url = url(&host, &port, &namespace, &lease);
        if url.is_none() {
            tracing::error!(
                "KUBERNETES_SERVICE_HOST, POD_NAMESPACE or REPORT_LEASE make no address; nothing is reported"
            );
        }
        Some(Self {
            url: url?,
            pod,
            holder: of("POD_UID"),
            transports: Transports::default(),
        })
    }

    /// Reports each digest, again every ten minutes, and tries until it succeeds.
    pub(super) async fn run(self, mut digests: watch::Receiver<ConfigDigest>) {
        let mut back_off = FIRST_BACK_OFF;
        loop {
            let digest = digests.borrow_and_update().clone();
            let wait = match self.send(&digest).await {
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
            }
        }
    }

    async fn send(&self, digest: &ConfigDigest) -> Result<(), ReportError> {
        let read = |name: &'static str| {
            std::fs::read_to_string(format!("{FOLDER}/{name}"))
                .map_err(|error| ReportError::Read(name, error))
        };
        // The kubelet renews the token in place.
        let (token, ca) = (read("token")?, read("ca.crt")?);
        let transport = self.transports.obtain(None, Some(&ca))?;
        let mut request = Request::new(Method::PATCH, self.url.clone());
        let mut bearer =
            HeaderValue::from_str(&format!("Bearer {}", token.trim_end())).map_err(|_| ReportError::Token)?;
        bearer.set_sensitive(true);
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, bearer);
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/merge-patch+json"),
        );
        *request.body_mut() = Some(patch(digest, self.holder.as_deref(), SystemTime::now()).into());
        let answer = transport
            .call(request, TIMEOUT)
            .await
            .map_err(ReportError::Call)?;
        match answer.status {
            200..=299 => Ok(()),
            status => Err(ReportError::Status(status)),
        }
    }
}

fn url(host: &str, port: &str, namespace: &str, lease: &str) -> Option<Url> {
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    let mut url = Url::parse(&format!("https://{host}:{port}/")).ok()?;
    url.path_segments_mut().ok()?.pop_if_empty().extend([
        "apis",
        "coordination.k8s.io",
        "v1",
        "namespaces",
        namespace,
        "leases",
        lease,
    ]);
    url.set_query(Some("fieldManager=radius-proxy"));
    Some(url)
}

fn patch(digest: &ConfigDigest, holder: Option<&str>, now: SystemTime) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let time = jiff::Timestamp::from_second(i64::try_from(seconds).unwrap_or_default()).unwrap_or_default();
    let renewed = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z").to_string();
    let mut annotations = json!({DIGEST: digest.as_str(), VERSION: env!("CARGO_PKG_VERSION")});
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
    fn the_lease_of_this_pod_is_addressed_whatever_family_the_api_server_has() {
        assert_eq!(
            url("fd00::1", "6443", "mfa", "radius-0").unwrap().as_str(),
            "https://[fd00::1]:6443/apis/coordination.k8s.io/v1/namespaces/mfa/leases/radius-0?fieldManager=radius-proxy"
        );
        let path = url("10.96.0.1", "443", "mfa", "x/../y")
            .unwrap()
            .path()
            .to_owned();
        assert!(path.ends_with("/namespaces/mfa/leases/x%2F..%2Fy"), "{path}");
    }

    #[test]
    fn a_patch_says_what_runs_who_runs_it_and_when() {
        let digest = ConfigDigest::from_reported("abc");
        let time = UNIX_EPOCH + Duration::from_secs(1_709_210_096);
        let patch: serde_json::Value = serde_json::from_str(&patch(&digest, Some("uid-1"), time)).unwrap();
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
}
