//! The watches themselves: one task for each kind and scope.

use std::fmt::Debug;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource};
use operator_core::api::{DirectoryGrant, RadiusProxy};
use operator_core::names::PROXY_LABEL;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::rows::{self, Detail, Owned, proxy_label};
use super::view::Scope;
use super::{Change, Cluster, RowKey, View, cluster_row};
use crate::error::words;
use crate::health::{Health, Heartbeat, Seen};
use crate::memory::lean;
use crate::metrics::{KindLabel, Metrics};

/// How often a task without news shows that it is alive, and how long it may be silent.
const TICK: Duration = Duration::from_secs(15);
const SILENCE: Duration = Duration::from_secs(180);

/// What every watch needs.
#[derive(Clone)]
struct Common {
    client: Client,
    cluster: Arc<Cluster>,
    health: Health,
    metrics: Metrics,
    stop: CancellationToken,
}

/// Starts every watch, in all namespaces or in each of those named.
pub(crate) fn start(
    client: &Client,
    cluster: &Arc<Cluster>,
    scopes: &[Scope],
    health: &Health,
    metrics: &Metrics,
    stop: &CancellationToken,
) -> JoinSet<()> {
    let common = Common {
        client: client.clone(),
        cluster: Arc::clone(cluster),
        health: health.clone(),
        metrics: metrics.clone(),
        stop: stop.clone(),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(grants(&common));
    tasks.spawn(namespaces(&common));
    tasks.spawn(nodes(&common));
    for scope in scopes {
        tasks.spawn(proxies(&common, scope));
        tasks.spawn(pods(&common, scope));
        tasks.spawn(secrets(&common, scope));
        tasks.spawn(leases(&common, scope));
        tasks.spawn(services(&common, scope));
        tasks.spawn(stateful_sets(&common, scope));
        tasks.spawn(with_detail::<PartialObjectMeta<ServiceAccount>>(
            &common,
            scope,
            "ServiceAccount",
            |account| rows::service_account(&account.metadata),
        ));
        tasks.spawn(plain::<Role>(&common, scope, "Role"));
        tasks.spawn(plain::<RoleBinding>(&common, scope, "RoleBinding"));
        tasks.spawn(plain::<ConfigMap>(&common, scope, "ConfigMap"));
        tasks.spawn(plain::<NetworkPolicy>(&common, scope, "NetworkPolicy"));
        tasks.spawn(plain::<PodDisruptionBudget>(
            &common,
            scope,
            "PodDisruptionBudget",
        ));
    }
    tasks
}

fn api<K>(client: &Client, scope: &Scope) -> Api<K>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match scope {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

fn ours() -> watcher::Config {
    watcher::Config::default().labels(PROXY_LABEL)
}

type RowOf<K, V> = Box<dyn Fn(&K) -> Option<(RowKey, V)> + Send + Sync>;
type ViewOf<V> = Box<dyn Fn(&Cluster) -> Option<&RwLock<View<V>>> + Send + Sync>;
type Touched<V> = Box<dyn Fn(&Cluster, &Change<V>) + Send + Sync>;

/// One kind in one scope: how an object becomes a row, where the row is kept, what a change touches.
struct Follow<K: Resource, V> {
    kind: &'static str,
    api: Api<K>,
    config: watcher::Config,
    scope: Scope,
    row: RowOf<K, V>,
    view: ViewOf<V>,
    touched: Touched<V>,
    /// Called for objects without a row that changed.
    other: fn(&Cluster, &K),
    /// Called when a list follows a break, in which objects without a row may have changed unseen.
    relisted: fn(&Cluster),
    required: bool,
}

/// How a watch is doing.
struct State {
    well: bool,
    /// No list was complete yet.
    first: bool,
}

impl<K, V> Follow<K, V>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    async fn run(self, common: Common, heartbeat: Heartbeat, seen: Option<Seen>) {
        let mut events = watcher(self.api.clone(), self.config.clone())
            .default_backoff()
            .boxed();
        let mut state = State {
            well: true,
            first: true,
        };
        loop {
            heartbeat.beat();
            let event = tokio::select! {
                () = common.stop.cancelled() => return,
                () = tokio::time::sleep(TICK) => continue,
                event = events.next() => event,
            };
            match event {
                Some(Ok(event)) => self.heard(&common.cluster, event, &mut state, seen.as_ref()),
                Some(Err(error)) => self.broke(&common.metrics, &error, &mut state),
                // The stream of a watcher does not end.
                None => return,
            }
        }
    }

    fn heard(&self, cluster: &Cluster, event: watcher::Event<K>, state: &mut State, seen: Option<&Seen>) {
        let complete = matches!(event, watcher::Event::InitDone);
        // A list is begun without a word of the API server's.
        let answered = !matches!(event, watcher::Event::Init);
        self.take(cluster, event);
        if answered && !state.well {
            tracing::info!(kind = self.kind, "watching again");
            state.well = true;
        }
        if complete {
            if !state.first {
                (self.relisted)(cluster);
            }
            state.first = false;
            if let Some(seen) = seen {
                seen.done();
            }
        }
    }

    /// Only the first break of a row is told: an API server that is away breaks every watch again and again.
    fn broke(&self, metrics: &Metrics, error: &watcher::Error, state: &mut State) {
        metrics
            .watch_errors
            .get_or_create(&KindLabel { kind: self.kind })
            .inc();
        let error = words(error);
        if state.well {
            tracing::warn!(kind = self.kind, error, "the watch broke; it is tried again");
        } else {
            tracing::debug!(kind = self.kind, error, "the watch is still broken");
        }
        state.well = false;
    }

    fn take(&self, cluster: &Cluster, event: watcher::Event<K>) {
        let Some(lock) = (self.view)(cluster) else {
            return;
        };
        let mut other = None;
        let changes = {
            let mut view = lock.write().unwrap_or_else(PoisonError::into_inner);
            match event {
                watcher::Event::Init => {
                    view.begin(self.scope.clone());
                    Vec::new()
                }
                watcher::Event::InitApply(object) => {
                    if let Some((key, row)) = (self.row)(&object) {
                        view.listed(&self.scope, key, row);
                    }
                    Vec::new()
                }
                watcher::Event::InitDone => view.complete(&self.scope),
                watcher::Event::Apply(object) => match (self.row)(&object) {
                    Some((key, row)) => view.put(key, row),
                    None => {
                        other = Some(object);
                        Vec::new()
                    }
                },
                watcher::Event::Delete(object) => match (self.row)(&object) {
                    Some((key, _)) => view.remove(&key).into_iter().collect(),
                    None => {
                        other = Some(object);
                        Vec::new()
                    }
                },
            }
        };
        for change in &changes {
            (self.touched)(cluster, change);
        }
        if let Some(object) = other {
            (self.other)(cluster, &object);
        }
    }

    fn task(self, common: &Common) -> impl Future<Output = ()> + Send + 'static {
        let heartbeat = common.health.expect_heartbeat(self.kind, SILENCE);
        let seen = self.required.then(|| {
            let place = self.scope.as_ref().map(|namespace| format!(" in {namespace}"));
            common
                .health
                .expect_list(format!("{} objects{}", self.kind, place.unwrap_or_default()))
        });
        self.run(common.clone(), heartbeat, seen)
    }
}

