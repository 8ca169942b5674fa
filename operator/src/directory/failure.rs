//! From the SDK's errors to the few kinds that decisions depend on.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_directory::config::http::HttpResponse;
use aws_sdk_directory::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_directory::operation::RequestId;
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use operator_core::aws::{AwsErrorClass, AwsFailure, AwsOperation};

use crate::error::message as chain;

/// Longer messages are cut.
const MAX_MESSAGE: usize = 400;

/// A failed call that sent no secret.
pub(super) fn from_sdk<E>(operation: AwsOperation, error: &SdkError<E, HttpResponse>) -> AwsFailure
where
    E: ProvideErrorMetadata + RequestId + Error + 'static,
{
    from_sdk_without(None, operation, error)
}

/// A failed call that sent `secret`: AWS quotes values that it refuses.
pub(super) fn from_sdk_without<E>(
    secret: Option<&str>,
    operation: AwsOperation,
    error: &SdkError<E, HttpResponse>,
) -> AwsFailure
where
    E: ProvideErrorMetadata + RequestId + Error + 'static,
{
    if let Some(credentials) = find::<CredentialsError>(error) {
        return from_credentials(operation, credentials);
    }
    let status = error.raw_response().map(|raw| raw.status().as_u16());
    let request_id = error.request_id().map(str::to_owned);
    let (class, message) = match error {
        SdkError::ServiceError(service) => {
            let meta = service.err().meta();
            (
                of_code(meta.code(), status),
                text(meta.code(), meta.message(), status),
            )
        }
        // An answer that cannot be read says nothing about what was done.
        SdkError::ResponseError(_) => (AwsErrorClass::Service, chain(error)),
        SdkError::ConstructionFailure(_) => (AwsErrorClass::InvalidParameter, chain(error)),
        _ => (AwsErrorClass::Unreachable, chain(error)),
    };
    AwsFailure {
        operation,
        class,
        message: clip(without(secret, message)),
        request_id,
    }
}

/// Credentials that could not be had: by the operator itself, or by assuming a grant's role.
pub(super) fn from_credentials(operation: AwsOperation, error: &CredentialsError) -> AwsFailure {
    let inner = error.source();
    if let Some(assume) = inner.and_then(find::<SdkError<AssumeRoleError, HttpResponse>>) {
        return from_sdk(AwsOperation::AssumeRole, assume);
    }
    let message = match error {
        CredentialsError::CredentialsNotLoaded(_) => {
            "no source of credentials has any (environment, profile, web identity, container, instance)"
                .to_owned()
        }
        other => chain(other),
    };
    AwsFailure {
        operation,
        class: AwsErrorClass::NoCredentials,
        message: clip(message),
        request_id: None,
    }
}

/// A failure that the operator noticed itself, without an answer from AWS.
pub(super) fn own(operation: AwsOperation, class: AwsErrorClass, message: impl Into<String>) -> AwsFailure {
    AwsFailure {
        operation,
        class,
        message: message.into(),
        request_id: None,
    }
}

/// The kind by the error's name; by the status where the name says nothing.
fn of_code(code: Option<&str>, status: Option<u16>) -> AwsErrorClass {
    match code.unwrap_or_default() {
        "AccessDeniedException" | "AccessDenied" | "UnauthorizedOperation" | "NotAuthorized" => {
            AwsErrorClass::AccessDenied
        }
        "ThrottlingException"
        | "Throttling"
        | "ThrottledException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "SlowDown" => AwsErrorClass::Throttled,
        "EntityDoesNotExistException" | "DirectoryDoesNotExistException" => AwsErrorClass::NotFound,
        "EntityAlreadyExistsException" => AwsErrorClass::AlreadyExists,
        "InvalidParameterException"
        | "ValidationException"
        | "ValidationError"
        | "InvalidNextTokenException"
        | "SerializationException" => AwsErrorClass::InvalidParameter,
        "UnsupportedOperationException" => AwsErrorClass::Unsupported,
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "MissingAuthenticationTokenException"
        | "MissingAuthenticationToken"
        | "IncompleteSignatureException"
        | "IncompleteSignature" => AwsErrorClass::InvalidCredentials,
        "ServiceException"
        | "InternalFailure"
        | "InternalServerError"
        | "ServiceUnavailable"
        | "ServiceUnavailableException" => AwsErrorClass::Service,
        _ => match status {
            Some(429) => AwsErrorClass::Throttled,
            Some(500..) | None => AwsErrorClass::Service,
            Some(_) => AwsErrorClass::Refused,
        },
    }
}

