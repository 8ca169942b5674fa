//! Nodes: started, lost, brought back, removed.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::cluster::{Cluster, NODES_READY};
use crate::command::run;
use crate::error::Error;
use crate::image::{Archive, PAUSE_IMAGE, pause};
use crate::layout::{containerd_part, kubelet_part};
use crate::netns;
use crate::network::node_name;
use crate::packages;
use crate::part::{self, Component, Snapshotter};
use crate::progress::{Progress, step};
use crate::state::State;
use crate::sys;

const CONTAINERD_START: Duration = Duration::from_secs(180);
const NODE_START: Duration = Duration::from_secs(180);
const KUBELET_PORT: u16 = 10250;

impl Cluster {
    /// Takes a node down as a loss of power does: kubelet, containerd and every container end at once. Kubernetes finds
    /// out by the missing heartbeat, after its usual time.
    ///
    /// # Errors
    /// When there is no such node, or something of it does not end.
    pub fn stop_node(&self, node: &str) -> Result<(), Error> {
        self.number(node)?;
        let paths = self.layout.node(node);
        let remain = self.groups.kill(paths.group());
        if !remain.is_empty() {
            return Err(Error::Leftovers(
                remain.iter().map(|pid| format!("process {pid}")).collect(),
            ));
        }
        self.stop_part(&kubelet_part(node))?;
        self.stop_part(&containerd_part(node))?;
        // Mounts and running state do not survive it either.
        for mount in netns::mounts_below(paths.root()) {
            sys::unmount(&mount).map_err(Error::file("unmount", &mount))?;
        }
        let state = paths.containerd_state();
        fs::remove_dir_all(&state)
            .or_else(missing_is_fine)
            .map_err(Error::file("remove", &state))
    }

    /// Stops a node's kubelet alone: its pods run on, and Kubernetes takes the node for lost.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn stop_kubelet(&self, node: &str) -> Result<(), Error> {
        self.number(node)?;
        self.stop_part(&kubelet_part(node))
    }

    /// Starts what does not run of a node, and returns without waiting for it to be ready.
    ///
    /// # Errors
    /// When there is no such node, or it does not start.
    pub fn start_node(&self, node: &str) -> Result<(), Error> {
        let n = self.number(node)?;
        self.start_containerd(n)?;
        self.launch_kubelet(n).map(drop)
    }

    /// Waits until a node that was started again is ready.
    ///
    /// # Errors
    /// When there is no such node, or it is not ready within three minutes.
    pub fn wait_for_node(&self, node: &str) -> Result<(), Error> {
        self.wait_for_kubelet(self.number(node)?)
    }

    /// Both the kubelet's own word and the API server's: what the API server holds of a node that was lost a moment ago
    /// still says that it is ready.
    pub(crate) fn wait_for_kubelet(&self, n: u8) -> Result<(), Error> {
        let node = node_name(n);
        let address = SocketAddr::from((self.network.node(n), KUBELET_PORT));
        self.wait(NODE_START, &kubelet_part(&node), || {
            TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok()
                && self
                    .kubectl(&["get", "nodes", "-o", NODES_READY])
                    .is_ok_and(|nodes| is_ready(&nodes, &node))
        })
    }

    /// Imports images into every node; those that a node has already are left out.
    ///
    /// # Errors
    /// When an archive cannot be read, or a node cannot import it.
    pub fn load_images(&self, archives: &[Archive], progress: &dyn Progress) -> Result<(), Error> {
        let outcome = |loaded: &usize| format!("{loaded} new on {} nodes", self.nodes);
        step(progress, "load images", outcome, || {
            self.on_every_node(|node| {
                let known = self.ctr(node, &["images", "list"])?;
                let missing = archives
                    .iter()
                    .filter(|archive| !is_listed(&known, archive))
                    .collect::<Vec<_>>();
                missing
                    .iter()
                    .try_for_each(|archive| self.import(node, &archive.path))?;
                Ok(missing.len())
            })
            .map(|loaded| loaded.into_iter().max().unwrap_or_default())
        })
        .map(drop)
    }

    /// Imports any image archive (OCI or Docker) into every node.
    ///
    /// # Errors
    /// When it cannot be read or imported.
    pub fn load_archive(&self, archive: &Path, progress: &dyn Progress) -> Result<(), Error> {
        let name = archive
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        step(
            progress,
            "load image",
            |_: &Vec<()>| name,
            || self.on_every_node(|node| self.import(node, archive)),
        )
        .map(drop)
    }

    /// containerd of the n-th node, ready and with the image that every pod needs; true where it had to be started.
    pub(crate) fn start_containerd(&self, n: u8) -> Result<bool, Error> {
        let node = node_name(n);
        let paths = self.layout.node(&node);
        for group in [paths.runtime_group(), paths.pods_group()] {
            self.groups.make(&group)?;
        }
        let plugins = packages::network_plugins();
        let plan = part::containerd(&self.layout, &node, self.network, &plugins, self.snapshotter());
        self.pki.ensure_node(&node, self.network.node(n).into())?;
        let part = containerd_part(&node);
        let started = self.launch(&part, plan, &paths.runtime_group())?;
        self.wait(CONTAINERD_START, &part, || {
            UnixStream::connect(paths.socket()).is_ok()
        })?;
        if started {
            self.wait(CONTAINERD_START, &part, || {
                self.ctr(&node, &["images", "list"]).is_ok()
            })?;
            let pause = pause().write(&self.layout.config().join(format!("pause-{node}.tar")))?;
            if !self.ctr(&node, &["images", "list"])?.contains(PAUSE_IMAGE) {
                self.import(&node, &pause.path)?;
            }
        }
        Ok(started)
    }

    /// The kubelet of the n-th node; true where it had to be started.
    pub(crate) fn launch_kubelet(&self, n: u8) -> Result<bool, Error> {
        let node = node_name(n);
        let paths = self.layout.node(&node);
        let plan = part::kubelet(&self.layout, n, self.network, &self.pki);
        self.launch(&kubelet_part(&node), plan, &paths.runtime_group())
    }

    /// Removes the nodes above `keep`: their pods are lost at once, as with a node's power.
    pub(crate) fn remove_nodes(&mut self, keep: u8, progress: &dyn Progress) -> Result<(), Error> {
        for n in keep + 1..=self.nodes {
            let node = node_name(n);
            step(
                progress,
                &format!("remove {node}"),
                |()| String::new(),
                || {
                    self.stop_node(&node)?;
                    self.kubectl(&["delete", "node", &node, "--ignore-not-found"])?;
                    let paths = self.layout.node(&node);
                    self.groups.remove(paths.group());
                    fs::remove_dir_all(paths.root()).map_err(Error::file("remove", paths.root()))
                },
            )?;
        }
        if keep == 0 {
            self.stop_component(Component::Scheduler)?;
            self.stop_component(Component::KubeProxy)?;
        }
        if let Some(mut state) = State::read(&self.layout)? {
            state.nodes = keep;
            state.write(&self.layout)?;
        }
        self.nodes = keep;
        Ok(())
    }

    fn number(&self, node: &str) -> Result<u8, Error> {
        let number = (1..=self.nodes).find(|n| node_name(*n) == node);
        number.ok_or_else(|| Error::NoSuchNode(node.to_owned()))
    }

    fn on_every_node<T: Send>(
        &self,
        work: impl Fn(&str) -> Result<T, Error> + Sync,
    ) -> Result<Vec<T>, Error> {
        let nodes = netns::node_names(self.nodes);
        std::thread::scope(|scope| {
            let threads: Vec<_> = nodes.iter().map(|node| scope.spawn(|| work(node))).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(join).collect()
        })
    }

    fn import(&self, node: &str, archive: &Path) -> Result<(), Error> {
        let archive = archive.display().to_string();
        self.ctr(
            node,
            &[
                "images",
                "import",
                "--snapshotter",
                self.snapshotter().name(),
                &archive,
            ],
        )
        .map(drop)
    }

    fn ctr(&self, node: &str, words: &[&str]) -> Result<String, Error> {
        let socket = self.layout.node(node).socket().display().to_string();
        let args = ["--address", &socket, "--namespace", "k8s.io"]
            .into_iter()
            .chain(words.iter().copied());
        run("ctr", &args.collect::<Vec<_>>())
    }

    /// Layers cannot be mounted on layers: a machine that is a container itself gets copies.
    fn snapshotter(&self) -> Snapshotter {
        let root = self.layout.root();
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        if file_system(&mounts, root) == Some("overlay") {
            Snapshotter::Native
        } else {
            Snapshotter::Overlay
        }
    }
}

