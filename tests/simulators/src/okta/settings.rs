//! Okta's organisation: its API clients, its rules, its users and their factors.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{secret::Secret, tls::TlsFace};

/// A config file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// API clients and Okta's behaviour.
    pub settings: Settings,
    /// Who is there.
    pub users: Vec<User>,
}

/// API clients and Okta's behaviour.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// An SSWS token; empty: none.
    pub api_token: Secret,
    /// More API tokens of the organisation.
    pub api_tokens: Vec<Secret>,
    /// The OAuth service app.
    pub client_id: String,
    /// Its public keys (a JWKS object); without any nobody can have a token.
    pub client_jwks: Value,
    /// What it may ask for.
    pub scopes: Vec<String>,
    /// How long an access token lasts.
    pub token_seconds: u64,
    /// Whether tokens are bound to a key of the client's (RFC 9449).
    pub dpop_required: bool,
    /// Assertions and proofs may be off by so much.
    pub clock_skew_seconds: i64,
    /// Calls in a minute; 0: no limit (the headers say 600 then).
    pub rate_limit_per_minute: u64,
    /// A text message to one phone no sooner than this after the last.
    pub sms_interval_ms: u64,
    /// A push that nobody answers ends after this.
    pub push_timeout_ms: u64,
    /// A code that was sent is good for so long.
    pub code_ttl_ms: u64,
    /// Wrong codes in a row that lock a user out; 0: none do.
    pub lockout_failures: u64,
    /// 403 for clients that do not say who they are.
    pub require_user_agent: bool,
    /// Origin of poll and cancel links; empty: the one that was asked.
    pub link_origin: String,
    /// What new connections meet.
    pub tls: TlsFace,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            api_token: Secret::new("simulator-okta-token"),
            api_tokens: Vec::new(),
            client_id: "0oaSIMULATOR0000001".to_owned(),
            client_jwks: serde_json::json!({"keys": []}),
            scopes: ["okta.users.read", "okta.users.manage"]
                .map(str::to_owned)
                .to_vec(),
            token_seconds: 3600,
            dpop_required: false,
            clock_skew_seconds: 300,
            rate_limit_per_minute: 0,
            sms_interval_ms: 30_000,
            push_timeout_ms: 300_000,
            code_ttl_ms: 300_000,
            lockout_failures: 0,
            require_user_agent: true,
            link_origin: String::new(),
            tls: TlsFace::Ok,
        }
    }
}

impl Settings {
    /// An update that sends back what it read keeps the tokens of before, each in its place.
    pub(super) fn keep_hidden_tokens(&mut self, before: &Self) {
        if self.api_token.is_hidden() {
            self.api_token = before.api_token.clone();
        }
        let hidden = self.api_tokens.iter_mut().zip(&before.api_tokens);
        for (token, old) in hidden.filter(|(token, _)| token.is_hidden()) {
            *token = old.clone();
        }
    }
}

/// A person at Okta.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct User {
    /// `alice@corp.example.com`; in `PUT /users/{login}` it comes from the path.
    pub login: String,
    /// Empty: made of the login.
    pub id: String,
    /// ACTIVE, LOCKED_OUT, SUSPENDED, …
    pub status: Status,
    /// Without any, the user has none.
    pub factors: Vec<Factor>,
}

/// Okta's own words.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs)]
pub enum Status {
    #[default]
    Active,
    Staged,
    Provisioned,
    Recovery,
    PasswordExpired,
    LockedOut,
    Suspended,
    Deprovisioned,
}

/// A factor of a user.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Factor {
    /// Empty: made of user, type and provider.
    pub id: String,
    /// push, token:software:totp, token:hotp, token:hardware, sms, call, email, question, …
    #[serde(rename = "type")]
    pub kind: String,
    /// OKTA, GOOGLE, YUBICO, RSA, …
    pub provider: String,
    /// ACTIVE, PENDING_ACTIVATION, INACTIVE, …
    pub status: String,
    /// Base32, for token:software:totp.
    pub secret: Secret,
    /// For tokens without a secret: each works once.
    pub codes: Vec<String>,
    /// For sms and call.
    pub phone: String,
    /// What its owner does with a push.
    pub answer: Behaviour,
    /// After so long.
    pub delay_ms: u64,
    /// The push asks for a number that only the access device could show.
    pub number_challenge: bool,
}

impl Default for Factor {
    fn default() -> Self {
        Self {
            id: String::new(),
            kind: "push".to_owned(),
            provider: "OKTA".to_owned(),
            status: "ACTIVE".to_owned(),
            secret: Secret::default(),
            codes: Vec::new(),
            phone: "+4915100004788".to_owned(),
            answer: Behaviour::Approve,
            delay_ms: 0,
            number_challenge: false,
        }
    }
}

/// What a person does with a push.
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
    /// Waits for `POST /pushes/{id}`.
    Manual,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_were_sent_back_as_they_are_shown_stay() {
        let before = Settings {
            api_tokens: vec![Secret::new("one"), Secret::new("two")],
            ..Settings::default()
        };
        let shown = serde_json::to_value(&before).unwrap();
        assert!(!shown.to_string().contains("two"));
        let mut after: Settings = serde_json::from_value(shown).unwrap();
        after.keep_hidden_tokens(&before);
        assert_eq!(after.api_token, before.api_token);
        assert_eq!(after.api_tokens, before.api_tokens);
    }
}
