//! Everything that can be set: the unknowns of the real service, and the world that a config file seeds.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::secret::{Secret, in_the_clear};

/// A config file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Behaviour.
    pub settings: Settings,
    /// Who may call; without any, the pair `simulator`/`simulator`.
    pub credentials: Vec<Credential>,
    /// Roles that can be assumed.
    pub roles: Vec<Role>,
    /// Directories that exist.
    pub directories: Vec<DirectorySpec>,
}

/// What the service does where nothing public says it, or where a test wants it otherwise.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Region of seeded directories that name none.
    pub region: String,
    /// The account that is asked.
    pub account: String,
    /// Signatures older or younger than this are refused, in seconds.
    pub clock_skew_seconds: i64,
    /// Body of the answers of Enable-, Update- and DisableRadius.
    pub empty_answer: EmptyAnswer,
    /// What DescribeDirectories shows of the shared secret.
    pub describe_shared_secret: ShownSecret,
    /// Name of the exception for a value out of its bounds.
    pub constraint_error: String,
    /// For settings without servers, port, secret or protocol: exception, or `accept`.
    pub incomplete_settings: String,
    /// EnableRadius while Completed: exception, or `accept`.
    pub enable_when_configured: String,
    /// EnableRadius while Failed.
    pub enable_when_failed: String,
    /// EnableRadius while Creating.
    pub enable_when_creating: String,
    /// UpdateRadius where RADIUS is off.
    pub update_without_radius: String,
    /// UpdateRadius while Failed.
    pub update_when_failed: String,
    /// UpdateRadius while Creating.
    pub update_when_creating: String,
    /// DisableRadius where RADIUS is off.
    pub disable_without_radius: String,
    /// DisableRadius while Creating.
    pub disable_when_creating: String,
    /// Any RADIUS write to a SimpleAD.
    pub radius_on_simple_ad: String,
    /// Any RADIUS write by the account that a directory is shared with.
    pub radius_on_shared: String,
    /// Any RADIUS write while the directory's stage is not Active.
    pub radius_when_not_active: String,
    /// DescribeDomainControllers of an ADConnector.
    pub domain_controllers_of_connector: String,
    /// DescribeDomainControllers by the account that a directory is shared with.
    pub domain_controllers_of_shared: String,
    /// Entries of a page when Limit is absent or larger.
    pub page_size: usize,
    /// Describe and list calls a second; 0: unlimited.
    pub reads_per_second: f64,
    /// Writes a second; 0: unlimited.
    pub writes_per_second: f64,
    /// A controller silent for so long is Impaired and not waited for.
    pub controller_lost_after_ms: u64,
    /// How settings are tried out.
    pub probe: ProbeSettings,
    /// How controllers speak RADIUS.
    pub radius_client: RadiusClient,
}

impl Default for Settings {
    fn default() -> Self {
        let exists = || "EntityAlreadyExistsException".to_owned();
        let client = || "ClientException".to_owned();
        let accept = || ACCEPT.to_owned();
        Self {
            region: "eu-central-1".to_owned(),
            account: "123456789012".to_owned(),
            clock_skew_seconds: 300,
            empty_answer: EmptyAnswer::Empty,
            describe_shared_secret: ShownSecret::Masked,
            constraint_error: "ValidationException".to_owned(),
            incomplete_settings: "InvalidParameterException".to_owned(),
            enable_when_configured: exists(),
            enable_when_failed: accept(),
            enable_when_creating: exists(),
            update_without_radius: "EntityDoesNotExistException".to_owned(),
            update_when_failed: accept(),
            update_when_creating: accept(),
            disable_without_radius: accept(),
            disable_when_creating: accept(),
            radius_on_simple_ad: client(),
            radius_on_shared: client(),
            radius_when_not_active: client(),
            domain_controllers_of_connector: "UnsupportedOperationException".to_owned(),
            domain_controllers_of_shared: "UnsupportedOperationException".to_owned(),
            page_size: 100,
            reads_per_second: 0.0,
            writes_per_second: 0.0,
            controller_lost_after_ms: 10_000,
            probe: ProbeSettings::default(),
            radius_client: RadiusClient::default(),
        }
    }
}