/// The type of the file system that a path is on.
fn file_system<'a>(mounts: &'a str, path: &Path) -> Option<&'a str> {
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((Path::new(fields.next()?), fields.next()?))
    });
    // The last of several mounts on one place is the one that is seen.
    let over = mounts.filter(|(mount, _)| path.starts_with(mount));
    over.max_by_key(|(mount, _)| mount.components().count())
        .map(|(_, kind)| kind)
}

fn is_ready(nodes: &str, node: &str) -> bool {
    nodes.lines().any(|line| line.strip_suffix(" True") == Some(node))
}

fn is_listed(listing: &str, archive: &Archive) -> bool {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    listing
        .lines()
        .map(words)
        .any(|words| words.contains(&archive.reference) && words.contains(&archive.digest))
}

fn missing_is_fine(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound {
        Ok(())
    } else {
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_system_of_a_path_is_that_of_the_deepest_mount_above_it() {
        let mounts = "overlay / overlay rw 0 0\n/dev/sda /var ext4 rw 0 0\n";
        assert_eq!(file_system(mounts, Path::new("/var/lib/x")), Some("ext4"));
        assert_eq!(file_system(mounts, Path::new("/various")), Some("overlay"));
    }

    #[test]
    fn an_image_counts_as_loaded_only_with_the_same_content() {
        let archive = Archive {
            reference: "radius-mfa.local/proxy:dev".into(),
            path: "x".into(),
            digest: "sha256:1".into(),
            size: 1,
        };
        assert!(is_listed(
            "REF TYPE DIGEST\nradius-mfa.local/proxy:dev application/x sha256:1 1 MiB",
            &archive
        ));
        assert!(!is_listed(
            "radius-mfa.local/proxy:dev application/x sha256:2 1 MiB",
            &archive
        ));
    }
}
