//! A real Kubernetes cluster on one Linux machine: etcd, API server, controller manager, scheduler, kube-proxy, and for
//! each node a kubelet with its own containerd.
//!
//! It needs root and Linux, and no Docker. The programs of Kubernetes are built from pinned sources ([`tools`]), the rest
//! comes from the distribution. Several clusters can stand side by side: each has its own network namespace, control
//! groups and folder (`/var/lib/radius-mfa-operator/<name>`), and [`Cluster::down`] leaves nothing of it.
//!
//! Not there, and no part of what it is for: enforcement of NetworkPolicy, cluster DNS, load balancers, a way out for pods.
//!
//! ```no_run
//! # fn main() -> Result<(), local_cluster::Error> {
//! use local_cluster::{Cluster, Options, Silent};
//! let options = Options { name: "test".parse()?, nodes: 3 };
//! let cluster = Cluster::up(&options, &Silent)?;
//! cluster.kubectl(&["get", "nodes"])?;
//! Cluster::down(cluster.name(), &Silent)
//! # }
//! ```

mod cgroup;
mod cluster;
mod command;
mod down;
mod error;
pub mod image;
mod layout;
mod netns;
mod network;
mod node;
mod packages;
mod part;
mod pki;
mod process;
pub mod progress;
mod run;
pub mod schemas;
mod state;
mod status;
mod sys;
pub mod tools;

pub use cluster::{Cluster, Node, Options};
pub use error::Error;
pub use layout::Name;
pub use network::MAX_NODES;
pub use packages::{ensure_for_end_to_end_tests, ensure_for_unit_tests};
pub use part::Component;
pub use progress::{Console, Progress, Silent};
pub use status::{NodeStatus, PartStatus, Status};
