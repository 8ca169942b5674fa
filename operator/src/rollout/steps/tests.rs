//! An execution against an API server of the test's own.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use operator_core::api::RadiusProxyStatus;
use operator_core::objects::Object;
use operator_core::rollout::GateChange;
use serde_json::{Value, json};

use super::*;
use crate::controller::SOONEST;
use crate::fake_api::{Call, FakeApi, refused};
use crate::queue::{Queue, WorkQueue};
use crate::watch::Cluster;

fn named(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}

fn objects() -> Vec<Object> {
    vec![
        Object::Secret(Box::new(Secret {
            metadata: named("mfa-radius-secrets"),
            ..Secret::default()
        })),
        Object::ConfigMap(Box::new(ConfigMap {
            metadata: named("mfa-radius-config"),
            ..ConfigMap::default()
        })),
        Object::Service(Box::new(Service {
            metadata: named("mfa"),
            ..Service::default()
        })),
        Object::StatefulSet(Box::new(StatefulSet {
            metadata: named("mfa"),
            ..StatefulSet::default()
        })),
    ]
}

fn plan() -> RolloutPlan {
    RolloutPlan {
        finalizer: FinalizerChange::Keep,
        apply: objects(),
        adopt: Vec::new(),
        pods: vec![PodPatch {
            name: "mfa-0".to_owned(),
            uid: "u".to_owned(),
            config_digest: Some("d".to_owned()),
            peers_digest: None,
            image: None,
            revision: None,
            gate: Some(GateChange {
                open: true,
                reason: "Registered",
                message: String::new(),
            }),
        }],
        registration: None,
        status: RadiusProxyStatus {
            replicas: 2,
            ..RadiusProxyStatus::default()
        },
        delete: Vec::new(),
        events: Vec::new(),
        requeue_after: Duration::from_secs(600),
        upgrading: false,
    }
}

fn proxy() -> RadiusProxy {
    let spec = serde_json::from_value(json!({"provider": {}})).unwrap();
    let mut proxy = RadiusProxy::new("mfa", spec);
    proxy.metadata.namespace = Some("auth".to_owned());
    proxy.metadata.uid = Some("uid-1".to_owned());
    proxy.metadata.resource_version = Some("1".to_owned());
    proxy
}

/// Takes everything.
fn taken(call: &Call) -> (u16, Value) {
    if call.uri.contains("/radiusproxies/") {
        let mut answer = serde_json::to_value(proxy()).unwrap();
        answer["status"] = call.body["status"].clone();
        return (200, answer);
    }
    let meta = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}});
    (200, meta)
}

struct Harness {
    api: FakeApi,
    ctx: Context,
    state: ReconcileState,
    _lead: crate::leader::LeaseGuard,
}

impl Harness {
    fn new(answer: impl Fn(&Call) -> (u16, Value) + Send + Sync + 'static) -> Self {
        let api = FakeApi::new(move |call| Some(answer(call)));
        let cluster = Arc::new(Cluster::new(WorkQueue::new(), Queue::new(), Queue::new()));
        let (ctx, lead) = Context::for_test(api.client.clone(), cluster);
        Self {
            api,
            ctx,
            state: ReconcileState::default(),
            _lead: lead,
        }
    }

    async fn reconcile(&mut self) -> Next {
        let (plan, key) = (plan(), RadiusProxyKey::new("auth", "mfa"));
        let vacant = plan.apply.iter().map(Object::id).collect();
        let execution = Execution::new(&self.ctx, &key, proxy(), &mut self.state);
        execution.execute(&plan, None, &vacant).await.unwrap()
    }

    async fn count(&self, part: &str) -> usize {
        let part = part.to_owned();
        self.api
            .calls(0, move |call| call.uri.contains(&part))
            .await
            .len()
    }
}

