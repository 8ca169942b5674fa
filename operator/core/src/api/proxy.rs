//! RadiusProxy.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{LocalObjectReference, ResourceRequirements};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DirectorySpec, ProviderSpec, RadiusProxyStatus, SchedulingSpec};

/// RADIUS servers with a second factor, run as a StatefulSet and registered with AWS Directory Service.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "radius-mfa.dev",
    version = "v1alpha1",
    kind = "RadiusProxy",
    plural = "radiusproxies",
    shortname = "rp",
    category = "radius-mfa",
    category = "all",
    namespaced,
    status = "RadiusProxyStatus",
    derive = "PartialEq",
    doc = "RADIUS servers with a second factor, registered with AWS Directory Service",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(
        name = "Registered",
        type_ = "integer",
        json_path = ".status.registeredCount",
        description = "Servers that AWS has registered"
    ),
    printcolumn(
        name = "Desired",
        type_ = "integer",
        json_path = ".status.desiredCount",
        description = "Servers that should be registered"
    ),
    printcolumn(name = "Directory", type_ = "string", json_path = ".spec.directory.id"),
    printcolumn(
        name = "RADIUS",
        type_ = "string",
        json_path = ".status.directory.radiusStatus",
        description = "What AWS says of the directory's RADIUS settings"
    ),
    printcolumn(
        name = "Suspend",
        type_ = "boolean",
        json_path = ".spec.suspend",
        description = "Whether nothing is written to AWS, since the spec says so"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = "1"
    ),
    printcolumn(
        name = "Serving",
        type_ = "integer",
        json_path = ".status.readyReplicas",
        description = "Pods whose containers are ready",
        priority = "1"
    ),
    printcolumn(
        name = "Last Write",
        type_ = "date",
        json_path = ".status.lastWrite.time",
        description = "How long ago AWS was written to last",
        priority = "1"
    ),
    printcolumn(
        name = "Why",
        type_ = "string",
        json_path = ".status.lastWrite.reason",
        description = "Why AWS was written to last",
        priority = "1"
    ),
    printcolumn(
        name = "Next",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        description = "What is the matter, and what to do or wait for",
        priority = "1"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 40").message("metadata.name must have at most 40 characters: the names of pods are made of it"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message(Message::Expression("'metadata.name is made into the name of a Service: it must have lower-case letters, digits and hyphens only, begin with a letter and not end with a hyphen, unlike ' + self.metadata.name".to_owned()))
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.directory) || size(self.clients) > 0").message("spec must have a directory or at least one client; nobody could ask these proxies anything"))]
#[x_kube(validation = Rule::new("has(self.directory) == has(oldSelf.directory)").message("spec.directory cannot be added or removed later; make another RadiusProxy"))]
pub struct RadiusProxySpec {
    /// How many proxies run, 1 to 16. One alone cannot fail over.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 1, max = 16))]
    pub replicas: u32,

    /// The directory that asks. Left out, the proxies serve only `clients`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<DirectorySpec>,

    /// What asks the second factor.
    pub provider: ProviderSpec,

    /// The secret shared with the directory, 8 to 512 characters. Left out, one of 48 characters is generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_secret_ref: Option<SecretKeyRef>,

    /// The UDP port of the proxies, 1025 to 65535. It cannot be changed: make another RadiusProxy instead.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1025, max = 65535))]
    #[x_kube(validation = Rule::new("self == oldSelf").message(Message::Message("spec.port cannot be changed: a directory has one port for all its servers, so no server would answer while they change; make another RadiusProxy, as the page about moving a directory says".to_owned())))]
    pub port: u32,

    /// Which addresses are registered.
    #[serde(default)]
    pub addresses: AddressesSpec,

    /// RADIUS clients beside the directory's own.
    #[serde(default)]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub clients: Vec<ClientSpec>,

    /// User names, typed text, exempt users, limits.
    #[serde(default)]
    pub policy: PolicySpec,

    /// What the user is logging in to, as a push shows it. The directory's label and id when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub application: Option<String>,

