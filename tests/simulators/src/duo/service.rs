//! From an HTTP request to an endpoint and back.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use jiff::{SignedDuration, Timestamp};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tracing::debug;

use super::{
    Call, Simulator,
    failure::Failure,
    signature::{self, Proven, Signed},
};
use crate::{
    fault::{self, Course},
    reply::{self, Body, Reply},
    serve::Service,
    tls::TlsFace,
};

/// A push's information is below 20,000 bytes; the rest is small.
const BODY: usize = 128 << 10;

impl Service for Simulator {
    fn face(&self) -> TlsFace {
        self.settings().tls
    }

    async fn answer(&self, request: Request<Incoming>) -> Reply {
        let (parts, body) = request.into_parts();
        let Ok(body) = Limited::new(body, BODY).collect().await else {
            return reply::response(StatusCode::PAYLOAD_TOO_LARGE, "text/plain", "body too large").into();
        };
        let endpoint = match parts.uri.path() {
            "/auth/v2/ping" => "ping",
            "/auth/v2/check" => "check",
            "/auth/v2/preauth" => "preauth",
            "/auth/v2/auth" => "auth",
            "/auth/v2/auth_status" => "auth_status",
            "/auth/v2/logo" => "logo",
            _ => return self.refuse("unknown", &Failure::new(40401)).into(),
        };
        let call = match read(endpoint, &parts, body.to_bytes()) {
            Ok(call) => call,
            Err(failure) => return self.refuse(endpoint, &failure).into(),
        };
        let user = self.user_of(&call);
        match fault::before(self.faults.take(endpoint, user.as_deref(), None)).await {
            Course::Stop(reply) => {
                self.counters.error("fault");
                self.counters.call(endpoint, &parts);
                reply
            }
            Course::Refuse(rule) => {
                self.counters.call(endpoint, &parts);
                let code = rule
                    .code
                    .as_deref()
                    .and_then(|code| code.parse().ok())
                    .unwrap_or(50000);
                let failure = Failure {
                    code,
                    message: rule.message.clone(),
                    detail: None,
                };
                self.counters.error(&failure.code.to_string());
                self.refused(user.as_deref());
                let mut response = failure.response(rule.status);
                fault::add_retry_after(&mut response, &rule);
                response.into()
            }
            Course::Go(rule) => {
                self.counters.call(endpoint, &parts);
                let response = match self.endpoint(&call, &parts).await {
                    Ok(value) => value,
                    Err(failure) => {
                        self.refused(user.as_deref());
                        self.refuse(endpoint, &failure)
                    }
                };
                fault::after(rule.as_ref(), response)
            }
        }
    }
}

impl Simulator {
    /// Counts a refused call with the user that it is about.
    fn refused(&self, user: Option<&str>) {
        if let Some(account) = user.and_then(|user| self.accounts.find(user)) {
            account.count(|counts| counts.refused += 1);
        }
    }

    fn refuse(&self, endpoint: &str, failure: &Failure) -> Response<Body> {
        debug!(endpoint, code = failure.code, detail = failure.detail, "refused");
        self.counters.error(&failure.code.to_string());
        let mut response = failure.response(None);
        let retry_after = self.settings().retry_after;
        if failure.code == 42901 && retry_after > 0 {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, retry_after.into());
        }
        response
    }

    /// Duo's clock, which may be off on purpose.
    fn clock(&self) -> Timestamp {
        let offset = SignedDuration::from_secs(self.settings().clock_offset_seconds);
        Timestamp::now().checked_add(offset).unwrap_or_default()
    }

    async fn endpoint(&self, call: &Call, parts: &Parts) -> Result<Response<Body>, Failure> {
        let posted = matches!(call.endpoint, "preauth" | "auth");
        if (parts.method == Method::POST) != posted || !(posted || parts.method == Method::GET) {
            return Err(Failure::new(40501));
        }
        let mut call = call.clone();
        if call.endpoint != "ping" {
            let proven = self.check_signature(&call, parts)?;
            self.counters.signature(proven.signature);
            call.signature = proven.signature;
            call.ikey = proven.ikey;
        }
        let value = match call.endpoint {
            "ping" | "check" => json!({"time": self.clock().as_second()}),
            "preauth" => self.preauth(&call)?,
            "auth" => self.auth(&call).await?,
            "auth_status" => self.auth_status(&call).await?,
            _ => return Ok(reply::response(StatusCode::OK, "image/png", PIXEL)),
        };
        Ok(with_date(
            reply::json(StatusCode::OK, &json!({"stat": "OK", "response": value})),
            self.settings().clock_offset_seconds,
            self.clock(),
        ))
    }

    fn check_signature(&self, call: &Call, parts: &Parts) -> Result<Proven, Failure> {
        let host = host(parts);
        let request = Signed {
            method: &parts.method,
            host: &host,
            path: parts.uri.path(),
            query: &call.query,
            form: &call.form,
            headers: &parts.headers,
            body: &call.body,
            is_json: call.is_json,
        };
        let settings = self.settings();
        let proven = signature::verify(request, &settings, self.clock())?;
        match settings.integration_permitted {
            true => Ok(proven),
            false => Err(Failure::new(40301)),
        }
    }
}