fn proxies(common: &Common, scope: &Scope) -> impl Future<Output = ()> + Send + 'static {
    Follow {
        kind: "RadiusProxy",
        api: api::<RadiusProxy>(&common.client, scope),
        config: watcher::Config::default(),
        scope: scope.clone(),
        row: Box::new(|proxy| {
            let proxy = lean(proxy.clone());
            let key = super::row_key(&crate::key::ProxyKey::of(&proxy));
            Some((key, Arc::new(proxy)))
        }),
        view: Box::new(|cluster| Some(&cluster.proxies)),
        touched: Box::new(|cluster, change| cluster.touched_by_proxy(change)),
        other: |_, _| {},
        relisted: |_| {},
        required: true,
    }
    .task(common)
}

fn grants(common: &Common) -> impl Future<Output = ()> + Send + 'static {
    Follow {
        kind: "DirectoryGrant",
        api: Api::<DirectoryGrant>::all(common.client.clone()),
        config: watcher::Config::default(),
        scope: None,
        row: Box::new(|grant| {
            let mut grant = grant.clone();
            grant.metadata.managed_fields = None;
            Some((cluster_row(grant.metadata.name.as_deref()?), Arc::new(grant)))
        }),
        view: Box::new(|cluster| Some(&cluster.grants)),
        touched: Box::new(|cluster, change| cluster.touched_by_grant(change)),
        other: |_, _| {},
        relisted: |_| {},
        required: true,
    }
    .task(common)
}

