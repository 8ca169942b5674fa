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
    /// Any RADIUS write while the directory's stage is neither Active nor Impaired.
    pub radius_when_not_active: String,
    /// Any RADIUS write while the directory's stage is Impaired.
    pub radius_when_impaired: String,
    /// For so long after a write DescribeDirectories shows RADIUS as it was before that write.
    pub description_lag_ms: u64,
    /// In every other second of that time only, as if two replicas answered in turn.
    pub description_alternates: bool,
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
            radius_when_impaired: client(),
            description_lag_ms: 0,
            description_alternates: false,
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

/// The user of the probe, as one public report has it. The password of the probe is not reported.
pub const PROBE_USER: &str = "fakeusername";

/// No wait of a simulated directory is longer.
const LONGEST_MS: u64 = 600_000;

impl Settings {
    /// Refuses settings that no directory could have.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self) -> Result<(), String> {
        if self.description_lag_ms > LONGEST_MS {
            return Err(format!("description_lag_ms can be {LONGEST_MS} at most"));
        }
        if self.probe.user_name.is_empty() || self.probe.user_name.len() > 253 {
            return Err("probe.user_name must have 1 to 253 bytes".to_owned());
        }
        self.radius_client.check()
    }
}

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
            user_name: PROBE_USER.to_owned(),
            password: PROBE_USER.to_owned(),
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
    /// How long after a try the next one follows, in percent of RadiusTimeout.
    pub retry_interval_percent: u32,
    /// The login waits exactly so long for an answer, whether tries are left or not; 0: RadiusTimeout for each try.
    pub patience_ms: u64,
    /// A login ends after this in any case; 0: no such bound.
    pub budget_ms: u64,
    /// After so long another controller of the directory continues the login; 0: never.
    pub takeover_after_ms: u64,
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
            retry_interval_percent: 100,
            patience_ms: 0,
            budget_ms: 0,
            takeover_after_ms: 0,
            nas_ip_address: true,
            nas_identifier: String::new(),
            calling_station_id: String::new(),
            proxy_state: String::new(),
            settings_while_changing: WhileChanging::New,
        }
    }
}

impl RadiusClient {
    /// Refuses settings that no client could have.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self) -> Result<(), String> {
        let longest = |name: &str, ms: u64| match ms > LONGEST_MS {
            true => Err(format!("radius_client.{name} can be {LONGEST_MS} at most")),
            false => Ok(()),
        };
        if !(1..=100).contains(&self.retry_interval_percent) {
            return Err("radius_client.retry_interval_percent must be between 1 and 100".to_owned());
        }
        longest("patience_ms", self.patience_ms)?;
        longest("budget_ms", self.budget_ms)?;
        longest("takeover_after_ms", self.takeover_after_ms)?;
        if self.patience_ms > 0 && self.budget_ms > 0 {
            return Err(
                "radius_client.patience_ms and budget_ms exclude each other: set one of them to 0".to_owned(),
            );
        }
        let end = self.patience_ms.max(self.budget_ms);
        if end > 0 && self.takeover_after_ms >= end {
            return Err("radius_client.takeover_after_ms must be before the end of the login".to_owned());
        }
        match hex::decode(&self.proxy_state) {
            Ok(bytes) if bytes.len() <= 253 => Ok(()),
            Ok(_) => Err("radius_client.proxy_state can have 253 bytes at most".to_owned()),
            Err(error) => Err(format!("radius_client.proxy_state is not hex: {error}")),
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
    /// Sent with the probe of new settings, not with logins.
    ProbeOnly,
}

/// What a retransmission has in common with the first packet.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Retransmission {
    /// Everything (RFC 2865 section 2.5).
    Same,
    /// Source port and identifier; the authenticator is new.
    NewAuthenticator,
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
    /// Every try goes to all servers at once.
    AllAtOnce,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_no_client_could_have_are_refused_in_words() {
        let refused = |change: &dyn Fn(&mut RadiusClient)| {
            let mut client = RadiusClient::default();
            change(&mut client);
            client.check().unwrap_err()
        };
        assert!(RadiusClient::default().check().is_ok());
        for percent in [0, 101] {
            let why = refused(&|client| client.retry_interval_percent = percent);
            assert!(why.contains("between 1 and 100"), "{why}");
        }
        assert!(refused(&|client| client.patience_ms = 600_001).contains("patience_ms"));
        assert!(refused(&|client| client.takeover_after_ms = 600_001).contains("takeover_after_ms"));
        let both = refused(&|client| (client.patience_ms, client.budget_ms) = (1, 1));
        assert!(both.contains("exclude each other"), "{both}");
        let late = refused(&|client| (client.patience_ms, client.takeover_after_ms) = (1000, 1000));
        assert!(late.contains("before the end"), "{late}");
        assert!(refused(&|client| client.proxy_state = "0g".to_owned()).contains("not hex"));
    }

    #[test]
    fn a_probe_needs_a_user() {
        let mut settings = Settings::default();
        assert_eq!(settings.probe.user_name, "fakeusername");
        assert!(settings.check().is_ok());
        settings.probe.user_name.clear();
        assert!(settings.check().unwrap_err().contains("user_name"));
    }
}
