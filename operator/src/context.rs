//! What every reconciliation needs.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use operator_core::api::DirectoryRegistration;
use operator_core::observed::Settings;

use crate::directory::Directories;
use crate::events::Events;
use crate::leader::Leadership;
use crate::metrics::Metrics;
use crate::object_keys::RadiusProxyKey;
use crate::reconcile_state::ReconcileStates;
use crate::reconcile_state::RegistrationStates;
use crate::resolve::Names;
use crate::rollout_limit::RolloutLimit;
use crate::watch::Cluster;

/// Clients, caches, settings. Shared by all workers.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) directories: Arc<Directories>,
    pub(crate) names: Arc<Names>,
    pub(crate) leadership: Leadership,
    pub(crate) states: Arc<ReconcileStates>,
    pub(crate) registration_states: Arc<RegistrationStates>,
    /// This replica.
    pub(crate) replica: String,
    pub(crate) rollout_limit: Arc<RolloutLimit>,
    pub(crate) metrics: Metrics,
    pub(crate) events: Events,
    pub(crate) settings: Settings,
    /// The oldest description of a directory at rest.
    pub(crate) describe_interval: Duration,
}

impl Context {
    /// The API of a kind in a RadiusProxy's namespace.
    pub(crate) fn api<K>(&self, key: &RadiusProxyKey) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &key.namespace)
    }

    /// The API of DirectoryRegistrations.
    pub(crate) fn registration_api(&self) -> Api<DirectoryRegistration> {
        Api::all(self.client.clone())
    }
}

#[cfg(test)]
mod for_test {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::queue::{RegistrationQueue, WorkQueue};
    use crate::{directory, resolve};

    impl Context {
        /// For tests with an API server of their own. The lease is held for as long as the guard lives.
        pub(crate) fn for_test(client: Client, cluster: Arc<Cluster>) -> (Self, crate::leader::LeaseGuard) {
            let (leadership, guard) = Leadership::without_election();
            let (metrics, queue, stop) = (Metrics::new(), WorkQueue::new(), CancellationToken::new());
            let directories = directory::Deps {
                queue: RegistrationQueue::new(),
                metrics: metrics.clone(),
                stop: stop.clone(),
                detail_interval: Duration::from_secs(30),
            };
            let names = resolve::Deps {
                queue,
                metrics: metrics.clone(),
                stop,
                interval: Duration::from_secs(60),
            };
            let cluster_name = operator_core::names::ClusterName::parse("test").unwrap();
            let context = Self {
                cluster,
                directories: Arc::new(Directories::new(4, directories)),
                names: Arc::new(Names::new(resolve::SystemNames::new(), names)),
                leadership,
                states: Arc::default(),
                registration_states: Arc::default(),
                replica: "test".to_owned(),
                rollout_limit: Arc::new(RolloutLimit::new(1)),
                metrics,
                events: Events::new(client.clone(), "test"),
                settings: Settings::new(cluster_name, "proxy:1".to_owned()),
                describe_interval: Duration::from_secs(45),
                client,
            };
            (context, guard)
        }
    }
}
