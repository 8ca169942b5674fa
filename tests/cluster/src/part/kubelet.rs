//! A node's kubelet.

use std::path::Path;

use serde_json::json;

use super::{Plan, shown};
use crate::cgroup;
use crate::layout::Layout;
use crate::network::{Network, REGION, node_name, zone};
use crate::pki::Pki;

/// The kubelet of the n-th node, counted from 1.
pub(crate) fn kubelet(layout: &Layout, n: u8, network: Network, pki: &Pki) -> Plan {
    let node = node_name(n);
    let paths = layout.node(&node);
    let serving = format!("{node}-serving");
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": network.node(n),
        "healthzPort": 0,
        "readOnlyPort": 0,
        "tlsCertFile": pki.certificate(&serving),
        "tlsPrivateKeyFile": pki.key(&serving),
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": pki.certificate("ca")},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": format!("unix://{}", shown(paths.socket())),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": Path::new("/").join(cgroup::ROOT).join(paths.pods_group()),
        "failCgroupV1": false,
        "failSwapOn": false,
        "oomScoreAdj": 0,
        "makeIPTablesUtilChains": false,
        "resolvConf": "",
        "podLogsDir": paths.pod_logs(),
        "volumePluginDir": paths.root().join("volume-plugins"),
        // What a disk of the machine holds is not this cluster's business, and images come from nowhere again.
        "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%",
            "imagefs.available": "0%", "imagefs.inodesFree": "0%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        // A changed Secret or ConfigMap reaches the pods within this.
        "syncFrequency": "10s",
        "featureGates": {"KubeletCrashLoopBackOffMax": true},
        "crashLoopBackOff": {"maxContainerRestartPeriod": "1s"},
    });
    let path = layout.config().join(format!("kubelet-{node}.json"));
    let labels = format!(
        "topology.kubernetes.io/zone={},topology.kubernetes.io/region={REGION}",
        zone(n)
    );
    let mut plan = Plan::of(
        "kubelet",
        &[
            ("config", shown(&path)),
            ("kubeconfig", shown(pki.kubeconfig_of(&node))),
            ("root-dir", shown(paths.kubelet())),
            ("cert-dir", shown(paths.kubelet().join("pki"))),
            ("hostname-override", node),
            ("node-ip", network.node(n).to_string()),
            ("node-labels", labels),
        ],
    );
    plan.files.push((path, format!("{config:#}\n")));
    plan
}
