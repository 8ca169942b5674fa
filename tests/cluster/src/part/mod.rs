//! The parts of a cluster: for each, its program, its arguments and its configuration file. Pure.

mod apiserver;
mod containerd;
mod controllers;
mod etcd;
mod kubelet;
mod kubeproxy;

use std::path::PathBuf;

pub(crate) use containerd::{Snapshotter, containerd};
pub(crate) use kubelet::kubelet;

use crate::layout::Layout;
use crate::network::Network;
use crate::pki::Pki;

/// A part of the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// etcd.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
    /// kube-scheduler.
    Scheduler,
    /// kube-proxy: one for all nodes, since they share a network namespace.
    KubeProxy,
}

impl Component {
    /// All of them, in the order to start in.
    pub const ALL: [Self; 5] = [
        Self::Etcd,
        Self::ApiServer,
        Self::ControllerManager,
        Self::Scheduler,
        Self::KubeProxy,
    ];

    /// Those that a cluster of so many nodes has: nobody schedules or routes where there are none.
    pub(crate) fn of(nodes: u8) -> &'static [Self] {
        const WITHOUT_NODES: [Component; 3] = [
            Component::Etcd,
            Component::ApiServer,
            Component::ControllerManager,
        ];
        if nodes == 0 { &WITHOUT_NODES } else { &Self::ALL }
    }

    /// The name, as in `status` and of the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::KubeProxy => "kube-proxy",
        }
    }

    /// The component of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|component| component.name() == name)
    }

    /// How to run it.
    pub(crate) fn plan(self, layout: &Layout, network: Network, pki: &Pki) -> Plan {
        match self {
            Self::Etcd => etcd::plan(layout),
            Self::ApiServer => apiserver::plan(network, pki),
            Self::ControllerManager => controllers::manager(network, pki),
            Self::Scheduler => controllers::scheduler(pki),
            Self::KubeProxy => kubeproxy::plan(layout, network, pki),
        }
    }
}

/// What a part is run with.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The program's name.
    pub(crate) program: &'static str,
    /// Its arguments.
    pub(crate) args: Vec<String>,
    /// Files to write first.
    pub(crate) files: Vec<(PathBuf, String)>,
}

impl Plan {
    /// A program that is told everything by arguments.
    fn of(program: &'static str, args: &[(&str, String)]) -> Self {
        let args = args
            .iter()
            .map(|(name, value)| format!("--{name}={value}"))
            .collect();
        Self {
            program,
            args,
            files: Vec::new(),
        }
    }
}

fn shown(path: impl AsRef<std::path::Path>) -> String {
    path.as_ref().display().to_string()
}
