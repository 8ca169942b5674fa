//! From an HTTP request to an endpoint and back.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use tracing::debug;

use super::{Simulator, factors::Answered, failure::Failure, oauth::Asked};
use crate::{
    fault::{self, Course},
    reply::{self, Body, Reply},
    serve::Service,
    tls::TlsFace,
};

const BODY: usize = 64 << 10;
/// What the headers say where no limit is set.
const UNLIMITED: u64 = 600;

/// What a path means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Token,
    User(String),
    Factors(String),
    Factor(String, String),
    Verify(String, String),
    Poll(String, String, String),
    Cancel(String, String, String),
}

impl Endpoint {
    /// The path's segments as an endpoint; `None` is a path that is not offered, or not with this method.
    fn of(method: &Method, path: &str) -> Option<Self> {
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let segments: Vec<String> = path.split('/').skip(1).map(decode).collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let own = |text: &str| text.to_owned();
        match (method, segments.as_slice()) {
            (&Method::POST, ["oauth2", "v1", "token"]) => Some(Self::Token),
            (&Method::GET, ["api", "v1", "users", user]) => Some(Self::User(own(user))),
            (&Method::GET, ["api", "v1", "users", user, "factors"]) => Some(Self::Factors(own(user))),
            (&Method::GET, ["api", "v1", "users", user, "factors", factor]) => {
                Some(Self::Factor(own(user), own(factor)))
            }
            (&Method::POST, ["api", "v1", "users", user, "factors", factor, "verify"]) => {
                Some(Self::Verify(own(user), own(factor)))
            }
            (&Method::GET, ["api", "v1", "users", user, "factors", factor, "transactions", id]) => {
                Some(Self::Poll(own(user), own(factor), own(id)))
            }
            (&Method::DELETE, ["api", "v1", "users", user, "factors", factor, "transactions", id]) => {
                Some(Self::Cancel(own(user), own(factor), own(id)))
            }
            _ => None,
        }
    }

    /// The word for counters and fault rules.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::User(_) => "user",
            Self::Factors(_) | Self::Factor(..) => "factors",
            Self::Verify(..) => "verify",
            Self::Poll(..) => "poll",
            Self::Cancel(..) => "cancel",
        }
    }

    /// What an OAuth client needs for it.
    fn scope(&self) -> &'static str {
        match self {
            Self::Token | Self::User(_) | Self::Factors(_) | Self::Factor(..) => "okta.users.read",
            Self::Verify(..) | Self::Poll(..) | Self::Cancel(..) => "okta.users.manage",
        }
    }

    fn user(&self) -> Option<&str> {
        match self {
            Self::Token => None,
            Self::User(user) | Self::Factors(user) | Self::Factor(user, _) | Self::Verify(user, _) => {
                Some(user)
            }
            Self::Poll(user, ..) | Self::Cancel(user, ..) => Some(user),
        }
    }
}

/// A call that was read.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) endpoint: Endpoint,
    pub(super) body: Bytes,
    pub(super) origin: String,
    pub(super) user_agent: String,
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

impl Service for Simulator {
    fn face(&self) -> TlsFace {
        self.settings().tls
    }

