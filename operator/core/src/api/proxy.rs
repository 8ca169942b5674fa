//! RadiusProxy.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{LocalObjectReference, ResourceRequirements};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::secret_refs::SecretKeyRef;
use super::{DirectorySpec, PodTemplateOverrides, ProviderSpec, RadiusProxyStatus, SchedulingSpec};

/// RADIUS MFA proxies that run as a StatefulSet and are registered with AWS Directory Service.
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
    doc = "RADIUS MFA proxies that run as a StatefulSet and are registered with AWS Directory Service",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(
        name = "Servers",
        type_ = "string",
        json_path = ".status.servers",
        description = "Registered servers / desired servers"
    ),
    printcolumn(name = "Directory", type_ = "string", json_path = ".spec.directory.id"),
    printcolumn(
        name = "RADIUS",
        type_ = "string",
        json_path = ".status.directory.radiusStatus",
        description = "RADIUS status of the directory at AWS"
    ),
    printcolumn(
        name = "Suspend",
        type_ = "boolean",
        json_path = ".spec.suspend",
        description = "Whether writes to AWS are suspended"
    ),
    printcolumn(name = "Provider", type_ = "string", json_path = ".status.provider", priority = "1"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version", description = "Version that the proxies run", priority = "1"),
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
        description = "Time since the last write to AWS",
        priority = "1"
    ),
    printcolumn(
        name = "Why",
        type_ = "string",
        json_path = ".status.lastWrite.reason",
        description = "Reason of the last write to AWS",
        priority = "1"
    ),
    printcolumn(
        name = "Next",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        description = "State and next step",
        priority = "1"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 40").message("metadata.name must have at most 40 characters: pod names are built from it"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message(Message::Expression("'metadata.name is used as the name of a Service: it must consist of lower-case letters, digits and hyphens, begin with a letter and not end with a hyphen, unlike ' + self.metadata.name".to_owned()))
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.directory) || size(self.clients) > 0").message("spec must have a directory or at least one client; without either, no one can send requests to these proxies"))]
#[x_kube(validation = Rule::new("has(self.directory) == has(oldSelf.directory)").message("spec.directory cannot be added or removed later; create another RadiusProxy"))]
pub struct RadiusProxySpec {
    /// Number of proxies, 1 to 16. A single proxy has no fail-over.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 1, max = 16))]
    pub replicas: u32,

    /// Directory that uses these proxies for MFA. Without it the proxies serve only `clients`. It cannot be added or removed
    /// later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<DirectorySpec>,

    /// Source of the second factor. Exactly one of duo, okta, totp and radius.
    pub provider: ProviderSpec,

    /// Secret with the RADIUS shared secret of the directory, 8 to 512 characters. If left out, the operator generates one
    /// of 48 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_secret_ref: Option<SecretKeyRef>,

    /// UDP port of the proxies, 1025 to 65535. It cannot be changed: create another RadiusProxy instead.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1025, max = 65535))]
    #[x_kube(validation = Rule::new("self == oldSelf").message(Message::Message("spec.port cannot be changed: a directory has one port for all its servers, so no server would answer while they change; create another RadiusProxy, as the page about moving a directory says".to_owned())))]
    pub port: u32,

    /// Addresses to register with the directory.
    #[serde(default)]
    pub addresses: AddressesSpec,

    /// RADIUS clients in addition to the directory.
    #[serde(default)]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub clients: Vec<ClientSpec>,

    /// User names, typed text, exempt users and limits.
    #[serde(default)]
    pub policy: PolicySpec,

    /// Name of the application in push notifications, 1 to 64 characters. Defaults to the directory's label and id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub application: Option<String>,

    /// Whether writes to AWS are suspended: no registration, no repair, no new shared secret. The proxies continue to
    /// answer, and a new image is still rolled out if that needs no new pods.
    #[serde(default)]
    pub suspend: bool,

    /// Image of the proxies. Defaults to the operator's setting.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = "^[^\\s]+$"))]
    pub image: Option<String>,

    /// Secrets of the same namespace for pulling the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<LocalObjectReference>,

    /// Resources of the container. Defaults to the operator's setting.
    #[serde(
        default,
        deserialize_with = "super::workload::resources",
        skip_serializing_if = "Option::is_none"
    )]
    pub resources: Option<ResourceRequirements>,

    /// Labels to add to the pods. Labels of app.kubernetes.io and radius-mfa.dev are reserved and ignored.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = 32,
        "additionalProperties" = {
            "type": "string", "maxLength": 63, "pattern": "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"
        }
    ))]
    #[x_kube(validation = Rule::new("self.all(k, size(k) <= 317)").message("spec.labels: a key has at most 317 characters"))]
    pub labels: BTreeMap<String, String>,

    /// Annotations to add to the pods. Annotations of radius-mfa.dev are reserved and ignored.
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

    /// Changes to the pod template, for what no other field covers. A new template is rolled out with new pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplateOverrides>,
}