    /// When true, nothing is written to AWS: no registration, no repair, no new shared secret. The proxies go on answering,
    /// and a new image is still rolled out where that needs no new pods.
    #[serde(default)]
    pub suspend: bool,

    /// The proxy's image; the operator's own default when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = "^[^\\s]+$"))]
    pub image: Option<String>,

    /// Secrets for pulling the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<LocalObjectReference>,

    /// The container's resources; the operator's own default when left out.
    #[serde(
        default,
        deserialize_with = "super::workload::resources",
        skip_serializing_if = "Option::is_none"
    )]
    pub resources: Option<ResourceRequirements>,

    /// Labels added to the pods. Those of app.kubernetes.io and radius-mfa.dev are the operator's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = 32,
        "additionalProperties" = {
            "type": "string", "maxLength": 63, "pattern": "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"
        }
    ))]
    #[x_kube(validation = Rule::new("self.all(k, size(k) <= 317)").message("spec.labels: a key has at most 317 characters"))]
    pub labels: BTreeMap<String, String>,

    /// Annotations added to the pods. Those of radius-mfa.dev are the operator's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = 32,
        "additionalProperties" = {"type": "string", "maxLength": 4096}
    ))]
    #[x_kube(validation = Rule::new("self.all(k, size(k) <= 317)").message("spec.annotations: a key has at most 317 characters"))]
    pub annotations: BTreeMap<String, String>,

    /// Where the pods run.
    #[serde(default)]
    pub scheduling: SchedulingSpec,
}

const fn default_replicas() -> u32 {
    2
}

const fn default_port() -> u32 {
    1812
}

/// A Secret of the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretRef {
    /// Its name.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,
}

/// A key of a Secret of the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretKeyRef {
    /// The Secret's name.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,
    /// The key in it.
    #[serde(default = "default_secret_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

fn default_secret_key() -> String {
    "secret".to_owned()
}

/// Which addresses are registered with the directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.source != 'Static' || size(self.static) > 0").message("spec.addresses.static must have at least one address with source: Static"))]
#[x_kube(validation = Rule::new("self.source == 'Static' || size(self.static) == 0").message(Message::Expression("'spec.addresses.static goes with source: Static, not with source: ' + self.source".to_owned())))]
#[x_kube(validation = Rule::new("self.source == 'LoadBalancer' || !has(self.loadBalancer)").message(Message::Expression("'spec.addresses.loadBalancer goes with source: LoadBalancer, not with source: ' + self.source".to_owned())))]
#[x_kube(validation = Rule::new("(has(self.loadBalancer) && has(self.loadBalancer.class) ? self.loadBalancer.class : '') == (has(oldSelf.loadBalancer) && has(oldSelf.loadBalancer.class) ? oldSelf.loadBalancer.class : '')").message("spec.addresses.loadBalancer.class cannot be changed: Kubernetes takes no other class for a Service of type LoadBalancer that exists; make another RadiusProxy"))]
pub struct AddressesSpec {
    /// PodIP: the pods' own addresses, where the directory can reach them (the usual case with the AWS VPC CNI). HostIP:
    /// the nodes' addresses, through a host port. LoadBalancer: the addresses of a Service of that type; a host name that
    /// it has is resolved and followed. Static: the list in `static`, as it is. It cannot be changed: make another
    /// RadiusProxy instead.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message(Message::Expression("'spec.addresses.source is ' + oldSelf + ' and cannot be changed to ' + self + ': no server would answer between the old addresses and the new ones; make another RadiusProxy, as the page about moving a directory says'".to_owned())))]
    pub source: AddressSource,
    /// Addresses or DNS names to register.
    #[serde(default, rename = "static")]
    #[schemars(
        length(max = 16),
        inner(
            length(min = 1, max = 256),
            regex(pattern = "^[a-zA-Z0-9:]([-.:a-zA-Z0-9]*[a-zA-Z0-9:])?$")
        )
    )]
    pub fixed: Vec<String>,
    /// The Service of type LoadBalancer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancerSpec>,
}