/// The value of a setting that makes the service accept instead of answering an exception.
pub const ACCEPT: &str = "accept";

/// Body of an answer that says nothing.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum EmptyAnswer {
    /// No byte.
    Empty,
    /// `{}`.
    Braces,
}

/// What is shown of a shared secret.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum ShownSecret {
    /// The member is absent.
    Omitted,
    /// Asterisks.
    Masked,
    /// The secret itself.
    Plain,
}

/// How the directory tries settings out before they are Completed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProbeSettings {
    /// Who decides.
    pub mode: ProbeMode,
    /// Creating lasts at least so long.
    pub min_creating_ms: u64,
    /// Failed after this, whatever is missing.
    pub max_creating_ms: u64,
    /// The decision when no controller is registered.
    pub without_controllers: Alone,
    /// How many of the servers must answer a controller.
    pub servers: Quorum,
    /// How many of the controllers must be content.
    pub controllers: Quorum,
    /// Which answers count.
    pub answers: Counted,
    /// The user who is asked for.
    pub user_name: String,
    /// What is typed for them.
    pub password: String,
    /// A controller waits so long first.
    pub delay_ms: u64,
    /// 0: RadiusTimeout.
    pub timeout_ms: u64,
    /// -1: RadiusRetries.
    pub retries: i64,
}

impl Default for ProbeSettings {
    fn default() -> Self {
        Self {
            mode: ProbeMode::Controllers,
            min_creating_ms: 500,
            max_creating_ms: 120_000,
            without_controllers: Alone::Complete,
            servers: Quorum::All,
            controllers: Quorum::All,
            answers: Counted::Any,
            user_name: "awsmfaprobe".to_owned(),
            password: "awsmfaprobe".to_owned(),
            delay_ms: 0,
            timeout_ms: 0,
            retries: -1,
        }
    }
}

/// Who decides between Completed and Failed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeMode {
    /// What the controllers report.
    Controllers,
    /// Completed at once; Creating is never seen.
    Complete,
    /// Creating for ever.
    Stuck,
    /// Failed after `min_creating_ms`.
    Fail,
}

/// The decision when there is nobody to ask.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Alone {
    /// Completed.
    Complete,
    /// Failed.
    Fail,
    /// Creating until a controller comes.
    Stuck,
}

/// How many must be content.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Quorum {
    /// Each one.
    All,
    /// One is enough.
    Any,
}

/// Which answers to a probe count.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Counted {
    /// Accept, Reject and Challenge.
    Any,
    /// Accept only.
    Accept,
}

/// How the controllers speak RADIUS.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RadiusClient {
    /// Whether requests carry it and answers must.
    pub message_authenticator: MessageAuthenticator,
    /// What stays the same in a retransmission to one server.
    pub retransmission: Retransmission,
    /// Which server is first.
    pub server_order: ServerOrder,
    /// When the next server's turn is.
    pub failover: Failover,
    /// What an answer to an earlier try is worth.
    pub late_answers: LateAnswers,
    /// A login ends after this in any case; 0: no such bound.
    pub budget_ms: u64,
    /// Whether NAS-IP-Address (or NAS-IPv6-Address) is sent.
    pub nas_ip_address: bool,
    /// NAS-Identifier; empty: absent.
    pub nas_identifier: String,
    /// Calling-Station-Id; empty: absent.
    pub calling_station_id: String,
    /// Proxy-State in hex; empty: absent.
    pub proxy_state: String,
    /// Which settings a login uses while RadiusStatus is Creating.
    pub settings_while_changing: WhileChanging,
}

