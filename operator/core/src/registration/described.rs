//! The condition Described: whether the directory is known and can have RADIUS settings.

use std::time::Duration;

use jiff::Timestamp;

use super::{Candidate, RegistrationInput, messages};
use crate::api::{ConditionType, DirectoryRegistrationSpec};
use crate::aws::{AwsErrorClass, AwsFailure};
use crate::conditions::{ConditionDraft, ConditionStatus, Reason};
use crate::observed::{Directory, DirectoryKind, DirectoryObservation};
use crate::time;

/// How long a description counts when AWS does not answer.
const STALE: Duration = Duration::from_secs(600);

pub(super) fn described(input: &RegistrationInput, holder: &Candidate, now: Timestamp) -> ConditionDraft {
    let spec = &input.registration.spec;
    let (id, region) = (&spec.directory_id, &spec.region);
    let (status, (reason, message)) = if holder.granted {
        match &input.directory {
            DirectoryObservation::Unasked => {
                let message = format!("directory {id} in region {region} was not described yet");
                (ConditionStatus::Unknown, (Reason::DirectoryUnknown, message))
            }
            DirectoryObservation::Described(directory) => fit(directory, spec),
            DirectoryObservation::Failed { failure, last } => match last {
                Some(last) if passes(failure) && time::until(last.as_of, now) < STALE => fit(last, spec),
                _ => {
                    let status = if failure.class == AwsErrorClass::NotFound {
                        ConditionStatus::False
                    } else {
                        ConditionStatus::Unknown
                    };
                    (status, messages::aws_failure(failure, spec))
                }
            },
        }
    } else {
        let message = format!(
            "no DirectoryGrant allows namespace {} to use directory {id} in region {region}",
            holder.namespace
        );
        (ConditionStatus::False, (Reason::NoGrant, message))
    };
    ConditionDraft::new(ConditionType::Described, status, reason, message)
}

/// Whether a failure is temporary and on AWS's side, so that no one has to act.
const fn passes(failure: &AwsFailure) -> bool {
    matches!(
        failure.class,
        AwsErrorClass::Throttled | AwsErrorClass::Service | AwsErrorClass::Unreachable
    )
}

fn fit(directory: &Directory, spec: &DirectoryRegistrationSpec) -> (ConditionStatus, (Reason, String)) {
    let kind = directory.kind.as_str();
    let id = &spec.directory_id;
    let message = match &directory.kind {
        DirectoryKind::MicrosoftAd | DirectoryKind::AdConnector => {
            return (
                ConditionStatus::True,
                (Reason::Described, format!("directory {id} is a {kind}")),
            );
        }
        DirectoryKind::SharedMicrosoftAd => {
            let owner = directory.owner_account.as_deref().unwrap_or("its owner");
            format!(
                "directory {id} is a {kind}: its RADIUS settings belong to account {owner}. Use the directory there, by a \
                 DirectoryGrant with a role in that account"
            )
        }
        DirectoryKind::SimpleAd | DirectoryKind::Other(_) => format!(
            "directory {id} is a {kind}, which has no RADIUS; AWS Managed Microsoft AD and AD Connector have it"
        ),
    };
    (
        ConditionStatus::False,
        (Reason::DirectoryTypeUnsupported, message),
    )
}