/// Where registered addresses come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AddressSource {
    /// The pods' addresses.
    #[default]
    #[serde(rename = "PodIP")]
    PodIp,
    /// The nodes' addresses, through a host port.
    #[serde(rename = "HostIP")]
    HostIp,
    /// The addresses of a Service of type LoadBalancer, its host name resolved.
    LoadBalancer,
    /// A fixed list.
    Static,
}

/// The Service of type LoadBalancer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancerSpec {
    /// Its annotations, for the controller that makes the load balancer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = 32,
        "additionalProperties" = {"type": "string", "maxLength": 4096}
    ))]
    pub annotations: BTreeMap<String, String>,
    /// Its class. It cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub class: Option<String>,
}

/// A RADIUS client beside the directory's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.name != 'directory'").message("the client name 'directory' is the operator's own; choose another"))]
pub struct ClientSpec {
    /// Its name in records and metrics.
    #[schemars(
        regex(pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"),
        length(min = 1, max = 63)
    )]
    pub name: String,
    /// Source networks, as CIDRs. The longest prefix wins.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 49)))]
    #[x_kube(validation = Rule::new("self.all(n, isCIDR(n) || isIP(n))").message(Message::Expression("'spec.clients[].networks must be addresses or CIDRs, such as 10.0.0.0/24, not ' + self.filter(n, !(isCIDR(n) || isIP(n)))[0]".to_owned())))]
    pub networks: Vec<String>,
    /// The secret shared with it.
    pub secret_ref: SecretKeyRef,
    /// How long it waits for one try, in seconds, 1 to 50.
    #[serde(default = "default_client_timeout")]
    #[schemars(range(min = 1, max = 50))]
    pub timeout_seconds: u32,
    /// How often it tries again, 0 to 10.
    #[serde(default = "default_client_retries")]
    #[schemars(range(min = 0, max = 10))]
    pub retries: u32,
    /// Whether Message-Authenticator is demanded (BlastRADIUS, CVE-2024-3596). auto: from an address, once it has signed a login
    /// (until the proxy restarts). always: from every request. never: only checked where there is one.
    #[serde(default)]
    pub message_authenticator: MessageAuthenticatorPolicy,
    /// Whether CHAP and MS-CHAPv1 without Message-Authenticator may start a push.
    #[serde(default)]
    pub unauthenticated_push: bool,
    /// Whether it understands Access-Challenge.
    #[serde(default)]
    pub challenge: bool,
    /// New requests of one of its addresses within a second; the number of spec.policy.limits when it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests_per_second: Option<u32>,
    /// The attribute with the user's own address, such as Calling-Station-Id, or its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub user_address_attribute: Option<String>,
    /// Attributes added to every Access-Accept, at most 16: dictionary name or number (26.2636.1), and text of at most 253
    /// bytes. The value of a numbered attribute can also be 0x0a01, integer:15, ipaddr:192.0.2.1 or ipv6addr:2001:db8::1.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = 16,
        "additionalProperties" = {"type": "string", "minLength": 1, "maxLength": 253}
    ))]
    #[x_kube(validation = Rule::new("self.all(k, size(k) <= 64)").message("spec.clients[].acceptAttributes: a name has at most 64 characters"))]
    pub accept_attributes: BTreeMap<String, String>,
}

const fn default_client_timeout() -> u32 {
    20
}

const fn default_client_retries() -> u32 {
    1
}

/// When Message-Authenticator (RFC 3579 section 3.2) is demanded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MessageAuthenticatorPolicy {
    /// From an address once one was seen from it.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never; still verified when present.
    Never,
}

