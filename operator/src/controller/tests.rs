//! The controller with an API server of the test's own.

use std::collections::BTreeSet;
use std::sync::Mutex;

use operator_core::api::RadiusProxy;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::*;
use crate::fake_api::{Call, FakeApi, list};
use crate::health::Health;
use crate::lead;
use crate::leader::Leadership;
use crate::queue::WorkQueue;
use crate::watch::{self, Cluster};

type Reconciliation = dyn Fn(&str) -> Option<Result<Next, Error>> + Send + Sync;

/// Notes what it is asked; `None` is a reconciliation without an end.
struct Recording {
    begun: Mutex<Vec<String>>,
    ended: Mutex<BTreeSet<String>>,
    forgotten: Mutex<BTreeSet<String>>,
    changed: Notify,
    finish: Notify,
    answer: Box<Reconciliation>,
}

struct OnDrop<'a>(&'a Recording, &'a str);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.ended.lock().unwrap().insert(self.1.to_owned());
        self.0.changed.notify_waiters();
    }
}

impl Recording {
    fn new(answer: impl Fn(&str) -> Option<Result<Next, Error>> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            begun: Mutex::default(),
            ended: Mutex::default(),
            forgotten: Mutex::default(),
            changed: Notify::new(),
            finish: Notify::new(),
            answer: Box::new(answer),
        })
    }

    async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                if is_so(self) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap();
    }

    fn begun(&self, name: &str) -> usize {
        let begun = self.begun.lock().unwrap();
        begun.iter().filter(|each| *each == name).count()
    }

    fn ended(&self, name: &str) -> bool {
        self.ended.lock().unwrap().contains(name)
    }
}

impl Reconciler for Arc<Recording> {
    type Root = RadiusProxy;

    async fn reconcile(&self, object: &ObjectRef<RadiusProxy>) -> Result<Next, Error> {
        let _end = OnDrop(self, &object.name);
        self.begun.lock().unwrap().push(object.name.clone());
        self.changed.notify_waiters();
        match (self.answer)(&object.name) {
            Some(result) => result,
            None => {
                self.finish.notified().await;
                Ok(Next::After(Duration::from_secs(3600)))
            }
        }
    }

    fn forget(&self, object: &ObjectRef<RadiusProxy>) {
        self.forgotten.lock().unwrap().insert(object.name.clone());
        self.changed.notify_waiters();
    }

