//! `cargo xtask cluster`.

use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, Subcommand};
use local_cluster::progress::step;
use local_cluster::{Cluster, Component, Console, Name, Options};

#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Bring the cluster up, or repair it, or give it another number of nodes.
    Up {
        #[command(flatten)]
        which: Which,
        /// How many nodes, up to 9, each in its own zone in turn; 0 for a control plane without scheduler and nodes. Without
        /// it: as many as there are, else 3.
        #[arg(long)]
        nodes: Option<u8>,
    },
    /// End the cluster and remove everything of it.
    Down(Which),
    /// Show every part, every node, and where the logs are; fails where something is not healthy.
    Status(Which),
    /// Print the path of the administrator's kubeconfig.
    Kubeconfig(Which),
    /// Stop a node as a loss of power does (`node-2`), or a part of the control plane (`kube-apiserver`).
    Stop {
        #[command(flatten)]
        which: Which,
        /// The node or the part, as `status` names it.
        what: String,
    },
    /// Start what was stopped, and wait until it is ready.
    Start {
        #[command(flatten)]
        which: Which,
        /// The node or the part, as `status` names it.
        what: String,
    },
    /// Import image archives (OCI or Docker) into every node.
    Load {
        #[command(flatten)]
        which: Which,
        /// The archives.
        #[arg(required = true)]
        archives: Vec<PathBuf>,
    },
}

/// Which of the clusters on this machine.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The cluster's name; several can stand side by side.
    #[arg(long, default_value = "demo")]
    name: Name,
}

pub(crate) fn run(task: Task) -> anyhow::Result<()> {
    match task {
        Task::Up { which, nodes } => up(which.name, nodes),
        Task::Down(which) => down(&which.name),
        Task::Status(which) => status(&which.name),
        Task::Kubeconfig(which) => {
            println!("{}", Cluster::open(&which.name)?.kubeconfig().display());
            Ok(())
        }
        Task::Stop { which, what } => stop(&which.name, &what),
        Task::Start { which, what } => start(&which.name, &what),
        Task::Load { which, archives } => {
            let cluster = Cluster::open(&which.name)?;
            let console = Console::new();
            Ok(archives
                .iter()
                .try_for_each(|archive| cluster.load_archive(archive, &console))?)
        }
    }
}

fn up(name: Name, nodes: Option<u8>) -> anyhow::Result<()> {
    let present = || {
        Cluster::open(&name)
            .ok()
            .and_then(|cluster| u8::try_from(cluster.nodes().len()).ok())
    };
    let nodes = nodes.or_else(present).unwrap_or(3);
    let console = Console::new();
    let cluster = Cluster::up(&Options { name, nodes }, &console)?;
    drop(console);
    eprintln!("\nexport KUBECONFIG={}", cluster.kubeconfig().display());
    Ok(())
}

fn down(name: &Name) -> anyhow::Result<()> {
    let was_there = Cluster::all().contains(name);
    Cluster::down(name, &Console::new())?;
    if !was_there {
        eprintln!("no cluster {name} is up: nothing to end");
    }
    Ok(())
}

fn stop(name: &Name, what: &str) -> anyhow::Result<()> {
    let cluster = Cluster::open(name)?;
    let stop = || match Component::named(what) {
        Some(component) => cluster.stop_component(component),
        None => cluster.stop_node(what),
    };
    Ok(step(
        &Console::new(),
        &format!("stop {what}"),
        |()| String::new(),
        stop,
    )?)
}

fn start(name: &Name, what: &str) -> anyhow::Result<()> {
    let cluster = Cluster::open(name)?;
    let start = || match Component::named(what) {
        Some(component) => cluster.start_component(component),
        None => cluster
            .start_node(what)
            .and_then(|()| cluster.wait_for_node(what)),
    };
    Ok(step(
        &Console::new(),
        &format!("start {what}"),
        |()| "ready".to_owned(),
        start,
    )?)
}

fn status(name: &Name) -> anyhow::Result<()> {
    let status = Cluster::open(name)?.status();
    print!("{status}");
    if !status.is_healthy() {
        bail!("the cluster is not healthy; `cargo xtask cluster up --name {name}` repairs it");
    }
    Ok(())
}