const fn default_replicas() -> u32 {
    2
}

const fn default_port() -> u32 {
    1812
}

/// Addresses to register with the directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.source != 'Static' || size(self.static) > 0").message("spec.addresses.static must have at least one address with source: Static"))]
#[x_kube(validation = Rule::new("self.source == 'Static' || size(self.static) == 0").message(Message::Expression("'spec.addresses.static goes with source: Static, not with source: ' + self.source".to_owned())))]
#[x_kube(validation = Rule::new("self.source == 'LoadBalancer' || !has(self.loadBalancer)").message(Message::Expression("'spec.addresses.loadBalancer goes with source: LoadBalancer, not with source: ' + self.source".to_owned())))]
#[x_kube(validation = Rule::new("(has(self.loadBalancer) && has(self.loadBalancer.class) ? self.loadBalancer.class : '') == (has(oldSelf.loadBalancer) && has(oldSelf.loadBalancer.class) ? oldSelf.loadBalancer.class : '')").message("spec.addresses.loadBalancer.class cannot be changed: Kubernetes doesn't accept another class for an existing Service of type LoadBalancer; create another RadiusProxy"))]
pub struct AddressesSpec {
    /// Source of the addresses. PodIP: addresses of the pods, when the directory can reach them (as with the AWS VPC
    /// CNI). HostIP: addresses of the nodes, through a host port. LoadBalancer: addresses of a Service of type
    /// LoadBalancer; its host names are resolved. Static: the list in `static`. It cannot be changed: create another
    /// RadiusProxy instead.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message(Message::Expression("'spec.addresses.source is ' + oldSelf + ' and cannot be changed to ' + self + ': no server would answer between the old addresses and the new ones; create another RadiusProxy, as the page about moving a directory says'".to_owned())))]
    pub source: AddressSource,
    /// Addresses or DNS names to register with source: Static.
    #[serde(default, rename = "static")]
    #[schemars(
        length(max = 16),
        inner(
            length(min = 1, max = 256),
            regex(pattern = "^[a-zA-Z0-9:]([-.:a-zA-Z0-9]*[a-zA-Z0-9:])?$")
        )
    )]
    pub fixed: Vec<String>,
    /// Service of type LoadBalancer, with source: LoadBalancer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancerSpec>,
}

/// Source of the registered addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AddressSource {
    /// Addresses of the pods.
    #[default]
    #[serde(rename = "PodIP")]
    PodIp,
    /// Addresses of the nodes, through a host port.
    #[serde(rename = "HostIP")]
    HostIp,
    /// Addresses of a Service of type LoadBalancer; its host names are resolved.
    LoadBalancer,
    /// A fixed list.
    Static,
}

/// Service of type LoadBalancer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancerSpec {
    /// Annotations of the Service, for the controller that creates the load balancer. They replace the operator's defaults
    /// for the AWS Load Balancer Controller key by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = 32,
        "additionalProperties" = {"type": "string", "maxLength": 4096}
    ))]
    pub annotations: BTreeMap<String, String>,
    /// Load balancer class of the Service. It cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub class: Option<String>,
}

/// A RADIUS client in addition to the directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.name != 'directory'").message("the client name 'directory' is the operator's own; choose another"))]
pub struct ClientSpec {
    /// Name of the client in login records and metrics.
    #[schemars(
        regex(pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"),
        length(min = 1, max = 63)
    )]
    pub name: String,
    /// Source networks of the client, as addresses or CIDRs. Of several clients the one with the longest prefix matches.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 49)))]
    #[x_kube(validation = Rule::new("self.all(n, isCIDR(n) || isIP(n))").message(Message::Expression("'spec.clients[].networks must be addresses or CIDRs, such as 10.0.0.0/24, not ' + self.filter(n, !(isCIDR(n) || isIP(n)))[0]".to_owned())))]
    pub networks: Vec<String>,
    /// Secret with the shared secret of the client.
    pub secret_ref: SecretKeyRef,
    /// Time that the client waits for the answer to one packet, in seconds, 1 to 50.
    #[serde(default = "default_client_timeout")]
    #[schemars(range(min = 1, max = 50))]
    pub timeout_seconds: u32,
    /// Number of the client's retries after the first packet, 0 to 10.
    #[serde(default = "default_client_retries")]
    #[schemars(range(min = 0, max = 10))]
    pub retries: u32,
    /// Whether requests must have a Message-Authenticator (BlastRADIUS, CVE-2024-3596). Auto: those of an address
    /// that has signed a login since the proxy started. Always: every request. Never: no request, but one that is
    /// present is verified.
    #[serde(default)]
    pub message_authenticator: MessageAuthenticatorPolicy,
    /// Whether CHAP and MS-CHAPv1 requests without Message-Authenticator may start a push.
    #[serde(default)]
    pub unauthenticated_push: bool,
    /// Whether the client supports Access-Challenge.
    #[serde(default)]
    pub challenge: bool,
    /// Maximum number of new requests per second from one address of the client, 1 to 1000000. Defaults to
    /// spec.policy.limits.requestsPerClientPerSecond.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests_per_second: Option<u32>,
    /// Attribute with the address of the user's device, such as Calling-Station-Id, or its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub user_address_attribute: Option<String>,
    /// Attributes to add to every Access-Accept, at most 16: dictionary name or number (26.2636.1), and a text of at most
    /// 253 bytes. The value of a numbered attribute can also be 0x0a01, integer:15, ipaddr:192.0.2.1 or
    /// ipv6addr:2001:db8::1.
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

