//! The project's own tasks: `cargo xtask --help` lists them.

mod bench;
mod clean_up;
mod cluster;
mod demo;
mod e2e;
mod fuzz;
mod generate;
mod images;
mod test;
mod tool;
mod verify;

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
    /// Print the path of a pinned program (or of kubeconform's schemas), built first where it is missing.
    Tool(tool::Arguments),
    /// The whole product on a real cluster, step by step; the cluster is left running.
    Demo(demo::Arguments),
    /// End what the demo left running.
    DemoDown(demo::Down),
    /// The end-to-end tests on a three-node cluster of their own.
    E2e(e2e::Arguments),
    /// Write the CRDs, the chart's copies of them and the reference pages.
    Generate,
    /// Checks that need no cluster: generated files, arrows, dependencies, chart, examples.
    Verify(verify::Arguments),
    /// Figures, side by side in one run, to target/bench/summary.json.
    Bench(bench::Arguments),
    /// The tests that try random input, each for minutes.
    Fuzz(fuzz::Arguments),
    /// Everything that CI runs.
    Test(test::Arguments),
    /// Remove what an interrupted run left.
    CleanUp,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Cluster(task) => cluster::run(task),
        Task::Images(arguments) => images::run(&arguments),
        Task::Tool(arguments) => tool::run(&arguments),
        Task::Demo(arguments) => demo::run(&arguments),
        Task::DemoDown(arguments) => demo::down(&arguments),
        Task::E2e(arguments) => e2e::run(&arguments),
        Task::Generate => generate::run(&repository()),
        Task::Verify(arguments) => verify::run(&repository(), &arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Test(arguments) => test::run(&arguments),
        Task::CleanUp => clean_up::run(),
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
