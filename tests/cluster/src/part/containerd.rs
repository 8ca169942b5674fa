//! A node's containerd, and the pod network that it sets up.

use std::path::Path;

use serde_json::json;

use super::{Plan, shown};
use crate::image::PAUSE_IMAGE;
use crate::layout::{Layout, NodeLayout};
use crate::network::Network;

/// How containerd lays an image's files out for a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Snapshotter {
    /// By mounts on top of each other: quick, where the file system below allows it.
    Overlay,
    /// By copies: where the machine itself stands on such mounts.
    Native,
}

impl Snapshotter {
    /// The name, as containerd knows it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Overlay => "overlayfs",
            Self::Native => "native",
        }
    }
}

/// containerd for one node.
pub(crate) fn containerd(
    layout: &Layout,
    node: &str,
    network: Network,
    plugins: &Path,
    snapshotter: Snapshotter,
) -> Plan {
    let paths = layout.node(node);
    let config = layout.config().join(format!("containerd-{node}.toml"));
    let mut plan = Plan::of(
        "containerd",
        &[("config", shown(&config)), ("log-level", "warn".into())],
    );
    plan.files
        .push((config, configuration(&paths, plugins, snapshotter)));
    plan.files
        .push((paths.cni().join("pods.conflist"), pod_network(layout, network)));
    plan
}

fn configuration(paths: &NodeLayout, plugins: &Path, snapshotter: Snapshotter) -> String {
    let root = shown(paths.containerd_root());
    let state = shown(paths.containerd_state());
    let socket = shown(paths.socket());
    let opt = shown(paths.root().join("opt"));
    let (cni, plugins, snapshotter) = (shown(paths.cni()), shown(plugins), snapshotter.name());
    // No CAP_SYS_RESOURCE and no AppArmor are asked for: both are missing where a machine is itself a container.
    format!(
        r#"version = 2
root = "{root}"
state = "{state}"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.internal.v1.tracing",
]

[grpc]
address = "{socket}"

[ttrpc]
address = "{socket}.ttrpc"

[plugins."io.containerd.internal.v1.opt"]
path = "{opt}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
restrict_oom_score_adj = true
disable_apparmor = true
netns_mounts_under_state_dir = true

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "{snapshotter}"
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
Root = "{state}/runc"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{cni}"
"#
    )
}

/// A link of its own for every pod, routed: so a Service's answers pass where its address was translated, pods keep their
/// addresses when they talk to each other, and with no default route none of them can leave.
fn pod_network(layout: &Layout, network: Network) -> String {
    let (first, last) = network.pods();
    let range = json!({
        "subnet": network.cluster_cidr(),
        "rangeStart": first,
        "rangeEnd": last,
        "gateway": network.api(),
    });
    let conflist = json!({
        "cniVersion": "0.4.0",
        "name": layout.pod_network(),
        "plugins": [{
            "type": "ptp",
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "dataDir": shown(layout.addresses()),
                "ranges": [[range]],
                "routes": [{"dst": network.service_cidr()}],
            },
        }, {
            // Host ports. The client's address stays as it is.
            "type": "portmap",
            "capabilities": {"portMappings": true},
            "snat": false,
        }],
    });
    format!("{conflist:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_keeps_everything_below_its_own_folder() {
        let layout = Layout::new(&"demo".parse().unwrap());
        let text = configuration(
            &layout.node("node-2"),
            Path::new("/usr/lib/cni"),
            Snapshotter::Native,
        );
        let own = "/var/lib/radius-mfa-operator/demo/node-2";
        for setting in [
            format!("root = \"{own}/containerd\""),
            format!("state = \"{own}/run\""),
            format!("address = \"{own}/containerd.sock\""),
            format!("path = \"{own}/opt\""),
            "snapshotter = \"native\"".to_owned(),
        ] {
            assert!(text.lines().any(|line| line == setting), "{setting}");
        }
    }

    #[test]
    fn pods_have_no_default_route() {
        let layout = Layout::new(&"demo".parse().unwrap());
        let text = pod_network(&layout, Network::choose(&[], &[]).unwrap());
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let ipam = &value["plugins"][0]["ipam"];
        assert_eq!(ipam["routes"], json!([{"dst": "10.96.0.0/16"}]));
        assert_eq!(ipam["ranges"][0][0]["rangeStart"], "10.88.1.1");
    }
}
