//! `cargo xtask test`: everything that CI runs, in one order, each step with its time. `--long`: what takes too long for CI.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// What a release runs beside it, and takes too long for CI: random input, ignored tests, failures at length.
    #[arg(long)]
    long: bool,
    /// Only these steps, by name, in the order of the whole.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

/// A step: its name, the program, its arguments.
type Step = (&'static str, &'static str, &'static [&'static str]);

/// Quick and telling ones first; what is slow to build comes late, and nothing is built twice.
const STEPS: [Step; 12] = [
    ("format", "cargo", &["fmt", "--all", "--check"]),
    ("generated", "cargo", &["xtask", "verify", "generated"]),
    ("arrows", "cargo", &["xtask", "verify", "arrows"]),
    ("pages", "cargo", &["xtask", "verify", "pages"]),
    (
        "clippy",
        "cargo",
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--",
            "-D",
            "warnings",
        ],
    ),
    ("unit", "cargo", &["test", "--workspace"]),
    ("licences", "cargo", &["xtask", "verify", "deny"]),
    ("chart", "cargo", &["xtask", "verify", "chart"]),
    ("examples", "cargo", &["xtask", "verify", "examples"]),
    ("judges", "tests/judges/run", &[]),
    (
        "cluster",
        "cargo",
        // Of the whole workspace: of the package alone, its dependencies would have fewer features and be built again.
        &[
            "test",
            "--workspace",
            "--features",
            "local-cluster/machine",
            "--test",
            "lifecycle",
        ],
    ),
    ("end-to-end", "cargo", &["xtask", "e2e"]),
];

/// What `--long` runs.
const LONG_STEPS: [Step; 4] = [
    ("ignored", "cargo", &["test", "--workspace", "--", "--ignored"]),
    (
        "histories",
        "env",
        // `cargo test` tries eight random histories of the operator, since each takes a second.
        &[
            "PROPTEST_CASES=400",
            "cargo",
            "test",
            "--workspace",
            "--lib",
            "--",
            "scenarios",
        ],
    ),
    ("fuzz", "cargo", &["xtask", "fuzz"]),
    ("end-to-end", "cargo", &["xtask", "e2e", "--long"]),
];

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let (steps, long): (&[Step], _) = if arguments.long {
        (&LONG_STEPS, " --long")
    } else {
        (&STEPS, "")
    };
    let names: Vec<&str> = steps.iter().map(|(name, ..)| *name).collect();
    if let Some(unknown) = arguments.only.iter().find(|only| !names.contains(&only.as_str())) {
        bail!("there is no step {unknown:?}; there are: {}", names.join(", "));
    }
    let mut times: Vec<(&str, Duration)> = Vec::new();
    for &(name, program, args) in steps {
        if !arguments.only.is_empty() && !arguments.only.iter().any(|only| only == name) {
            continue;
        }
        println!("\n== {name}: {program} {}", args.join(" "));
        if name == "unit" || name == "ignored" {
            local_cluster::ensure_for_unit_tests(&local_cluster::Console::new())?;
        }
        let begun = Instant::now();
        let mut command = Command::new(program);
        command.args(args).current_dir(crate::repository());
        if name == "judges" && times.iter().any(|(before, _)| *before == "unit") {
            judge_what_was_tested(&mut command)?;
        }
        let status = command.status()?;
        times.push((name, begun.elapsed()));
        if !status.success() {
            tell(&times);
            bail!("{name} failed; `cargo xtask test{long} --only {name}` runs it alone");
        }
    }
    tell(&times);
    println!("{} passed, 0 failed", times.len());
    Ok(())
}

/// The tests have built proxy and simulators as binaries; built by themselves they would have other features of their
/// dependencies, and half of those would be compiled a second time.
fn judge_what_was_tested(command: &mut Command) -> Result<()> {
    let own = std::env::current_exe()?;
    for (variable, name) in [
        ("RADIUS_PROXY_BIN", "radius-proxy"),
        ("SIMULATORS_BIN", "simulators"),
    ] {
        let binary = own.with_file_name(name);
        if binary.exists() && std::env::var_os(variable).is_none() {
            command.env(variable, binary);
        }
    }
    Ok(())
}

fn tell(times: &[(&str, Duration)]) {
    println!();
    for (name, time) in times {
        println!("{name:<12} {:>7.1} s", time.as_secs_f64());
    }
}
