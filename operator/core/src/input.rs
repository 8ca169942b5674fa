//! Everything that was observed about one RadiusProxy, as plain values.
//!
//! # What `gather` promises
//! - [`Input::proxy`] is at least as new as the last status that this operator wrote: the status is also the memory of
//!   what was sent to AWS, so reading an older one could repeat a write. After a patch use the object that it returned.
//! - [`Directory::as_of`] is when DescribeDirectories was *sent*.
//! - Secrets, pods and Leases may be as old as a watch cache is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ResourceRequirements;
use proxy_config::observed::Observed;
use proxy_config::{ConfigDigest, Secret};

use crate::access::Labels;
use crate::api::{
    DirectoryGrant, DirectoryRegistration, RadiusProxy, RadiusProxySpec, RegisteredSettings, SeedsSelector,
};
use crate::aws::AwsFailure;
use crate::dns::LoadBalancer;
use crate::names::ClusterName;
use crate::outcomes::{LastingFailure, Outcomes};

/// Everything observed about one RadiusProxy.
#[derive(Debug, Clone)]
pub struct Input {
    /// The RadiusProxy.
    pub proxy: RadiusProxy,
    /// The registration of its directory, at least as new as what this process wrote last.
    pub registration: Option<DirectoryRegistration>,
    /// How the rounds of that registration fail. Its status may be old then.
    pub registration_failure: Option<LastingFailure>,
    /// Whether another RadiusProxy that is granted and not suspended waits for the directory.
    pub successor_waits: bool,
    /// The DirectoryGrants that apply to the RadiusProxy's namespace.
    pub grants: Vec<DirectoryGrant>,
    /// The labels of the RadiusProxy's namespace; `None` when they are unknown.
    pub namespace_labels: Option<Labels>,
    /// The Secrets of [`secrets_named_by`] that exist, by name.
    pub secrets: BTreeMap<String, SecretContent>,
    /// Why Secrets of [`secrets_named_by`] can't be read, by name.
    pub unreadable_secrets: BTreeMap<String, String>,
    /// The Secrets that `spec.provider.totp.seedsSelector` means, by name; none of them one that the operator made.
    pub seeds_by_label: BTreeMap<String, SecretContent>,
    /// Whether one of the Secrets [`crate::names::ObjectNames::seed_shard`] exists.
    pub has_seed_shards: bool,
    /// The content of the Secret [`crate::names::ObjectNames::radius_secret`]: read live or from this process's own writes, not
    /// from an old cache, since it holds the digest key and the secret that AWS may be using. Of a Secret that somebody deleted,
    /// what this process remembers.
    pub radius_secret: Option<SecretContent>,
    /// Whether that Secret exists.
    pub radius_secret_exists: bool,
    /// Objects under a name that the operator needs which belong to another owner ([`crate::plan::ownership`]).
    pub foreign: Vec<ForeignObject>,
    /// Objects of the operator under such a name whose owner is gone, as after a restore.
    pub orphans: Vec<ObjectId>,
    /// The StatefulSet.
    pub stateful_set: Option<StatefulSetState>,
    /// The pods' ServiceAccount.
    pub service_account: Option<ServiceAccountState>,
    /// Every pod of the selector, terminating ones too.
    pub pods: Vec<PodState>,
    /// What pods reported in their Leases, by pod uid.
    pub reports: BTreeMap<String, Report>,
    /// The Service of type LoadBalancer (`status.loadBalancer.ingress`).
    pub load_balancer: LoadBalancer,
    /// Whether the operator's limit of concurrent rollouts leaves room for this one. One that is under way goes on without.
    pub may_begin: bool,
    /// How the steps of the last round failed.
    pub outcomes: Outcomes,
    /// The operator's settings.
    pub settings: Settings,
    /// Fresh random bytes, for the digest key and a generated shared secret. Used only when there is none yet.
    pub entropy: Entropy,
}

/// 96 random bytes, never shown.
#[derive(Clone)]
pub struct Entropy(Secret);

impl Entropy {
    /// Takes bytes of a cryptographic random source.
    #[must_use]
    pub fn new(bytes: [u8; 96]) -> Self {
        Self(Secret::new(bytes.to_vec()))
    }

    /// The bytes for the digest key.
    pub(crate) fn digest_key(&self) -> &[u8] {
        self.0.expose().get(..32).unwrap_or_default()
    }

    /// The bytes for a shared secret.
    pub(crate) fn shared_secret(&self) -> &[u8] {
        self.0.expose().get(32..).unwrap_or_default()
    }
}

impl std::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entropy([redacted])")
    }
}

/// The data of a Secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretContent {
    /// Its keys.
    pub data: BTreeMap<String, Secret>,
}

