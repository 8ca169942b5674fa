//! `cargo xtask demo`: the whole product on a real cluster, step by step.

mod changes;
mod factors;
mod narrator;
mod place;
mod steps;

use anyhow::Result;
use clap::{Args, ValueEnum};
use local_cluster::{Cluster, Console, Name};

use narrator::Narrator;
use place::Place;
use steps::Demo;

/// The name of the local cluster that the demo leaves running.
const NAME: &str = "demo";

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Which cluster it runs on.
    #[arg(long, value_enum, default_value_t = Where::Local, env = "CLUSTER")]
    cluster: Where,
    /// How many nodes the local cluster has.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: u8,
}

/// Which cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Where {
    /// A real one on this machine (Linux, root), made for it.
    Local,
    /// That of the current kubectl context.
    Current,
}

#[derive(Debug, Args)]
pub(crate) struct Down {
    /// Which cluster the demo ran on. Of the current context, only what the demo made is removed.
    #[arg(long, value_enum, default_value_t = Where::Local, env = "CLUSTER")]
    cluster: Where,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut say = Narrator::new(steps::COUNT);
    say.step(
        "A Kubernetes cluster",
        match arguments.cluster {
            Where::Local => "Real API server, scheduler, kubelets and containerd on this machine; each node is a zone of its own.",
            Where::Current => "The cluster of the current kubectl context.",
        },
    );
    let place = match arguments.cluster {
        Where::Local => Place::local(&mut say, &NAME.parse::<Name>()?, arguments.nodes)?,
        Where::Current => Place::current(&mut say)?,
    };
    place.make_room(&say)?;
    let mut demo = Demo::begin(&mut say, &place)?;
    demo.run()?;
    say.summary();
    place.farewell(&say);
    Ok(())
}

pub(crate) fn down(arguments: &Down) -> Result<()> {
    match arguments.cluster {
        Where::Local => Ok(Cluster::down(&NAME.parse::<Name>()?, &Console::new())?),
        Where::Current => Place::remove_from_current(),
    }
}
