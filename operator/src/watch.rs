//! The cluster as it is watched, and what a change of it touches.

mod follow;
pub(crate) mod rows;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use operator_core::access::Labels;
use operator_core::api::{DirectoryGrant, RadiusProxy};
use operator_core::input::{PodState, secrets_named_by, seeds_selector};
use operator_core::plan::Object;
use tokio::sync::Notify;

use crate::key::ProxyKey;
use crate::queue::WorkQueue;
pub(crate) use follow::start;
use rows::{Detail, NodeRow, Owned};
pub(crate) use view::{Change, RowKey, View};

/// Everything that is watched. It is read by `gather` and by nobody else.
#[derive(Debug)]
pub(crate) struct Cluster {
    proxies: RwLock<View<Arc<RadiusProxy>>>,
    grants: RwLock<View<Arc<DirectoryGrant>>>,
    /// The labels of namespaces; empty without the permission to list them.
    namespaces: RwLock<View<Labels>>,
    /// Wakes whoever writes the status of the grants.
    grants_changed: Notify,
    pods: RwLock<View<PodState>>,
    nodes: RwLock<View<NodeRow>>,
    owned: BTreeMap<&'static str, RwLock<View<Owned>>>,
    /// The Secrets that were last found by their labels: one that loses them is a change too.
    sources: RwLock<BTreeMap<ProxyKey, BTreeSet<String>>>,
    queue: WorkQueue,
}

/// The kinds that a RadiusProxy owns, as [`Object::kind`] names them.
const OWNED_KINDS: [&str; 10] = [
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "Lease",
    "Secret",
    "ConfigMap",
    "NetworkPolicy",
    "Service",
    "PodDisruptionBudget",
    "StatefulSet",
];

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

impl Cluster {
    /// Nothing seen yet; what changes is put into `queue`.
    pub(crate) fn new(queue: WorkQueue) -> Self {
        Self {
            proxies: RwLock::default(),
            grants: RwLock::default(),
            namespaces: RwLock::default(),
            grants_changed: Notify::new(),
            pods: RwLock::default(),
            nodes: RwLock::default(),
            owned: OWNED_KINDS
                .into_iter()
                .map(|kind| (kind, RwLock::default()))
                .collect(),
            sources: RwLock::default(),
            queue,
        }
    }

    /// A RadiusProxy as the watch has it.
    pub(crate) fn proxy(&self, key: &ProxyKey) -> Option<Arc<RadiusProxy>> {
        read(&self.proxies).find(&row_key(key)).cloned()
    }

    /// Every RadiusProxy.
    pub(crate) fn proxies(&self) -> Vec<Arc<RadiusProxy>> {
        read(&self.proxies)
            .all()
            .map(|(_, proxy)| Arc::clone(proxy))
            .collect()
    }

    /// How many RadiusProxy resources there are.
    pub(crate) fn proxies_seen(&self) -> usize {
        read(&self.proxies).len()
    }

    /// Other RadiusProxy resources that name the same directory and region.
    pub(crate) fn rivals(&self, proxy: &RadiusProxy) -> Vec<Arc<RadiusProxy>> {
        let own = ProxyKey::of(proxy);
        read(&self.proxies)
            .all()
            .filter(|(_, other)| same_directory(proxy, other) && ProxyKey::of(other) != own)
            .map(|(_, other)| Arc::clone(other))
            .collect()
    }

    /// Every DirectoryGrant.
    pub(crate) fn grants(&self) -> Vec<Arc<DirectoryGrant>> {
        read(&self.grants)
            .all()
            .map(|(_, grant)| Arc::clone(grant))
            .collect()
    }

    /// The labels of a namespace; `None` when they are unknown.
    pub(crate) fn namespace_labels(&self, name: &str) -> Option<Labels> {
        read(&self.namespaces).find(&cluster_row(name)).cloned()
    }

    /// The labels of all namespaces by name; `None` when they are unknown.
    pub(crate) fn namespaces(&self) -> Option<BTreeMap<String, Labels>> {
        let namespaces = read(&self.namespaces);
        let all = namespaces
            .all()
            .map(|(key, labels)| (key.name.clone(), labels.clone()));
        (namespaces.len() > 0).then(|| all.collect())
    }

    /// Resolves when the status of a grant may have to change.
    pub(crate) async fn grants_changed(&self) {
        self.grants_changed.notified().await;
    }

