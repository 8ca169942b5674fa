//! Faults that the admin API switches on.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use http::{HeaderValue, Response, StatusCode, header};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::reply::{self, Body, Reply};

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// The vendor's own error envelope.
    Error,
    /// A bare HTTP status.
    Status,
    /// No answer, the connection ends.
    Close,
    /// The call is carried out, then as `close`.
    Lost,
    /// No answer, and the connection stays.
    Hang,
    /// 200 and broken JSON.
    Malformed,
    /// The right answer, byte by byte.
    Slow,
    /// The right answer, cut in the middle of its body.
    Cut,
    /// The right answer, later.
    Delay,
}

/// One rule of `PUT /faults`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Operation or endpoint, `*` for all.
    #[serde(default = "every")]
    pub operation: String,
    /// How it goes wrong.
    pub kind: FaultKind,
    /// The vendor's error code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The error's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// HTTP status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Body of a bare status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Waits first.
    #[serde(default)]
    pub delay_ms: u64,
    /// Pause between bytes.
    #[serde(default = "fifty")]
    pub interval_ms: u64,
    /// Seconds, for a `Retry-After` header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// How often; absent: until replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// Only for this user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Only for this directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
}

fn every() -> String {
    "*".to_owned()
}

fn fifty() -> u64 {
    50
}

impl Fault {
    /// The plainest rule of a kind: every call, until replaced.
    pub fn new(kind: FaultKind) -> Self {
        Self {
            operation: every(),
            kind,
            code: None,
            message: None,
            status: None,
            body: None,
            delay_ms: 0,
            interval_ms: fifty(),
            retry_after: None,
            times: None,
            user: None,
            directory: None,
        }
    }

    fn matches(&self, operation: &str, user: Option<&str>, directory: Option<&str>) -> bool {
        let names = |wanted: &Option<String>, got: Option<&str>| {
            wanted
                .as_ref()
                .is_none_or(|name| got.is_some_and(|got| got.eq_ignore_ascii_case(name)))
        };
        (self.operation == "*" || self.operation == operation)
            && self.times != Some(0)
            && names(&self.user, user)
            && names(&self.directory, directory)
    }
}

/// The rules in force.
#[derive(Debug, Default)]
pub(crate) struct FaultBook(Mutex<Vec<Fault>>);

impl FaultBook {
    pub(crate) fn replace(&self, rules: Vec<Fault>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    pub(crate) fn list(&self) -> Vec<Fault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first rule that matches, used up by one.
    pub(crate) fn take(&self, operation: &str, user: Option<&str>, directory: Option<&str>) -> Option<Fault> {
        let mut rules = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rule = rules
            .iter_mut()
            .find(|rule| rule.matches(operation, user, directory))?;
        if let Some(times) = &mut rule.times {
            *times -= 1;
        }
        Some(rule.clone())
    }
}

/// What is left to do after [`before`] has waited.
#[derive(Debug)]
pub(crate) enum Course {
    /// Carry the call out; then [`after`] spoils the answer.
    Go(Option<Fault>),
    /// Do not carry it out, answer this.
    Stop(Reply),
    /// Do not carry it out, answer with the vendor's envelope for this rule.
    Refuse(Fault),
}

/// Waits and decides, before the call is carried out.
pub(crate) async fn before(fault: Option<Fault>) -> Course {
    let Some(fault) = fault else {
        return Course::Go(None);
    };
    if fault.delay_ms > 0 {
        sleep(Duration::from_millis(fault.delay_ms)).await;
    }
    match fault.kind {
        FaultKind::Error => Course::Refuse(fault),
        FaultKind::Status => {
            let status = fault
                .status
                .and_then(|code| StatusCode::from_u16(code).ok())
                .unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
            let body = fault.body.clone().unwrap_or_default();
            let mut answer = reply::response(status, "text/plain", body);
            add_retry_after(&mut answer, &fault);
            Course::Stop(Reply::Send(answer))
        }
        FaultKind::Close => Course::Stop(Reply::Close),
        FaultKind::Hang => Course::Stop(Reply::Hang),
        FaultKind::Malformed => Course::Stop(Reply::Send(reply::response(
            StatusCode::OK,
            "application/json",
            "{\"stat\": \"OK",
        ))),
        FaultKind::Lost | FaultKind::Slow | FaultKind::Cut | FaultKind::Delay => Course::Go(Some(fault)),
    }
}

/// Spoils the answer of a call that was carried out.
pub(crate) fn after(fault: Option<&Fault>, answer: Response<Body>) -> Reply {
    match fault.map(|fault| (fault.kind, fault.interval_ms)) {
        Some((FaultKind::Lost, _)) => Reply::Close,
        Some((FaultKind::Slow, interval)) => {
            Reply::Send(answer.map(|body| body.by_byte(Duration::from_millis(interval))))
        }
        Some((FaultKind::Cut, _)) => Reply::Send(answer.map(Body::cut)),
        _ => Reply::Send(answer),
    }
}

/// The `Retry-After` of a rule, if it has one.
pub(crate) fn add_retry_after(answer: &mut Response<Body>, fault: &Fault) {
    if let Some(seconds) = fault.retry_after {
        answer
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_used_up_and_the_next_one_follows() {
        let book = FaultBook::default();
        let once = Fault {
            times: Some(1),
            operation: "auth".into(),
            ..Fault::new(FaultKind::Close)
        };
        book.replace(vec![once, Fault::new(FaultKind::Cut)]);
        assert_eq!(book.take("auth", None, None).unwrap().kind, FaultKind::Close);
        assert_eq!(book.take("auth", None, None).unwrap().kind, FaultKind::Cut);
    }

    #[test]
    fn a_rule_for_one_user_leaves_the_others_alone() {
        let book = FaultBook::default();
        book.replace(vec![Fault {
            user: Some("alice".into()),
            ..Fault::new(FaultKind::Close)
        }]);
        assert!(book.take("auth", Some("bob"), None).is_none());
        assert!(book.take("auth", None, None).is_none());
        assert!(book.take("auth", Some("Alice"), None).is_some());
    }
}
