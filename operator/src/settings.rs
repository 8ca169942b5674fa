//! Flags. Each can be set by an environment variable, too.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{ArgAction, Parser, ValueEnum};
use operator_core::names::ClusterName;

use crate::leader::MIN_LEASE_SECONDS;

/// Runs RADIUS MFA proxies in Kubernetes and registers them with AWS Directory Service.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "radius-mfa-operator",
    version,
    about,
    max_term_width = 110,
    args_override_self = true
)]
pub(crate) struct Settings {
    /// The cluster's name: part of the ownership tags on directories and of the external id of assumed roles. It must
    /// not be the same for two clusters that share an AWS account.
    #[arg(long, env = "CLUSTER_NAME", value_parser = cluster_name)]
    pub(crate) cluster_name: String,

    /// The default image of the proxies.
    #[arg(long, env = "PROXY_IMAGE", value_parser = not_empty)]
    pub(crate) proxy_image: String,

    /// imagePullPolicy of the proxies: Always, IfNotPresent or Never. By default, Kubernetes decides by the tag.
    #[arg(long, env = "PROXY_IMAGE_PULL_POLICY", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub(crate) proxy_image_pull_policy: Option<String>,

    /// dnsPolicy of the proxies.
    #[arg(long, env = "POD_DNS_POLICY", default_value = "ClusterFirst",
          value_parser = ["ClusterFirst", "ClusterFirstWithHostNet", "Default"])]
    pub(crate) pod_dns_policy: String,

    /// Labels that a node must have for the proxies, as KEY=VALUE, separated by commas. spec.scheduling.nodeSelector of a
    /// RadiusProxy replaces single values.
    #[arg(long, env = "POD_NODE_SELECTOR", value_delimiter = ',', value_parser = label)]
    pub(crate) pod_node_selector: Vec<(String, String)>,

    /// Whether the proxies run as the user and group of their image. Without, the platform assigns them, as OpenShift does.
    #[arg(long, env = "POD_FIXED_IDS", default_value_t = true, action = ArgAction::Set, num_args = 0..=1,
          default_missing_value = "true")]
    pub(crate) pod_fixed_ids: bool,

    /// Hosts at which Duo and Okta may be called, with their subdomains, separated by commas. They replace the default:
    /// duosecurity.com, duofederal.com, okta.com, oktapreview.com, okta-emea.com, okta-gov.com.
    #[arg(long, env = "PROVIDER_HOST_SUFFIXES", value_delimiter = ',')]
    pub(crate) provider_host_suffixes: Vec<String>,

    /// Namespaces to watch, separated by commas or given several times. All by default.
    #[arg(long = "namespace", env = "NAMESPACES", value_delimiter = ',')]
    pub(crate) namespaces: Vec<String>,

    /// How long to wait for further changes of servers before writing to AWS, in seconds.
    #[arg(long, env = "SETTLE_SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(0..=600))]
    pub(crate) settle_seconds: u32,

    /// How often directories are described, in seconds. While one is changing, it is described every 3 seconds.
    #[arg(long, env = "DESCRIBE_INTERVAL", default_value_t = 45, value_parser = clap::value_parser!(u32).range(5..=3600))]
    pub(crate) describe_interval: u32,

    /// How often domain controllers are read when nothing points to a change, in seconds. Tags are read a tenth as often. Both
    /// are read less often if many directories share a region and role.
    #[arg(long, env = "DETAIL_INTERVAL", default_value_t = 30, value_parser = clap::value_parser!(u32).range(5..=86400))]
    pub(crate) detail_interval: u32,

    /// How often the host names of load balancers are resolved, in seconds. Without an answer that a second one confirms, they
    /// are resolved every 15 seconds.
    #[arg(long, env = "RESOLVE_INTERVAL", default_value_t = 60, value_parser = clap::value_parser!(u32).range(5..=3600))]
    pub(crate) resolve_interval: u32,

    /// Calls to AWS a second for one region and role, for reads and for writes each. Short bursts may be five times that.
    #[arg(long, env = "AWS_CALLS_PER_SECOND", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) aws_calls_per_second: u32,

    /// How many RadiusProxy resources are reconciled at once.
    #[arg(long, env = "CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) concurrency: u32,

    /// RadiusProxy resources whose pods are brought to another image or template at once.
    #[arg(long, env = "MAX_ROLLOUTS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) max_rollouts: u32,

    /// Whether replicas elect a leader, by a Lease in the operator's own namespace.
    #[arg(long, env = "LEADER_ELECTION", default_value_t = true, action = ArgAction::Set, num_args = 0..=1,
          default_missing_value = "true")]
    pub(crate) leader_election: bool,

    /// How long a leader stays the leader without renewing its lease, in seconds. The operator sends no write to AWS that
    /// could outlast the lease, so a short lease leaves little time for one.
    #[arg(long, env = "LEASE_SECONDS", default_value_t = 15,
          value_parser = clap::value_parser!(u32).range(i64::from(MIN_LEASE_SECONDS)..=120))]
    pub(crate) lease_seconds: u32,

    /// The name of the leader's Lease.
    #[arg(long, env = "LEASE_NAME", default_value = "radius-mfa-operator", value_parser = not_empty)]
    pub(crate) lease_name: String,

    /// The operator's own namespace. By default that of its service account, or of the kubeconfig's context.
    #[arg(long, env = "POD_NAMESPACE", value_parser = not_empty)]
    pub(crate) pod_namespace: Option<String>,

    /// The operator's own name in the Lease and in Events. By default the host's name.
    #[arg(long, env = "POD_NAME", value_parser = not_empty)]
    pub(crate) pod_name: Option<String>,

    /// Address of /healthz, /readyz and /metrics. [::] accepts IPv4, too, and falls back to 0.0.0.0 without IPv6.
    #[arg(long, env = "METRICS_ADDRESS", default_value = "[::]:8080")]
    pub(crate) metrics_address: SocketAddr,

    /// The format of logs. RUST_LOG selects what is logged, such as info or radius_mfa_operator=debug.
    #[arg(long, env = "LOG_FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
}

