//! The project's own tasks: `cargo xtask --help` lists them.

mod cluster;
mod images;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own tasks.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// A real Kubernetes cluster on this machine (Linux, root): up, down, status.
    #[command(subcommand)]
    Cluster(cluster::Task),
    /// Build the container images of operator, proxy and simulators as archives below target/images.
    Images(images::Arguments),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Cluster(task) => cluster::run(task),
        Task::Images(arguments) => images::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The repository that this program was built from.
fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(PathBuf::from)
        .unwrap_or_default()
}
