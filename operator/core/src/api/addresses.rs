//! `spec.addresses`: the addresses to register.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Addresses to register with the directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.source != 'Static' || size(self.static) > 0").message("spec.addresses.static must have at least one address with source: Static"))]
#[x_kube(validation = Rule::new("self.source == 'Static' || size(self.static) == 0").message(Message::Expression("'spec.addresses.static goes with source: Static, not with source: ' + self.source".to_owned())))]
#[x_kube(validation = Rule::new("self.source == 'LoadBalancer' || !has(self.loadBalancer)").message(Message::Expression("'spec.addresses.loadBalancer goes with source: LoadBalancer, not with source: ' + self.source".to_owned())))]
#[x_kube(validation = Rule::new("(has(self.loadBalancer) && has(self.loadBalancer.class) ? self.loadBalancer.class : '') == (has(oldSelf.loadBalancer) && has(oldSelf.loadBalancer.class) ? oldSelf.loadBalancer.class : '')").message("spec.addresses.loadBalancer.class cannot be changed: Kubernetes doesn't accept another class for an existing Service of type LoadBalancer; create another RadiusProxy"))]
pub struct AddressesSpec {
    /// Source of the addresses. PodIP: addresses of the pods, when the directory can reach them (as with the AWS VPC
    /// CNI). HostIP: addresses of the nodes, through a host port. LoadBalancer: addresses of a Service of type
    /// LoadBalancer; its host names are resolved. Static: the list in `static`. It cannot be changed: create another
    /// RadiusProxy instead.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message(Message::Expression("'spec.addresses.source is ' + oldSelf + ' and cannot be changed to ' + self + ': no server would answer between the old addresses and the new ones; create another RadiusProxy, as the page about moving a directory says'".to_owned())))]
    pub source: AddressSource,
    /// Addresses or DNS names to register with source: Static.
    #[serde(default, rename = "static")]
    #[schemars(
        length(max = 16),
        inner(
            length(min = 1, max = 256),
            regex(pattern = "^[a-zA-Z0-9:]([-.:a-zA-Z0-9]*[a-zA-Z0-9:])?$")
        )
    )]
    pub fixed: Vec<String>,
    /// Service of type LoadBalancer, with source: LoadBalancer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancerSpec>,
}

/// Source of the registered addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AddressSource {
    /// Addresses of the pods.
    #[default]
    #[serde(rename = "PodIP")]
    PodIp,
    /// Addresses of the nodes, through a host port.
    #[serde(rename = "HostIP")]
    HostIp,
    /// Addresses of a Service of type LoadBalancer; its host names are resolved.
    LoadBalancer,
    /// A fixed list.
    Static,
}

impl AddressSource {
    /// Whether each pod has an address of its own.
    pub(crate) const fn is_per_pod(self) -> bool {
        matches!(self, Self::PodIp | Self::HostIp)
    }
}

/// Service of type LoadBalancer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancerSpec {
    /// Annotations of the Service, for the controller that creates the load balancer. They replace the operator's defaults
    /// for the AWS Load Balancer Controller key by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = 32,
        "additionalProperties" = {"type": "string", "maxLength": 4096}
    ))]
    pub annotations: BTreeMap<String, String>,
    /// Load balancer class of the Service. It cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub class: Option<String>,
}
