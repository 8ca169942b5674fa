//! What runs of a cluster.

use std::fmt;
use std::time::Duration;

use crate::cluster::{Cluster, NODES_READY};
use crate::layout::{containerd_part, kubelet_part};
use crate::network::zone;
use crate::part::Component;
use crate::process::{Process, proportional_memory};
use crate::tools::kubernetes_version;

/// A cluster at a glance; its `Display` is what `cargo xtask cluster status` prints.
#[derive(Debug, Clone)]
pub struct Status {
    /// The cluster's name.
    pub name: String,
    /// The version of Kubernetes.
    pub kubernetes: &'static str,
    /// Where the API server is.
    pub api: String,
    /// The kubeconfig file.
    pub kubeconfig: String,
    /// The folder of the logs.
    pub logs: String,
    /// Every part.
    pub parts: Vec<PartStatus>,
    /// Every node.
    pub nodes: Vec<NodeStatus>,
    /// Memory of all processes, containers and shims among them, in bytes.
    pub memory: u64,
}

/// One process that should run.
#[derive(Debug, Clone)]
pub struct PartStatus {
    /// The part's name.
    pub name: String,
    /// Process number, age and memory in bytes; none where it does not run.
    pub running: Option<(i32, Duration, u64)>,
}

/// One node, as the API server sees it.
#[derive(Debug, Clone)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Its zone.
    pub zone: &'static str,
    /// Its address.
    pub address: String,
    /// The status of its condition Ready: True, False or Unknown; none where the API server does not answer or know it.
    pub ready: Option<String>,
}

impl Cluster {
    /// Looks at every part and asks the API server about the nodes.
    #[must_use]
    pub fn status(&self) -> Status {
        let mut names: Vec<String> = Component::of(self.nodes)
            .iter()
            .map(|component| component.name().to_owned())
            .collect();
        names.extend(
            self.nodes()
                .iter()
                .flat_map(|node| [containerd_part(&node.name), kubelet_part(&node.name)]),
        );
        let ready = self
            .kubectl(&["--request-timeout", "3s", "get", "nodes", "-o", NODES_READY])
            .unwrap_or_default();
        let ready_of = |node: &str| {
            let mut words = ready.lines().filter_map(|line| line.split_once(' '));
            words
                .find(|(name, _)| *name == node)
                .map(|(_, status)| status.to_owned())
        };
        let nodes = (1..).zip(self.nodes()).map(|(n, node)| NodeStatus {
            ready: ready_of(&node.name),
            zone: zone(n),
            address: node.address.to_string(),
            name: node.name,
        });
        let members = self.groups.members(&self.layout.group());
        Status {
            name: self.name().to_string(),
            kubernetes: kubernetes_version(),
            api: self.network.api_url(),
            kubeconfig: self.kubeconfig().display().to_string(),
            logs: self.logs().display().to_string(),
            parts: names.into_iter().map(|name| self.part_status(name)).collect(),
            nodes: nodes.collect(),
            memory: members.into_iter().filter_map(proportional_memory).sum(),
        }
    }

    fn part_status(&self, name: String) -> PartStatus {
        let process = Process::read(&self.layout.record(&name)).filter(Process::runs);
        let running = process.map(|process| {
            (
                process.pid(),
                process.age().unwrap_or_default(),
                process.memory().unwrap_or_default(),
            )
        });
        PartStatus { name, running }
    }
}

impl Status {
    /// Whether every part runs and every node is ready.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.parts.iter().all(|part| part.running.is_some())
            && self
                .nodes
                .iter()
                .all(|node| node.ready.as_deref() == Some("True"))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = self.memory / (1 << 20);
        writeln!(
            f,
            "cluster {}: Kubernetes {} at {}, {memory} MiB",
            self.name, self.kubernetes, self.api
        )?;
        writeln!(f, "kubeconfig {}", self.kubeconfig)?;
        writeln!(f, "logs       {}\n", self.logs)?;
        writeln!(
            f,
            "{:<26}{:<10}{:>8}{:>9}{:>10}",
            "PART", "STATE", "PID", "AGE", "MEMORY"
        )?;
        for part in &self.parts {
            match part.running {
                Some((pid, age, memory)) => {
                    let (age, memory) = (shown_age(age), memory / (1 << 20));
                    writeln!(
                        f,
                        "{:<26}{:<10}{pid:>8}{age:>9}{memory:>6} MiB",
                        part.name, "running"
                    )?;
                }
                None => writeln!(f, "{:<26}stopped", part.name)?,
            }
        }
        if !self.nodes.is_empty() {
            writeln!(f, "\n{:<10}{:<10}{:<10}ADDRESS", "NODE", "READY", "ZONE")?;
        }
        for node in &self.nodes {
            let ready = node.ready.as_deref().unwrap_or("unknown");
            writeln!(f, "{:<10}{ready:<10}{:<10}{}", node.name, node.zone, node.address)?;
        }
        Ok(())
    }
}

fn shown_age(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7200 => format!("{}m", seconds / 60),
        seconds => format!("{}h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_part_and_an_unknown_node_are_shown_as_such() {
        let part = |name: &str, running| PartStatus {
            name: name.into(),
            running,
        };
        let status = Status {
            name: "demo".into(),
            kubernetes: "v1.34.4",
            api: "https://10.88.0.1:6443".into(),
            kubeconfig: "/k".into(),
            logs: "/l".into(),
            parts: vec![
                part("etcd", Some((7, Duration::from_secs(180), 5 << 20))),
                part("kubelet-node-1", None),
            ],
            nodes: vec![NodeStatus {
                name: "node-1".into(),
                zone: "zone-a",
                address: "10.88.0.11".into(),
                ready: None,
            }],
            memory: 400 << 20,
        };
        let shown = status.to_string();
        assert!(
            shown.contains("cluster demo: Kubernetes v1.34.4 at https://10.88.0.1:6443, 400 MiB"),
            "{shown}"
        );
        assert!(
            shown.contains("etcd                      running          7       3m     5 MiB"),
            "{shown}"
        );
        assert!(shown.contains("kubelet-node-1            stopped"), "{shown}");
        assert!(
            shown.contains("node-1    unknown   zone-a    10.88.0.11"),
            "{shown}"
        );
        assert!(!status.is_healthy());
    }
}