/// Labels of namespaces, for grants that select by them.
fn namespaces(common: &Common) -> impl Future<Output = ()> + Send + 'static {
    Follow {
        kind: "Namespace",
        api: Api::<PartialObjectMeta<Namespace>>::all(common.client.clone()),
        config: watcher::Config::default(),
        scope: None,
        row: Box::new(|namespace| {
            let labels = namespace.metadata.labels.clone().unwrap_or_default();
            Some((cluster_row(namespace.metadata.name.as_deref()?), labels))
        }),
        view: Box::new(|cluster| Some(&cluster.namespaces)),
        touched: Box::new(|cluster, change| cluster.touched_by_namespace(change)),
        other: |_, _| {},
        relisted: |_| {},
        required: true,
    }
    .task(common)
}

/// Nodes only add zones and whether a pod's node is lost: the operator is ready without the right to see them.
fn nodes(common: &Common) -> impl Future<Output = ()> + Send + 'static {
    Follow {
        kind: "Node",
        api: Api::<Node>::all(common.client.clone()),
        config: watcher::Config::default(),
        scope: None,
        row: Box::new(|node| Some((cluster_row(node.metadata.name.as_deref()?), rows::node(node)))),
        view: Box::new(|cluster| Some(&cluster.nodes)),
        touched: Box::new(|cluster, change| cluster.touched_by_node(change)),
        other: |_, _| {},
        relisted: |_| {},
        required: false,
    }
    .task(common)
}

fn pods(common: &Common, scope: &Scope) -> impl Future<Output = ()> + Send + 'static {
    Follow {
        kind: "Pod",
        api: api::<Pod>(&common.client, scope),
        config: ours(),
        scope: scope.clone(),
        row: Box::new(|pod| Some((labelled(pod.meta())?, rows::pod(pod)))),
        view: Box::new(|cluster| Some(&cluster.pods)),
        touched: Box::new(|cluster, change| cluster.touched_by_pod(change)),
        other: |_, _| {},
        relisted: |_| {},
        required: true,
    }
    .task(common)
}

/// Every Secret, by its metadata alone: a Secret that a spec names carries no label of ours, and its content is read by
/// name when it is needed.
fn secrets(common: &Common, scope: &Scope) -> impl Future<Output = ()> + Send + 'static {
    Follow {
        kind: "Secret",
        api: api::<PartialObjectMeta<Secret>>(&common.client, scope),
        config: watcher::Config::default(),
        scope: scope.clone(),
        row: Box::new(|secret| {
            let row = rows::owned("Secret", &secret.metadata, Detail::Plain);
            Some((labelled(&secret.metadata)?, row))
        }),
        view: Box::new(|cluster| cluster.owned.get("Secret")),
        touched: Box::new(|cluster, change| cluster.touched_by_owned(change)),
        other: |cluster, secret| cluster.touched_by_source(&secret.metadata),
        relisted: Cluster::touch_all,
        required: true,
    }
    .task(common)
}

fn leases(common: &Common, scope: &Scope) -> impl Future<Output = ()> + Send + 'static {
    with_detail::<Lease>(common, scope, "Lease", rows::report)
}

fn services(common: &Common, scope: &Scope) -> impl Future<Output = ()> + Send + 'static {
    with_detail::<Service>(common, scope, "Service", rows::load_balancer)
}

fn stateful_sets(common: &Common, scope: &Scope) -> impl Future<Output = ()> + Send + 'static {
    with_detail::<StatefulSet>(common, scope, "StatefulSet", rows::stateful_set)
}

fn with_detail<K>(
    common: &Common,
    scope: &Scope,
    kind: &'static str,
    detail: fn(&K) -> Detail,
) -> impl Future<Output = ()> + Send + 'static
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + Sync
        + 'static,
{
    Follow::<K, Owned> {
        kind,
        api: api::<K>(&common.client, scope),
        config: ours(),
        scope: scope.clone(),
        row: Box::new(move |object| {
            Some((
                labelled(object.meta())?,
                rows::owned(kind, object.meta(), detail(object)),
            ))
        }),
        view: Box::new(move |cluster| cluster.owned.get(kind)),
        touched: Box::new(|cluster, change| cluster.touched_by_owned(change)),
        other: |_, _| {},
        relisted: |_| {},
        required: true,
    }
    .task(common)
}

/// A kind of which nothing is needed but that it is as it was applied.
fn plain<K>(common: &Common, scope: &Scope, kind: &'static str) -> impl Future<Output = ()> + Send + 'static
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + Sync
        + 'static,
{
    with_detail::<PartialObjectMeta<K>>(common, scope, kind, |_| Detail::Plain)
}

/// The row key of an object with our label.
fn labelled(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Option<RowKey> {
    Some(RowKey {
        namespace: metadata.namespace.clone()?,
        proxy: proxy_label(metadata)?.to_owned(),
        name: metadata.name.clone()?,
    })
}
