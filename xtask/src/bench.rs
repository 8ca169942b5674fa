//! `cargo xtask bench`: figures, side by side in one run. Nothing here passes or fails by a timing.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};
use clap::Args;
use local_cluster::image::{FLAGS, TARGET};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Which parts to run (local, duo, pending, scale), with commas between them; all when it is left out.
    #[arg(long)]
    only: Option<String>,
    /// Logins in each of the local runs.
    #[arg(long, default_value_t = 200_000)]
    logins: usize,
    /// What else `bench run` takes, such as --proxies 250.
    #[arg(last = true)]
    more: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let repository = crate::repository();
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository.join("target"), PathBuf::from);
    eprintln!("building the proxy, the operator, the simulators and the load generator (release)");
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--release", "--target", TARGET]);
    build.args([
        "--package",
        "radius-proxy",
        "--package",
        "radius-mfa-operator",
        "--package",
        "simulators",
        "--package",
        "bench",
    ]);
    // The target and flags of the images: the shipped program is what is measured.
    build
        .env("RUSTFLAGS", FLAGS)
        .env("CARGO_TARGET_DIR", &target)
        .current_dir(&repository);
    if !build.status()?.success() {
        bail!("the build failed");
    }
    let programs = target.join(TARGET).join("release");
    let mut bench = Command::new(programs.join("bench"));
    bench.arg("run").arg("--proxy").arg(programs.join("radius-proxy"));
    bench.arg("--operator").arg(programs.join("radius-mfa-operator"));
    bench.arg("--simulators").arg(programs.join("simulators"));
    bench.arg("--crds").arg(repository.join("crds"));
    bench
        .arg("--summary")
        .arg(repository.join("target/bench/summary.json"));
    bench.args(["--logins", &arguments.logins.to_string()]);
    if let Some(only) = &arguments.only {
        bench.args(["--only", only]);
    }
    bench.args(&arguments.more);
    // In place of this process: whoever presses Ctrl-C waits until the bench has ended what it started.
    Err(bench.exec().into())
}
