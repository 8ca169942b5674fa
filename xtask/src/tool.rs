//! `cargo xtask tool`.

use clap::{Args, ValueEnum};
use local_cluster::tools::{self, Tool};
use local_cluster::{Console, schemas};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Which one.
    name: Wanted,
}

/// What a person or a script would call by hand.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Wanted {
    Kubectl,
    Helm,
    Kubeconform,
    /// The folder of JSON schemas for kubeconform.
    Schemas,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let console = Console::new();
    let tool = match arguments.name {
        Wanted::Kubectl => Tool::Kubectl,
        Wanted::Helm => Tool::Helm,
        Wanted::Kubeconform => Tool::Kubeconform,
        Wanted::Schemas => {
            println!("{}", schemas::ensure(&console)?.display());
            return Ok(());
        }
    };
    tools::ensure(&[tool], &console)?;
    println!("{}", tool.path().display());
    Ok(())
}