impl Default for RadiusClient {
    fn default() -> Self {
        Self {
            message_authenticator: MessageAuthenticator::None,
            retransmission: Retransmission::Same,
            server_order: ServerOrder::First,
            failover: Failover::PerAttempt,
            late_answers: LateAnswers::Accept,
            budget_ms: 0,
            nas_ip_address: true,
            nas_identifier: String::new(),
            calling_station_id: String::new(),
            proxy_state: String::new(),
            settings_while_changing: WhileChanging::New,
        }
    }
}

/// Message-Authenticator (RFC 3579 section 3.2) from the client's side.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum MessageAuthenticator {
    /// Not sent; checked in answers where present.
    None,
    /// Sent; checked in answers where present.
    Send,
    /// Sent, and an answer without it is not taken.
    SendAndRequire,
}

/// What a retransmission has in common with the first packet.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Retransmission {
    /// Everything (RFC 2865 section 2.5).
    Same,
    /// The source port; identifier and authenticator are new.
    NewId,
    /// Nothing.
    NewPort,
}

/// Which server a login begins with.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum ServerOrder {
    /// As registered.
    First,
    /// Each login begins one further.
    RoundRobin,
    /// Shuffled for each login.
    Random,
}

/// When the next server is asked.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Failover {
    /// With each try.
    PerAttempt,
    /// When all tries at one are used up.
    AfterRetries,
}

/// What an answer to an earlier try is worth.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum LateAnswers {
    /// It decides.
    Accept,
    /// Nothing.
    Ignore,
}

/// Settings for logins while they change.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum WhileChanging {
    /// Those that were just written.
    New,
    /// Those of before, if there were any.
    Old,
}

/// An access key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// The key's id; in `PUT /credentials/{id}` it comes from the path.
    #[serde(default)]
    pub access_key_id: String,
    /// The key.
    #[serde(with = "in_the_clear")]
    pub secret_access_key: Secret,
    /// Demanded with the key when not empty.
    #[serde(default, with = "in_the_clear")]
    pub session_token: Secret,
    /// Whose it is.
    #[serde(default = "operator_arn")]
    pub principal: String,
    /// RFC 3339; empty: never.
    #[serde(default)]
    pub expires_at: String,
    /// Actions, with `*` as wildcard at the end.
    #[serde(default = "everything")]
    pub allow: Vec<String>,
    /// Directories that `ds` actions with a resource may touch.
    #[serde(default = "everything")]
    pub directories: Vec<String>,
}

fn operator_arn() -> String {
    "arn:aws:iam::123456789012:user/operator".to_owned()
}

fn everything() -> Vec<String> {
    vec!["*".to_owned()]
}

/// A role that can be assumed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// `arn:aws:iam::ACCOUNT:role/NAME`.
    pub arn: String,
    /// Principals that may assume it.
    #[serde(default = "everything")]
    pub trusted: Vec<String>,
    /// Demanded when not empty.
    #[serde(default)]
    pub external_id: String,
    /// Actions of its sessions.
    #[serde(default = "everything")]
    pub allow: Vec<String>,
    /// Directories of its sessions.
    #[serde(default = "everything")]
    pub directories: Vec<String>,
    /// How long a session lasts at most.
    #[serde(default = "an_hour")]
    pub session_seconds: u64,
    /// Subjects of web identity tokens that may assume it.
    #[serde(default)]
    pub web_identity_subjects: Vec<String>,
    /// Their audience.
    #[serde(default = "sts_audience")]
    pub web_identity_audience: String,
    /// A JWKS file; when given, the token's signature is verified.
    #[serde(default)]
    pub web_identity_jwks: PathBuf,
}

fn an_hour() -> u64 {
    3600
}

fn sts_audience() -> String {
    "sts.amazonaws.com".to_owned()
}

