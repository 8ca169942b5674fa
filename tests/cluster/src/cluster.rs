//! Bringing a cluster up, whatever is there of it already.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::cgroup::Hierarchies;
use crate::command;
use crate::down;
use crate::error::Error;
use crate::layout::{Layout, Name, base};
use crate::netns;
use crate::network::{self, MAX_NODES, Network, node_name, zone};
use crate::packages;
use crate::part::Component;
use crate::pki::Pki;
use crate::progress::{Progress, step};
use crate::state::{Lock, State, networks_taken};
use crate::sys;
use crate::tools::{self, Tool, kubernetes_version};

/// Which cluster to bring up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its name; clusters of different names stand side by side.
    pub name: Name,
    /// How many nodes, up to [`MAX_NODES`]. Without any there are etcd, the API server and the controller manager alone,
    /// and whoever uses the cluster plays scheduler and kubelets.
    pub nodes: u8,
}

/// A cluster that is up.
#[derive(Debug)]
pub struct Cluster {
    pub(crate) layout: Layout,
    pub(crate) network: Network,
    pub(crate) nodes: u8,
    pub(crate) pki: Pki,
    pub(crate) groups: Hierarchies,
    kubeconfig: PathBuf,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The name of the Node object.
    pub name: String,
    /// `topology.kubernetes.io/zone`.
    pub zone: &'static str,
    /// Its address.
    pub address: std::net::Ipv4Addr,
}

impl Cluster {
    /// Brings a cluster up and returns when all its nodes are ready: builds and installs what is missing, starts what
    /// does not run, adds and removes nodes. Does nothing where nothing is to do.
    ///
    /// # Errors
    /// When the machine cannot run it, or a part fails; what runs by then keeps running, for a look at it, until
    /// [`Cluster::down`] or the next `up`.
    pub fn up(options: &Options, progress: &dyn Progress) -> Result<Self, Error> {
        sys::check()?;
        if options.nodes > MAX_NODES {
            return Err(Error::NodeCount(options.nodes, MAX_NODES));
        }
        packages::ensure(packages::CLUSTER, progress)?;
        tools::ensure(&Tool::CLUSTER, progress)?;
        let _lock = Lock::take()?;
        let layout = Layout::new(&options.name);
        let before = Self::state_before(&layout, progress)?;
        let known = before.as_ref().map_or(0, |state| state.nodes);
        let state = match before {
            Some(mut state) => {
                state.nodes = options.nodes.max(state.nodes);
                state
            }
            None => Self::new_state(options.nodes)?,
        };
        let mut cluster = Self::prepare(layout, &state)?;
        cluster.start_all(progress)?;
        if options.nodes < known {
            cluster.remove_nodes(options.nodes, progress)?;
        }
        Ok(cluster)
    }

    /// A cluster that was brought up before.
    ///
    /// # Errors
    /// When there is none of that name, or its files cannot be read.
    pub fn open(name: &Name) -> Result<Self, Error> {
        sys::check()?;
        let layout = Layout::new(name);
        let state = State::read(&layout)?.filter(|state| !state.is_from_another_boot());
        let state = state.ok_or_else(|| Error::NotUp(name.to_string()))?;
        Self::assemble(layout, &state)
    }

    /// Ends a cluster and removes everything of it; nothing happens where there is none.
    ///
    /// # Errors
    /// When something stays behind: the error names it.
    pub fn down(name: &Name, progress: &dyn Progress) -> Result<(), Error> {
        sys::check()?;
        let _lock = Lock::take()?;
        down::down(&Layout::new(name), progress)
    }

    /// The names of all clusters of this machine.
    #[must_use]
    pub fn all() -> Vec<Name> {
        let folders = fs::read_dir(base()).into_iter().flatten().flatten();
        let mut names: Vec<Name> = folders
            .filter_map(|folder| folder.file_name().to_str()?.parse().ok())
            .collect();
        names.sort();
        names
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The cluster's name.
    #[must_use]
    pub fn name(&self) -> &Name {
        self.layout.name()
    }

    /// The folder of the parts' logs.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.layout.logs()
    }

    /// The pinned kubectl.
    #[must_use]
    pub fn kubectl_path(&self) -> PathBuf {
        Tool::Kubectl.path()
    }

    /// The pinned Helm; [`tools::ensure`] builds it.
    #[must_use]
    pub fn helm_path(&self) -> PathBuf {
        Tool::Helm.path()
    }

