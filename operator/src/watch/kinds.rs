//! Which kinds are watched, and what is kept of their objects.

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client, Resource};
use operator_core::names::PROXY_LABEL;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Cluster;
use super::cache::{Cache, Change};
use super::owned::{self, Detail};
use super::pod;
use super::reflector::{MAX_SILENCE, Watch};
use super::row::{self, Row, proxy_label};
use crate::health::{Health, List, Needed, Scope};
use crate::metrics::Metrics;
use crate::queue::Root;

/// Starts every watch, in all namespaces or in each of those named.
pub(crate) fn start(
    client: &Client,
    cluster: &Arc<Cluster>,
    scopes: &[Scope],
    health: &Health,
    metrics: &Metrics,
    stop: &CancellationToken,
) -> JoinSet<()> {
    let mut watches = Watches {
        client: client.clone(),
        cluster: Arc::clone(cluster),
        health: health.clone(),
        metrics: metrics.clone(),
        stop: stop.clone(),
        tasks: JoinSet::new(),
    };
    let grants = Api::all(client.clone());
    watches.roots(
        "DirectoryGrant",
        grants,
        &None,
        |c| &c.grants,
        Cluster::grant_changed,
    );
    let registrations = Api::all(client.clone());
    watches.roots(
        "DirectoryRegistration",
        registrations,
        &None,
        |c| &c.registrations,
        Cluster::registration_changed,
    );
    watches.namespaces();
    watches.nodes();
    for scope in scopes {
        let proxies = api(client, scope);
        watches.roots(
            "RadiusProxy",
            proxies,
            scope,
            |c| &c.proxies,
            Cluster::proxy_changed,
        );
        watches.pods(scope);
        watches.secrets(scope);
        watches.owned::<Lease>("Lease", scope, Needed::ToWork, owned::report);
        watches.owned::<Service>("Service", scope, Needed::ToWork, owned::load_balancer);
        watches.owned::<StatefulSet>("StatefulSet", scope, Needed::ToWork, owned::stateful_set);
        watches.owned::<PartialObjectMeta<ServiceAccount>>(
            "ServiceAccount",
            scope,
            Needed::ToWork,
            |account| owned::service_account(&account.metadata),
        );
        watches.metadata::<Role>("Role", scope);
        watches.metadata::<RoleBinding>("RoleBinding", scope);
        watches.metadata::<ConfigMap>("ConfigMap", scope);
        watches.metadata::<NetworkPolicy>("NetworkPolicy", scope);
        watches.metadata::<PodDisruptionBudget>("PodDisruptionBudget", scope);
    }
    watches.tasks
}

/// A kind of objects in namespaces.
trait Namespaced: Root + Resource<DynamicType = (), Scope = NamespaceResourceScope> {}

impl<K: Root + Resource<DynamicType = (), Scope = NamespaceResourceScope>> Namespaced for K {}

