//! The condition Accepted: whether the operator may and can act on the spec.

use std::time::Duration;

use jiff::Timestamp;

use crate::access::{NoAccess, access};
use crate::api::{AuthenticationProtocol, ConditionType, DirectorySpec};
use crate::aws::{AwsErrorClass, AwsFailure};
use crate::conditions::{Draft, Reason, Truth};
use crate::config::ConfigProblem;
use crate::input::{Directory, DirectoryKind, DirectoryObservation, Input};
use crate::registration::words;
use crate::time;

/// Above this AWS "cannot retry with another RADIUS server" within one login.
const FAIL_OVER_TIMEOUT: u32 = 20;
/// How long a description may stand in for AWS when AWS does not answer.
const STALE: Duration = Duration::from_secs(600);

/// The judgement.
#[derive(Debug)]
pub(super) struct Judgement {
    pub(super) condition: Draft,
    /// Whether the RadiusProxy may use its directory: it is granted, its own, and of a fit type.
    pub(super) may_write: bool,
}

fn refused(truth: Truth, (reason, message): (Reason, String)) -> Judgement {
    Judgement {
        condition: Draft::new(ConditionType::Accepted, truth, reason, message),
        may_write: false,
    }
}

/// Judges. `problem` is what the proxies would refuse in the configuration.
pub(super) fn judge(input: &Input, problem: Option<&ConfigProblem>, now: Timestamp) -> Judgement {
    if let Some(message) = names_taken(input) {
        return refused(Truth::False, (Reason::NameTaken, message));
    }
    if let Some(spec) = &input.proxy.spec.directory
        && let Err(refusal) = directory(input, spec, now)
    {
        return refusal;
    }
    let condition = match problem {
        Some(problem) => Draft::new(
            ConditionType::Accepted,
            Truth::False,
            problem.reason,
            &problem.message,
        ),
        None => {
            let warnings = warnings(input);
            let (reason, message) = if warnings.is_empty() {
                (Reason::Accepted, "the spec can be acted on".to_owned())
            } else {
                (Reason::AcceptedWithWarnings, warnings.join(" "))
            };
            Draft::new(ConditionType::Accepted, Truth::True, reason, message)
        }
    };
    Judgement {
        condition,
        may_write: true,
    }
}

/// Objects of other owners under names that are needed.
fn names_taken(input: &Input) -> Option<String> {
    let taken: Vec<String> = input
        .foreign
        .iter()
        .map(|object| format!("{} {}", object.kind, object.name))
        .collect();
    (!taken.is_empty()).then(|| {
        format!(
            "{} exist and belong to somebody else; delete them or give the RadiusProxy another name",
            taken.join(", ")
        )
    })
}

fn directory(input: &Input, spec: &DirectorySpec, now: Timestamp) -> Result<(), Judgement> {
    let namespace = input.proxy.metadata.namespace.as_deref().unwrap_or_default();
    let (id, region) = (&spec.id, &spec.region);
    if access(&input.proxy, &input.grants, &input.settings.cluster) == Err(NoAccess::NoGrant) {
        let message = format!(
            "no DirectoryGrant allows namespace {namespace} to use directory {id} in region {region}; ask whoever owns the AWS \
             side to add namespace and directory to one (kubectl get directorygrants)"
        );
        return Err(refused(Truth::False, (Reason::NoGrant, message)));
    }
    if let Some(message) = older_rival(input) {
        return Err(refused(Truth::False, (Reason::DirectoryTaken, message)));
    }
    match &input.directory {
        DirectoryObservation::Unasked => {
            let message = format!("directory {id} in region {region} was not described yet");
            Err(refused(Truth::Unknown, (Reason::DirectoryUnknown, message)))
        }
        DirectoryObservation::Described(directory) => fit(directory, spec),
        DirectoryObservation::Failed { failure, last } => match last {
            Some(last) if passes(failure) && time::until(last.as_of, now) < STALE => fit(last, spec),
            _ => {
                let truth = if failure.class == AwsErrorClass::NotFound {
                    Truth::False
                } else {
                    Truth::Unknown
                };
                Err(refused(truth, words::aws_failure(failure, spec)))
            }
        },
    }
}

/// Whether a failure is one of AWS's own moments, for which nobody has to do anything.
const fn passes(failure: &AwsFailure) -> bool {
    matches!(
        failure.class,
        AwsErrorClass::Throttled | AwsErrorClass::Service | AwsErrorClass::Unreachable
    )
}

/// Of several RadiusProxy for one directory and region, the oldest keeps it.
fn older_rival(input: &Input) -> Option<String> {
    let meta = &input.proxy.metadata;
    let uid = meta.uid.as_deref().unwrap_or_default();
    let created = meta.creation_timestamp.as_ref().map_or(Timestamp::MAX, |t| t.0);
    let oldest = input
        .rivals
        .iter()
        .filter(|rival| rival.granted)
        .min_by_key(|rival| (rival.created, &rival.uid))?;
    ((oldest.created, oldest.uid.as_str()) < (created, uid)).then(|| {
        format!(
            "RadiusProxy {}/{} is older and keeps this directory in this region; delete one of the two",
            oldest.namespace, oldest.name
        )
    })
}

fn fit(directory: &Directory, spec: &DirectorySpec) -> Result<(), Judgement> {
    let kind = directory.kind.as_str();
    let id = &spec.id;
    let message = match &directory.kind {
        DirectoryKind::MicrosoftAd | DirectoryKind::AdConnector => return Ok(()),
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
    Err(refused(Truth::False, (Reason::DirectoryTypeUnsupported, message)))
}

/// What will work, but not as people may think.
fn warnings(input: &Input) -> Vec<String> {
    let spec = &input.proxy.spec;
    let mut warnings = Vec::new();
    if spec.replicas == 1 {
        warnings.push(
            "spec.replicas is 1: while the one proxy restarts or moves, nobody can log in. Two are the least that fail over."
                .to_owned(),
        );
    }
    let Some(directory) = &spec.directory else {
        return warnings;
    };
    if directory.timeout_seconds > FAIL_OVER_TIMEOUT {
        warnings.push(format!(
            "spec.directory.timeoutSeconds is {}: above {FAIL_OVER_TIMEOUT} fail-over is off, AWS cannot get to another \
             server within one login.",
            directory.timeout_seconds
        ));
    }
    if directory.protocol != AuthenticationProtocol::Pap
        && (spec.provider.duo.is_some() || spec.provider.okta.is_some())
    {
        warnings.push(
            "spec.directory.protocol is not PAP: what people type cannot be read, so that passcodes cannot be passed on to \
             the provider; pushes and keywords work."
                .to_owned(),
        );
    }
    warnings
}
