//! The names of RadiusProxy and DirectoryRegistration resources.

use std::fmt;

use kube::runtime::reflector::ObjectRef;
use operator_core::api::{DirectoryRegistration, RadiusProxy};

/// Namespace and name of a RadiusProxy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RadiusProxyKey {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl RadiusProxyKey {
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

impl fmt::Display for RadiusProxyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl From<&RadiusProxyKey> for ObjectRef<RadiusProxy> {
    fn from(key: &RadiusProxyKey) -> Self {
        Self::new(&key.name).within(&key.namespace)
    }
}

impl From<RadiusProxyKey> for ObjectRef<RadiusProxy> {
    fn from(key: RadiusProxyKey) -> Self {
        Self::from(&key)
    }
}

impl From<&ObjectRef<RadiusProxy>> for RadiusProxyKey {
    fn from(object: &ObjectRef<RadiusProxy>) -> Self {
        Self::new(object.namespace.as_deref().unwrap_or_default(), &object.name)
    }
}

/// Name of a DirectoryRegistration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RegistrationKey(String);

impl RegistrationKey {
    /// The key of `name`.
    pub(crate) fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The registration of a RadiusProxy's directory.
    pub(crate) fn of(proxy: &RadiusProxy) -> Option<Self> {
        let directory = proxy.spec.directory.as_ref()?;
        Some(Self(DirectoryRegistration::name_of(
            &directory.id,
            &directory.region,
        )))
    }

    /// The name.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RegistrationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&RegistrationKey> for ObjectRef<DirectoryRegistration> {
    fn from(key: &RegistrationKey) -> Self {
        Self::new(&key.0)
    }
}

impl From<RegistrationKey> for ObjectRef<DirectoryRegistration> {
    fn from(key: RegistrationKey) -> Self {
        Self::from(&key)
    }
}

impl From<&ObjectRef<DirectoryRegistration>> for RegistrationKey {
    fn from(object: &ObjectRef<DirectoryRegistration>) -> Self {
        Self(object.name.clone())
    }
}
