//! The cluster as it is watched, and which RadiusProxy resources a change concerns.

mod cache;
mod kinds;
pub(crate) mod owned;
mod pod;
mod reflector;
pub(crate) mod row;
mod seeds;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};
use operator_core::access::Labels;
use operator_core::api::{DirectoryGrant, DirectoryRegistration, RadiusProxy};
use operator_core::objects::Object;
use operator_core::observed::PodState;
use operator_core::secrets;
use tokio::sync::Notify;

use crate::metrics::Metrics;
use crate::object_keys::{RadiusProxyKey, RegistrationKey};
use crate::queue::{Queue, WorkQueue};
use cache::{Cache, Change};
pub(crate) use cache::{decoded, guarded, unguarded};
pub(crate) use kinds::start;
use owned::{Detail, Owned};
use row::{NodeRow, Row};
pub(crate) use seeds::{SeedSecrets, Seeds};

/// Everything that is watched. `gather` reads it.
#[derive(Debug)]
pub(crate) struct Cluster {
    proxies: Cache<DeserializeGuard<RadiusProxy>>,
    grants: Cache<DeserializeGuard<DirectoryGrant>>,
    registrations: Cache<DeserializeGuard<DirectoryRegistration>>,
    /// The labels of namespaces.
    namespaces: Cache<Row<Labels>>,
    /// Wakes what writes the status of the grants.
    grants_changed: Notify,
    pods: Cache<Row<PodState>>,
    nodes: Cache<Row<NodeRow>>,
    owned: BTreeMap<&'static str, Cache<Row<Owned>>>,
    pub(crate) seeds: Seeds,
    queue: WorkQueue,
    grant_queue: Queue<DirectoryGrant>,
    registration_queue: Queue<DirectoryRegistration>,
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

impl Cluster {
    /// Nothing seen yet; changes trigger these controllers.
    pub(crate) fn new(
        queue: WorkQueue,
        grant_queue: Queue<DirectoryGrant>,
        registration_queue: Queue<DirectoryRegistration>,
    ) -> Self {
        Self {
            proxies: Cache::new(),
            grants: Cache::new(),
            registrations: Cache::new(),
            namespaces: Cache::new(),
            grants_changed: Notify::new(),
            pods: Cache::new(),
            nodes: Cache::new(),
            owned: OWNED_KINDS.into_iter().map(|kind| (kind, Cache::new())).collect(),
            seeds: Seeds::default(),
            queue,
            grant_queue,
            registration_queue,
        }
    }

    /// Every RadiusProxy, for its controller.
    pub(crate) const fn proxy_store(&self) -> &Store<DeserializeGuard<RadiusProxy>> {
        self.proxies.store()
    }

    /// Every DirectoryGrant, for its controller.
    pub(crate) const fn grant_store(&self) -> &Store<DeserializeGuard<DirectoryGrant>> {
        self.grants.store()
    }

    /// Every DirectoryRegistration, for its controller.
    pub(crate) const fn registration_store(&self) -> &Store<DeserializeGuard<DirectoryRegistration>> {
        self.registrations.store()
    }

    /// A DirectoryRegistration as the watch has it, if it can be decoded.
    pub(crate) fn registration(&self, key: &RegistrationKey) -> Option<DirectoryRegistration> {
        self.registrations.find(key.into())
    }

    /// RadiusProxy resources that name this directory and region.
    pub(crate) fn of_directory(&self, key: &RegistrationKey) -> Vec<RadiusProxy> {
        let all = self.proxies.store().state();
        all.iter()
            .filter_map(|proxy| proxy.0.as_ref().ok())
            .filter(|proxy| RegistrationKey::of(proxy).as_ref() == Some(key))
            .cloned()
            .collect()
    }

    /// A RadiusProxy as the watch has it, if it can be decoded.
    pub(crate) fn proxy(&self, key: &RadiusProxyKey) -> Option<RadiusProxy> {
        self.proxies.find(key.into())
    }

    /// Whether there is such a RadiusProxy.
    pub(crate) fn has_proxy(&self, key: &RadiusProxyKey) -> bool {
        self.proxies.store().get(&guarded(key.into())).is_some()
    }

