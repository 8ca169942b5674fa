//! `cargo xtask verify`: checks that need no cluster.

mod alerts;
mod arrows;
mod chart;
mod deny;
mod examples;
mod manifests;
mod pages;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::generate;

/// What is checked; everything when nothing is named.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    check: Option<Check>,
}

/// A check.
#[derive(Debug, Clone, clap::Subcommand)]
enum Check {
    /// Generated files are what `cargo xtask generate` would write, and no others are there.
    Generated,
    /// Crates see each other in one direction only, and no runtime, client or SDK is below the pure ones.
    Arrows,
    /// Licences, sources and banned crates of all dependencies; their advisories too, where the database can be fetched.
    Deny(deny::Arguments),
    /// The chart: lint, schema of the values, manifests for many values against Kubernetes' own schemas.
    Chart,
    /// The examples against the schemas of the CRDs.
    Examples,
    /// The pages: links lead to files and headings that are there.
    Pages,
}

impl Check {
    const fn name(&self) -> &'static str {
        match self {
            Self::Generated => "generated",
            Self::Arrows => "arrows",
            Self::Deny(_) => "deny",
            Self::Chart => "chart",
            Self::Examples => "examples",
            Self::Pages => "pages",
        }
    }

    /// What was looked at, for people.
    fn run(&self, root: &Path) -> Result<String> {
        match self {
            Self::Generated => generated(root),
            Self::Arrows => arrows::verify(root),
            Self::Deny(arguments) => deny::verify(root, arguments),
            Self::Chart => chart::verify(root),
            Self::Examples => examples::verify(root),
            Self::Pages => pages::verify(root),
        }
    }
}

/// Runs the named check, or all of them; all are run even when one fails.
///
/// # Errors
/// When a check finds something, or cannot look.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    let all = || {
        let deny = Check::Deny(deny::Arguments::default());
        vec![
            Check::Generated,
            Check::Arrows,
            deny,
            Check::Chart,
            Check::Examples,
            Check::Pages,
        ]
    };
    let checks = arguments.check.clone().map_or_else(all, |check| vec![check]);
    let mut failed = Vec::new();
    for check in &checks {
        let start = Instant::now();
        let name = check.name();
        match check.run(root) {
            Ok(seen) => println!(
                "{name:<10} ok    {:>5.1} s  {seen}",
                start.elapsed().as_secs_f64()
            ),
            Err(error) => {
                eprintln!("{name:<10} FAILED\n{error:#}\n");
                failed.push(name);
            }
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        bail!("verify {}", failed.join(", "))
    }
}

fn generated(root: &Path) -> Result<String> {
    let differences = generate::check(root)?;
    if differences.is_empty() {
        return Ok("nothing to generate".to_owned());
    }
    let lines: Vec<String> = differences
        .iter()
        .map(|difference| format!("  {difference}"))
        .collect();
    bail!(
        "run `cargo xtask generate` and commit what it writes:\n{}",
        lines.join("\n")
    )
}

/// A program's standard output; its standard error when it fails.
fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot run {name}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    bail!(
        "{name} ended with {}:\n{}\n{}",
        output.status,
        errors.trim_end(),
        text.trim_end()
    )
}
