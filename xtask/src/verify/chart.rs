//! The chart: that Helm finds nothing to say, that values are held to their schema, and that what comes out is what
//! Kubernetes knows.
//!
//! `ci/*-values.yaml` in the chart are values to render with; `ci/refused.yaml` is a list of values that must be refused,
//! each with words that the refusal has.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use local_cluster::tools::{Tool, kubernetes_version};
use serde::Deserialize;
use serde_json::Value;

use super::manifests::{Schemas, files_ending};
use super::{alerts, output};
use crate::generate::{CHART, yaml};

/// Values that must be refused.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Refused {
    /// Beside the values that every installation needs.
    values: Value,
    /// Words of the refusal.
    says: Vec<String>,
}

/// Checks the chart.
///
/// # Errors
/// With the first thing that is wrong.
pub(super) fn verify(root: &Path) -> Result<String> {
    let schemas = Schemas::make(root)?;
    let chart = root.join(CHART);
    let files = files_ending(&chart.join("ci"), "-values.yaml")?;
    ensure!(!files.is_empty(), "the chart's ci folder has no values");
    let mut objects = 0;
    for file in &files {
        let name = file.display().to_string();
        output(
            helm(&["lint", "--strict", "--quiet"], &chart)
                .arg("--values")
                .arg(file),
        )
        .context(name.clone())?;
        let manifests = output(helm(&TEMPLATE, &chart).arg("--values").arg(file)).context(name.clone())?;
        objects += schemas.check(&manifests).context(name)?;
    }
    let refused = refused(&chart)?;
    let metrics = alerts::verify(root)?;
    let sets = files.len();
    Ok(format!(
        "{sets} sets of values, {objects} objects, {refused} wrong values refused, {metrics} metrics in alerts"
    ))
}

/// Every entry of `ci/refused.yaml` is refused with its words; how many there are.
fn refused(chart: &Path) -> Result<usize> {
    let path = chart.join("ci/refused.yaml");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let cases: Vec<Refused> =
        serde_saphyr::from_str(&text).with_context(|| format!("{} is wrong", path.display()))?;
    let folder = tempfile::tempdir().context("cannot make a folder")?;
    for case in &cases {
        let file = folder.path().join("values.yaml");
        fs::write(&file, yaml(&case.values)?).context("cannot write values")?;
        let mut helm = helm(&TEMPLATE, chart);
        helm.arg("--values")
            .arg(chart.join("ci/default-values.yaml"))
            .arg("--values")
            .arg(&file);
        let values = &case.values;
        let Err(refusal) = output(&mut helm) else {
            anyhow::bail!("these values are not refused: {values}")
        };
        let refusal = format!("{refusal:#}");
        for word in &case.says {
            ensure!(
                refusal.contains(word),
                "the refusal of {values} does not say {word:?}:\n{refusal}"
            );
        }
    }
    Ok(cases.len())
}

const TEMPLATE: [&str; 4] = ["template", "release", "--namespace", "radius-mfa-system"];

fn helm(arguments: &[&str], chart: &Path) -> Command {
    let mut helm = Command::new(Tool::Helm.path());
    // Without a cluster Helm would take the version for that of the library it was built with.
    helm.args(arguments)
        .arg(chart)
        .args(["--kube-version", kubernetes_version()]);
    helm
}