    /// All nodes, stopped ones too.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        let node = |n| Node {
            name: node_name(n),
            zone: zone(n),
            address: self.network.node(n),
        };
        (1..=self.nodes).map(node).collect()
    }

    /// Runs kubectl as the administrator and returns what it wrote.
    ///
    /// # Errors
    /// When it fails.
    pub fn kubectl(&self, args: &[&str]) -> Result<String, Error> {
        let kubeconfig = self.kubeconfig.display().to_string();
        let args: Vec<&str> = ["--kubeconfig", &kubeconfig]
            .into_iter()
            .chain(args.iter().copied())
            .collect();
        let mut kubectl = Command::new(Tool::Kubectl.path());
        // Its own cache would outlive the cluster.
        kubectl
            .args(args)
            .env("KUBECACHEDIR", self.layout.root().join("kubectl"));
        command::run_command(&mut kubectl, None)
    }

    /// The state of the cluster that is up; one that the machine's last start has ended is cleared away first.
    fn state_before(layout: &Layout, progress: &dyn Progress) -> Result<Option<State>, Error> {
        let state = State::read(layout)?;
        if state.as_ref().is_none_or(State::is_from_another_boot) {
            if layout.root().exists() {
                down::down(layout, progress)?;
            }
            return Ok(None);
        }
        let wanted = kubernetes_version();
        match state {
            Some(state) if state.kubernetes != wanted => Err(Error::OtherVersion {
                name: layout.name().to_string(),
                running: state.kubernetes,
                wanted: wanted.to_owned(),
            }),
            state => Ok(state),
        }
    }

    fn new_state(nodes: u8) -> Result<State, Error> {
        let taken = networks_taken();
        if taken.is_empty() && down::a_kubelet_listens() {
            return Err(Error::Unsupported(
                "this machine is a Kubernetes node already, and two kubelets share a socket",
            ));
        }
        let routes = network::routes(&command::run("ip", &["-4", "route", "show", "table", "all"])?);
        let network = Network::choose(&taken, &routes).ok_or(Error::NoFreeNetwork)?;
        Ok(State::new(network, nodes, kubernetes_version()))
    }

    /// The state is written before anything that it describes is made: an interrupted start is found by the next one.
    fn prepare(layout: Layout, state: &State) -> Result<Self, Error> {
        let folders = [
            layout.root().to_owned(),
            layout.pki(),
            layout.config(),
            layout.logs(),
            layout.processes(),
        ];
        for folder in &folders {
            private_folder(folder)?;
        }
        state.write(&layout)?;
        netns::ensure(&layout, state.network, state.nodes)?;
        let cluster = Self::assemble(layout, state)?;
        cluster.pki.ensure(&cluster.layout, state.network)?;
        cluster.groups.make(&cluster.layout.control_plane_group())?;
        Ok(cluster)
    }

    fn assemble(layout: Layout, state: &State) -> Result<Self, Error> {
        let kubeconfig = layout.kubeconfig();
        let groups = Hierarchies::of_this_machine()?;
        let pki = Pki::of(&layout, state.network);
        Ok(Self {
            layout,
            network: state.network,
            nodes: state.nodes,
            pki,
            groups,
            kubeconfig,
        })
    }

    /// Control plane and the nodes' containerds side by side, then everything that talks to the API server.
    fn start_all(&self, progress: &dyn Progress) -> Result<(), Error> {
        self.forget_ended_parts()?;
        let begun = Instant::now();
        let words = |started: &bool| {
            if *started {
                String::new()
            } else {
                "was running".to_owned()
            }
        };
        std::thread::scope(|scope| {
            let control_plane = scope.spawn(|| {
                step(progress, "etcd, kube-apiserver", words, || {
                    self.start_control_plane()
                })
            });
            let nodes: Vec<_> = (1..=self.nodes)
                .map(|n| {
                    let name = format!("containerd {}", node_name(n));
                    scope.spawn(move || step(progress, &name, words, || self.start_containerd(n)))
                })
                .collect();
            let results = std::iter::once(control_plane).chain(nodes).map(join);
            results.collect::<Result<Vec<_>, _>>()
        })?;
        let title = match self.nodes {
            0 => "control plane ready".to_owned(),
            1 => "1 node ready".to_owned(),
            nodes => format!("{nodes} nodes ready"),
        };
        let total = |()| format!("all in {:.1} s", begun.elapsed().as_secs_f64());
        step(
            progress,
            &title,
            |()| total(()),
            || {
                for component in Component::of(self.nodes) {
                    self.launch_component(*component)?;
                }
                (1..=self.nodes).try_for_each(|n| self.launch_kubelet(n).map(drop))?;
                self.wait_until_usable()
            },
        )
    }

    /// etcd and the API server; true where anything had to be started.
    fn start_control_plane(&self) -> Result<bool, Error> {
        let etcd = self.launch_component(Component::Etcd)?;
        let api = self.launch_component(Component::ApiServer)?;
        self.wait_for_api_server()?;
        Ok(etcd || api)
    }

    /// Waits until every node is ready and pods can be made.
    fn wait_until_usable(&self) -> Result<(), Error> {
        for n in 1..=self.nodes {
            self.wait_for_kubelet(n)?;
        }
        // Pods are refused before it is there.
        self.wait(Duration::from_secs(180), "kube-controller-manager", || {
            self.kubectl(&["get", "serviceaccount", "default", "-n", "default"])
                .is_ok()
        })
    }
}

/// One line for each node: its name and the status of its condition Ready.
pub(crate) const NODES_READY: &str = "jsonpath={range .items[*]}{.metadata.name} {.status.conditions[?(@.type==\"Ready\")].status}{\"\\n\"}{end}";

fn join<T>(thread: std::thread::ScopedJoinHandle<'_, Result<T, Error>>) -> Result<T, Error> {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn private_folder(folder: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(Error::file("create", folder))
}
