//! Everything that can be set: what nothing public says of the real service.

use serde::{Deserialize, Serialize};

use super::seeds::{Credential, DirectorySpec, Role};

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
