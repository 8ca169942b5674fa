//! Where all proxies remember together which codes were used.
//!
//! One decision, in [`ledger`]; two back-ends that make it atomic over all proxies: objects of the Kubernetes API, and
//! a server of Redis' protocol. A proxy that serves alone has its own memory and needs neither.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use proxy_config::CodeStore;

use crate::kubernetes::ApiServer;
use crate::locks::lock;
use crate::provider::BoxFuture;
use crate::provider::fault::{Fault, FaultClass};
use crate::provider::http::Transports;

mod kubernetes;
pub mod ledger;
mod redis;

pub use kubernetes::ConfigMaps;
pub use ledger::{Claim, NEVER, Outcome, Owner};
pub use redis::RedisServer;

/// The longest that a login waits for a store; less where the login has less time itself.
pub const LIMIT: Duration = Duration::from_secs(2);

/// A store that all proxies share.
pub trait Store: Send + Sync + 'static {
    /// Uses a code, at `now` in seconds since the epoch. Of all proxies that ask for the same code one is told
    /// [`Outcome::Taken`]. The future may be dropped; the code may be used then.
    fn take(self: Arc<Self>, claim: Claim, now: u64) -> BoxFuture<Result<Outcome, Fault>>;

    /// Whether it can be asked, for `radius-proxy check`.
    fn reach(self: Arc<Self>) -> BoxFuture<Result<(), Fault>>;

    /// What people call it.
    fn name(&self) -> &'static str;
}

/// The store in use: a reload that keeps its settings keeps it, with its connections and what it knows.
#[derive(Default)]
pub struct Stores {
    known: Mutex<Option<(CodeStore, Arc<dyn Store>)>>,
}

impl Stores {
    /// With a store that is there already.
    #[must_use]
    pub fn with(settings: CodeStore, store: Arc<dyn Store>) -> Self {
        Self {
            known: Mutex::new(Some((settings, store))),
        }
    }

    /// The store of these settings; `None` for the memory.
    pub fn obtain(&self, settings: &CodeStore, transports: &Transports) -> Option<Arc<dyn Store>> {
        let mut known = lock(&self.known);
        if let Some((before, store)) = known.as_ref()
            && before == settings
        {
            return Some(Arc::clone(store));
        }
        let store: Option<Arc<dyn Store>> = match settings {
            CodeStore::Memory => None,
            CodeStore::Kubernetes { config_maps } => Some(match ApiServer::from_environment() {
                Some(api) => Arc::new(ConfigMaps::new(api, config_maps)),
                None => Arc::new(Nowhere),
            }),
            CodeStore::Redis(redis) => Some(Arc::new(RedisServer::new(redis.clone(), transports.resolver()))),
        };
        *known = store.clone().map(|store| (settings.clone(), store));
        store
    }
}

/// The Kubernetes API outside a cluster.
struct Nowhere;

impl Nowhere {
    fn fault() -> Fault {
        Fault::before_sending(
            FaultClass::Connect,
            "this is no pod: KUBERNETES_SERVICE_HOST or POD_NAMESPACE is not set",
        )
    }
}

impl Store for Nowhere {
    fn take(self: Arc<Self>, _: Claim, _: u64) -> BoxFuture<Result<Outcome, Fault>> {
        Box::pin(async { Err(Self::fault()) })
    }

    fn reach(self: Arc<Self>) -> BoxFuture<Result<(), Fault>> {
        Box::pin(async { Err(Self::fault()) })
    }

    fn name(&self) -> &'static str {
        "kubernetes"
    }
}
