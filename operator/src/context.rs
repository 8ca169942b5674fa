//! What every reconciliation needs.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, Resource};
use operator_core::api::DirectoryRegistration;
use operator_core::observed::Settings;
use tokio::sync::OnceCell;

use crate::directory::Directories;
use crate::error::{Error, has_code};
use crate::events::Events;
use crate::health::Scope;
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
    /// The uid of the namespace kube-system, once it was read.
    pub(crate) cluster_uid: Arc<OnceCell<String>>,
    /// The namespaces in which this operator works.
    pub(crate) scopes: Vec<Scope>,
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

    /// Forgets a RadiusProxy that is gone, can't be decoded, or is another operator's.
    pub(crate) fn forget(&self, key: &RadiusProxyKey) {
        self.states.take(key);
        self.names.observe(key, &[]);
        self.cluster.seeds.forget(key);
        self.rollout_limit.planned(key, false);
        self.metrics.proxy.forget(key);
    }

    /// Whether this operator works in a namespace.
    pub(crate) fn watches(&self, namespace: &str) -> bool {
        let has = |scope: &Scope| scope.as_ref().is_none_or(|scope| *scope == namespace);
        self.scopes.iter().any(has)
    }

    /// The uid of the namespace kube-system, by which clusters of one name differ. It is empty where the operator has no
    /// permission to read it.
    ///
    /// # Errors
    /// The Kubernetes API didn't answer.
    pub(crate) async fn cluster_uid(&self) -> Result<String, Error> {
        let namespaces = Api::<Namespace>::all(self.client.clone());
        let read = || async {
            match namespaces.get_metadata("kube-system").await {
                Ok(namespace) => Ok(namespace.metadata.uid.unwrap_or_default()),
                Err(error) if has_code(&error, 403) => {
                    tracing::warn!(%error, "may not read namespace kube-system: clusters of one name can't be told apart");
                    Ok(String::new())
                }
                Err(source) => Err(Error::Read {
                    what: "Namespace kube-system".to_owned(),
                    source,
                }),
            }
        };
        self.cluster_uid.get_or_try_init(read).await.cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;

    use super::*;
    use crate::fake_api::{FakeApi, refused};
    use crate::queue::{Queue, WorkQueue};

    fn context(api: &FakeApi) -> (Context, crate::leader::LeaseGuard) {
        let cluster = Arc::new(Cluster::new(WorkQueue::new(), Queue::new(), Queue::new()));
        Context::for_test(api.client.clone(), cluster)
    }

    #[tokio::test]
    async fn the_uid_of_the_cluster_is_read_again_after_a_failure_and_then_no_more() {
        let asked = AtomicUsize::new(0);
        let api = FakeApi::new(move |_| {
            Some(match asked.fetch_add(1, Ordering::Relaxed) {
                0 => refused(500, "InternalError"),
                _ => (
                    200,
                    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                    "metadata": {"name": "kube-system", "uid": "cluster-1"}}),
                ),
            })
        });
        let (ctx, _lead) = context(&api);
        ctx.cluster_uid().await.unwrap_err();
        for _ in 0..3 {
            assert_eq!(ctx.cluster_uid().await.unwrap(), "cluster-1");
        }
        assert_eq!(api.calls(2, |_| true).await.len(), 2);
    }

    #[tokio::test]
    async fn without_the_permission_the_uid_of_the_cluster_stays_unknown() {
        let api = FakeApi::new(|_| Some(refused(403, "Forbidden")));
        let (ctx, _lead) = context(&api);
        for _ in 0..3 {
            assert_eq!(ctx.cluster_uid().await.unwrap(), "");
        }
        assert_eq!(api.calls(1, |_| true).await.len(), 1);
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
                cluster_uid: Arc::default(),
                scopes: vec![None],
                describe_interval: Duration::from_secs(45),
                client,
            };
            (context, guard)
        }
    }
}
