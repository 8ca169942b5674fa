//! The names and the files of a cluster.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::Error;

/// The folder of all clusters of this machine.
const BASE: &str = "/var/lib/radius-mfa-operator";

/// The name of a cluster: 1 to 12 of `a-z`, `0-9` and `-`, beginning with a letter. It becomes part of folders and
/// sockets, and the path of a Unix socket holds no more than 107 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let begins = text.chars().next().is_some_and(|c| c.is_ascii_lowercase());
        if begins && text.len() <= 12 && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::Name(text.to_owned()))
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The folder above every cluster's own.
#[must_use]
pub(crate) fn base() -> &'static Path {
    Path::new(BASE)
}

/// Where a cluster keeps what.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
    name: Name,
}

impl Layout {
    /// The layout of the cluster of that name.
    pub(crate) fn new(name: &Name) -> Self {
        Self {
            root: base().join(name.as_str()),
            name: name.clone(),
        }
    }

    /// The cluster's name.
    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    /// Everything of the cluster is in here.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// What the cluster was started with.
    pub(crate) fn state(&self) -> PathBuf {
        self.root.join("cluster.json")
    }

    /// The administrator's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubeconfig")
    }

    /// The file that the network namespace is mounted on.
    pub(crate) fn netns(&self) -> PathBuf {
        self.root.join("netns")
    }

    /// Certificates, keys and the parts' kubeconfigs.
    pub(crate) fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }

    /// Configuration files of the parts.
    pub(crate) fn config(&self) -> PathBuf {
        self.root.join("config")
    }

    /// Logs of the parts.
    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// The log of one part.
    pub(crate) fn log(&self, part: &str) -> PathBuf {
        self.logs().join(format!("{part}.log"))
    }

    /// Which processes were started.
    pub(crate) fn processes(&self) -> PathBuf {
        self.root.join("processes")
    }

    /// The record of one part's process.
    pub(crate) fn record(&self, part: &str) -> PathBuf {
        self.processes().join(part)
    }

    /// etcd's data.
    pub(crate) fn etcd(&self) -> PathBuf {
        self.root.join("etcd")
    }

    /// The pod addresses in use, shared by all nodes, so that an address is given once.
    pub(crate) fn addresses(&self) -> PathBuf {
        self.root.join("addresses")
    }

    /// The name of the pod network: what the network plugins' own files begin with.
    pub(crate) fn pod_network(&self) -> String {
        format!("radius-mfa-{}", self.name)
    }

    /// The control group of the control plane.
    pub(crate) fn control_plane_group(&self) -> PathBuf {
        self.group().join("control-plane")
    }

    /// The control group of the whole cluster.
    pub(crate) fn group(&self) -> PathBuf {
        PathBuf::from(self.name.as_str())
    }

    /// One node's part.
    pub(crate) fn node(&self, node: &str) -> NodeLayout {
        NodeLayout {
            root: self.root.join(node),
            group: self.group().join(node),
        }
    }
}

/// Where one node keeps what.
#[derive(Debug, Clone)]
pub(crate) struct NodeLayout {
    root: PathBuf,
    group: PathBuf,
}

impl NodeLayout {
    /// Everything of the node.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// containerd's lasting data: images, snapshots.
    pub(crate) fn containerd_root(&self) -> PathBuf {
        self.root.join("containerd")
    }

    /// containerd's running state, gone with a node's power.
    pub(crate) fn containerd_state(&self) -> PathBuf {
        self.root.join("run")
    }

    /// containerd's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.root.join("containerd.sock")
    }

    /// The folder of the network plugins' configuration.
    pub(crate) fn cni(&self) -> PathBuf {
        self.root.join("cni")
    }

    /// The kubelet's root folder.
    pub(crate) fn kubelet(&self) -> PathBuf {
        self.root.join("kubelet")
    }

    /// The pods' logs.
    pub(crate) fn pod_logs(&self) -> PathBuf {
        self.root.join("pod-logs")
    }

    /// The control group of everything on the node.
    pub(crate) fn group(&self) -> &Path {
        &self.group
    }

    /// The control group of kubelet, containerd and shims.
    pub(crate) fn runtime_group(&self) -> PathBuf {
        self.group.join("runtime")
    }

    /// The kubelet's own root group.
    pub(crate) fn pods_group(&self) -> PathBuf {
        self.group.join("pods")
    }
}

/// The part name of a node's containerd.
pub(crate) fn containerd_part(node: &str) -> String {
    format!("containerd-{node}")
}

/// The part name of a node's kubelet.
pub(crate) fn kubelet_part(node: &str) -> String {
    format!("kubelet-{node}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_leave_the_folder_is_refused() {
        for bad in ["", "..", "a/b", "Demo", "1st", "averyverylongname", "a b"] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
        assert_eq!("demo".parse::<Name>().unwrap().to_string(), "demo");
    }

    #[test]
    fn the_longest_socket_path_fits() {
        let layout = Layout::new(&"a-name-of-12".parse().unwrap());
        let node = layout.node("node-9");
        let socket = node
            .kubelet()
            .join("device-plugins/kubelet_internal_checkpoint.sock");
        assert!(socket.as_os_str().len() <= 107);
        assert!(node.socket().as_os_str().len() + ".ttrpc".len() <= 107);
    }
}
