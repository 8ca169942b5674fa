//! What Duo answers: an envelope, with what was asked for or with a code that says what went wrong.

use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::choose::Device;
use crate::provider::fault::{Fault, FaultClass};
use crate::provider::http::Answer;

/// What Duo says about a user.
#[derive(Debug)]
pub(super) enum Preauth {
    /// The user needs no second factor (bypass).
    Allow(String),
    /// The user may not log in.
    Deny(String),
    /// The user has to enrol first.
    Enroll(String),
    /// The user has to prove a factor, with one of these devices.
    Auth(Vec<Device>),
}

/// How an authentication stands.
#[derive(Debug, Deserialize)]
pub(super) struct Outcome {
    /// `allow`, `deny` or `waiting`.
    pub result: String,
    /// Why: `allow`, `deny`, `timeout`, `fraud`, `sent`, …
    #[serde(default)]
    pub status: String,
    /// What the user may be shown.
    #[serde(default)]
    pub status_msg: String,
}

#[derive(Deserialize)]
struct Envelope<T> {
    stat: String,
    response: Option<T>,
    code: Option<u32>,
    message: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Time {
    pub time: i64,
}

#[derive(Deserialize)]
pub(super) struct PreauthResponse {
    pub result: String,
    #[serde(default)]
    pub status_msg: String,
    #[serde(default)]
    pub devices: Vec<Device>,
}

#[derive(Deserialize)]
pub(super) struct Transaction {
    pub txid: String,
}

/// A timestamp that Duo refuses: it is more than 300 s off.
pub(super) const BAD_TIME: u32 = 40105;

/// Takes Duo's envelope off, or classes the failure by its code.
pub(super) fn understand<T: DeserializeOwned>(answer: &Answer) -> Result<T, Fault> {
    let retry_after = answer
        .headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map(Duration::from_secs);
    let envelope: Option<Envelope<T>> = serde_json::from_slice(&answer.body).ok();
    let is_success =
        (200..=299).contains(&answer.status) && envelope.as_ref().is_some_and(|e| e.stat == "OK");
    if is_success {
        return envelope
            .and_then(|envelope| envelope.response)
            .ok_or_else(|| Fault::after_sending(FaultClass::Malformed, "the answer has no response"));
    }
    let class = match answer.status {
        200..=399 => FaultClass::Malformed,
        401 | 403 => FaultClass::Credentials,
        429 => FaultClass::Throttled,
        400..=499 => FaultClass::ClientError,
        _ => FaultClass::ServerError,
    };
    let code = envelope.as_ref().and_then(|envelope| envelope.code);
    let detail = match envelope {
        Some(Envelope {
            code: Some(code),
            message,
            ..
        }) => {
            let message: String = message
                .unwrap_or_default()
                .chars()
                .filter(|c| !c.is_control())
                .take(100)
                .collect();
            format!("{code} {message}")
        }
        _ => format!("HTTP status {} and no answer of Duo's API", answer.status),
    };
    Err(Fault {
        retry_after,
        code,
        ..Fault::after_sending(class, detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::{HeaderMap, HeaderValue};

    fn answer(status: u16, body: &str) -> Result<Time, Fault> {
        understand(&Answer {
            status,
            headers: HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("7"))]),
            body: body.as_bytes().to_vec(),
        })
    }

    #[test]
    fn each_answer_has_its_class() {
        assert_eq!(
            answer(200, r#"{"stat":"OK","response":{"time":7}}"#)
                .unwrap()
                .time,
            7
        );
        for (status, body, class) in [
            (200, "<html>", FaultClass::Malformed),
            (
                200,
                r#"{"stat":"OK","response":{"time":"x"}}"#,
                FaultClass::Malformed,
            ),
            (200, r#"{"stat":"OK"}"#, FaultClass::Malformed),
            (302, "", FaultClass::Malformed),
            (
                400,
                r#"{"stat":"FAIL","code":40002,"message":"Invalid request parameters"}"#,
                FaultClass::ClientError,
            ),
            (
                401,
                r#"{"stat":"FAIL","code":40103,"message":"Invalid signature"}"#,
                FaultClass::Credentials,
            ),
            (
                403,
                r#"{"stat":"FAIL","code":40301,"message":"Access forbidden"}"#,
                FaultClass::Credentials,
            ),
            (
                429,
                r#"{"stat":"FAIL","code":42901,"message":"Too many requests"}"#,
                FaultClass::Throttled,
            ),
            (500, "", FaultClass::ServerError),
            (503, "<html>", FaultClass::ServerError),
        ] {
            assert_eq!(answer(status, body).unwrap_err().class, class, "{status} {body}");
        }
        let fault = answer(
            429,
            r#"{"stat":"FAIL","code":42901,"message":"Too many\nrequests"}"#,
        )
        .unwrap_err();
        assert_eq!(fault.retry_after, Some(Duration::from_secs(7)));
        assert_eq!(fault.detail, "42901 Too manyrequests");
        assert_eq!(fault.code, Some(42901));
    }

    #[test]
    fn no_fuzz_of_an_answer_makes_it_panic() {
        let whole = r#"{"stat":"OK","response":{"result":"auth","status_msg":"x","devices":[{"device":"D","capabilities":["push"]}]}}"#;
        bolero::check!()
            .with_type::<(u16, Vec<u8>, u16, u8)>()
            .for_each(|(status, body, at, with)| {
                let mut changed = whole.as_bytes().to_vec();
                let at = usize::from(*at) % changed.len();
                changed[at] ^= with;
                for body in [body, &changed] {
                    let answer = Answer {
                        status: 200 + status % 400,
                        headers: HeaderMap::new(),
                        body: body.clone(),
                    };
                    let _ = understand::<PreauthResponse>(&answer);
                    if let Err(fault) = understand::<Outcome>(&answer) {
                        assert!(!fault.detail.chars().any(char::is_control), "{}", fault.detail);
                    }
                }
            });
    }
}
