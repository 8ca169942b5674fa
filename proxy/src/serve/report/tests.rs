//! The report against an API server that keeps what it is sent.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use proxy_config::observed::ObservedAddress;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::rate_limiter::tests::observation;
use super::*;

#[path = "../../../tests/support/tls.rs"]
#[allow(unreachable_pub, reason = "the integration tests have it too")]
mod tls;

/// Method, path and body of a request.
type Call = (String, String, serde_json::Value);

/// A pod's way to an API server on loopback, and what arrives there.
async fn api_server() -> (ApiServer, UnboundedReceiver<Call>, tempfile::TempDir) {
    let (acceptor, ca) = tls::acceptor();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.crt"), ca).unwrap();
    std::fs::write(folder.path().join("token"), "the pod's token").unwrap();
    let (calls, arrived) = unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, calls) = (acceptor.clone(), calls.clone());
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await.unwrap();
                let service = service_fn(move |request| answer(calls.clone(), request));
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    let origin = format!("https://localhost:{port}/").parse().unwrap();
    let api = ApiServer::new(origin, "mfa".to_owned(), folder.path().to_owned());
    (api, arrived, folder)
}

/// Passes patches on. A Lease that is read is one that was patched by the pod uid-1, which runs the configuration abc.
async fn answer(
    calls: UnboundedSender<Call>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (parts, body) = request.into_parts();
    if parts.method == "PATCH" {
        assert_eq!(parts.headers["content-type"], "application/merge-patch+json");
        let body = serde_json::from_slice(&body.collect().await?.to_bytes()).unwrap();
        let _ = calls.send((parts.method.to_string(), parts.uri.path().to_owned(), body));
    }
    let lease = json!({"metadata": {"annotations": {DIGEST: "abc", POD_UID: "uid-1"}}});
    Ok(Response::new(Full::new(Bytes::from(lease.to_string()))))
}

#[tokio::test]
async fn the_pods_lease_is_patched_with_what_runs_and_what_was_observed() {
    let (api, mut arrived, _folder) = api_server().await;
    let (digest, digests) = watch::channel(ConfigDigest::from_reported("abc"));
    let (refused, is_refused) = watch::channel(false);
    let (see, observed) = watch::channel(Observation::default());
    let report = Report {
        api,
        lease: "mfa-0".to_owned(),
        pod: "mfa-0".to_owned(),
        holder: Some("uid-1".to_owned()),
    };
    let task = tokio::spawn(report.run(Sources {
        digests,
        refused: is_refused,
        observed,
    }));
    let mut patched = async || {
        let (method, path, body) = arrived.recv().await.unwrap();
        assert_eq!(method, "PATCH");
        assert_eq!(path, "/apis/coordination.k8s.io/v1/namespaces/mfa/leases/mfa-0");
        body["metadata"]["annotations"].clone()
    };
    let first = patched().await;
    assert_eq!((&first[DIGEST], &first[OBSERVED]), (&json!("abc"), &json!(null)));
    // A notable observation: at once.
    see.send_replace(observation(1, 1));
    let second = patched().await;
    assert_eq!(
        second[OBSERVED],
        r#"{"addresses":{"10.0.0.1":{"lastRequest":0}}}"#
    );
    // An ordinary one goes along with what is reported for another reason.
    see.send_replace(observation(2, 1));
    digest.send_replace(ConfigDigest::from_reported("def"));
    let third = patched().await;
    assert_eq!(third[DIGEST], "def");
    assert_eq!(
        third[OBSERVED],
        r#"{"addresses":{"10.0.0.1":{"lastRequest":0},"10.0.0.2":{"lastRequest":0}}}"#
    );
    assert_eq!(third[PROBLEM], json!(null));
    refused.send_replace(true);
    assert_eq!(patched().await[PROBLEM], PROVIDER_CREDENTIALS);
    drop((see, digest, refused));
    task.await.unwrap();
}

/// Whether the report of a pod and its configuration is sent again while the Lease has that of pod uid-1 and abc.
async fn is_sent_again(digest: &str, holder: &str) -> bool {
    let (api, mut arrived, _folder) = api_server().await;
    let (_digest, digests) = watch::channel(ConfigDigest::from_reported(digest));
    let (_refused, refused) = watch::channel(false);
    let (see, observed) = watch::channel(Observation::default());
    let report = Report {
        api,
        lease: "mfa-0".to_owned(),
        pod: "mfa-0".to_owned(),
        holder: Some(holder.to_owned()),
    };
    let intervals = Intervals {
        check: Duration::from_millis(5),
        ..INTERVALS
    };
    let sources = Sources {
        digests,
        refused,
        observed,
    };
    let task = tokio::spawn(report.run_with(intervals, sources));
    arrived.recv().await.unwrap();
    let again = tokio::time::timeout(Duration::from_secs(1), arrived.recv()).await;
    drop(see);
    task.await.unwrap();
    again.is_ok()
}

