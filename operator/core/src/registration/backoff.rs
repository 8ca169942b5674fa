//! When a write that failed is retried, and by which operation.

use std::time::Duration;

use jiff::Timestamp;

use super::record::FAILED;
use crate::api::LastFailure;
use crate::aws::{AwsErrorClass, AwsOperation};
use crate::time;

/// When the same settings may be retried, and when other settings may be tried.
pub(crate) fn retry_at(failure: &LastFailure) -> (Timestamp, Timestamp) {
    let (same, other) = delays(failure);
    (
        time::after(&failure.time, same),
        time::after(&failure.time, other),
    )
}

/// The operation that AWS's last answer asks for instead.
pub(crate) fn fallback(failure: &LastFailure) -> Option<AwsOperation> {
    let operation = AwsOperation::from_name(failure.operation.as_deref()?)?;
    match (operation, AwsErrorClass::from_name(&failure.kind)?) {
        (AwsOperation::EnableRadius, AwsErrorClass::AlreadyExists | AwsErrorClass::Refused) => {
            Some(AwsOperation::UpdateRadius)
        }
        (AwsOperation::UpdateRadius, AwsErrorClass::NotFound | AwsErrorClass::Refused) => {
            Some(AwsOperation::EnableRadius)
        }
        _ => None,
    }
}

/// How long to wait before a retry of the same settings, and before other settings.
fn delays(failure: &LastFailure) -> (Duration, Duration) {
    let seconds = Duration::from_secs;
    let doubling = |first: u64, most: u64| {
        let factor = 1_u64 << failure.count.saturating_sub(1).min(16);
        seconds(first.saturating_mul(factor).min(most))
    };
    if failure.kind == FAILED {
        // Each try blocks logins while AWS works on it.
        let same = match failure.count {
            0 | 1 => 300,
            2 => 900,
            _ => 3600,
        };
        return (seconds(same), Duration::ZERO);
    }
    let Some(class) = AwsErrorClass::from_name(&failure.kind) else {
        return (seconds(60), seconds(60));
    };
    match class {
        AwsErrorClass::NotSent => (seconds(5), seconds(5)),
        AwsErrorClass::Throttled => (doubling(5, 300), doubling(5, 300)),
        AwsErrorClass::NoCredentials
        | AwsErrorClass::InvalidCredentials
        | AwsErrorClass::AccessDenied
        | AwsErrorClass::Service
        | AwsErrorClass::Unreachable => (doubling(10, 300), doubling(10, 300)),
        // The other operation is tried at once, then both take their time.
        AwsErrorClass::NotFound | AwsErrorClass::AlreadyExists | AwsErrorClass::Refused
            if failure.count <= 1 =>
        {
            (Duration::ZERO, Duration::ZERO)
        }
        AwsErrorClass::NotFound
        | AwsErrorClass::AlreadyExists
        | AwsErrorClass::Refused
        | AwsErrorClass::InvalidParameter
        | AwsErrorClass::Unsupported => (doubling(30, 600), seconds(10)),
    }
}
