//! Namespace and name of a RadiusProxy.

use std::fmt;

use kube::runtime::reflector::ObjectRef;
use operator_core::api::RadiusProxy;

/// Namespace and name of a RadiusProxy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ProxyKey {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl ProxyKey {
    /// The key of `namespace/name`.
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// The key of this RadiusProxy.
    pub(crate) fn of(proxy: &RadiusProxy) -> Self {
        Self::new(
            proxy.metadata.namespace.as_deref().unwrap_or_default(),
            proxy.metadata.name.as_deref().unwrap_or_default(),
        )
    }
}

impl fmt::Display for ProxyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl From<&ProxyKey> for ObjectRef<RadiusProxy> {
    fn from(key: &ProxyKey) -> Self {
        Self::new(&key.name).within(&key.namespace)
    }
}

impl From<ProxyKey> for ObjectRef<RadiusProxy> {
    fn from(key: ProxyKey) -> Self {
        Self::from(&key)
    }
}

impl From<&ObjectRef<RadiusProxy>> for ProxyKey {
    fn from(object: &ObjectRef<RadiusProxy>) -> Self {
        Self::new(object.namespace.as_deref().unwrap_or_default(), &object.name)
    }
}
