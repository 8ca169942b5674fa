//! What this process remembers between two reconciliations. All of it can be lost: what must last is in the status.

mod registration;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use kube::Resource;
use operator_core::api::RadiusProxy;
use operator_core::observed::{ObjectId, SecretContent};
use operator_core::outcomes::Outcomes;

use crate::object_keys::RadiusProxyKey;
pub(crate) use registration::RegistrationStates;

/// What this process remembers of one RadiusProxy.
#[derive(Debug, Default)]
pub(crate) struct ReconcileState {
    /// The RadiusProxy as this process last read it live or wrote it: an older one from the watch is not used, since its
    /// status records what people and the next plan rely on.
    pub(crate) newest: Option<RadiusProxy>,
    /// The uid of the RadiusProxy, and the content of the operator's own Secret.
    pub(crate) own_secret: Option<(String, SecretContent)>,
    /// How the steps of the last reconciliation failed.
    pub(crate) outcomes: Outcomes,
    /// Whether that reconciliation ended before the status, so that the next plan has its failures as input.
    pub(crate) stopped_short: bool,
    /// Reconciliations in a row in which a step failed.
    pub(crate) failed_in_a_row: u32,
    /// Since when what a plan needs can't be read.
    pub(crate) unreadable_since: Option<Instant>,
    /// Since when pods are missing.
    pub(crate) pods_missing_since: Option<Instant>,
    /// What was applied.
    pub(crate) applied: HashMap<ObjectId, Applied>,
}

/// An object as it was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Applied {
    /// Of what was wanted.
    pub(crate) wanted: u64,
    /// Of what the API server made of it ([`crate::watch::owned::fingerprint`]).
    pub(crate) fingerprint: u64,
}

/// A number for what is wanted; it never leaves the process.
pub(crate) fn digest(json: &serde_json::Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    json.hash(&mut hasher);
    hasher.finish()
}

/// The object without its managed fields, which only the API server needs and which are larger than all the rest.
pub(crate) fn trimmed<K: Resource>(mut object: K) -> K {
    object.meta_mut().managed_fields = None;
    object
}

/// The newer one of an object as the watch shows it and as this process read or wrote it last. `None` when it has to be read
/// live: one of the two isn't there, or their versions can't be compared.
pub(crate) fn newer<K: Resource>(seen: Option<K>, stored: Option<K>) -> Option<K> {
    let version = |object: &K| object.meta().resource_version.as_ref()?.parse::<u64>().ok();
    let (seen, stored) = (seen?, stored?);
    let is_newer = version(&seen)? >= version(&stored)?;
    Some(if is_newer { seen } else { stored })
}

/// The reconcile states of all RadiusProxy resources, for one term of leadership: another replica may lead after it.
#[derive(Debug, Default)]
pub(crate) struct ReconcileStates(Mutex<HashMap<RadiusProxyKey, ReconcileState>>);

impl ReconcileStates {
    /// Takes a state out for one reconciliation; it is put back by [`ReconcileStates::put`].
    pub(crate) fn take(&self, key: &RadiusProxyKey) -> ReconcileState {
        self.lock().remove(key).unwrap_or_default()
    }

    /// Puts a state back.
    pub(crate) fn put(&self, key: RadiusProxyKey, state: ReconcileState) {
        self.lock().insert(key, state);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RadiusProxyKey, ReconcileState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use operator_core::api::RadiusProxySpec;
    use serde_json::json;

    use super::*;

    fn proxy(version: &str) -> RadiusProxy {
        let spec: RadiusProxySpec = serde_json::from_value(json!({"provider": {}})).unwrap();
        let mut proxy = RadiusProxy::new("a", spec);
        proxy.metadata.resource_version = Some(version.to_owned());
        proxy
    }

    #[test]
    fn a_watch_that_lags_behind_our_own_write_is_noticed() {
        let newer = |seen: &str, stored: Option<&str>| {
            let newer = newer(Some(proxy(seen)), stored.map(proxy))?;
            newer.metadata.resource_version
        };
        assert_eq!(newer("7", None), None);
        assert_eq!(newer("8", Some("9")).as_deref(), Some("9"));
        assert_eq!(newer("10", Some("9")).as_deref(), Some("10"));
        assert_eq!(newer("abc", Some("9")), None);
    }
}
