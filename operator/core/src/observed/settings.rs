//! The operator's own settings.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::names::ClusterName;

/// The operator's own settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The cluster's name.
    pub cluster: ClusterName,
    /// The cluster's uid, that of its namespace kube-system; empty when it is unknown.
    pub cluster_uid: String,
    /// This operator, as `<namespace>/<name of the leader's Lease>`: the same for all replicas of one release.
    pub operator: String,
    /// The proxy's image where the spec names none.
    pub default_image: String,
    /// `imagePullPolicy`; Kubernetes' own default when `None`.
    pub image_pull_policy: Option<String>,
    /// Host names that a provider's address may be or end in; `None` for those of the proxy itself.
    pub provider_host_suffixes: Option<Vec<String>>,
    /// `dnsPolicy` of the pods: ClusterFirst, or Default for a cluster without DNS.
    pub pod_dns_policy: String,
    /// Labels that a node must have, unless the spec replaces them.
    pub node_selector: BTreeMap<String, String>,
    /// Whether the pods get the user and group of the image; otherwise the platform assigns them.
    pub fixed_ids: bool,
    /// Resources of the container where the spec has none.
    pub default_resources: ResourceRequirements,
    /// How long churn may settle before it is written to AWS, from the first difference.
    pub settle: Duration,
    /// How long a server without a pod stays registered while the operator waits for its successor.
    pub removal_after: Duration,
    /// How long the previous shared secret is still accepted after AWS has the new one.
    pub rotation_grace: Duration,
    /// How long a terminating pod on a lost node is waited for since its deletion; `None` never forces.
    pub force_delete_after: Option<Duration>,
}

impl Settings {
    /// The defaults for a cluster of this name and this image.
    #[must_use]
    pub fn new(cluster: ClusterName, default_image: String) -> Self {
        Self {
            cluster,
            cluster_uid: String::new(),
            operator: "radius-mfa-system/radius-mfa-operator".to_owned(),
            default_image,
            image_pull_policy: None,
            provider_host_suffixes: None,
            pod_dns_policy: "ClusterFirst".to_owned(),
            node_selector: BTreeMap::new(),
            fixed_ids: true,
            default_resources: default_resources(),
            settle: Duration::from_secs(30),
            removal_after: Duration::from_secs(600),
            rotation_grace: Duration::from_secs(60),
            force_delete_after: Some(Duration::from_secs(60)),
        }
    }
}

/// The default resources of the container: little memory, and no CPU limit, since throttling costs logins.
pub(crate) fn default_resources() -> ResourceRequirements {
    let quantities = |pairs: &[(&str, &str)]| -> BTreeMap<String, Quantity> {
        pairs
            .iter()
            .map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned())))
            .collect()
    };
    ResourceRequirements {
        requests: Some(quantities(&[("cpu", "10m"), ("memory", "24Mi")])),
        limits: Some(quantities(&[("memory", "256Mi")])),
        ..ResourceRequirements::default()
    }
}