fn text(code: Option<&str>, message: Option<&str>, status: Option<u16>) -> String {
    match (code, message) {
        (Some(code), Some(message)) if !message.is_empty() => format!("{code}: {message}"),
        (Some(code), _) => code.to_owned(),
        (None, Some(message)) => message.to_owned(),
        (None, None) => format!("HTTP status {}", status.unwrap_or_default()),
    }
}

fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(current) = next {
        if let Some(found) = current.downcast_ref() {
            return Some(found);
        }
        next = current.source();
    }
    None
}

/// Before anything is cut off: half a secret is not found any more, and still half a secret.
fn without(secret: Option<&str>, text: String) -> String {
    match secret {
        Some(secret) if !secret.is_empty() => text.replace(secret, "[redacted]"),
        _ => text,
    }
}

fn clip(mut text: String) -> String {
    text.retain(|c| !c.is_control());
    if text.len() > MAX_MESSAGE {
        let end = text.floor_char_boundary(MAX_MESSAGE);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_aws_does_not_declare_are_known_too() {
        for (code, class) in [
            ("AccessDeniedException", AwsErrorClass::AccessDenied),
            ("ThrottlingException", AwsErrorClass::Throttled),
            ("ExpiredTokenException", AwsErrorClass::InvalidCredentials),
            ("UnrecognizedClientException", AwsErrorClass::InvalidCredentials),
            ("ValidationException", AwsErrorClass::InvalidParameter),
            ("ClientException", AwsErrorClass::Refused),
            ("SomethingNew", AwsErrorClass::Refused),
        ] {
            assert_eq!(of_code(Some(code), Some(400)), class, "{code}");
        }
        assert_eq!(of_code(None, Some(503)), AwsErrorClass::Service);
        assert_eq!(of_code(Some("SomethingNew"), Some(500)), AwsErrorClass::Service);
        assert_eq!(of_code(None, Some(429)), AwsErrorClass::Throttled);
    }

    #[test]
    fn a_chain_of_credentials_without_any_says_so() {
        let failure = from_credentials(
            AwsOperation::DescribeDirectories,
            &CredentialsError::not_loaded("no providers in chain provided credentials"),
        );
        assert_eq!(failure.class, AwsErrorClass::NoCredentials);
        assert!(failure.message.contains("no source of credentials"), "{failure}");
    }

    #[test]
    fn a_secret_that_aws_quotes_is_nowhere_in_the_message_however_long_it_is() {
        use aws_sdk_directory::config::http::HttpResponse;
        use aws_sdk_directory::error::ErrorMetadata;
        use aws_sdk_directory::operation::enable_radius::EnableRadiusError;
        use aws_sdk_directory::types::error::InvalidParameterException;

        let long = "sEcReT9-".repeat(64);
        for (secret, before) in [
            (long.as_str(), 20),
            (&long[..40], MAX_MESSAGE - 60),
            (&long[..8], 0),
        ] {
            let text = format!("{} SharedSecret {secret} is not valid", "x".repeat(before));
            let meta = ErrorMetadata::builder().message(text).build();
            let refused = InvalidParameterException::builder().meta(meta).build();
            let raw = HttpResponse::new(400.try_into().unwrap(), Vec::new().into());
            let error = SdkError::service_error(EnableRadiusError::InvalidParameterException(refused), raw);
            let failure = from_sdk_without(Some(secret), AwsOperation::EnableRadius, &error);
            assert!(!failure.message.contains("sEcReT"), "{failure}");
            assert!(failure.message.contains("[redacted]"), "{failure}");
        }
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let cut = clip("ä".repeat(1000));
        assert!(cut.len() <= MAX_MESSAGE + '…'.len_utf8() && cut.ends_with('…'));
    }
}
