//! `kubectl`, as a person would type it.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::wait::until;

/// What a command printed.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A cluster, through `kubectl`.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: Option<PathBuf>,
}

impl Kubectl {
    /// The cluster of that kubeconfig; without one, of the current context.
    #[must_use]
    pub fn new(program: &Path, kubeconfig: Option<&Path>) -> Self {
        Self {
            program: program.to_owned(),
            kubeconfig: kubeconfig.map(Path::to_owned),
        }
    }

    /// The kubeconfig, when it is not the current context's.
    #[must_use]
    pub fn kubeconfig(&self) -> Option<&Path> {
        self.kubeconfig.as_deref()
    }

    /// A command that has the cluster in its environment.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some(path) = &self.kubeconfig {
            command.env("KUBECONFIG", path);
        }
        command
    }

    /// Runs it, whatever its exit code.
    pub fn try_run(&self, args: &[&str], stdin: Option<&str>) -> Result<Output> {
        let mut command = self.command(&self.program);
        command.args(args);
        run(command, stdin)
    }

    /// Runs it and returns standard output; an exit code other than 0 is an error with standard error in it.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        self.run_with(args, None)
    }

    /// As [`Self::run`], with something on standard input.
    pub fn run_with(&self, args: &[&str], stdin: Option<&str>) -> Result<String> {
        let output = self.try_run(args, stdin)?;
        if output.code != 0 {
            bail!("kubectl {}: {}", args.join(" "), output.stderr.trim());
        }
        Ok(output.stdout)
    }

    /// An object or a list, as JSON.
    pub fn get(&self, args: &[&str]) -> Result<Value> {
        let mut all = vec!["get", "-o", "json"];
        all.extend(args);
        Ok(serde_json::from_str(&self.run(&all)?)?)
    }

    /// Applies manifests on the server's side.
    pub fn apply(&self, manifests: &str) -> Result<String> {
        self.run_with(
            &["apply", "--server-side", "--force-conflicts", "-f", "-"],
            Some(manifests),
        )
    }

    /// Applies manifests and returns what the API server says, refused or not.
    pub fn try_apply(&self, manifests: &str, dry_run: bool) -> Result<Output> {
        let mut args = vec!["apply", "--server-side", "-f", "-"];
        if dry_run {
            args.push("--dry-run=server");
        }
        self.try_run(&args, Some(manifests))
    }

    /// Creates a namespace unless it is there.
    pub fn ensure_namespace(&self, name: &str) -> Result<()> {
        let manifest = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n  labels:\n    \
             pod-security.kubernetes.io/enforce: restricted\n"
        );
        self.apply(&manifest).map(drop)
    }

    /// Waits for a condition of an object with status True.
    pub fn wait_for_condition(
        &self,
        namespace: &str,
        object: &str,
        condition: &str,
        within: Duration,
    ) -> Result<()> {
        let what = format!("{object} in {namespace} to be {condition}");
        until(&what, within, || {
            let object = self.get(&["-n", namespace, object])?;
            let found = conditions(&object)
                .find(|c| c["type"] == condition)
                .cloned()
                .unwrap_or_default();
            let current = object["metadata"]["generation"] == found["observedGeneration"]
                || found["observedGeneration"].is_null();
            Ok(if found["status"] == "True" && current {
                Ok(())
            } else {
                Err(conditions(&object).map(summary).collect::<Vec<_>>().join("; "))
            })
        })
    }

    /// A GET to a pod's port through the API server: works on every cluster, from everywhere.
    pub fn pod_get<T: DeserializeOwned>(&self, pod: &PodPort<'_>, path: &str) -> Result<T> {
        let text = self.run(&["get", "--raw", &pod.url(path)])?;
        serde_json::from_str(&text).with_context(|| format!("{}{path} answered {text:?}", pod.pod))
    }

    /// A GET that answers with text.
    pub fn pod_text(&self, pod: &PodPort<'_>, path: &str) -> Result<String> {
        self.run(&["get", "--raw", &pod.url(path)])
    }

    /// A POST with a JSON body.
    pub fn pod_post<T: DeserializeOwned>(&self, pod: &PodPort<'_>, path: &str, body: &Value) -> Result<T> {
        let text = self.run_with(
            &["create", "--raw", &pod.url(path), "-f", "-"],
            Some(&body.to_string()),
        )?;
        serde_json::from_str(&text).with_context(|| format!("{}{path} answered {text:?}", pod.pod))
    }

    /// A PUT with a JSON body.
    pub fn pod_put(&self, pod: &PodPort<'_>, path: &str, body: &Value) -> Result<()> {
        self.run_with(
            &["replace", "--raw", &pod.url(path), "-f", "-"],
            Some(&body.to_string()),
        )
        .map(drop)
    }

    /// A DELETE.
    pub fn pod_delete(&self, pod: &PodPort<'_>, path: &str) -> Result<()> {
        self.run(&["delete", "--raw", &pod.url(path)]).map(drop)
    }
}

/// A port of a pod.
#[derive(Debug, Clone, Copy)]
pub struct PodPort<'a> {
    /// The pod's namespace.
    pub namespace: &'a str,
    /// The pod.
    pub pod: &'a str,
    /// The TCP port of an HTTP server.
    pub port: u16,
}

impl PodPort<'_> {
    fn url(&self, path: &str) -> String {
        format!(
            "/api/v1/namespaces/{}/pods/{}:{}/proxy{path}",
            self.namespace, self.pod, self.port
        )
    }
}

/// The conditions of an object.
pub(crate) fn conditions(object: &Value) -> impl Iterator<Item = &Value> {
    object["status"]["conditions"].as_array().into_iter().flatten()
}

fn summary(condition: &Value) -> String {
    let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    format!(
        "{}={} ({}: {})",
        text("type"),
        text("status"),
        text("reason"),
        text("message")
    )
}

/// Runs a command to its end.
pub(crate) fn run(mut command: Command, stdin: Option<&str>) -> Result<Output> {
    let program = OsString::from(command.get_program());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if stdin.is_some() {
        Stdio::piped()
    } else {
        Stdio::null()
    });
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    if let (Some(text), Some(mut pipe)) = (stdin, child.stdin.take()) {
        pipe.write_all(text.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    Ok(Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