/// The format of logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people. Coloured on a terminal unless NO_COLOR is set.
    Text,
}

impl Settings {
    /// How long to wait for further changes of servers.
    pub(crate) fn settle(&self) -> Duration {
        Duration::from_secs(self.settle_seconds.into())
    }

    /// The allowed hosts, if some are given.
    pub(crate) fn host_suffixes(&self) -> Option<Vec<String>> {
        let given: Vec<String> = self
            .provider_host_suffixes
            .iter()
            .map(|suffix| suffix.trim().to_owned())
            .filter(|suffix| !suffix.is_empty())
            .collect();
        Some(given).filter(|given| !given.is_empty())
    }

    /// This replica's name: the pod's, or the host's with the process's number.
    pub(crate) fn identity(&self) -> String {
        self.pod_name.clone().unwrap_or_else(|| {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            format!("{}-{}", host.trim(), std::process::id())
        })
    }

    /// What [`Settings::namespaces`] means: each named namespace once, or all.
    pub(crate) fn scopes(&self) -> Vec<Option<String>> {
        let given = self.namespaces.iter().map(|name| name.trim().to_owned());
        let mut names: Vec<String> = given.filter(|name| !name.is_empty()).collect();
        names.sort();
        names.dedup();
        if names.is_empty() {
            vec![None]
        } else {
            names.into_iter().map(Some).collect()
        }
    }
}

fn not_empty(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    if text.is_empty() {
        Err("it is empty")
    } else {
        Ok(text.to_owned())
    }
}

fn label(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("it is not KEY=VALUE")?;
    if key.is_empty() {
        return Err("it has no key");
    }
    Ok((key.to_owned(), value.to_owned()))
}

fn cluster_name(text: &str) -> Result<String, String> {
    ClusterName::parse(text)
        .map(|name| name.as_str().to_owned())
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Settings, clap::Error> {
        let always = [
            "radius-mfa-operator",
            "--cluster-name",
            "c1",
            "--proxy-image",
            "proxy:1",
        ];
        Settings::try_parse_from(always.iter().chain(args))
    }

    #[test]
    fn flags_are_well_formed() {
        use clap::CommandFactory as _;
        Settings::command().debug_assert();
    }

    #[test]
    fn namespaces_come_by_comma_or_repeated_and_count_once() {
        let settings = parse(&["--namespace", "b,a", "--namespace", "b"]).unwrap();
        assert_eq!(settings.scopes(), [Some("a".to_owned()), Some("b".to_owned())]);
        assert_eq!(parse(&[]).unwrap().scopes(), [None]);
        assert_eq!(parse(&["--namespace", ""]).unwrap().scopes(), [None]);
    }

    #[test]
    fn leader_election_is_on_unless_switched_off() {
        assert!(parse(&[]).unwrap().leader_election);
        assert!(!parse(&["--leader-election=false"]).unwrap().leader_election);
    }

    #[test]
    fn a_node_selector_is_a_list_of_labels() {
        let settings = parse(&["--pod-node-selector", "kubernetes.io/arch=amd64,disk=ssd"]).unwrap();
        let labels = [("kubernetes.io/arch", "amd64"), ("disk", "ssd")];
        assert_eq!(
            settings.pod_node_selector,
            labels.map(|(k, v)| (k.to_owned(), v.to_owned()))
        );
        assert!(parse(&["--pod-node-selector", "amd64"]).is_err());
    }

    #[test]
    fn a_lease_that_is_too_short_for_a_write_is_refused() {
        assert!(parse(&["--lease-seconds", "9"]).is_err());
        assert!(parse(&["--lease-seconds", "10"]).is_ok());
    }

    #[test]
    fn a_cluster_name_with_a_slash_is_refused() {
        assert!(Settings::try_parse_from(["x", "--cluster-name", "a/b", "--proxy-image", "p"]).is_err());
    }
}