/// The Date header of an answer is Duo's clock too; hyper sets the true one when there is none.
fn with_date(mut response: Response<Body>, offset: i64, clock: Timestamp) -> Response<Body> {
    if offset != 0 {
        reply::set_header(
            &mut response,
            "date",
            &clock.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string(),
        );
    }
    response
}

/// A one-pixel PNG: the logo of an account that has none.
const PIXEL: &[u8] = &[
    0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 0x0d, b'I', b'H', b'D', b'R', 0, 0, 0, 1, 0, 0,
    0, 1, 8, 6, 0, 0, 0, 0x1f, 0x15, 0xc4, 0x89, 0, 0, 0, 0x0d, b'I', b'D', b'A', b'T', 0x78, 0x9c, 0x63, 0,
    1, 0, 0, 5, 0, 1, 0x0d, 0x0a, 0x2d, 0xb4, 0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60, 0x82,
];

fn host(parts: &Parts) -> String {
    let named = parts
        .headers
        .get(header::HOST)
        .and_then(|value| value.to_str().ok());
    let named = named
        .or_else(|| parts.uri.authority().map(http::uri::Authority::as_str))
        .unwrap_or_default();
    // Without the port, also where the host is an IPv6 address in brackets.
    match named.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host.to_owned(),
        _ => named.to_owned(),
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

fn read(endpoint: &'static str, parts: &Parts, body: Bytes) -> Result<Call, Failure> {
    let is_json = text(&parts.headers, header::CONTENT_TYPE).starts_with("application/json");
    let (form, json) = match is_json {
        true => (Vec::new(), read_json(&body)?),
        false => (pairs(&String::from_utf8_lossy(&body)), Vec::new()),
    };
    let query = pairs(parts.uri.query().unwrap_or_default());
    let parameters = query.iter().chain(&form).chain(&json).cloned().collect();
    let user_agent = text(&parts.headers, header::USER_AGENT)
        .chars()
        .take(200)
        .collect();
    Ok(Call {
        endpoint,
        parameters,
        query,
        form,
        body,
        is_json,
        user_agent,
        ikey: String::new(),
        signature: "",
    })
}

fn read_json(body: &[u8]) -> Result<Vec<(String, String)>, Failure> {
    if body.is_empty() {
        return Ok(Vec::new());
    }
    let Ok(Value::Object(members)) = serde_json::from_slice(body) else {
        return Err(Failure::new(40002));
    };
    let plain = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    Ok(members
        .into_iter()
        .map(|(name, value)| (name, plain(value)))
        .collect())
}

fn pairs(text: &str) -> Vec<(String, String)> {
    let decode = |text: &str| {
        percent_decode_str(&text.replace('+', " "))
            .decode_utf8_lossy()
            .into_owned()
    };
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

impl Call {
    /// A parameter that is there and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(known, _)| known == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    pub(super) fn required(&self, name: &str) -> Result<&str, Failure> {
        self.get(name).ok_or_else(|| Failure::about(40001, name))
    }
}

/// Milliseconds as a duration.
pub(super) fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