/// An object by kind and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// Its kind, such as Service.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
}

impl std::fmt::Display for ObjectId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// An object under a name that the operator needs, which belongs to another owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignObject {
    /// The object.
    pub object: ObjectId,
    /// Whose it is, such as `Deployment/web`; `None` without a controller.
    pub controller: Option<String>,
}

/// The StatefulSet as far as decisions need it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatefulSetState {
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// `metadata.generation`.
    pub generation: i64,
    /// `status.observedGeneration`.
    pub observed_generation: i64,
    /// `spec.replicas`.
    pub replicas: u32,
    /// `status.currentRevision`.
    pub current_revision: String,
    /// `status.updateRevision`.
    pub update_revision: String,
    /// The annotation [`crate::names::TEMPLATE_ANNOTATION`].
    pub template: Option<String>,
    /// Whether `spec.updateStrategy.type` is OnDelete.
    pub on_delete: bool,
    /// Whether it has the annotation [`crate::names::UPGRADING_ANNOTATION`].
    pub upgrading: bool,
    /// The annotation [`crate::names::RESTARTED_AT_ANNOTATION`] of its pod template.
    pub restarted_at: Option<String>,
}

/// A ServiceAccount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccountState {
    /// Its uid.
    pub uid: String,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
}

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
    /// What somebody has to mend.
    pub problem: Option<ReportedProblem>,
    /// What it has observed of the directory ([`crate::directory_client::read`]).
    pub observed: Option<Observed>,
}

/// What a proxy says of itself, of a closed set.
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

/// What is known of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectoryObservation {
    /// Not asked, because the RadiusProxy has no directory or [`crate::access::access`] says no; or not asked yet.
    Unasked,
    /// Described.
    Described(Box<Directory>),
    /// The last call failed. What was described before is kept for as long as this process lives.
    Failed {
        /// How it failed.
        failure: AwsFailure,
        /// The last good description.
        last: Option<Box<Directory>>,
    },
}

impl DirectoryObservation {
    /// The newest description there is.
    #[must_use]
    pub fn described(&self) -> Option<&Directory> {
        match self {
            Self::Unasked => None,
            Self::Described(directory) => Some(directory),
            Self::Failed { last, .. } => last.as_deref(),
        }
    }
}

/// A directory as AWS describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// `Type`.
    pub kind: DirectoryKind,
    /// `Stage`, such as Active.
    pub stage: String,
    /// `StageReason`.
    pub stage_reason: Option<String>,
    /// `NetworkType`: which address families it has. IPv4 when AWS says nothing.
    pub network: NetworkType,
    /// `RadiusStatus`; `None` when RADIUS is not configured.
    pub radius_status: Option<RadiusStatus>,
    /// `RadiusSettings` without the secret.
    pub radius_settings: Option<RegisteredSettings>,
    /// Where its requests come from: all domain controllers, or the connector's addresses; sorted, without duplicates.
    pub client_addresses: BTreeSet<IpAddr>,
    /// `OwnerDirectoryDescription.AccountId`, of a shared directory.
    pub owner_account: Option<String>,
    /// Its tags; `None` when they could not be read.
    pub tags: Option<BTreeMap<String, String>>,
    /// When the tags were asked for, which are read less often than the rest.
    pub tags_as_of: Timestamp,
    /// When this was asked. AWS may have looked at any time from then until `answered`.
    pub as_of: Timestamp,
    /// When AWS answered.
    pub answered: Timestamp,
}

impl Directory {
    /// Whether AWS reports Failed, or Completed, of settings that it doesn't have: it asks no server then.
    pub(crate) fn has_forgotten_settings(&self) -> bool {
        let ended = matches!(
            self.radius_status,
            Some(RadiusStatus::Completed | RadiusStatus::Failed)
        );
        ended && self.radius_settings.is_none()
    }

    /// The same with addresses in one form, however AWS writes them.
    pub(crate) fn canonical(&self) -> Self {
        let mut directory = self.clone();
        if let Some(settings) = &mut directory.radius_settings {
            for server in settings.servers.iter_mut().chain(&mut settings.servers_ipv6) {
                *server = canonical_address(server);
            }
        }
        directory
    }
}

/// An address in the form of RFC 5952, an IPv4-mapped one as IPv4; a host name in lower case without a dot at its end.
pub(crate) fn canonical_address(text: &str) -> String {
    match text.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().to_string(),
        Err(_) => text.trim_end_matches('.').to_ascii_lowercase(),
    }
}

