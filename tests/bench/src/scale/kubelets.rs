//! Stand-ins for scheduler, kubelets and proxies: every pod gets a node and an address, its containers are ready at once, its
//! Lease says what a proxy would say, its readiness gate is honoured, and it is gone when it is told to go. Everything else is
//! the API server's and the controller manager's own doing.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use operator_core::names::{
    CONTAINER, PROXY_LABEL, REPORT_DIGEST_ANNOTATION, REPORT_POD_UID_ANNOTATION, REPORT_VERSION_ANNOTATION,
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::nodes::node_name;
use super::steps::{self, Step};

/// Calls to the API server that are under way at once.
const AT_ONCE: usize = 32;
/// What failed is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);
/// Proxies report again after this, as the real ones do.
const RENEWED_EVERY: Duration = Duration::from_secs(600);
/// The first address that a pod gets; none is used twice.
const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);

/// Namespace and name.
pub(crate) type PodKey = (String, String);

/// All kubelets. Clones are the same.
#[derive(Clone)]
pub(crate) struct Kubelets(Arc<Shared>);

struct Shared {
    client: Client,
    nodes: u32,
    pods: Mutex<HashMap<PodKey, Known>>,
    slots: Semaphore,
    addresses: AtomicU32,
    failures: AtomicU64,
}

/// A pod, and what was done with it.
struct Known {
    pod: Arc<Pod>,
    /// The last step, done or under way: the pod is seen as before for a moment.
    last: Option<Step>,
    report: Option<Report>,
}

struct Report {
    digest: String,
    first: Instant,
    renewed: Instant,
}

/// A pod that serves: registration waits for nothing more of it.
#[derive(Debug, Clone)]
pub(crate) struct Serving {
    pub(crate) uid: String,
    pub(crate) address: String,
    pub(crate) since: Instant,
}

impl Kubelets {
    pub(crate) fn new(client: Client, nodes: u32) -> Self {
        Self(Arc::new(Shared {
            client,
            nodes,
            pods: Mutex::default(),
            slots: Semaphore::new(AT_ONCE),
            addresses: AtomicU32::new(0),
            failures: AtomicU64::new(0),
        }))
    }

    /// The pod of that name, once its proxy has reported.
    pub(crate) fn serving(&self, key: &PodKey) -> Option<Serving> {
        let pods = self.lock();
        let known = pods.get(key)?;
        Some(Serving {
            uid: known.pod.metadata.uid.clone()?,
            address: steps::address(&known.pod)?.to_owned(),
            since: known.report.as_ref()?.first,
        })
    }

    /// Calls that failed and were tried again.
    pub(crate) fn failures(&self) -> u64 {
        self.0.failures.load(Ordering::Relaxed)
    }

