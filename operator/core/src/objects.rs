//! The objects that a RadiusProxy owns, complete and deterministic.
//!
//! Only fields that the operator means are set, so that server-side apply owns no more than these.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};

use crate::api::{AddressSource, GROUP, RadiusProxy, VERSION};
use crate::names::{APP_NAME, MANAGED_BY, ObjectNames, PROXY_LABEL};
use crate::observed::RolloutInput;

mod budget;
mod data;
mod identity;
mod network;
mod object;
mod overrides;
mod pod;
mod workload;

#[cfg(test)]
mod tests;

pub(crate) use budget::disruption_budget;
pub(crate) use data::{config_map, peer_addresses, peers, peers_digest, secret, used_codes};
pub(crate) use identity::{lease, role, role_binding, service_account};
pub(crate) use network::{headless_service, load_balancer, network_policy};
pub use object::Object;
pub(crate) use workload::{Layout, Template, stateful_set};

/// The RadiusProxy that owns the objects.
#[derive(Debug, Clone)]
pub(crate) struct Owner<'a> {
    pub(crate) proxy: &'a RadiusProxy,
    pub(crate) names: ObjectNames,
    /// The uid of the pods' ServiceAccount, if it was created again since there is a StatefulSet.
    recreated_account: Option<&'a str>,
}

impl<'a> Owner<'a> {
    pub(crate) fn new(proxy: &'a RadiusProxy) -> Self {
        let names = ObjectNames::new(proxy.metadata.name.as_deref().unwrap_or_default());
        Self {
            proxy,
            names,
            recreated_account: None,
        }
    }

    /// The owner of the objects that were observed.
    pub(crate) fn of(input: &'a RolloutInput) -> Self {
        Self {
            recreated_account: identity::recreated_account(input),
            ..Self::new(&input.proxy)
        }
    }

    /// Whether the proxies remember used codes in objects of the Kubernetes API.
    pub(crate) fn remembers_codes(&self) -> bool {
        let totp = self.proxy.spec.provider.totp.as_ref();
        totp.is_some_and(|totp| totp.used_codes.redis.is_none())
    }

    /// Whether the pods' own addresses are registered with a directory.
    pub(crate) fn registers_pods(&self) -> bool {
        let spec = &self.proxy.spec;
        spec.directory.is_some() && spec.addresses.source == AddressSource::PodIp
    }

    /// The labels that select the pods; they never change.
    fn selector(&self) -> BTreeMap<String, String> {
        [
            ("app.kubernetes.io/name", APP_NAME),
            ("app.kubernetes.io/instance", self.names.workload()),
            (PROXY_LABEL, self.names.workload()),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    }

    /// The selector as `status.selector` has it.
    pub(crate) fn selector_text(&self) -> String {
        let pairs = self.selector();
        let pairs: Vec<String> = pairs
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        pairs.join(",")
    }

    fn label_selector(&self) -> LabelSelector {
        LabelSelector {
            match_labels: Some(self.selector()),
            ..LabelSelector::default()
        }
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.selector();
        labels.insert("app.kubernetes.io/managed-by".to_owned(), MANAGED_BY.to_owned());
        labels
    }

    fn metadata(&self, name: impl Into<String>) -> ObjectMeta {
        let meta = &self.proxy.metadata;
        ObjectMeta {
            name: Some(name.into()),
            namespace: meta.namespace.clone(),
            labels: Some(self.labels()),
            owner_references: Some(vec![OwnerReference {
                api_version: format!("{GROUP}/{VERSION}"),
                kind: "RadiusProxy".to_owned(),
                name: meta.name.clone().unwrap_or_default(),
                uid: meta.uid.clone().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        }
    }
}
