//! How packets get to the pods.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use proxy_config::parse_network;

use super::Owner;
use crate::names::{ADMIN_PORT, HEALTH_PORT, peer_port};

fn port_number(port: u32) -> i32 {
    i32::try_from(port).unwrap_or(i32::MAX)
}

fn radius_port(owner: &Owner<'_>) -> ServicePort {
    ServicePort {
        name: Some("radius".to_owned()),
        port: port_number(owner.proxy.spec.port),
        protocol: Some("UDP".to_owned()),
        target_port: Some(IntOrString::String("radius".to_owned())),
        ..ServicePort::default()
    }
}

/// Names for the pods. Pods that are not ready have one too: they may be registered, and answer.
pub(crate) fn headless_service(owner: &Owner<'_>) -> Service {
    Service {
        metadata: owner.metadata(owner.names.workload()),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            ip_family_policy: Some("PreferDualStack".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(owner.selector()),
            ports: Some(vec![
                radius_port(owner),
                ServicePort {
                    name: Some("admin".to_owned()),
                    port: i32::from(ADMIN_PORT),
                    protocol: Some("TCP".to_owned()),
                    target_port: Some(IntOrString::String("admin".to_owned())),
                    ..ServicePort::default()
                },
            ]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// Default annotations for the AWS Load Balancer Controller, which the spec can replace: a network load balancer inside the
/// VPC, packets straight to the pods, health from its own port, since UDP has none.
const LOAD_BALANCER_DEFAULTS: [(&str, &str); 6] = [
    ("type", "external"),
    ("scheme", "internal"),
    ("nlb-target-type", "ip"),
    ("healthcheck-protocol", "http"),
    ("healthcheck-port", "8081"),
    ("healthcheck-path", "/readyz"),
];

/// The Service of type LoadBalancer, whose address is registered.
pub(crate) fn load_balancer(owner: &Owner<'_>) -> Service {
    let spec = owner
        .proxy
        .spec
        .addresses
        .load_balancer
        .clone()
        .unwrap_or_default();
    let mut annotations: BTreeMap<String, String> = LOAD_BALANCER_DEFAULTS
        .map(|(key, value)| {
            (
                format!("service.beta.kubernetes.io/aws-load-balancer-{key}"),
                value.to_owned(),
            )
        })
        .into();
    annotations.extend(spec.annotations);
    let mut metadata = owner.metadata(owner.names.load_balancer());
    metadata.annotations = Some(annotations);
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some("LoadBalancer".to_owned()),
            load_balancer_class: spec.class,
            // The proxies tell clients by their source address: it must not be a node's.
            external_traffic_policy: Some("Local".to_owned()),
            selector: Some(owner.selector()),
            ports: Some(vec![radius_port(owner)]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// Ingress only: RADIUS from the directory and the clients, the pods' own port from each other, the ports of health and
/// metrics from everywhere. Kubelets and load balancers probe from addresses that a policy cannot name, Prometheus may be
/// anywhere, and the ports show nothing but health, metrics and a keyed digest. Egress is not limited: providers are behind
/// names, which a policy cannot name either.
pub(crate) fn network_policy(owner: &Owner<'_>, directory_clients: &BTreeSet<IpAddr>) -> NetworkPolicy {
    let own = directory_clients
        .iter()
        .map(|address| network(&address.to_string()));
    let others = owner.proxy.spec.clients.iter().flat_map(|c| &c.networks);
    let networks: BTreeSet<String> = own.chain(others.map(|n| network(n))).collect();
    let radius = NetworkPolicyIngressRule {
        from: Some(networks.into_iter().map(block).collect()),
        ports: Some(vec![policy_port("UDP", port_number(owner.proxy.spec.port))]),
    };
    let admin = NetworkPolicyIngressRule {
        from: None,
        ports: Some(
            [ADMIN_PORT, HEALTH_PORT]
                .map(|port| policy_port("TCP", i32::from(port)))
                .to_vec(),
        ),
    };
    let peers = NetworkPolicyIngressRule {
        from: Some(vec![NetworkPolicyPeer {
            pod_selector: Some(owner.label_selector()),
            ..NetworkPolicyPeer::default()
        }]),
        ports: Some(vec![policy_port(
            "UDP",
            i32::from(peer_port(owner.proxy.spec.port)),
        )]),
    };
    // A rule with an empty `from` would let everybody in.
    let radius = Some(radius).filter(|rule| rule.from.as_ref().is_some_and(|from| !from.is_empty()));
    NetworkPolicy {
        metadata: owner.metadata(owner.names.workload()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(owner.label_selector()),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(radius.into_iter().chain([admin, peers]).collect()),
            ..NetworkPolicySpec::default()
        }),
    }
}

/// A network without host bits, as the proxy reads it; an address is a network of one address.
fn network(text: &str) -> String {
    parse_network(text).map_or_else(|| text.to_owned(), |network| network.to_string())
}

fn block(cidr: String) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        ip_block: Some(IPBlock { cidr, except: None }),
        ..NetworkPolicyPeer::default()
    }
}

fn policy_port(protocol: &str, port: i32) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(port)),
        ..NetworkPolicyPort::default()
    }
}
