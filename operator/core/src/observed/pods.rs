//! Pods, and what they report in their Leases.

use std::net::IpAddr;

use jiff::Timestamp;
use proxy_config::ConfigDigest;
use proxy_config::observed::Observed;

/// A pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodState {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its addresses (`status.podIPs`), the primary one first.
    pub ips: Vec<IpAddr>,
    /// Its node's addresses (`status.hostIPs`).
    pub host_ips: Vec<IpAddr>,
    /// Its node.
    pub node: Option<String>,
    /// The node's `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
    /// The label [`crate::names::REVISION_LABEL`].
    pub revision: Option<String>,
    /// The annotation [`crate::names::POD_TEMPLATE_ANNOTATION`].
    pub template: Option<String>,
    /// The annotation [`crate::names::IN_PLACE_ANNOTATION`].
    pub in_place: Option<String>,
    /// `status.containerStatuses[proxy].containerID`.
    pub container: Option<String>,
    /// `spec.containers[proxy].image`.
    pub image: String,
    /// The condition `ContainersReady`.
    pub containers_ready: bool,
    /// Whether it is terminal (`status.phase` Failed or Succeeded).
    pub ended: bool,
    /// When its deletion was asked for: the deletionTimestamp without the grace that Kubernetes adds to it.
    pub deleted: Option<Timestamp>,
    /// Whether its node is there and Ready; true when unknown.
    pub node_ready: bool,
    /// The annotation [`crate::names::CONFIG_DIGEST_ANNOTATION`].
    pub config_digest: Option<String>,
    /// The annotation [`crate::names::PEERS_DIGEST_ANNOTATION`].
    pub peers_digest: Option<String>,
    /// The condition [`crate::names::READINESS_GATE`]: `None` when it was never set.
    pub gate: Option<bool>,
    /// Why a container waits, such as ImagePullBackOff or CrashLoopBackOff, with its message.
    pub waiting: Option<String>,
}

/// What a pod wrote into its Lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The configuration that it runs.
    pub digest: ConfigDigest,
    /// The proxy's version.
    pub version: Option<String>,
    /// A problem that a person has to solve.
    pub problem: Option<ReportedProblem>,
    /// What it has observed of the directory ([`crate::directory_client::read`]).
    pub observed: Option<Observed>,
}

/// A problem that a proxy reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportedProblem {
    /// The provider refuses the proxy's own credentials.
    ProviderCredentials,
}

impl ReportedProblem {
    /// From the annotation's word; a word of a newer proxy is none.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        (word == "provider_credentials").then_some(Self::ProviderCredentials)
    }
}
