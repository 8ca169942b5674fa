//! A row of the cache: what decisions need of a Kubernetes object, with the RadiusProxy that it belongs to.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::reflector::{Lookup, ObjectRef};
use operator_core::names::PROXY_LABEL;

use crate::object_keys::RadiusProxyKey;

/// A row of the cache, with the RadiusProxy that the object belongs to by its label; empty where it belongs to none.
#[derive(Debug, Clone)]
pub(crate) struct Row<V> {
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
    pub(crate) proxy: String,
    pub(crate) value: V,
}

impl<V> Row<V> {
    /// The row of an object.
    pub(crate) fn new(metadata: &ObjectMeta, value: V) -> Self {
        Self {
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone().unwrap_or_default(),
            proxy: proxy_label(metadata).unwrap_or_default().to_owned(),
            value,
        }
    }

    /// Whether the object belongs to this RadiusProxy.
    pub(crate) fn is_of(&self, key: &RadiusProxyKey) -> bool {
        self.proxy == key.name && self.namespace.as_ref() == Some(&key.namespace)
    }

    /// The RadiusProxy that the object belongs to.
    pub(crate) fn owner(&self) -> Option<RadiusProxyKey> {
        let namespace = self.namespace.as_deref()?;
        (!self.proxy.is_empty()).then(|| RadiusProxyKey::new(namespace, &self.proxy))
    }
}

/// A row's key is the namespace and name of its object; each kind has a store of its own, so rows need no kind.
impl<V> Lookup for Row<V> {
    type DynamicType = ();

    fn kind((): &()) -> Cow<'_, str> {
        Cow::Borrowed("Row")
    }

    fn group((): &()) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn version((): &()) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn plural((): &()) -> Cow<'_, str> {
        Cow::Borrowed("rows")
    }

    fn name(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(&self.name))
    }

    fn namespace(&self) -> Option<Cow<'_, str>> {
        self.namespace.as_deref().map(Cow::Borrowed)
    }

    fn resource_version(&self) -> Option<Cow<'_, str>> {
        None
    }

    fn uid(&self) -> Option<Cow<'_, str>> {
        None
    }
}

/// The key of an object's row.
pub(crate) fn object_ref<V>(metadata: &ObjectMeta) -> ObjectRef<Row<V>> {
    let mut object = ObjectRef::new(metadata.name.as_deref().unwrap_or_default());
    object.namespace.clone_from(&metadata.namespace);
    object
}

/// The RadiusProxy that an object is of, by its label.
pub(crate) fn proxy_label(metadata: &ObjectMeta) -> Option<&str> {
    metadata.labels.as_ref()?.get(PROXY_LABEL).map(String::as_str)
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeRow {
    pub(crate) zone: Option<String>,
    pub(crate) ready: bool,
}

/// A node's zone and readiness.
pub(crate) fn node(node: &Node) -> NodeRow {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let labels = node.metadata.labels.as_ref();
    NodeRow {
        zone: labels
            .and_then(|labels| labels.get("topology.kubernetes.io/zone"))
            .cloned(),
        ready: conditions
            .into_iter()
            .flatten()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True"),
    }
}
