//! Okta's error envelopes: the API's own, and OAuth's (RFC 6749 section 5.2).

use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::reply::{self, Body};

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// `E0000…`
    Api {
        code: String,
        summary: Option<String>,
        cause: Option<String>,
    },
    /// `invalid_client` and its like.
    OAuth {
        error: &'static str,
        description: String,
        nonce: Option<String>,
    },
}

impl Failure {
    pub(super) fn api(code: &str) -> Self {
        Self::Api {
            code: code.to_owned(),
            summary: None,
            cause: None,
        }
    }

    pub(super) fn because(code: &str, cause: &str) -> Self {
        Self::Api {
            code: code.to_owned(),
            summary: None,
            cause: Some(cause.to_owned()),
        }
    }

    pub(super) fn no_resource(what: &str) -> Self {
        let summary = format!("Not found: Resource not found: {what}");
        Self::Api {
            code: "E0000007".to_owned(),
            summary: Some(summary),
            cause: None,
        }
    }

    pub(super) fn oauth(error: &'static str, description: &str) -> Self {
        Self::OAuth {
            error,
            description: description.to_owned(),
            nonce: None,
        }
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Self::Api { code, .. } => code,
            Self::OAuth { error, .. } => error,
        }
    }

    pub(super) fn response(&self, status: Option<u16>) -> Response<Body> {
        let forced = status.and_then(|status| StatusCode::from_u16(status).ok());
        match self {
            Self::Api { code, summary, cause } => {
                let (status, usual) = known(code);
                let causes: Vec<Value> = cause.iter().map(|cause| json!({"errorSummary": cause})).collect();
                let body = json!({
                    "errorCode": code,
                    "errorSummary": summary.as_deref().unwrap_or(usual),
                    "errorLink": code,
                    "errorId": format!("oae{}", uuid::Uuid::new_v4().simple()),
                    "errorCauses": causes,
                });
                let mut response = reply::json(forced.unwrap_or(status), &body);
                if status == StatusCode::UNAUTHORIZED {
                    reply::set_header(
                        &mut response,
                        "www-authenticate",
                        "Bearer error=\"invalid_token\"",
                    );
                }
                response
            }
            Self::OAuth {
                error,
                description,
                nonce,
            } => {
                let status = if *error == "invalid_client" {
                    StatusCode::UNAUTHORIZED
                } else {
                    StatusCode::BAD_REQUEST
                };
                let body = json!({"error": error, "error_description": description});
                let mut response = reply::json(forced.unwrap_or(status), &body);
                if let Some(nonce) = nonce {
                    reply::set_header(&mut response, "dpop-nonce", nonce);
                }
                response
            }
        }
    }
}

fn known(code: &str) -> (StatusCode, &'static str) {
    match code {
        "E0000001" => (StatusCode::BAD_REQUEST, "Api validation failed"),
        "E0000003" => (StatusCode::BAD_REQUEST, "The request body was not well-formed."),
        "E0000004" => (StatusCode::UNAUTHORIZED, "Authentication failed"),
        "E0000006" => (
            StatusCode::FORBIDDEN,
            "You do not have permission to perform the requested action",
        ),
        "E0000007" => (StatusCode::NOT_FOUND, "Not found: Resource not found"),
        "E0000009" => (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"),
        "E0000010" => (StatusCode::SERVICE_UNAVAILABLE, "Service is in read only mode"),
        "E0000011" => (StatusCode::UNAUTHORIZED, "Invalid token provided"),
        "E0000015" => (
            StatusCode::UNAUTHORIZED,
            "You do not have permission to access the feature you are requesting",
        ),
        "E0000022" => (
            StatusCode::METHOD_NOT_ALLOWED,
            "The endpoint does not support the provided HTTP method",
        ),
        "E0000038" => (
            StatusCode::FORBIDDEN,
            "This operation is not allowed in the user's current status.",
        ),
        "E0000047" => (
            StatusCode::TOO_MANY_REQUESTS,
            "API call exceeded rate limit due to too many requests.",
        ),
        "E0000068" => (StatusCode::FORBIDDEN, "Invalid Passcode/Answer"),
        "E0000069" => (StatusCode::FORBIDDEN, "User Locked"),
        "E0000079" => (
            StatusCode::FORBIDDEN,
            "This operation is not allowed in the current authentication state.",
        ),
        "E0000082" => (
            StatusCode::FORBIDDEN,
            "Each code can only be used once. Please wait for a new code and try again.",
        ),
        "E0000109" => (
            StatusCode::TOO_MANY_REQUESTS,
            "An SMS message was recently sent. Please wait 30 seconds before trying again.",
        ),
        "E0000119" => (
            StatusCode::FORBIDDEN,
            "Your account is locked. Please contact your administrator.",
        ),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "Error"),
    }
}
