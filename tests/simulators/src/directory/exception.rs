//! The exceptions of AWS JSON 1.1.

use http::{Response, StatusCode};
use serde_json::json;

use crate::{
    reply::{self, Body},
    sigv4::Refused,
};

/// An exception as it goes over the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exception {
    /// `EntityDoesNotExistException` and its like.
    pub(crate) name: String,
    pub(crate) message: String,
}

/// Exceptions that the service's model declares: they carry `Message` and `RequestId`. The others come from AWS's front end,
/// have a name with its namespace, and `message` in small letters.
const MODELLED: [&str; 11] = [
    "AccessDeniedException",
    "ClientException",
    "DirectoryDoesNotExistException",
    "DirectoryUnavailableException",
    "EntityAlreadyExistsException",
    "EntityDoesNotExistException",
    "InvalidNextTokenException",
    "InvalidParameterException",
    "ServiceException",
    "TagLimitExceededException",
    "UnsupportedOperationException",
];

impl Exception {
    pub(crate) fn new(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            message: message.into(),
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new("InvalidParameterException", message)
    }

    pub(crate) fn no_directory(id: &str) -> Self {
        Self::new(
            "EntityDoesNotExistException",
            format!("Directory {id} does not exist."),
        )
    }

    pub(crate) fn throttled() -> Self {
        Self::new("ThrottlingException", "Rate exceeded")
    }

    /// An injected exception: the text that AWS would say, unless the rule brings its own.
    pub(crate) fn injected(name: &str, message: Option<&str>) -> Self {
        let usual = match name {
            "ThrottlingException" => "Rate exceeded",
            "ExpiredTokenException" => "The security token included in the request is expired",
            "UnrecognizedClientException" => "The security token included in the request is invalid.",
            "AccessDeniedException" => "User is not authorized to perform this operation.",
            "ServiceException" | "InternalFailure" => "An internal service error has occurred.",
            "ServiceUnavailable" => "The service is unavailable.",
            _ => "Injected by a fault rule.",
        };
        Self::new(name, message.unwrap_or(usual))
    }

    /// 5xx for what is the service's own doing.
    pub(crate) fn status(&self) -> StatusCode {
        match self.name.as_str() {
            "ServiceException" | "InternalFailure" => StatusCode::INTERNAL_SERVER_ERROR,
            "ServiceUnavailable" => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    pub(crate) fn response(&self, status: Option<StatusCode>, request_id: &str) -> Response<Body> {
        let body = match MODELLED.contains(&self.name.as_str()) {
            true => json!({"__type": self.name, "Message": self.message, "RequestId": request_id}),
            false => {
                json!({"__type": format!("com.amazon.coral.service#{}", self.name), "message": self.message})
            }
        };
        reply::response(
            status.unwrap_or_else(|| self.status()),
            CONTENT_TYPE,
            body.to_string(),
        )
    }
}

pub(crate) const CONTENT_TYPE: &str = "application/x-amz-json-1.1";

impl From<Refused> for Exception {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Missing => Self::new(
                "MissingAuthenticationTokenException",
                "Missing Authentication Token",
            ),
            Refused::Incomplete(what) => Self::new("IncompleteSignatureException", what),
            Refused::UnknownKey => Self::new(
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
            ),
            Refused::WrongScope(what) => Self::new("InvalidSignatureException", what),
            Refused::Skewed {
                signed,
                now,
                late: true,
            } => Self::new(
                "InvalidSignatureException",
                format!("Signature expired: {signed} is now earlier than {now} - 5 min."),
            ),
            Refused::Skewed {
                signed,
                now,
                late: false,
            } => Self::new(
                "InvalidSignatureException",
                format!("Signature not yet current: {signed} is still later than {now} + 5 min."),
            ),
            Refused::Different => Self::new(
                "InvalidSignatureException",
                "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
                 Access Key and signing method. Consult the service documentation for details.",
            ),
        }
    }
}