    fn failed(&self, _: &ObjectRef<RadiusProxy>, _: &'static str) {}
}

fn proxy(name: &str) -> Value {
    json!({"apiVersion": "radius-mfa.dev/v1alpha1", "kind": "RadiusProxy",
        "metadata": {"name": name, "namespace": "mfa", "uid": name, "generation": 1, "resourceVersion": "7"},
        "spec": {"provider": {"totp": {"seedsSecretRef": {"name": "seeds"}}}}})
}

fn unreadable(name: &str) -> Value {
    let mut object = proxy(name);
    object["spec"]["provider"] = json!("a provider of a later version");
    object
}

/// An API server with these RadiusProxy resources and nothing else.
fn api_with(objects: Vec<Value>) -> FakeApi {
    FakeApi::new(move |call: &Call| {
        if call.uri.contains("watch=") {
            return None;
        }
        let found = || {
            let name = call
                .uri
                .split(['?'])
                .next()?
                .trim_end_matches("/status")
                .rsplit('/')
                .next()?;
            objects.iter().find(|object| object["metadata"]["name"] == name)
        };
        Some(match call.method.as_str() {
            "GET" if call.uri.contains("/radiusproxies?") => list(&objects),
            "GET" | "PATCH" if call.uri.contains("/radiusproxies/") => found().map_or_else(
                || crate::fake_api::refused(404, "NotFound"),
                |object| (200, object.clone()),
            ),
            "GET" => list(&[]),
            _ => (201, call.body.clone()),
        })
    })
}

/// A cluster that is watched, with a controller that leads until it is deposed or stopped.
struct Running {
    api: FakeApi,
    cluster: Arc<Cluster>,
    queue: WorkQueue,
    health: Health,
    metrics: Metrics,
    lease: crate::leader::LeaseGuard,
    stop: CancellationToken,
    lead: JoinHandle<()>,
    _watches: JoinSet<()>,
}

fn run(api: FakeApi, reconciler: &Arc<Recording>) -> Running {
    let (queue, health, metrics) = (WorkQueue::new(), Health::new(Instant::now()), Metrics::new());
    let cluster = Arc::new(Cluster::new(queue.clone(), Queue::new(), Queue::new()));
    let stop = CancellationToken::new();
    let watches = watch::start(&api.client, &cluster, &[None], &health, &metrics, &stop);
    let (leadership, lease) = Leadership::without_election();
    let lead = tokio::spawn({
        let (health, stop, reconciler) = (health.clone(), stop.clone(), Arc::clone(reconciler));
        let (api, queue, metrics) = (api.clone(), queue.clone(), metrics.clone());
        let store = cluster.proxy_store().clone();
        async move {
            let token = stop.clone();
            let controllers = |_| {
                let controller = Controller {
                    reconciler: Arc::clone(&reconciler),
                    store: store.clone(),
                    queue: queue.clone(),
                    concurrency: 16,
                    client: api.client.clone(),
                    events: Events::new(api.client.clone(), "test"),
                    metrics: metrics.clone(),
                };
                controller.run(token.clone())
            };
            lead::run(leadership, health, stop, controllers, || {}).await;
        }
    });
    Running {
        api,
        cluster,
        queue,
        health,
        metrics,
        lease,
        stop,
        lead,
        _watches: watches,
    }
}

fn is_status(call: &Call) -> bool {
    call.method == "PATCH" && call.uri.contains("/status")
}

fn is_event(call: &Call) -> bool {
    call.method == "POST" && call.uri.contains("/events")
}

#[tokio::test]
async fn a_radius_proxy_that_cannot_be_decoded_says_so_and_stops_no_other() {
    let reconciler = Recording::new(|_| Some(Ok(Next::After(Duration::from_secs(3600)))));
    let running = run(api_with(vec![unreadable("bad"), proxy("good")]), &reconciler);
    reconciler.until(|seen| seen.begun("good") > 0).await;
    let status = running.api.calls(1, is_status).await;
    assert!(status[0].uri.contains("/namespaces/mfa/radiusproxies/bad/status"));
    assert_eq!(status[0].body["metadata"]["resourceVersion"], "7");
    let conditions = status[0].body["status"]["conditions"].as_array().unwrap();
    let accepted = conditions.iter().find(|each| each["type"] == "Accepted").unwrap();
    assert_eq!(
        (&accepted["status"], &accepted["reason"]),
        (&json!("False"), &json!("Undecodable"))
    );
    let events = running.api.calls(1, is_event).await;
    assert_eq!(
        (&events[0].body["reason"], &events[0].body["regarding"]["name"]),
        (&json!("Undecodable"), &json!("bad"))
    );
    assert_eq!(reconciler.begun("bad"), 0);
    assert!(running.health.readiness().ready);
    running.cluster.show(&running.metrics);
    let line = "radius_mfa_operator_undecodable_objects{kind=\"RadiusProxy\"} 1\n";
    assert!(running.metrics.encode().contains(line));
}

#[tokio::test]
async fn a_deposed_leader_stops_at_once_and_begins_anew_when_it_leads_again() {
    let reconciler = Recording::new(|_| None);
    let running = run(api_with(vec![proxy("a")]), &reconciler);
    reconciler.until(|seen| seen.begun("a") == 1).await;
    assert!(!reconciler.ended("a"));
    running.lease.depose();
    reconciler.until(|seen| seen.ended("a")).await;
    running.lease.elect();
    reconciler.until(|seen| seen.begun("a") == 2).await;
    reconciler.ended.lock().unwrap().clear();
    running.lease.let_run_out(Duration::from_millis(50));
    reconciler.until(|seen| seen.ended("a")).await;
    assert!(!running.lead.is_finished());
}

#[tokio::test]
async fn what_is_under_way_may_end_when_the_operator_stops_and_nothing_begins_any_more() {
    let reconciler = Recording::new(|_| None);
    let running = run(api_with(vec![proxy("a")]), &reconciler);
    reconciler.until(|seen| seen.begun("a") == 1).await;
    running.stop.cancel();
    running.queue.enqueue(ObjectRef::new("a").within("mfa"));
    tokio::task::yield_now().await;
    assert!(!reconciler.ended("a") && !running.lead.is_finished());
    reconciler.finish.notify_one();
    running.lead.await.unwrap();
    assert!(reconciler.ended("a"));
    assert_eq!(reconciler.begun("a"), 1);
}

#[tokio::test]
async fn a_reconciliation_that_panics_or_fails_is_retried_and_stops_no_other() {
    let reconciler = Recording::new(|name| match name {
        "panics" => panic!("in a test"),
        "fails" => Some(Err(Error::StatusNotKept)),
        _ => Some(Ok(Next::After(Duration::from_secs(3600)))),
    });
    let all = ["panics", "fails", "works"].map(proxy);
    let _running = run(api_with(all.into()), &reconciler);
    reconciler
        .until(|seen| seen.begun("panics") > 1 && seen.begun("fails") > 1 && seen.begun("works") > 0)
        .await;
}

#[tokio::test]
async fn an_object_that_is_gone_is_forgotten() {
    let reconciler = Recording::new(|_| Some(Ok(Next::Gone)));
    let running = run(api_with(vec![proxy("a")]), &reconciler);
    reconciler
        .until(|seen| seen.forgotten.lock().unwrap().contains("a"))
        .await;
    running.queue.enqueue(ObjectRef::new("b").within("mfa"));
    reconciler
        .until(|seen| seen.forgotten.lock().unwrap().contains("b"))
        .await;
    assert_eq!(reconciler.begun("b"), 0);
    running.queue.enqueue(ObjectRef::new("a").within("mfa"));
    reconciler.until(|seen| seen.begun("a") == 2).await;
}

#[tokio::test]
async fn every_object_has_its_turn_with_far_fewer_workers() {
    let names: Vec<String> = (0..300).map(|n| format!("p-{n}")).collect();
    let reconciler = Recording::new(|_| Some(Ok(Next::After(Duration::from_millis(200)))));
    let running = run(
        api_with(names.iter().map(|name| proxy(name)).collect()),
        &reconciler,
    );
    reconciler
        .until(|seen| names.iter().all(|name| seen.begun(name) >= 3))
        .await;
    running.stop.cancel();
    running.lead.await.unwrap();
}
