//! Logins at a simulated domain controller, and what it reports of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A login to try.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LoginRequest {
    /// Who.
    pub username: String,
    /// What is typed in the MFA field.
    pub password: String,
    /// The protocol, when it is not the registered one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// How RADIUS is spoken, where it is not as the directory's settings say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub radius_client: Option<serde_json::Value>,
}

/// Logins that go on while something else happens.
#[derive(Debug, Clone, Default, Serialize)]
pub struct BackgroundLogins {
    /// Users, in turn.
    pub usernames: Vec<String>,
    /// What each types.
    pub password: String,
    /// A login begins that often, in milliseconds.
    pub every_ms: u64,
    /// For that long, in milliseconds.
    pub for_ms: u64,
}

/// How a login went.
#[derive(Debug, Clone, Deserialize)]
pub struct Login {
    /// accept, reject, timeout, not-configured, error.
    pub outcome: String,
    /// Who.
    pub username: String,
    /// Which server answered.
    #[serde(default)]
    pub server: Option<String>,
    /// What the user was told.
    #[serde(default)]
    pub reply_message: Option<String>,
    /// How long it took.
    pub duration_ms: u64,
    /// Whether AWS would have refused it, since settings were changing.
    pub aws_would_refuse: bool,
    /// The domain controller that continued it.
    #[serde(default)]
    pub taken_over_by: Option<String>,
    /// `verified` when the answer's Message-Authenticator was.
    pub message_authenticator: String,
    /// Every packet.
    #[serde(default)]
    pub packets: Vec<Packet>,
}

/// A packet of a login.
#[derive(Debug, Clone, Deserialize)]
pub struct Packet {
    /// The server's address.
    pub server: String,
    /// Milliseconds from the login's begin.
    pub offset_ms: u64,
    /// request, retransmission, answer, bad-answer, refused.
    pub kind: String,
}

/// How background logins went.
#[derive(Debug, Clone, Deserialize)]
pub struct Report {
    /// Whether they go on.
    pub running: bool,
    /// Logins begun.
    pub tried: u64,
    /// Logins that were accepted.
    pub accepted: u64,
    /// Logins that were refused.
    pub rejected: u64,
    /// Logins that nobody answered.
    pub failed: u64,
    /// Logins that are not over.
    pub in_flight: u64,
    /// Logins that AWS would have refused, since settings were changing.
    pub would_have_been_refused: u64,
    /// Logins that another server than the first answered.
    pub failed_over: u64,
    /// The slowest.
    #[serde(default)]
    pub slowest_ms: Option<u64>,
    /// The mean.
    #[serde(default)]
    pub mean_ms: Option<f64>,
    /// By server.
    #[serde(default)]
    pub per_server: BTreeMap<String, ServerCount>,
    /// The fail-overs.
    #[serde(default)]
    pub fail_overs: Vec<FailOver>,
    /// Logins without an answer.
    #[serde(default)]
    pub failures: Vec<Login>,
    /// Refused logins.
    #[serde(default)]
    pub rejections: Vec<Login>,
}

/// What one server did.
#[derive(Debug, Clone, Deserialize)]
pub struct ServerCount {
    /// Packets it was sent.
    pub requests: u64,
    /// Answers that it gave.
    pub answers: u64,
}

/// A login for which another server was asked.
#[derive(Debug, Clone, Deserialize)]
pub struct FailOver {
    /// Milliseconds from the first login's begin.
    pub at_ms: u64,
    /// Who did not answer.
    pub from: Vec<String>,
    /// Who did, if anyone.
    pub to: Option<String>,
    /// How long the login took.
    pub duration_ms: u64,
}
