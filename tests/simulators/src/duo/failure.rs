//! Duo's error envelope.

use http::{Response, StatusCode};
use serde_json::json;

use crate::reply::{self, Body};

/// A `stat: FAIL` answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) code: u32,
    pub(super) message: Option<String>,
    /// The parameter that is meant.
    pub(super) detail: Option<String>,
}

impl Failure {
    pub(super) const fn new(code: u32) -> Self {
        Self {
            code,
            message: None,
            detail: None,
        }
    }

    /// 40001 or 40002 about a parameter.
    pub(super) fn about(code: u32, parameter: &str) -> Self {
        Self {
            code,
            message: None,
            detail: Some(parameter.to_owned()),
        }
    }

    fn message(&self) -> &str {
        match (&self.message, self.code) {
            (Some(message), _) => message,
            (None, 40001) => "Missing required request parameters",
            (None, 40002) => "Invalid request parameters",
            (None, 40101) => "Missing request credentials",
            (None, 40102) => "Invalid integration key in request credentials",
            (None, 40103) => "Invalid signature in request credentials",
            (None, 40104) => "Missing request timestamp",
            (None, 40105) => "Invalid or bad request timestamp",
            (None, 40301) => "Access forbidden",
            (None, 40401) => "Resource not found",
            (None, 40501) => "Method not allowed",
            (None, 42901) => "Too Many Requests",
            (None, 50000..) => "Server error",
            (None, _) => "Error",
        }
    }

    pub(super) fn response(&self, status: Option<u16>) -> Response<Body> {
        // The HTTP status is the code's first three digits.
        let own = u16::try_from(self.code / 100).ok();
        let status = status
            .or(own)
            .and_then(|status| StatusCode::from_u16(status).ok())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut body = json!({"stat": "FAIL", "code": self.code, "message": self.message()});
        if let (Some(detail), Some(body)) = (&self.detail, body.as_object_mut()) {
            body.insert("message_detail".to_owned(), json!(detail));
        }
        reply::json(status, &body)
    }
}