#[tokio::test]
async fn a_refused_secret_stops_the_configuration_and_the_pods_template_and_nothing_else() {
    let mut harness = Harness::new(|call| match call.uri.contains("/secrets/") {
        true => refused(403, "Forbidden"),
        false => taken(call),
    });
    assert_eq!(harness.reconcile().await, Next::After(SOONEST));
    assert_eq!(
        harness.count("/radiusproxies/mfa/status").await,
        0,
        "the next plan knows of it"
    );
    assert_eq!(harness.reconcile().await, Next::After(retry_after(2)));
    assert_eq!(harness.count("/secrets/").await, 2);
    assert_eq!(harness.count("/services/").await, 2);
    assert_eq!(
        harness.count("/configmaps/").await + harness.count("/statefulsets/").await,
        0
    );
    assert_eq!(harness.count("/pods/mfa-0/status").await, 2);
    assert_eq!(harness.count("/radiusproxies/mfa/status").await, 1);
    let step = Step::Apply("Secret", "mfa-radius-secrets".to_owned());
    assert!(harness.state.outcomes.failed(&step));
}

#[tokio::test]
async fn a_refused_pod_patch_stops_neither_the_readiness_gate_nor_the_status() {
    let mut harness = Harness::new(|call| match call.uri.contains("/pods/mfa-0?") {
        true => refused(422, "Invalid"),
        false => taken(call),
    });
    harness.reconcile().await;
    harness.reconcile().await;
    assert_eq!(harness.count("/pods/mfa-0/status").await, 2);
    assert_eq!(harness.count("/radiusproxies/mfa/status").await, 1);
    assert!(
        harness
            .state
            .outcomes
            .failed(&Step::PodMetadata("mfa-0".to_owned()))
    );
}

#[tokio::test]
async fn a_status_that_is_refused_is_an_event_and_not_ready_in_the_metrics() {
    let mut harness = Harness::new(|call| match call.uri.contains("/radiusproxies/mfa/status") {
        true => refused(403, "Forbidden"),
        false => taken(call),
    });
    for _ in 0..3 {
        harness.reconcile().await;
    }
    assert_eq!(harness.count("/events").await, 1);
    assert!(harness.state.newest.is_none());
    let not_ready = "condition{namespace=\"auth\",name=\"mfa\",condition=\"Ready\"} 0";
    assert!(harness.ctx.metrics.encode().contains(not_ready));
}

#[tokio::test]
async fn a_config_map_that_cannot_change_is_created_again_and_a_secret_never() {
    let immutable = |call: &Call| {
        let mut answer = refused(422, "Invalid");
        answer.1["message"] = json!("data: Forbidden: field is immutable when `immutable` is set");
        let of_ours = json!([{"apiVersion": "radius-mfa.dev/v1alpha1", "kind": "RadiusProxy", "name": "mfa",
            "uid": "uid-1", "controller": true}]);
        match (call.method.as_str(), call.uri.as_str()) {
            ("PATCH", uri) if uri.contains("/secrets/") => answer,
            ("GET", uri) if uri.contains("/configmaps/") => (
                200,
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "uid": "c", "ownerReferences": of_ours}}),
            ),
            ("PATCH", uri) if uri.contains("/configmaps/") => answer,
            _ => taken(call),
        }
    };
    let mut harness = Harness::new(immutable);
    let mut plan = plan();
    plan.apply.remove(0);
    let (key, vacant) = (
        RadiusProxyKey::new("auth", "mfa"),
        plan.apply.iter().map(Object::id).collect(),
    );
    let execution = Execution::new(&harness.ctx, &key, proxy(), &mut harness.state);
    execution.execute(&plan, None, &vacant).await.unwrap();
    harness.reconcile().await;
    let deleted = harness.api.calls(0, |call| call.method == "DELETE").await;
    assert_eq!(deleted.len(), 1, "{deleted:?}");
    assert!(deleted[0].uri.contains("/configmaps/") && deleted[0].body["preconditions"]["uid"] == "c");
}