/// When Message-Authenticator (RFC 3579 section 3.2) is required.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MessageAuthenticatorPolicy {
    /// From an address that has sent one before.
    #[default]
    Auto,
    /// In every request.
    Always,
    /// In no request. It is still verified when present.
    Never,
}

/// Rules for logins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.exemptUsers) || self.exemptUsers.all(u, u.lowerAscii() != 'fakeusername' && !(u in self.probeUsers))").message("spec.policy.exemptUsers names a user of spec.policy.probeUsers, or fakeusername, which AWS probes with: a probe is never accepted"))]
pub struct PolicySpec {
    /// Normalization of user names.
    #[serde(default)]
    pub user_names: UserNamesSpec,
    /// Further meanings of the text that users type, in addition to a factor keyword and a passcode.
    #[serde(default)]
    pub typed_text: TypedTextSpec,
    /// Users who need no second factor: exact, normalized names of at most 128 bytes. Each such login is counted and recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 128)))]
    #[x_kube(validation = Rule::new("self.all(u, size(bytes(u)) <= 128)").message("spec.policy.exemptUsers: a name has at most 128 bytes"))]
    pub exempt_users: Vec<String>,
    /// User names of the health probes of AWS Directory Service, at most 128 bytes each. The proxies answer a probe
    /// with Access-Reject without calling the provider, and count it separately from logins.
    #[serde(default = "default_probe_users")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 128)))]
    #[x_kube(validation = Rule::new("self.all(u, size(bytes(u)) <= 128)").message("spec.policy.probeUsers: a name has at most 128 bytes"))]
    pub probe_users: Vec<String>,
    /// Maximum duration of a login, in seconds, 10 to 600, even if the client's timeout and retries allow more.
    #[serde(default = "default_login_seconds")]
    #[schemars(range(min = 10, max = 600))]
    pub login_seconds: u32,
    /// Rate limits.
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

/// Normalization of user names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserNamesSpec {
    /// Whether DOMAIN\u and u@domain are the user u.
    #[serde(default = "yes")]
    pub strip_domain: bool,
    /// Whether Jane is the user jane.
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

/// Further meanings of the text that users type. Both are off by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TypedTextSpec {
    /// Delimiter, one character. The text after the last one is the factor keyword or passcode.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1))]
    pub delimiter: Option<String>,
    /// Number of characters at the end of the text that are the passcode, 6 to 8.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 6, max = 8))]
    pub passcode_suffix_length: Option<u32>,
}

/// Rate limits. They refuse logins for a while and never lock a user out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitsSpec {
    /// Maximum number of pushes and calls per minute for one user, 1 to 60.
    #[serde(default = "default_pushes")]
    #[schemars(range(min = 1, max = 60))]
    pub pushes_per_user_per_minute: u32,
    /// Maximum number of logins per minute of one user, 1 to 600.
    #[serde(default = "default_logins")]
    #[schemars(range(min = 1, max = 600))]
    pub logins_per_user_per_minute: u32,
    /// Maximum number of new requests per second from one client address, 1 to 1000000. A client can have its own
    /// limit.
    #[serde(default = "default_requests")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests_per_client_per_second: u32,
    /// Maximum number of logins that wait for the provider in one proxy, 1 to 1000000. Each takes about 16 KB of
    /// memory.
    #[serde(default = "default_pending")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub pending: u32,
    /// Time without a new push for a user who denied one, in seconds, 0 to 3600. Passcodes still work.
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
