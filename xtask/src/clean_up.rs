//! `cargo xtask clean-up`: what an interrupted run left.

use anyhow::Result;
use local_cluster::{Cluster, Console};

pub(crate) fn run() -> Result<()> {
    let names = Cluster::all();
    if names.is_empty() {
        println!("nothing to clean up: no local cluster is there");
    }
    for name in names {
        println!("cluster {name}");
        Cluster::down(&name, &Console::new())?;
    }
    Ok(())
}
