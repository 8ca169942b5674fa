//! Ending a cluster, and leaving nothing.
//!
//! First those that would start something again, then containers, then what holds them. Every process is found by its
//! record or by its control group, never by its name; then nothing is left that could hold mounts, links or groups.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cgroup::Hierarchies;
use crate::error::Error;
use crate::layout::{Layout, containerd_part, kubelet_part};
use crate::netns;
use crate::network::MAX_NODES;
use crate::part::Component;
use crate::process::{self, Process};
use crate::progress::{Progress, step};
use crate::state::State;
use crate::sys;

const PATIENCE: Duration = Duration::from_secs(2);

/// Ends the cluster of that layout.
pub(crate) fn down(layout: &Layout, progress: &dyn Progress) -> Result<(), Error> {
    let groups = Hierarchies::of_this_machine()?;
    if !layout.root().exists() && groups.members(&layout.group()).is_empty() {
        return Ok(());
    }
    let begun = |part: &str| Process::read(&layout.record(part));
    step(
        progress,
        "stop",
        |()| "processes".into(),
        || {
            let nodes = netns::node_names(MAX_NODES);
            let mut first: Vec<Process> = nodes
                .iter()
                .filter_map(|node| begun(&kubelet_part(node)))
                .collect();
            let starters = [
                Component::KubeProxy,
                Component::Scheduler,
                Component::ControllerManager,
            ];
            first.extend(
                starters
                    .into_iter()
                    .filter_map(|component| begun(component.name())),
            );
            process::stop(&first, PATIENCE);
            for node in &nodes {
                groups.kill(&layout.node(node).pods_group());
            }
            let mut last: Vec<Process> = nodes
                .iter()
                .filter_map(|node| begun(&containerd_part(node)))
                .collect();
            last.extend(
                [Component::ApiServer, Component::Etcd]
                    .into_iter()
                    .filter_map(|part| begun(part.name())),
            );
            // Nothing of it is needed again, so nobody is asked to write its data down first.
            process::stop(&last, Duration::ZERO);
            let remain = groups.kill(&layout.group());
            no_leftovers(remain.into_iter().map(|pid| format!("process {pid}")).collect())
        },
    )?;
    step(
        progress,
        "remove",
        |()| "mounts, links, control groups, files".into(),
        || remove(layout, &groups),
    )
}

fn remove(layout: &Layout, groups: &Hierarchies) -> Result<(), Error> {
    let mut left = Vec::new();
    let mut note = |what: String, result: std::io::Result<()>| {
        if let Err(error) = result
            && error.kind() != std::io::ErrorKind::NotFound
        {
            left.push(format!("{what}: {error}"));
        }
    };
    for socket in shim_sockets(layout) {
        note(socket.display().to_string(), fs::remove_file(&socket));
    }
    // The state is read before its file goes; without it the link is gone with the namespace.
    if let Ok(Some(state)) = State::read(layout) {
        let removed = netns::remove(layout, state.network);
        note("network".into(), removed.map_err(std::io::Error::other));
    }
    for mount in netns::mounts_below(layout.root()) {
        note(format!("mount {}", mount.display()), sys::unmount(&mount));
    }
    for entry in foreign_files(layout) {
        note(entry.display().to_string(), fs::remove_file(&entry));
    }
    for folder in FOREIGN_FOLDERS {
        // One that something else still uses is not empty, and stays.
        _ = fs::remove_dir(folder);
    }
    note(
        layout.root().display().to_string(),
        fs::remove_dir_all(layout.root()),
    );
    for group in groups.remove(&layout.group()) {
        left.push(format!("control group {}", group.display()));
    }
    no_leftovers(left)
}

fn no_leftovers(left: Vec<String>) -> Result<(), Error> {
    if left.is_empty() {
        Ok(())
    } else {
        Err(Error::Leftovers(left))
    }
}

/// The sockets of the shims, which were ended by force: each wrote down where its own is.
fn shim_sockets(layout: &Layout) -> Vec<PathBuf> {
    let tasks = |node: &String| {
        layout
            .node(node)
            .containerd_state()
            .join("io.containerd.runtime.v2.task/k8s.io")
    };
    let addresses = netns::node_names(MAX_NODES)
        .iter()
        .map(tasks)
        .flat_map(|folder| entries(&folder))
        .collect::<Vec<_>>();
    addresses
        .into_iter()
        .filter_map(|task| fs::read_to_string(task.join("address")).ok())
        .filter_map(|address| address.trim().strip_prefix("unix://").map(PathBuf::from))
        .filter(|socket| socket.starts_with("/run/containerd/s"))
        .collect()
}

/// Folders outside the cluster's own that its programs write to without being asked, inner ones first.
const FOREIGN_FOLDERS: [&str; 9] = [
    "/run/containerd/s",
    "/run/containerd",
    "/var/log/containers",
    "/var/log/pods",
    "/var/lib/cni/results",
    "/var/lib/cni",
    "/var/lib/kubelet/device-plugins",
    "/var/lib/kubelet/plugins_registry",
    "/var/lib/kubelet",
];

/// What this cluster's programs wrote there: links to the pods' logs, results of the network plugins (which name the
/// pod's namespace, a file of the cluster), and a socket that every kubelet opens at the same place.
fn foreign_files(layout: &Layout) -> Vec<PathBuf> {
    let points_here =
        |path: &PathBuf| fs::read_link(path).is_ok_and(|target| target.starts_with(layout.root()));
    let logs = entries(Path::new("/var/log/containers"))
        .into_iter()
        .filter(points_here);
    let own = format!("{}/", layout.root().display());
    let names_this = |path: &PathBuf| fs::read_to_string(path).is_ok_and(|result| result.contains(&own));
    let results = entries(Path::new("/var/lib/cni/results"))
        .into_iter()
        .filter(names_this);
    let deserted = |path: &PathBuf| {
        UnixStream::connect(path).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    };
    let socket = PathBuf::from(KUBELET_SOCKET);
    logs.chain(results).chain(Some(socket).filter(deserted)).collect()
}

/// Every kubelet opens it at the same place, whatever its own folder is.
const KUBELET_SOCKET: &str = "/var/lib/kubelet/device-plugins/kubelet.sock";

/// Whether a kubelet, of whomever, runs on this machine.
pub(crate) fn a_kubelet_listens() -> bool {
    UnixStream::connect(KUBELET_SOCKET).is_ok()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect()
}
