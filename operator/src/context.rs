//! What every piece of work needs.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use operator_core::input::Settings;

use crate::directory::Directories;
use crate::events::Recorder;
use crate::key::ProxyKey;
use crate::leader::Leadership;
use crate::memory::Memories;
use crate::metrics::Metrics;
use crate::resolve::Names;
use crate::rollouts::Rollouts;
use crate::watch::Cluster;

/// Clients, caches, settings. Shared by all workers.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) directories: Arc<Directories>,
    pub(crate) names: Arc<Names>,
    pub(crate) leadership: Leadership,
    pub(crate) memories: Arc<Memories>,
    pub(crate) rollouts: Arc<Rollouts>,
    pub(crate) metrics: Metrics,
    pub(crate) events: Recorder,
    pub(crate) settings: Settings,
    /// The oldest description of a directory at rest.
    pub(crate) describe_interval: Duration,
}

impl Context {
    /// The API of a kind in a RadiusProxy's namespace.
    pub(crate) fn api<K>(&self, key: &ProxyKey) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &key.namespace)
    }
}
