//! The names that operator, proxy and users share: labels, annotations, objects. Each is defined in one place.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The field manager of everything that the operator applies.
pub const FIELD_MANAGER: &str = "radius-mfa-operator";
/// The finalizer. It is set before the first write to AWS and removed once the settings there need no more work.
pub const FINALIZER: &str = "radius-mfa.dev/directory";
/// The pods' readiness gate, and the condition of that type that the operator sets.
pub const READINESS_GATE: &str = "radius-mfa.dev/registered";
/// Annotation of a pod: the digest of the configuration it should run. Changing it makes the kubelet sync the pod's
/// volumes at once; nothing else reads it.
pub const CONFIG_DIGEST_ANNOTATION: &str = "radius-mfa.dev/config-digest";
/// Annotation of a pod: a digest of the other pods' addresses that it should know, for the same reason.
pub const PEERS_DIGEST_ANNOTATION: &str = "radius-mfa.dev/peers-digest";
/// Annotation of the StatefulSet: a digest of the whole template. It shows whether the StatefulSet has the current one.
pub const TEMPLATE_ANNOTATION: &str = "radius-mfa.dev/template-digest";
/// Annotation of a pod, by the template: a digest of the template but for the image. Pods of the same one differ in
/// nothing that their kubelets could not change.
pub const POD_TEMPLATE_ANNOTATION: &str = "radius-mfa.dev/pod-template-digest";
/// On a StatefulSet whose pods are being brought to another image or template.
pub const UPGRADING_ANNOTATION: &str = "radius-mfa.dev/upgrading";
/// Annotation of the StatefulSet during a surge: its state ([`crate::observed::Surge`], JSON).
pub const SURGE_ANNOTATION: &str = "radius-mfa.dev/surge";
/// In a pod template: when `kubectl rollout restart` was called last.
pub const RESTARTED_AT_ANNOTATION: &str = "kubectl.kubernetes.io/restartedAt";
/// Annotation of a pod whose image was changed in place: `<revision>/<id of the container before>`. The change is over
/// when another container serves; then the pod gets the revision as its label, and the annotation goes.
pub const IN_PLACE_ANNOTATION: &str = "radius-mfa.dev/in-place";
/// Label of a pod: its revision. The StatefulSet's controller sets it, and counts by it.
pub const REVISION_LABEL: &str = "controller-revision-hash";
/// Annotation of a pod's Lease, written by the pod: the digest of the configuration it runs.
pub const REPORT_DIGEST_ANNOTATION: &str = "radius-mfa.dev/config-digest";
/// Annotation of a pod's Lease, written by the pod: the proxy's version.
pub const REPORT_VERSION_ANNOTATION: &str = "radius-mfa.dev/version";
/// Annotation of a pod's Lease, written by the pod while it has a problem that a person has to solve: one word.
pub const REPORT_PROBLEM_ANNOTATION: &str = "radius-mfa.dev/problem";
/// What the pod has observed of the directory ([`proxy_config::observed::Observed`], JSON).
pub const REPORT_OBSERVED_ANNOTATION: &str = "radius-mfa.dev/observed";
/// Annotation of a pod's Lease, written by the pod: its uid. The Lease's `spec.holderIdentity` says the same.
pub const REPORT_POD_UID_ANNOTATION: &str = "radius-mfa.dev/pod-uid";
/// Annotation of a RadiusProxy, written by a person, value `true`: let the RadiusProxy go without a word to AWS.
pub const ABANDON_ANNOTATION: &str = "radius-mfa.dev/abandon-directory";
/// Annotation of a RadiusProxy, written by an operator that holds because another one works on it: `<operator> <time>`.
pub const SECOND_OPERATOR_ANNOTATION: &str = "radius-mfa.dev/second-operator";
/// Label of everything that belongs to a RadiusProxy, with its name; part of the pods' selector.
pub const PROXY_LABEL: &str = "radius-mfa.dev/proxy";
/// The value of `app.kubernetes.io/name` of every object of a RadiusProxy.
pub const APP_NAME: &str = "radius-proxy";
/// The value of `app.kubernetes.io/managed-by`.
pub const MANAGED_BY: &str = "radius-mfa-operator";
/// The prefixes of labels and annotations that are the operator's own in pods.
pub const RESERVED_PREFIXES: [&str; 2] = ["app.kubernetes.io/", "radius-mfa.dev/"];
/// Label of objects whose content the pods write, with the value `proxies`: the operator makes them and leaves it alone.
pub const WRITTEN_BY_LABEL: &str = "radius-mfa.dev/written-by";
/// ConfigMaps that used TOTP codes are spread over.
pub const USED_CODES_MAPS: u32 = 8;
/// Secrets that TOTP seeds found by label are spread over.
pub const SEED_SHARDS: u32 = 8;
/// The container in the pods.
pub const CONTAINER: &str = "proxy";
/// Key of the ConfigMap with the configuration file.
pub const CONFIG_KEY: &str = "radius-proxy.toml";
/// Key of the ConfigMap with the pods' addresses, and so the file's name beside the configuration file.
pub const PEERS_KEY: &str = "peers";
/// TCP port of health, metrics and digest in the pods.
pub const ADMIN_PORT: u16 = 8080;
/// The port of the pods' health alone, for probes and load balancers.
pub const HEALTH_PORT: u16 = 8081;