    /// Other RadiusProxy resources that name the same directory and region.
    pub(crate) fn rivals(&self, proxy: &RadiusProxy) -> Vec<RadiusProxy> {
        let own = RadiusProxyKey::of(proxy);
        let all = self.proxies.store().state();
        all.iter()
            .filter_map(|other| other.0.as_ref().ok())
            .filter(|other| same_directory(proxy, other) && RadiusProxyKey::of(other) != own)
            .cloned()
            .collect()
    }

    /// Every RadiusProxy.
    pub(crate) fn proxies(&self) -> Vec<Arc<DeserializeGuard<RadiusProxy>>> {
        self.proxies.store().state()
    }

    /// Every DirectoryGrant.
    pub(crate) fn grants(&self) -> Vec<Arc<DeserializeGuard<DirectoryGrant>>> {
        self.grants.store().state()
    }

    /// Whether a grant that isn't found for a namespace isn't there: each can be decoded, and those that select by labels
    /// know the namespace's.
    pub(crate) fn knows_grants_of(&self, namespace: &str) -> bool {
        let selects = |grant: &DirectoryGrant| grant.spec.namespace_selector.is_some();
        self.grants.undecodable() == 0
            && (self.namespace_labels(namespace).is_some()
                || !decoded(&self.grants()).into_iter().any(selects))
    }

    /// Has the RadiusProxy reconciled that holds this directory.
    pub(crate) fn enqueue_holder(&self, key: &RegistrationKey) {
        if let Some(registration) = self.registration(key) {
            let claim = &registration.spec.claimed_by;
            self.queue
                .enqueue(RadiusProxyKey::new(&claim.namespace, &claim.name));
        }
    }

    /// The labels of a namespace; `None` when they are unknown.
    pub(crate) fn namespace_labels(&self, name: &str) -> Option<Labels> {
        let namespace = self.namespaces.store().get(&ObjectRef::new(name))?;
        Some(namespace.value.clone())
    }

    /// The labels of all namespaces, by name.
    pub(crate) fn namespaces(&self) -> BTreeMap<String, Labels> {
        let all = self.namespaces.store().state();
        all.iter()
            .map(|row| (row.name.clone(), row.value.clone()))
            .collect()
    }

    /// Resolves when the status of a grant may have to change.
    pub(crate) async fn grants_changed(&self) {
        self.grants_changed.notified().await;
    }

    /// Shows what is watched.
    pub(crate) fn show(&self, metrics: &Metrics) {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        metrics.resources.set(count(self.proxies.store().len()));
        metrics.show_undecodable("RadiusProxy", count(self.proxies.undecodable()));
        metrics.show_undecodable("DirectoryGrant", count(self.grants.undecodable()));
        metrics.show_undecodable("DirectoryRegistration", count(self.registrations.undecodable()));
    }

    /// The pods of a RadiusProxy, with what their nodes add.
    pub(crate) fn pods(&self, key: &RadiusProxyKey) -> Vec<PodState> {
        let (nodes, pods) = (self.nodes.store(), self.pods.store());
        let of_proxy = pods.state_filter(|pod| pod.is_of(key));
        of_proxy
            .iter()
            .map(|pod| {
                let on = pod.value.node.as_deref();
                let node = on.and_then(|name| nodes.get(&ObjectRef::new(name)));
                PodState {
                    zone: node.as_ref().and_then(|node| node.value.zone.clone()),
                    // An unknown node counts as ready: nodes may not be readable, or be known later than their pods.
                    node_ready: node.is_none_or(|node| node.value.ready),
                    ..pod.value.clone()
                }
            })
            .collect()
    }

    /// The RadiusProxy resources whose pods are being brought to another image or template.
    pub(crate) fn upgrading(&self) -> BTreeSet<RadiusProxyKey> {
        let is_upgrading =
            |row: &Row<Owned>| matches!(&row.value.detail, Detail::StatefulSet(set) if set.upgrading);
        let sets = self.owned.get("StatefulSet").map(|cache| cache.store());
        let upgrading = sets.map(|sets| sets.state_filter(is_upgrading));
        upgrading.iter().flatten().filter_map(|row| row.owner()).collect()
    }

    /// The owned objects of one kind and RadiusProxy, by name.
    pub(crate) fn owned_of(&self, kind: &str, key: &RadiusProxyKey) -> Vec<(String, Owned)> {
        let of_proxy = |cache: &Cache<Row<Owned>>| cache.store().state_filter(|row| row.is_of(key));
        let rows = self.owned.get(kind).map(of_proxy).unwrap_or_default();
        rows.iter()
            .map(|row| (row.name.clone(), row.value.clone()))
            .collect()
    }

