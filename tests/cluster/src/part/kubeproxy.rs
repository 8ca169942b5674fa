//! kube-proxy, in nftables mode: its tables are those of the cluster's own network namespace.

use serde_json::json;

use super::{Plan, shown};
use crate::layout::Layout;
use crate::network::{Network, node_name};
use crate::pki::Pki;

pub(super) fn plan(layout: &Layout, network: Network, pki: &Pki) -> Plan {
    let config = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": shown(pki.kubeconfig_of("kube-proxy"))},
        "hostnameOverride": node_name(1),
        "mode": "nftables",
        "clusterCIDR": network.cluster_cidr(),
        "bindAddress": "0.0.0.0",
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        // 0 leaves the machine's connection tracking settings as they are.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    });
    let path = layout.config().join("kube-proxy.json");
    let mut plan = Plan::of("kube-proxy", &[("config", shown(&path))]);
    plan.files.push((path, format!("{config:#}\n")));
    plan
}
