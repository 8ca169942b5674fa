//! The simulated Duo and Okta, through their admin APIs.

use anyhow::Result;
use serde_json::{Value, json};

use crate::kubectl::{Kubectl, PodPort};
use crate::simulators::SIMULATED;

/// The admin API of the simulated Duo.
#[derive(Debug, Clone, Copy)]
pub struct DuoSimulator<'a>(&'a Kubectl);

impl<'a> DuoSimulator<'a> {
    const ADMIN: PodPort<'static> = PodPort {
        namespace: SIMULATED,
        pod: "duo-0",
        port: 8444,
    };

    pub(crate) fn new(kubectl: &'a Kubectl) -> Self {
        Self(kubectl)
    }

    /// The certificate that its own is signed with.
    pub fn ca(&self) -> Result<String> {
        self.0.pod_text(&Self::ADMIN, "/ca.pem")
    }

    /// Makes users `<prefix>0`, `<prefix>1`… who approve after a while.
    pub fn generate_users(&self, prefix: &str, count: u32, delay_ms: u32) -> Result<()> {
        let generate = json!({"count": count, "prefix": prefix, "answer": "approve", "delay_ms": delay_ms});
        self.0
            .pod_put(&Self::ADMIN, "/users", &json!({ "generate": generate }))
    }

    /// Makes or changes a user.
    pub fn put_user(&self, name: &str, user: &Value) -> Result<()> {
        self.0.pod_put(&Self::ADMIN, &format!("/users/{name}"), user)
    }

    /// Everything counted.
    pub fn counters(&self) -> Result<Value> {
        self.0.pod_get(&Self::ADMIN, "/counters")
    }

    /// How many pushes a user was sent.
    pub fn pushes(&self, user: &str) -> Result<u64> {
        Ok(self.counters()?["users"][user]["pushes"].as_u64().unwrap_or(0))
    }

    /// How many calls about users whose names begin so were refused.
    pub fn refusals(&self, prefix: &str) -> Result<u64> {
        let counters = self.counters()?;
        let users = counters["users"].as_object().into_iter().flatten();
        let theirs = users.filter(|(name, _)| name.starts_with(prefix));
        Ok(theirs.filter_map(|(_, counts)| counts["refused"].as_u64()).sum())
    }

    /// Pending pushes.
    pub fn pending(&self) -> Result<Vec<Value>> {
        let answer: Value = self.0.pod_get(&Self::ADMIN, "/pushes")?;
        Ok(answer["pushes"].as_array().cloned().unwrap_or_default())
    }

    /// preauth and auth calls of a user.
    pub fn journal(&self, user: &str) -> Result<Vec<Value>> {
        let answer: Value = self
            .0
            .pod_get(&Self::ADMIN, &format!("/journal?since=0&user={user}"))?;
        Ok(answer["entries"].as_array().cloned().unwrap_or_default())
    }

    /// preauth and auth calls of everybody, the last 10,000.
    pub fn calls(&self) -> Result<Vec<Value>> {
        let answer: Value = self.0.pod_get(&Self::ADMIN, "/journal")?;
        Ok(answer["entries"].as_array().cloned().unwrap_or_default())
    }

    /// Merges settings.
    pub fn set_settings(&self, settings: &Value) -> Result<()> {
        self.0.pod_put(&Self::ADMIN, "/settings", settings)
    }

    /// Replaces the faults.
    pub fn set_faults(&self, faults: &Value) -> Result<()> {
        self.0
            .pod_put(&Self::ADMIN, "/faults", &json!({ "faults": faults }))
    }
}

/// The admin API of the simulated Okta.
#[derive(Debug, Clone, Copy)]
pub struct OktaSimulator<'a>(&'a Kubectl);

impl<'a> OktaSimulator<'a> {
    const ADMIN: PodPort<'static> = PodPort {
        namespace: SIMULATED,
        pod: "okta-0",
        port: 8446,
    };

    pub(crate) fn new(kubectl: &'a Kubectl) -> Self {
        Self(kubectl)
    }

    /// The certificate that its own is signed with.
    pub fn ca(&self) -> Result<String> {
        self.0.pod_text(&Self::ADMIN, "/ca.pem")
    }

    /// Makes users `<prefix>0`, `<prefix>1`… of a domain, who approve a push after a while.
    pub fn generate_users(&self, prefix: &str, domain: &str, count: u32, delay_ms: u32) -> Result<()> {
        let user = |n| {
            json!({"login": format!("{prefix}{n}@{domain}"),
                "factors": [{"type": "push", "answer": "approve", "delay_ms": delay_ms}]})
        };
        let users: Vec<Value> = (0..count).map(user).collect();
        self.0.pod_put(&Self::ADMIN, "/users", &json!({ "users": users }))
    }

    /// How many calls were refused with one of Okta's codes.
    pub fn refusals(&self, code: &str) -> Result<u64> {
        let counters: Value = self.0.pod_get(&Self::ADMIN, "/counters")?;
        Ok(counters["errors"][code].as_u64().unwrap_or(0))
    }

    /// Merges settings.
    pub fn set_settings(&self, settings: &Value) -> Result<()> {
        self.0.pod_put(&Self::ADMIN, "/settings", settings)
    }

    /// Ends all access tokens.
    pub fn revoke(&self) -> Result<()> {
        let _: Value = self.0.pod_post(&Self::ADMIN, "/revoke", &json!({}))?;
        Ok(())
    }
}
