//! `radius-proxy check`: everything that `serve` would need, without serving.

use std::path::PathBuf;

use crate::error::Error;
use crate::load::Source;
use crate::metrics::ProviderMetrics;
use crate::provider::{self, Finding, Shared};

/// Checks the configuration at `path` and reaches its provider (unless `offline`). What is right goes to standard
/// output, each problem to one line of standard error.
///
/// # Errors
/// The number of problems, after they were printed.
pub fn check(path: PathBuf, offline: bool) -> Result<(), Error> {
    let findings = findings(path, offline)?;
    let mut problems = 0;
    for finding in findings {
        match finding {
            Finding::Good(text) => println!("ok: {text}"),
            Finding::Problem(text) => {
                problems += 1;
                eprintln!("problem: {text}");
            }
        }
    }
    if problems == 0 {
        Ok(())
    } else {
        Err(Error::Findings(problems))
    }
}

fn findings(path: PathBuf, offline: bool) -> Result<Vec<Finding>, Error> {
    let mut source = Source::new(path)?;
    let loaded = match source.load() {
        Ok(loaded) => loaded,
        Err(Error::CheckConfig(problems)) => {
            return Ok(problems
                .0
                .iter()
                .map(|p| Finding::Problem(p.to_string()))
                .collect());
        }
        Err(error) => return Ok(vec![Finding::Problem(error.to_string())]),
    };
    let mut findings = vec![Finding::Good(format!(
        "configuration: clients {}, provider {}",
        loaded.config.clients.len(),
        loaded.config.provider.name()
    ))];
    let shared = Shared::new(ProviderMetrics::default());
    match provider::build(&loaded.config, &shared) {
        Err(error) => findings.push(Finding::Problem(error.to_string())),
        Ok(_) if offline => {}
        Ok(provider) => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|source| Error::Start {
                    what: "the runtime",
                    source,
                })?;
            findings.extend(runtime.block_on(provider.rehearse()));
        }
    }
    Ok(findings)
}