    /// An owned object, when the watch has it.
    pub(crate) fn owned(&self, object: &Object, key: &RadiusProxyKey) -> Option<Owned> {
        let wanted = ObjectRef::new(object.name()).within(&key.namespace);
        let row = self.owned.get(object.kind())?.store().get(&wanted)?;
        row.is_of(key).then(|| row.value.clone())
    }

    /// Requests a reconciliation of every RadiusProxy.
    fn enqueue_all(&self) {
        for proxy in self.proxies.store().state() {
            self.queue.enqueue(unguarded(&proxy));
        }
        for registration in self.registrations.store().state() {
            self.registration_queue.enqueue(unguarded(&registration));
        }
    }

    fn proxy_changed(&self, change: &Change<DeserializeGuard<RadiusProxy>>) {
        if change.is_status_only() {
            return;
        }
        self.grants_changed.notify_one();
        if let Some(object) = change.object() {
            self.queue.enqueue(object);
        }
        let mut decoded = change.both().filter_map(|object| object.0.as_ref().ok());
        if let Some(proxy) = decoded.next() {
            self.enqueue_users_of_directory(proxy);
        }
    }

    /// Enqueues the registration of the directory that a RadiusProxy names, and the others that name it.
    fn enqueue_users_of_directory(&self, proxy: &RadiusProxy) {
        if let Some(key) = RegistrationKey::of(proxy) {
            self.registration_queue.enqueue(key);
        }
        for rival in self.rivals(proxy) {
            self.queue.enqueue(RadiusProxyKey::of(&rival));
        }
    }

    /// The status is what the rollout knows of the directory; the rest is what the registration acts on.
    fn registration_changed(&self, change: &Change<DeserializeGuard<DirectoryRegistration>>) {
        if !change.is_status_only()
            && let Some(object) = change.object()
        {
            self.registration_queue.enqueue(object);
        }
        let both = [&change.before, &change.after]
            .map(|side| side.as_ref().and_then(|object| object.0.as_ref().ok()));
        let holders = both.map(|side| side.map(|registration| &registration.spec.claimed_by));
        let status = both.map(|side| side.and_then(|registration| registration.status.as_ref()));
        for holder in holders.into_iter().flatten() {
            if holders[0] != holders[1] || status[0] != status[1] {
                self.queue
                    .enqueue(RadiusProxyKey::new(&holder.namespace, &holder.name));
            }
        }
        let name = change.object().map(|object| RegistrationKey::from(&object));
        if let (Some(key), true) = (name, holders[0] != holders[1]) {
            for proxy in self.of_directory(&key) {
                self.queue.enqueue(RadiusProxyKey::of(&proxy));
            }
        }
    }

    fn grant_changed(&self, change: &Change<DeserializeGuard<DirectoryGrant>>) {
        if !change.is_status_only() {
            if let Some(object) = change.object() {
                self.grant_queue.enqueue(object);
            }
            self.grants_changed.notify_one();
            self.enqueue_all();
        }
    }

    fn namespace_changed(&self, change: &Change<Row<Labels>>) {
        let labels = |row: &Option<Arc<Row<Labels>>>| row.as_ref().map(|row| row.value.clone());
        let Some(namespace) = change.both().next() else {
            return;
        };
        if labels(&change.before) == labels(&change.after) {
            return;
        }
        self.grants_changed.notify_one();
        let selects = |grant: &DirectoryGrant| grant.spec.namespace_selector.is_some();
        if !decoded(&self.grants()).into_iter().any(selects) {
            return;
        }
        // Whether another RadiusProxy may have the directory matters to its rivals too.
        for proxy in decoded(&self.proxies()) {
            if proxy.metadata.namespace.as_ref() == Some(&namespace.name) {
                self.queue.enqueue(RadiusProxyKey::of(proxy));
                self.enqueue_users_of_directory(proxy);
            }
        }
    }

    fn pod_changed(&self, change: &Change<Row<PodState>>) {
        self.enqueue_owners(change, PartialEq::eq);
    }

    fn owned_changed(&self, change: &Change<Row<Owned>>) {
        self.enqueue_owners(change, |before, after| !before.is_news(after));
    }

