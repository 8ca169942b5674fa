//! Duo's account: the integration, its rules, its users.

use serde::{Deserialize, Serialize};

use crate::{secret::Secret, tls::TlsFace};

/// A config file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The integration and Duo's behaviour.
    pub settings: Settings,
    /// Who is enrolled.
    pub users: Vec<User>,
}

/// The integration and Duo's behaviour.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Integration key.
    pub ikey: String,
    /// Secret key.
    pub skey: Secret,
    /// More applications of the account.
    pub applications: Vec<Application>,
    /// False: every signed call is 40301.
    pub integration_permitted: bool,
    /// Signature versions that are taken: `2`, `4`, `5`.
    pub signatures: Vec<String>,
    /// Dates older or younger than this are 40105.
    pub clock_skew_seconds: i64,
    /// How far Duo's clock is ahead.
    pub clock_offset_seconds: i64,
    /// What preauth says of people that Duo does not know.
    pub unknown_users: Unknown,
    /// A push or call that nobody answers ends after this.
    pub push_timeout_ms: u64,
    /// auth_status answers after this even when nothing changed.
    pub long_poll_ms: u64,
    /// What it answers then.
    pub long_poll_end: LongPollEnd,
    /// A transaction is forgotten after this.
    pub txid_ttl_ms: u64,
    /// Pushes and calls for one user in a minute; 0: no limit; above it 42901.
    pub pushes_per_minute: usize,
    /// Wrong passcodes in a row that lock a user out; 0: none do.
    pub lockout_failures: u64,
    /// Seconds in the Retry-After of a 42901; 0: no such header.
    pub retry_after: u64,
    /// Verified Duo Push: clients that do not support it see no `push`.
    pub verified_push: bool,
    /// What new connections meet.
    pub tls: TlsFace,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ikey: "DISIMULATOR000000001".to_owned(),
            skey: Secret::new("simulatorsimulatorsimulatorsimulator0000"),
            applications: Vec::new(),
            integration_permitted: true,
            signatures: ["2", "4", "5"].map(str::to_owned).to_vec(),
            clock_skew_seconds: 300,
            clock_offset_seconds: 0,
            unknown_users: Unknown::Enroll,
            push_timeout_ms: 60_000,
            long_poll_ms: 30_000,
            long_poll_end: LongPollEnd::Waiting,
            txid_ttl_ms: 300_000,
            pushes_per_minute: 0,
            lockout_failures: 0,
            retry_after: 0,
            verified_push: false,
            tls: TlsFace::Ok,
        }
    }
}

impl Settings {
    /// The secret key of the application that has this integration key.
    pub(super) fn secret_key(&self, ikey: &str) -> Option<&Secret> {
        if ikey == self.ikey {
            return Some(&self.skey);
        }
        let other = self.applications.iter().find(|other| other.ikey == ikey)?;
        Some(&other.skey)
    }

    /// Gives keys that were sent back as they were shown their texts of before.
    pub(super) fn keep_hidden_keys(&mut self, before: &Self) {
        if self.skey.is_hidden() {
            self.skey = before.skey.clone();
        }
        for other in self
            .applications
            .iter_mut()
            .filter(|other| other.skey.is_hidden())
        {
            other.skey = before.secret_key(&other.ikey).cloned().unwrap_or_default();
        }
    }
}

/// An application beside the first. Each has one pair of keys, and a reset ends its secret key at once: keys are replaced
/// without a gap by a second application.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Application {
    /// Integration key.
    pub ikey: String,
    /// Secret key.
    pub skey: Secret,
}

/// What preauth says of people that Duo does not know.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Unknown {
    /// They are to enrol.
    Enroll,
    /// They may pass.
    Allow,
    /// They may not.
    Deny,
}

/// How a long poll without news ends.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub enum LongPollEnd {
    /// With the state that was told before.
    #[serde(rename = "waiting")]
    Waiting,
    /// With an error.
    #[serde(rename = "40002")]
    Error,
}

/// A person at Duo.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct User {
    /// Compared without regard to case; in `PUT /users/{name}` it comes from the path.
    pub name: String,
    /// Other names.
    pub aliases: Vec<String>,
    /// What preauth says.
    pub status: Status,
    /// What they do with a push or a call.
    pub answer: Behaviour,
    /// After so long.
    pub delay_ms: u64,
    /// Each works once.
    pub passcodes: Vec<String>,
    /// Each works always.
    pub reusable_passcodes: Vec<String>,
    /// Without any: one phone with everything.
    pub devices: Vec<Device>,
}

/// What preauth says of a user.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// auth
    #[default]
    Active,
    /// allow
    Bypass,
    /// deny
    Disabled,
    /// deny
    LockedOut,
    /// enroll
    Unenrolled,
}

/// What a person does with a push or a call.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Behaviour {
    /// Approves.
    #[default]
    Approve,
    /// Denies.
    Deny,
    /// Nothing, until it times out.
    Ignore,
    /// Denies and reports fraud.
    Fraud,
    /// Waits for `POST /pushes/{txid}`.
    Manual,
}

/// A phone or token.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Device {
    /// `DP…` or `DH…`.
    pub id: String,
    /// phone or token.
    #[serde(rename = "type")]
    pub kind: DeviceType,
    /// What its owner calls it; a token's serial number.
    pub name: String,
    /// Shown with all but its last four digits hidden.
    pub number: String,
    /// auto, push, sms, phone, mobile_otp.
    pub capabilities: Vec<String>,
    /// Whether pushes reach it.
    pub push: PushDelivery,
}

impl Default for Device {
    fn default() -> Self {
        Self {
            id: "DPSIM00000000000001".to_owned(),
            kind: DeviceType::Phone,
            name: String::new(),
            number: "+49 151 0000 4788".to_owned(),
            capabilities: ["auto", "push", "sms", "phone", "mobile_otp"]
                .map(str::to_owned)
                .to_vec(),
            push: PushDelivery::Ok,
        }
    }
}

/// Types of device.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceType {
    /// With capabilities.
    Phone,
    /// Without.
    Token,
}

/// Whether pushes reach a phone.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum PushDelivery {
    /// They do.
    Ok,
    /// auth_status says push_failed, then timeout.
    PushFailed,
}

impl User {
    /// The devices, or the one that a user without any is given.
    pub(crate) fn devices(&self) -> Vec<Device> {
        match self.devices.is_empty() {
            true => vec![Device::default()],
            false => self.devices.clone(),
        }
    }
}