/// A directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectorySpec {
    /// `d-` and ten hex digits; in `PUT /directories/{id}` it comes from the path.
    #[serde(default)]
    pub id: String,
    /// SimpleAD, ADConnector, MicrosoftAD or SharedMicrosoftAD.
    #[serde(rename = "type", default)]
    pub kind: DirectoryType,
    /// Fully qualified name.
    #[serde(default = "corp")]
    pub name: String,
    /// NetBIOS name.
    #[serde(default = "corp_short")]
    pub short_name: String,
    /// Lifecycle stage.
    #[serde(default)]
    pub stage: Stage,
    /// Said beside the stage when not empty.
    #[serde(default)]
    pub stage_reason: String,
    /// IPv4, IPv6 or Dual-stack.
    #[serde(default)]
    pub network_type: NetworkType,
    /// Primary region; empty: the settings' region.
    #[serde(default)]
    pub region: String,
    /// Regions it is replicated to.
    #[serde(default)]
    pub additional_regions: Vec<String>,
    /// ADConnector: the customer's own DNS servers, shown as DnsIpAddrs.
    #[serde(default = "customer_dns")]
    pub customer_dns_ips: Vec<IpAddr>,
    /// Shown as it is.
    #[serde(default = "two")]
    pub desired_domain_controllers: u32,
    /// SharedMicrosoftAD: the account that owns it.
    #[serde(default)]
    pub owner_account: String,
    /// SharedMicrosoftAD: its id there.
    #[serde(default)]
    pub owner_directory_id: String,
    /// Controllers that only have an address and never probe.
    #[serde(default)]
    pub static_controllers: Vec<StaticController>,
    /// Tags; left out: kept as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
}

impl DirectorySpec {
    /// An active directory of a type with no controllers.
    pub fn new(id: &str, kind: DirectoryType) -> Self {
        Self {
            id: id.to_owned(),
            kind,
            name: corp(),
            short_name: corp_short(),
            stage: Stage::Active,
            stage_reason: String::new(),
            network_type: NetworkType::IPv4,
            region: String::new(),
            additional_regions: Vec::new(),
            customer_dns_ips: customer_dns(),
            desired_domain_controllers: two(),
            owner_account: String::new(),
            owner_directory_id: String::new(),
            static_controllers: Vec::new(),
            tags: None,
        }
    }

    /// Whether it is there in a region.
    pub(crate) fn is_in(&self, region: &str) -> bool {
        self.region == region || self.additional_regions.iter().any(|other| other == region)
    }
}

fn corp() -> String {
    "corp.example.com".to_owned()
}

fn corp_short() -> String {
    "CORP".to_owned()
}

fn customer_dns() -> Vec<IpAddr> {
    vec![IpAddr::from([10, 0, 0, 2])]
}

fn two() -> u32 {
    2
}

/// Types of directory.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub enum DirectoryType {
    /// Samba; has no RADIUS.
    SimpleAD,
    /// A proxy to the customer's own Active Directory.
    ADConnector,
    /// AWS Managed Microsoft AD.
    #[default]
    MicrosoftAD,
    /// The same, seen by an account that it is shared with.
    SharedMicrosoftAD,
}

/// Stages of a directory.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[expect(missing_docs, reason = "the service's own words")]
pub enum Stage {
    Requested,
    Creating,
    Created,
    #[default]
    Active,
    Inoperable,
    Impaired,
    Restoring,
    RestoreFailed,
    Deleting,
    Deleted,
    Failed,
    Updating,
}

/// What addresses a directory has.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[expect(missing_docs, reason = "the service's own words")]
pub enum NetworkType {
    #[default]
    IPv4,
    IPv6,
    #[serde(rename = "Dual-stack")]
    DualStack,
}

/// A controller that only has an address.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticController {
    /// Its address.
    pub address: IpAddr,
    /// Its other address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address6: Option<IpAddr>,
    /// Empty: the directory's primary one.
    #[serde(default)]
    pub region: String,
    /// As DescribeDomainControllers shows it.
    #[serde(default = "active")]
    pub status: String,
}

fn active() -> String {
    "Active".to_owned()
}