/// How the name of the ConfigMap with the configuration file ends.
pub(crate) const CONFIG_SUFFIX: &str = "-radius-config";
/// How the name of the Secret with the RADIUS secrets ends.
pub(crate) const RADIUS_SECRET_SUFFIX: &str = "-radius-secrets";
/// How the name of the ConfigMap with the pods' addresses ends.
pub(crate) const PEERS_SUFFIX: &str = "-radius-peers";

/// UDP port on which the pods of one RadiusProxy tell each other about pending pushes, beside its RADIUS port.
#[must_use]
pub const fn peer_port(radius_port: u32) -> u16 {
    if radius_port == 1814 { 1815 } else { 1814 }
}

/// The names of the objects of one RadiusProxy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectNames {
    name: String,
}

impl ObjectNames {
    /// The names for a RadiusProxy called `name`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
        }
    }

    /// StatefulSet, headless Service, ServiceAccount, Role, RoleBinding, PodDisruptionBudget and NetworkPolicy.
    #[must_use]
    pub fn workload(&self) -> &str {
        &self.name
    }

    /// The ConfigMap with the configuration file.
    #[must_use]
    pub fn config_map(&self) -> String {
        format!("{}{CONFIG_SUFFIX}", self.name)
    }

    /// The ConfigMap with the pods' addresses. Mounted beside the configuration file, and not the same object: it follows
    /// the pods also while no configuration can be made.
    #[must_use]
    pub fn peers(&self) -> String {
        format!("{}{PEERS_SUFFIX}", self.name)
    }

    /// The Secret with the RADIUS secrets and the digest key. Mounted at `/etc/radius-proxy/radius`.
    #[must_use]
    pub fn radius_secret(&self) -> String {
        format!("{}{RADIUS_SECRET_SUFFIX}", self.name)
    }

    /// The Secret with the provider's credentials as they were last valid. Mounted at `/etc/radius-proxy/provider`.
    #[must_use]
    pub fn provider_secret(&self) -> String {
        format!("{}-radius-provider", self.name)
    }

    /// The Secret with the TOTP seeds. Mounted at `/etc/radius-proxy/seeds`.
    #[must_use]
    pub fn seeds_secret(&self) -> String {
        format!("{}-radius-seeds", self.name)
    }

    /// One of [`SEED_SHARDS`] Secrets with the TOTP seeds that were found by label. Mounted together at
    /// `/etc/radius-proxy/seeds-by-label`.
    #[must_use]
    pub fn seed_shard(&self, shard: u32) -> String {
        format!("{}-radius-seeds-{shard}", self.name)
    }

    /// One of [`USED_CODES_MAPS`] ConfigMaps in which the proxies remember used TOTP codes.
    #[must_use]
    pub fn used_codes(&self, map: u32) -> String {
        format!("{}-radius-used-{map}", self.name)
    }

    /// The Service of type LoadBalancer.
    #[must_use]
    pub fn load_balancer(&self) -> String {
        format!("{}-radius-lb", self.name)
    }

    /// Pod `ordinal` of the StatefulSet, and its Lease.
    #[must_use]
    pub fn pod(&self, ordinal: u32) -> String {
        format!("{}-{ordinal}", self.name)
    }

    /// The ordinal of a pod of this StatefulSet.
    #[must_use]
    pub fn ordinal(&self, pod: &str) -> Option<u32> {
        pod.strip_prefix(self.name.as_str())?
            .strip_prefix('-')?
            .parse()
            .ok()
    }

    /// The Secrets that the operator makes; a RadiusProxy must not name one of them as its source.
    #[must_use]
    pub fn owned_secrets(&self) -> Vec<String> {
        [self.radius_secret(), self.provider_secret(), self.seeds_secret()]
            .into_iter()
            .chain((0..SEED_SHARDS).map(|shard| self.seed_shard(shard)))
            .collect()
    }
}

