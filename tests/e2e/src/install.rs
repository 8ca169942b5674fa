//! The operator, installed with its chart.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::kubectl::{Kubectl, run};
use crate::scenario::NAMESPACE;
use crate::simulators::{CONNECTOR_DIRECTORY, MICROSOFT_DIRECTORY, Simulators};

/// The namespace of the operator.
pub const OPERATOR_NAMESPACE: &str = "radius-mfa-system";
/// The Helm release.
pub const RELEASE: &str = "radius-mfa-operator";

/// The images to run, each as repository:tag.
#[derive(Debug, Clone)]
pub struct Images {
    /// The operator's.
    pub operator: String,
    /// The proxy's.
    pub proxy: String,
    /// The simulators'.
    pub simulators: String,
    /// `Never` where they were loaded into the nodes, `IfNotPresent` where they come from a registry.
    pub pull_policy: String,
}

/// An installation by Helm.
#[derive(Debug, Clone)]
pub struct Install<'a> {
    /// The cluster.
    pub kubectl: &'a Kubectl,
    /// The `helm` program.
    pub helm: &'a Path,
    /// The chart's folder.
    pub chart: PathBuf,
    /// What runs.
    pub images: &'a Images,
    /// Whether pods have no cluster DNS.
    pub without_dns: bool,
    /// How often directories are described, in seconds; the chart's defaults when absent.
    pub describe_every: Option<u32>,
}

impl Install<'_> {
    /// The values, in the order of the command line, each for `--set`.
    #[must_use]
    pub fn values(&self, simulators: &Simulators) -> Vec<String> {
        let (repository, tag) = split_image(&self.images.operator);
        let (proxy_repository, proxy_tag) = split_image(&self.images.proxy);
        let mut values = vec![
            format!("image.repository={repository}"),
            format!("image.tag={tag}"),
            format!("image.pullPolicy={}", self.images.pull_policy),
            format!("proxy.image.repository={proxy_repository}"),
            format!("proxy.image.tag={proxy_tag}"),
            format!("proxy.image.pullPolicy={}", self.images.pull_policy),
            format!(
                "proxy.providerHostSuffixes={{{},{}}}",
                simulators.duo_host(),
                simulators.okta_host()
            ),
            "clusterName=demo".to_owned(),
            "aws.existingSecret=aws-credentials".to_owned(),
            format!("aws.endpointUrl={}", simulators.aws_endpoint()),
            format!("grants[0].name=demo,grants[0].namespaces={{{NAMESPACE}}}"),
            format!("grants[0].directories[0].directoryIds={{{MICROSOFT_DIRECTORY},{CONNECTOR_DIRECTORY}}}"),
            "grants[0].directories[0].region=eu-central-1".to_owned(),
        ];
        if let Some(seconds) = self.describe_every {
            values.push(format!(
                "describeIntervalSeconds={seconds},detailIntervalSeconds={seconds}"
            ));
        }
        if self.without_dns {
            values.push("proxy.dnsPolicy=Default,dnsPolicy=Default".to_owned());
        }
        values
    }

    /// The namespaces and the AWS credentials, as a person would make them before.
    pub fn prepare(&self) -> Result<()> {
        self.kubectl.ensure_namespace(OPERATOR_NAMESPACE)?;
        self.kubectl.ensure_namespace(NAMESPACE)?;
        self.kubectl.apply(&credentials(OPERATOR_NAMESPACE)).map(drop)
    }

    /// What [`Self::run`] does, as a person would type it in the repository's folder.
    #[must_use]
    pub fn command_line(&self, simulators: &Simulators) -> String {
        let mut lines = vec![format!(
            "helm upgrade --install {RELEASE} charts/radius-mfa-operator --namespace {OPERATOR_NAMESPACE} --wait --timeout 3m"
        )];
        lines.extend(
            self.values(simulators)
                .iter()
                .map(|value| format!("        --set '{value}'")),
        );
        lines.join(" \\\n")
    }

    /// `helm upgrade --install`, waiting until the operator runs.
    pub fn run(&self, simulators: &Simulators, more: &[&str]) -> Result<String> {
        let values = self.values(simulators);
        self.upgrade(RELEASE, OPERATOR_NAMESPACE, &values, more)
    }

    /// Installs the chart a second time, as a release with a namespace of the same name and one replica. The CRDs and the
    /// grants stay the first release's.
    pub fn run_second(&self, release: &str, simulators: &Simulators, more: &[&str]) -> Result<()> {
        self.kubectl.ensure_namespace(release)?;
        self.kubectl.apply(&credentials(release))?;
        let mut values = self.values(simulators);
        values.retain(|value| !value.starts_with("grants["));
        values.push("crds.enabled=false,replicas=1".to_owned());
        self.upgrade(release, release, &values, more).map(drop)
    }

    /// Uninstalls a release of [`Self::run_second`] and deletes its namespace.
    pub fn remove_second(&self, release: &str) -> Result<()> {
        let uninstall = ["uninstall", release, "--namespace", release, "--ignore-not-found"];
        self.helm(&[&uninstall[..], &["--wait", "--timeout", "2m"]].concat())?;
        let delete = ["delete", "namespace", release, "--ignore-not-found"];
        self.kubectl.run(&delete).map(drop)
    }

    fn upgrade(&self, release: &str, namespace: &str, values: &[String], more: &[&str]) -> Result<String> {
        let chart = self.chart.to_string_lossy();
        let mut args = vec!["upgrade", "--install", release, &chart];
        args.extend(["--namespace", namespace, "--wait", "--timeout", "3m"]);
        for value in values.iter().map(String::as_str).chain(more.iter().copied()) {
            args.extend(["--set", value]);
        }
        self.helm(&args)
    }

    fn helm(&self, args: &[&str]) -> Result<String> {
        let mut command = self.kubectl.command(self.helm);
        command.args(args);
        let output = run(command, None)?;
        if output.code != 0 {
            let verb = args.first().unwrap_or(&"");
            bail!("helm {verb} failed: {}", output.stderr.trim());
        }
        Ok(output.stdout)
    }
}

/// The Secret with static AWS credentials for an operator in that namespace.
fn credentials(namespace: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: aws-credentials, namespace: {namespace}}}\nstringData:\n  \
         AWS_ACCESS_KEY_ID: AKIDSIMULATOR0000001\n  AWS_SECRET_ACCESS_KEY: simulated-secret-key\n"
    )
}

fn split_image(image: &str) -> (&str, &str) {
    match image.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (image, "latest"),
    }
}
