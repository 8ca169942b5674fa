//! Manifests against schemas, by kubeconform and without the network: Kubernetes' schemas from the sources that the local
//! cluster is built from, the Prometheus operator's from its module, the project's own from `crds/`.
//!
//! All of them are strict: a field that the API server would drop or refuse is an error.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use local_cluster::tools::{self, Tool, cache_folder};
use local_cluster::{Console, schemas};
use serde_json::Value;

use super::output;

/// The module with the CustomResourceDefinitions of monitoring.coreos.com, and the checksum of its content
/// as go.sum would have it.
const PROMETHEUS_OPERATOR: (&str, &str, &str) = (
    "github.com/prometheus-operator/prometheus-operator",
    "v0.85.0",
    "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
);

/// The schemas that manifests are held to.
#[derive(Debug)]
pub(super) struct Schemas {
    kubernetes: PathBuf,
    others: tempfile::TempDir,
}

impl Schemas {
    /// Makes what is not in the cache yet, Helm and kubeconform among it.
    ///
    /// # Errors
    /// When a program cannot be built, or sources cannot be had.
    pub(super) fn make(root: &Path) -> Result<Self> {
        let console = Console::new();
        tools::ensure(&[Tool::Helm, Tool::Kubeconform], &console)?;
        let kubernetes = schemas::ensure(&console)?;
        let others = tempfile::tempdir().context("cannot make a folder")?;
        let mut definitions = monitoring()?;
        definitions.extend(yaml_files(&root.join("crds"))?);
        schemas::write_custom(&definitions, others.path())?;
        Ok(Self { kubernetes, others })
    }

    /// Checks manifests; the number of objects.
    ///
    /// # Errors
    /// With what kubeconform refused.
    pub(super) fn check(&self, manifests: &str) -> Result<usize> {
        let folder = tempfile::tempdir().context("cannot make a folder")?;
        let file = folder.path().join("manifests.yaml");
        fs::write(&file, manifests).with_context(|| format!("cannot write {}", file.display()))?;
        let mut kubeconform = Command::new(Tool::Kubeconform.path());
        kubeconform.args(["-strict", "-output", "json", "-summary"]);
        for location in [&self.kubernetes, self.others.path()] {
            let location = location.join("{{.ResourceKind}}{{.KindSuffix}}.json");
            kubeconform.arg("-schema-location").arg(location);
        }
        let found = output(kubeconform.arg(&file)).context("kubeconform refuses a manifest")?;
        let found: Value = serde_json::from_str(&found).context("kubeconform wrote no JSON")?;
        let count = |name: &str| found.pointer(&format!("/summary/{name}")).and_then(Value::as_u64);
        ensure!(
            count("skipped") == Some(0),
            "kubeconform did not look at every manifest: {found}"
        );
        count("valid")
            .and_then(|valid| usize::try_from(valid).ok())
            .context("kubeconform counted nothing")
    }
}

/// The files directly in a folder whose names end so, in order.
///
/// # Errors
/// When the folder cannot be read.
pub(super) fn files_ending(folder: &Path, end: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().ends_with(end))
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The manifests directly in a folder.
///
/// # Errors
/// When there are none, or the folder cannot be read.
pub(super) fn yaml_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let files = files_ending(folder, ".yaml")?;
    ensure!(!files.is_empty(), "{} has no manifests", folder.display());
    Ok(files)
}

/// The definitions of the Prometheus operator that the chart makes objects of; the module is kept in the cache by Go.
fn monitoring() -> Result<Vec<PathBuf>> {
    let (path, version, sum) = PROMETHEUS_OPERATOR;
    let kept = cache_folder().join(format!("prometheus-operator-{version}"));
    let names = ["servicemonitors", "podmonitors", "prometheusrules"];
    let names = names.map(|plural| format!("monitoring.coreos.com_{plural}.yaml"));
    if names.iter().any(|name| !kept.join(name).is_file()) {
        let sources = module(path, version, sum)?.join("example/prometheus-operator-crd");
        fs::create_dir_all(&kept).with_context(|| format!("cannot make {}", kept.display()))?;
        for name in &names {
            let unfinished = kept.join(format!("{name}.unfinished-{}", std::process::id()));
            fs::copy(sources.join(name), &unfinished).with_context(|| format!("cannot copy {name}"))?;
            fs::rename(&unfinished, kept.join(name)).with_context(|| format!("cannot keep {name}"))?;
        }
    }
    Ok(names.iter().map(|name| kept.join(name)).collect())
}

/// The folder of a module in Go's own cache, fetched if it is not there.
fn module(path: &str, version: &str, sum: &str) -> Result<PathBuf> {
    let mut go = Command::new(if Path::new("/usr/local/go/bin/go").is_file() {
        "/usr/local/go/bin/go"
    } else {
        "go"
    });
    // Outside of any module.
    go.current_dir(std::env::temp_dir())
        .args(["mod", "download", "-json"])
        .arg(format!("{path}@{version}"));
    let answer = output(&mut go).with_context(|| format!("cannot fetch {path} {version}"))?;
    let answer: Value = serde_json::from_str(&answer).context("Go wrote no JSON")?;
    let word = |field: &str| answer.get(field).and_then(Value::as_str);
    ensure!(
        word("Sum") == Some(sum),
        "{path} {version} is not what was pinned"
    );
    word("Dir")
        .map(PathBuf::from)
        .with_context(|| format!("Go does not say where {path} is"))
}
