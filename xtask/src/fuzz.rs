//! `cargo xtask fuzz`: the tests that try random input, at length. `cargo test` runs each for a second.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How long each script of the engine is tried, in seconds; each parser for a tenth of it.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Only targets whose name has this in it.
    #[arg(long, default_value = "")]
    only: String,
}

/// Where random input is tried; the tests are those with `fuzz` in their name.
const PACKAGES: [&str; 3] = ["proxy-config", "proxy-core", "radius-proxy"];
const TELL_EVERY: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A test that tries random input.
struct Target {
    name: String,
    binary: PathBuf,
    time: Duration,
}

/// A target at work.
struct Running {
    target: Target,
    child: Child,
    log: PathBuf,
    since: Instant,
}

impl Drop for Running {
    fn drop(&mut self) {
        // None outlives this program, whatever ends it. One that has ended by itself is not found, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let folder = crate::repository().join("target/fuzz");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut waiting: VecDeque<Target> = targets(arguments)?.into();
    let all = waiting.len();
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let work: Duration = waiting.iter().map(|target| target.time).sum();
    let whole = work / u32::try_from(at_once.min(all.max(1)))?;
    println!("{all} targets, {at_once} at once, about {}", clock(whole));
    let (begun, mut told) = (Instant::now(), Instant::now());
    let mut running: Vec<Running> = Vec::new();
    let mut failed = Vec::new();
    let mut done = 0;
    while !waiting.is_empty() || !running.is_empty() {
        while running.len() < at_once
            && let Some(target) = waiting.pop_front()
        {
            running.push(start(target, &folder)?);
        }
        std::thread::sleep(LOOK_EVERY);
        let mut still = Vec::new();
        for mut one in running {
            let Some(status) = one.child.try_wait()? else {
                still.push(one);
                continue;
            };
            done += 1;
            let word = if status.success() { "ok" } else { "FAILED" };
            println!("{word:<7} {} ({})", one.target.name, clock(one.since.elapsed()));
            if !status.success() {
                println!("{}", std::fs::read_to_string(&one.log).unwrap_or_default());
                failed.push(one.target.name.clone());
            }
        }
        running = still;
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            let names: Vec<&str> = running.iter().map(|one| one.target.name.as_str()).collect();
            println!(
                "{} of about {}: {done} of {all} done; at work: {}",
                clock(begun.elapsed()),
                clock(whole),
                names.join(", ")
            );
        }
    }
    println!("{} passed, {} failed", all - failed.len(), failed.len());
    ensure!(
        failed.is_empty(),
        "{}: above stands the input that does it, and BOLERO_RANDOM_SEED repeats it",
        failed.join(", ")
    );
    Ok(())
}

/// Builds the tests, optimised and with checks of overflow, and asks them which targets they have.
fn targets(arguments: &Arguments) -> Result<Vec<Target>> {
    let mut command = Command::new("cargo");
    command.args([
        "test",
        "--profile",
        "fuzz",
        "--lib",
        "--no-run",
        "--message-format",
        "json-render-diagnostics",
    ]);
    for package in PACKAGES {
        command.args(["--package", package]);
    }
    let built = command
        .current_dir(crate::repository())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    ensure!(built.status.success(), "the tests could not be built");
    let mut found = BTreeMap::new();
    for line in String::from_utf8(built.stdout)?.lines() {
        let message: Value = serde_json::from_str(line)?;
        if let Some(binary) = message.get("executable").and_then(Value::as_str) {
            let listed = Command::new(binary).args(["--list", "fuzz"]).output()?;
            for name in String::from_utf8(listed.stdout)?.lines() {
                if let Some(name) = name.strip_suffix(": test")
                    && name.contains(&arguments.only)
                {
                    found.insert(name.to_owned(), PathBuf::from(binary));
                }
            }
        }
    }
    if found.is_empty() {
        bail!("no target has {:?} in its name", arguments.only);
    }
    let mut targets: Vec<Target> = found
        .into_iter()
        .map(|(name, binary)| Target {
            time: Duration::from_secs(arguments.seconds) / if name.starts_with("engine::") { 1 } else { 10 },
            name,
            binary,
        })
        .collect();
    // The longest first, so that none is at work alone at the end.
    targets.sort_by_key(|target| std::cmp::Reverse(target.time));
    Ok(targets)
}

fn start(target: Target, folder: &std::path::Path) -> Result<Running> {
    let log = folder.join(format!("{}.log", target.name.replace("::", "-")));
    let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let child = Command::new(&target.binary)
        .args(["--exact", &target.name, "--nocapture"])
        .env("BOLERO_RANDOM_TEST_TIME_MS", target.time.as_millis().to_string())
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .with_context(|| format!("cannot run {}", target.binary.display()))?;
    Ok(Running {
        target,
        child,
        log,
        since: Instant::now(),
    })
}

/// Minutes and seconds.
fn clock(time: Duration) -> String {
    format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}
