//! The controllers' reconcilers: of RadiusProxy resources, DirectoryRegistrations and DirectoryGrants.

use std::sync::Arc;
use std::time::Duration;

use kube::runtime::reflector::ObjectRef;
use operator_core::api::{DirectoryGrant, DirectoryRegistration, RadiusProxy};

use crate::context::Context;
use crate::controller::{Next, Reconciler};
use crate::error::Error;
use crate::health::{Health, Lists};
use crate::object_keys::{RadiusProxyKey, RegistrationKey};
use crate::{registration, rollout};

/// When to reconcile an object again that waits for a list. The end of the list triggers it earlier.
const LIST_INTERVAL: Duration = Duration::from_secs(60);

/// Reconciles RadiusProxy resources.
pub(crate) struct RadiusProxies {
    pub(crate) context: Arc<Context>,
    pub(crate) health: Health,
}

impl RadiusProxies {
    fn may_reconcile(&self, key: &RadiusProxyKey) -> bool {
        let proxy = self.context.cluster.proxy(key);
        let is_deleted = proxy.is_some_and(|proxy| proxy.metadata.deletion_timestamp.is_some());
        may_reconcile(self.health.lists(&key.namespace), is_deleted)
    }
}

/// Whether enough is known of a namespace to work on a RadiusProxy there. A deletion needs no other object, and those of
/// the namespace may be out of reach already.
const fn may_reconcile(lists: Lists, is_deleted: bool) -> bool {
    match lists {
        Lists::Complete => true,
        Lists::Broken => is_deleted,
        Lists::Pending => false,
    }
}

impl Reconciler for RadiusProxies {
    type Root = RadiusProxy;

    async fn reconcile(&self, object: &ObjectRef<RadiusProxy>) -> Result<Next, Error> {
        let key = RadiusProxyKey::from(object);
        if !self.may_reconcile(&key) {
            return Ok(Next::After(LIST_INTERVAL));
        }
        let context = &self.context;
        let mut state = context.states.take(&key);
        let result = rollout::run(context, &key, &mut state).await;
        if result.is_err() {
            // What was planned from may be old.
            state.newest = None;
        }
        if !matches!(result, Ok(Next::Gone)) {
            context.states.put(key, state);
        }
        result
    }

    fn forget(&self, object: &ObjectRef<RadiusProxy>) {
        self.context.forget(&RadiusProxyKey::from(object));
    }

    fn failed(&self, object: &ObjectRef<RadiusProxy>, class: &'static str) {
        let key = RadiusProxyKey::from(object);
        self.context.metrics.proxy.failed(&key, class);
    }
}

/// Reconciles DirectoryRegistrations.
pub(crate) struct DirectoryRegistrations {
    pub(crate) context: Arc<Context>,
    pub(crate) health: Health,
}

impl DirectoryRegistrations {
    /// Whether the RadiusProxy resources of the holder's namespace are known. A namespace that is out of reach may be gone,
    /// and the registration with it.
    fn may_reconcile(&self, key: &RegistrationKey) -> bool {
        let Some(registration) = self.context.cluster.registration(key) else {
            return true;
        };
        let namespace = registration.spec.claimed_by.namespace;
        self.health.lists(&namespace) != Lists::Pending
    }
}

impl Reconciler for DirectoryRegistrations {
    type Root = DirectoryRegistration;

    async fn reconcile(&self, object: &ObjectRef<DirectoryRegistration>) -> Result<Next, Error> {
        let key = RegistrationKey::from(object);
        if !self.may_reconcile(&key) {
            return Ok(Next::After(LIST_INTERVAL));
        }
        registration::run(&self.context, &key).await
    }

    fn forget(&self, object: &ObjectRef<DirectoryRegistration>) {
        let key = RegistrationKey::from(object);
        self.context.directories.forget(&key);
        self.context.registration_states.forget(&key);
    }

    fn failed(&self, object: &ObjectRef<DirectoryRegistration>, class: &'static str) {
        let found = self.context.cluster.registration(&RegistrationKey::from(object));
        if let Some(claim) = found.map(|registration| registration.spec.claimed_by) {
            let key = RadiusProxyKey::new(&claim.namespace, &claim.name);
            self.context.metrics.proxy.failed(&key, class);
        }
    }
}

/// Reconciles DirectoryGrants: there is nothing to do for one that can be decoded.
pub(crate) struct DirectoryGrants;

impl Reconciler for DirectoryGrants {
    type Root = DirectoryGrant;

    async fn reconcile(&self, _: &ObjectRef<DirectoryGrant>) -> Result<Next, Error> {
        Ok(Next::After(Duration::from_secs(3600)))
    }

    fn forget(&self, _: &ObjectRef<DirectoryGrant>) {}

    fn failed(&self, _: &ObjectRef<DirectoryGrant>, _: &'static str) {}
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fake_api::{Call, FakeApi, refused};
    use crate::queue::{Queue, WorkQueue};
    use crate::watch::Cluster;

    #[test]
    fn in_a_namespace_that_cannot_be_watched_only_deletions_go_on() {
        for (lists, of_living, of_deleted) in [
            (Lists::Complete, true, true),
            (Lists::Broken, false, true),
            (Lists::Pending, false, false),
        ] {
            assert_eq!(may_reconcile(lists, false), of_living, "{lists:?}");
            assert_eq!(may_reconcile(lists, true), of_deleted, "{lists:?}");
        }
    }

    /// A namespace is being deleted, and with it the Role that lets the operator see anything but RadiusProxy resources.
    #[tokio::test]
    async fn a_deletion_ends_where_nothing_but_the_radius_proxy_is_within_reach() {
        let proxy = json!({"apiVersion": "radius-mfa.dev/v1alpha1", "kind": "RadiusProxy",
            "metadata": {"name": "p", "namespace": "b", "uid": "u", "resourceVersion": "7", "generation": 2,
                "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["radius-mfa.dev/directory"]},
            "spec": {"directory": {"id": "d-0000000001", "region": "eu-central-1", "deletionPolicy": "Retain"},
                "provider": {"duo": {"apiHost": "api-1.duosecurity.com", "credentialsSecretRef": {"name": "duo"}}}},
            "status": {}});
        let api = FakeApi::new(move |call: &Call| {
            Some(if call.uri.contains("/namespaces/b/radiusproxies/p") {
                (200, proxy.clone())
            } else if call.uri.contains("/directoryregistrations/") {
                refused(404, "NotFound")
            } else {
                refused(403, "Forbidden")
            })
        });
        let cluster = Arc::new(Cluster::new(WorkQueue::new(), Queue::new(), Queue::new()));
        let (context, _lease) = Context::for_test(api.client.clone(), cluster);
        let key = RadiusProxyKey::new("b", "p");
        let mut state = context.states.take(&key);
        rollout::run(&context, &key, &mut state).await.unwrap();
        let freed = |call: &Call| call.method == "PATCH" && call.body["metadata"]["finalizers"] == json!([]);
        assert_eq!(api.calls(1, freed).await.len(), 1);
    }
}