    /// Enqueues the RadiusProxy that the object belongs to, and the one that it belonged to before.
    fn enqueue_owners<V>(&self, change: &Change<Row<V>>, is_same: impl Fn(&V, &V) -> bool) {
        if let (Some(before), Some(after)) = (&change.before, &change.after)
            && before.proxy == after.proxy
            && is_same(&before.value, &after.value)
        {
            return;
        }
        for owner in change.both().filter_map(Row::owner) {
            self.queue.enqueue(owner);
        }
    }

    fn node_changed(&self, change: &Change<Row<NodeRow>>) {
        let value = |row: &Option<Arc<Row<NodeRow>>>| row.as_ref().map(|row| row.value.clone());
        let Some(node) = change.both().next() else { return };
        if value(&change.before) == value(&change.after) {
            return;
        }
        let on_it = |pod: &Row<PodState>| pod.value.node.as_deref() == Some(node.name.as_str());
        let pods = self.pods.store().state_filter(on_it);
        for owner in pods.iter().filter_map(|pod| pod.owner()) {
            self.queue.enqueue(owner);
        }
    }

    /// A Secret changed that a RadiusProxy may use.
    fn source_changed(&self, metadata: &ObjectMeta) {
        let (Some(namespace), Some(name)) = (&metadata.namespace, &metadata.name) else {
            return;
        };
        for proxy in self.proxies.store().state() {
            let Ok(proxy) = &proxy.0 else { continue };
            if proxy.metadata.namespace.as_ref() != Some(namespace) {
                continue;
            }
            let key = RadiusProxyKey::of(proxy);
            let selected =
                secrets::seeds_selector(&proxy.spec).is_some_and(|s| s.matches(metadata.labels.as_ref()));
            let is_seed = selected || self.seeds.has(&key, name);
            if is_seed {
                self.seeds.changed(&key);
            }
            if is_seed || secrets::named_by(&proxy.spec).contains(name) {
                self.queue.enqueue(key);
            }
        }
    }

