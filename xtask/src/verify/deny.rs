//! cargo-deny, pinned and kept in the cache folder.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context as _, Result, bail};
use local_cluster::tools::cache_folder;

use super::output;

/// The pinned version.
const VERSION: &str = "0.20.2";

/// How long the advisory database may take to come.
const FETCH_LIMIT: Duration = Duration::from_secs(60);

/// How cargo-deny is run.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Arguments {
    /// Fail when the advisory database cannot be fetched, instead of saying so.
    #[arg(long)]
    advisories: bool,
}

/// Licences, bans and sources always; advisories where their database can be fetched.
///
/// # Errors
/// With what cargo-deny found, or when it cannot be built or run.
pub(super) fn verify(root: &Path, arguments: &Arguments) -> Result<String> {
    let program = installed()?;
    let deny = || {
        let mut deny = Command::new(&program);
        deny.current_dir(root)
            .args(["--log-level", "error", "--color", "never", "--locked"]);
        deny
    };
    output(deny().args(["check", "--hide-inclusion-graph", "licenses", "bans", "sources"]))?;
    match fetch_database(&mut deny()) {
        Ok(()) => {
            output(deny().args(["check", "--disable-fetch", "--hide-inclusion-graph", "advisories"]))?;
            Ok("licences, bans, sources, advisories".to_owned())
        }
        Err(error) if arguments.advisories => Err(error),
        Err(error) => Ok(format!("licences, bans, sources; no advisories: {error:#}")),
    }
}

/// The program, built first if the cache has it not: unoptimised, which halves the build and costs the check a second.
fn installed() -> Result<PathBuf> {
    let folder = cache_folder().join(format!("cargo-deny-{VERSION}"));
    let program = folder.join("bin/cargo-deny");
    if program.is_file() {
        return Ok(program);
    }
    let target = folder.join("target");
    eprintln!(
        "building cargo-deny {VERSION} once, some two minutes, into {}",
        folder.display()
    );
    let mut cargo = Command::new("cargo");
    cargo.args([
        "install",
        "--quiet",
        "--locked",
        "--version",
        VERSION,
        "--profile",
        "dev",
        "--no-default-features",
    ]);
    cargo.arg("--root").arg(&folder).arg("cargo-deny");
    cargo
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_PROFILE_DEV_DEBUG", "false")
        .env_remove("RUSTFLAGS");
    // Outside of the workspace, whose settings are for its own crates.
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    cargo.current_dir(&folder);
    output(&mut cargo).context("cannot build cargo-deny")?;
    fs::remove_dir_all(&target).with_context(|| format!("cannot remove {}", target.display()))?;
    Ok(program)
}

fn fetch_database(deny: &mut Command) -> Result<()> {
    let deny = deny
        .args(["fetch", "db"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = deny.spawn().context("cannot run cargo-deny")?;
    let start = Instant::now();
    loop {
        match child.try_wait().context("cannot wait for cargo-deny")? {
            Some(status) if status.success() => return Ok(()),
            Some(_) => bail!("their database cannot be fetched from here"),
            None if start.elapsed() > FETCH_LIMIT => {
                child.kill().context("cannot end cargo-deny")?;
                child.wait().context("cannot wait for cargo-deny")?;
                bail!("their database did not come within {} s", FETCH_LIMIT.as_secs());
            }
            None => thread::sleep(Duration::from_millis(50)),
        }
    }
}