/// `DirectoryType` of the AWS API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectoryKind {
    /// AWS Managed Microsoft AD.
    MicrosoftAd,
    /// AD Connector.
    AdConnector,
    /// A Managed Microsoft AD that another account shares.
    SharedMicrosoftAd,
    /// Simple AD, which has no RADIUS.
    SimpleAd,
    /// One that this version does not know.
    Other(String),
}

impl DirectoryKind {
    /// As AWS writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::MicrosoftAd => "MicrosoftAD",
            Self::AdConnector => "ADConnector",
            Self::SharedMicrosoftAd => "SharedMicrosoftAD",
            Self::SimpleAd => "SimpleAD",
            Self::Other(name) => name,
        }
    }

    /// From what AWS writes.
    #[must_use]
    pub fn from_aws(text: &str) -> Self {
        match text {
            "MicrosoftAD" => Self::MicrosoftAd,
            "ADConnector" => Self::AdConnector,
            "SharedMicrosoftAD" => Self::SharedMicrosoftAd,
            "SimpleAD" => Self::SimpleAd,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// `NetworkType` of the AWS API.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NetworkType {
    /// IPv4 only.
    #[default]
    Ipv4,
    /// IPv6 only.
    Ipv6,
    /// Both.
    DualStack,
}

impl NetworkType {
    /// As the status has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
            Self::DualStack => "DualStack",
        }
    }

    /// From the status; IPv4 for a text that is unknown.
    pub(crate) fn from_status(text: &str) -> Self {
        [Self::Ipv6, Self::DualStack]
            .into_iter()
            .find(|network| network.as_str() == text)
            .unwrap_or_default()
    }

    /// Whether the directory has the address's family.
    #[must_use]
    pub const fn has(self, address: &IpAddr) -> bool {
        match address {
            IpAddr::V4(_) => !matches!(self, Self::Ipv6),
            IpAddr::V6(_) => !matches!(self, Self::Ipv4),
        }
    }
}

/// `RadiusStatus` of the AWS API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RadiusStatus {
    /// Settings are changing; logins wait.
    Creating,
    /// Done.
    Completed,
    /// AWS could not reach the servers, or not agree with them.
    Failed,
}

impl RadiusStatus {
    /// From what AWS writes.
    #[must_use]
    pub fn from_aws(text: &str) -> Option<Self> {
        [Self::Creating, Self::Completed, Self::Failed]
            .into_iter()
            .find(|status| status.as_str() == text)
    }

    /// As AWS writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "Creating",
            Self::Completed => "Completed",
            Self::Failed => "Failed",
        }
    }
}

/// How a write ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteOutcome {
    /// The write ([`crate::registration::DirectoryWrite::id`]).
    pub id: String,
    /// AWS's request id, or the failure.
    pub result: Result<Option<String>, AwsFailure>,
}

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
    /// How long a server without a pod stays registered while its successor is awaited.
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
            default_resources: crate::objects::default_resources(),
            settle: Duration::from_secs(30),
            removal_after: Duration::from_secs(600),
            rotation_grace: Duration::from_secs(60),
            force_delete_after: Some(Duration::from_secs(60)),
        }
    }
}

/// Which Secrets a spec means by their labels, in the RadiusProxy's namespace: what `gather` has to list and watch beside
/// [`secrets_named_by`].
#[must_use]
pub fn seeds_selector(spec: &RadiusProxySpec) -> Option<&SeedsSelector> {
    spec.provider.totp.as_ref()?.seeds_selector.as_ref()
}

/// The names of every Secret that a spec refers to, in the RadiusProxy's namespace: what `gather` has to read and watch.
#[must_use]
pub fn secrets_named_by(spec: &RadiusProxySpec) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    names.extend(spec.shared_secret_ref.iter().map(|r| r.name.clone()));
    names.extend(spec.clients.iter().map(|c| c.secret_ref.name.clone()));
    let provider = &spec.provider;
    names.extend(provider.duo.iter().map(|p| p.credentials_secret_ref.name.clone()));
    names.extend(
        provider
            .okta
            .iter()
            .map(|p| p.credentials_secret_ref.name.clone()),
    );
    names.extend(crate::secrets::proxy_secret(spec).map(|(_, secret)| secret.name.clone()));
    if let Some(totp) = &provider.totp {
        names.extend(totp.seeds_secret_ref.iter().map(|r| r.name.clone()));
        let redis = totp.used_codes.redis.as_ref();
        names.extend(
            redis
                .and_then(|r| r.password_secret_ref.as_ref())
                .map(|r| r.name.clone()),
        );
    }
    names.extend(
        provider
            .radius
            .iter()
            .flat_map(|p| p.servers.iter().map(|s| s.secret_ref.name.clone())),
    );
    names
}