    /// A list of Secrets followed a break, during which any of them may have changed.
    fn sources_relisted(&self) {
        self.seeds.all_changed();
        self.enqueue_all();
    }
}

/// Compared with every other resource at each reconciliation, so nothing is copied for it.
fn same_directory(a: &RadiusProxy, b: &RadiusProxy) -> bool {
    match (&a.spec.directory, &b.spec.directory) {
        (Some(a), Some(b)) => a.id == b.id && a.region == b.region,
        _ => false,
    }
}

#[cfg(test)]
impl Cluster {
    /// Shows a StatefulSet as a watch would.
    pub(crate) fn put_stateful_set(&self, set: &k8s_openapi::api::apps::v1::StatefulSet) {
        let row = owned::owned("StatefulSet", &set.metadata, owned::stateful_set(set));
        let event = kube::runtime::watcher::Event::Apply(Row::new(&set.metadata, row));
        if let Some(cache) = self.owned.get("StatefulSet") {
            cache.apply(&None, event);
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;
    use operator_core::api::RadiusProxySpec;
    use serde_json::json;

    use super::*;

    fn proxy(name: &str, directory: &str, generation: i64) -> RadiusProxy {
        let spec: RadiusProxySpec = serde_json::from_value(json!({
            "directory": {"id": directory, "region": "eu-central-1"},
            "provider": {"totp": {"seedsSecretRef": {"name": "seeds"}}}
        }))
        .unwrap();
        let mut proxy = RadiusProxy::new(name, spec);
        proxy.metadata.namespace = Some("mfa".to_owned());
        proxy.metadata.generation = Some(generation);
        proxy
    }

    /// The cluster, its queue, and what keeps the queue open.
    fn cluster() -> (Cluster, WorkQueue, impl Sized) {
        let queue = WorkQueue::new();
        let open = queue.requests();
        (
            Cluster::new(queue.clone(), Queue::new(), Queue::new()),
            queue,
            open,
        )
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

    fn put(cluster: &Cluster, proxy: RadiusProxy) {
        let event = Event::Apply(DeserializeGuard(Ok(proxy)));
        for change in cluster.proxies.apply(&None, event) {
            cluster.proxy_changed(&change);
        }
    }

    fn drain(queue: &WorkQueue) -> Vec<String> {
        let requested = queue.take_requested();
        requested.into_iter().map(|object| object.name).collect()
    }

    #[test]
    fn a_new_status_triggers_nobody_and_a_new_spec_the_rivals_too() {
        let (cluster, queue, _open) = cluster();
        put(&cluster, proxy("a", "d-0000000001", 1));
        put(&cluster, proxy("b", "d-0000000001", 1));
        put(&cluster, proxy("c", "d-0000000002", 1));
        assert_eq!(drain(&queue), ["a", "b", "c"]);
        let mut told = proxy("a", "d-0000000001", 1);
        told.status = Some(operator_core::api::RadiusProxyStatus::default());
        put(&cluster, told);
        assert_eq!(drain(&queue), [""; 0]);
        put(&cluster, proxy("a", "d-0000000001", 2));
        assert_eq!(drain(&queue), ["a", "b"]);
    }

    fn grant(spec: &serde_json::Value) -> DeserializeGuard<DirectoryGrant> {
        serde_json::from_value(
            json!({"apiVersion": "radius-mfa.dev/v1alpha1", "kind": "DirectoryGrant",
            "metadata": {"name": "g"}, "spec": spec}),
        )
        .unwrap()
    }

    fn by_labels() -> DeserializeGuard<DirectoryGrant> {
        grant(&json!({"namespaceSelector": {"matchLabels": {"mfa": "yes"}}, "directories": []}))
    }

    fn put_grant(cluster: &Cluster, grant: DeserializeGuard<DirectoryGrant>) {
        for change in cluster.grants.apply(&None, Event::Apply(grant)) {
            cluster.grant_changed(&change);
        }
    }

    fn label(cluster: &Cluster, value: &str) {
        let row = Row {
            namespace: None,
            name: "mfa".to_owned(),
            proxy: String::new(),
            value: Labels::from([("mfa".to_owned(), value.to_owned())]),
        };
        for change in cluster.namespaces.apply(&None, Event::Apply(row)) {
            cluster.namespace_changed(&change);
        }
    }

    #[test]
    fn labels_of_a_namespace_trigger_its_registrations_too() {
        let (cluster, queue, _open) = cluster();
        let _registrations = cluster.registration_queue.requests();
        put(&cluster, proxy("a", "d-0000000001", 1));
        put_grant(&cluster, by_labels());
        drain(&queue);
        cluster.registration_queue.take_requested();
        label(&cluster, "yes");
        assert_eq!(drain(&queue), ["a"]);
        let requested = cluster.registration_queue.take_requested();
        let names: Vec<&str> = requested.iter().map(|object| object.name.as_str()).collect();
        assert_eq!(names, ["d-0000000001.eu-central-1"]);
    }

    #[test]
    fn a_grant_is_known_to_be_missing_only_when_every_grant_can_be_read() {
        let (cluster, _queue, _open) = cluster();
        assert!(cluster.knows_grants_of("mfa"));
        put_grant(&cluster, by_labels());
        assert!(!cluster.knows_grants_of("mfa"), "its labels are unknown");
        label(&cluster, "no");
        assert!(cluster.knows_grants_of("mfa"));
        put_grant(&cluster, grant(&json!({"namespaces": 7})));
        assert!(!cluster.knows_grants_of("mfa"));
    }

    #[test]
    fn a_secret_triggers_those_who_name_it() {
        let (cluster, queue, _open) = cluster();
        put(&cluster, proxy("a", "d-0000000001", 1));
        drain(&queue);
        cluster.source_changed(&secret("mfa", "another", &[]));
        cluster.source_changed(&secret("elsewhere", "seeds", &[]));
        assert_eq!(drain(&queue), [""; 0]);
        cluster.source_changed(&secret("mfa", "seeds", &[]));
        assert_eq!(drain(&queue), ["a"]);
    }

    #[test]
    fn a_secret_that_gains_or_loses_the_labels_triggers_those_who_select_it() {
        let (cluster, queue, _open) = cluster();
        let mut by_label = proxy("a", "d-0000000001", 1);
        by_label.spec.provider = serde_json::from_value(json!(
            {"totp": {"seedsSelector": {"matchLabels": {"mfa": "totp"}}}}
        ))
        .unwrap();
        put(&cluster, by_label);
        drain(&queue);
        cluster.source_changed(&secret("mfa", "jane", &[("mfa", "other")]));
        assert_eq!(drain(&queue), [""; 0]);
        cluster.source_changed(&secret("mfa", "jane", &[("mfa", "totp"), ("team", "x")]));
        assert_eq!(drain(&queue), ["a"]);
        let key = RadiusProxyKey::new("mfa", "a");
        let version = cluster.seeds.current(&key, "mfa=totp").unwrap_err();
        let content = operator_core::observed::SecretContent {
            data: BTreeMap::new(),
        };
        cluster
            .seeds
            .keep(&key, version, &[("jane".to_owned(), content)].into());
        cluster.source_changed(&secret("mfa", "jane", &[]));
        assert_eq!(drain(&queue), ["a"]);
    }

    #[test]
    fn a_pod_knows_its_zone_and_whether_its_node_is_lost() {
        let (cluster, _queue, _open) = cluster();
        let pod = PodState {
            name: "a-0".to_owned(),
            node: Some("n1".to_owned()),
            ..PodState::default()
        };
        let row = Row {
            namespace: Some("mfa".to_owned()),
            name: "a-0".to_owned(),
            proxy: "a".to_owned(),
            value: pod,
        };
        cluster.pods.apply(&None, Event::Apply(row));
        let of_a = RadiusProxyKey::new("mfa", "a");
        assert!(cluster.pods(&of_a)[0].node_ready, "no node is known at all");
        let node = |name: &str, ready| {
            let row = Row {
                namespace: None,
                name: name.to_owned(),
                proxy: String::new(),
                value: NodeRow {
                    zone: Some("z1".to_owned()),
                    ready,
                },
            };
            cluster.nodes.apply(&None, Event::Apply(row));
        };
        node("n2", true);
        assert!(cluster.pods(&of_a)[0].node_ready, "its node is not known");
        node("n1", true);
        assert_eq!(cluster.pods(&of_a)[0].zone.as_deref(), Some("z1"));
        assert!(cluster.pods(&of_a)[0].node_ready);
        node("n1", false);
        assert!(!cluster.pods(&of_a)[0].node_ready);
    }

    #[test]
    fn an_object_whose_label_changes_triggers_both_owners() {
        let (cluster, queue, _open) = cluster();
        let label = |proxy: &str| {
            let row = Row {
                namespace: Some("mfa".to_owned()),
                name: "x".to_owned(),
                proxy: proxy.to_owned(),
                value: PodState::default(),
            };
            for change in cluster.pods.apply(&None, Event::Apply(row)) {
                cluster.pod_changed(&change);
            }
            drain(&queue)
        };
        assert_eq!(label("a"), ["a"]);
        assert_eq!(label("a"), [""; 0]);
        assert_eq!(label("b"), ["a", "b"]);
    }

    #[test]
    fn another_label_of_a_namespace_triggers_those_inside_when_a_grant_selects_by_labels() {
        let (cluster, queue, _open) = cluster();
        put(&cluster, proxy("a", "d-0000000001", 1));
        drain(&queue);
        let label = |value: &str| {
            let row = Row {
                namespace: None,
                name: "mfa".to_owned(),
                proxy: String::new(),
                value: Labels::from([("mfa".to_owned(), value.to_owned())]),
            };
            for change in cluster.namespaces.apply(&None, Event::Apply(row)) {
                cluster.namespace_changed(&change);
            }
        };
        label("no");
        assert_eq!(drain(&queue), [""; 0], "no grant selects namespaces");
        let grant = json!({
            "apiVersion": "radius-mfa.dev/v1alpha1", "kind": "DirectoryGrant", "metadata": {"name": "g"},
            "spec": {"namespaceSelector": {"matchLabels": {"mfa": "yes"}},
                     "directories": [{"region": "eu-central-1", "directoryIds": ["d-0000000001"]}]},
        });
        let grant = DeserializeGuard(Ok(serde_json::from_value(grant).unwrap()));
        cluster.grants.apply(&None, Event::Apply(grant));
        label("yes");
        assert_eq!(drain(&queue), ["a"]);
        label("yes");
        assert_eq!(drain(&queue), [""; 0]);
        assert_eq!(cluster.namespace_labels("mfa").unwrap()["mfa"], "yes");
        assert_eq!(cluster.namespace_labels("elsewhere"), None);
    }
}