    /// The pods of a RadiusProxy, with what their nodes add.
    pub(crate) fn pods(&self, key: &ProxyKey) -> Vec<PodState> {
        let nodes = read(&self.nodes);
        read(&self.pods)
            .of(&key.namespace, &key.name)
            .map(|(_, pod)| {
                let node = pod
                    .node
                    .as_deref()
                    .and_then(|name| nodes.find(&cluster_row(name)));
                PodState {
                    zone: node.and_then(|node| node.zone.clone()),
                    // An unknown node counts as ready: nodes may not be readable, or be known later than their pods.
                    node_ready: node.is_none_or(|node| node.ready),
                    ..pod.clone()
                }
            })
            .collect()
    }

    /// The RadiusProxy resources whose pods are being brought to another image or template.
    pub(crate) fn upgrading(&self) -> BTreeSet<ProxyKey> {
        let Some(view) = self.owned.get("StatefulSet") else {
            return BTreeSet::new();
        };
        let is_upgrading = |row: &Owned| matches!(&row.detail, Detail::StatefulSet(set) if set.upgrading);
        read(view)
            .all()
            .filter(|(_, row)| is_upgrading(row))
            .map(|(key, _)| ProxyKey::new(&key.namespace, &key.proxy))
            .collect()
    }

    /// The owned objects of one kind and RadiusProxy, by name.
    pub(crate) fn owned_of(&self, kind: &str, key: &ProxyKey) -> Vec<(String, Owned)> {
        let Some(view) = self.owned.get(kind) else {
            return Vec::new();
        };
        read(view)
            .of(&key.namespace, &key.name)
            .map(|(name, row)| (name.to_owned(), row.clone()))
            .collect()
    }

    /// An owned object, when the watch has it.
    pub(crate) fn owned(&self, object: &Object, key: &ProxyKey) -> Option<Owned> {
        let row = RowKey {
            namespace: key.namespace.clone(),
            proxy: key.name.clone(),
            name: object.name().to_owned(),
        };
        read(self.owned.get(object.kind())?).find(&row).cloned()
    }

    /// Has every RadiusProxy looked at.
    pub(crate) fn touch_all(&self) {
        for proxy in self.proxies() {
            self.queue.touch(ProxyKey::of(&proxy));
        }
    }

    fn touched_by_proxy(&self, change: &Change<Arc<RadiusProxy>>) {
        if let (Some(before), Some(after)) = (&change.before, &change.after)
            && same_for_work(before, after)
        {
            return;
        }
        self.grants_changed.notify_one();
        let key = ProxyKey::new(&change.key.namespace, &change.key.name);
        if change.after.is_none() {
            self.remember_sources(&key, BTreeSet::new());
        }
        self.queue.touch(key);
        if let Some(proxy) = change.after.as_ref().or(change.before.as_ref()) {
            for rival in self.rivals(proxy) {
                self.queue.touch(ProxyKey::of(&rival));
            }
        }
    }

    fn touched_by_grant(&self, change: &Change<Arc<DirectoryGrant>>) {
        let spec = |grant: &Option<Arc<DirectoryGrant>>| {
            grant
                .as_ref()
                .map(|grant| (grant.spec.clone(), grant.metadata.deletion_timestamp.is_some()))
        };
        if spec(&change.before) != spec(&change.after) {
            self.grants_changed.notify_one();
            self.touch_all();
        }
    }

    fn touched_by_namespace(&self, change: &Change<Labels>) {
        if change.before == change.after {
            return;
        }
        self.grants_changed.notify_one();
        let selects = |grant: &Arc<DirectoryGrant>| grant.spec.namespace_selector.is_some();
        if !self.grants().iter().any(selects) {
            return;
        }
        // Whether another RadiusProxy may have the directory matters to its rivals too.
        let inside: Vec<_> = read(&self.proxies)
            .inside(&change.key.name)
            .map(|(_, proxy)| Arc::clone(proxy))
            .collect();
        for proxy in inside {
            self.queue.touch(ProxyKey::of(&proxy));
            for rival in self.rivals(&proxy) {
                self.queue.touch(ProxyKey::of(&rival));
            }
        }
    }

    fn touched_by_pod(&self, change: &Change<PodState>) {
        if change.before != change.after && !change.key.proxy.is_empty() {
            self.queue
                .touch(ProxyKey::new(&change.key.namespace, &change.key.proxy));
        }
    }

    fn touched_by_owned(&self, change: &Change<Owned>) {
        let news = match (&change.before, &change.after) {
            (Some(before), Some(after)) => before.is_news(after),
            _ => true,
        };
        if news && !change.key.proxy.is_empty() {
            self.queue
                .touch(ProxyKey::new(&change.key.namespace, &change.key.proxy));
        }
    }

    fn touched_by_node(&self, change: &Change<NodeRow>) {
        if change.before == change.after {
            return;
        }
        let on_it = |pod: &PodState| pod.node.as_deref() == Some(change.key.name.as_str());
        for (key, _) in read(&self.pods).all().filter(|(_, pod)| on_it(pod)) {
            self.queue.touch(ProxyKey::new(&key.namespace, &key.proxy));
        }
    }