fn api<K>(client: &Client, scope: &Scope) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match scope {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

fn ours() -> Config {
    Config::default().labels(PROXY_LABEL)
}

/// Starts watches. Clones of what they need go into their tasks.
struct Watches {
    client: Client,
    cluster: Arc<Cluster>,
    health: Health,
    metrics: Metrics,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Watches {
    /// A kind that has a controller.
    fn roots<K: Root>(
        &mut self,
        kind: &'static str,
        api: Api<DeserializeGuard<K>>,
        scope: &Scope,
        cache: fn(&Cluster) -> &Cache<DeserializeGuard<K>>,
        changed: fn(&Cluster, &Change<DeserializeGuard<K>>),
    ) {
        let list = self.health.expect_list(kind, scope, Needed::Always);
        let scope = scope.clone();
        self.watch(kind, api, Config::default(), Some(list), move |cluster, event| {
            // The managed fields are larger than the rest of an object, and only the API server needs them.
            let event = event.modify(|object| object.meta_mut().managed_fields = None);
            for change in cache(cluster).apply(&scope, event) {
                changed(cluster, &change);
            }
        });
    }

    /// Labels of namespaces, for grants that select by them. Nothing else needs them.
    fn namespaces(&mut self) {
        let list = self.health.expect_list("Namespace", &None, Needed::ToNotice);
        let api = Api::<PartialObjectMeta<Namespace>>::all(self.client.clone());
        self.watch(
            "Namespace",
            api,
            Config::default(),
            Some(list),
            |cluster, event| {
                let labels = |namespace: &PartialObjectMeta<Namespace>| {
                    Some(namespace.metadata.labels.clone().unwrap_or_default())
                };
                for change in apply(&cluster.namespaces, &None, event, labels) {
                    cluster.namespace_changed(&change);
                }
            },
        );
    }

    /// Nodes add zones, and whether a pod's node is lost. The operator works without permission to see them.
    fn nodes(&mut self) {
        let api = Api::<Node>::all(self.client.clone());
        self.watch("Node", api, Config::default(), None, |cluster, event| {
            for change in apply(&cluster.nodes, &None, event, |node| Some(row::node(node))) {
                cluster.node_changed(&change);
            }
        });
    }

    fn pods(&mut self, scope: &Scope) {
        let list = self.health.expect_list("Pod", scope, Needed::ToWork);
        let (api, scope) = (api::<Pod>(&self.client, scope), scope.clone());
        self.watch("Pod", api, ours(), Some(list), move |cluster, event| {
            for change in apply(&cluster.pods, &scope, event, |pod| Some(pod::pod(pod))) {
                cluster.pod_changed(&change);
            }
        });
    }

    /// Every Secret, by its metadata alone: a Secret that a spec names has no label of ours, and its content is read when
    /// it is needed.
    fn secrets(&mut self, scope: &Scope) {
        let list = self.health.expect_list("Secret", scope, Needed::ToWork);
        let api = api::<PartialObjectMeta<Secret>>(&self.client, scope);
        let (scope, mut lists) = (scope.clone(), 0_u64);
        self.watch(
            "Secret",
            api,
            Config::default(),
            Some(list),
            move |cluster, event| {
                match &event {
                    Event::Apply(secret) | Event::Delete(secret)
                        if proxy_label(&secret.metadata).is_none() =>
                    {
                        cluster.source_changed(&secret.metadata);
                    }
                    Event::InitDone => {
                        lists += 1;
                        if lists > 1 {
                            cluster.sources_relisted();
                        }
                    }
                    _ => {}
                }
                apply_owned(cluster, "Secret", &scope, event, |_| Detail::Plain);
            },
        );
    }

    fn owned<K: Namespaced>(
        &mut self,
        kind: &'static str,
        scope: &Scope,
        needed: Needed,
        detail: fn(&K) -> Detail,
    ) {
        let list = self.health.expect_list(kind, scope, needed);
        let (api, scope) = (api::<K>(&self.client, scope), scope.clone());
        self.watch(kind, api, ours(), Some(list), move |cluster, event| {
            apply_owned(cluster, kind, &scope, event, detail);
        });
    }

    /// A kind that is watched only to notice that somebody changed an object.
    fn metadata<K: Namespaced>(&mut self, kind: &'static str, scope: &Scope) {
        self.owned::<PartialObjectMeta<K>>(kind, scope, Needed::ToNotice, |_| Detail::Plain);
    }

    /// Starts one watch, whose events `apply` takes over.
    fn watch<K>(
        &mut self,
        kind: &'static str,
        api: Api<K>,
        config: Config,
        list: Option<List>,
        apply: impl FnMut(&Cluster, Event<K>) + Send + 'static,
    ) where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let watch = Watch {
            kind,
            list: list.unwrap_or_default(),
            heartbeat: self.health.expect_heartbeat(kind, MAX_SILENCE),
            metrics: self.metrics.clone(),
            cluster: Arc::clone(&self.cluster),
            stop: self.stop.clone(),
        };
        self.tasks.spawn(watch.run(api, config, apply));
    }
}

fn apply_owned<K: Resource<DynamicType = ()>>(
    cluster: &Cluster,
    kind: &'static str,
    scope: &Scope,
    event: Event<K>,
    detail: fn(&K) -> Detail,
) {
    let Some(cache) = cluster.owned.get(kind) else {
        return;
    };
    let row = |object: &K| {
        proxy_label(object.meta())?;
        Some(owned::owned(kind, object.meta(), detail(object)))
    };
    for change in apply(cache, scope, event, row) {
        cluster.owned_changed(&change);
    }
}

/// Takes over the row of an object; an object without one has none any more.
fn apply<K: Resource, V: Clone + 'static>(
    cache: &Cache<Row<V>>,
    scope: &Scope,
    event: Event<K>,
    value: impl Fn(&K) -> Option<V>,
) -> Vec<Change<Row<V>>> {
    let row = |object: &K| Some(Row::new(object.meta(), value(object)?));
    let event = match event {
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
        Event::InitApply(object) => match row(&object) {
            Some(row) => Event::InitApply(row),
            None => return Vec::new(),
        },
        Event::Apply(object) => match row(&object) {
            Some(row) => Event::Apply(row),
            None => {
                return cache
                    .remove(&row::object_ref(object.meta()))
                    .into_iter()
                    .collect();
            }
        },
        Event::Delete(object) => {
            return cache
                .remove(&row::object_ref(object.meta()))
                .into_iter()
                .collect();
        }
    };
    cache.apply(scope, event)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::{Value, json};

    use super::*;
    use crate::fake_api::{Call, FakeApi, list, refused};
    use crate::health::{Lists, Readiness};
    use crate::object_keys::RadiusProxyKey;
    use crate::queue::{Queue, WorkQueue};

    fn proxy(namespace: &str) -> Value {
        json!({"apiVersion": "radius-mfa.dev/v1alpha1", "kind": "RadiusProxy",
            "metadata": {"name": "p", "namespace": namespace, "uid": namespace, "resourceVersion": "7"},
            "spec": {"provider": {"totp": {"seedsSecretRef": {"name": "seeds"}}}}})
    }

    /// Waits until something is so. What a watch does shows in no future that a test could wait for.
    async fn until(what: &str, is_so: impl Fn() -> bool) {
        let wait = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
        assert!(waited.is_ok(), "{what}");
    }

    fn watch(api: &FakeApi, scopes: &[&str]) -> (Arc<Cluster>, Health, Metrics, impl Sized) {
        let (health, metrics) = (Health::new(Instant::now()), Metrics::new());
        let cluster = Arc::new(Cluster::new(WorkQueue::new(), Queue::new(), Queue::new()));
        let scopes: Vec<Scope> = scopes.iter().map(|name| Some((*name).to_owned())).collect();
        let stop = CancellationToken::new();
        let tasks = start(&api.client, &cluster, &scopes, &health, &metrics, &stop);
        (cluster, health, metrics, tasks)
    }

    #[tokio::test]
    async fn a_namespace_whose_permissions_are_gone_is_reported_and_stops_no_other() {
        let api = FakeApi::new(|call: &Call| {
            if call.uri.contains("watch=") {
                return None;
            }
            // What a ClusterRole allows is listed even so.
            Some(match call.uri.contains("/radiusproxies?") {
                true if call.uri.contains("/a/") => list(&[proxy("a")]),
                true => list(&[proxy("b")]),
                false if call.uri.contains("/b/") => refused(403, "Forbidden"),
                false => list(&[]),
            })
        });
        let (cluster, health, metrics, _tasks) = watch(&api, &["a", "b"]);
        until("a is listed", || health.lists("a") == Lists::Complete).await;
        until("b is broken", || health.lists("b") == Lists::Broken).await;
        let Readiness { ready, missing } = health.readiness();
        assert!(ready, "{missing:?}");
        assert!(
            missing
                .iter()
                .any(|line| line.starts_with("Pod objects in b can't be watched: "))
        );
        assert!(missing.iter().all(|line| line.contains(" in b ")), "{missing:?}");
        for namespace in ["a", "b"] {
            assert!(cluster.proxy(&RadiusProxyKey::new(namespace, "p")).is_some());
        }
        metrics.show_broken_watches(health.broken());
        let text = metrics.encode();
        assert!(text.contains("broken_watches{namespace=\"a\"} 0\n"), "{text}");
        assert!(text.contains("broken_watches{namespace=\"b\"} 11\n"), "{text}");
    }

    #[test]
    fn an_object_that_loses_its_label_has_no_row_any_more() {
        let secret = |labels: Value| -> PartialObjectMeta<Secret> {
            let metadata = json!({"name": "s", "namespace": "n", "labels": labels});
            serde_json::from_value(json!({"metadata": metadata})).unwrap()
        };
        let (cache, scope) = (Cache::<Row<()>>::new(), None);
        let owner = |secret: &PartialObjectMeta<Secret>| proxy_label(&secret.metadata).map(|_| ());
        let ours = secret(json!({PROXY_LABEL: "a"}));
        assert_eq!(apply(&cache, &scope, Event::Apply(ours), owner).len(), 1);
        let changes = apply(&cache, &scope, Event::Apply(secret(json!({}))), owner);
        assert!(changes[0].after.is_none());
        assert!(cache.store().is_empty());
        assert!(apply(&cache, &scope, Event::Delete(secret(json!({}))), owner).is_empty());
    }
}