    async fn answer(&self, request: Request<Incoming>) -> Reply {
        let (parts, body) = request.into_parts();
        let Ok(body) = Limited::new(body, BODY).collect().await else {
            return reply::response(StatusCode::PAYLOAD_TOO_LARGE, "text/plain", "body too large").into();
        };
        let Some(endpoint) = Endpoint::of(&parts.method, parts.uri.path()) else {
            self.count("unknown", Some("E0000022"));
            return self.with_rate(Failure::api("E0000022").response(None)).into();
        };
        let name = endpoint.name();
        // Rules name a login; the path has an id where the client looked it up.
        let login = endpoint
            .user()
            .and_then(|user| self.people.find(user))
            .map(|found| found.user.login.clone());
        let login = login.or_else(|| endpoint.user().map(str::to_owned));
        match fault::before(self.faults.take(name, login.as_deref(), None)).await {
            Course::Stop(reply) => {
                self.count(name, Some("fault"));
                reply
            }
            Course::Refuse(rule) => {
                let code = rule.code.as_deref().unwrap_or("E0000009");
                self.count(name, Some(code));
                let failure = Failure::Api {
                    code: code.to_owned(),
                    summary: rule.message.clone(),
                    cause: None,
                };
                let mut response = self.with_rate(failure.response(rule.status));
                fault::add_retry_after(&mut response, &rule);
                response.into()
            }
            Course::Go(rule) => {
                let response = match self.carry_out(endpoint, &parts, body.to_bytes()) {
                    Ok(response) => {
                        self.count(name, None);
                        response
                    }
                    Err(failure) => {
                        debug!(endpoint = name, error = failure.name(), "refused");
                        self.count(name, Some(failure.name()));
                        failure.response(None)
                    }
                };
                fault::after(rule.as_ref(), self.with_rate(response))
            }
        }
    }
}

impl Simulator {
    fn carry_out(&self, endpoint: Endpoint, parts: &Parts, body: Bytes) -> Result<Response<Body>, Failure> {
        let settings = self.settings();
        let host = text(&parts.headers, "host");
        let authority = parts.uri.authority().map_or(host, http::uri::Authority::as_str);
        let scheme = if self.is_https { "https" } else { "http" };
        let origin = format!("{scheme}://{authority}");
        let user_agent: String = text(&parts.headers, "user-agent").chars().take(200).collect();
        if settings.require_user_agent && user_agent.is_empty() {
            return Err(Failure::because("E0000006", "A User-Agent is needed."));
        }
        let url = format!("{origin}{}", parts.uri.path());
        let asked = Asked {
            method: parts.method.as_str(),
            url: &url,
            authorization: text(&parts.headers, header::AUTHORIZATION.as_str()),
            proof: text(&parts.headers, "dpop"),
        };
        let now = Timestamp::now();
        if endpoint == Endpoint::Token {
            let answer = self.tokens.issue(&form(&body), asked, &settings, now)?;
            return Ok(reply::json(StatusCode::OK, &answer));
        }
        if !self.rate.take(settings.rate_limit_per_minute, now.as_second()) {
            return Err(Failure::api("E0000047"));
        }
        self.tokens.authorise(asked, endpoint.scope(), &settings, now)?;
        let call = Call {
            endpoint,
            body,
            origin,
            user_agent,
        };
        let Answered { status, body } = self.factors_api(&call, &settings, now)?;
        Ok(match body {
            Some(body) => reply::json(status, &body),
            None => reply::response(status, "application/json", ""),
        })
    }

    fn with_rate(&self, mut response: Response<Body>) -> Response<Body> {
        let limit = self.settings().rate_limit_per_minute;
        let (remaining, reset) = self.rate.shown(limit, Timestamp::now().as_second());
        let limit = if limit == 0 { UNLIMITED } else { limit };
        let remaining = remaining.unwrap_or(UNLIMITED - 1);
        reply::set_header(&mut response, "x-rate-limit-limit", &limit.to_string());
        reply::set_header(&mut response, "x-rate-limit-remaining", &remaining.to_string());
        reply::set_header(&mut response, "x-rate-limit-reset", &reset.to_string());
        reply::set_header(
            &mut response,
            "x-okta-request-id",
            &uuid::Uuid::new_v4().simple().to_string(),
        );
        response
    }
}

fn form(body: &[u8]) -> BTreeMap<String, String> {
    let decode = |text: &str| {
        percent_decode_str(&text.replace('+', " "))
            .decode_utf8_lossy()
            .into_owned()
    };
    String::from_utf8_lossy(body)
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_in_a_path_is_decoded() {
        let endpoint = Endpoint::of(&Method::GET, "/api/v1/users/alice%40corp.example.com");
        assert_eq!(endpoint, Some(Endpoint::User("alice@corp.example.com".into())));
        assert_eq!(Endpoint::of(&Method::DELETE, "/api/v1/users/alice"), None);
    }
}