#[tokio::test]
async fn a_lease_that_has_lost_the_report_gets_it_again_within_a_minute() {
    assert!(INTERVALS.check <= Duration::from_secs(60));
    let (other_digest, other_pod, kept) = tokio::join!(
        is_sent_again("def", "uid-1"),
        is_sent_again("abc", "uid-2"),
        is_sent_again("abc", "uid-1"),
    );
    assert_eq!((other_digest, other_pod, kept), (true, true, false));
}

#[test]
fn a_patch_says_what_runs_who_runs_it_and_when() {
    let digest = ConfigDigest::from_reported("abc");
    let time = UNIX_EPOCH + Duration::from_secs(1_709_210_096);
    let patch: serde_json::Value =
        serde_json::from_str(&patch(&digest, false, &Observed::default(), Some("uid-1"), time)).unwrap();
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
        let patch: serde_json::Value = serde_json::from_str(&patch(
            &digest,
            is_refused,
            &Observed::default(),
            None,
            UNIX_EPOCH,
        ))
        .unwrap();
        patch["metadata"]["annotations"].get(PROBLEM).cloned()
    };
    assert_eq!(problem(true), Some(json!("provider_credentials")));
    assert_eq!(problem(false), Some(serde_json::Value::Null));
}

#[test]
fn what_was_observed_is_json_in_an_annotation_and_nothing_takes_it_away() {
    let digest = ConfigDigest::from_reported("abc");
    let annotation = |observed: &Observed| {
        let patch: serde_json::Value =
            serde_json::from_str(&patch(&digest, false, observed, None, UNIX_EPOCH)).unwrap();
        patch["metadata"]["annotations"].get(OBSERVED).cloned().unwrap()
    };
    assert_eq!(annotation(&Observed::default()), serde_json::Value::Null);
    let observed = observation(2, 1).observed;
    let json = annotation(&observed);
    assert_eq!(
        json,
        json!(r#"{"addresses":{"10.0.0.1":{"lastRequest":0},"10.0.0.2":{"lastRequest":0}}}"#)
    );
    assert_eq!(
        serde_json::from_str::<Observed>(json.as_str().unwrap()).unwrap(),
        observed
    );
}

#[test]
fn a_report_has_its_bound_and_keeps_the_addresses_that_asked_last() {
    let full = |i: u8| ObservedAddress {
        last_request: u64::MAX - u64::from(i),
        last_authenticated: Some(u64::MAX),
        failing_since: Some(u64::MAX),
        last_failed: Some(u64::MAX),
        failed: u32::MAX,
        signed: u32::MAX,
        unsigned: u32::MAX,
        same_packet: u32::MAX,
        new_authenticator: u32::MAX,
        new_identifier: u32::MAX,
        retry_interval_ms: Some(u32::MAX),
    };
    let observed = Observed {
        addresses: (0..64)
            .map(|i| (IpAddr::from([0xfd00, 1, 2, 3, 4, 5, 6, u16::from(i)]), full(i)))
            .collect(),
        moved: u32::MAX,
        longest_wait_ms: Some(u32::MAX),
        probes: (0..16).map(|i| (format!("{i:>0253}"), u64::MAX)).collect(),
    };
    let json = observed_json(&observed).unwrap();
    assert!(
        (MAX_BYTES / 2..=MAX_BYTES).contains(&json.len()),
        "{}",
        json.len()
    );
    let kept: Observed = serde_json::from_str(&json).unwrap();
    assert!(
        kept.addresses
            .values()
            .any(|address| address.last_request == u64::MAX)
    );
    assert!(
        kept.addresses
            .values()
            .all(|address| address.last_request != u64::MAX - 63)
    );
    assert_eq!(kept.probes.len(), 16);
}

#[tokio::test]
async fn a_notable_observation_is_sent_at_once_and_a_failure_is_retried() {
    let (_digest, digests) = watch::channel(ConfigDigest::from_reported("abc"));
    let (_refused, refused) = watch::channel(false);
    let (see, observed) = watch::channel(Observation::default());
    let sources = Sources {
        digests,
        refused,
        observed,
    };
    let (sent, mut arrived) = unbounded_channel();
    let fails = Arc::new(AtomicBool::new(false));
    let failing = Arc::clone(&fails);
    let task = tokio::spawn(async move {
        let send = |_, _, observed| {
            let _ = sent.send(observed);
            let fails = failing.swap(false, Ordering::Relaxed);
            std::future::ready(if fails {
                Err(Fault::before_sending(FaultClass::Connect, "away"))
            } else {
                Ok(())
            })
        };
        let is_kept = |_| std::future::ready(Ok(true));
        report(INTERVALS, sources, send, is_kept).await;
    });
    assert_eq!(arrived.recv().await, Some(Observed::default()));
    fails.store(true, Ordering::Relaxed);
    see.send_replace(observation(1, 1));
    for _ in 0..2 {
        assert_eq!(arrived.recv().await, Some(observation(1, 1).observed));
    }
    see.send_replace(observation(2, 2));
    assert_eq!(arrived.recv().await, Some(observation(2, 2).observed));
    drop(see);
    task.await.unwrap();
}