/// What logins are decided by, beside the factor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.exemptUsers) || self.exemptUsers.all(u, u.lowerAscii() != 'fakeusername' && !(u in self.probeUsers))").message("spec.policy.exemptUsers names a user of spec.policy.probeUsers, or fakeusername, which AWS probes with: a probe is never accepted"))]
pub struct PolicySpec {
    /// How user names are normalised.
    #[serde(default)]
    pub user_names: UserNamesSpec,
    /// What typed text may mean beside a factor keyword and a passcode.
    #[serde(default)]
    pub typed_text: TypedTextSpec,
    /// Users who need no second factor: exact, normalised names. Each use is counted and recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 253)))]
    pub exempt_users: Vec<String>,
    /// User names that AWS Directory Service probes its RADIUS servers with. A probe is answered with Access-Reject, asked
    /// of no provider, and counted apart from logins. It never gets an Access-Accept.
    #[serde(default = "default_probe_users")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub probe_users: Vec<String>,
    /// The longest time that one login takes, in seconds, 10 to 600, whatever the client's timeout and retries allow.
    #[serde(default = "default_login_seconds")]
    #[schemars(range(min = 10, max = 600))]
    pub login_seconds: u32,
    /// Throttles.
    #[serde(default)]
    pub limits: LimitsSpec,
}

impl Default for PolicySpec {
    fn default() -> Self {
        Self {
            user_names: UserNamesSpec::default(),
            typed_text: TypedTextSpec::default(),
            exempt_users: Vec::new(),
            probe_users: default_probe_users(),
            login_seconds: default_login_seconds(),
            limits: LimitsSpec::default(),
        }
    }
}

fn default_probe_users() -> Vec<String> {
    vec!["fakeusername".to_owned()]
}

const fn default_login_seconds() -> u32 {
    60
}

/// How user names are normalised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserNamesSpec {
    /// Whether DOMAIN\u and u@domain are u.
    #[serde(default = "yes")]
    pub strip_domain: bool,
    /// Whether Jane is jane.
    #[serde(default = "yes")]
    pub lower_case: bool,
}

impl Default for UserNamesSpec {
    fn default() -> Self {
        Self {
            strip_domain: true,
            lower_case: true,
        }
    }
}

const fn yes() -> bool {
    true
}

/// What typed text may mean beside a factor keyword and a passcode. Both are off unless written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TypedTextSpec {
    /// What follows the last of this character is the factor or passcode.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1))]
    pub delimiter: Option<String>,
    /// The last so many characters are the passcode, 6 to 8.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 6, max = 8))]
    pub passcode_suffix_length: Option<u32>,
}

/// Throttles. They refuse for a while and never lock anybody out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitsSpec {
    /// Pushes and calls for one user within a minute, 1 to 60.
    #[serde(default = "default_pushes")]
    #[schemars(range(min = 1, max = 60))]
    pub pushes_per_user_per_minute: u32,
    /// Logins of one user within a minute, 1 to 600.
    #[serde(default = "default_logins")]
    #[schemars(range(min = 1, max = 600))]
    pub logins_per_user_per_minute: u32,
    /// New requests of one client address within a second, 1 to 1000000, where its client has no number of its own.
    #[serde(default = "default_requests")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests_per_client_per_second: u32,
    /// Logins that wait for the provider at once, in one proxy, 1 to 1000000.
    #[serde(default = "default_pending")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub pending: u32,
    /// How long no push is started for a user after a denied one, in seconds, 0 to 3600. Passcodes still work.
    #[serde(default = "default_cool_down")]
    #[schemars(range(min = 0, max = 3600))]
    pub push_cool_down_seconds: u32,
}

impl Default for LimitsSpec {
    fn default() -> Self {
        Self {
            pushes_per_user_per_minute: default_pushes(),
            logins_per_user_per_minute: default_logins(),
            requests_per_client_per_second: default_requests(),
            pending: default_pending(),
            push_cool_down_seconds: default_cool_down(),
        }
    }
}

const fn default_pushes() -> u32 {
    6
}

const fn default_logins() -> u32 {
    30
}

const fn default_requests() -> u32 {
    10_000
}

const fn default_pending() -> u32 {
    10_000
}

const fn default_cool_down() -> u32 {
    10
}