    /// Remembers which Secrets were found by their labels.
    pub(crate) fn remember_sources(&self, key: &ProxyKey, names: BTreeSet<String>) {
        let mut sources = self.sources.write().unwrap_or_else(PoisonError::into_inner);
        if names.is_empty() {
            sources.remove(key);
        } else {
            sources.insert(key.clone(), names);
        }
    }

    /// A Secret that may be somebody's source.
    fn touched_by_source(&self, metadata: &ObjectMeta) {
        let (Some(namespace), Some(name)) = (&metadata.namespace, &metadata.name) else {
            return;
        };
        let (proxies, sources) = (read(&self.proxies), read(&self.sources));
        for (_, proxy) in proxies.inside(namespace) {
            let key = ProxyKey::of(proxy);
            let is_meant = secrets_named_by(&proxy.spec).contains(name)
                || seeds_selector(&proxy.spec).is_some_and(|s| s.matches(metadata.labels.as_ref()))
                || sources.get(&key).is_some_and(|names| names.contains(name));
            if is_meant {
                self.queue.touch(key);
            }
        }
    }
}

fn row_key(key: &ProxyKey) -> RowKey {
    RowKey {
        namespace: key.namespace.clone(),
        proxy: key.name.clone(),
        name: key.name.clone(),
    }
}

fn cluster_row(name: &str) -> RowKey {
    RowKey {
        namespace: String::new(),
        proxy: String::new(),
        name: name.to_owned(),
    }
}

/// Compared with every other resource for each piece of work, so nothing is copied for it.
fn same_directory(a: &RadiusProxy, b: &RadiusProxy) -> bool {
    match (&a.spec.directory, &b.spec.directory) {
        (Some(a), Some(b)) => a.id == b.id && a.region == b.region,
        _ => false,
    }
}