    /// Plays until it is dropped.
    pub(crate) async fn run(self) {
        let api: Api<Pod> = Api::all(self.0.client.clone());
        let config = watcher::Config::default().labels(PROXY_LABEL);
        let mut events = watcher(api, config).default_backoff().boxed();
        let mut tick = tokio::time::interval(Duration::from_secs(5));
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod))) => self.saw(pod),
                    Some(Ok(watcher::Event::Delete(pod))) => self.forget(&pod),
                    Some(Ok(_)) => {}
                    Some(Err(_)) => { self.0.failures.fetch_add(1, Ordering::Relaxed); }
                    None => return,
                },
                _ = tick.tick() => self.renew(),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PodKey, Known>> {
        self.0.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn saw(&self, pod: Pod) {
        let key = key_of(&pod);
        let pod = Arc::new(pod);
        {
            let mut pods = self.lock();
            let same = pods
                .get(&key)
                .is_some_and(|known| known.pod.metadata.uid == pod.metadata.uid);
            if same && let Some(known) = pods.get_mut(&key) {
                known.pod = pod;
            } else {
                let known = Known {
                    pod,
                    last: None,
                    report: None,
                };
                pods.insert(key.clone(), known);
            }
        }
        self.consider(key);
    }

    fn forget(&self, pod: &Pod) {
        let key = key_of(pod);
        let mut pods = self.lock();
        if pods
            .get(&key)
            .is_some_and(|known| known.pod.metadata.uid == pod.metadata.uid)
        {
            pods.remove(&key);
        }
    }

    /// Begins the pod's next step, unless it is under way.
    fn consider(&self, key: PodKey) {
        let (pod, step) = {
            let mut pods = self.lock();
            let Some(known) = pods.get_mut(&key) else { return };
            let reported = known.report.as_ref().map(|report| report.digest.as_str());
            let Some(step) = steps::next(&known.pod, reported) else {
                return;
            };
            if known.last.as_ref() == Some(&step) {
                return;
            }
            known.last = Some(step.clone());
            (Arc::clone(&known.pod), step)
        };
        let all = self.clone();
        tokio::spawn(async move { all.carry_out(key, &pod, step).await });
    }

    async fn carry_out(&self, key: PodKey, pod: &Pod, step: Step) {
        let done = {
            let Ok(_slot) = self.0.slots.acquire().await else {
                return;
            };
            self.step(&key, pod, &step).await
        };
        match done {
            Ok(()) => self.note(&key, pod, step),
            // It is gone, or another one of the name is there, or it was bound before: the watch tells.
            Err(error) if is_overtaken(&error) => return,
            Err(_) => {
                self.0.failures.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(AGAIN).await;
                if let Some(known) = self.lock().get_mut(&key)
                    && known.last.as_ref() == Some(&step)
                {
                    known.last = None;
                }
            }
        }
        self.consider(key);
    }

    /// No watch tells that a report was made.
    fn note(&self, key: &PodKey, pod: &Pod, step: Step) {
        let Step::Report(digest) = step else { return };
        let mut pods = self.lock();
        if let Some(known) = pods.get_mut(key)
            && known.pod.metadata.uid == pod.metadata.uid
        {
            let now = Instant::now();
            let first = known.report.as_ref().map_or(now, |report| report.first);
            known.report = Some(Report {
                digest,
                first,
                renewed: now,
            });
        }
    }

    async fn step(&self, (namespace, name): &PodKey, pod: &Pod, step: &Step) -> kube::Result<()> {
        let api: Api<Pod> = Api::namespaced(self.0.client.clone(), namespace);
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let patch = PatchParams::default();
        match step {
            Step::Bind => {
                let node = node_name(spread(namespace, name) % self.0.nodes);
                let target = json!({"apiVersion": "v1", "kind": "Node", "name": node});
                let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name, "uid": uid}, "target": target});
                let bound: kube::Result<Value> = api
                    .create_subresource("binding", name, &PostParams::default(), &binding)
                    .await;
                bound.map(drop)
            }
            Step::Start => {
                let next = self.0.addresses.fetch_add(1, Ordering::Relaxed);
                let address = Ipv4Addr::from(u32::from(FIRST_ADDRESS).wrapping_add(next));
                let status = Patch::Strategic(running(pod, &uid, address));
                api.patch_status(name, &patch, &status).await.map(drop)
            }
            Step::Report(digest) => self.report(namespace, name, &uid, digest).await,
            Step::Ready(ready) => {
                let status =
                    json!({"metadata": {"uid": uid}, "status": {"conditions": [condition("Ready", *ready)]}});
                let status = Patch::Strategic(status);
                api.patch_status(name, &patch, &status).await.map(drop)
            }
            Step::Remove => {
                let params = DeleteParams::default()
                    .grace_period(0)
                    .preconditions(Preconditions {
                        uid: Some(uid),
                        ..Preconditions::default()
                    });
                api.delete(name, &params).await.map(drop)
            }
        }
    }

    /// The proxy's own words, as `proxy/src/serve/report.rs` has them.
    async fn report(&self, namespace: &str, pod: &str, uid: &str, digest: &str) -> kube::Result<()> {
        let api: Api<Lease> = Api::namespaced(self.0.client.clone(), namespace);
        let patch = json!({
            "metadata": {"annotations": {
                REPORT_DIGEST_ANNOTATION: digest,
                REPORT_VERSION_ANNOTATION: env!("CARGO_PKG_VERSION"),
                REPORT_POD_UID_ANNOTATION: uid,
            }},
            "spec": {"renewTime": micros(), "holderIdentity": uid},
        });
        let params = PatchParams {
            field_manager: Some("radius-proxy".to_owned()),
            ..PatchParams::default()
        };
        api.patch_metadata(pod, &params, &Patch::Merge(patch))
            .await
            .map(drop)
    }

    /// Has the proxies report again whose time has come.
    fn renew(&self) {
        let now = Instant::now();
        for (key, known) in self.lock().iter_mut() {
            let Some(report) = &mut known.report else { continue };
            if now.duration_since(report.renewed) < RENEWED_EVERY {
                continue;
            }
            report.renewed = now;
            let uid = known.pod.metadata.uid.clone().unwrap_or_default();
            let (all, key, digest) = (self.clone(), key.clone(), report.digest.clone());
            tokio::spawn(async move {
                let Ok(_slot) = all.0.slots.acquire().await else {
                    return;
                };
                if all.report(&key.0, &key.1, &uid, &digest).await.is_err() {
                    all.0.failures.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    }
}

/// Deletes a pod as a person does.
pub(crate) async fn delete(client: &Client, (namespace, name): &PodKey) -> Result<()> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    api.delete(name, &DeleteParams::default()).await?;
    Ok(())
}

fn key_of(pod: &Pod) -> PodKey {
    (
        pod.metadata.namespace.clone().unwrap_or_default(),
        pod.metadata.name.clone().unwrap_or_default(),
    )
}

fn is_overtaken(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 404 | 409))
}

/// Neighbouring ordinals of one StatefulSet come to neighbouring nodes, which are in different zones.
fn spread(namespace: &str, pod: &str) -> u32 {
    let (set, ordinal) = pod.rsplit_once('-').unwrap_or((pod, "0"));
    let of_text = |text: &str| {
        text.bytes()
            .fold(7_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()))
    };
    let start = of_text(namespace).wrapping_add(of_text(set).wrapping_mul(17));
    (start >> 4).wrapping_add(ordinal.parse().unwrap_or(0))
}

fn condition(name: &str, holds: bool) -> Value {
    json!({"type": name, "status": if holds { "True" } else { "False" }, "lastTransitionTime": seconds()})
}

fn running(pod: &Pod, uid: &str, address: Ipv4Addr) -> Value {
    let spec = pod.spec.as_ref();
    let container = spec.and_then(|spec| spec.containers.iter().find(|each| each.name == CONTAINER));
    let image = container
        .and_then(|container| container.image.clone())
        .unwrap_or_default();
    json!({"metadata": {"uid": uid}, "status": {
        "phase": "Running",
        "startTime": seconds(),
        "hostIP": "10.199.0.1",
        "hostIPs": [{"ip": "10.199.0.1"}],
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [
            condition("PodReadyToStartContainers", true),
            condition("Initialized", true),
            condition("ContainersReady", true),
            condition("Ready", false),
        ],
        "containerStatuses": [{
            "name": CONTAINER, "image": image, "imageID": "none", "containerID": format!("none://{uid}"),
            "ready": true, "started": true, "restartCount": 0, "state": {"running": {"startedAt": seconds()}},
        }],
    }})
}

fn seconds() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A MicroTime, as Leases have it.
pub(super) fn micros() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}
