//! A Kubernetes API for tests: it answers by a function and remembers what it was asked.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::Notify;

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) uri: String,
    pub(crate) body: Value,
}

/// The API, and its client.
#[derive(Clone)]
pub(crate) struct FakeApi {
    pub(crate) client: Client,
    calls: Arc<Mutex<Vec<Call>>>,
    called: Arc<Notify>,
}

impl FakeApi {
    /// Answers with status and body. `None` never answers.
    pub(crate) fn new(answer: impl Fn(&Call) -> Option<(u16, Value)> + Send + Sync + 'static) -> Self {
        let (calls, called) = (Arc::<Mutex<Vec<Call>>>::default(), Arc::<Notify>::default());
        let (answer, log, bell) = (Arc::new(answer), Arc::clone(&calls), Arc::clone(&called));
        let service = tower::service_fn(move |request: Request<Body>| {
            let (answer, log, bell) = (Arc::clone(&answer), Arc::clone(&log), Arc::clone(&bell));
            async move {
                let (parts, body) = request.into_parts();
                let bytes = body.collect_bytes().await.unwrap();
                let call = Call {
                    method: parts.method.to_string(),
                    uri: parts.uri.to_string(),
                    body: serde_json::from_slice(&bytes).unwrap_or_default(),
                };
                log.lock().unwrap().push(call.clone());
                bell.notify_waiters();
                let Some((status, body)) = answer(&call) else {
                    return std::future::pending().await;
                };
                let body = Body::from(serde_json::to_vec(&body).unwrap());
                Ok::<_, std::convert::Infallible>(Response::builder().status(status).body(body).unwrap())
            }
        });
        Self {
            client: Client::new(service, "default"),
            calls,
            called,
        }
    }

    /// Waits for so many calls of a kind.
    pub(crate) async fn calls(&self, least: usize, is_meant: impl Fn(&Call) -> bool) -> Vec<Call> {
        let wait = self.wait_for_calls(least, is_meant);
        let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
        waited.unwrap_or_else(|_| panic!("only these calls: {:#?}", self.calls.lock().unwrap()))
    }

    async fn wait_for_calls(&self, least: usize, is_meant: impl Fn(&Call) -> bool) -> Vec<Call> {
        loop {
            let called = self.called.notified();
            let meant: Vec<Call> = {
                let calls = self.calls.lock().unwrap();
                calls.iter().filter(|call| is_meant(call)).cloned().collect()
            };
            if meant.len() >= least {
                return meant;
            }
            called.await;
        }
    }
}

/// A list as the API server answers.
pub(crate) fn list(items: &[Value]) -> (u16, Value) {
    (
        200,
        json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": items}),
    )
}

/// An error as the API server answers.
pub(crate) fn refused(code: u16, reason: &str) -> (u16, Value) {
    let status = json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "code": code,
        "reason": reason, "message": format!("the API server says {reason}")});
    (code, status)
}