/// The name of this Kubernetes cluster, part of the ownership tags and of `sts:ExternalId`: 1 to 63 characters that
/// AWS takes in a tag and STS in an external id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterName(String);

/// A text that is no [`ClusterName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the cluster's name is {0:?}; write 1 to 63 of letters, digits, '-', '_' and '.'")]
pub struct ClusterNameError(String);

impl ClusterName {
    /// Parses a name.
    ///
    /// # Errors
    /// It is empty, longer than 63 characters, or has one outside letters, digits, `-`, `_` and `.`.
    pub fn parse(text: &str) -> Result<Self, ClusterNameError> {
        let good = (1..=63).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        good.then(|| Self(text.to_owned()))
            .ok_or_else(|| ClusterNameError(text.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `<cluster>/<namespace>/<name>`: the value of the tag [`DirectoryTags::owner`] and of `sts:ExternalId`.
    #[must_use]
    pub fn owner(&self, namespace: &str, name: &str) -> String {
        format!("{}/{namespace}/{name}", self.0)
    }
}

impl TryFrom<String> for ClusterName {
    type Error = ClusterNameError;

    fn try_from(text: String) -> Result<Self, ClusterNameError> {
        Self::parse(&text)
    }
}

impl From<ClusterName> for String {
    fn from(name: ClusterName) -> Self {
        name.0
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The keys of the tags on a directory. Each region has its own: RADIUS settings are regional and have an owner in each,
/// and nothing public says whether the regions of one directory share their tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryTags {
    /// `<cluster>/<namespace>/<name>` of the RadiusProxy that keeps the RADIUS settings.
    pub owner: String,
    /// The uid of the cluster: that of its namespace kube-system.
    pub cluster_uid: String,
    /// Digests of the settings that the owner applied last, and of those before them when it was about to write; separated
    /// by a space. The shared secret is in none of them.
    pub applied: String,
}

impl DirectoryTags {
    /// The keys for a region.
    #[must_use]
    pub fn of(region: &str) -> Self {
        let key = |what| format!("radius-mfa.dev/{what}/{region}");
        Self {
            owner: key("owner"),
            cluster_uid: key("cluster-uid"),
            applied: key("applied"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_the_ordinal_in_its_name() {
        let names = ObjectNames::new("mfa-1");
        assert_eq!(names.ordinal(&names.pod(3)), Some(3));
        assert_eq!(names.ordinal("mfa-12-3"), None);
        assert_eq!(names.ordinal("other-3"), None);
    }

    #[test]
    fn a_cluster_name_is_what_aws_takes_in_a_tag() {
        assert!(ClusterName::parse("prod.eu-1_a").is_ok());
        for bad in ["", "a b", "a/b", &"x".repeat(64)] {
            assert!(ClusterName::parse(bad).is_err(), "{bad}");
        }
    }
}
