//! `cargo xtask images`.

use clap::Args;
use local_cluster::{Cluster, Console, Name, image};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Import them into the local cluster of this name, too.
    #[arg(long, value_name = "CLUSTER")]
    load: Option<Name>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    // Asked first: a build of minutes should not end in a misspelt name.
    let cluster = arguments.load.as_ref().map(Cluster::open).transpose()?;
    let console = Console::new();
    let archives = image::build(&crate::repository(), &console)?;
    if let Some(cluster) = cluster {
        cluster.load_images(&archives, &console)?;
    }
    drop(console);
    for archive in archives {
        println!("{}\t{}", archive.reference, archive.path.display());
    }
    Ok(())
}
