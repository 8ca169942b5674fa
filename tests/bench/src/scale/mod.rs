//! The operator at scale: a thousand RadiusProxy resources with three pods each.
//!
//! Real are the operator (the shipped program), etcd, the API server and the controller manager. Simulated are AWS, and what a
//! machine would do: nodes, kubelets and proxies ([`kubelets`]). Nothing passes or fails by a figure.

mod kubelets;
mod nodes;
mod phases;
mod sample;
mod seen;
mod stage;
mod steps;
mod world;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use kubelets::Kubelets;
use phases::Phases;
use seen::Seen;
pub(crate) use stage::Programs;
use stage::Stage;
use world::World;

/// Room for pods on each node: more than a kubelet's 110, since no kubelet runs them.
const PODS_A_NODE: u32 = 500;

/// How much is run at scale, and for how long.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Scale {
    /// RadiusProxy resources, each with a directory of its own.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(10..=10_000))]
    pub(crate) proxies: u32,
    /// Pods of each.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=10))]
    pub(crate) replicas: u32,
    /// AWS accounts that the directories are in, each with a role to assume.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(5..=250))]
    pub(crate) accounts: u32,
    /// Nodes without machines.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(3..=1000))]
    pub(crate) nodes: u32,
    /// The window at rest begins so many seconds after the first registration: by default when every resource is looked at
    /// again because nothing happened to it for ten minutes.
    #[arg(long, default_value_t = 600)]
    pub(crate) rest_after: u64,
    /// How long the window at rest is, in seconds. 0: as long as registering all of them took, and two minutes at least.
    #[arg(long, default_value_t = 0)]
    pub(crate) rest_seconds: u64,
    /// A flag for the operator, such as --operator-arg=--concurrency=8; it runs with its defaults otherwise.
    #[arg(long = "operator-arg", allow_hyphen_values = true)]
    pub(crate) operator_args: Vec<String>,
}

/// Runs it; the figures by name. Logs are kept in `logs`.
pub(crate) fn run(scale: &Scale, programs: &Programs<'_>, logs: &Path) -> Result<BTreeMap<String, f64>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        // What was started ends as its owner is dropped, whichever branch it is.
        tokio::select! {
            figures = all(scale, programs, logs) => figures,
            _ = interrupt.recv() => bail!("interrupted"),
            _ = terminate.recv() => bail!("told to end"),
        }
    })
}

async fn all(scale: &Scale, programs: &Programs<'_>, logs: &Path) -> Result<BTreeMap<String, f64>> {
    let world = World {
        proxies: scale.proxies,
        replicas: scale.replicas,
        accounts: scale.accounts,
    };
    eprintln!(
        "the operator at scale: {} RadiusProxy with {} pods each, directories in {} accounts; logs in {}",
        world.proxies,
        world.replicas,
        world.accounts,
        logs.display()
    );
    let mut stage = Stage::start(scale, programs, world, logs).await?;
    nodes::make(&stage.client, scale.nodes, PODS_A_NODE).await?;
    stage.apply(&world.foundations(), logs)?;
    let kubelets = Kubelets::new(stage.client.clone(), scale.nodes);
    let seen = Seen::default();
    // Ends with this function.
    let mut players = JoinSet::new();
    players.spawn(nodes::live(stage.client.clone(), scale.nodes));
    players.spawn(kubelets.clone().run());
    players.spawn(seen.clone().run(stage.client.clone()));
    let mut phases = Phases::new(&mut stage, world, &kubelets, &seen);
    phases.register().await?;
    phases.change().await?;
    phases.drift().await?;
    phases.rest(scale).await?;
    let figures = phases.figures();
    let failures = kubelets.failures();
    if failures > 0 {
        println!("(the stand-ins for kubelets tried {failures} calls again)");
    }
    Ok(figures)
}