/// Whether nothing changed but the status, which is the operator's own.
fn same_for_work(a: &RadiusProxy, b: &RadiusProxy) -> bool {
    let of = |proxy: &RadiusProxy| {
        let m = &proxy.metadata;
        (
            m.uid.clone(),
            m.generation,
            m.deletion_timestamp.clone(),
            m.finalizers.clone(),
            m.annotations.clone(),
            m.labels.clone(),
        )
    };
    of(a) == of(b)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use operator_core::api::RadiusProxySpec;
    use serde_json::json;

    use super::*;
    use crate::queue::Next;

    fn proxy(name: &str, directory: &str, generation: i64) -> Arc<RadiusProxy> {
        let spec: RadiusProxySpec = serde_json::from_value(json!({
            "directory": {"id": directory, "region": "eu-central-1"},
            "provider": {"totp": {"seedsSecretRef": {"name": "seeds"}}}
        }))
        .unwrap();
        let mut proxy = RadiusProxy::new(name, spec);
        proxy.metadata.namespace = Some("mfa".to_owned());
        proxy.metadata.generation = Some(generation);
        Arc::new(proxy)
    }

    fn cluster() -> (Cluster, WorkQueue) {
        let queue = WorkQueue::new();
        (Cluster::new(queue.clone()), queue)
    }

    fn secret(namespace: &str, name: &str, labels: &[(&str, &str)]) -> ObjectMeta {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        ObjectMeta {
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            labels: Some(labels.collect()),
            ..ObjectMeta::default()
        }
    }

    fn put(cluster: &Cluster, proxy: Arc<RadiusProxy>) {
        let key = row_key(&ProxyKey::of(&proxy));
        let changes = cluster.proxies.write().unwrap().put(key, proxy);
        for change in &changes {
            cluster.touched_by_proxy(change);
        }
    }

    fn drain(queue: &WorkQueue) -> Vec<String> {
        let later = Instant::now() + Duration::from_secs(60);
        let mut names = Vec::new();
        while let Next::Start(key) = queue.lock().next(later) {
            names.push(key.name.clone());
        }
        for name in &names {
            queue.lock().gone(&ProxyKey::new("mfa", name));
        }
        names.sort();
        names
    }

    #[test]
    fn a_new_status_touches_nobody_and_a_new_spec_the_rivals_too() {
        let (cluster, queue) = cluster();
        put(&cluster, proxy("a", "d-0000000001", 1));
        put(&cluster, proxy("b", "d-0000000001", 1));
        put(&cluster, proxy("c", "d-0000000002", 1));
        assert_eq!(drain(&queue), ["a", "b", "c"]);
        let mut told = (*proxy("a", "d-0000000001", 1)).clone();
        told.status = Some(operator_core::api::RadiusProxyStatus::default());
        put(&cluster, Arc::new(told));
        assert_eq!(drain(&queue), [""; 0]);
        put(&cluster, proxy("a", "d-0000000001", 2));
        assert_eq!(drain(&queue), ["a", "b"]);
    }

    #[test]
    fn a_secret_touches_those_who_name_it() {
        let (cluster, queue) = cluster();
        put(&cluster, proxy("a", "d-0000000001", 1));
        drain(&queue);
        cluster.touched_by_source(&secret("mfa", "another", &[]));
        cluster.touched_by_source(&secret("elsewhere", "seeds", &[]));
        assert_eq!(drain(&queue), [""; 0]);
        cluster.touched_by_source(&secret("mfa", "seeds", &[]));
        assert_eq!(drain(&queue), ["a"]);
    }

    #[test]
    fn a_secret_that_gains_or_loses_the_labels_touches_those_who_select_it() {
        let (cluster, queue) = cluster();
        let mut by_label = (*proxy("a", "d-0000000001", 1)).clone();
        by_label.spec.provider = serde_json::from_value(json!(
            {"totp": {"seedsSelector": {"matchLabels": {"mfa": "totp"}}}}
        ))
        .unwrap();
        put(&cluster, Arc::new(by_label));
        drain(&queue);
        cluster.touched_by_source(&secret("mfa", "jane", &[("mfa", "other")]));
        assert_eq!(drain(&queue), [""; 0]);
        cluster.touched_by_source(&secret("mfa", "jane", &[("mfa", "totp"), ("team", "x")]));
        assert_eq!(drain(&queue), ["a"]);
        cluster.remember_sources(&ProxyKey::new("mfa", "a"), ["jane".to_owned()].into());
        cluster.touched_by_source(&secret("mfa", "jane", &[]));
        assert_eq!(drain(&queue), ["a"]);
    }

    #[test]
    fn another_label_of_a_namespace_touches_those_inside_when_a_grant_selects_by_labels() {
        let (cluster, queue) = cluster();
        put(&cluster, proxy("a", "d-0000000001", 1));
        drain(&queue);
        let label = |value: &str| {
            let labels = Labels::from([("mfa".to_owned(), value.to_owned())]);
            let changes = cluster
                .namespaces
                .write()
                .unwrap()
                .put(cluster_row("mfa"), labels);
            for change in &changes {
                cluster.touched_by_namespace(change);
            }
        };
        label("no");
        assert_eq!(drain(&queue), [""; 0], "no grant selects namespaces");
        let grant = json!({
            "apiVersion": "radius-mfa.dev/v1alpha1", "kind": "DirectoryGrant", "metadata": {"name": "g"},
            "spec": {"namespaceSelector": {"matchLabels": {"mfa": "yes"}},
                     "directories": [{"region": "eu-central-1", "directoryIds": ["d-0000000001"]}]},
        });
        let grant = Arc::new(serde_json::from_value(grant).unwrap());
        cluster.grants.write().unwrap().put(cluster_row("g"), grant);
        label("yes");
        assert_eq!(drain(&queue), ["a"]);
        label("yes");
        assert_eq!(drain(&queue), [""; 0]);
        assert_eq!(cluster.namespace_labels("mfa").unwrap()["mfa"], "yes");
        assert_eq!(cluster.namespace_labels("elsewhere"), None);
    }

    #[test]
    fn a_pod_knows_its_zone_and_whether_its_node_is_lost() {
        let (cluster, _queue) = cluster();
        let pod = PodState {
            name: "a-0".to_owned(),
            node: Some("n1".to_owned()),
            ..PodState::default()
        };
        let key = RowKey {
            namespace: "mfa".to_owned(),
            proxy: "a".to_owned(),
            name: "a-0".to_owned(),
        };
        cluster.pods.write().unwrap().put(key, pod);
        let of_a = ProxyKey::new("mfa", "a");
        assert!(cluster.pods(&of_a)[0].node_ready, "no node is known at all");
        let node = |ready| NodeRow {
            zone: Some("z1".to_owned()),
            ready,
        };
        cluster.nodes.write().unwrap().put(cluster_row("n2"), node(true));
        assert!(cluster.pods(&of_a)[0].node_ready, "its node is not known");
        cluster.nodes.write().unwrap().put(cluster_row("n1"), node(true));
        assert_eq!(cluster.pods(&of_a)[0].zone.as_deref(), Some("z1"));
        assert!(cluster.pods(&of_a)[0].node_ready);
        cluster.nodes.write().unwrap().put(cluster_row("n1"), node(false));
        assert!(!cluster.pods(&of_a)[0].node_ready);
    }
}
